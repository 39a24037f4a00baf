"""`qss-offline`, through its entry point."""

import json
import os
import subprocess
import sys
from pathlib import Path

import minari
import numpy as np
import pytest

from tests.patience import PATIENCE_S
from tests.program import Qss


def qss_offline(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", "from qss_offline.cli.program import main; main()", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )


def test_presets_are_printed_as_json(qss: Qss) -> None:
    shown = json.loads(qss("presets --json").out)
    assert shown["paper d3g"]["algorithm"]["cycle_coef"] == 1.0
    assert shown["default auto"]["algorithm"]["normalize_observations"] is True
    bco = json.loads(qss("presets default --method bco --json").out)["default"]
    assert bco["updates"] == 15_000


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("bogus", "bogus"),
        ("evaluate none.safetensors", "none.safetensors does not exist"),
        ("data build none.toml", "none.toml"),
        ("data show qss/none-v0", "qss/none-v0"),
    ],
)
@pytest.mark.usefixtures("minari_root")
def test_bad_input_is_one_line_and_code_2(qss: Qss, line: str, message: str) -> None:
    assert message in qss.refused(line)


def test_bad_input_ends_the_process_in_one_line() -> None:
    done = qss_offline("data", "build", "none.toml")
    assert done.returncode == 2
    assert done.stderr.strip() == "error: cannot read none.toml: No such file or directory"


def test_what_needs_no_torch_does_not_wait_for_it(minari_root: Path) -> None:
    program = (
        "import sys\nfrom qss_offline.cli.program import main\n"
        "try:\n    main()\nfinally:\n    assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "data", "list"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Eight episodes of five steps as CSV."""
    rng = np.random.default_rng(0)
    lines = ["episode,obs_0,obs_1,next_obs_0,next_obs_1,action_0,reward,terminated"]
    for episode in range(8):
        obs = rng.normal(size=(6, 2)).astype(np.float32)
        for step in range(5):
            row = [*obs[step], *obs[step + 1], rng.normal(), rng.normal()]
            numbers = ",".join(repr(float(x)) for x in row)
            lines.append(f"{episode},{numbers},{int(step == 4)}")
    path = tmp_path / "robot.csv"
    path.write_text("\n".join(lines))
    return path


@pytest.mark.usefixtures("in_process")
def test_every_data_command(minari_root: Path, tmp_path: Path, recording: Path, qss: Qss) -> None:
    made = qss("data import --into me/robot", recording).out
    assert made.splitlines()[-2:] == [
        "made me/robot-obs-v0: 40 transitions, 8 episodes",
        "made me/robot-act-v0: 40 transitions, 8 episodes",
    ]
    assert "me/robot-obs-v0" in qss("data list").out
    assert json.loads(qss("data show me/robot-obs-v0").out)["total_steps"] == 40
    assert "verified me/robot-act-v0" in qss("data verify me/robot-act-v0").out
    checks = json.loads(qss("data verify me/robot-obs-v0 --json").out)
    assert {one["ok"] for one in checks.values()} <= {True, None} and len(checks) > 5
    listed = json.loads(qss("data list --json").out)
    assert listed["me/robot-obs-v0"]["total_episodes"] == 8
    picture = tmp_path / "look.png"
    numbers = qss("data stats me/robot-obs-v0 --picture", picture).out
    assert json.loads(numbers)["episodes"] == 8 and picture.is_file()
    split = qss("data split me/robot-act-v0 --into me/train=0.75 --into me/test=0.25").out
    assert "made me/train-act-v0: 30 transitions" in split
    merged = qss("data merge me/train-obs-v0 me/test-obs-v0 --into me/whole").out
    assert merged == "made me/whole-obs-v0: 40 transitions, 8 episodes\n"
    sampled = qss("data sample me/robot-obs-v0 --into me/few --episodes 2").out
    assert sampled == "made me/few-obs-v0: 10 transitions, 2 episodes\n"
    exported = tmp_path / "out.parquet"
    assert qss("data export me/robot-act-v0", exported).out == f"made {exported}\n"
    again = qss("data import --into me/again --observation-only", exported).out
    assert again.endswith("made me/again-obs-v0: 40 transitions, 8 episodes\n")
    stripped = qss("data import me/robot-act-v0 --into me/bare --observation-only").out
    assert stripped.endswith("made me/bare-obs-v0: 40 transitions, 8 episodes\n")
    assert "yes" in qss.refused("data rm me/few-obs-v0")
    assert "me/bare-obs-v0" in qss.refused("data rm me/bear-obs-v0 --yes")
    gone = qss("data rm me/few-obs-v0 me/again-obs-v0 --yes").out
    assert "removed me/few-obs-v0" in gone and "freed" in gone
    listed = json.loads(qss("data list --json").out)
    assert "me/robot-obs-v0" in listed and not {"me/few-obs-v0", "me/again-obs-v0"} & set(listed)
    assert sorted(path.name for path in (minari_root / "me").iterdir() if path.is_dir()) == sorted(
        name.partition("/")[2] for name in listed
    )
    card = qss("data card me/robot-obs-v0 --license cc-by-4.0").out
    assert card == f"made {minari_root / 'me/robot-obs-v0/README.md'}\n"
    remote = tmp_path / "remote"
    assert "pushed me/bare-obs-v0" in qss("data push me/bare-obs-v0 --to", remote).out
    pulled = qss("data pull me/bare-obs-v0 --overwrite --from", remote).out
    assert pulled.startswith("pulled me/bare-obs-v0, digest blake2b-256:")
    assert len(minari.list_local_datasets()) == 8


def test_a_policy_that_is_not_there(qss: Qss) -> None:
    assert qss.refused("evaluate none.safetensors") == "error: none.safetensors does not exist"


@pytest.mark.usefixtures("in_process")
def test_bad_input_of_data_commands(
    minari_root: Path, tmp_path: Path, recording: Path, qss: Qss
) -> None:
    qss("data import --into me/robot", recording)
    obs, act = "me/robot-obs-v0", "me/robot-act-v0"
    for line, words in (
        (f"import {recording} --into me/robot", "exists"),
        (f"import {recording} --into robot", "expected namespace/.../name"),
        ("import none.csv --into me/x", "none.csv does not exist"),
        ("import no/such-v0 --into me/x", "no dataset"),
        (f"import {recording} --into me/x --rewards rewart", "mean reward"),
        (f"import {recording} --into me/x --env Reachr", "did you mean"),
        ("show me/x-v0", "no dataset"),
        ("verify me/x-v0", "no dataset"),
        (f"stats {obs} --picture x.gif", "ends in .png"),
        (f"split {obs} --into me/x", "NAME=SHARE"),
        (f"split {obs} --into me/x=7", "add up to 1"),
        (f"merge {obs} {act} --into me/x", "holds actions"),
        (f"sample {obs} --into me/x", "give a number"),
        (f"export {obs} x.pkl", "ends in .parquet or .npz"),
        (f"card {obs} --license 'a b'", "license"),
        (f"push {obs} --to ftp://x", "hf://USER"),
        (f"pull {obs} --from {tmp_path}", "is here already"),
        (f"pull me/none-v0 --from {tmp_path}", "is not in"),
        ("build none.toml", "none.toml"),
        ("bogus", "bogus"),
        ("merge", "dataset_ids"),
    ):
        assert words in qss(f"data {line}", code=2).error, line
    data = minari_root / obs / "data"
    (data / "columns.arrow").write_bytes(b"nonsense")
    said = qss(f"data verify {obs}", code=2)
    assert "FAULT  sidecar" in said.out and "checks failed" in said.error
    assert len(minari.list_local_datasets()) == 2
