"""Cells listed, printed for another scheduler, and run one by one as that would."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from qss_offline.cli.cells import cell
from qss_offline.data.build import build_dataset
from qss_offline.data.specs import DatasetSpec
from qss_offline.online.presets import BASELINES
from tests.hostile.conftest import refused
from tests.hostile.test_runs import VALUES
from tests.program import Qss

SMALL = (
    "--method d3g --updates 60 --online-steps 30 --online-rounds 1 --episodes 1 "
    "--set algorithm.batch_size=32 --set ensemble=2 --set updates_per_round=20"
)
SWEPT = (
    "methods = ['d3g']\nseeds = 2\nupdates = 60\nonline_steps = 30\nonline_rounds = 1\n"
    "episodes = 1\nchanges = ['algorithm.batch_size=32', 'ensemble=2', 'updates_per_round=20']\n"
)
"""The same in the file of a sweep."""


@pytest.fixture
def dataset(minari_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return build_dataset(DatasetSpec("Reacher", transitions=500), workers=1).obs_id


def test_cells_are_listed_in_their_order_and_nothing_is_written(
    dataset: str, tmp_path: Path, qss: Qss
) -> None:
    listed = qss(f"train {dataset} {SMALL} --seeds 2 --workers 2 --dry-run --out a").out
    header, *rows, last = listed.splitlines()
    assert header.split("\t") == ["order", "cell", "about", "after"]
    assert [row.split("\t")[3] for row in rows][-1] in ("1 2", "1", "2")
    assert "a models" in rows[0] and "a seeds" in rows[-1]
    assert last.startswith(f"{len(rows)} cells, about") and "Nothing was run" in last
    listed = qss("reproduce table1 --methods d3g,pseudo-iql --levels 100 --seeds 2 --dry-run "
                 "--families reacher --out a --runs b --workers 1").out  # fmt: skip
    rows = listed.splitlines()[1:-1]
    order = {row.split("\t")[1]: row.split("\t")[0] for row in rows}
    after = {row.split("\t")[1]: row.split("\t")[3] for row in rows}
    for seed in (310, 311):
        labelled = after[f"reacher-100-pseudo-iql-{seed} seeds {seed}"]
        assert labelled == order[f"reacher-100-bco-{seed} seeds {seed}"], "labels wait for BCO"
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()
    for listing in ("--dry-run", "--print-commands"):
        assert "run nothing" in qss.refused(f"train {dataset} {listing} --json")
    assert "take one of them" in qss.refused(f"train {dataset} --dry-run --print-commands")


def test_nothing_but_commands_is_printed_and_their_numbers_are_those_of_the_lines(
    dataset: str, qss: Qss
) -> None:
    out, err = qss(f"train {dataset} {SMALL} --seeds 2 --print-commands --out a")
    commands = [line.partition("  # after ") for line in out.splitlines()]
    assert all(command.startswith("qss cell ") for command, *_ in commands)
    assert [after for *_, after in commands] == [*[""] * 4, "1 2", "3 4"]
    assert "training 2 seeds" not in err


def test_what_cannot_run_is_named_after_the_list_of_what_can(dataset: str, qss: Qss) -> None:
    unmade = "{ env = 'Pendulum', steps = 500 }"
    Path("some.toml").write_text(f"recordings = ['no/such-obs-v0', '{dataset}', {unmade}]\n{SWEPT}")
    listed = qss("sweep some.toml --dry-run -q", code=2)
    assert "-d3g seeds" in listed.out and "Nothing was run" in listed.out
    assert listed.err.startswith("error: 2 runs failed, the first with: no/such-obs-v0: ")
    Path("one.toml").write_text(f"recordings = ['no/such-obs-v0', '{dataset}']\n{SWEPT}")
    said = qss("sweep one.toml --print-commands -q", code=2)
    assert [line.startswith("qss cell ") for line in said.out.splitlines()] == [True] * 6
    assert said.err.startswith("error: 1 run failed, the first with: no/such-obs-v0: ")
    Path("one.toml").write_text(
        f"recordings = ['{dataset}']\n{SWEPT.replace('updates = 60', 'updates = 50', 1)}"
    )
    refused = qss.refused("sweep one.toml --print-commands -q")
    assert "1 run failed" in refused and "updates" in refused, "begun with other settings"


@pytest.mark.usefixtures("undrawn")
def test_printed_commands_come_to_the_same_bits(dataset: str, qss: Qss) -> None:
    qss(f"train {dataset} {SMALL} --seeds 2 --out whole")
    Path("two.toml").write_text(f"recordings = ['{dataset}']\n{SWEPT}")
    lines = qss("sweep two.toml --print-commands --no-video").out.splitlines()
    assert [line.partition("  # after ")[2] for line in lines] == [*[""] * 4, "1 2", "3 4"]
    for line in lines:
        assert qss(line.removeprefix("qss ")).out.splitlines()[-1].startswith("done: ")
    (run,) = (path.parent for path in Path("runs/two").glob("*/config.json"))
    assert not (run / "results.json").exists()
    begun = json.loads((run / "elapsed.json").read_text())["seconds"]
    qss("sweep two.toml --no-video")
    assert json.loads((run / "results.json").read_text())["wall_seconds"] >= begun > 0
    for path in Path("whole").rglob("*.safetensors"):
        assert (run / path.relative_to("whole")).read_bytes() == path.read_bytes()
    shutil.rmtree("runs/two/report")
    said = qss("sweep two.toml --print-commands")
    assert said.out == "" and said.err.startswith("all is done: ")
    assert "".join(qss("sweep two.toml --print-commands -q")) == ""
    assert "\n0 cells" in qss("sweep two.toml --dry-run").out
    assert not Path("runs/two/report").exists(), "nothing is reported on"


@pytest.mark.usefixtures("undrawn", "minari_root")
@pytest.mark.parametrize("algorithm", ["d3g", "td3"])
def test_what_an_online_run_says_comes_next_works(
    algorithm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qss: Qss
) -> None:
    if algorithm in BASELINES:
        pytest.importorskip("d3rlpy")
    monkeypatch.chdir(tmp_path)
    said = qss(f"train-online InvertedPendulum --algo {algorithm} --steps 60 --warm-up 30 "
               "--evaluate-every 60 --episodes 1 --out run")  # fmt: skip
    last = said.out.splitlines()[-1]
    commands = re.findall("qss ([^;]+)", last)
    for command in commands:
        qss(command.replace("report run", "report run --no-video"))
    assert ("data import" in last) == (algorithm not in BASELINES)
    assert len(commands) == 1 + ("data import" in last)


def test_a_cell_of_a_file_runs_no_code_that_the_file_names(
    dataset: str, tmp_path: Path, qss: Qss
) -> None:
    printed = qss(f"train {dataset} {SMALL} --set ensemble=1 --print-commands --out a").out
    (line,) = printed.splitlines()
    path = Path(shlex.split(line)[2])
    plain = json.loads(path.read_text())
    path.write_text(json.dumps({**plain, "task": "os:system"}))
    assert "which is no cell's task" in qss.refused(f"cell {path}")
    own = tmp_path / "own.py"
    own.write_text("raise SystemExit('it ran')\n")
    for environments in ([f"{own}:Reacher-v5"], []):
        settings = json.loads(json.dumps(plain["settings"]))
        settings["config"]["env_id"] = f"{own}:Reacher-v5"
        path.write_text(json.dumps({**plain, "environments": environments, "settings": settings}))
        said = qss(f"cell {path}", code=0 if environments else 2)
        assert "it ran" not in "".join(said)
    assert "the cell doesn't" in said.error


def test_whatever_the_file_of_a_cell_says_it_is_run_or_refused_in_one_line(
    dataset: str, qss: Qss
) -> None:
    printed = qss(f"train {dataset} {SMALL} --set ensemble=1 --print-commands --out a").out
    (line,) = printed.splitlines()
    qss(line.removeprefix("qss "))
    path = Path(shlex.split(line)[2])
    honest = json.loads(path.read_text())
    for spoilt in (
        *({**honest, name: value} for name in honest for value in VALUES),
        *({**honest, "settings": {"env_id": value}} for value in VALUES),
    ):
        path.write_text(json.dumps(spoilt))
        refused(cell, path)
