from __future__ import annotations

import csv
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import PATIENCE_S
from tests.program import Qss

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "qss_offline.cli.program", "reproduce", "tabular", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_an_experiment_leaves_figure_tables_and_record(tmp_path: Path) -> None:
    out, figures = tmp_path / "deep" / "cliff", tmp_path / "figures"
    size = ["--seeds", "2", "--steps", "5000", "--walkers", "1", "--alpha", "0.1"]
    arguments = ["cliff", "--out", str(out), "--figures", str(figures), *size]
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in figures.iterdir()] == ["cliff.png"]
    assert (figures / "cliff.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in out.iterdir()) == [
        "curves.csv",
        "policies.csv",
        "results.json",
    ]
    for path in (figures / "cliff.png", *out.iterdir()):
        assert str(path) in done.stdout
    assert "2 seeds in" in done.stdout
    assert "cliff: 100%" in done.stderr

    record = json.loads((out / "results.json").read_text())
    assert shlex.split(record["command"])[-len(arguments) - 2 :] == [
        "reproduce", "tabular", *arguments
    ]  # fmt: skip
    assert {"processor", "commit", "date", "versions"} <= record.keys()
    assert record["seeds"] == [0, 1]
    assert record["wall_seconds"] > 0
    assert record["plan"]["schedule"]["steps"] == 5_000
    assert record["plan"]["schedule"]["walkers"] == 1
    assert record["plan"]["settings"]["alpha"] == 0.1
    with (out / "curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    # Two learners, evaluations at 0 and 5,000 steps, two seeds.
    assert [(row["learner"], row["step"], row["seed"]) for row in rows] == [
        (learner, step, seed)
        for learner in ("QSA", "QSS")
        for step in ("0", "5000")
        for seed in ("0", "1")
    ]
    assert all(0.0 <= float(row["return"]) <= 1.0 for row in rows)


def test_by_default_results_go_to_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qss: Qss
) -> None:
    monkeypatch.chdir(tmp_path)
    said = qss("reproduce tabular cliff --seeds 2 --steps 5000 --walkers 1")
    assert "runs/tabular/cliff/cliff.png" in said.out
    assert (tmp_path / "runs" / "tabular" / "cliff" / "cliff.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            "redundnat",
            "unknown experiment 'redundnat': there are equivalence, stochastic, redundant, "
            "permuted, cliff, all; did you mean redundant?",
        ),
        ("cliff --seeds 1", "--seeds must be at least 2 for an interval, not 1"),
        ("cliff --steps 0", "--steps must be at least 1, not 0"),
        ("cliff --walkers 0", "--walkers must be at least 1, not 0"),
        ("cliff --alpha 2", "--alpha must be above 0 and at most 1, not 2.0"),
    ],
)
def test_bad_input_is_one_line_and_code_2(arguments: str, line: str, qss: Qss) -> None:
    assert qss.refused(f"reproduce tabular {arguments}") == f"error: {line}"


def test_what_the_parser_refuses_is_one_line_and_code_2(qss: Qss) -> None:
    assert "--seeds" in qss.refused("reproduce tabular cliff --seeds many")


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    place = tmp_path / "file" / "sub"
    done = run("cliff", "--out", str(place))
    assert done.returncode == 2
    assert done.stderr == f"error: cannot write to {place}: Not a directory\n"


def test_a_folder_for_figures_that_cannot_be_written_is_refused_at_once(
    tmp_path: Path, qss: Qss
) -> None:
    place = tmp_path / "file"
    place.write_text("in the way")
    line = qss.refused(f"reproduce tabular cliff --out {tmp_path} --figures", place)
    assert line == f"error: cannot write to {place}: File exists"


def test_help_names_the_experiments(qss: Qss) -> None:
    listed = qss("reproduce tabular --help").out
    for name in ("equivalence", "stochastic", "redundant", "permuted", "cliff"):
        assert name in listed


def test_importing_the_experiments_imports_neither_matplotlib_nor_torch() -> None:
    code = (
        "import sys, qss_offline.tabular.experiments, qss_offline.cli.reproduce;"
        "sys.exit('matplotlib' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
