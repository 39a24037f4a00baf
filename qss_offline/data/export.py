"""A dataset's transitions as a Parquet or `.npz` file, written atomically."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from qss_offline.data.load import load_transitions
from qss_offline.errors import UserError
from qss_offline.files import atomic_path

_EXPORT_ROWS = 1 << 18


def export_dataset(dataset_id: str, path: Path, *, overwrite: bool = False) -> Path:
    """Write a dataset's transitions to a `.parquet` or `.npz` file, one row for each step.

    Parquet holds the matrices as lists of a fixed size. `plan_file` reads either back, to the
    same digest. The file is written atomically.

    Args:
        dataset_id: Minari id.
        path: where to; the suffix decides on the format.
        overwrite: replace a file that exists.

    Raises:
        UserError: the dataset can't be loaded, the suffix is another, the file exists, or it
            can't be written.
    """
    if path.suffix not in (".parquet", ".npz"):
        raise UserError(f"{path}: expected a file that ends in .parquet or .npz")
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists; overwrite it or choose another name")
    loaded = load_transitions(dataset_id)
    columns: dict[str, Any] = dict(loaded.transitions.columns())
    if loaded.info.rewards_missing:
        del columns["rewards"]
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        if path.suffix == ".npz":
            np.savez(file, allow_pickle=False, **columns)
        else:
            _write_parquet(columns, len(loaded.transitions), file)
    return path


def _write_parquet(columns: dict[str, Any], steps: int, file: Any) -> None:
    writer = None
    try:
        for start in range(0, steps, _EXPORT_ROWS):
            rows = slice(start, start + _EXPORT_ROWS)
            arrays = {}
            for name, column in columns.items():
                part = np.ascontiguousarray(column[rows])
                array = pa.array(part.reshape(-1))
                if part.ndim == 2:
                    array = pa.FixedSizeListArray.from_arrays(array, part.shape[1])
                arrays[name] = array
            table = pa.table(arrays)
            if writer is None:
                writer = pa.parquet.ParquetWriter(file, table.schema, compression="zstd")
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
