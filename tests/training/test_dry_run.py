"""Whole runs on devices that stand for a GPU: one without numbers, and one with the CPU's."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from qss_offline.data.build import build_dataset
from qss_offline.data.specs import DatasetSpec
from qss_offline.engine.checkpoint import load_checkpoint
from qss_offline.engine.graph_device import GRAPH_DEVICES
from qss_offline.engine.update import MetricSums
from qss_offline.launch.local import LocalLauncher
from qss_offline.online.config import EvaluationPlan, OnlineConfig
from qss_offline.online.env_loop import OnlineTask
from qss_offline.online.presets import ALGORITHMS, BASELINES, ONLINE_PRESETS, online_preset
from qss_offline.online.trainer import OnlineTrainer
from qss_offline.parallel.reporting import no_tick
from qss_offline.presets import PRESETS
from qss_offline.runs.config import Method, RunConfig
from qss_offline.runs.folder import RunFolder, SeedFolder
from qss_offline.training.options import TrainOptions
from qss_offline.training.runner import run
from tests.engine.emulated import Dry, Emulated, Unmixed

SMALL = [
    "algorithm.hidden_dims=(8, 8)",
    "algorithm.batch_size=32",
    "model.hidden_dims=(8, 8)",
    "model.batch_size=32",
    "updates_per_round=10",
]
SMALL_RUN = TrainOptions(
    seeds=2,
    updates=10,
    online_steps=60,
    online_rounds=5,
    changes=SMALL,
    episodes=1,
    device="cpu",
)
LOCAL = LocalLauncher(1)
PAIRS = [(method, preset) for preset, methods in PRESETS.items() for method in methods]
SETTINGS = [
    # The IDM's and D3G's act in different parts of a run.
    ["form=bilinear", "twin_pessimism=1.0", "clamp_targets=False", "normalize_observations=False",
     "proposal_update_interval=3"],
    ["form=network", "recorded_coef=1.0", "average_step_size=None",
     "proposal_average_step_size=None", "learning_rate_decay=0.0"],
]  # fmt: skip


@pytest.fixture
def dry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dry]:
    """Let "meta" be a device that captures; what comes back from it is zeros."""
    device = Dry()
    monkeypatch.setitem(GRAPH_DEVICES, "meta", device)
    monkeypatch.setattr("qss_offline.engine.loop.CHUNK", 5)

    class Generator(torch.Generator):
        def __new__(cls, device: Any = "cpu") -> Any:
            return super().__new__(cls, "cpu")

    def cpu(tensor: torch.Tensor) -> torch.Tensor:
        return torch.zeros(tensor.shape) if tensor.is_meta else tensor

    monkeypatch.setattr(torch, "Generator", Generator)
    monkeypatch.setattr(torch.Tensor, "cpu", cpu)
    monkeypatch.setattr(MetricSums, "read", lambda sums: {})
    with Unmixed():
        yield device


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A recording of each environment, by its name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("minari")))
        names = ("InvertedPendulum-v5", "Reacher-v5", "CartPole-v1")
        specs = [DatasetSpec(name, transitions=500) for name in names]
        yield {spec.env_id: build_dataset(spec, workers=1).obs_id for spec in specs}


def config_of(recordings: dict[str, str], options: TrainOptions, env_id: str) -> RunConfig:
    return options.config(recordings[env_id], env_id)


@pytest.mark.parametrize(
    ("method", "preset", "env_id", "changes"),
    [
        *((method, preset, "InvertedPendulum-v5", []) for method, preset in PAIRS),
        *(("d3g", "default", "InvertedPendulum-v5", changes) for changes in SETTINGS),
        ("d3g", "default", "CartPole-v1", []),
    ],
)
def test_every_preset_and_setting_stays_on_the_device(
    dry: Dry,
    recordings: dict[str, str],
    tmp_path: Path,
    method: Method,
    preset: str,
    env_id: str,
    changes: list[str],
) -> None:
    options = replace(SMALL_RUN, method=method, preset=preset, changes=[*SMALL, *changes])
    config = replace(config_of(recordings, options, env_id), device="meta")
    run(config, RunFolder(tmp_path), launcher=LOCAL)
    assert dry.recordings, "nothing was captured"


@pytest.mark.parametrize("algorithm", [a for a in ALGORITHMS if a not in BASELINES])
@pytest.mark.parametrize(
    ("preset", "env_id"),
    [*((preset, "InvertedPendulum-v5") for preset in ONLINE_PRESETS), ("default", "CartPole-v1")],
)
def test_the_online_mode_stays_on_the_device(
    dry: Dry, tmp_path: Path, algorithm: str, preset: str, env_id: str
) -> None:
    chosen = online_preset(preset, algorithm)
    losses = replace(chosen.algorithm, hidden_dims=(8, 8), batch_size=32)
    config: OnlineConfig = replace(
        chosen, algorithm=losses, steps=30, warm_up=20, model_updates=min(3, chosen.model_updates)
    )
    tasks = [OnlineTask(seed, SeedFolder(tmp_path / str(seed))) for seed in (0, 1)]
    plan = EvaluationPlan(30, 1)
    OnlineTrainer(tasks, env_id, config, plan, "meta").run(no_tick)
    assert 2 <= len(dry.recordings) <= 3, "one graph a phase, one for the models before"


@pytest.mark.parametrize(("method", "preset"), PAIRS)
def test_runs_on_a_device_are_those_on_a_cpu(
    recordings: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: Method,
    preset: str,
) -> None:
    """Columns scaled once, labels, draws and noise, over rounds, on the emulated device."""
    monkeypatch.setattr("qss_offline.engine.loop.CHUNK", 5)
    options = replace(SMALL_RUN, method=method, preset=preset, seeds=1)
    config = config_of(recordings, options, "Reacher-v5")
    run(config, RunFolder(tmp_path / "cpu"), launcher=LOCAL)
    monkeypatch.setitem(GRAPH_DEVICES, "cpu", emulated := Emulated())
    run(config, RunFolder(tmp_path / "device"), launcher=LOCAL)
    assert emulated.replays > 0
    compared = 0
    for path in sorted((tmp_path / "cpu").rglob("*.safetensors")):
        expected = load_checkpoint(path).tensors
        found = load_checkpoint(tmp_path / "device" / path.relative_to(tmp_path / "cpu")).tensors
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor, rtol=2e-3, atol=2e-4, msg=name)
            compared += 1
    assert compared > 20


@pytest.mark.gpu
@pytest.mark.parametrize(("method", "preset"), PAIRS)
def test_a_gpu_gives_the_same_bits_twice(
    recordings: dict[str, str], tmp_path: Path, method: Method, preset: str
) -> None:
    options = replace(SMALL_RUN, method=method, preset=preset, updates=120, device="cuda")
    config = config_of(recordings, options, "Reacher-v5")
    for name in ("once", "again"):
        run(config, RunFolder(tmp_path / name), launcher=LOCAL)
    for path in sorted((tmp_path / "once").rglob("*.safetensors")):
        again = tmp_path / "again" / path.relative_to(tmp_path / "once")
        assert path.read_bytes() == again.read_bytes(), path


@pytest.mark.gpu
def test_the_online_mode_runs_on_a_gpu(tmp_path: Path) -> None:
    chosen = online_preset("default")
    config = replace(chosen, steps=300, warm_up=100, model_updates=50)
    tasks = [OnlineTask(seed, SeedFolder(tmp_path / str(seed))) for seed in (0, 1)]
    state = OnlineTrainer(tasks, "Reacher-v5", config, EvaluationPlan(300, 1), "cuda").run(no_tick)
    assert state.update == 250
    assert all(tensor.isfinite().all() for tensor in state.tensors())
