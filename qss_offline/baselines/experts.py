"""Experts: d3rlpy's online TD3 or SAC, with actions and rewards, for behaviour to record.

Imports d3rlpy at its top: import it inside the function that needs it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import d3rlpy
import gymnasium as gym
import numpy as np
import structlog
import torch
from d3rlpy.algos import SACConfig, TD3Config
from d3rlpy.algos.qlearning.explorers import NormalNoise
from d3rlpy.logging import NoopAdapterFactory
from d3rlpy.models.encoders import VectorEncoderFactory
from d3rlpy.preprocessing import MinMaxActionScaler
from numpy.typing import NDArray

from qss_offline.baselines.replay import ColumnReplayBuffer
from qss_offline.data.environments import make_env
from qss_offline.data.policies import MLPExpert
from qss_offline.errors import UserError, nearest
from qss_offline.evaluation.episodes import Evaluation, evaluate
from qss_offline.parallel.progress import Reporter, silent

ALGORITHMS = ("td3", "sac")
EXPLORATION_NOISE = 0.1
"""Standard deviation of TD3's noise while it trains, in units of half the action box."""


@dataclass(frozen=True)
class ExpertSettings:
    """How an expert is trained.

    Attributes:
        env_id: where it acts.
        algorithm: "td3" or "sac".
        seed: of everything random.
        steps: environment steps at most, one update each after the random ones.
        target_return: training stops at an evaluation of at least this; None never stops early.
        half_trained_return: the first policy with an evaluation of at least this is kept, too; None
            keeps the best only.
        random_steps: uniformly random steps at the start.
        hidden_dims: sizes of the hidden layers of every network.
        batch_size: transitions per update.
        learning_rate: Adam's step size, for every network.
        evaluate_every: steps between evaluations.
        evaluation_episodes: episodes of each. The best policy of all evaluations is kept.
    """

    env_id: str
    algorithm: str = "td3"
    seed: int = 0
    steps: int = 100_000
    target_return: float | None = None
    half_trained_return: float | None = None
    random_steps: int = 5_000
    hidden_dims: tuple[int, ...] = (128, 128)
    batch_size: int = 128
    learning_rate: float = 3e-4
    evaluate_every: int = 5_000
    evaluation_episodes: int = 20

    def __post_init__(self) -> None:
        """Refuse what can't be trained."""
        if self.algorithm not in ALGORITHMS:
            raise UserError(
                f"--algorithm takes {' or '.join(ALGORITHMS)}, not {self.algorithm!r}"
                f"{nearest(self.algorithm, ALGORITHMS)}"
            )
        for name in ("steps", "batch_size", "evaluate_every", "evaluation_episodes"):
            if getattr(self, name) <= 0:
                raise UserError(f"{name} must be above 0, not {getattr(self, name)}")
        if self.steps <= max(self.random_steps, self.batch_size):
            raise UserError(f"steps ({self.steps}) must exceed random_steps and batch_size")


@dataclass(frozen=True)
class TrainedExpert:
    """What training gave.

    Attributes:
        expert: the best policy of all evaluations.
        steps: environment steps after which it was found.
        evaluations: (steps, mean return) of every evaluation.
        half_trained: the first policy that reached `half_trained_return`, and the steps after
            which it did; None where none was asked for or none did.
    """

    expert: MLPExpert
    steps: int
    evaluations: tuple[tuple[int, float], ...]
    half_trained: tuple[MLPExpert, int] | None = None


class _TargetReached(Exception):
    """Leaves d3rlpy's loop."""


