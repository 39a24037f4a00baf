"""The gridworld of Figure 6 as a Gymnasium environment: discrete actions, states as coordinates."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from qss_offline.tabular.gridworld import MOVES

ENV_ID = "Gridworld-v0"


class GridworldEnv(gym.Env[NDArray[np.float32], np.int64]):
    """A grid from ⟨0, 0⟩ to the far corner; every step costs 1, the last one too.

    Observations are ⟨row, column⟩, `(2,)` float32. The four actions move up, down, left and right;
    against a wall the state stays. The best return of the 11×11 grid is −20.

    Args:
        size: rows and columns.
        render_mode: None; there is nothing to render.
    """

    def __init__(self, size: int = 11, render_mode: str | None = None) -> None:
        self.size, self.render_mode = size, render_mode
        self.observation_space = gym.spaces.Box(0, size - 1, (2,), np.float32)
        self.action_space = gym.spaces.Discrete(len(MOVES))
        self._position = np.zeros(2, np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin at ⟨0, 0⟩."""
        super().reset(seed=seed)
        self._position = np.zeros(2, np.float32)
        return self._position.copy(), {}

    def step(
        self, action: np.int64
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Move one cell."""
        self._position = next_state(self._position, int(action), self.size)
        terminated = bool((self._position == self.size - 1).all())
        return self._position.copy(), -1.0, terminated, False, {}


def next_state(state: NDArray[np.float32], action: int, size: int) -> NDArray[np.float32]:
    """Where an action leads from ⟨row, column⟩, `(2,)` to `(2,)`."""
    return np.clip(state + np.asarray(MOVES[action], np.float32), 0, size - 1)


def neighbours(state: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """N(s), every state that one action leads to, `(4, 2)`; at a wall s itself is among them."""
    return np.stack([next_state(state, action, size) for action in range(len(MOVES))])


def neighbour_distance(
    proposed: NDArray[np.floating[Any]], state: NDArray[np.float32], size: int
) -> float:
    """Manhattan distance of a proposed next state `(2,)` from the nearest of N(s) (Figure 6)."""
    return float(np.abs(neighbours(state, size) - proposed).sum(axis=1).min())
