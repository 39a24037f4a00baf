"""Where the columns of a step lie in a row of the replay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qss_offline.data.transitions import Transitions


@dataclass(frozen=True)
class Columns:
    """A row holds s, a, s', r, terminated and truncated side by side, as float32.

    Attributes:
        obs_dim: size of an observation.
        action_dim: size of an action vector.
    """

    obs_dim: int
    action_dim: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of s, a, s', r, terminated, truncated."""
        return (self.obs_dim, self.action_dim, self.obs_dim, 1, 1, 1)

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return sum(self.sizes)

    def split(self, rows: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Split rows `(n, width)` into columns `(n, size)`."""
        return np.split(rows, np.cumsum(self.sizes)[:-1], axis=1)

    def transitions(self, rows: NDArray[np.float32]) -> Transitions:
        """Return rows `(n, width)` as transitions; an episode that was cut counts as truncated."""
        obs, action, next_obs, reward, terminated, truncated = self.split(rows)
        terminations = terminated[:, 0] > 0
        # A step that does both is the environment's own end.
        truncations = (truncated[:, 0] > 0) & ~terminations
        # A run that was resumed may have begun an episode anew, and rows may be missing.
        goes_on = np.append((next_obs[:-1] == obs[1:]).all(axis=1), False)
        truncations |= ~goes_on & ~terminations
        ends = terminations | truncations
        return Transitions(
            observations=np.ascontiguousarray(obs),
            next_observations=np.ascontiguousarray(next_obs),
            rewards=np.ascontiguousarray(reward[:, 0]),
            terminations=terminations,
            truncations=truncations,
            episodes=np.cumsum(np.append(0, ends[:-1])).astype(np.int64),
            actions=np.ascontiguousarray(action),
        )
