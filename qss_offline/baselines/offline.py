"""Offline baselines that are given the actions: BC, TD3+BC, IQL and CQL, by d3rlpy.

Everything that isn't in `OfflineBaselineConfig` is d3rlpy's default, but for what d3rlpy's own
reproductions (`reproductions/offline/` in its repository) take over from the authors:

- TD3+BC (Fujimoto and Gu 2021, arXiv:2106.06860) sees observations normalised by the recording's
  mean and standard deviation; the others see them as they are.
- IQL (Kostrikov et al. 2021, arXiv:2110.06169) has its rewards multiplied by 1000 / (highest −
  lowest return of the recorded episodes), unless all returns are the same. The decay of its
  actor's step size over a million updates is left out: budgets here are shorter.
- CQL (Kumar et al. 2020, arXiv:2006.04779) keeps the conservative weight fixed at 5.

Actions pass through a `MinMaxActionScaler` with the environment's bounds: without it d3rlpy's
policies never leave [−1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from qss_offline.algorithms.validation import check_discount, check_positive
from qss_offline.baselines import require_d3rlpy
from qss_offline.baselines.bridge import require_actions, to_column_buffer
from qss_offline.baselines.evaluator import batch_policy
from qss_offline.baselines.seeding import one_seeded_thread
from qss_offline.data.environments import discrete_refused, make_env
from qss_offline.data.load import observation_statistics
from qss_offline.data.transitions import Transitions
from qss_offline.engine.streams import EVALUATION, seed_of, stream
from qss_offline.errors import UserError, nearest
from qss_offline.evaluation.episodes import BatchPolicy, evaluate
from qss_offline.parallel.processes import Tick
from qss_offline.parallel.reporting import no_tick, return_in_words
from qss_offline.runs.results import EvaluationPoint

METHODS = ("bc", "td3+bc", "iql", "cql")
_UPDATES_PER_TICK = 100
# Returns that differ by less, relative to their size, are the same.
_SAME_RETURNS = 1e-6


@dataclass(frozen=True)
class OfflineBaselineConfig:
    """Settings of one baseline.

    Attributes:
        method: "bc", "td3+bc", "iql" or "cql".
        updates: gradient steps.
        hidden_dims: sizes of the hidden layers of every network.
        batch_size: transitions per update.
        learning_rate: Adam's step size for policies and critics; None is d3rlpy's default of the
            method.
        gamma: discount γ, unused by BC.
    """

    method: str
    updates: int = 50_000
    hidden_dims: tuple[int, ...] = (256, 256)
    batch_size: int = 256
    learning_rate: float | None = None
    gamma: float = 0.99

    def __post_init__(self) -> None:
        """Refuse what can't be trained."""
        if self.method not in METHODS:
            raise UserError(
                f"method: {self.method!r} is none of {', '.join(METHODS)}"
                f"{nearest(self.method, METHODS)}"
            )
        check_positive(self, "updates", "batch_size", "hidden_dims")
        if self.learning_rate is not None:
            check_positive(self, "learning_rate")
        check_discount(self.gamma)


@dataclass(frozen=True, eq=False)
class TrainedBaseline:
    """What training gave.

    Attributes:
        algo: the d3rlpy algorithm after the last update.
        evaluations: in their order; the last is of the final policy.
    """

    algo: Any
    evaluations: tuple[EvaluationPoint, ...]

    @property
    def policy(self) -> BatchPolicy:
        """The greedy policy, for `qss_offline.evaluation.episodes.evaluate`."""
        return batch_policy(self.algo)


