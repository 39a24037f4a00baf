"""Actions as the online mode learns them, how it explores, and what the environment gets.

Inside the algorithm an action is a vector: of a Box, in units of the box, so that −1 and 1 are its
bounds; of a Discrete space, one-hot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from qss_offline.engine.streams import stream
from qss_offline.errors import UserError
from qss_offline.evaluation.actions import ActionBox, OneHotActions, Vector, finite_or_middle

_BLOCK = 1_000


class BoxActions:
    """Actions in a bounded box; exploration adds normal noise and clips.

    Args:
        space: the environment's.
        noise: standard deviation, in units of half the box.

    Raises:
        UserError: the box has no bounds.
    """

    discrete = False

    def __init__(self, space: gym.spaces.Box, noise: float) -> None:
        self.box = ActionBox.of(space)
        self.dim, self._noise = len(self.box.low), noise

    def random(self, rng: np.random.Generator, count: int) -> Vector:
        """Draw uniformly random actions, `(count, dim)`."""
        return rng.uniform(-1, 1, (count, self.dim)).astype(np.float32)

    def explore(self, rng: np.random.Generator, count: int) -> Callable[[int, Vector], Vector]:
        """Draw normal noise for `count` steps."""
        noise = rng.normal(0, self._noise, (count, self.dim)).astype(np.float32)

        def act(step: int, greedy: Vector) -> Vector:
            return np.asarray(np.clip(finite_or_middle(greedy) + noise[step], -1, 1), np.float32)

        return act

    def to_env(self, vector: Vector) -> Vector:
        """Map to the environment's units, `(dim,)`."""
        return self.box.from_unit(vector)


Actions = BoxActions | OneHotActions


def actions_of(space: gym.Space[Any], noise: float, epsilon: float) -> Actions:
    """Return the kind of actions that a space holds.

    Args:
        space: a Box or Discrete.
        noise: standard deviation of exploration in a Box, in units of half the box.
        epsilon: probability of a random action of a Discrete space.

    Raises:
        UserError: it is another space.
    """
    if isinstance(space, gym.spaces.Discrete):
        return OneHotActions.of(space, epsilon)
    if isinstance(space, gym.spaces.Box):
        return BoxActions(space, noise)
    raise UserError(f"actions must be a Box or Discrete, not {space}")


class Explorer:
    """The random part of one seed's actions.

    Numbers are drawn in blocks that depend on the seed and the block alone, so that a resumed run
    draws the same without keeping a generator's state.

    Args:
        seed: of the run.
        actions: their kind.
    """

    def __init__(self, seed: int, actions: Actions) -> None:
        self._seed, self._actions = seed, actions
        self._block = -1
        self._random: Vector
        self._explore: Callable[[int, Vector], Vector]

    def choose(self, step: int, greedy: Vector | None) -> Vector:
        """Return the action of environment step `step`, `(dim,)`.

        Args:
            step: counted from 0.
            greedy: the policy's action `(dim,)`; None acts at random.
        """
        block, place = divmod(step, _BLOCK)
        if block != self._block:
            rng = np.random.default_rng(stream(self._seed, "explore", block))
            self._random = self._actions.random(rng, _BLOCK)
            self._explore = self._actions.explore(rng, _BLOCK)
            self._block = block
        return self._random[place] if greedy is None else self._explore(place, greedy)
