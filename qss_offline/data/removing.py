"""Local datasets removed: what they hold and take, and then their folders."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from qss_offline.data.local import check_id, local_dataset_ids, minari_root
from qss_offline.data.metadata import MAX_BYTES
from qss_offline.data.publish import NAMESPACE_FILE, hold_stage
from qss_offline.errors import UserError, nearest
from qss_offline.files import parse_json, read_regular_file


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
            near = nearest(dataset_id, there) or "; qss data list shows what there is"
            raise UserError(f"no local dataset {dataset_id!r}{near}")
        path = minari_root() / dataset_id
        if path.resolve() != root / dataset_id:
            raise UserError(f"{path} leads out of the Minari root through a link; remove that link")
        found.append(Removable(dataset_id, path, _size(path)))
    return found


def remove(dataset: Removable) -> None:
    """Remove a dataset, and the folders of its namespace that are empty then.

    It leaves its name at once, for the hidden folder in which it would be built: whoever builds
    the same pair is waited for, and what is interrupted is finished by the next builder.

    Args:
        dataset: what `removable` found.

    Raises:
        UserError: it can't be removed, or is gone meanwhile.
    """
    base_id = re.sub(r"-(obs|act)-v\d+$", "", dataset.dataset_id)
    with hold_stage(base_id) as stage:
        try:
            leaving = stage.folder / "removed"
            dataset.path.rename(leaving)
            shutil.rmtree(leaving)
        except OSError as error:
            raise UserError(f"cannot remove {dataset.path}: {error.strerror or error}") from error
    # What isn't empty, or gets a dataset meanwhile, can't be removed, and stays.
    with suppress(OSError):
        _remove_empty(dataset.path.parent, minari_root())


def _remove_empty(folder: Path, root: Path) -> None:
    """Remove a namespace that holds nothing, not even a description, and those above it."""
    while folder != root:
        description = folder / NAMESPACE_FILE
        if any(path != description for path in folder.iterdir()) or _describes(description):
            return
        description.unlink(missing_ok=True)
        folder.rmdir()
        folder = folder.parent


def _describes(path: Path) -> bool:
    """Return whether a namespace's file says anything."""
    try:
        return path.exists() and parse_json(read_regular_file(path, MAX_BYTES), path) != {}
    except UserError:
        return True


def _size(path: Path) -> int:
    """Return the bytes of a folder's files; two names of one file count once."""
    counted: dict[tuple[int, int], int] = {}
    for folder, _, names in os.walk(path):
        for name in names:
            found = Path(folder, name).lstat()
            counted[found.st_dev, found.st_ino] = found.st_size
    return sum(counted.values())
