"""Drawing states with MuJoCo, without a screen.

Frames are drawn in a child process: MuJoCo chooses how to draw when it is first imported, and a
graphics driver that crashes takes its process with it.
"""

from __future__ import annotations

import ctypes.util
import json
import os
import subprocess
import sys
import tempfile
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qss_offline.analysis.camera import Camera, Frames
from qss_offline.analysis.poses import FloatArray
from qss_offline.data.environments import make_env
from qss_offline.errors import UserError
from qss_offline.evaluation.normalization import environment_name
from qss_offline.parallel.progress import Reporter, silent

FRAME_HEIGHT, FRAME_WIDTH = 192, 256
_BACKGROUND = np.uint8(240)
_EGL_PACKAGE = "apt-get install libegl1 (Debian, Ubuntu) or dnf install mesa-libEGL (Fedora)"

# Where Gymnasium's own camera shows the model too small or from a bad side.
_CAMERAS: dict[str, dict[str, Any]] = {
    "InvertedPendulum": {"distance": 1.8, "lookat": [0.0, 0.0, 0.2]},
    "InvertedDoublePendulum": {"distance": 3.4, "elevation": -10.0, "lookat": [0.0, 0.0, 0.5]},
    "Reacher": {"distance": 0.56, "elevation": -90.0, "lookat": [0.0, 0.0, 0.0]},
}


class DrawingError(UserError):
    """MuJoCo can't draw here; the message says what is missing."""


def paint(env_id: str, qpos: FloatArray, report: Reporter = silent) -> Frames:
    """Draw states of an environment's model.

    Args:
        env_id: a MuJoCo environment.
        qpos: `(T, nq)` positions.
        report: called with the frames drawn.

    Returns:
        `(T, 192, 256, 3)`.

    Raises:
        DrawingError: drawing without a screen needs something that isn't here.
    """
    return _in_child(env_id, "qpos", np.asarray(qpos, np.float64), report)


def film_actions(env_id: str, actions: NDArray[Any], report: Reporter = silent) -> Frames:
    """Let a MuJoCo environment act again, from its first state of seed 0, and film it.

    Args:
        env_id: the environment.
        actions: `(T, action_dim)` of one episode.
        report: called with the frames drawn.

    Returns:
        `(T + 1, 384, 512, 3)`.

    Raises:
        DrawingError: drawing without a screen needs something that isn't here.
    """
    return _in_child(env_id, "actions", actions, report)


def _in_child(env_id: str, what: str, values: NDArray[Any], report: Reporter) -> Frames:
    """Draw in a child process what `values` are: positions, or actions."""
    # The child finds what this process finds, and nothing more: not what lies in the current
    # folder, which may be somebody else's.
    path = [str(Path(part).absolute()) for part in sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    if sys.platform == "linux":
        environment["MUJOCO_GL"] = _backend()
    with tempfile.TemporaryDirectory() as folder:
        job, made = Path(folder) / "values.npy", Path(folder) / "frames.npy"
        np.save(job, values)
        arguments = json.dumps({"env_id": env_id, what: str(job), "frames": str(made)})
        with (Path(folder) / "stderr").open("w+") as errors:
            child = subprocess.Popen(
                [sys.executable, "-P", "-m", __spec__.name, arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
            )
            try:
                assert child.stdout is not None
                for line in child.stdout:
                    if line.strip().isdigit():
                        report(int(line))
                code = child.wait()
            finally:
                child.kill()
                child.wait()
            errors.seek(0)
            last = "".join(deque(errors, maxlen=1)).strip()
        # MuJoCo's clean-up may fail after everything is drawn.
        if not made.exists():
            raise DrawingError(f"cannot draw {env_id}: {last or f'code {code}'}{_remedy()}")
        frames: Frames = np.load(made)
        return frames


def _backend() -> str:
    """Return what MuJoCo is to draw with on Linux, and refuse EGL where it isn't installed."""
    chosen = os.environ.get("MUJOCO_GL", "").strip().lower() or "egl"
    if chosen == "egl" and ctypes.util.find_library("EGL") is None:
        raise DrawingError(
            f"drawing without a screen needs the system package of EGL: {_EGL_PACKAGE}"
        )
    return chosen


def _remedy() -> str:
    if sys.platform != "linux":
        return ""
    return (
        f"; MUJOCO_GL is {os.environ.get('MUJOCO_GL') or 'unset, so egl'}, which on a machine "
        f"without a screen should be egl, of the system package {_EGL_PACKAGE}"
    )


def require_drawing() -> None:
    """Find out whether anything can be drawn here; takes a few seconds.

    Raises:
        DrawingError: it can't; the message says what is missing.
    """
    frame = paint("InvertedPendulum-v5", np.zeros((1, 2)))[0]
    if frame.max() == frame.min():
        raise DrawingError("MuJoCo draws, but the picture is empty")


def _paint_here(env_id: str, qpos: FloatArray) -> Frames:
    """Draw in this process, a line on standard output for each frame."""
    import mujoco

    inner: Any = make_env(env_id).unwrapped
    model, data = inner.model, mujoco.MjData(inner.model)
    camera = _camera(env_id, inner)
    model.vis.quality.offsamples = 4
    renderer = mujoco.Renderer(model, FRAME_HEIGHT, FRAME_WIDTH)
    # Without a graphics card, shadows and reflections take most of the time.
    renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
    renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
    frames = np.empty((len(qpos), FRAME_HEIGHT, FRAME_WIDTH, 3), np.uint8)
    for index, row in enumerate(qpos):
        data.qpos[:] = row
        mujoco.mj_forward(model, data)
        renderer.update_scene(data, camera)
        frame = renderer.render()
        # Models without a sky leave black, which dark joints vanish in.
        frames[index] = np.where(frame.any(axis=-1, keepdims=True), frame, _BACKGROUND)
        print(index + 1, flush=True)
    renderer.close()
    return frames


def _film_here(env_id: str, actions: NDArray[Any]) -> Frames:
    """Film in this process, a line on standard output for each frame."""
    env = make_env(env_id, render_mode="rgb_array", time_limit=False)
    camera = Camera(env)
    env.reset(seed=0)
    camera.shoot()
    for number, action in enumerate(actions, 1):
        env.step(action)
        camera.shoot()
        print(number + 1, flush=True)
    if camera.why_not is not None:
        raise DrawingError(camera.why_not)
    return camera.film(len(actions) + 1)


def _camera(env_id: str, inner: Any) -> Any:
    """Return MuJoCo's camera: the model's own that follows it, or a free one."""
    import mujoco

    camera = mujoco.MjvCamera()
    followed = mujoco.mj_name2id(inner.model, mujoco.mjtObj.mjOBJ_CAMERA, "track")
    if followed >= 0:
        camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, followed
    else:
        mujoco.mjv_defaultFreeCamera(inner.model, camera)
    for key, value in _CAMERAS.get(environment_name(env_id), {}).items():
        if key == "lookat":
            camera.lookat[:] = value
        else:
            setattr(camera, key, value)
    return camera


def _child() -> None:
    job = json.loads(sys.argv[1])
    if "qpos" in job:
        frames = _paint_here(job["env_id"], np.load(job["qpos"]))
    else:
        frames = _film_here(job["env_id"], np.load(job["actions"]))
    temporary = Path(job["frames"]).with_suffix(".part.npy")
    np.save(temporary, frames)
    temporary.replace(job["frames"])


if __name__ == "__main__":
    _child()
