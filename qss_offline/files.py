"""Files written so that a reader sees the old content or the new, and untrusted files read.

What is being written has a temporary name, and its writer keeps it locked. The system releases the
lock when a process ends, however it ends: what bears such a name and can be locked is a dead
process's, and the next that writes beside it removes it.

A file that came from somebody else may be a named pipe, a link to a device that never ends, or
say that it holds terabytes: `open_regular_file` looks before anything is read.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from qss_offline.errors import UserError, printable, shown

_MOST_DIGITS = 20
# Without O_NONBLOCK a named pipe would wait for somebody at its other end.
_CAREFULLY = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


def path_of(given: object, what: str) -> Path:
    """Return a path that the user gives.

    Args:
        given: text, or a path.
        what: it is, for the message.

    Raises:
        UserError: it is something else.
    """
    if not isinstance(given, str | os.PathLike):
        raise UserError(f"{what}: expected a path, got {shown(given)}")
    return Path(given)


def size_text(size: float) -> str:
    """Return a number of bytes in the unit that fits it: `"812 bytes"`, `"64.0 MB"`."""
    unit = 0
    while size >= 1000 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.1f} {_UNITS[unit]}" if unit else f"{size:.0f} bytes"


@contextmanager
def open_regular_file(path: Path, limit: int, links: bool = True) -> Iterator[BinaryIO]:
    """Open an untrusted file to read: a regular file, or a link to one, of at most `limit` bytes.

    Args:
        path: the file.
        limit: bytes.
        links: whether a link is followed; what is handed on to others mustn't be one, which may
            lead to any file of the user's.

    Raises:
        UserError: it is missing or can't be read, is a folder, a named pipe, a socket or a device,
            or a link where none is followed, or holds more.
    """
    flags = os.O_RDONLY | _CAREFULLY
    if not links:
        _refuse_link(path)
        flags |= os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except (OSError, ValueError) as error:
        # A ValueError is a NUL byte in the path.
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {path}: {reason}") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise UserError(f"{path} is no regular file, nor a link to one")
        if found.st_size > limit:
            raise UserError(
                f"{path} holds {size_text(found.st_size)}, more than the {size_text(limit)} that "
                "are read of such a file"
            )
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def read_regular_file(path: Path, limit: int, links: bool = True) -> bytes:
    """Return the bytes of an untrusted file, see `open_regular_file`."""
    with open_regular_file(path, limit, links) as file:
        try:
            return file.read(limit)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def open_in_place(path: Path, flags: int) -> int:
    """Open a file of an untrusted folder to write into it as it stands, made where there is none.

    A link, which may lead to any file of the user's, is not followed.

    Args:
        path: the file.
        flags: for `os.open`.

    Returns:
        A file descriptor.

    Raises:
        OSError: the folder can't be written to.
        UserError: it is a link, or no regular file.
    """
    _refuse_link(path)
    descriptor = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | _CAREFULLY, 0o644)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UserError(f"{path} is no regular file; remove it")
    return descriptor


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise UserError(f"{path} is a link, which isn't followed here; put the file itself there")


def parse_json(content: bytes | str, source: object, nan: bool = False) -> Any:
    """Read untrusted JSON, whose numbers are finite and no longer than an int64.

    Args:
        content: the text.
        source: where it comes from, for the message.
        nan: let NaN and Infinity pass, which JSON doesn't have but Python writes.

    Raises:
        UserError: it isn't such JSON, or is nested too deeply.
    """

    def integer(text: str) -> int:
        if len(text) > _MOST_DIGITS or not -(2**63) <= int(text) < 2**63:
            raise ValueError(f"{text[:_MOST_DIGITS]}… is too great a number")
        return int(text)

    def real(text: str) -> float:
        if not (nan or math.isfinite(float(text))):
            raise ValueError(f"{text[:_MOST_DIGITS]} is no finite number")
        return float(text)

    try:
        return json.loads(content, parse_int=integer, parse_float=real, parse_constant=real)
    except RecursionError as error:
        raise UserError(f"{source} is not valid JSON: it is nested too deeply") from error
    except ValueError as error:
        raise UserError(f"{source} is not valid JSON: {printable(error)}") from error


def fsync_directory(path: Path) -> None:
    """Flush a directory's entries to disk, so that a rename inside it survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success fsync it and rename it over `path`.

    Raises:
        UserError: the folder can't be written to or the disk is full.
    """
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path.parent)
        unnamed = temporary.with_suffix(".new")
        with unnamed.open("xb") as file:
            _hold(file.fileno())
            # It has its name once it is locked: nobody takes it for abandoned.
            unnamed.rename(temporary)
            yield temporary
            with temporary.open("rb+") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
        fsync_directory(path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        # Where the folder is a file, or can't be entered, there is nothing to unlink either.
        with suppress(OSError):
            temporary.unlink()


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")


_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp", re.DOTALL)


def _hold(descriptor: int) -> None:
    """Lock what is being written; where the file system has no locks, nothing is ever removed."""
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove_abandoned(folder: Path) -> None:
    """Remove temporary files and folders whose writers have died."""
    with suppress(OSError):
        for path in list(folder.iterdir()):
            if _TEMPORARY.fullmatch(path.name):
                # What is still being written, may not be removed, or is being removed.
                with suppress(OSError):
                    _remove_if_free(path)


def _remove_if_free(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            shutil.rmtree(path)
        else:
            path.unlink()
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON to `path` atomically, as `json_text` has it."""
    write_bytes(path, f"{json_text(content)}\n".encode())


def json_text(content: Any) -> str:
    """Return `content` as indented JSON.

    NaN and infinities, which JSON doesn't have, become null: what a policy that diverged returned
    mustn't keep a run from saying so.
    """
    return json.dumps(_without_nan(content), indent=2)


def _without_nan(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a hidden temporary folder beside `path`; on success rename it to `path`.

    `path` must not exist yet. Whatever fails, nothing is left behind under a visible name.

    Raises:
        UserError: the folder can't be written to, the disk is full, or `path` exists.
    """
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path.parent)
        unnamed = temporary.with_suffix(".new")
        unnamed.mkdir()
        descriptor = os.open(unnamed, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _hold(descriptor)
            unnamed.rename(temporary)
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    with file.open("rb+") as opened:
                        os.fsync(opened.fileno())
            if path.exists():
                raise UserError(f"{path} already exists")
            temporary.rename(path)
        finally:
            os.close(descriptor)
        fsync_directory(path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
