"""The quickstart as a user meets it: real processes, really killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from qss_offline.cli.command import main
from qss_offline.cli.training import random_obs
from qss_offline.data import plan_arrays
from qss_offline.data.build import build_dataset
from qss_offline.data.specs import DatasetSpec
from qss_offline.launch.local import LocalLauncher
from qss_offline.runs.folder import RunFolder, read_json
from qss_offline.runs.results import evaluation_means
from qss_offline.training.runner import run
from tests.program import Qss
from tests.small_run import settings

ROOT = Path(__file__).parents[2]


def start(*command: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "120"},
        # A job in the background of a script starts with Ctrl-C ignored, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def checkpoint_update(path: Path) -> int:
    try:
        with safe_open(path, framework="np") as file:
            return int(json.loads(file.metadata()["json"])["update"])
    except FileNotFoundError:
        return 0


def files_of_interest(out: Path) -> dict[str, bytes]:
    names = ("policy.safetensors", "result.json", "metrics.jsonl", "training.safetensors")
    return {
        f"{seed}/{name}": (out / "seeds" / seed / name).read_bytes()
        for seed in ("0", "1")
        for name in names
    }


def test_killed_runs_resume_to_the_same_bits(minari_root: Path, tmp_path: Path) -> None:
    dataset = build_dataset(DatasetSpec("InvertedPendulum", transitions=2000), workers=1).obs_id
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(settings(dataset), RunFolder(whole), launcher=LocalLauncher(1))
    command = (sys.executable, "-m", "tests.small_run", dataset)
    rng = np.random.default_rng(0)
    resume: tuple[str, ...] = ()
    for goal in (2000, 4000):
        process = start(*command, str(killed), *resume)
        while checkpoint_update(killed / "seeds" / "0" / "training.safetensors") < goal:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        time.sleep(float(rng.uniform(0, 0.5)))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        resume = ("--resume",)
    run(settings(dataset), RunFolder(killed), resume=True, launcher=LocalLauncher(1))
    assert files_of_interest(killed) == files_of_interest(whole)

    results = json.loads((killed / "results.json").read_text())
    assert results["env_id"] == "InvertedPendulum-v5"
    assert results["transitions"] == 2000
    assert results["updates"] == 5000
    assert results["random_action_prob"] == 1.0
    assert results["dataset_id"].startswith("qss/InvertedPendulum/")
    assert 3 < results["behaviour_return"] < 8
    assert results["wall_seconds"] > 0
    assert [seed["seed"] for seed in results["seeds"]] == [0, 1]
    for seed in results["seeds"]:
        assert len(seed["last"]["returns"]) == 2
        assert seed["last"]["mean"] == pytest.approx(np.mean(seed["last"]["returns"]))
        assert seed["best"]["mean"] == max(evaluation_means(seed)) >= seed["last"]["mean"]
        assert seed["best"]["evaluation"] in (1, 2)
        assert seed["online_steps"] == 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--env", "InvertedPendulun"), "did you mean"),
        (("--env", "CartPole", "--method", "bco"), "continuous actions"),
        (("--env", "Pendulum", "--transitions", "0"), "transitions"),
        (("--randomness", "1.5"), "not between 0 and 1"),
        (("--env", "Pendulum", "--randomness", "0.5"), "expert"),
        (("--preset", "papr"), "did you mean paper"),
        (("--seeds", "none"), "--seeds"),
        (("--device", "cuda"), "--device cuda"),
        (("--device", "tpu"), "--device"),
        (("--updates", "0"), "updates"),
        (("--updates", "many"), "--updates"),
        (("--out", "/proc/none/run", "--transitions", "500"), "/proc/none"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    minari_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    if arguments[-1] == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    # In this process: a fresh one spends seconds importing. The test below runs one.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["random_obs", *arguments])
    with pytest.raises(SystemExit) as ended:
        main(random_obs)
    assert ended.value.code == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert not list(tmp_path.glob("runs/*"))
    assert not list((tmp_path / "minari").rglob("*.tmp"))


def test_steps_that_are_not_random_are_the_environments_expert(
    minari_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(ROOT)
    budgets = (
        "--method d3g --transitions 500 --updates 20 --online-steps 30 --episodes 1 "
        "--set ensemble=1 --set updates_per_round=10"
    )
    out = tmp_path / "run"
    command = f"random_obs --env InvertedDoublePendulum --randomness 0.25 {budgets} --out {out}"
    monkeypatch.setattr(sys, "argv", command.split())
    main(random_obs)
    recorded = read_json(out / "config.json")["dataset_id"]
    assert "random-25-inverted_double_pendulum-n500" in recorded
    said = capsys.readouterr().err
    assert recorded in said
    assert "steps that aren't random are those of the expert inverted_double_pendulum" in said
    another = "datasets/experts/inverted_double_pendulum_medium.safetensors"
    named = f"{command} --expert {another}".replace(str(out), str(tmp_path / "named"))
    monkeypatch.setattr(sys, "argv", named.split())
    main(random_obs)
    recorded = read_json(tmp_path / "named" / "config.json")["dataset_id"]
    assert "random-25-inverted_double_pendulum_medium-n500" in recorded


@pytest.mark.usefixtures("in_process")
def test_a_recording_brings_its_environment_along(
    minari_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qss: Qss
) -> None:
    monkeypatch.chdir(tmp_path)
    few = (
        "--method d3g --updates 20 --online-steps 30 --episodes 1 --set ensemble=1 "
        "--set updates_per_round=10"
    )
    reacher = build_dataset(DatasetSpec("Reacher", transitions=300), workers=1).obs_id
    qss(f"train {reacher} --out run {few}")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["env_id"] == "Reacher-v5"

    rng = np.random.default_rng(0)
    log = plan_arrays(
        observations=rng.normal(size=(301, 4)),
        rewards=np.zeros(300),
        terminations=np.arange(300) == 299,
    ).store("mine/arm")
    assert "--env" in qss(f"train {log.obs_id} --out arm {few}", code=2).error
    assert not (tmp_path / "arm").exists()
