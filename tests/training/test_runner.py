"""What runs of every method do around their training; training itself is left out here."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qss_offline.data import About, plan_arrays
from qss_offline.data.build import build_dataset
from qss_offline.data.load import load_transitions
from qss_offline.data.specs import DatasetSpec
from qss_offline.errors import UserError
from qss_offline.files import write_json
from qss_offline.parallel.processes import Tick
from qss_offline.runs.config import RunConfig
from qss_offline.runs.folder import RunFolder
from qss_offline.training import cells, runner
from qss_offline.training.offline import SeedTask
from qss_offline.training.phases import Phase
from qss_offline.training.runner import recorded_behaviour
from tests.small_run import settings

pytestmark = pytest.mark.usefixtures("in_process")


def untrained(config: RunConfig, tasks: Sequence[SeedTask], tick: Tick) -> None:
    assert len(config.facts.step_std) in (4, 10)
    for task in tasks:
        evaluations = [
            {"online_steps": steps, "returns": returns}
            for steps, returns in ((100, [1.0, 3.0]), (200, [0.0, 2.0]))
        ]
        write_json(task.folder.result, {"seed": task.seed, "evaluations": evaluations})


@pytest.fixture(autouse=True)
def nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cells._PHASES, "d3g", lambda config: (Phase("seeds", untrained, 1.0),))


def run_on(dataset: str, folder: Path, resume: bool = False) -> dict[str, Any]:
    return runner.run(settings(dataset), RunFolder(folder), resume)


def test_recorded_behaviour_is_that_of_episodes_that_were_not_cut(
    minari_root: Path, tmp_path: Path
) -> None:
    name = build_dataset(DatasetSpec("InvertedPendulum", transitions=500), workers=1).obs_id
    results = run_on(name, tmp_path / "run")
    dataset = load_transitions(name)
    transitions, stated = dataset.transitions, dataset.info.behaviour_return
    assert stated is not None
    ends = np.append(transitions.episode_starts()[1:], len(transitions)) - 1
    fell = transitions.terminations[ends]
    assert not fell.all(), "no episode was cut: what is tested here?"
    whole = transitions.episode_returns()[fell]
    assert results["behaviour_return"] == pytest.approx(whole.mean())
    assert results["behaviour_return_std"] == pytest.approx(whole.std())
    silent = replace(dataset, info=replace(dataset.info, behaviour_return=None))
    every = transitions.episode_returns()
    assert recorded_behaviour(silent).mean == pytest.approx(every.mean())
    assert [seed["last"]["mean"] for seed in results["seeds"]] == [1.0, 1.0]
    assert [seed["best"] for seed in results["seeds"]] == [
        {"mean": 2.0, "evaluation": 1, "online_steps": 100}
    ] * 2


def imported(seed: int) -> str:
    made = build_dataset(DatasetSpec("InvertedPendulum", transitions=300, seed=seed), workers=1)
    columns = load_transitions(made.obs_id).transitions.columns()
    about = About(env_id="InvertedPendulum-v5", text="a robot's log")
    return plan_arrays(**columns).store("me/log", about=about, overwrite=True).obs_id


def test_a_run_is_not_resumed_on_another_recording_of_the_same_name(
    minari_root: Path, tmp_path: Path
) -> None:
    name = imported(0)
    run_on(name, tmp_path / "run")
    run_on(name, tmp_path / "run", resume=True)
    assert imported(1) == name
    with pytest.raises(UserError, match=r"me/log.* isn't the recording that .*run began with"):
        run_on(name, tmp_path / "run", resume=True)


def test_a_recording_of_another_environment_is_refused(minari_root: Path, tmp_path: Path) -> None:
    name = build_dataset(DatasetSpec("Reacher", transitions=60), workers=1).obs_id
    with pytest.raises(
        UserError, match="is of another environment: Reacher-v5, not InvertedPendulum-v5"
    ):
        run_on(name, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_d3g_refuses_a_recording_without_rewards(minari_root: Path, tmp_path: Path) -> None:
    made = build_dataset(DatasetSpec("InvertedPendulum", transitions=300), workers=1)
    columns = load_transitions(made.obs_id).transitions.columns()
    del columns["rewards"]
    about = About(env_id="InvertedPendulum-v5")
    name = plan_arrays(**columns).store("me/demo", about=about).obs_id
    with pytest.raises(UserError, match="without rewards, from which D3G learns; BCO needs none"):
        run_on(name, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("rows", [1, 5, 19])
def test_a_handful_of_steps_is_refused_before_anything_is_made(
    minari_root: Path, tmp_path: Path, rows: int
) -> None:
    made = build_dataset(DatasetSpec("InvertedPendulum", transitions=rows), workers=1)
    with pytest.raises(UserError, match=rf"holds {rows} transitions.*20 are needed"):
        run_on(made.obs_id, tmp_path / "run")
    assert not (tmp_path / "run").exists()
