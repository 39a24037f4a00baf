"""TD3 and DDPG by d3rlpy, in the very loop of online D3G: what Figure 7 compares it with.

Environment, seeds of its episodes, warm-up, exploration noise, replay and evaluations are those of
`qss_offline.online`; d3rlpy chooses greedy actions and updates itself. (Its own `fit_online` draws
from NumPy's global random numbers and loses the last step of an episode at a time limit.) From
`OnlineConfig` they take sizes, batches, step sizes, γ, η, warm-up, noise and updates a step; what
else there is, such as TD3's smoothing of targets, is d3rlpy's default.

A seed that was interrupted begins anew: d3rlpy saves with pickle, which is used nowhere here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qss_offline.baselines import require_d3rlpy
from qss_offline.baselines.evaluator import batch_policy
from qss_offline.data.environments import discrete_refused
from qss_offline.engine.state import seeded_generator
from qss_offline.errors import UserError
from qss_offline.evaluation.episodes import evaluate
from qss_offline.online.config import EvaluationPlan, OnlineConfig
from qss_offline.online.env_loop import OnlineTask, SeedLoop
from qss_offline.online.exploration import BoxActions
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
        method: "td3" or "ddpg".
        env_id: a Gymnasium id with actions in a bounded Box.
        config: settings; see above for which of them count.
        plan: when to evaluate; policies aren't kept.
        task: the seed; nothing is written into its folder.
        tick: called with the environment steps done and the last returns, now and then.

    Raises:
        UserError: d3rlpy isn't installed, the method is another, or actions are discrete.
    """
    require_d3rlpy()
    loop = SeedLoop(task, env_id, config)
    try:
        if not isinstance(loop.actions, BoxActions):
            raise UserError(discrete_refused(method, env_id))
        seed = int(np.random.SeedSequence([task.seed, *b"networks"]).generate_state(1)[0])
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return _train(method, env_id, config, plan, loop, loop.actions, tick)
    finally:
        loop.close()


def _train(
    method: str,
    env_id: str,
    config: OnlineConfig,
    plan: EvaluationPlan,
    loop: SeedLoop,
    actions: BoxActions,
    tick: Tick,
) -> list[EvaluationPoint]:
    algo = _create(method, config)
    algo.create_impl((loop.columns.obs_dim,), actions.dim)
    act = batch_policy(algo)
    generator = seeded_generator(loop.task.seed, f"{method}.batches", "cpu")

    def assess() -> None:
        step = loop.table.added
        stream = np.random.SeedSequence([loop.task.seed, *b"evaluation", step])
        result = evaluate(
            lambda obs: actions.box.from_unit(act(obs)),
            env_id,
            plan.episodes,
            int(stream.generate_state(1)[0]),
        )
        loop.evaluations.append(EvaluationPoint(step, result.returns))

    tick(0)
    assess()
    while loop.table.added < config.steps:
        warm = loop.table.added < config.warm_up
        loop.step(None if warm else np.asarray(act(loop.obs[None])[0], np.float32))
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


def _create(method: str, config: OnlineConfig) -> Any:
    """Return d3rlpy's algorithm, which sees actions in units of the box."""
    from d3rlpy.algos import DDPGConfig, TD3Config
    from d3rlpy.models.encoders import VectorEncoderFactory

    methods = {"td3": TD3Config, "ddpg": DDPGConfig}
    if method not in methods:
        raise UserError(f"method: {method!r} is none of {', '.join(methods)}")
    shared = config.algorithm
    encoder = VectorEncoderFactory(list(shared.hidden_dims))
    return methods[method](
        batch_size=shared.batch_size,
        gamma=shared.gamma,
        tau=shared.polyak_step_size,
        actor_learning_rate=shared.learning_rate,
        critic_learning_rate=shared.learning_rate,
        actor_encoder_factory=encoder,
        critic_encoder_factory=encoder,
    ).create(device="cpu:0")
