"""What several tests share."""

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from qss_offline.data import sandbox as isolated
from qss_offline.errors import UserError
from qss_offline.parallel.progress import Reporter, silent
from tests.program import Qss

# The same examples in every run; HYPOTHESIS_PROFILE=explore draws anew.
settings.register_profile("repeat", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cases",
        type=int,
        default=8,
        help="random cases of each fuzzer in tests/hostile; the first ones are always the same",
    )


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Two threads on busy cores spin against each other."""
    torch.set_num_threads(1)


@pytest.fixture
def qss(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Qss:
    return Qss(monkeypatch, capsys)


@pytest.fixture
def minari_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of Minari datasets."""
    root = tmp_path / "minari"
    root.mkdir()
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))
    return root


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read data files in this process: for tests of anything but the child itself, which
    takes half a second to start. `hostile/test_datasets.py` reads most in children."""
    read_in_process(monkeypatch)


def read_in_process(patch: pytest.MonkeyPatch) -> None:
    """What the fixture of that name does."""

    def call(task: Any, request: Any, expected_bytes: int, report: Reporter = silent) -> Any:
        try:
            return json.loads(json.dumps(task(json.loads(json.dumps(request)), report)))
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"it can't be read: {' '.join(str(error).split())}") from error

    patch.setattr(isolated, "call", call)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are left blank: drawing takes most of the time that a report takes."""
    from qss_offline.analysis.plots import style

    monkeypatch.setattr(style, "to_png", lambda figure: b"\x89PNG")
    monkeypatch.setattr(style, "to_svg", lambda figure: b"<svg/>")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    without = {
        "gpu": None if torch.cuda.is_available() else "no CUDA device here",
        "ray": None if find_spec("ray") else "Ray isn't installed",
    }
    for item in items:
        for marker, reason in without.items():
            if reason is not None and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))
        if without["ray"] is None and item.get_closest_marker("ray"):
            # Before those that are slow are left out.
            item.add_marker(pytest.mark.slow)
