"""A dataset's transitions as a Parquet or `.npz` file, written atomically."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from qss_offline.data.load import load_transitions
from qss_offline.data.sidecar import to_arrow
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
            table = pa.table({name: to_arrow(column) for name, column in columns.items()})
            pq.write_table(table, file, compression="zstd", row_group_size=_EXPORT_ROWS)
    return path
