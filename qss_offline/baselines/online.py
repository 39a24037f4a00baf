"""d3rlpy's methods in the very loop of online D3G: what Figure 7 compares it with.

NFQ (fitted Q-iteration), DQN and Double DQN take discrete actions, DDPG, TD3 and SAC continuous.
Environment, seeds of its episodes, warm-up, exploration noise, replay and evaluations are those of
`qss_offline.online`; d3rlpy chooses greedy actions and updates itself. (Its own `fit_online` draws
from NumPy's global random numbers and loses the last step of an episode at a time limit.) From
`OnlineConfig` they take sizes, batches, step sizes, γ, η, warm-up, noise and updates a step; DQN's
target network is replaced every 1/η updates, as far as η moves one on average. What else there is,
such as TD3's smoothing of targets, is d3rlpy's default.

A seed that was interrupted begins anew: d3rlpy saves with pickle, which is used nowhere here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qss_offline.baselines import require_d3rlpy
from qss_offline.baselines.evaluator import batch_policy
from qss_offline.baselines.seeding import one_seeded_thread
from qss_offline.data.environments import discrete_refused
from qss_offline.engine.state import seeded_generator
from qss_offline.engine.streams import EVALUATION, seed_of
from qss_offline.errors import UserError
from qss_offline.evaluation.episodes import evaluate
from qss_offline.online.config import EvaluationPlan, OnlineConfig
from qss_offline.online.env_loop import OnlineTask, SeedLoop
from qss_offline.online.presets import BASELINES, DISCRETE
from qss_offline.parallel.processes import Tick
from qss_offline.parallel.reporting import no_tick, return_in_words
from qss_offline.runs.results import EvaluationPoint

_STEPS_PER_TICK = 100


def train_online(
    method: str,
    env_id: str,
    config: OnlineConfig,
    plan: EvaluationPlan,
    task: OnlineTask,
    tick: Tick = no_tick,
) -> list[EvaluationPoint]:
    """Train one seed on the CPU and return its evaluations.

    The same arguments give the same result. d3rlpy draws from torch's global random numbers; they
    are seeded here and put back afterwards.

    Args:
        method: one of `online.presets.BASELINES`.
        env_id: a Gymnasium id.
        config: settings; see above for which of them count.
        plan: when to evaluate; policies aren't kept.
        task: the seed; nothing is written into its folder.
        tick: called with the environment steps done and the last returns, now and then.

    Raises:
        UserError: d3rlpy isn't installed, the method is another, or takes other actions.
    """
    require_d3rlpy()
    if method not in BASELINES:
        raise UserError(f"method: {method!r} is none of {', '.join(BASELINES)}")
    loop = SeedLoop(task, env_id, config)
    try:
        check_actions(method, env_id, loop.actions.discrete)
        with one_seeded_thread(seed_of(task.seed, "networks")):
            return _train(method, env_id, config, plan, loop, tick)
    finally:
        loop.close()


def _train(
    method: str,
    env_id: str,
    config: OnlineConfig,
    plan: EvaluationPlan,
    loop: SeedLoop,
    tick: Tick,
) -> list[EvaluationPoint]:
    algo = _create(method, config)
    actions = loop.actions
    algo.create_impl((loop.columns.obs_dim,), actions.dim)
    predict = batch_policy(algo)
    numbers = np.eye(actions.dim, dtype=np.float32)

    def act(obs: NDArray[Any]) -> NDArray[np.float32]:
        """Map observations `(n, obs_dim)` to greedy action vectors `(n, action_dim)`."""
        found = np.asarray(predict(obs))
        return numbers[found] if actions.discrete else np.asarray(found, np.float32)

    def acting(obs: NDArray[Any]) -> NDArray[Any]:
        return np.array([actions.to_env(vector) for vector in act(obs)])

    generator = seeded_generator(loop.task.seed, f"{method}.batches", "cpu")

    def assess() -> None:
        step = loop.table.added
        begin = seed_of(loop.task.seed, EVALUATION, step)
        result = evaluate(acting, env_id, plan.episodes, begin, gamma=config.algorithm.gamma)
        starts = np.asarray(result.starts, np.float32)
        # The mean over critics, where there are several.
        value = float(np.mean(algo.predict_value(starts, predict(starts))))
        loop.evaluations.append(EvaluationPoint(step, result.returns, None, value, result.worth))

    tick(0)
    assess()
    while loop.table.added < config.steps:
        warm = loop.table.added < config.warm_up
        loop.step(None if warm else act(loop.obs[None])[0])
        step = loop.table.added
        if step > config.warm_up:
            for _ in range(config.updates_per_step):
                rows = loop.table.draw(generator, config.algorithm.batch_size).numpy()
                algo.update(_batch(loop, rows))
        if step % plan.interval == 0 or step == config.steps:
            assess()
        if step % _STEPS_PER_TICK == 0:
            note = return_in_words([loop.evaluations[-1].returns])
            tick(step, f"step {step:,} of {config.steps:,}", note)
    return loop.evaluations


def _batch(loop: SeedLoop, rows: NDArray[np.float32]) -> Any:
    """Return rows of the replay `(B, width)` as d3rlpy's batch."""
    from d3rlpy.dataset import TransitionMiniBatch

    obs, action, next_obs, reward, terminated, _ = loop.columns.split(rows)
    if loop.actions.discrete:
        action = action.argmax(axis=1, keepdims=True).astype(np.float32)
    return TransitionMiniBatch(
        observations=obs,
        actions=action,
        rewards=reward,
        next_observations=next_obs,
        next_actions=np.zeros_like(action),
        terminals=terminated,
        intervals=np.ones_like(reward),
        transitions=[],
    )


def check_actions(method: str, env_id: str, discrete: bool) -> None:
    """Refuse an environment whose actions a method doesn't take.

    Raises:
        UserError: they are discrete and shouldn't be, or the other way round.
    """
    if discrete != (method in DISCRETE):
        raise UserError(
            discrete_refused(method, env_id)
            if discrete
            else f"{method} needs discrete actions; {env_id} has continuous ones"
        )


def _create(method: str, config: OnlineConfig) -> Any:
    """Return d3rlpy's algorithm, which sees actions in units of the box, or their numbers."""
    from d3rlpy import algos
    from d3rlpy.models.encoders import VectorEncoderFactory

    shared = config.algorithm
    encoder = VectorEncoderFactory(list(shared.hidden_dims))
    rate = shared.learning_rate
    every: dict[str, Any] = {"batch_size": shared.batch_size, "gamma": shared.gamma}
    if method in DISCRETE:
        every |= {"learning_rate": rate, "encoder_factory": encoder}
        if method != "nfq":
            every["target_update_interval"] = round(1 / shared.polyak_step_size)
        kinds = {
            "nfq": algos.NFQConfig,
            "dqn": algos.DQNConfig,
            "double-dqn": algos.DoubleDQNConfig,
        }
        return kinds[method](**every).create(device="cpu:0")
    every |= {
        "tau": shared.polyak_step_size,
        "actor_learning_rate": rate,
        "critic_learning_rate": rate,
        "actor_encoder_factory": encoder,
        "critic_encoder_factory": encoder,
    }
    if method == "sac":
        every["temp_learning_rate"] = rate
    kinds = {"ddpg": algos.DDPGConfig, "td3": algos.TD3Config, "sac": algos.SACConfig}
    return kinds[method](**every).create(device="cpu:0")
