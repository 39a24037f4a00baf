"""Commands on runs, as a user types them: small runs, and what is said of them."""

import io
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qss_offline import __version__
from qss_offline.data import environment_sources
from qss_offline.data.build import build_dataset
from qss_offline.data.environments import resolve_env_id
from qss_offline.data.specs import DatasetSpec
from tests.own_env import write_own
from tests.program import Qss

DATASET = "qss/Reacher/v5-random-100-n500-s0-obs-v0"
SMALL = "--updates 30 --online-steps 30 --episodes 1"
FEW = "updates = 30\nonline_steps = 30\nepisodes = 1\nchanges = ['updates_per_round=20']\n"
"""The same in the file of a sweep, and fewer still."""


@pytest.fixture
def qss(qss: Qss, minari_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Qss:
    monkeypatch.chdir(tmp_path)
    build_dataset(DatasetSpec("Reacher", transitions=500), workers=1)
    return qss


def test_runs_are_listed_acted_with_exported_and_compared(qss: Qss) -> None:
    assert "qss demo makes one" in qss("runs").out and qss("runs --json").out == "[]\n"
    out, err = qss(
        f"train {DATASET} --method d3g {SMALL} --seeds 2 --set ensemble=1 "
        "--set updates_per_round=20"
    )
    path = "runs/Reacher-v5-random-100-n500-s0-d3g"
    assert f"{path}/results.json" in out and f"qss report {path}" in out
    assert f"run folder {path}" in err
    offline = qss(
        f"train {DATASET} --method d3g --offline-only --updates 30 --set ensemble=1 --quiet"
    )
    assert offline.err == "" and f"qss fit-inverse {path}-2 --env NAME" in offline.out
    listed = {one["path"]: one for one in json.loads(qss("runs --json").out)}
    assert listed[path]["state"] == listed[f"{path}-2"]["state"] == "finished"
    assert listed[path]["scores"] and not listed[f"{path}-2"]["scores"]
    for own in (path, f"{path}/"):
        assert json.loads(qss("runs --json", own).out) == [listed[path]]
    assert qss("runs", Path(path).resolve()).out.count("finished") == 1
    assert "holds no runs" in qss(f"runs {path}/seeds").out
    assert f"no folder {path}x; did you mean {path}" in qss.refused(f"runs {path}x")
    assert "there is no folder no/where" in qss.refused("runs no/where --json")
    assert "is no folder of runs" in qss.refused(f"runs {path}/config.json")
    acted = json.loads(qss(f"evaluate {path} --episodes 2 --json").out)
    assert [len(one["returns"]) for one in acted] == [2, 2]
    assert f"qss fit-inverse {path}-2" in qss.refused(f"evaluate {path}-2")
    fitted, _ = qss(f"fit-inverse {path}-2 --online-steps 30 --episodes 1 --json -q "
                   "--set updates_per_round=20")  # fmt: skip
    assert json.loads(fitted)["seeds"][0]["online_steps"] == 30
    last = [score["last"] for score in json.loads(qss(f"compare {path} --json").out)]
    best = f"the policy of seed {int(np.argmax(last))}, "
    assert best in out, "what is named at the end is what is exported"
    out, _ = qss(f"export {path} --to policy.pt")
    assert best in out and "it acts as the policy does" in out and Path("policy.pt").exists()
    assert "exists; add --overwrite" in qss.refused(f"export {path} --to policy.pt")
    compared = qss(f"compare first={path} later={path}-2-inverse --json").out
    assert {row["name"] for row in json.loads(compared)} == {"first", "later"}
    assert "two runs are called 'a'" in qss.refused(f"compare a={path} a={path}")


def test_help_names_the_folder_that_a_run_goes_to(qss: Qss) -> None:
    few = "--steps 40 --warm-up 20 --evaluate-every 20 --episodes 1 --set model_updates=1"
    recorded = "Reacher-v5-random-100-n500-s0-bco"
    for command, told, folder in (
        (f"train {DATASET} {SMALL} --method bco", "<recording>-<method>", recorded),
        (f"train-online Reacher {few}", "online-ENV-ALGO", "online-Reacher-v5-d3g"),
    ):
        assert f"(runs/{told})" in qss(f"{command.split()[0]} -h").out
        assert f"runs/{folder}/results.json" in qss(command).out


def strict(text: str) -> Any:
    """Read JSON, which has no NaN."""
    return json.loads(text, parse_constant=pytest.fail)


def test_json_is_all_that_is_printed_of_several_seeds(
    qss: Qss, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = "--set updates_per_round=20"
    online = "--steps 40 --warm-up 20 --evaluate-every 20 --episodes 1 --set model_updates=1"
    first = f"train {DATASET} --method d3g {SMALL} --seeds 2 --set ensemble=1 {few} --out first"
    for line in (first, f"train-online Reacher {online} --seeds 2 --out online"):
        said = qss(f"{line} --json")
        assert [seed["seed"] for seed in strict(said.out)["seeds"]] == [0, 1]
        assert "training 2 seeds (0 to 1)" in said.err
    for run in ("first", "online"):
        Path(run, "results.json").unlink()
        Path(run, "seeds/1/result.json").unlink()
        said = qss(f"resume {run} --json -q")
        assert len(strict(said.out)["seeds"]) == 2 and said.err == ""
    last = [
        seed["last"]["mean"] for seed in strict(Path("online/results.json").read_text())["seeds"]
    ]
    said = qss("export online --to best.pt")
    assert f"the policy of seed {int(np.argmax(last))}, whose last" in said.out
    assert "the policy of seed" not in qss("export online --to other.pt --seed 1").out
    monkeypatch.chdir("first")
    said = qss(f"fit-inverse . --online-steps 30 --episodes 1 --json {few}")
    assert len(strict(said.out)["seeds"]) == 2
    assert Path("../first-inverse/results.json").exists()


def test_a_run_that_diverged_is_json_too(qss: Qss) -> None:
    too_large = ("form=network", "model.learning_rate=1e25", "updates_per_round=10")
    options = " ".join(f"--set {one}" for one in too_large)
    said = qss(f"train {DATASET} --method d3g {SMALL} {options} --out lost --json")
    assert strict(said.out)["seeds"][0]["last"]["mean"] is None
    assert strict(qss("compare lost --json").out)[0]["last"] is None
    strict(qss("runs . --json").out)
    Path("lost.toml").write_text(
        f'recordings = ["{DATASET}"]\nmethods = ["d3g"]\nseeds = 1\nupdates = 30\n'
        f"online_steps = 30\nepisodes = 1\nchanges = {list(too_large)}\n"
    )
    assert strict(qss("sweep lost.toml --no-video --json").out)[0]["last"] is None


def test_paths_of_any_name_are_told_from_names_and_printed_so_that_they_can_be_typed(
    qss: Qss,
) -> None:
    few = "--method d3g --offline-only --updates 30 --set ensemble=1"
    odd = "runs/two seeds ü"
    said = qss(f"train {DATASET} {few}", "--out", odd).out
    assert f"qss fit-inverse {shlex.quote(odd)} --env NAME" in said
    assert f"qss fit-inverse {shlex.quote(odd)} makes one" in qss.refused("evaluate", odd)
    assert f"qss resume {shlex.quote(odd)} goes on" in qss.refused(f"train {DATASET} --out", odd)
    fitted = "--online-steps 30 --episodes 1 --set updates_per_round=20"
    said = qss(f"fit-inverse {shlex.quote(odd)} {fitted} --out runs/gamma=0.9").out
    assert "qss report runs/gamma=0.9;" in said
    for source, name in (("runs/gamma=0.9", "gamma=0.9"), ("a=runs/gamma=0.9", "a")):
        assert {one["name"] for one in strict(qss(f"compare {source} --json").out)} == {name}


class Narrow(io.TextIOWrapper):
    """A terminal that has few characters."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_characters_that_a_terminal_lacks_end_nothing(
    qss: Qss, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    shown, refused = (Narrow(io.BytesIO(), encoding, write_through=True) for _ in range(2))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", shown)
        patch.setattr(sys, "stderr", refused)
        qss("presets")
        qss("presets τ", code=2)
    written = [stream.buffer.getvalue().decode(encoding) for stream in (shown, refused)]
    assert "default" in written[0] and "?????" in written[0]
    assert written[1].startswith("error: unknown preset '?'")


@pytest.mark.usefixtures("undrawn")
def test_a_sweep_trains_what_is_missing_and_names_what_failed(qss: Qss) -> None:
    Path("small.toml").write_text(
        f'recordings = ["{DATASET}", "no/such-obs-v0", "{DATASET}"]\n'
        f'methods = ["d3g", "bco"]\npresets = ["default"]\nseeds = 1\n{FEW}'
    )
    out, err = qss("sweep small.toml --no-video", code=2)
    names = [f"Reacher-v5-random-100-n500-s0-{method}-default" for method in ("d3g", "bco")]
    assert all(name in out for name in names)
    assert "3 runs failed" in err and "no/such-obs-v0" in err
    assert f"another run is called {names[0]}, too" in err
    assert Path("runs/small/report/report.html").exists()
    policies = [Path(f"runs/small/{name}/seeds/0/policy.safetensors") for name in names]
    stamps = [path.stat().st_mtime_ns for path in policies]
    rows = json.loads(qss("sweep small.toml --no-video --json", code=2).out)
    assert sorted({row["name"] for row in rows}) == names[::-1]
    assert [path.stat().st_mtime_ns for path in policies] == stamps, "trained again"
    for listing in ("--dry-run", "--print-commands"):
        error = qss(f"sweep small.toml {listing} -q", code=2).err
        assert error.startswith("error: 3 runs failed, the first with: no/such-obs-v0"), error
    Path("wrong.toml").write_text('recordings = ["a"]\nmethds = ["d3g"]\n')
    assert "did you mean methods" in qss.refused("sweep wrong.toml")
    Path("empty.toml").write_text("seeds = 1\n")
    assert "recordings is missing" in qss.refused("sweep empty.toml")


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("arguments", ["max_episode_steps=5", 'max_episode_steps=5&model="a"'])
def test_a_sweep_of_ones_own_environment_says_what_its_file_needs(
    qss: Qss, monkeypatch: pytest.MonkeyPatch, arguments: str
) -> None:
    env_id = resolve_env_id(f"{write_own(Path())}:Cart?{arguments}")
    dataset = build_dataset(DatasetSpec(env_id, transitions=200, shards=1), workers=1).obs_id
    monkeypatch.setattr(environment_sources, "_sources", {})
    monkeypatch.setattr(environment_sources, "_texts", set())
    settings = f"methods = ['bco']\nseeds = 1\n{FEW}recordings = ['{dataset}']\n"
    Path("own.toml").write_text(settings)
    error = qss.refused("sweep own.toml -q")
    said, _, needed = error.partition(": the file needs ")
    assert "if you trust it" in said and "own.py:Cart" in needed and "--env" not in error
    Path("own.toml").write_text(f"{settings}{needed}\n")
    qss("sweep own.toml --no-video")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("recordings = [{steps = 10}]", "recordings[0]: env is missing"),
        ("recordings = [{env = 3}]", "recordings[0].env: expected text, not 3"),
        ("recordings = [{env = 'a', steps = 1.5}]", ".steps: expected a whole number, not 1.5"),
        ("recordings = [{env = 'a', step = 1}]", "holds ['step']; there are env, steps"),
        ("recordings = ['a', 1]", "recordings[1]: expected text, not 1"),
        ("methods = [1]", "methods[0]: expected text, not 1"),
        ("presets = [3]", "presets[0]: expected text, not 3"),
        ("presets = 'paper'", "presets is 'paper', expected a list"),
        ("seeds = 2020-01-01", "expected a number, a text or a list"),
        ("workers = 'two'", "workers: expected a whole number, not 'two'"),
        ("actions = 3", "actions: expected text, not 3"),
        ("error_power = 'x'", "error_power: expected a number, not 'x'"),
        ("changes = 'gamma=0.9'", "changes: expected a list"),
        ("check_ranges = 1", "check_ranges: expected true or false, not 1"),
    ],
)
def test_a_sweep_of_wrong_types_is_refused_in_one_line(qss: Qss, line: str, message: str) -> None:
    there = "" if line.startswith("recordings") else "recordings = ['a']\n"
    Path("wrong.toml").write_text(f"{there}{line}\n")
    assert message in qss.refused("sweep wrong.toml")


def test_the_program_tells_its_version_presets_and_help(qss: Qss) -> None:
    assert qss("--version").out == f"{__version__}\n"
    assert "batch_size" in qss("presets paper").out
    added = qss("presets default --diff paper").out
    assert "algorithm.cycle_coef\t1.0\t30.0" in added and "exploration_noise" not in added
    assert "are the same" in qss("presets paper --diff paper").out
    assert "compares a preset: name it" in qss.refused("presets --diff paper")
    assert "did you mean paper" in qss.refused("presets papr")
    for command in ("train", "data import", "reproduce table1", "fit-inverse"):
        assert "Usage: qss" in qss(f"{command} -h").out


@pytest.mark.parametrize("group", ["", "data", "reproduce"])
def test_what_a_command_does_fits_a_line_of_the_help(
    qss: Qss, monkeypatch: pytest.MonkeyPatch, group: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert "..." not in qss(f"{group} -h").out.partition("Commands:")[2]


def test_the_demo_ends_with_a_page(qss: Qss, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qss_offline.cli.training.DEMO_STEPS", 500)
    monkeypatch.setattr("qss_offline.runs.config.MOST_UPDATES_EACH", 1)
    out, _ = qss("demo --updates 20 --online-steps 30 --out demo")
    assert "demo/report/report.html" in out
    assert Path("demo/report/report.html").exists()
