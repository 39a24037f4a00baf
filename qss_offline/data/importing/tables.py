"""Arrow's tables as named columns: Parquet and CSV files, frames of pandas and polars."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet

from qss_offline.data.importing.names import Kind
from qss_offline.data.importing.values import Array
from qss_offline.errors import UserError, shown

_DELIMITERS = ",;\t|"
_HEADER_BYTES = 1 << 20
_SNIFFED_LINES = 100
_MARKS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig"))


def flat_table(table: pa.Table) -> pa.Table:
    """Return a table whose structs are columns of their own, `STRUCT.FIELD`."""
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    return table


def kind_of(kind: pa.DataType) -> Kind:
    """Return what a column of a type can serve as."""
    types = pa.types
    if types.is_dictionary(kind):
        return kind_of(kind.value_type)
    if is_list(kind):
        inner = kind.value_type
        while is_list(inner):
            inner = inner.value_type
        return "numbers" if kind_of(inner) == "numbers" else "other"
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text"
    numeric = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    moment = types.is_temporal(kind) and not types.is_interval(kind)
    if numeric or moment or types.is_boolean(kind) or types.is_null(kind):
        return "numbers"
    return "other"


def is_list(kind: pa.DataType) -> bool:
    """Return whether a type is a list of any kind."""
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def column_of(table: pa.Table, name: str) -> Array:
    """Return a column as an array, lists as a matrix; what is missing as NaN, text as text.

    Raises:
        UserError: its lists are of different lengths, or another column has its name.
    """
    if table.column_names.count(name) > 1:
        raise UserError(f"{name}: two columns have this name; rename one of them")
    return _array(name, table[name].combine_chunks())


def _array(name: str, column: Any) -> Array:
    kind = column.type
    if isinstance(column, pa.ExtensionArray):
        return _array(name, column.storage)
    if pa.types.is_dictionary(kind):
        return _array(name, column.dictionary_decode())
    if is_list(kind):
        return _matrix(name, column)
    if kind_of(kind) == "text":
        if column.null_count:
            raise UserError(f"{name}: {column.null_count} labels are missing")
        return np.array(column.to_pylist(), dtype=str)
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    if pa.types.is_decimal(kind):
        column = column.cast(pa.float64())
    elif pa.types.is_time(kind):
        column = column.cast(pa.time64("us"), safe=False).view(pa.int64())
    elif pa.types.is_date(kind):
        column = column.cast(pa.timestamp("ms"))
    if pa.types.is_boolean(kind) and column.null_count:
        column = column.cast(pa.int8())
    if pa.types.is_timestamp(column.type) or pa.types.is_duration(column.type):
        column = column.view(pa.int64())
    values: Array = np.asarray(column.to_numpy(zero_copy_only=False))
    return values.astype(np.float32) if values.dtype == np.float16 else values


def _matrix(name: str, column: Any) -> Array:
    rows = len(column)
    missing = np.asarray(column.is_null().to_numpy(zero_copy_only=False), np.bool_)
    whole = column.filter(pa.array(~missing)) if missing.any() else column
    values = whole.flatten()
    lengths = pa.compute.list_value_length(whole).to_numpy(zero_copy_only=False)
    width = int(lengths[0]) if len(lengths) else 0
    if width == 0 or not (lengths == width).all():
        raise UserError(f"{name}: its lists are of different lengths or empty")
    inner = _array(name, values).reshape(len(whole), -1)
    if not missing.any():
        return inner
    filled = np.full((rows, inner.shape[1]), np.nan)
    filled[~missing] = inner
    return filled


# --- Parquet ----------------------------------------------------------------------------------


def parquet_kinds(path: Path) -> dict[str, Kind]:
    """Return the columns of a Parquet file, structs taken apart."""
    with pa.parquet.ParquetFile(path) as file:
        empty = flat_table(file.schema_arrow.empty_table())
    return {field.name: kind_of(field.type) for field in empty.schema}


def parquet_bytes(path: Path, names: Sequence[str]) -> int:
    """Return what columns take as arrays: equal values take next to nothing in a file, and a row
    may hold a list of any length."""
    total = 0
    with pa.parquet.ParquetFile(path) as file:
        for index in range(file.metadata.num_row_groups):
            group = file.metadata.row_group(index)
            for column in map(group.column, range(group.num_columns)):
                inside = column.path_in_schema  # of a list NAME.list.element
                if any(inside == name or inside.startswith(f"{name}.") for name in names):
                    total += max(column.total_uncompressed_size, 8 * column.num_values)
    return total


def read_parquet(path: Path, names: Sequence[str]) -> dict[str, Array]:
    """Return columns of a Parquet file."""
    with pa.parquet.ParquetFile(path) as file:
        table = flat_table(file.read(columns=list(names)))
    return {name: column_of(table, name) for name in names}


# --- CSV --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dialect:
    """How a text file is written.

    Attributes:
        header: names of the columns, without spaces around them.
        delimiter: between cells.
        decimal_comma: whether numbers have commas for points.
        encoding: of its text.
        skip: lines before the numbers.
        twice: names that several columns have.
    """

    header: tuple[str, ...]
    delimiter: str
    decimal_comma: bool
    encoding: str
    skip: int
    twice: tuple[str, ...]


def dialect_of(path: Path) -> Dialect:
    """Look at the first lines of a text file.

    Raises:
        UserError: it has no header.
    """
    with path.open("rb") as file:
        begin = file.read(_HEADER_BYTES)
    encoding = next((name for mark, name in _MARKS if begin.startswith(mark)), "utf-8")
    try:
        text = begin.decode(encoding)
    except UnicodeDecodeError as error:
        # A character may be cut at the end of what was read.
        cut = encoding == "utf-8" and error.start >= len(begin) - 4 and len(begin) == _HEADER_BYTES
        encoding = encoding if cut else "latin-1"
        text = begin.decode(encoding, errors="replace")
    lines = text.splitlines()
    skip, delimiter = 1, None
    if lines and re.fullmatch(r"sep=.", lines[0].strip(), re.IGNORECASE):
        delimiter, lines, skip = lines[0].strip()[-1], lines[1:], 2
    if not lines or not lines[0].strip():
        raise UserError("its first line holds no names of columns")
    if delimiter is None:
        bare = re.sub(r'"[^"]*"', "", lines[0])
        delimiter = max(_DELIMITERS, key=bare.count)
    names = [name.strip() for name in next(csv.reader([lines[0]], delimiter=delimiter))]
    twice = [name for name, count in Counter(names).items() if count > 1]
    for place, name in enumerate(names):
        if not name or name in names[:place]:
            names[place] = f"{name or 'column'} #{place + 1}"
    if all(re.fullmatch(r"[-+\d.eE]+", name) for name in names):
        raise UserError("its first line holds numbers, and no names of columns")
    cells = [cell.strip(' "') for line in lines[1:_SNIFFED_LINES] for cell in line.split(delimiter)]
    commas = any(re.fullmatch(r"[-+]?\d+,\d+([eE][-+]?\d+)?", cell) for cell in cells)
    points = any(re.fullmatch(r"[-+]?\d*\.\d+([eE][-+]?\d+)?", cell) for cell in cells)
    return Dialect(tuple(names), delimiter, commas and not points, encoding, skip, tuple(twice))


def read_csv(path: Path, names: Sequence[str], text: Sequence[str]) -> dict[str, Array]:
    """Return columns of a text file.

    Args:
        path: the file.
        names: which.
        text: which of them may hold text.

    Raises:
        UserError: two columns have a name, or text stands among numbers.
    """
    dialect = dialect_of(path)
    for name in names:
        if name in dialect.twice:
            raise UserError(f"its header names {shown(name)} twice")
    table = pa.csv.read_csv(
        path,
        read_options=pa.csv.ReadOptions(
            use_threads=False,
            column_names=list(dialect.header),
            skip_rows=dialect.skip,
            encoding="utf-8" if dialect.encoding == "utf-8-sig" else dialect.encoding,
        ),
        parse_options=pa.csv.ParseOptions(delimiter=dialect.delimiter),
        convert_options=pa.csv.ConvertOptions(
            include_columns=list(names),
            strings_can_be_null=False,
            decimal_point="," if dialect.decimal_comma else ".",
        ),
    )
    columns = {name: column_of(table, name) for name in names}
    for name, column in columns.items():
        if column.dtype.kind == "U" and name not in text:
            row = next((i for i, cell in enumerate(column) if not _is_number(cell)), 0)
            raise UserError(
                f"{name}: expected numbers, got text ({shown(str(column[row]))} in row {row}); "
                f"--ignore {name} leaves it out"
            )
    return columns


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


# --- frames -----------------------------------------------------------------------------------


def frame_table(frame: Any) -> pa.Table:
    """Return a frame of pandas, polars or Arrow as a table.

    Raises:
        UserError: it is none.
    """
    try:
        if hasattr(frame, "collect_schema") and hasattr(frame, "collect"):
            frame = frame.collect()  # a lazy frame of polars
        if hasattr(frame, "to_arrow"):
            frame = frame.to_arrow()
        return flat_table(pa.table(frame))
    except (TypeError, ValueError, NotImplementedError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"frame: expected a table of pandas, polars or Arrow, or a dict of columns; got "
            f"{type(frame).__name__} ({reason})"
        ) from error
