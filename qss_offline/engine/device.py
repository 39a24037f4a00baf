"""Where training happens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

import torch
from torch import Tensor

from qss_offline.engine.graph_device import GRAPH_DEVICES
from qss_offline.errors import UserError
from qss_offline.parallel.reporting import print_notice

GPU_VERIFIED_WITH: str | None = None
"""The version of this package whose GPU path was measured on a GPU, by the commit that holds the
results (`benchmarks/results/gpu.json`); None while there are none. Then "auto" is the CPU."""


def choose_device(name: str) -> str:
    """Return "cpu" or "cuda" for "auto", "cpu" or "cuda".

    Raises:
        UserError: another name, or "cuda" where there is none.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device takes auto, cpu or cuda, not {name!r}")
    check_device(name)
    if name != "auto":
        return name
    if not torch.cuda.is_available():
        return "cpu"
    if GPU_VERIFIED_WITH is None:
        _say_how_to_try()
        return "cpu"
    return "cuda"


def check_device(name: str) -> None:
    """Refuse "cuda" where there is none, as where a run is resumed on another machine.

    Raises:
        UserError: there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: no CUDA device is available here; use --device cpu")


@cache
def _say_how_to_try() -> None:
    print_notice(
        "this trains on the CPU: training on a GPU hasn't been measured yet; try it with "
        "--device cuda"
    )


def gpu_versions() -> dict[str, str]:
    """Return what numbers of a GPU depend on, by name: nothing where there is none."""
    if not torch.cuda.is_available():
        return {}
    found = {"gpu": torch.cuda.get_device_name(), "cuda": str(torch.version.cuda)}
    driver = Path("/proc/driver/nvidia/version")
    if driver.exists():
        number = re.search(r"\b\d+\.\d+(\.\d+)?\b", driver.read_text())
        found["driver"] = "unknown" if number is None else number[0]
    for package in distributions():
        name = package.metadata["Name"]
        if re.fullmatch(r"nvidia-cublas(-cu\d+)?", name):
            found["cublas"] = package.version
    return found


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the CPU to a device, on a GPU without waiting for it."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def check_room(device: torch.device, size: int, what: str) -> None:
    """Refuse what doesn't fit into a GPU's memory.

    Args:
        device: any; a CPU takes everything.
        size: in bytes.
        what: it is, with a capital.

    Raises:
        UserError: it doesn't fit.
    """
    graphs = GRAPH_DEVICES.get(device.type)
    if graphs is not None and size > (free := graphs.free_bytes()):
        raise UserError(
            f"{what} takes {size / 1e9:.1f} GB of the GPU's memory, where {free / 1e9:.1f} GB are "
            "free; use --device cpu, or a part of it (qss data sample)"
        )


@contextmanager
def training_with(tf32: bool) -> Iterator[None]:
    """Train with the matrix products that a run asks for.

    Args:
        tf32: matrix products on a GPU round their operands to ten bits.

    Raises:
        UserError: a GPU's memory is full.
    """
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(
            "the GPU's memory is full: train fewer seeds at once, or take --device cpu"
        ) from error
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
