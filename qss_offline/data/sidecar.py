"""The columnar sidecar: a dataset's transitions in one memory-mapped Arrow IPC file.

The file `columns.arrow` lies in the dataset's own `data/` folder, so that it travels with
copies, uploads and downloads. It is one uncompressed record batch: a fixed-size list or a flat
column for each field of `Transitions` (booleans as bytes 0 and 1, so that NumPy views them
without a copy), and in its schema's metadata the format's version, the numbers of steps and
episodes of the Minari dataset that it was made from, that dataset's id, and a digest.

The digest covers names, types, shapes and bytes of the columns and nothing else: a copy under
another id keeps it. It is BLAKE2b-256, over the hashes of the columns, which two threads
compute side by side; SHA-256 takes twice as long on machines without instructions for it.

The file is untrusted: types and sizes are compared with the
file's size before a batch is read, and compressed batches (a few bytes that unpack to any
amount of memory) are refused unread.
"""

from __future__ import annotations

import hashlib
import os
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qss_offline.data.transitions import Transitions
from qss_offline.errors import UserError, one_line
from qss_offline.files import atomic_path

FILE_NAME = "columns.arrow"
_FORMAT = b"1"
_PREFIX = "qss_offline."
_MAGIC = b"ARROW1"
_MAX_SCHEMA_BYTES = 1 << 20

_FLAT: dict[str, pa.DataType] = {
    "rewards": pa.float32(),
    "terminations": pa.uint8(),
    "truncations": pa.uint8(),
    "episodes": pa.int64(),
}
_LISTS = ("observations", "next_observations", "actions")
_REQUIRED = ("observations", "next_observations", *_FLAT)


@dataclass(frozen=True)
class SidecarInfo:
    """What a sidecar says about its source.

    Attributes:
        total_steps: steps of the Minari dataset when the sidecar was written.
        total_episodes: its episodes.
        dataset_id: its id, as a remark.
        digest: of the columns, `blake2b-256:` and hexadecimal digits.
    """

    total_steps: int
    total_episodes: int
    dataset_id: str
    digest: str


@dataclass(frozen=True, eq=False)
class Sidecar:
    """A sidecar's transitions, views of the mapped file, and what it says about itself."""

    transitions: Transitions
    info: SidecarInfo


class StaleSidecarError(Exception):
    """The sidecar was made from another state of the dataset: episodes were added since."""


def digest(transitions: Transitions) -> str:
    """Return the digest of all columns, `blake2b-256:` and 64 hexadecimal digits."""
    columns = sorted(transitions.columns().items())

    def column_digest(item: tuple[str, npt.NDArray[Any]]) -> str:
        name, column = item
        contiguous = np.ascontiguousarray(column)
        content = hashlib.blake2b(contiguous.view(np.uint8).reshape(-1).data, digest_size=32)
        return f"{name} {column.dtype.str} {column.shape} {content.hexdigest()}\n"

    # The largest columns first, so that the threads end together. hashlib releases the lock.
    order = sorted(range(len(columns)), key=lambda index: -columns[index][1].nbytes)
    with ThreadPoolExecutor(2) as threads:
        lines = dict(
            zip(order, threads.map(column_digest, (columns[i] for i in order)), strict=True)
        )
    text = "".join(lines[index] for index in range(len(columns)))
    return "blake2b-256:" + hashlib.blake2b(text.encode(), digest_size=32).hexdigest()


def write_sidecar(path: Path, transitions: Transitions, info: SidecarInfo) -> None:
    """Write `transitions` to `path`, atomically.

    Raises:
        UserError: the folder can't be written to or the disk is full.
    """
    arrays = {
        name: to_arrow(column.view(np.uint8) if column.dtype == np.bool_ else column)
        for name, column in transitions.columns().items()
    }
    metadata = {
        "format": _FORMAT,
        "total_steps": str(info.total_steps),
        "total_episodes": str(info.total_episodes),
        "dataset_id": info.dataset_id,
        "digest": info.digest,
    }
    schema = pa.schema(
        [(name, array.type) for name, array in arrays.items()],
        metadata={_PREFIX + key: value for key, value in metadata.items()},
    )
    with (
        atomic_path(path) as temporary,
        temporary.open("wb") as file,  # opened by Python: a full disk is then an OSError
        pa.ipc.new_file(file, schema) as writer,
    ):
        writer.write_batch(pa.record_batch(list(arrays.values()), schema=schema))


