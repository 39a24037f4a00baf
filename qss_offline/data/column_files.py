"""Columns that are written to disk piece by piece, and mapped when they are whole.

What is recorded or read goes through these, one file a column, so that neither takes more memory
for a larger dataset.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

_BUFFER_BYTES = 1 << 18


@dataclass(frozen=True)
class ColumnType:
    """What a column holds.

    Attributes:
        dtype: of its values.
        width: values in a row; None for a flat column, (N,).
    """

    dtype: type[np.generic]
    width: int | None = None

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return np.dtype(self.dtype).itemsize * (1 if self.width is None else self.width)

    def empty(self, rows: int) -> npt.NDArray[Any]:
        """Return an array for that many rows."""
        return np.empty(rows if self.width is None else (rows, self.width), self.dtype)


ColumnTypes = dict[str, ColumnType]


def column_types(obs_dim: int, act_dim: int | None) -> ColumnTypes:
    """Return the columns of `Transitions`, without `actions` where `act_dim` is None."""
    types = {
        "observations": ColumnType(np.float32, obs_dim),
        "next_observations": ColumnType(np.float32, obs_dim),
        "rewards": ColumnType(np.float32),
        "terminations": ColumnType(np.bool_),
        "truncations": ColumnType(np.bool_),
        "episodes": ColumnType(np.int64),
    }
    if act_dim is not None:
        types["actions"] = ColumnType(np.float32, act_dim)
    return types


class ColumnWriter:
    """Appends rows to the column files of a folder; a context manager.

    Several may write to one folder, each from its own first row on.

    Args:
        folder: where the files are; those that aren't there are made.
        types: the columns to write.
        first_row: where the first row goes.
    """

    def __init__(self, folder: Path, types: ColumnTypes, first_row: int = 0) -> None:
        self._folder, self._types, self._first_row = folder, types, first_row
        self._files: dict[str, BinaryIO] = {}
        self._stack = ExitStack()

    def __enter__(self) -> ColumnWriter:
        for name, kind in self._types.items():
            path = self._folder / name
            path.touch()
            file = self._stack.enter_context(path.open("r+b", _BUFFER_BYTES))
            file.seek(self._first_row * kind.row_bytes)
            self._files[name] = file
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    def append(self, columns: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write rows behind those before, in the columns' own types."""
        for name, kind in self._types.items():
            self._files[name].write(np.ascontiguousarray(columns[name], kind.dtype).data)


def map_columns(folder: Path, types: ColumnTypes, rows: int) -> dict[str, npt.NDArray[Any]]:
    """Map columns read-only, by name. The files may lose their names afterwards."""
    return {
        name: np.asarray(
            np.memmap(
                folder / name,
                kind.dtype,
                "r",
                shape=(rows,) if kind.width is None else (rows, kind.width),
            )
        )
        for name, kind in types.items()
    }
