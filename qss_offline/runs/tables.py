"""Tables of returns as CSV files, such as `returns.csv`: a dataclass is a row, a field a column."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import MISSING, astuple, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_type_hints

from qss_offline.errors import UserError
from qss_offline.files import read_regular_file, write_bytes

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_MAX_BYTES = 256 << 20

RowT = TypeVar("RowT", bound="DataclassInstance")


def columns_of(row_type: type[Any]) -> tuple[str, ...]:
    """Return the columns of a table of such rows."""
    return tuple(field.name for field in fields(row_type))


def write_table(path: Path, row_type: type[RowT], rows: Sequence[RowT]) -> None:
    """Write rows in their order."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns_of(row_type))
    writer.writerows(astuple(row) for row in rows)
    write_bytes(path, text.getvalue().encode())


def read_table(path: Path, row_type: type[RowT], *, others: bool = False) -> list[RowT]:
    """Read rows that `write_table` wrote, or a table that has their columns.

    Args:
        path: the file.
        row_type: of the rows. An empty cell is None where the field may be; the column of a field
            with a default may be missing.
        others: whether the table may have other columns, too, which are left out.

    Raises:
        UserError: the file can't be read, has other columns or holds something that isn't of the
            field's type.
    """
    columns, types = columns_of(row_type), get_type_hints(row_type)
    needed = [field.name for field in fields(row_type) if field.default is MISSING]
    try:
        reader = csv.DictReader(_text(path))
        there = tuple(reader.fieldnames or ())
        lacking = [f"no column {name!r}; " for name in needed if name not in there]
        if lacking or (there != columns and not others):
            missing = lacking[0] if lacking else ""
            raise UserError(f"{path}: {missing}expected the columns {', '.join(columns)}")
        held = [name for name in columns if name in there]
        return [
            row_type(**{name: _value(line[name], types[name]) for name in held}) for line in reader
        ]
    except (TypeError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: {error}") from error


def _text(path: Path) -> io.StringIO:
    return io.StringIO(read_regular_file(path, _MAX_BYTES).decode(), newline="")


def _value(text: str, kind: Any) -> Any:
    options = get_args(kind)
    if options:
        return None if text == "" else options[0](text)
    return kind(text)
