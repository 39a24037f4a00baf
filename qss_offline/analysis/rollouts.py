"""Letting a policy act and keeping its trajectories, several episodes side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qss_offline.data.environments import make_env
from qss_offline.engine.streams import stream
from qss_offline.evaluation.episodes import BatchPolicy


@dataclass(frozen=True, eq=False)
class Rollouts:
    """n episodes of at most T steps.

    Attributes:
        observations: `(n, T + 1, obs_dim)` float32; after an episode's end its last one stays.
        rewards: `(n, T)` float64; 0 after an episode's end.
        lengths: `(n,)` steps of each episode.
        cut: `(n,)` bool: the environment itself cut the episode.
    """

    observations: NDArray[np.float32]
    rewards: NDArray[np.float64]
    lengths: NDArray[np.int64]
    cut: NDArray[np.bool_]

    def returns_to_go(self, gamma: float) -> NDArray[np.float64]:
        """Return Σ_k γ^k r_{t+k} for each step, `(n, T)`: the rest of a cut episode counts as 0."""
        values = np.zeros(self.rewards.shape)
        rest = np.zeros(len(self.rewards))
        for step in reversed(range(self.rewards.shape[1])):
            rest = self.rewards[:, step] + gamma * rest
            values[:, step] = rest
        return values


def roll_out(policy: BatchPolicy, env_id: str, episodes: int, steps: int, seed: int) -> Rollouts:
    """Let a policy act, past the environment's own time limit where `steps` is greater.

    Args:
        policy: maps observations `(n, obs_dim)` of the episodes still running to actions.
        env_id: a Gymnasium id.
        episodes: n.
        steps: T.
        seed: episode i starts from the i-th stream of this seed.
    """
    seeds = stream(seed, "rollouts").generate_state(episodes)
    envs = [make_env(env_id, time_limit=False) for _ in range(episodes)]
    try:
        obs = np.stack([env.reset(seed=int(s))[0] for env, s in zip(envs, seeds, strict=True)])
        trajectories = np.empty((episodes, steps + 1, obs.shape[1]), np.float32)
        trajectories[:, 0] = obs
        rewards = np.zeros((episodes, steps))
        lengths = np.zeros(episodes, np.int64)
        truncated = np.zeros(episodes, np.bool_)
        running = np.arange(episodes)
        for step in range(steps):
            trajectories[:, step + 1] = trajectories[:, step]
            if not running.size:
                continue
            actions = policy(obs[running])
            for index, action in zip(running, actions, strict=True):
                obs[index], reward, ended, cut, _ = envs[index].step(action)
                rewards[index, step] = float(reward)
                lengths[index] += 1
                truncated[index] = cut and not ended
                if ended or cut:
                    running = running[running != index]
                trajectories[index, step + 1] = obs[index]
    finally:
        for env in envs:
            env.close()
    return Rollouts(trajectories, rewards, lengths, truncated)
