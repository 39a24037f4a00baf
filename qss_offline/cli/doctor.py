"""What is here, what is missing, and what to do about it."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from qss_offline.analysis.painting import DrawingError, require_drawing
from qss_offline.data.environments import make_env
from qss_offline.data.listing import list_datasets
from qss_offline.data.local import minari_root
from qss_offline.errors import UserError, printable
from qss_offline.parallel.processes import available_cores
from qss_offline.runs.folder import versions

_LITTLE_SPACE_GB = 2.0


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what.
        ok: whether it is there; None where it is there to be known only.
        found: what there is, and what to do if something is wrong.
        needed: whether nothing works without it.
    """

    name: str
    ok: bool | None
    found: str
    needed: bool = False


def examine(draw: Callable[[], None] = require_drawing) -> tuple[Check, ...]:
    """Look at this machine.

    Args:
        draw: raises `DrawingError` where nothing can be drawn.
    """
    return (
        _versions(),
        _simulator(),
        _device(),
        _threads(),
        _minari(),
        _disk(),
        _drawing(draw),
        _optional("imageio_ffmpeg", "MP4 videos", "video"),
        _optional("ray", "--launcher ray", "ray"),
        _optional("tensorboard", "--tensorboard", "tensorboard"),
        _optional("onnxscript", "policies as ONNX", "onnx"),
        _optional("d3rlpy", "baselines with actions", "baselines"),
        _optional("huggingface_hub", "sharing datasets", "hub"),
    )


def _versions() -> Check:
    return Check("versions", None, ", ".join(f"{k} {v}" for k, v in versions().items()))


def _simulator() -> Check:
    try:
        env = make_env("InvertedPendulum")
        env.reset(seed=0)
        env.close()
    except UserError as error:
        return Check("MuJoCo", False, f"{error}; pip install mujoco", needed=True)
    return Check("MuJoCo", True, "environments can be made", needed=True)


def _device() -> Check:
    import torch

    with warnings.catch_warnings(record=True) as said:
        # It warns where there is a GPU, but its driver is too old.
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if usable:
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        from qss_offline.engine.device import GPU_VERIFIED_WITH

        use = "" if GPU_VERIFIED_WITH else "; training uses the CPU without --device cuda"
        return Check("device", None, f"CUDA: {', '.join(names)}{use}")
    if torch.version.cuda is None:
        return Check("device", None, "this torch is built for CPUs: training uses the CPU")
    found = (
        f"this torch is built for CUDA {torch.version.cuda}, but finds no GPU that it can use: "
        "training uses the CPU"
    )
    problem = f" ({printable(' '.join(str(said[0].message).split()))})" if said else ""
    # Without the label +cpu pip takes what is installed for it.
    release = torch.__version__.partition("+")[0]
    smaller = (
        f"; the build for CPUs is smaller: pip install torch=={release}+cpu "
        "--index-url https://download.pytorch.org/whl/cpu"
    )
    return Check("device", False if said else None, found + problem + smaller)


def _threads() -> Check:
    limit = os.environ.get("OMP_NUM_THREADS")
    return Check(
        "threads",
        None,
        f"{available_cores()} cores: as many worker processes, of one thread each"
        + (f"; OMP_NUM_THREADS is {limit}" if limit else ""),
    )


def _minari() -> Check:
    try:
        root = minari_root()
        datasets = list_datasets()
    except UserError as error:
        return Check("Minari root", False, str(error), needed=True)
    writable = next((p for p in (root, *root.parents) if p.exists()), root)
    if not os.access(writable, os.W_OK):
        return Check(
            "Minari root",
            False,
            f"{root} can't be written to; set MINARI_DATASETS_PATH to a folder that can",
            needed=True,
        )
    broken = [one.dataset_id for one in datasets if one.problem is not None]
    found = f"{root}: {len(datasets)} datasets"
    if broken:
        return Check("Minari root", False, f"{found}, {len(broken)} unusable, first {broken[0]}")
    return Check("Minari root", True, found, needed=True)


def _disk() -> Check:
    spaces = {}
    try:
        paths = [minari_root(), Path.cwd()]
    except UserError:
        paths = [Path.cwd()]
    for path in paths:
        existing = next(p for p in (path, *path.parents) if p.exists())
        spaces[str(existing)] = shutil.disk_usage(existing).free / 1e9
    found = ", ".join(f"{free:.1f} GB free at {path}" for path, free in spaces.items())
    if min(spaces.values()) < _LITTLE_SPACE_GB:
        return Check("disk", False, f"{found}; a million transitions take about 0.2 GB")
    return Check("disk", True, found)


def _drawing(draw: Callable[[], None]) -> Check:
    try:
        draw()
    except DrawingError as error:
        return Check("drawing (EGL)", False, str(error))
    backend = os.environ.get("MUJOCO_GL") or "egl, chosen here"
    return Check("drawing (EGL)", True, f"a frame was drawn without a screen; MUJOCO_GL: {backend}")


def _optional(package: str, purpose: str, extra: str) -> Check:
    if find_spec(package) is None:
        missing = f"not installed: pip install 'qss-offline[{extra}]' for {purpose}"
        return Check(package, None, missing)
    try:
        installed = version(package)
    except PackageNotFoundError:
        installed = "of an unknown version"
    return Check(package, True, f"{installed}, for {purpose}")
