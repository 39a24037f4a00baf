"""The right to write to folders, which one cell has at a time, on whatever machine it runs.

The system takes the lock from a process that ends, however it ends. On a file system that machines
share it does so for all of them, if it has locks: NFS has, Lustre where it is mounted with `flock`.
"""

from __future__ import annotations

import fcntl
import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from qss_offline.errors import UserError
from qss_offline.files import open_in_place
from qss_offline.parallel.processes import Tick

_LOOK_S = 0.2


@contextmanager
def hold(folders: Sequence[Path], tick: Tick) -> Iterator[None]:
    """Hold folders, which are made where there are none; wait for whoever holds one of them.

    Args:
        folders: held in one order by everyone, so that no two wait for each other.
        tick: told that this waits, and may end the waiting.

    Raises:
        UserError: a folder can't be written to, or its file system has no locks.
    """
    with ExitStack() as held:
        for folder in sorted(set(folders)):
            held.enter_context(_one(folder, tick))
        yield


@contextmanager
def _one(folder: Path, tick: Tick) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # To write: NFS gives a lock of one's own for nothing less.
        descriptor = open_in_place(folder / "lock", os.O_RDWR)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}") from error
    try:
        while not _taken(descriptor, folder):
            tick(0, f"waiting for {_holder(descriptor)} at work in {folder}")
            time.sleep(_LOOK_S)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} of {platform.node()}".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    return os.pread(descriptor, 100, 0).decode(errors="replace") or "another process"


def _taken(descriptor: int, folder: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise UserError(
            f"{folder} can't be locked ({error.strerror or error}): choose a folder on a file "
            "system that has locks (Lustre: mounted with flock)"
        ) from error
    return True
