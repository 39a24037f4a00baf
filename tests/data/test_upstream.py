"""The scripts of docs/upstream still show their faults; when one doesn't, its workaround can go."""

from __future__ import annotations

import importlib.metadata
import re
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.patience import PATIENCE_S

UPSTREAM = Path(__file__).parents[2] / "docs" / "upstream"


def run(
    page: str, block: int = 0, *arguments: str, first: str = ""
) -> subprocess.CompletedProcess[str]:
    blocks = re.findall(r"```python\n(.*?)```", (UPSTREAM / page).read_text(), re.DOTALL)
    command = [sys.executable, "-W", "ignore", "-c", first + blocks[block], *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)


@pytest.mark.parametrize("block", [0, 1])
def test_empty_box_in_arrow(block: int) -> None:
    assert run("arrow-empty-box-sigfpe.md", block).returncode == -signal.SIGFPE


def test_metadata_truncated() -> None:
    done = run("minari-metadata-truncated.md")
    assert done.stdout.startswith("TypeError:")
    assert "JSONDecodeError" in done.stderr


def test_empty_space_replaced() -> None:
    done = run("minari-empty-space-replaced.md")
    assert done.stdout.splitlines() == [
        "asked for Tuple() stored Discrete(2)",
        "asked for Dict() stored Discrete(2)",
    ]


def test_pillow_is_not_asked_for() -> None:
    wanted = importlib.metadata.requires("minari") or []
    assert not any(one.lower().startswith("pillow") for one in wanted)


COUNTED = """
import atexit
from minari.dataset._storages.arrow_storage import ArrowStorage
size, calls = ArrowStorage.get_size, []
ArrowStorage.get_size = lambda self: calls.append(size(self)) or calls[-1]
atexit.register(lambda: print(len(calls)))
"""


def test_quadratic_writing() -> None:
    """Each episode looks through all that are there; how long that takes is the page's business."""
    done = run("minari-arrow-quadratic-writing.md", 0, "20", first=COUNTED)
    assert int(done.stdout.splitlines()[-1]) >= 20, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(find_spec("d3rlpy") is None, reason="d3rlpy is not installed")
def test_d3rlpy_misaligns() -> None:
    done = run("d3rlpy-get-minari-misaligned.md")
    assert "misaligned episodes: [1, 2, 3, 4, 5, 6, 7]" in done.stdout, done.stderr