def train_expert(settings: ExpertSettings, report: Reporter = silent) -> TrainedExpert:
    """Train by trial and error, with actions.

    d3rlpy draws from the global random numbers of Python, NumPy and torch: they are seeded here,
    so call this in a process of its own.

    Args:
        settings: what to train.
        report: called with the environment steps done.
    """
    d3rlpy.seed(settings.seed)
    # d3rlpy logs its parameters and every epoch, through structlog.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    torch.set_num_threads(1)
    env = make_env(settings.env_id)
    space = env.action_space
    assert isinstance(space, gym.spaces.Box)
    assert env.observation_space.shape is not None
    half_box = 0.5 * (space.high - space.low)
    env.reset(seed=settings.seed)
    space.seed(settings.seed)
    algorithm = _configure(settings, space).create(device="cpu:0")
    buffer = ColumnReplayBuffer(
        env.observation_space.shape[0],
        space.shape[0],
        settings.steps,
        np.random.default_rng(settings.seed),
    )
    evaluations: list[tuple[int, float]] = []
    best: tuple[MLPExpert, int] | None = None
    half_trained: tuple[MLPExpert, int] | None = None

    def after_step(algo: Any, _: int, step: int) -> None:
        nonlocal best, half_trained
        if step % settings.evaluate_every == 0 and step > settings.random_steps:
            expert = _extract(algo, settings.env_id, space)
            mean = evaluate_expert(expert, settings.evaluation_episodes, settings.seed).mean
            evaluations.append((step, mean))
            if mean >= max(value for _, value in evaluations):
                best = expert, step
            enough = settings.half_trained_return
            if half_trained is None and enough is not None and mean >= enough:
                half_trained = expert, step
        if step % 500 == 0:
            note = f"return {evaluations[-1][1]:.1f}" if evaluations else ""
            report(step, note)
        target = settings.target_return
        if target is not None and evaluations and evaluations[-1][1] >= target:
            raise _TargetReached

    # SAC explores by its own randomness.
    noise = NormalNoise(std=EXPLORATION_NOISE * half_box) if settings.algorithm == "td3" else None
    try:
        algorithm.fit_online(
            env,
            buffer,
            noise,
            n_steps=settings.steps,
            n_steps_per_epoch=settings.steps,
            random_steps=settings.random_steps,
            update_start_step=settings.random_steps,
            logger_adapter=NoopAdapterFactory(),
            show_progress=False,
            callback=after_step,
        )
    except _TargetReached:
        pass
    finally:
        env.close()
    if best is None:
        raise UserError("no evaluation was made: steps must reach evaluate_every")
    return TrainedExpert(*best, tuple(evaluations), half_trained)


def evaluate_expert(expert: MLPExpert, episodes: int, seed: int) -> Evaluation:
    """Run whole episodes with an expert and keep every return."""

    def act(obs: NDArray[Any]) -> NDArray[Any]:
        return np.stack([expert(row) for row in obs])

    return evaluate(act, expert.env_id, episodes, seed)


def _configure(settings: ExpertSettings, space: gym.spaces.Box) -> Any:
    encoder = VectorEncoderFactory(list(settings.hidden_dims))
    config = TD3Config if settings.algorithm == "td3" else SACConfig
    return config(
        batch_size=settings.batch_size,
        actor_learning_rate=settings.learning_rate,
        critic_learning_rate=settings.learning_rate,
        actor_encoder_factory=encoder,
        critic_encoder_factory=encoder,
        # Without it actions beyond ±1 are never tried.
        action_scaler=MinMaxActionScaler(minimum=space.low, maximum=space.high),
    )


def _extract(algo: Any, env_id: str, space: gym.spaces.Box) -> MLPExpert:
    """Copy the deterministic policy's layers: tanh of the last, in both algorithms."""
    modules = algo.impl.policy.modules()
    layers = [module for module in modules if isinstance(module, torch.nn.Linear)]
    if hasattr(algo.impl.policy, "_logstd"):
        layers = [layer for layer in layers if layer is not algo.impl.policy._logstd]
    return MLPExpert(
        env_id=env_id,
        weights=tuple(layer.weight.detach().numpy().copy() for layer in layers),
        biases=tuple(layer.bias.detach().numpy().copy() for layer in layers),
        action_low=space.low.astype(np.float32),
        action_high=space.high.astype(np.float32),
    )
