"""The datasets on this machine: their ids, their folders, and what their metadata say."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minari.dataset.minari_dataset import parse_dataset_id
from minari.storage.datasets_root_dir import get_dataset_path

from qss_offline.data.metadata import MAX_BYTES, parse_metadata
from qss_offline.errors import UserError, nearest
from qss_offline.files import read_regular_file

METADATA_FILE = "metadata.json"
_VERSIONED = re.compile(r"-v\d+$")
# Folders in one another: `data`, an episode, and room for formats to come.
_MAX_DEPTH = 8


def minari_root() -> Path:
    """Return the folder of all Minari datasets (`MINARI_DATASETS_PATH` or Minari's default).

    Raises:
        UserError: it doesn't exist and can't be made.
    """
    try:
        return Path(get_dataset_path())
    except OSError as error:
        raise UserError(
            f"cannot use the Minari root {error.filename}: {error.strerror}; "
            "set MINARI_DATASETS_PATH to a folder that can be written to"
        ) from error


def check_id(dataset_id: str) -> None:
    """Check that an id is one, before it becomes part of a path or an address.

    Raises:
        UserError: it isn't.
    """
    try:
        parse_dataset_id(dataset_id)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"dataset id {dataset_id!r} is malformed: expected namespace/.../name-v0, "
            "of letters, digits, _ and -, the namespace of two characters or more"
        ) from error


def check_base_id(base_id: str) -> None:
    """Check the common part of a pair's ids.

    Raises:
        UserError: it is malformed, lacks a namespace, or has a version.
    """
    expected = (
        "expected namespace/.../name, of letters, digits, _ and -, each beginning with no -, "
        "the namespace of two or more, without a version"
    )
    if not isinstance(base_id, str) or _VERSIONED.search(base_id):
        raise UserError(
            f"dataset id {base_id!r}: {expected}; -obs-v0 and -act-v0 are put behind it"
        )
    if not re.fullmatch(r"\w[A-Za-z0-9_-]+(/\w[A-Za-z0-9_-]*)+", base_id, re.ASCII):
        raise UserError(f"dataset id {base_id!r}: {expected}")
    check_place(pair_id(base_id, "obs"))


def check_place(dataset_id: str) -> None:
    """Check that a dataset of this id would hide no other, and be hidden by none.

    For Minari whatever holds a folder `data` is a dataset, and it doesn't look below.

    Raises:
        UserError: the id is malformed, has a part `data`, or lies inside another dataset.
    """
    check_id(dataset_id)
    parts = dataset_id.split("/")
    if "data" in parts:
        raise UserError(
            f"dataset id {dataset_id!r}: a part named data would hide every dataset beside it; "
            "choose another name"
        )
    root = minari_root()
    for depth in range(1, len(parts)):
        if root.joinpath(*parts[:depth], "data", METADATA_FILE).exists():
            outer = "/".join(parts[:depth])
            raise UserError(f"dataset id {dataset_id!r}: {outer} is a dataset; choose another name")


def pair_id(base_id: str, kind: str) -> str:
    """Return the Minari id of one of a pair: of kind "obs" or "act"."""
    return f"{base_id}-{kind}-v0"


def twin_id(dataset_id: str) -> str | None:
    """Return the id that an observation-only dataset's twin with actions has; None of others."""
    base_id = dataset_id.removesuffix("-obs-v0")
    return None if base_id == dataset_id else pair_id(base_id, "act")


def local_dataset_ids() -> list[str]:
    """Return the ids of all folders in the Minari root that look like datasets."""
    return sorted(_dataset_ids(minari_root()))


def _dataset_ids(root: Path) -> Iterator[str]:
    """Yield the ids of all folders that look like datasets, those half-built included."""
    waiting, entered = [""], set()
    while waiting:
        name = waiting.pop()
        try:
            # Namespaces may be links, to a larger disk, say; each folder is entered once.
            place = (root / name).stat()
            with os.scandir(root / name) as entries:
                inside = [one.name for one in entries if one.is_dir()]
        except OSError:
            continue  # gone meanwhile, or not to be entered
        if (place.st_dev, place.st_ino) in entered:
            continue
        entered.add((place.st_dev, place.st_ino))
        # A namespace may be named data, too.
        is_dataset = "data" in inside and (
            (root / name / "data" / METADATA_FILE).exists() or _VERSIONED.search(name)
        )
        if is_dataset and name:
            yield name
        else:
            waiting += [f"{name}/{one}".lstrip("/") for one in inside if not one.startswith(".")]


def data_folder(dataset_id: str, root: Path | None = None) -> Path:
    """Return the `data` folder of a dataset.

    Args:
        dataset_id: Minari id.
        root: the folder of all datasets; by default Minari's.

    Raises:
        UserError: the id is malformed or unknown, its folder holds no data, or something in it
            leads out of it.
    """
    check_id(dataset_id)
    root = minari_root() if root is None else root
    folder = root / dataset_id
    if not folder.is_dir():
        known = local_dataset_ids()
        near = nearest(dataset_id, known) or ("" if known else "; there are no datasets yet")
        raise UserError(f"no dataset {dataset_id!r} in {root}{near}")
    data = folder / "data"
    list(plain_files(folder, f"dataset {dataset_id!r}"))
    if not (data / METADATA_FILE).is_file():
        raise UserError(
            f"dataset {dataset_id!r} is half-built, {data / METADATA_FILE} is missing; "
            f"delete {folder} and build or download it again"
        )
    return data


def plain_files(folder: Path, what: str) -> Iterator[Path]:
    """Yield all files in a folder, once it is sure of each that it is one.

    Raises:
        UserError: the folder holds a symbolic link, something that is no file, or folders nested
            too deeply; `what` names it.
    """
    # Links are refused even where they stay inside: nobody writes them, and a target that is
    # inside now need not be when it is opened.
    waiting = [(folder, 0)]
    while waiting:
        parent, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            raise UserError(f"{what}: {parent} is nested too deeply: refused")
        with os.scandir(parent) as entries:
            for entry in entries:
                if entry.is_symlink():
                    raise UserError(f"{what}: {entry.path} is a link to elsewhere: refused")
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((Path(entry.path), depth + 1))
                elif entry.is_file(follow_symlinks=False):
                    yield Path(entry.path)
                else:
                    raise UserError(f"{what}: {entry.path} is neither a file nor a folder: refused")


def read_metadata(dataset_id: str, root: Path | None = None) -> dict[str, Any]:
    """Return a dataset's metadata, the keys that every dataset has being checked.

    Args:
        dataset_id: Minari id.
        root: the folder of all datasets; by default Minari's.

    Raises:
        UserError: the dataset is unknown, half-built, or its metadata are damaged.
    """
    path = data_folder(dataset_id, root) / METADATA_FILE
    content = read_regular_file(path, MAX_BYTES)
    try:
        metadata = parse_metadata(content)
    except UserError as error:
        raise UserError(
            f"dataset {dataset_id!r}: {path} is damaged ({error}); "
            f"delete {path.parent.parent} and build or download it again"
        ) from error
    if metadata["dataset_id"] != dataset_id:
        raise UserError(
            f"dataset {dataset_id!r}: its metadata name it {metadata['dataset_id']!r}; "
            "move its folder to where it belongs"
        )
    return metadata
