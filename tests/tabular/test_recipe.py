from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "recipes.tabular", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_an_experiment_leaves_figure_tables_and_record(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "cliff"
    arguments = ["cliff", "--out", str(out), "--seeds", "2", "--steps", "10000"]
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == [
        "cliff.png",
        "curves.csv",
        "policies.csv",
        "results.json",
    ]
    assert (out / "cliff.png").read_bytes().startswith(b"\x89PNG")
    assert str(out / "cliff.png") in done.stdout
    assert "2 seeds in" in done.stdout
    assert "20,000/20,000 steps" in done.stderr

    record = json.loads((out / "results.json").read_text())
    assert record["command"] == "python -m recipes.tabular " + " ".join(arguments)
    assert record["seeds"] == [0, 1]
    assert record["wall_seconds"] > 0
    assert record["plan"]["schedule"]["steps"] == 10_000
    with (out / "curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    # Two learners, evaluations at 0 and 10,000 steps, two seeds.
    assert [(row["learner"], row["step"], row["seed"]) for row in rows] == [
        (learner, step, seed)
        for learner in ("QSA", "QSS")
        for step in ("0", "10000")
        for seed in ("0", "1")
    ]
    assert all(0.0 <= float(row["return"]) <= 1.0 for row in rows)


def test_figures_may_go_elsewhere(tmp_path: Path) -> None:
    out, figures = tmp_path / "out", tmp_path / "figures"
    done = run(
        "permuted", "--out", str(out), "--figures", str(figures), "--seeds", "2", "--steps", "1000"
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in figures.iterdir()] == ["permuted.png"]
    assert sorted(path.name for path in out.iterdir()) == ["curves.csv", "results.json"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["redundnat"], "error: unknown experiment 'redundnat'; did you mean redundant?"),
        (
            ["xyz"],
            "error: unknown experiment 'xyz'; there are equivalence, stochastic, redundant, "
            "permuted, cliff, all",
        ),
        (["cliff", "--seeds", "1"], "error: --seeds must be at least 2 for an interval, not 1"),
        (["cliff", "--steps", "5"], "error: --steps must be at least 10,000, not 5"),
        (["cliff", "--alpha", "2"], "error: --alpha must be above 0 and at most 1, not 2.0"),
        (
            ["cliff", "--seeds", "many"],
            "error: argument --seeds: invalid int value: 'many'; "
            "see python -m recipes.tabular --help",
        ),
        (
            [],
            "error: the following arguments are required: experiment; "
            "see python -m recipes.tabular --help",
        ),
    ],
)
def test_bad_input_is_one_line_and_code_2(arguments: list[str], line: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [line]
    assert done.stdout == ""


@pytest.mark.parametrize("option", ["--out", "--figures"])
def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path: Path, option: str) -> None:
    (tmp_path / "file").write_text("in the way")
    place = tmp_path / "file" / "sub"
    others = [] if option == "--out" else ["--out", str(tmp_path / "out")]
    done = run("cliff", option, str(place), *others)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [f"error: cannot write to {place}: Not a directory"]


def test_help_names_the_experiments() -> None:
    done = run("--help")
    assert done.returncode == 0
    for name in ("equivalence", "stochastic", "redundant", "permuted", "cliff"):
        assert name in done.stdout


def test_importing_the_experiments_does_not_import_matplotlib() -> None:
    code = (
        "import sys, qss_offline.tabular.saving, recipes.tabular;"
        "sys.exit('matplotlib' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
