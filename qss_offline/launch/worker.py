"""What runs a cell, in whatever process: hold its folders, call its task, say why it failed."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from qss_offline.data.load import load_transitions
from qss_offline.errors import UserError
from qss_offline.files import write_bytes
from qss_offline.launch.cell import Cell, Failure
from qss_offline.launch.lock import hold
from qss_offline.parallel.processes import Tick

FAILED = "failed.txt"
"""In a cell's first folder: why it failed last, and where in the code."""


def run_cell(cell: Cell, tick: Tick) -> Failure:
    """Run a cell from where its folders stand, in one thread; return why it failed, or None.

    A failed cell must not take the others with it, whatever it raises.
    """
    failed = Path(cell.holds[0]) / FAILED
    try:
        with hold([Path(folder) for folder in cell.holds], tick):
            _check_recordings(cell)
            if cell.gpus:
                take_gpu(cell.place)
            module, _, name = cell.task.partition(":")
            task = getattr(importlib.import_module(module), name)
            with _one_thread():
                task(cell.settings, tick)
            failed.unlink(missing_ok=True)
        return None
    except UserError as error:
        reason = details = str(error)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        details = f"{reason}\n\n{traceback.format_exc()}"
    # A full disk is a reason, too.
    with suppress(UserError):
        write_bytes(failed, f"{details}\n".encode())
    return reason


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute in one thread, if the task's module has loaded torch, which takes seconds to load.

    Every task of this package does so at the top of its module.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def take_gpu(number: int) -> None:
    """Let this process train on its GPU, where there are any: processes take turns at them.

    Args:
        number: of this process among all.
    """
    import torch

    if count := torch.cuda.device_count():
        torch.cuda.set_device(number % count)


def _check_recordings(cell: Cell) -> None:
    """Refuse recordings that aren't those that the cell was made for.

    Raises:
        UserError: one is missing, or another.
    """
    for dataset_id, digest in cell.recordings.items():
        if load_transitions(dataset_id).info.digest != digest:
            raise UserError(
                f"{dataset_id} isn't the recording that {cell.name} was made for: it was replaced "
                "since, or this machine has another of that name"
            )
