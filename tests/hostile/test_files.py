"""Files that aren't what their names say: looked at before anything of them is read."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from qss_offline.errors import UserError
from qss_offline.files import open_regular_file, read_regular_file, size_text

LIMIT = 1 << 20


def pipe(path: Path) -> None:
    """Nobody ever writes to it."""
    os.mkfifo(path)


def endless(path: Path) -> None:
    """Never ends."""
    path.symlink_to("/dev/zero")


def listener(path: Path) -> None:
    """A socket in the file system."""
    os.mknod(path, stat.S_IFSOCK | 0o600)


def sparse(path: Path) -> None:
    """Three terabytes that take no room."""
    with path.open("wb") as file:
        file.truncate(3 << 40)


def loop(path: Path) -> None:
    """A link to itself."""
    path.symlink_to(path)


def folder(path: Path) -> None:
    """A folder where a file is looked for."""
    path.mkdir()


def missing(path: Path) -> None:
    """Nothing."""


ODD_FILES = (pipe, endless, listener, sparse, loop, folder, missing)


@pytest.mark.parametrize("make", ODD_FILES, ids=lambda make: make.__name__)
def test_only_regular_files_of_an_honest_size_are_read(
    make: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The name of a socket may be a hundred bytes long.
    monkeypatch.chdir(tmp_path)
    path = Path("odd")
    make(path)
    with pytest.raises(UserError, match="odd"):
        read_regular_file(path, LIMIT)


def test_a_link_to_a_regular_file_is_read_up_to_the_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * LIMIT)
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert read_regular_file(tmp_path / "link", LIMIT) == b"x" * LIMIT
    with open_regular_file(tmp_path / "link", LIMIT) as file:
        assert file.read(2) == b"xx"
    with pytest.raises(UserError, match=r"1\.0 MB"):
        read_regular_file(tmp_path / "link", LIMIT - 1)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (812, "812 bytes"), (64_000_000, "64.0 MB"), (3e12, "3.0 TB"),
     (5e18, "5000.0 PB")],
)  # fmt: skip
def test_sizes_are_told_in_the_unit_that_fits(size: float, text: str) -> None:
    assert size_text(size) == text
