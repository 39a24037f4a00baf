"""Evaluation: whole episodes, several side by side, every return kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from qss_offline.data.environments import make_env
from qss_offline.parallel.reporting import print_notice

BatchPolicy = Callable[[NDArray[Any]], NDArray[Any]]
"""Maps observations `(n, obs_dim)` to actions `(n, action_dim)`."""

_NEGLIGIBLE = 0.01

LONGEST_EPISODE = 10_000
"""Steps after which an episode ends in an environment that has no time limit of its own."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What whole episodes came to, in the order of their seeds.

    Attributes:
        returns: undiscounted.
        lengths: steps.
        starts: first observations `(episodes, obs_dim)`.
        discounted: returns discounted by the γ that was asked for, followed past the time limit
            until what is left weighs less than 1%, as values are; NaN where the environment itself
            cut an episode before that.
    """

    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    starts: NDArray[Any]
    discounted: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(np.mean(self.returns))

    @property
    def worth(self) -> float | None:
        """Mean discounted return, None where it isn't known."""
        mean = float(np.mean(self.discounted))
        return mean if math.isfinite(mean) else None


def evaluate(
    policy: BatchPolicy,
    env_id: str,
    episodes: int = 10,
    seed: int = 0,
    make: Callable[[str], gym.Env[Any, Any]] = make_env,
    gamma: float = 1.0,
    longest: int | None = None,
) -> Evaluation:
    """Run `episodes` episodes side by side, each to its own end, and keep every return.

    In an environment without a time limit an episode ends after `longest` steps at most, and a
    notice says so, once a process.

    Args:
        policy: maps observations `(n, obs_dim)` of the episodes still running to actions.
        env_id: a Gymnasium id.
        episodes: how many.
        seed: episode i starts from the i-th stream of this seed, whatever the others do.
        make: makes one environment.
        gamma: discount γ of `discounted`.
        longest: steps; None takes `LONGEST_EPISODE`.

    Raises:
        UserError: the environment can't be made, or doesn't answer as it should.
    """
    most = longest or LONGEST_EPISODE
    seeds = np.random.SeedSequence(seed).generate_state(episodes)
    envs = [make(env_id) for _ in range(episodes)]
    try:
        obs = np.stack([env.reset(seed=int(s))[0] for env, s in zip(envs, seeds, strict=True)])
        starts = obs.copy()
        returns, discounted, weights = np.zeros(episodes), np.zeros(episodes), np.ones(episodes)
        lengths = np.zeros(episodes, dtype=np.int64)
        running = np.arange(episodes)
        limited = [env.spec is not None and bool(env.spec.max_episode_steps) for env in envs]
        if getattr(policy, "diverged", None) is not None:
            # With discrete actions it would act: NaN has an argmax, too.
            returns[:] = discounted[:] = np.nan
            weights[:], running = 0.0, running[:0]
        while running.size:
            actions = np.asarray(policy(obs[running]))
            # Of a policy that diverged no return is known, and the environment isn't asked.
            ended = ~np.isfinite(actions).reshape(running.size, -1).all(axis=1)
            returns[running[ended]] = discounted[running[ended]] = np.nan
            weights[running[ended]] = 0.0
            for row, (index, action) in enumerate(zip(running, actions, strict=True)):
                if ended[row]:
                    continue
                obs[index], reward, terminated, truncated, _ = envs[index].step(action)
                returns[index] += float(reward)
                discounted[index] += weights[index] * float(reward)
                weights[index] *= gamma
                lengths[index] += 1
                ended[row] = terminated or truncated
                if terminated:
                    weights[index] = 0.0
                if not ended[row] and not limited[index] and lengths[index] == most:
                    _tell_of_longest(env_id, most)
                    ended[row] = True
            running = running[~ended]
        if gamma < 1:
            # Only a wrapper cut these: an environment that ends by itself may not go on.
            cut = [
                env.spec is not None and env.spec.max_episode_steps == length
                for env, length in zip(envs, lengths, strict=True)
            ]
            discounted[np.logical_not(cut) & (weights > _NEGLIGIBLE)] = np.nan
            weights[np.logical_not(cut)] = 0.0
            running = np.flatnonzero(weights > _NEGLIGIBLE)
        while running.size:
            for index, action in zip(running, policy(obs[running]), strict=True):
                obs[index], reward, terminated, _, _ = envs[index].step(action)
                discounted[index] += weights[index] * float(reward)
                weights[index] *= 0.0 if terminated else gamma
            running = np.flatnonzero(weights > _NEGLIGIBLE)
    finally:
        for env in envs:
            env.close()
    return Evaluation(
        tuple(returns.tolist()), tuple(lengths.tolist()), starts, tuple(discounted.tolist())
    )


@cache
def _tell_of_longest(env_id: str, steps: int) -> None:
    print_notice(
        f"{env_id} has no time limit: episodes of evaluations end after {steps:,} steps, and "
        "returns are of so many"
    )
