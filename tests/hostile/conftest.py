"""What the fuzzers share: how many cases, and what may come of one."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qss_offline.data import plan_arrays, push_dataset
from qss_offline.errors import UserError, printable
from tests.conftest import read_in_process
from tests.data.conftest import make_transitions

OURS = "mine/thing/ours-act-v0"
TRUTH = make_transitions([5, 1, 9, 40])


@pytest.fixture
def cases(request: pytest.FixtureRequest) -> int:
    """How often a fuzzer tries; `pytest tests/hostile --cases 2000` by hand."""
    return int(request.config.getoption("--cases"))


@pytest.fixture
def rng() -> random.Random:
    return random.Random(0)


def refused(function: Callable[..., Any], *arguments: Any, **more: Any) -> str | None:
    """Return the one line of a refusal, None where there was none; anything else passes through."""
    try:
        function(*arguments, **more)
    except UserError as error:
        message = str(error)
        assert message and len(printable(message)) < 2_000 and len(message.splitlines()) == 1
        return message
    return None


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(folder / "minari"))
        read_in_process(patch)
        plan_arrays(**TRUTH.columns()).store("mine/thing/ours")
        push_dataset(OURS, str(folder / "remote"))
    return folder


@pytest.fixture
def ours(made_once: Path, minari_root: Path) -> Path:
    """The data folder of a dataset with actions, whose twin is there too."""
    shutil.copytree(made_once / "minari" / "mine", minari_root / "mine")
    return minari_root / OURS / "data"


@pytest.fixture
def remote(made_once: Path, minari_root: Path, tmp_path: Path) -> Path:
    """A remote folder with the same dataset; here there is none."""
    return Path(shutil.copytree(made_once / "remote", tmp_path / "remote"))
