"""`qss resume` takes everything from the run's folder, and needs nothing else."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from qss_offline.data.build import build_dataset
from qss_offline.data.specs import DatasetSpec
from qss_offline.errors import UserError
from qss_offline.presets import PRESETS, preset
from qss_offline.runs.folder import parse_seeds, read_json, seeds_in_words
from tests.program import Qss

DATASET = "qss/Reacher/v5-random-100-n500-s0-obs-v0"
SMALL = "--online-steps 30 --episodes 1 --seeds 3,"
COMMANDS = {
    "d3g": f"train {DATASET} --method d3g --updates 60 {SMALL} --set ensemble=1 "
    "--set algorithm.batch_size=32",
    "bco": f"train {DATASET} --method bco --updates 30 {SMALL}",
    "online": "train-online Reacher --seeds 3, --steps 150 --warm-up 40 --evaluate-every 50 "
    "--episodes 1 --set model_updates=5",
}


@pytest.fixture
def qss(qss: Qss, minari_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Qss:
    monkeypatch.chdir(tmp_path)
    default = preset("default", "d3g")
    few = replace(default, inverse=replace(default.inverse, updates_per_round=20))
    monkeypatch.setitem(
        PRESETS,
        "default",
        {"d3g": few, "bco": replace(preset("default", "bco"), inverse=few.inverse)},
    )
    build_dataset(DatasetSpec("Reacher", transitions=500), workers=1)
    return qss


def bits(folder: Path) -> dict[str, bytes]:
    names = ("training.safetensors", "online.safetensors", "result.json")
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.name in names
    }


def forget_the_end(folder: Path) -> None:
    """Leave a run as if it had been stopped before its first checkpoint."""
    (folder / "results.json").unlink()
    for path in folder.glob("seeds/3/*.safetensors"):
        path.unlink()
    (folder / "seeds/3/result.json").unlink()


@pytest.mark.parametrize("name", COMMANDS)
def test_resume_goes_on_with_the_newest_run_that_is_not_finished(
    qss: Qss, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("qss_offline.api.runs.hints", lambda run: ())
    qss(f"{COMMANDS[name]} --out runs/first")
    whole, config = bits(Path("runs/first")), read_json(Path("runs/first/config.json"))
    assert len(whole) >= 2
    # A finished run is newer, and isn't taken.
    qss(f"{COMMANDS[name]} --out runs/second")
    forget_the_end(Path("runs/first"))
    before = set(Path("minari").rglob("*"))
    assert "resuming runs/first" in qss("resume").err
    assert bits(Path("runs/first")) == whole
    assert read_json(Path("runs/first/config.json")) == config
    assert set(Path("minari").rglob("*")) == before, "nothing is recorded again"
    assert "runs/ holds no run that isn't finished" in qss.refused("resume")
    # By name a finished one can be gone on with: there is nothing left to do.
    qss("resume runs/second")
    assert bits(Path("runs/second")) == whole


def test_a_run_that_never_began_can_not_be_resumed(qss: Qss) -> None:
    assert "runs/ holds no run that isn't finished" in qss.refused("resume")
    assert "holds no run to resume" in qss.refused("resume nowhere")
    for other, content in (("newer", {"method": "of tomorrow"}), ("broken", [])):
        Path(f"runs/{other}").mkdir(parents=True)
        Path(f"runs/{other}/config.json").write_text(json.dumps(content))
        assert f"runs/{other}/config.json" in qss.refused(f"resume runs/{other}")


def test_a_folder_that_holds_a_run_is_refused_and_the_same_settings_go_on(qss: Qss) -> None:
    from qss_offline import train

    qss(f"{COMMANDS['d3g']} --out here")
    line = qss.refused(f"{COMMANDS['d3g']} --out here")
    assert "here holds a run already: qss resume here goes on with it" in line
    before = bits(Path("here"))
    asked = {
        "method": "d3g",
        "online_steps": 30,
        "episodes": 1,
        "seeds": [3],
        "updates": 60,
        "progress": False,
    }
    changes = {"ensemble": 1, "algorithm.batch_size": 32}
    again = train(DATASET, out="here", if_exists="resume", changes=changes, **asked)
    assert bits(Path("here")) == before
    assert again.seeds == (3,)
    with pytest.raises(
        UserError, match=r"here was started with preset\.inverse\.known_updates = 6"
    ):
        other = {**asked, "changes": changes, "updates": 120}
        train(DATASET, out="here", if_exists="resume", **other)
    new = train(DATASET, out="here", if_exists="new", changes=changes, **asked)
    assert new.path == Path("here-2")
    assert bits(new.path) == before


def test_seeds_are_numbers_ranges_and_lists_of_both() -> None:
    assert parse_seeds("3") == (0, 1, 2)
    assert parse_seeds("100-104") == (100, 101, 102, 103, 104)
    assert parse_seeds("0,3,7-9") == (0, 3, 7, 8, 9)
    assert parse_seeds("7,") == (7,)
    assert parse_seeds("5-5") == (5,)
    for wrong in (
        "",
        "0",
        ",",
        "-1",
        "3-1",
        "1,1",
        "1-3,2",
        "1-",
        "a",
        "1.5",
        "9" * 30,
        "0-99999",
        "0-3,9-5",
        "9-5,7",
    ):
        with pytest.raises(UserError, match="--seeds"):
            parse_seeds(wrong)
    assert seeds_in_words(parse_seeds("100")) == "100 seeds (0 to 99)"
    assert seeds_in_words(parse_seeds("0,3,7")) == "3 seeds (0, 3, 7)"
    assert seeds_in_words((4,)) == "1 seed (4)"


def test_many_seeds_are_named_with_the_time_they_take_before_they_begin(
    qss: Qss, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Began(Exception):
        pass

    def begin(*_: object) -> None:
        raise Began

    monkeypatch.setattr("qss_offline.training.runner.launch", begin)
    with pytest.raises(Began):
        qss(f"train {DATASET} --method d3g --seeds 100-199")
    out, err = capsys.readouterr()
    said = err.splitlines()[-1]
    assert out == ""
    assert said.startswith("training 100 seeds (100 to 199), about ")
    assert any(said.split("about ")[1].split()[1] == unit for unit in ("min", "h"))