def to_arrow(column: npt.NDArray[Any]) -> pa.Array:
    """Return a column as an Arrow array, a matrix as lists of a fixed size; nothing is copied."""
    values = pa.array(np.ascontiguousarray(column).reshape(-1))
    if column.ndim == 2:
        values = pa.FixedSizeListArray.from_arrays(values, column.shape[1])
    return values


def mark_current(data: Path) -> None:
    """Make a sidecar newer than the episodes beside it, which are known to agree with it."""
    path = data / FILE_NAME
    if path.exists():
        os.utime(path)


def read_sidecar(
    path: Path,
    total_steps: int,
    total_episodes: int,
    expected_digest: str | None = None,
) -> Sidecar:
    """Map a sidecar into memory and check it, its digest included.

    Args:
        path: the file.
        total_steps: steps of the dataset now.
        total_episodes: episodes of the dataset now.
        expected_digest: the dataset's own word for the digest, where it has one.

    Raises:
        StaleSidecarError: the dataset has other numbers of steps or episodes by now.
        UserError: the file is truncated, altered, or isn't a sidecar.
    """
    try:
        schema, batch = _read_batch(path, total_steps, total_episodes)
        transitions = Transitions(**_views(schema, batch))
        info = _info(schema)
        if digest(transitions) != info.digest:
            raise _DamagedError("its content does not match its digest")
        if expected_digest is not None and info.digest != expected_digest:
            raise _DamagedError("it does not match the digest in the dataset's metadata")
    except OSError as error:
        # Arrow reports damage as OSError too, without a file name or an error number.
        if error.errno is not None:
            raise UserError(f"cannot read {path}: {error.strerror}") from error
        raise _mendable(path, error) from error
    except (_DamagedError, UserError, pa.ArrowException, ValueError, OverflowError) as error:
        raise _mendable(path, error) from error
    return Sidecar(transitions, info)


def open_sidecar(
    path: Path, total_steps: int, total_episodes: int, expected_digest: str | None = None
) -> Sidecar:
    """Return a sidecar that this process has open already, else map and check it.

    A file that was replaced or written to since is mapped and checked anew. Arguments and what is
    raised are those of `read_sidecar`.
    """
    return _opened(path.absolute(), _state(path), total_steps, total_episodes, expected_digest)


# A run's recording and its twin stay mapped between two uses; pages of a mapped file
# take no memory that the system couldn't use otherwise.
@lru_cache(maxsize=2)
def _opened(path: Path, state: tuple[int, ...], *expected: Any) -> Sidecar:
    return read_sidecar(path, *expected)


def _state(path: Path) -> tuple[int, ...]:
    """Return what differs once a file is replaced or written to; nothing of a missing one."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class _DamagedError(Exception):
    """The file isn't what this module writes."""


def _mendable(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{path} is damaged: {one_line(error)}; delete it to rebuild it from the episodes"
    )


def _info(schema: pa.Schema) -> SidecarInfo:
    metadata = schema.metadata or {}

    def value(key: str) -> str:
        content = metadata.get((_PREFIX + key).encode())
        if content is None:
            raise _DamagedError(f"it has no {_PREFIX}{key}")
        return str(content.decode(errors="replace"))

    if value("format") != _FORMAT.decode():
        raise _DamagedError(f"its format is {value('format')!r}, expected {_FORMAT.decode()!r}")
    numbers = {}
    for key in ("total_steps", "total_episodes"):
        if not (value(key).isascii() and value(key).isdigit() and len(value(key)) < 16):
            raise _DamagedError(f"its {key} is {value(key)[:20]!r}")
        numbers[key] = int(value(key))
    return SidecarInfo(dataset_id=value("dataset_id"), digest=value("digest"), **numbers)


