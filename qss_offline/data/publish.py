"""Datasets become visible whole, or not at all.

They are built in a hidden folder of the Minari root, which Minari doesn't scan, under a lock that
dies with its holder, and renamed into place when all of it is on disk; a dataset that is replaced
changes places with the new one in one step. A builder that is killed leaves nothing visible; one
that is killed between its two renames is finished by the next.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from qss_offline.data.local import minari_root
from qss_offline.errors import UserError
from qss_offline.files import fsync_directory, write_json
from qss_offline.parallel.reporting import Notice, print_notice

NAMESPACE_FILE = "namespace_metadata.json"
_WORKPLACE = ".qss-offline"
_READY_FILE = "ready.json"
_ROOT = "root"
# Of Linux: <fcntl.h> and <linux/fs.h>.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_NOT_OFFERED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


@dataclass(frozen=True)
class Stage:
    """A hidden folder in which one pair is being built, held by a lock.

    Attributes:
        base_id: the pair's common part of the id.
        folder: what belongs to the build; it is removed afterwards.
    """

    base_id: str
    folder: Path

    @property
    def root(self) -> Path:
        """Where datasets are built under their ids, as in a Minari root."""
        return self.folder / _ROOT


@contextmanager
def hold_stage(base_id: str, notice: Notice = print_notice) -> Iterator[Stage]:
    """Hold the right to build a pair, after waiting for other builders of the same.

    What killed builders of any pair left behind is finished or removed first.

    Args:
        base_id: the pair's common part of the id.
        notice: called with a line if another builder has to be waited for.

    Raises:
        UserError: the Minari root can't be written to, or the disk is full.
    """
    workplace = minari_root() / _WORKPLACE
    # No id holds a dot, so that no two of them have one name here.
    slug = base_id.replace("/", ".")
    try:
        workplace.mkdir(exist_ok=True)
        with _lock(workplace / f"{slug}.lock", f"waiting for another builder of {base_id}", notice):
            _recover(workplace / slug)
            for other in workplace.glob("*.lock"):
                if other.stem != slug:
                    # Held: its builder lives, and nothing is to be done.
                    with suppress(BlockingIOError), _lock(other):
                        _recover(workplace / other.stem)
            folder = workplace / slug
            folder.mkdir()
            try:
                yield Stage(base_id, folder)
            finally:
                _recover(folder)
    except OSError as error:
        raise UserError(
            f"cannot write datasets to {workplace.parent}: {error.strerror or error}"
        ) from error


@contextmanager
def _lock(path: Path, waiting: str = "", notice: Notice = print_notice) -> Iterator[None]:
    """Hold a lock that the system releases when its holder ends, however it ends.

    Raises:
        BlockingIOError: it is held, and `waiting`, what to say while waiting, is empty.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not waiting:
                raise
            notice(waiting)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _recover(folder: Path) -> None:
    """Finish the publication of a staging folder that is ready; remove what isn't."""
    if (folder / _READY_FILE).is_file():
        _move_into_place(folder)
    shutil.rmtree(folder, ignore_errors=True)


def _move_into_place(folder: Path) -> None:
    """Rename the datasets of a ready folder into place; what was there before is replaced.

    Where the system lets two names be swapped, a dataset that is replaced is visible throughout;
    elsewhere it is away between two renames.
    """
    root = folder.parent.parent
    datasets = json.loads((folder / _READY_FILE).read_text())["datasets"]
    for dataset_id, inode in datasets.items():
        source, target = folder / _ROOT / dataset_id, root / dataset_id
        if not source.exists() or source.stat().st_ino != inode:
            continue  # moved by the builder that was killed afterwards
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not exchange(source, target):
            target.rename(folder / f"replaced-{os.urandom(4).hex()}")
        if not target.exists():
            source.rename(target)
        fsync_directory(target.parent)


def publish(stage: Stage, dataset_ids: Sequence[str]) -> None:
    """Make finished datasets visible. After the ready file is written, nothing can undo it.

    Args:
        stage: in whose root they were built.
        dataset_ids: in the order in which they become visible.
    """
    for path in [*stage.folder.rglob("*"), stage.folder]:
        if path.is_dir():
            fsync_directory(path)
        else:
            with path.open("rb+") as file:
                os.fsync(file.fileno())
    root = minari_root()
    for dataset_id in dataset_ids:
        parts = dataset_id.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            namespace = root.joinpath(*parts[:depth])
            namespace.mkdir(exist_ok=True)
            if not (namespace / NAMESPACE_FILE).exists():
                write_json(namespace / NAMESPACE_FILE, {})
    # The inode tells the new folder from the one that it replaces.
    moves = {one: (stage.root / one).stat().st_ino for one in dataset_ids}
    write_json(stage.folder / _READY_FILE, {"datasets": moves})
    _move_into_place(stage.folder)


def exchange(first: Path, second: Path) -> bool:
    """Let two paths of one file system swap what they name, at once.

    Returns:
        Whether they did; false where the system or the file system doesn't offer it.

    Raises:
        OSError: one of them isn't there or may not be renamed.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    names = os.fsencode(first), os.fsencode(second)
    if rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NOT_OFFERED:
        return False
    raise OSError(number, os.strerror(number), str(first), None, str(second))
