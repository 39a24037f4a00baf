"""TD3+BC on labels alone, on a small run."""

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.labels_alone import trainer_of, wanted
from qss_offline.data.build import build_dataset
from qss_offline.data.specs import DatasetSpec
from qss_offline.presets import PRESETS
from qss_offline.runs.folder import RunFolder
from qss_offline.runs.portfolio_config import VALUES
from qss_offline.training.options import TrainOptions
from qss_offline.training.runner import TrainingRun
from tests.small_run import RACED


def test_it_takes_every_online_step_but_the_random_ones(
    minari_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "small", {"auto": RACED})  # type: ignore[arg-type]
    env_id = "InvertedPendulum-v5"
    options = TrainOptions("auto", "small", seeds=(3,), updates=40, episodes=1)
    config = options.config(
        build_dataset(DatasetSpec(env_id, 1.0, 2_000), workers=1).obs_id, env_id
    )
    trainer = trainer_of(TrainingRun(config, RunFolder(tmp_path / "run"), False).config, 3)
    for _ in range(RACED.inverse.rounds):
        trainer.run_round()
    acted = [(heat.member, heat.steps) for heat in trainer.race.rounds]
    assert acted == [(VALUES, RACED.inverse.steps_per_round)] * (RACED.inverse.rounds - 1)
    assert trainer.policy(0).diverged is None


def test_the_first_published_races_of_every_recording_are_taken() -> None:
    for seeds in (1, 2):
        found = wanted(Path("results/table1"), seeds)
        assert {entry.method for entry, _ in found} == {"auto"}
        assert set(Counter(entry.key[:2] for entry, _ in found).values()) == {seeds}
