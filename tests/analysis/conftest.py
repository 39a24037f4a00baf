"""One small finished run for all tests of this folder, and what drawing needs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from qss_offline.algorithms.bco import CloningConfig
from qss_offline.algorithms.inverse_dynamics import InverseDynamicsConfig
from qss_offline.algorithms.observational_d3g import ObservationalD3GConfig
from qss_offline.analysis.painting import require_drawing
from qss_offline.data.build import build_dataset
from qss_offline.data.specs import DatasetSpec
from qss_offline.errors import UserError
from qss_offline.launch.local import LocalLauncher
from qss_offline.presets import Preset
from qss_offline.runs.config import RunConfig
from qss_offline.runs.folder import RunFolder
from qss_offline.runs.inverse_config import InverseFitConfig
from qss_offline.runs.reader import FinishedRun, load_run
from qss_offline.training.runner import run

PRESET = Preset(
    ObservationalD3GConfig((16, 16), 32, normalize_observations=True, clamp_targets=True),
    InverseFitConfig(2, 100, 100, model=InverseDynamicsConfig((16, 16), 32, step_inputs=True)),
    updates=1000,
)


@pytest.fixture(scope="session")
def drawing() -> None:
    """Skip where MuJoCo can't draw without a screen."""
    try:
        require_drawing()
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a run of two seeds and few updates; its dataset stays there."""
    root = tmp_path_factory.mktemp("seeing")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root / "minari"))
        (root / "minari").mkdir()
        spec = DatasetSpec("InvertedPendulum", transitions=2000)
        dataset = build_dataset(spec, workers=1, notice=lambda message: None).obs_id
        settings = RunConfig(
            "d3g", "InvertedPendulum-v5", dataset, (0, 1), "small", PRESET, evaluation_episodes=2
        )
        run(settings, RunFolder(root / "run"), launcher=LocalLauncher(1))
        yield root / "run"


@pytest.fixture(scope="session")
def finished_bco(finished: Path) -> Path:
    """The folder of a run of BCO on the same recording."""
    settings = RunConfig(
        "bco",
        "InvertedPendulum-v5",
        load_run(finished).dataset_id,
        (0, 1),
        "small",
        PRESET,
        CloningConfig((16, 16), 32, 1e-3, 2.0),
        cloning_updates=50,
        evaluation_episodes=2,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(finished.parent / "minari"))
        run(settings, RunFolder(finished.parent / "bco"), launcher=LocalLauncher(1))
    return finished.parent / "bco"


@pytest.fixture
def cloned(finished_bco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FinishedRun:
    """A copy of that run, to write into."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(finished_bco.parent / "minari"))
    shutil.copytree(finished_bco, tmp_path / "bco")
    return load_run(tmp_path / "bco")


@pytest.fixture
def trained(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FinishedRun:
    """A copy of that run, to write into."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(finished.parent / "minari"))
    shutil.copytree(finished, tmp_path / "pendulum")
    return load_run(tmp_path / "pendulum")
