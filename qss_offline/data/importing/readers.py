"""Recordings in files and folders as named columns: read in a child process, with bounded memory.

The child finds the roles, reads the columns that serve one, and writes each as `.npy`, which this
process maps (see `sandbox`). What is read: `.npz`, Parquet, CSV, HDF5 (D4RL's, or a group for each
episode), folders of them, partitioned ones, and LeRobot's datasets.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import h5py
import numpy as np
from h5py import h5d

from qss_offline.data import sandbox
from qss_offline.data.hdf5 import arrays_of, read_array, refuse_outside
from qss_offline.data.importing.names import ColumnNames, Kind, Roles, by_number, resolve
from qss_offline.data.importing.plan import Source
from qss_offline.data.importing.rules import ImportRules
from qss_offline.data.importing.tables import (
    dialect_of,
    parquet_bytes,
    parquet_kinds,
    read_csv,
    read_parquet,
)
from qss_offline.data.importing.values import Array, as_column, split_streams
from qss_offline.data.scratch import scratch_folder
from qss_offline.errors import UserError, shown
from qss_offline.files import parse_json, read_regular_file
from qss_offline.parallel.processes import Tick

_ENDS = {"terminations", "truncations", "ends", "starts", "episodes"}
_INFO_BYTES = 16 << 20
_MOST_FILES = 1 << 20
_EPISODE_GROUP = re.compile(
    r"(?P<group>(.*/)?(demo|episode|ep|traj|trajectory|rollout|trial)_?\d+)/(?P<rest>.+)"
)
_IMAGE_DIMENSIONS = 3
_HIDDEN = (".", "_")
_KINDS: tuple[Kind, ...] = ("numbers", "text", "other")

_Columns: TypeAlias = tuple[dict[str, Array], Sequence[int]]


class _Format(NamedTuple):
    """How files of a kind are read; all of it runs in the child.

    Attributes:
        kinds: from a file to its columns.
        size: from a file and names of columns to the bytes that these take as arrays.
        read: from a file, names of columns, and which of them may be text, to the columns, and the
            rows of each group of a file that has one for each episode.
    """

    kinds: Callable[[Path], dict[str, Kind]]
    size: Callable[[Path, Sequence[str]], int]
    read: Callable[[Path, Sequence[str], Sequence[str]], _Columns]


def is_readable(source: str) -> bool:
    """Return whether text names a file or folder that can be imported, and no dataset's id."""
    path = Path(source)
    return (
        path.suffix.lower() in SUFFIXES
        or path.is_file()
        or (path.is_dir() and not (path / "data" / "metadata.json").is_file())
    )


def read_source(path: Path, names: ColumnNames, rules: ImportRules) -> Source:
    """Read the columns of a recording that serve a role.

    Args:
        path: a file, or a folder of files of one kind.
        names: which columns hold what.
        rules: which to ignore.

    Raises:
        UserError: it can't be read, wouldn't fit into memory, or its columns serve no role.
    """
    files, info = _files(path)
    # A text file holds a number in two bytes or more, a compressed one in less: each reader
    # looks at the sizes that the file declares before it takes memory.
    expected = sandbox.available_memory()
    with scratch_folder() as folder:
        request = {
            "files": [str(file.absolute()) for file in files],
            "shown": [str(file.relative_to(path)) for file in files],
            "partitions": [_partition(file.relative_to(path)) for file in files],
            "names": asdict(names),
            "ignore": list(rules.ignore),
            "order": rules.order,
            "target": str(folder),
        }
        try:
            reply = sandbox.call(_read, request, expected)
            columns = {
                str(name): np.load(folder / f"{index}.npy", mmap_mode="r", allow_pickle=False)
                for index, name in enumerate(reply["columns"])
            }
        except (UserError, ValueError, OSError) as error:
            raise UserError(f"{path}: {' '.join(str(error).split())}") from error
    roles = Roles(
        {str(role): tuple(map(str, found)) for role, found in reply["roles"]["columns"].items()},
        *(tuple(map(str, reply["roles"][name])) for name in ("spare", "unused", "ignored")),
    )
    parts = [int(rows) for rows in reply["parts"]]
    columns, streams = split_streams(columns, roles)
    if len(parts) > 1 and not streams and _ENDS.isdisjoint(roles.columns):
        name = "each file" if len(files) > 1 else "each group"
        columns[name] = np.repeat(np.arange(len(parts)), parts)
        roles = replace(roles, columns={**roles.columns, "episodes": (name,)})
    kind = "a LeRobot dataset" if info else "a folder of files" if path.is_dir() else "a file"
    return Source(
        name=str(path),
        made={"kind": kind, "file": path.name} | ({"files": len(files)} if len(files) > 1 else {}),
        columns=columns,
        roles=roles,
        parts=streams or (parts if len(parts) > 1 else ()),
        labels=_labels(info, columns),
        notices=_incomplete(info, columns),
    )


