"""From observations to what MuJoCo draws: joint positions and velocities, one small map each.

A map exists where the observation determines qpos and qvel, up to where a walker stands along its
track, which observations leave out: there the position is summed up from the velocities. Velocities
that an environment clips (at ±10) stay clipped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from qss_offline.data.environments import without_folder
from qss_offline.errors import UserError
from qss_offline.evaluation.normalization import environment_name

FloatArray: TypeAlias = NDArray[np.floating[Any]]
_Layout: TypeAlias = Callable[[FloatArray, int, int], tuple[FloatArray, FloatArray]]

# Lengths of Reacher's two links, from the hinge to the elbow to the fingertip, in metres
# (gymnasium/envs/mujoco/assets/reacher.xml).
_REACHER_LINKS = (0.1, 0.11)


class NoPoseError(UserError):
    """The environment's observation doesn't determine what there is to draw, or no map is known."""


@dataclass(frozen=True)
class Poses:
    """States of a MuJoCo model, one a row.

    Attributes:
        qpos: `(T, nq)` positions, metres and radians.
        qvel: `(T, nv)` velocities, per second.
    """

    qpos: FloatArray
    qvel: FloatArray


@dataclass(frozen=True)
class PoseMap:
    """How the observations of one environment determine its state.

    Attributes:
        layout: splits observations `(T, obs_dim)` into qpos and qvel, given nq and nv.
        hidden: leading positions that observations leave out.
        nq: positions of the model.
        nv: velocities of the model.
        dt: seconds of a step.
        settle: makes an imagined observation agree with itself, given the first one; None where
            every observation does.
    """

    layout: _Layout
    hidden: int
    nq: int
    nv: int
    dt: float
    settle: Callable[[FloatArray, FloatArray], FloatArray] | None = None

    def poses(self, observations: FloatArray) -> Poses:
        """Return the states behind consecutive observations `(T, obs_dim)`.

        Positions that observations leave out start at 0 and follow the velocities.
        """
        obs = np.asarray(observations, np.float64)
        qpos, qvel = self.layout(obs, self.nq, self.nv)
        moved = np.cumsum(qvel[:-1, : self.hidden] * self.dt, axis=0)
        qpos[1:, : self.hidden] = moved
        return Poses(qpos, qvel)


def _joints(hidden: int) -> _Layout:
    """Observations that begin with all positions but the first `hidden`, then all velocities."""

    def layout(obs: FloatArray, nq: int, nv: int) -> tuple[FloatArray, FloatArray]:
        qpos = np.zeros((len(obs), nq))
        observed = nq - hidden
        qpos[:, hidden:] = obs[:, :observed]
        return qpos, obs[:, observed : observed + nv].copy()

    return layout


def _double_pendulum(obs: FloatArray, nq: int, nv: int) -> tuple[FloatArray, FloatArray]:
    # cart, sin of both angles, cos of both angles, velocities, a constraint force
    angles = np.arctan2(obs[:, 1:3], obs[:, 3:5])
    return np.column_stack((obs[:, 0], angles)), obs[:, 5:8].copy()


def _reacher(obs: FloatArray, nq: int, nv: int) -> tuple[FloatArray, FloatArray]:
    # cos of both angles, sin of both angles, target x and y, velocities, fingertip − target
    angles = np.arctan2(obs[:, 2:4], obs[:, 0:2])
    still = np.zeros((len(obs), 2))
    return np.column_stack((angles, obs[:, 4:6])), np.column_stack((obs[:, 6:8], still))


def settle_reacher(obs: FloatArray, first: FloatArray) -> FloatArray:
    """Hold the target where it was, and take the fingertip from the joints.

    As the paper does for Figure 8: the target's position and what lies between fingertip and
    target aren't left to the model.

    Args:
        obs: imagined, `(n, obs_dim)`.
        first: the real first observations, `(n, obs_dim)`.
    """
    settled = np.array(obs)
    shoulder, elbow = np.arctan2(obs[:, 2:4], obs[:, 0:2]).T
    upper, lower = _REACHER_LINKS
    settled[:, 4:6] = first[:, 4:6]
    settled[:, 8] = upper * np.cos(shoulder) + lower * np.cos(shoulder + elbow) - first[:, 4]
    settled[:, 9] = upper * np.sin(shoulder) + lower * np.sin(shoulder + elbow) - first[:, 5]
    settled[:, 10:] = first[:, 10:]  # z, which version 4 has
    return settled


_MAPS: dict[str, tuple[_Layout, int]] = {
    "InvertedPendulum": (_joints(0), 0),
    "InvertedDoublePendulum": (_double_pendulum, 0),
    "Reacher": (_reacher, 0),
    "Hopper": (_joints(1), 1),
    "HalfCheetah": (_joints(1), 1),
    "Walker2d": (_joints(1), 1),
    "Swimmer": (_joints(2), 2),
}
_SETTLE = {"Reacher": settle_reacher}


def pose_map(env_id: str, env: gym.Env[Any, Any]) -> PoseMap:
    """Return how an environment's observations determine its state, checked on a fresh episode.

    Args:
        env_id: its id.
        env: the environment; it is reset.

    Raises:
        NoPoseError: no map is known, or the environment was made with settings that change its
            observations.
    """
    name = environment_name(env_id)
    shown = without_folder(env_id)
    inner: Any = env.unwrapped
    if not hasattr(inner, "model") or not hasattr(inner, "set_state"):
        raise NoPoseError(f"{shown} is no MuJoCo environment whose state could be set")
    if name not in _MAPS:
        raise NoPoseError(
            f"for {shown} no map from observations to positions and velocities is known "
            f"(there is one for {', '.join(_MAPS)})"
        )
    layout, hidden = _MAPS[name]
    found = PoseMap(
        layout, hidden, inner.model.nq, inner.model.nv, float(inner.dt), _SETTLE.get(name)
    )
    obs, _ = env.reset(seed=0)
    try:
        poses = found.poses(np.asarray(obs)[None])
        mapped, true = poses.qpos[0, hidden:], np.asarray(inner.data.qpos)[hidden:]
        fits = (
            np.allclose(np.cos(mapped), np.cos(true), atol=1e-6)
            and np.allclose(np.sin(mapped), np.sin(true), atol=1e-6)
            and np.allclose(poses.qvel[0], inner.data.qvel, atol=1e-6)
        )
    except ValueError:
        fits = False
    if not fits:
        raise NoPoseError(f"{shown} gives other observations here than its map expects")
    return found
