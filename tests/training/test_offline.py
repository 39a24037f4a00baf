"""Stacks over different datasets, seeds that stand apart, and workers that die."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from qss_offline.algorithms.observational_d3g import ObservationalD3GConfig
from qss_offline.data import About, plan_arrays
from qss_offline.data.build import build_dataset
from qss_offline.data.facts import observation_spread, recording_facts
from qss_offline.data.load import load_transitions
from qss_offline.data.specs import DatasetSpec
from qss_offline.data.transitions import Transitions
from qss_offline.engine.update import CHUNK
from qss_offline.errors import UserError
from qss_offline.evaluation.policies import ObservationScale
from qss_offline.launch.local import LocalLauncher
from qss_offline.parallel.processes import available_cores
from qss_offline.parallel.reporting import no_tick
from qss_offline.runs.folder import RunFolder, SeedFolder, read_json
from qss_offline.training import offline as offline_training
from qss_offline.training.offline import OfflineTrainer, SeedTask
from qss_offline.training.runner import run
from tests.patience import PATIENCE_S
from tests.small_run import settings

CONFIG = ObservationalD3GConfig(
    (8, 8),
    32,
    normalize_observations=True,
    clamp_targets=True,
    learning_rate_decay=0.5,
    twin_pessimism=0.5,
)


def recording(stream: int, rows: int = 300, shift: float = 0.0) -> Transitions:
    rng = np.random.default_rng(stream)
    ends = np.zeros(rows, bool)
    ends[9::10] = True
    return Transitions(
        observations=rng.normal(shift, 2.0, (rows, 3)).astype(np.float32),
        next_observations=rng.normal(shift, 2.0, (rows, 3)).astype(np.float32),
        rewards=rng.uniform(-1, 0, rows).astype(np.float32),
        terminations=ends & (rng.uniform(size=rows) < 0.5),
        truncations=ends,
        episodes=np.repeat(np.arange(rows // 10), 10),
    )


def trainer(tasks: list[SeedTask]) -> OfflineTrainer:
    transitions = recording(0)
    return OfflineTrainer(tasks, transitions, CONFIG, recording_facts(transitions, True))


def test_seeds_that_stand_apart_catch_up_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offline_training, "LOG_INTERVAL", CHUNK)
    monkeypatch.setattr(offline_training, "CHECKPOINT_INTERVAL", 2 * CHUNK)

    def tasks(kind: str) -> list[SeedTask]:
        return [SeedTask(seed, SeedFolder(tmp_path / kind / str(seed))) for seed in (0, 1, 2)]

    end = 4 * CHUNK
    trainer(tasks("whole")).run(end, no_tick)
    apart = tasks("apart")

    def interrupt(units: float, *_: str) -> None:
        if units >= 2 * CHUNK:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(apart[:1]).run(end, interrupt)
    trainer(apart[1:2]).run(end, no_tick)
    reports: list[float] = []
    trainer(apart).run(end, lambda units, *_: reports.append(units))
    assert reports[0] == 6 * CHUNK, "what was done before is said first"
    assert reports == sorted(reports), "progress must not go backwards"
    assert reports[-1] == 3 * end
    for left, right in zip(tasks("whole"), apart, strict=True):
        assert left.folder.training.read_bytes() == right.folder.training.read_bytes()
        assert left.folder.metrics.read_bytes() == right.folder.metrics.read_bytes()


def test_observation_scale_is_the_datasets_own() -> None:
    transitions = recording(0, rows=400, shift=3.0)
    scale = ObservationScale.of(*observation_spread(transitions, normalize=True))
    obs = np.asarray(transitions.observations)
    np.testing.assert_allclose(scale.mean.numpy(), obs.mean(0), rtol=1e-5)
    np.testing.assert_allclose(scale.std.numpy(), obs.std(0), rtol=1e-4)
    steps = (np.asarray(transitions.next_observations) - obs) / obs.std(0)
    assert scale.step_std is not None
    np.testing.assert_allclose(scale.step_std.numpy(), steps.std(0), rtol=1e-4)
    plain = ObservationScale.of(*observation_spread(transitions, normalize=False))
    assert torch.equal(plain.apply(torch.ones(2, 3)), torch.ones(2, 3))


def workers_of(pid: int) -> list[int]:
    """Training workers that a process has started."""
    lists = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [
        int(child)
        for children in lists
        for child in children
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_what_a_worker_that_dies_was_at_goes_on_in_another(
    minari_root: Path, tmp_path: Path
) -> None:
    if available_cores() < 2:
        pytest.skip("one core: no workers")
    dataset = build_dataset(DatasetSpec("InvertedPendulum", transitions=2000), workers=1).obs_id
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.small_run", dataset, str(out), "--workers"],
        cwd=Path(__file__).parents[2],
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (out / "seeds" / "1" / "training.safetensors").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    workers = workers_of(process.pid)
    assert len(workers) == 2, "one process a seed, and no more than there are cores"
    os.kill(workers[0], signal.SIGKILL)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert [seed["seed"] for seed in read_json(out / "results.json")["seeds"]] == [0, 1]
    run(settings(dataset), RunFolder(tmp_path / "whole"), launcher=LocalLauncher(1))
    for name in ("training", "online", "policy"):
        files = [path / f"seeds/1/{name}.safetensors" for path in (out, tmp_path / "whole")]
        assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.usefixtures("in_process")
def test_a_dataset_of_other_observations_is_refused(minari_root: Path, tmp_path: Path) -> None:
    """By their sizes, where a recording doesn't say of which environment it is."""
    named = build_dataset(DatasetSpec("Reacher", transitions=100), workers=1).obs_id
    columns = load_transitions(named).transitions.columns()
    dataset = plan_arrays(**columns).store("me/nameless", about=About(text="a robot's log")).obs_id
    with pytest.raises(UserError, match="10 numbers, but InvertedPendulum-v5 gives 4"):
        run(settings(dataset), RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_time_spent_adds_up_over_resumptions(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.elapsed_s == 0.0
    folder.set_elapsed(12.34)
    assert folder.elapsed_s == pytest.approx(12.3)
    assert read_json(tmp_path / "elapsed.json") == {"seconds": 12.3}