def _files(path: Path) -> tuple[list[Path], dict[str, Any]]:
    """Return the files of a recording in their order, and what a LeRobot dataset says of itself."""
    if not path.is_dir():
        if path.suffix.lower() not in SUFFIXES:
            raise UserError(f"{path}: expected a folder, or a file that ends in {_SUFFIX_LIST}")
        if not path.is_file():
            raise UserError(f"{path} does not exist")
        return [path], {}
    info: dict[str, Any] = {}
    folder = path
    if (path / "meta" / "info.json").is_file() and (path / "data").is_dir():
        found = parse_json(
            read_regular_file(path / "meta" / "info.json", _INFO_BYTES), "meta/info.json"
        )
        info = found if isinstance(found, dict) else {}
        folder = path / "data"
    files = []
    for parent, folders, inside in os.walk(folder):
        # Jupyter, for one, keeps copies of files in a hidden folder.
        folders[:] = [name for name in folders if not name.startswith(_HIDDEN)]
        files += [Path(parent, name) for name in inside if not name.startswith(_HIDDEN)]
        if len(files) > _MOST_FILES:
            raise UserError(f"{path} holds more than {_MOST_FILES:,} files")
    files = [file for file in files if file.suffix.lower() in SUFFIXES and file.is_file()]
    formats = {SUFFIXES[file.suffix.lower()] for file in files}
    if len(formats) != 1:
        kinds = ", ".join(sorted({file.suffix for file in files})) or f"none of {_SUFFIX_LIST}"
        raise UserError(f"{path}: expected files of one kind, found {kinds}")
    by_name = {str(file): file for file in files}
    return [by_name[name] for name in by_number(sorted(by_name))], info


def _partition(file: Path) -> dict[str, str]:
    """Return what the folders of a partitioned dataset say: `episode=3/part-0.parquet`."""
    pairs = [part.partition("=") for part in file.parts[:-1]]
    return {name: value for name, mark, value in pairs if mark}


def _labels(info: Mapping[str, Any], columns: Mapping[str, Array]) -> dict[str, list[str]]:
    """Return what LeRobot's features call the numbers of a column."""
    features = info.get("features")
    found: dict[str, list[str]] = {}
    for name, column in columns.items():
        feature = features.get(name) if isinstance(features, dict) else None
        names = feature.get("names") if isinstance(feature, dict) else None
        if isinstance(names, dict) and len(names) == 1:
            names = next(iter(names.values()))
        if (
            isinstance(names, list)
            and column.ndim == 2
            and len(names) == column.shape[1] == len(set(map(str, names)))
        ):
            found[name] = [f"{name}.{part}" for part in names]
    return found


def _incomplete(info: Mapping[str, Any], columns: Mapping[str, Array]) -> tuple[str, ...]:
    rows = len(next(iter(columns.values()), ()))
    total = info.get("total_frames")
    if isinstance(total, int) and total != rows:
        return (f"meta/info.json says {total:,} frames, {rows:,} are here",)
    return ()


# --- in the child -------------------------------------------------------------------------------


