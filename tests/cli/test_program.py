"""`qss-offline`, through its entry point."""

import json
import os
import subprocess
import sys
from pathlib import Path

import minari
import numpy as np
import pytest

from qss_offline.cli import program as cli
from tests.patience import PATIENCE_S


def qss_offline(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", "from qss_offline.cli.program import main; main()", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )


class Cli:
    """The program in this process: starting a new one takes seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["qss-offline", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = self._capsys.readouterr()
        return code, out, err

    def ok(self, *arguments: str) -> str:
        code, out, err = self(*arguments)
        assert code == 0, err
        return out

    def error(self, *arguments: str) -> str:
        code, _, err = self(*arguments)
        assert code == 2
        lines = err.strip().splitlines()
        assert lines[-1].startswith("error: ")
        assert "Traceback" not in err
        return lines[-1]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.setenv("COLUMNS", "200")
    return Cli(monkeypatch, capsys)


def test_presets_are_printed_as_json(run: Cli) -> None:
    shown = json.loads(run.ok("presets", "--json"))
    assert shown["paper d3g"]["algorithm"]["cycle_coef"] == 1.0
    assert shown["default auto"]["algorithm"]["normalize_observations"] is True
    assert (
        json.loads(run.ok("presets", "default", "--method", "bco", "--json"))["default"]["updates"]
        == 15_000
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bogus",), "bogus"),
        (("evaluate", "none.safetensors"), "none.safetensors does not exist"),
        (("data", "build", "none.toml"), "none.toml"),
        (("data", "show", "qss/none-v0"), "qss/none-v0"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    minari_root: Path, run: Cli, arguments: tuple[str, ...], message: str
) -> None:
    code, _, err = run(*arguments)
    assert code == 2
    assert err.startswith("error: ")
    assert message in err
    assert len(err.strip().splitlines()) == 1


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
def test_every_data_command(minari_root: Path, tmp_path: Path, recording: Path, run: Cli) -> None:
    made = run.ok("data", "import", str(recording), "--into", "me/robot")
    assert made.splitlines()[-2:] == [
        "made me/robot-obs-v0: 40 transitions, 8 episodes",
        "made me/robot-act-v0: 40 transitions, 8 episodes",
    ]
    assert "me/robot-obs-v0" in run.ok("data", "list")
    assert json.loads(run.ok("data", "show", "me/robot-obs-v0"))["total_steps"] == 40
    assert "verified me/robot-act-v0" in run.ok("data", "verify", "me/robot-act-v0")
    checks = json.loads(run.ok("data", "verify", "me/robot-obs-v0", "--json"))
    assert {one["ok"] for one in checks.values()} <= {True, None} and len(checks) > 5
    listed = json.loads(run.ok("data", "list", "--json"))
    assert listed["me/robot-obs-v0"]["total_episodes"] == 8
    picture = tmp_path / "look.png"
    numbers = run.ok("data", "stats", "me/robot-obs-v0", "--picture", str(picture))
    assert json.loads(numbers)["episodes"] == 8 and picture.is_file()
    split = run.ok(
        "data", "split", "me/robot-act-v0", "--into", "me/train=0.75", "--into", "me/test=0.25"
    )
    assert "made me/train-act-v0: 30 transitions" in split
    merged = run.ok("data", "merge", "me/train-obs-v0", "me/test-obs-v0", "--into", "me/whole")
    assert merged == "made me/whole-obs-v0: 40 transitions, 8 episodes\n"
    sampled = run.ok("data", "sample", "me/robot-obs-v0", "--into", "me/few", "--episodes", "2")
    assert sampled == "made me/few-obs-v0: 10 transitions, 2 episodes\n"
    exported = tmp_path / "out.parquet"
    assert run.ok("data", "export", "me/robot-act-v0", str(exported)) == f"made {exported}\n"
    again = run.ok("data", "import", str(exported), "--into", "me/again", "--observation-only")
    assert again.endswith("made me/again-obs-v0: 40 transitions, 8 episodes\n")
    stripped = run.ok(
        "data", "import", "me/robot-act-v0", "--into", "me/bare", "--observation-only"
    )
    assert stripped.endswith("made me/bare-obs-v0: 40 transitions, 8 episodes\n")
    assert "yes" in run.error("data", "rm", "me/few-obs-v0")
    assert "me/bare-obs-v0" in run.error("data", "rm", "me/bear-obs-v0", "--yes")
    gone = run.ok("data", "rm", "me/few-obs-v0", "me/again-obs-v0", "--yes")
    assert "removed me/few-obs-v0" in gone and "freed" in gone
    listed = json.loads(run.ok("data", "list", "--json"))
    assert "me/robot-obs-v0" in listed and not {"me/few-obs-v0", "me/again-obs-v0"} & set(listed)
    assert sorted(path.name for path in (minari_root / "me").iterdir() if path.is_dir()) == sorted(
        name.partition("/")[2] for name in listed
    )
    card = run.ok("data", "card", "me/robot-obs-v0", "--license", "cc-by-4.0")
    assert card == f"made {minari_root / 'me/robot-obs-v0/README.md'}\n"
    remote = str(tmp_path / "remote")
    assert "pushed me/bare-obs-v0" in run.ok("data", "push", "me/bare-obs-v0", "--to", remote)
    pulled = run.ok("data", "pull", "me/bare-obs-v0", "--from", remote, "--overwrite")
    assert pulled.startswith("pulled me/bare-obs-v0, digest blake2b-256:")
    assert len(minari.list_local_datasets()) == 8


def test_a_policy_that_is_not_there(run: Cli) -> None:
    assert run.error("evaluate", "none.safetensors") == "error: none.safetensors does not exist"


@pytest.mark.usefixtures("in_process")
def test_bad_input_of_data_commands(
    minari_root: Path, tmp_path: Path, recording: Path, run: Cli
) -> None:
    run.ok("data", "import", str(recording), "--into", "me/robot")
    obs, act = "me/robot-obs-v0", "me/robot-act-v0"
    for arguments, words in (
        (("import", str(recording), "--into", "me/robot"), "exists"),
        (("import", str(recording), "--into", "robot"), "expected namespace/.../name"),
        (("import", "none.csv", "--into", "me/x"), "none.csv does not exist"),
        (("import", "no/such-v0", "--into", "me/x"), "no dataset"),
        (("import", str(recording), "--into", "me/x", "--rewards", "rewart"), "mean reward"),
        (("import", str(recording), "--into", "me/x", "--env", "Reachr"), "did you mean"),
        (("show", "me/x-v0"), "no dataset"),
        (("verify", "me/x-v0"), "no dataset"),
        (("stats", obs, "--picture", "x.gif"), "ends in .png"),
        (("split", obs, "--into", "me/x"), "NAME=SHARE"),
        (("split", obs, "--into", "me/x=7"), "add up to 1"),
        (("merge", obs, act, "--into", "me/x"), "holds actions"),
        (("sample", obs, "--into", "me/x"), "give a number"),
        (("export", obs, "x.pkl"), "ends in .parquet or .npz"),
        (("card", obs, "--license", "a b"), "license"),
        (("push", obs, "--to", "ftp://x"), "hf://USER"),
        (("pull", obs, "--from", str(tmp_path)), "is here already"),
        (("pull", "me/none-v0", "--from", str(tmp_path)), "is not in"),
        (("build", "none.toml"), "none.toml"),
        (("bogus",), "bogus"),
        (("merge",), "dataset_ids"),
    ):
        assert words in run.error("data", *arguments), arguments
    data = minari_root / obs / "data"
    (data / "columns.arrow").write_bytes(b"nonsense")
    code, out, err = run("data", "verify", obs)
    assert code == 2 and "FAULT  sidecar" in out
    assert "checks failed" in err.splitlines()[-1]
    assert len(minari.list_local_datasets()) == 2
