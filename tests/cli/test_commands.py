"""Commands on runs, as a user types them: small runs, and what is said of them."""

import json
from pathlib import Path

import numpy as np
import pytest

from qss_offline import __version__
from qss_offline.data.build import build_dataset
from qss_offline.data.specs import DatasetSpec
from tests.program import Qss

DATASET = "qss/Reacher/v5-random-100-n500-s0-obs-v0"
SMALL = "--updates 30 --online-steps 30 --episodes 1"


@pytest.fixture
def qss(qss: Qss, minari_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Qss:
    monkeypatch.chdir(tmp_path)
    build_dataset(DatasetSpec("Reacher", transitions=500), workers=1)
    return qss


def test_runs_are_listed_acted_with_exported_and_compared(qss: Qss) -> None:
    assert "qss demo makes one" in qss("runs").out
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


@pytest.mark.usefixtures("undrawn")
def test_a_sweep_trains_what_is_missing_and_names_what_failed(qss: Qss) -> None:
    Path("small.toml").write_text(
        f'recordings = ["{DATASET}", "no/such-obs-v0", "{DATASET}"]\n'
        'methods = ["d3g", "bco"]\npresets = ["default"]\nseeds = 1\n'
        "updates = 30\nonline_steps = 30\nepisodes = 1\nchanges = ['updates_per_round=20']\n"
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
    Path("wrong.toml").write_text('recordings = ["a"]\nmethds = ["d3g"]\n')
    assert "did you mean methods" in qss.refused("sweep wrong.toml")
    Path("empty.toml").write_text("seeds = 1\n")
    assert "recordings is missing" in qss.refused("sweep empty.toml")


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
