"""Recordings in `.npz`, Parquet and CSV files: read with bounded memory, written atomically.

A file is read in a child process (see `sandbox`). The columns that `export_dataset` writes are
the names that the importer looks for by itself; others are named by `ColumnNames`.
"""

from __future__ import annotations

import csv
import fnmatch
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from qss_offline.data import sandbox
from qss_offline.data.arrays import transitions_of
from qss_offline.data.importing import NOTHING_KNOWN, About, store
from qss_offline.data.scratch import scratch_folder
from qss_offline.data.write import StoredDatasets
from qss_offline.errors import UserError, nearest
from qss_offline.parallel.processes import Tick
from qss_offline.parallel.reporting import Notice, ProgressFactory, no_progress, print_notice

Array: TypeAlias = npt.NDArray[Any]

SUFFIXES = (".npz", ".parquet", ".csv")
_MATRICES = ("observations", "next_observations", "actions")
_OPTIONAL = ("next_observations", "actions", "truncations", "episodes")


@dataclass(frozen=True)
class ColumnNames:
    """Which columns of a file hold what.

    Each is a comma-separated list of names or patterns (`x,y,vel_*`), in the order in which the
    numbers are to stand; a pattern's matches come in the file's order. In a Parquet file a
    column may hold a list of numbers in each row, in a `.npz` an array may be a matrix.

    Attributes:
        observations: before each step.
        rewards: one column.
        terminations: one column.
        truncations: one column; left out if the file has none of that name.
        next_observations: likewise.
        actions: likewise.
        episodes: likewise.
    """

    observations: str = "observations,observations_*,obs_*"
    rewards: str = "rewards,reward"
    terminations: str = "terminations,terminated"
    truncations: str = "truncations,truncated"
    next_observations: str = "next_observations,next_observations_*,next_obs_*"
    actions: str = "actions,actions_*,action,action_*"
    episodes: str = "episodes,episode"

    def resolve(self, present: Sequence[str]) -> dict[str, list[str]]:
        """Return the file's columns for each field.

        Raises:
            UserError: a name that was given, or a field that every recording has, is missing.
        """
        found: dict[str, list[str]] = {}
        for field in fields(self):
            given = getattr(self, field.name)
            names = self._matching(field.name, given, present, given != field.default)
            if not names and field.name not in _OPTIONAL:
                raise UserError(
                    f"{field.name}: no column {given.split(',')[0]!r}; the file has "
                    f"{', '.join(present[:12])}"
                )
            if field.name not in _MATRICES and len(names) > 1:
                raise UserError(f"{field.name}: expected one column, got {', '.join(names)}")
            if names:
                found[field.name] = names
        return found

    @staticmethod
    def _matching(field: str, given: str, present: Sequence[str], strict: bool) -> list[str]:
        names: list[str] = []
        for pattern in (part.strip() for part in given.split(",")):
            matches = [name for name in present if fnmatch.fnmatchcase(name, pattern)]
            if strict and not matches:
                raise UserError(f"{field}: no column {pattern!r}{nearest(pattern, present)}")
            names += [name for name in matches if name not in names]
        return names


def from_file(
    path: Path,
    dataset_id: str,
    *,
    names: ColumnNames | None = None,
    observation_only: bool = False,
    about: About = NOTHING_KNOWN,
    overwrite: bool = False,
    notice: Notice = print_notice,
    progress: ProgressFactory = no_progress,
) -> StoredDatasets:
    """Store a recording in a `.npz`, `.parquet` or `.csv` file as Minari datasets.

    Args:
        path: the file; one row is one step (see `from_arrays` for the layouts).
        dataset_id: `namespace/.../name`.
        names: which columns hold what.
        observation_only: leave the actions out.
        about: what else is known.
        overwrite: replace datasets that exist.
        notice: called with a line about steps that can't be kept and ends that were assumed.
        progress: makes a reporter.

    Raises:
        UserError: the file can't be read, a column is missing or holds no numbers, it wouldn't
            fit into memory, or the datasets can't be written.
    """
    given = read_columns(path, names or ColumnNames())
    if observation_only:
        given.pop("actions", None)
    try:
        transitions = transitions_of(given, notice)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return store(
        transitions,
        dataset_id,
        about,
        {"kind": "a file", "file": path.name},
        overwrite=overwrite,
        progress=progress,
    )


