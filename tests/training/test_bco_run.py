"""Runs of BCO: whole, interrupted and resumed, spread over processes, and as a user starts them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from qss_offline.algorithms.bco import CloningConfig
from qss_offline.algorithms.inverse_dynamics import InverseDynamicsConfig
from qss_offline.cli.training import random_obs
from qss_offline.data.build import build_dataset
from qss_offline.data.specs import DatasetSpec
from qss_offline.errors import UserError
from qss_offline.evaluation.policy_files import load_policy
from qss_offline.launch.local import LocalLauncher
from qss_offline.parallel.progress import Reporter
from qss_offline.runs.config import RunConfig
from qss_offline.runs.folder import RunFolder, read_json
from qss_offline.runs.inverse_config import InverseFitConfig
from qss_offline.training.runner import run
from tests.small_run import PRESET

INVERSE = InverseFitConfig(3, 40, 60, model=InverseDynamicsConfig((8, 8), 32, step_inputs=True))


@pytest.fixture
def settings(minari_root: Path) -> RunConfig:
    dataset = build_dataset(DatasetSpec("InvertedPendulum", transitions=500), workers=1).obs_id
    return RunConfig(
        "bco",
        "InvertedPendulum-v5",
        dataset,
        (0, 1),
        "small",
        replace(PRESET, inverse=INVERSE),
        CloningConfig((8, 8), 32, 1e-3, 0.5),
        cloning_updates=30,
        evaluation_episodes=2,
    )


def bits(folder: Path) -> dict[str, bytes]:
    names = ("policy.safetensors", "result.json", "online.safetensors")
    return {
        f"{seed}/{name}": (folder / "seeds" / str(seed) / name).read_bytes()
        for seed in (0, 1)
        for name in names
    }


def test_an_interrupted_run_resumes_to_the_same_bits(settings: RunConfig, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    results = run(settings, RunFolder(whole), launcher=LocalLauncher(1))

    @contextmanager
    def interrupted(_: str, total: int, unit: str) -> Iterator[Reporter]:
        def report(done: int, note: str = "") -> None:
            if done > total // 2:
                raise KeyboardInterrupt

        yield report

    with pytest.raises(KeyboardInterrupt):
        run(settings, RunFolder(broken), show_progress=interrupted, launcher=LocalLauncher(1))
    assert not (broken / "results.json").exists()
    assert (broken / "seeds" / "0" / "online.safetensors").exists()
    with pytest.raises(UserError, match=r"started with cloning\.error_power = 0\.5, not 2"):
        other = replace(settings, cloning=replace(settings.cloning, error_power=2.0))
        run(other, RunFolder(broken), resume=True)
    run(settings, RunFolder(broken), resume=True, launcher=LocalLauncher(1))
    assert bits(broken) == bits(whole)

    assert read_json(whole / "results.json") == results
    assert [seed["seed"] for seed in results["seeds"]] == [0, 1]
    assert results["seeds"][0]["online_steps"] == 120
    assert len(results["seeds"][0]["evaluations"]) == 3


def test_processes_make_no_difference(settings: RunConfig, tmp_path: Path) -> None:
    run(settings, RunFolder(tmp_path / "one"), launcher=LocalLauncher(1))
    run(settings, RunFolder(tmp_path / "two"), launcher=LocalLauncher(2))
    assert bits(tmp_path / "one") == bits(tmp_path / "two")


def test_the_recipe_makes_a_policy_and_says_where(
    minari_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    budget = {"updates": 40, "online_steps": 30, "online_rounds": 1,
              "change": ["updates_per_round=20"]}  # fmt: skip
    random_obs(method="bco", transitions=500, episodes=1, out=out, **budget)
    printed = capsys.readouterr().out
    policy = out / "seeds" / "0" / "policy.safetensors"
    assert f"{policy} (the policy)" in printed and f"qss report {out}" in printed
    assert load_policy(policy).env_id == "InvertedPendulum-v5"
    assert read_json(out / "config.json")["cloning"]["error_power"] == 0.5
    assert "% of the variance of its steps; the policy held to the mode of what was done" in printed
    assert "did not learn: last returns" in printed
    assert "all recorded actions are random, which is all that BCO can repeat" in printed
    with pytest.raises(UserError, match=r"holds a run already: qss resume .*/run goes on with it"):
        random_obs(method="bco", transitions=500, episodes=1, out=out, **budget)


def test_updates_that_rounds_can_not_share_are_refused() -> None:
    with pytest.raises(UserError, match="25 updates can't be spread evenly over 10 rounds"):
        random_obs(method="bco", updates=25)