def _read(request: dict[str, Any], tick: Tick) -> dict[str, Any]:
    """Read the columns that serve a role and write each as `.npy`."""
    files = [Path(file) for file in request["files"]]
    partitions: list[dict[str, str]] = request["partitions"]
    reader = SUFFIXES[files[0].suffix.lower()]
    shown_files = [f"{name}: " if len(files) > 1 else "" for name in request["shown"]]
    kinds: list[dict[str, Kind]] = []
    for file, where, partition in zip(files, shown_files, partitions, strict=True):
        with _told(where):
            found = reader.kinds(file)
        kinds.append(found | {name: "text" for name in partition if name not in found})
    present = _of_all(kinds)
    roles = resolve(present, ColumnNames(**request["names"]), request["ignore"], request["order"])
    _refuse_gaps(roles, kinds, request["shown"])
    own = [[name for name in roles.read if name not in partition] for partition in partitions]
    text = roles.columns.get("episodes", ())
    sandbox.check_memory(sum(map(reader.size, files, own)), files[0].parent.name)
    pieces: dict[str, list[Array]] = {name: [] for name in roles.read}
    parts: list[int] = []
    for index, (file, where, partition) in enumerate(
        zip(files, shown_files, partitions, strict=True)
    ):
        with _told(where):
            read, groups = reader.read(file, own[index], text)
        groups = groups or [max(map(len, read.values()), default=0)]
        parts += groups
        for name in roles.read:
            if name in partition:
                read[name] = np.full(sum(groups), partition[name])
            pieces[name].append(read[name])
        tick(index)
    for index, name in enumerate(roles.read):
        column = _joined(name, pieces.pop(name))
        if name in text or column.dtype.kind not in "biuf":
            column = as_column(name, column, text=name in text)
        np.save(Path(request["target"], f"{index}.npy"), column, allow_pickle=False)
    return {"roles": asdict(roles), "columns": list(roles.read), "parts": parts}


@contextmanager
def _told(where: str) -> Iterator[None]:
    """Name the file that is read in what is refused of it."""
    try:
        yield
    except (KeyError, UserError) as error:
        raise UserError(f"{where}{error}") from error


def _of_all(kinds: Sequence[Mapping[str, Kind]]) -> dict[str, Kind]:
    """Return the columns of all files. Of several kinds, the one that can serve most counts."""
    present: dict[str, Kind] = {}
    for one in kinds:
        for name, kind in one.items():
            present[name] = min(present.get(name, kind), kind, key=_KINDS.index)
    return present


def _refuse_gaps(roles: Roles, kinds: Sequence[Mapping[str, Kind]], files: Sequence[str]) -> None:
    """Refuse a column that serves a role, and that a file lacks: what it says would be lost.

    Raises:
        UserError: there is one.
    """
    for role, names in (*roles.columns.items(), ("ends", roles.spare)):
        for name in names:
            has = [name in one for one in kinds]
            if not all(has):
                raise UserError(
                    f"{files[has.index(False)]}: no column {shown(name)} for {role}, which "
                    f"{files[has.index(True)]} has; add it, or leave it out with --ignore {name}"
                )


def _joined(name: str, pieces: list[Array]) -> Array:
    if len(pieces) == 1:
        return pieces[0]
    try:
        return np.concatenate(pieces)
    except ValueError as error:
        raise UserError(f"{name}: its files don't fit together ({error})") from error


def _npz() -> _Format:
    def headers(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        found = {}
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                with archive.open(member) as file:
                    version = np.lib.format.read_magic(file)
                    if version == (1, 0):
                        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
                    else:
                        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
                    header = file.tell()
                if dtype.hasobject:
                    raise UserError(f"{member.filename} holds Python objects: refused")
                size = _bytes(shape, dtype)
                if size != member.file_size - header:
                    raise UserError(
                        f"{member.filename} claims {size:,} bytes, but holds "
                        f"{member.file_size - header:,}"
                    )
                found[member.filename.removesuffix(".npy")] = shape, dtype
        return found

    def size(path: Path, names: Sequence[str]) -> int:
        known = headers(path)
        return sum(2 * _bytes(*known[name]) for name in names if name in known)

    def read(path: Path, names: Sequence[str], text: Sequence[str]) -> _Columns:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: _own(arrays, name) for name in names}, ()

    return _Format(
        lambda path: {name: _kind(*header) for name, header in headers(path).items()}, size, read
    )