def read_columns(path: Path, names: ColumnNames) -> dict[str, Array]:
    """Return a file's columns by field, matrices and vectors of numbers.

    Raises:
        UserError: the file can't be read, or a column is missing or holds no numbers.
    """
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: expected a file that ends in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    # A text file holds a number in two bytes or more, a compressed one in less: each reader
    # looks at the sizes that the file declares before it takes memory.
    expected = sandbox.available_memory()
    with scratch_folder() as folder:
        request = {
            "path": str(path.absolute()),
            "names": vars(names),
            "target": str(folder),
        }
        try:
            reply = sandbox.call(_read, request, expected)
            return {
                str(name): np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
                for name in reply["fields"]
            }
        except (UserError, ValueError, OSError) as error:
            raise UserError(f"{path}: {' '.join(str(error).split())}") from error


def _read(request: dict[str, Any], tick: Tick) -> dict[str, Any]:
    """Read a file's columns and write each field as `.npy`; runs in the child."""
    path, names = Path(request["path"]), ColumnNames(**request["names"])
    reader = {".npz": _read_npz, ".parquet": _read_parquet, ".csv": _read_csv}[path.suffix]
    columns = reader(path, names)
    for name, column in columns.items():
        if column.dtype.kind not in "biuf":
            raise UserError(f"{name}: expected numbers, got {column.dtype}")
        np.save(Path(request["target"], f"{name}.npy"), column, allow_pickle=False)
    return {"fields": list(columns)}


def _read_npz(path: Path, names: ColumnNames) -> dict[str, Array]:
    sizes: dict[str, int] = {}
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
            size = dtype.itemsize
            for length in shape:
                size *= int(length)
            if size != member.file_size - header:
                raise UserError(
                    f"{member.filename} claims {size:,} bytes, but holds "
                    f"{member.file_size - header:,}"
                )
            sizes[member.filename.removesuffix(".npy")] = size
    wanted = names.resolve(list(sizes))
    sandbox.check_memory(2 * sum(sizes[n] for part in wanted.values() for n in part), path.name)
    with np.load(path, allow_pickle=False) as arrays:
        return {field: _joined([arrays[n] for n in part]) for field, part in wanted.items()}


def _read_parquet(path: Path, names: ColumnNames) -> dict[str, Array]:
    with pa.parquet.ParquetFile(path) as file:
        wanted = names.resolve(file.schema_arrow.names)
        sandbox.check_memory(3 * _unpacked_bytes(file.metadata, wanted), path.name)
        table = file.read(columns=[name for part in wanted.values() for name in part])
    return {field: _table_columns(table, part) for field, part in wanted.items()}


def _unpacked_bytes(metadata: pa.parquet.FileMetaData, wanted: dict[str, list[str]]) -> int:
    """Return what the wanted columns take as arrays: equal values take next to nothing in a file,
    and a row may hold a list of any length."""
    names = {name for part in wanted.values() for name in part}
    total = 0
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        for column in map(group.column, range(group.num_columns)):
            path = column.path_in_schema  # of a list NAME.list.element
            if any(path == name or path.startswith(f"{name}.") for name in names):
                total += max(column.total_uncompressed_size, 8 * column.num_values)
    return total


def _read_csv(path: Path, names: ColumnNames) -> dict[str, Array]:
    sandbox.check_memory(8 * path.stat().st_size, path.name)
    with path.open(newline="", encoding="utf-8") as file:
        header = next(csv.reader([file.readline(1 << 20)]), [])
    wanted = names.resolve(header)
    used = [name for part in wanted.values() for name in part]
    table = pa.csv.read_csv(
        path,
        read_options=pa.csv.ReadOptions(use_threads=False),
        convert_options=pa.csv.ConvertOptions(include_columns=used, strings_can_be_null=False),
    )
    return {field: _table_columns(table, part) for field, part in wanted.items()}


def _table_columns(table: pa.Table, names: list[str]) -> Array:
    arrays = []
    for name in names:
        column = table[name]
        if column.null_count:
            raise UserError(f"{name}: {column.null_count} values are missing")
        column = column.combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = pa.concat_arrays(column.chunks)
        kind = column.type
        if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
            arrays.append(_list_column(name, column))
        else:
            arrays.append(column.to_numpy(zero_copy_only=False))
    return _joined(arrays)


def _list_column(name: str, column: Any) -> Array:
    """Return a column of lists of one length as a matrix."""
    rows = len(column)
    values = column.flatten()
    width = len(values) // rows if rows else 0
    lengths = pa.compute.list_value_length(column).to_numpy(zero_copy_only=False)
    if width == 0 or not (lengths == width).all():
        raise UserError(f"{name}: its lists are of different lengths or empty")
    if values.null_count:
        raise UserError(f"{name}: {values.null_count} values are missing")
    matrix: Array = values.to_numpy(zero_copy_only=False).reshape(rows, width)
    return matrix


def _joined(arrays: list[Array]) -> Array:
    if len(arrays) == 1:
        return arrays[0]
    return np.column_stack(arrays)
