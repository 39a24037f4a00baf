"""Temporary folders that outlive no process: what a killed one left is removed by the next.

Each holds a file that its process keeps locked. The system releases the lock when the process ends,
however it ends, so a folder whose lock can be taken belongs to nobody any more.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "qss-offline-"
_LOCK_FILE = ".lock"


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Yield a temporary folder; remove it afterwards, and before, those of processes that died.

    Args:
        parent: where to make it; by default where the system keeps temporary files.
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    _remove_the_dead(parent)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    try:
        # Locked before it has its name: a folder with an unlocked file is a dead process's.
        unnamed = folder / f"{_LOCK_FILE}.new"
        with unnamed.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            unnamed.rename(folder / _LOCK_FILE)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_the_dead(parent: Path) -> None:
    for lock in parent.glob(f"{_PREFIX}*/{_LOCK_FILE}"):
        # Another's folder, one that is in use, or one that its own process removes just now.
        with suppress(OSError):
            descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if os.fstat(descriptor).st_uid == os.getuid():
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(lock.parent, ignore_errors=True)
            finally:
                os.close(descriptor)