def train_offline(
    transitions: Transitions,
    env_id: str,
    config: OfflineBaselineConfig,
    seed: int,
    *,
    evaluations: int = 10,
    episodes: int = 10,
    tick: Tick = no_tick,
) -> TrainedBaseline:
    """Train on recorded transitions alone and evaluate along the way, in one thread, on the CPU.

    The same arguments give the same result, evaluations or none. d3rlpy draws from torch's global
    random numbers; they are seeded here and put back afterwards, so that nothing else moves.
    Evaluation k starts from the same states as evaluation k of D3G with this seed.

    Args:
        transitions: with actions, recorded or labelled by an inverse model.
        env_id: where the policy acts.
        config: what to train.
        seed: of networks, batches and noise.
        evaluations: how many, evenly spaced, the last one after the last update; at most one an
            update.
        episodes: whole episodes of each evaluation.
        tick: called with the updates done and the last returns, now and then.

    Raises:
        UserError: d3rlpy isn't installed, the recording holds no actions, doesn't fit the
            environment, or the environment's actions have no bounds.
    """
    require_d3rlpy()
    if not 0 <= evaluations <= config.updates:
        raise UserError(f"evaluations: {evaluations} can't be spread over {config.updates} updates")
    if episodes < 1:
        raise UserError(f"episodes: {episodes} is not at least 1")
    algo = _configure(config, transitions, _action_box(env_id, transitions)).create(device="cpu:0")
    buffer = to_column_buffer(transitions, np.random.default_rng(stream(seed, "batches")))
    due = {config.updates * k // evaluations: k for k in range(1, evaluations + 1)}
    points: list[EvaluationPoint] = []
    with one_seeded_thread(seed_of(seed, "networks")):
        algo.create_impl((transitions.obs_dim,), require_actions(transitions).shape[1])
        tick(0)
        # `fit` does the same, and keeps a log of every update.
        for update in range(1, config.updates + 1):
            algo.update(buffer.sample_transition_batch(config.batch_size))
            if update in due:
                start = seed_of(seed, EVALUATION, due[update])
                result = evaluate(batch_policy(algo), env_id, episodes, start)
                points.append(EvaluationPoint(0, result.returns, update))
            if update % _UPDATES_PER_TICK == 0 or update == config.updates:
                note = return_in_words([point.returns for point in points[-1:]])
                tick(update, f"update {update:,} of {config.updates:,}", note)
    return TrainedBaseline(algo, tuple(points))


def _action_box(env_id: str, transitions: Transitions) -> gym.spaces.Box:
    """Return the environment's action space, once the recording fits it."""
    actions = require_actions(transitions)
    env = make_env(env_id)
    env.close()
    box, observation_space = env.action_space, env.observation_space
    if not isinstance(box, gym.spaces.Box):
        raise UserError(discrete_refused("d3rlpy's methods", env_id))
    assert observation_space.shape is not None
    sizes = observation_space.shape[0], box.shape[0]
    if sizes != (transitions.obs_dim, actions.shape[1]):
        raise UserError(
            f"{env_id} has observations of {sizes[0]} numbers and actions of {sizes[1]}, but the "
            f"recording has {transitions.obs_dim} and {actions.shape[1]}"
        )
    if not box.is_bounded():
        raise UserError(f"{env_id}: its actions have no finite bounds, which the baselines need")
    return box


def _configure(config: OfflineBaselineConfig, transitions: Transitions, box: gym.spaces.Box) -> Any:
    """Return d3rlpy's config of the method."""
    from d3rlpy.algos import BCConfig, CQLConfig, IQLConfig, TD3PlusBCConfig
    from d3rlpy.models.encoders import VectorEncoderFactory
    from d3rlpy.preprocessing import (
        MinMaxActionScaler,
        ReturnBasedRewardScaler,
        StandardObservationScaler,
    )

    encoder = VectorEncoderFactory(list(config.hidden_dims))
    rate = config.learning_rate
    common: dict[str, Any] = {
        "batch_size": config.batch_size,
        "action_scaler": MinMaxActionScaler(minimum=box.low, maximum=box.high),
    }
    if config.method == "bc":
        own = {} if rate is None else {"learning_rate": rate}
        return BCConfig(encoder_factory=encoder, **common, **own)
    common |= {
        "gamma": config.gamma,
        "actor_encoder_factory": encoder,
        "critic_encoder_factory": encoder,
    }
    if rate is not None:
        common |= {"actor_learning_rate": rate, "critic_learning_rate": rate}
    if config.method == "td3+bc":
        mean, std = observation_statistics(transitions)
        scaler = StandardObservationScaler(mean=mean, std=std)
        return TD3PlusBCConfig(observation_scaler=scaler, **common)
    if config.method == "cql":
        return CQLConfig(alpha_learning_rate=0.0, **common)
    returns = transitions.episode_returns()
    low, high = float(returns.min()), float(returns.max())
    if high - low > _SAME_RETURNS * max(abs(low), abs(high)):
        common["reward_scaler"] = ReturnBasedRewardScaler(high, low, multiplier=1000.0)
    return IQLConfig(value_encoder_factory=encoder, **common)