def _own(arrays: Any, name: str) -> Array:
    if name not in arrays:
        raise UserError(f"no column {shown(name)}")
    return np.asarray(arrays[name])


def _bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    size = dtype.itemsize
    for length in shape:
        size *= int(length)
    return size


def _kind(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Kind:
    if not shape or len(shape) > _IMAGE_DIMENSIONS or (len(shape) > 2 and dtype == np.uint8):
        return "other"
    if dtype.kind in "US":
        return "text"
    return "numbers" if dtype.kind in "biufmM" else "other"


def _parquet() -> _Format:
    def read(path: Path, names: Sequence[str], text: Sequence[str]) -> _Columns:
        return read_parquet(path, names), ()

    return _Format(parquet_kinds, lambda path, names: 3 * parquet_bytes(path, names), read)


def _csv() -> _Format:
    def kinds(path: Path) -> dict[str, Kind]:
        # Whether a column holds text is seen when it is read.
        return dict.fromkeys(dialect_of(path).header, "numbers")

    def read(path: Path, names: Sequence[str], text: Sequence[str]) -> _Columns:
        return read_csv(path, names, text), ()

    return _Format(kinds, lambda path, _: 8 * path.stat().st_size, read)


def _hdf5() -> _Format:
    def find(path: Path) -> tuple[h5py.File, dict[str, list[Any]]]:
        """Return a file and its arrays, those of its episodes' groups under one name.

        What some of the groups lack has no arrays.
        """
        file = h5py.File(path, "r")
        arrays = dict(arrays_of(file.id))
        grouped: dict[str, dict[str, Any]] = {}
        for name, array in arrays.items():
            match = _EPISODE_GROUP.fullmatch(name)
            if match:
                grouped.setdefault(match["rest"], {})[match["group"]] = array
        if sum(map(len, grouped.values())) < len(arrays) / 2:
            return file, {name: [array] for name, array in arrays.items()}
        whole = max(grouped.values(), key=len)
        groups = by_number(sorted(whole))
        return file, {
            name: [found[group] for group in groups] if found.keys() == whole.keys() else []
            for name, found in grouped.items()
        }

    def kinds(path: Path) -> dict[str, Kind]:
        file, arrays = find(path)
        with file:
            return {
                name: _kind(found[0].shape, found[0].dtype) if found else "other"
                for name, found in arrays.items()
            }

    def size(path: Path, names: Sequence[str]) -> int:
        file, arrays = find(path)
        with file:
            return 2 * sum(
                _bytes(one.shape, one.dtype) for name in names for one in arrays.get(name, ())
            )

    def read(path: Path, names: Sequence[str], text: Sequence[str]) -> _Columns:
        file, arrays = find(path)
        with file:
            columns = {}
            for name in names:
                if not arrays.get(name):
                    where = " in every group" if name in arrays else ""
                    raise UserError(f"no column {shown(name)}{where}")
                for one in arrays[name]:
                    if not isinstance(one, h5d.DatasetID):
                        raise UserError(f"{shown(name)} is no array")
                    refuse_outside(one, f"it keeps {shown(name)}")
                columns[name] = _joined(name, [read_array(one) for one in arrays[name]])
            # Observations may be one more than steps in each group.
            counts = [[one.shape[0] for one in arrays[name]] for name in names]
            several = bool(counts) and len(counts[0]) > 1
            return columns, np.min(counts, axis=0).tolist() if several else ()

    return _Format(kinds, size, read)


_CSV, _HDF5, _NPZ, _PARQUET = _csv(), _hdf5(), _npz(), _parquet()
SUFFIXES = {
    ".npz": _NPZ,
    ".parquet": _PARQUET,
    ".pq": _PARQUET,
    ".csv": _CSV,
    ".tsv": _CSV,
    ".txt": _CSV,
    ".hdf5": _HDF5,
    ".h5": _HDF5,
}
_SUFFIX_LIST = ", ".join(SUFFIXES)
