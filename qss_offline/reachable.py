"""What a body can reach in one step, by asking the simulator: for measuring, never for learning.

A proposal s + τ(s) is judged here without an inverse dynamics model in between: by the values of
the next states that some actions all over the box truly lead to, and by acting with the action
whose next state is nearest to the proposal: a least-squares fit that begins at the best of those.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.stats import qmc

from qss_offline.data.environments import make_env
from qss_offline.errors import UserError
from qss_offline.evaluation import BatchPolicy
from qss_offline.poses import pose_map
from qss_offline.rollouts import without_time_limit

Float32Array = NDArray[np.float32]

_POINTS = {1: 13, 2: 7, 3: 5}
"""Grid points in each dimension, by the number of dimensions of an action."""

_STARTS = 32
"""Actions spread evenly, of which a fit begins at the best; where there are more dimensions than
above, the whole choice."""

_DIFFERENCE = 0.01
"""Of an action, of the width of its box, for derivatives; observations are float32."""

_MOST_EVALUATIONS = 12
"""Of a fit; recorded steps of Hopper are found again after six."""


class Simulator:
    """An environment that can be put into the state behind an observation.

    Args:
        env_id: one whose observations determine its state (`qss_offline.poses`).
        points: grid points in each dimension of the action; None takes 13 for actions of one
            number, 7 for two, 5 for three, and for more 32 actions spread evenly.

    Attributes:
        actions: `(A, action_dim)`; a grid goes from the least to the greatest action.

    Raises:
        UserError: there is no map from observations to states, or actions aren't bounded vectors.
    """

    def __init__(self, env_id: str, points: int | None = None) -> None:
        self._env: Any = without_time_limit(make_env(env_id))
        self._map = pose_map(env_id, self._env)
        space = self._env.action_space
        if not isinstance(space, Box) or not space.is_bounded():
            raise UserError(f"{env_id} has no bounded actions to make a grid of")
        self._low, self._high = (bound.astype(np.float64) for bound in (space.low, space.high))
        dims = space.shape[0]
        # Not scrambled, the second one is the middle.
        even = qmc.Sobol(dims, scramble=False).random(_STARTS)
        self._starts = qmc.scale(even, self._low, self._high).astype(np.float32)
        if points is None and dims not in _POINTS:
            self.actions: Float32Array = self._starts
        else:
            points = _POINTS[dims] if points is None else points
            sides = [np.linspace(a, b, points) for a, b in zip(space.low, space.high, strict=True)]
            self.actions = np.array(list(product(*sides)), np.float32)

    def next_observations(
        self, obs: NDArray[Any], actions: NDArray[Any] | None = None
    ) -> Float32Array:
        """Take several actions in every state.

        Args:
            obs: `(n, obs_dim)`.
            actions: `(n, A, action_dim)`, some for each state; None takes `actions`.

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
        self, obs: NDArray[Any], wanted: NDArray[Any], step_std: NDArray[Any]
    ) -> tuple[Float32Array, NDArray[np.float64]]:
        """Find the actions that lead nearest to wanted next states, and how far from them they end.

        Args:
            obs: s, `(n, obs_dim)`.
            wanted: `(n, obs_dim)`.
            step_std: `(obs_dim,)` what distances are measured in.

        Returns:
            `(n, action_dim)` actions and `(n,)` distances, each the root mean square over the
            dimensions of an observation.
        """
        tried = np.broadcast_to(self._starts, (len(obs), *self._starts.shape))
        misses = (self.next_observations(obs, tried) - wanted[:, None]) / step_std
        starts = np.square(misses, dtype=np.float64).mean(axis=-1).argmin(axis=1)
        best = np.empty((len(obs), len(self._low)), np.float32)
        distances = np.empty(len(obs))
        for row, start in enumerate(starts):
            best[row], distances[row] = self._fit(
                obs[row : row + 1], wanted[row], step_std, self._starts[start]
            )
        return best, distances

    def _fit(
        self,
        obs: NDArray[Any],
        wanted: NDArray[Any],
        step_std: NDArray[Any],
        start: NDArray[Any],
    ) -> tuple[NDArray[Any], float]:
        def misses(actions: NDArray[Any]) -> NDArray[np.float64]:
            reached = self.next_observations(obs, actions[None])[0]
            return np.asarray((reached - wanted) / step_std, np.float64)

        def slopes(action: NDArray[Any]) -> NDArray[np.float64]:
            # Towards the middle, where there is room.
            change = _DIFFERENCE * (self._high - self._low)
            change = np.where(action > (self._low + self._high) / 2, -change, change)
            tried = misses(np.vstack((action, action + np.diag(change))))
            return np.asarray(((tried[1:] - tried[0]) / change[:, None]).T)

        found = least_squares(
            lambda action: misses(action[None])[0],
            np.clip(start, self._low, self._high),
            slopes,
            bounds=(self._low, self._high),
            max_nfev=_MOST_EVALUATIONS,
        )
        action: NDArray[Any] = found.x
        return action, float(np.sqrt(np.square(found.fun).mean()))

    def policy(self, propose: BatchPolicy, step_std: NDArray[Any]) -> BatchPolicy:
        """Return the policy that takes the action which leads nearest to the proposal.

        Args:
            propose: s to s + τ(s), `(n, obs_dim)` to `(n, obs_dim)`.
            step_std: see `nearest`.
        """
        return lambda obs: self.nearest(obs, propose(obs), step_std)[0]

    def close(self) -> None:
        """Close the environment."""
        self._env.close()
