"""Local datasets removed: what they hold and take, and then their folders."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qss_offline.data.local import check_id, local_dataset_ids, minari_root
from qss_offline.errors import UserError, nearest


@dataclass(frozen=True)
class Removable:
    """A dataset that can be removed.

    Attributes:
        dataset_id: Minari id.
        path: its folder.
        size: bytes on disk.
    """

    dataset_id: str
    path: Path
    size: int


def removable(dataset_ids: Sequence[str]) -> list[Removable]:
    """Look up local datasets that are to be removed, half-built ones included.

    Raises:
        UserError: an id is malformed or unknown, or leads out of the Minari root.
    """
    there, root = local_dataset_ids(), minari_root().resolve()
    found = []
    for dataset_id in dict.fromkeys(dataset_ids):
        check_id(dataset_id)
        if dataset_id not in there:
            raise UserError(f"no local dataset {dataset_id!r}{nearest(dataset_id, there)}")
        path = minari_root() / dataset_id
        if path.resolve() != root / dataset_id:
            raise UserError(f"{path} leads out of the Minari root through a link; remove that link")
        found.append(Removable(dataset_id, path, _size(path)))
    return found


def remove(dataset: Removable) -> None:
    """Remove a dataset, and the folders of its namespace that are empty then.

    It is renamed first, so that what is interrupted leaves no half of a dataset under its name.

    Raises:
        UserError: it can't be removed.
    """
    try:
        leaving = dataset.path.with_name(f".{dataset.path.name}.removed")
        dataset.path.rename(leaving)
        shutil.rmtree(leaving)
    except OSError as error:
        raise UserError(f"cannot remove {dataset.path}: {error.strerror or error}") from error
    for parent in dataset.path.relative_to(minari_root()).parents[:-1]:
        folder = minari_root() / parent
        others = [path for path in folder.iterdir() if path.name != "namespace_metadata.json"]
        if others:
            return
        shutil.rmtree(folder)


def _size(path: Path) -> int:
    """Return the bytes of a folder's files; two names of one file count once."""
    counted: dict[tuple[int, int], int] = {}
    for folder, _, names in os.walk(path):
        for name in names:
            found = Path(folder, name).lstat()
            counted[found.st_dev, found.st_ino] = found.st_size
    return sum(counted.values())
