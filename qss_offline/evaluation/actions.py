"""Actions as vectors: in a box in units of its bounds, discrete ones one-hot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from qss_offline.data.spaces import check_bounds

Vector = NDArray[np.float32]


def finite_or_middle(vector: Vector) -> Vector:
    """Return an action vector with 0 for what isn't finite, as of a policy that diverged."""
    return np.where(np.isfinite(vector), vector, np.zeros_like(vector))


@dataclass(frozen=True)
class ActionBox:
    """Bounds of the actions.

    Attributes:
        low: `(action_dim,)`.
        high: `(action_dim,)`.
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]

    @staticmethod
    def of(space: gym.spaces.Space[Any]) -> ActionBox:
        """Take the bounds of an environment's actions, a Box.

        Raises:
            UserError: it has none.
        """
        assert isinstance(space, gym.spaces.Box)
        check_bounds(space)
        low, high = space.low.astype(np.float32), space.high.astype(np.float32)
        # Rounded inwards: a bound that float32 can't hold may be beyond it there.
        low = np.where(low < space.low, np.nextafter(low, np.float32(np.inf)), low)
        high = np.where(high > space.high, np.nextafter(high, np.float32(-np.inf)), high)
        # A locked action that float32 can't hold has no number inside.
        return ActionBox(np.minimum(low, high), high)

    @property
    def dim(self) -> int:
        """Numbers in an action."""
        return len(self.low)

    def from_unit(self, action: NDArray[Any]) -> NDArray[np.float32]:
        """Map actions in units of the box, [−1, 1], to the environment's."""
        half = (self.high - self.low) / 2
        clipped = np.clip(self.low + (action + 1.0) * half, self.low, self.high)
        return np.asarray(clipped, np.float32)

    def to_unit(self, action: NDArray[Any]) -> NDArray[np.float32]:
        """Map the environment's actions to [−1, 1]; one that is locked to 0."""
        width = np.where(self.locked, np.float32(1), self.high - self.low)
        unit = 2.0 * (action - self.low) / width - 1.0
        return np.asarray(np.where(self.locked, 0.0, unit), np.float32)

    @property
    def locked(self) -> NDArray[np.bool_]:
        """Which actions have a single value, `(action_dim,)`."""
        return np.asarray(self.low == self.high)


@dataclass(frozen=True)
class OneHotActions:
    """Discrete actions; exploration is ε-greedy.

    Attributes:
        dim: how many there are.
        start: number of the first.
        epsilon: probability of a uniformly random action.
    """

    dim: int
    start: int
    epsilon: float = 0.0

    discrete: ClassVar[bool] = True

    @staticmethod
    def of(space: gym.spaces.Discrete, epsilon: float) -> OneHotActions:
        """Take the actions of an environment."""
        return OneHotActions(int(space.n), int(space.start), epsilon)

    def random(self, rng: np.random.Generator, count: int) -> Vector:
        """Draw uniformly random actions, `(count, dim)`."""
        return self._one_hot[rng.integers(self.dim, size=count)]

    def explore(self, rng: np.random.Generator, count: int) -> Callable[[int, Vector], Vector]:
        """Draw for `count` steps whether they are random, and which action they take then."""
        at_random, drawn = rng.random(count) < self.epsilon, rng.integers(self.dim, size=count)

        def act(step: int, greedy: Vector) -> Vector:
            chosen: Vector = self._one_hot[drawn[step] if at_random[step] else greedy.argmax()]
            return chosen

        return act

    def from_env(self, action: NDArray[Any]) -> Vector:
        """Return the vector of an action, given its number."""
        vector: Vector = self._one_hot[int(action) - self.start]
        return vector

    def to_env(self, vector: Vector) -> int:
        """Return the action's number."""
        return self.start + int(vector.argmax())

    @cached_property
    def _one_hot(self) -> Vector:
        return np.eye(self.dim, dtype=np.float32)


Actions = ActionBox | OneHotActions
