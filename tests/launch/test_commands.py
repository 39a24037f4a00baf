"""Cells listed, printed for another scheduler, and run one by one as that would."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from qss_offline.cli.cells import cell
from qss_offline.cli.program import main
from qss_offline.data.build import build_dataset
from qss_offline.data.specs import DatasetSpec
from qss_offline.online.presets import BASELINES
from tests.hostile.conftest import refused
from tests.hostile.test_runs import VALUES

SMALL = (
    "--method d3g --updates 60 --online-steps 30 --online-rounds 1 --episodes 1 "
    "--set algorithm.batch_size=32 --set ensemble=2 --set updates_per_round=20"
)


@pytest.fixture
def dataset(minari_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return build_dataset(DatasetSpec("Reacher", transitions=500), workers=1).obs_id


class Shell:
    """Commands in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, arguments: str, code: int = 0) -> list[str]:
        self._capsys.readouterr()
        self._monkeypatch.setattr(sys, "argv", ["qss", *shlex.split(arguments, comments=True)])
        ended: object = 0
        try:
            main()
        except SystemExit as end:
            ended = end.code or 0
        out, err = self._capsys.readouterr()
        assert ended == code, err
        return (out if code == 0 else err).strip().splitlines()


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(monkeypatch, capsys)


def test_cells_are_listed_in_their_order_and_nothing_is_written(
    dataset: str, tmp_path: Path, shell: Shell
) -> None:
    header, *rows, last = shell(f"train {dataset} {SMALL} --seeds 2 --workers 2 --dry-run --out a")
    assert header.split("\t") == ["order", "cell", "about", "after"]
    assert [row.split("\t")[3] for row in rows][-1] in ("1 2", "1", "2")
    assert "a models" in rows[0] and "a seeds" in rows[-1]
    assert last.startswith(f"{len(rows)} cells, about") and "Nothing was run" in last
    listed = shell("reproduce table1 --methods d3g,pseudo-iql --levels 100 --seeds 2 --dry-run "
                   "--families reacher --out a --runs b --workers 1")  # fmt: skip
    order = {row.split("\t")[1]: row.split("\t")[0] for row in listed[1:-1]}
    after = {row.split("\t")[1]: row.split("\t")[3] for row in listed[1:-1]}
    for seed in (310, 311):
        labelled = after[f"reacher-100-pseudo-iql-{seed} seeds {seed}"]
        assert labelled == order[f"reacher-100-bco-{seed} seeds {seed}"], "labels wait for BCO"
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()
    for listing in ("--dry-run", "--print-commands"):
        assert "run nothing" in shell(f"train {dataset} {listing} --json", 2)[-1]
    assert "take one of them" in shell(f"train {dataset} --dry-run --print-commands", 2)[-1]


@pytest.mark.usefixtures("undrawn")
def test_printed_commands_come_to_the_same_bits(dataset: str, tmp_path: Path, shell: Shell) -> None:
    shell(f"train {dataset} {SMALL} --seeds 2 --out whole")
    Path("two.toml").write_text(
        f"recordings = ['{dataset}']\nmethods = ['d3g']\nseeds = 2\nupdates = 60\n"
        "online_steps = 30\nonline_rounds = 1\nepisodes = 1\n"
        "changes = ['algorithm.batch_size=32', 'ensemble=2', 'updates_per_round=20']\n"
    )
    lines = shell("sweep two.toml --print-commands --no-video")
    assert [line.partition("  # after ")[2] for line in lines] == [*[""] * 4, "1 2", "3 4"]
    for line in lines:
        assert shell(line.removeprefix("qss "))[-1].startswith("done: ")
    (run,) = (path.parent for path in Path("runs/two").glob("*/config.json"))
    assert not (run / "results.json").exists()
    begun = json.loads((run / "elapsed.json").read_text())["seconds"]
    shell("sweep two.toml --no-video")
    assert json.loads((run / "results.json").read_text())["wall_seconds"] >= begun > 0
    for path in Path("whole").rglob("*.safetensors"):
        assert (run / path.relative_to("whole")).read_bytes() == path.read_bytes()


@pytest.mark.usefixtures("undrawn", "minari_root")
@pytest.mark.parametrize("algorithm", ["d3g", "td3"])
def test_what_an_online_run_says_comes_next_works(
    algorithm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: Shell
) -> None:
    if algorithm in BASELINES:
        pytest.importorskip("d3rlpy")
    monkeypatch.chdir(tmp_path)
    *_, last = shell(f"train-online InvertedPendulum --algo {algorithm} --steps 60 --warm-up 30 "
                     "--evaluate-every 60 --episodes 1 --out run")  # fmt: skip
    commands = re.findall("qss ([^;]+)", last)
    for command in commands:
        shell(command.replace("report run", "report run --no-video"))
    assert ("data import" in last) == (algorithm not in BASELINES)
    assert len(commands) == 1 + ("data import" in last)


def test_a_cell_of_a_file_runs_no_code_that_the_file_names(
    dataset: str, tmp_path: Path, shell: Shell
) -> None:
    (line,) = shell(f"train {dataset} {SMALL} --set ensemble=1 --print-commands --out a")
    path = Path(shlex.split(line)[2])
    plain = json.loads(path.read_text())
    path.write_text(json.dumps({**plain, "task": "os:system"}))
    assert "which is no cell's task" in shell(f"cell {path}", 2)[-1]
    own = tmp_path / "own.py"
    own.write_text("raise SystemExit('it ran')\n")
    for environments in ([f"{own}:Reacher-v5"], []):
        settings = json.loads(json.dumps(plain["settings"]))
        settings["config"]["env_id"] = f"{own}:Reacher-v5"
        path.write_text(json.dumps({**plain, "environments": environments, "settings": settings}))
        said = shell(f"cell {path}", 0 if environments else 2)[-1]
        assert "it ran" not in said
    assert "the cell doesn't" in said


def test_whatever_the_file_of_a_cell_says_it_is_run_or_refused_in_one_line(
    dataset: str, shell: Shell
) -> None:
    (line,) = shell(f"train {dataset} {SMALL} --set ensemble=1 --print-commands --out a")
    shell(line.removeprefix("qss "))
    path = Path(shlex.split(line)[2])
    honest = json.loads(path.read_text())
    for spoilt in (
        *({**honest, name: value} for name in honest for value in VALUES),
        *({**honest, "settings": {"env_id": value}} for value in VALUES),
    ):
        path.write_text(json.dumps(spoilt))
        refused(cell, path)
