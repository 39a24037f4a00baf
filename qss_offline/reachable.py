"""What a body can reach in one step, by asking the simulator: for measuring, never for learning.

A proposal s + τ(s) is judged here without an inverse dynamics model in between: by the values of
the next states that a grid of actions truly leads to, and by acting with the action whose next
state is nearest to the proposal, found on a grid and on finer grids around it.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from qss_offline.data.environments import make_env
from qss_offline.errors import UserError
from qss_offline.evaluation import BatchPolicy
from qss_offline.poses import pose_map
from qss_offline.rollouts import without_time_limit

Float32Array = NDArray[np.float32]

_POINTS = {1: 13, 2: 7, 3: 5}
"""Grid points in each dimension, by the number of dimensions of an action."""


class Simulator:
    """An environment that can be put into the state behind an observation.

    Args:
        env_id: one whose observations determine its state (`qss_offline.poses`).
        points: grid points in each dimension of the action; None takes 13 for actions of one
            number, 7 for two, 5 for three.

    Attributes:
        actions: `(A, action_dim)`, the grid, from the least to the greatest action.

    Raises:
        UserError: there is no map from observations to states, actions aren't bounded vectors, or
            they have more numbers than a grid can cover.
    """

    def __init__(self, env_id: str, points: int | None = None) -> None:
        self._env: Any = without_time_limit(make_env(env_id))
        self._map = pose_map(env_id, self._env)
        space = self._env.action_space
        if not isinstance(space, Box) or not space.is_bounded():
            raise UserError(f"{env_id} has no bounded actions to make a grid of")
        dims = space.shape[0]
        if points is None and dims not in _POINTS:
            raise UserError(
                f"{env_id} has actions of {dims} numbers; a grid to find the nearest on is laid "
                f"for {max(_POINTS)} at most"
            )
        points = _POINTS[dims] if points is None else points
        sides = [np.linspace(a, b, points) for a, b in zip(space.low, space.high, strict=True)]
        self.actions: Float32Array = np.array(list(product(*sides)), np.float32)
        self._low, self._high, self._points = space.low, space.high, points

    def next_observations(
        self, obs: NDArray[Any], actions: NDArray[Any] | None = None
    ) -> Float32Array:
        """Take several actions in every state.

        Args:
            obs: `(n, obs_dim)`.
            actions: `(n, A, action_dim)`, some for each state; None takes those of the grid.

        Returns:
            `(n, A, obs_dim)`.
        """
        if actions is None:
            actions = np.broadcast_to(self.actions, (len(obs), *self.actions.shape))
        inner = self._env.unwrapped
        reached = np.empty((*actions.shape[:2], obs.shape[1]), np.float32)
        for row, one in enumerate(obs):
            pose = self._map.poses(one[None])
            for column, action in enumerate(actions[row]):
                inner.set_state(pose.qpos[0], pose.qvel[0])
                reached[row, column] = inner.step(action)[0]
        return reached

    def nearest(
        self,
        obs: NDArray[Any],
        wanted: NDArray[Any],
        step_std: NDArray[Any],
        refinements: int = 2,
    ) -> tuple[Float32Array, NDArray[np.float64]]:
        """Find the actions that lead nearest to wanted next states, and how far from them they end.

        Args:
            obs: s, `(n, obs_dim)`.
            wanted: `(n, obs_dim)`.
            step_std: `(obs_dim,)` what distances are measured in.
            refinements: how often a grid of as many points is laid around the best action, one
                step of the last grid to each side.

        Returns:
            `(n, action_dim)` actions and `(n,)` distances, each the root mean square over the
            dimensions of an observation.
        """
        middle = (self._low + self._high) / 2
        best = np.broadcast_to(middle, (len(obs), *middle.shape))
        rows, width = np.arange(len(obs)), 1.0
        for _ in range(refinements + 1):
            around = best[:, None] + width * (self.actions - middle)
            actions = np.clip(around, self._low, self._high)
            misses = (self.next_observations(obs, actions) - wanted[:, None]) / step_std
            squares = np.square(misses, dtype=np.float64).mean(axis=-1)
            chosen = squares.argmin(axis=1)
            best = actions[rows, chosen]
            width *= 2 / (self._points - 1)
        return np.asarray(best, np.float32), np.sqrt(squares[rows, chosen])

    def policy(
        self, propose: BatchPolicy, step_std: NDArray[Any], refinements: int = 2
    ) -> BatchPolicy:
        """Return the policy that takes the action which leads nearest to the proposal.

        Args:
            propose: s to s + τ(s), `(n, obs_dim)` to `(n, obs_dim)`.
            step_std: see `nearest`.
            refinements: likewise.
        """
        return lambda obs: self.nearest(obs, propose(obs), step_std, refinements)[0]

    def close(self) -> None:
        """Close the environment."""
        self._env.close()
