"""Files that aren't what their names say: looked at before anything of them is read."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from qss_offline.errors import UserError
from qss_offline.files import (
    atomic_directory,
    atomic_path,
    open_regular_file,
    read_regular_file,
    size_text,
    write_bytes,
)

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


KILLED = """
import os, signal, sys
from pathlib import Path
from qss_offline.files import atomic_directory
from qss_offline.files import atomic_path
path = Path(sys.argv[1])
with atomic_path(path / "file") as file, atomic_directory(path / "folder") as folder:
    file.write_bytes(b"half")
    (folder / "inside").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not(
    tmp_path: Path,
) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    left = set(tmp_path.iterdir())
    assert len(left) == 2
    with (
        atomic_path(tmp_path / "another") as file,
        atomic_directory(tmp_path / "more") as folder,
    ):
        assert not left & set(tmp_path.iterdir())
        file.write_bytes(b"whole")
        (folder / "inside").write_bytes(b"whole")
        write_bytes(tmp_path / "file", b"whole")
        assert file.exists() and folder.exists()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"another", "more", "file"}


def test_other_hidden_files_are_left_alone(tmp_path: Path) -> None:
    others = {".tmp", ".notes.tmp", "x.tmp", f".x.{'g' * 32}.tmp", f"x.{'0' * 32}.tmp"}
    for name in others:
        (tmp_path / name).touch()
    write_bytes(tmp_path / "file", b"")
    assert {path.name for path in tmp_path.iterdir()} == {*others, "file"}