def _read_batch(
    path: Path, total_steps: int, total_episodes: int
) -> tuple[pa.Schema, pa.RecordBatch]:
    """Return schema and batch; the batch's buffers are parts of the mapped file."""
    size = path.stat().st_size
    if size < 2 * len(_MAGIC):
        raise _DamagedError(f"it holds {size} bytes")
    with pa.memory_map(str(path)) as mapped:
        content = mapped.read_buffer(size)
    # The footer is checked by Arrow's own reader; the messages are then read in their order,
    # because only a message shows whether its batch is compressed before it is unpacked.
    footer = pa.ipc.open_file(pa.BufferReader(content))
    if footer.num_record_batches != 1:
        raise _DamagedError(f"it holds {footer.num_record_batches} record batches, expected 1")
    stream = pa.BufferReader(content.slice(8))
    message = pa.ipc.read_message(stream)
    if message.type != "schema" or message.metadata.size > _MAX_SCHEMA_BYTES:
        raise _DamagedError("it does not begin with a schema")
    schema = pa.ipc.read_schema(message)
    if not schema.equals(footer.schema, check_metadata=True):
        raise _DamagedError("its two schemas differ")
    info = _info(schema)
    row_bytes = _check_types(schema)
    if (info.total_steps, info.total_episodes) != (total_steps, total_episodes):
        raise StaleSidecarError
    message = pa.ipc.read_message(stream)
    if message.type != "record batch" or message.body is None:
        raise _DamagedError("it holds no record batch")
    rows, compressed = _batch_header(message.metadata.to_pybytes())
    if compressed:
        raise _DamagedError("its columns are compressed")
    if rows != total_steps or rows * row_bytes > message.body.size:
        raise _DamagedError(f"it claims {rows} rows in {message.body.size} bytes")
    batch = pa.ipc.read_record_batch(message, schema)
    batch.validate(full=True)
    return schema, batch


def _check_types(schema: pa.Schema) -> int:
    """Check the columns' types; return the bytes of a row."""
    names = schema.names
    if sorted(names) != sorted({*_REQUIRED, *names} & {*_REQUIRED, "actions"}):
        raise _DamagedError(f"its columns are {', '.join(names[:8])}")
    total = 0
    for field in schema:
        if field.name in _FLAT:
            if field.type != _FLAT[field.name]:
                raise _DamagedError(f"{field.name} is {field.type}, expected {_FLAT[field.name]}")
            total += field.type.bit_width // 8
            continue
        kind = field.type
        # Arrow divides by the list's size: at 0 the whole process would end.
        if (
            not pa.types.is_fixed_size_list(kind)
            or kind.value_type != pa.float32()
            or not 1 <= kind.list_size <= 1 << 24
        ):
            raise _DamagedError(f"{field.name} is {kind}, expected lists of float32")
        total += 4 * kind.list_size
    return total


def _batch_header(header: bytes) -> tuple[int, bool]:
    """Return a record batch's rows and whether it is compressed, from its flatbuffer.

    Arrow's Python interface tells neither before it has unpacked the batch.
    """

    def field(table: int, index: int) -> int:
        """Return the position of a table's field, 0 where it is absent."""
        vtable = table - struct.unpack_from("<i", header, table)[0]
        if vtable < 0:
            raise _DamagedError("its header is malformed")
        if 4 + 2 * index >= struct.unpack_from("<H", header, vtable)[0]:
            return 0
        offset = struct.unpack_from("<H", header, vtable + 4 + 2 * index)[0]
        return table + int(offset) if offset else 0

    try:
        message = struct.unpack_from("<I", header, 0)[0]
        position = field(message, 2)  # Message.header
        if not position:
            raise _DamagedError("its header is malformed")
        batch = position + struct.unpack_from("<I", header, position)[0]
        length = field(batch, 0)  # RecordBatch.length
        rows = struct.unpack_from("<q", header, length)[0] if length else 0
        return int(rows), field(batch, 3) != 0  # RecordBatch.compression
    except struct.error as error:
        raise _DamagedError("its header is malformed") from error


def _views(schema: pa.Schema, batch: pa.RecordBatch) -> dict[str, npt.NDArray[Any]]:
    """Return the columns as NumPy views of the batch."""
    views: dict[str, npt.NDArray[Any]] = {}
    for name, column in zip(schema.names, batch.columns, strict=True):
        values = column
        shape: tuple[int, ...] = (len(column),)
        if column.null_count:
            raise _DamagedError(f"{name} holds nulls")
        if name in _LISTS:
            values = column.flatten()
            shape = (len(column), column.type.list_size)
        if values.null_count:
            raise _DamagedError(f"{name} holds nulls")
        view = values.to_numpy(zero_copy_only=True).reshape(shape)
        if view.dtype == np.uint8:
            if view.size and view.max() > 1:
                raise _DamagedError(f"{name} holds bytes other than 0 and 1")
            view = view.view(np.bool_)
        views[name] = view
    return views
