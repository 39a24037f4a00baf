"""`--resume` takes everything from the run's folder, and refuses what contradicts it by name."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qss_offline.cli.command import main
from qss_offline.errors import UserError
from qss_offline.presets import PRESETS
from qss_offline.runs.folder import RunFolder, parse_seeds, read_json, seeds_in_words
from recipes import bco as bco_recipe
from recipes import online as online_recipe
from recipes import random_obs as random_obs_recipe

ROOT = Path(__file__).parents[2]
SMALL = "--transitions 500 --online-steps 30 --episodes 1 --seeds 3,"

COMMANDS: dict[str, tuple[Callable[..., Any], str]] = {
    "random_obs": (
        random_obs_recipe.random_obs,
        f"--env Reacher --updates 60 {SMALL} --set ensemble=1 --set algorithm.batch_size=32",
    ),
    "bco": (
        bco_recipe.bco,
        f"--env Reacher --updates 30 --preset default --randomness 1 {SMALL}",
    ),
    "online": (
        online_recipe.online,
        "--env Reacher --seeds 3, --steps 150 --warm-up 40 --evaluate-every 50 --episodes 1",
    ),
}


class Terminal:
    """Commands as a user types them, in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, name: str, arguments: str) -> str:
        self._monkeypatch.setattr(sys, "argv", [name, *arguments.split()])
        main(COMMANDS[name][0], "…")
        return self._capsys.readouterr().out

    def refused(self, name: str, arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            self(name, arguments)
        assert ended.value.code == 2
        (line,) = self._capsys.readouterr().err.splitlines()
        return line


@pytest.fixture
def terminal(
    minari_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Terminal:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    default = PRESETS["default"]
    few = replace(default, inverse=replace(default.inverse, updates_per_round=20))
    monkeypatch.setitem(PRESETS, "default", few)
    return Terminal(monkeypatch, capsys)


def bits(folder: Path) -> dict[str, bytes]:
    names = ("training.safetensors", "online.safetensors", "result.json")
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.name in names
    }


def forget_the_end(folder: Path) -> None:
    """Take away what a run writes last, as if it had been killed before."""
    (folder / "results.json").unlink()
    for path in folder.glob("seeds/3/*.safetensors"):
        path.unlink()
    (folder / "seeds/3/result.json").unlink()


@pytest.mark.parametrize("name", COMMANDS)
def test_resume_alone_goes_on_with_the_newest_run(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("qss_offline.cli.train.hints", lambda run: ())
    terminal(name, f"{COMMANDS[name][1]} --out runs/first")
    whole, config = bits(Path("runs/first")), read_json(Path("runs/first/config.json"))
    assert len(whole) >= 2
    forget_the_end(Path("runs/first"))
    # Neither a run of another method, nor what isn't one, is taken for it.
    for other, content in (("newer", {"method": "of tomorrow"}), ("broken", [])):
        Path(f"runs/{other}").mkdir()
        Path(f"runs/{other}/config.json").write_text(json.dumps(content))
    before = set(Path("minari").rglob("*"))
    assert "runs/first" in terminal(name, "--resume")
    assert bits(Path("runs/first")) == whole
    assert read_json(Path("runs/first/config.json")) == config
    assert set(Path("minari").rglob("*")) == before, "nothing is recorded again"


@pytest.mark.parametrize("name", COMMANDS)
def test_what_contradicts_the_run_is_refused_by_name(terminal: Terminal, name: str) -> None:
    given = COMMANDS[name][1]
    terminal(name, f"{given} --out here")
    forget_the_end(Path("here"))
    before = bits(Path("here"))
    budget = "--steps" if name == "online" else "--online-steps"
    for wrong in ("--env InvertedPendulum", "--seeds 2", "--episodes 10", f"{budget} 90"):
        flag = wrong.split()[0]
        line = terminal.refused(name, f"--resume --out here {wrong}")
        assert f"here was started with {flag} " in line and f"leave {flag} out" in line
    assert bits(Path("here")) == before
    # Said again, or in other words, it contradicts nothing.
    terminal(name, f"{given} --resume --out here")
    forget_the_end(Path("here"))
    terminal(name, "--resume --out here --env Reacher-v5 --seeds 3-3 --episodes 1")


def test_a_run_that_never_began_can_not_be_resumed(terminal: Terminal) -> None:
    assert "runs/ holds no run of this command" in terminal.refused("random_obs", "--resume")
    assert "holds no run to resume" in terminal.refused("random_obs", "--resume --out nowhere")
    terminal("online", f"{COMMANDS['online'][1]} --out online")
    line = terminal.refused("random_obs", "--resume --out online")
    assert "its method is online, not d3g" in line


def test_options_of_a_run_that_does_not_know_them_are_refused(terminal: Terminal) -> None:
    terminal("random_obs", f"{COMMANDS['random_obs'][1]} --out here")
    config = read_json(Path("here/config.json"))
    del config["options"]
    Path("here/config.json").write_text(json.dumps(config))
    line = terminal.refused("random_obs", "--resume --out here --transitions 500")
    assert "doesn't say with which --transitions" in line
    assert "here" in terminal("random_obs", "--resume --out here")


def test_seeds_are_numbers_ranges_and_lists_of_both() -> None:
    assert parse_seeds("3") == (0, 1, 2)
    assert parse_seeds("100-104") == (100, 101, 102, 103, 104)
    assert parse_seeds("0,3,7-9") == (0, 3, 7, 8, 9)
    assert parse_seeds("7,") == (7,)
    assert parse_seeds("5-5") == (5,)
    for wrong in ("", "0", ",", "-1", "3-1", "1,1", "1-3,2", "1-", "a", "1.5", "9" * 30, "0-99999"):
        with pytest.raises(UserError, match="--seeds"):
            parse_seeds(wrong)
    assert seeds_in_words(parse_seeds("100")) == "100 seeds (0 to 99)"
    assert seeds_in_words(parse_seeds("0,3,7")) == "3 seeds (0, 3, 7)"
    assert seeds_in_words((4,)) == "1 seed (4)"


def test_many_seeds_are_named_with_the_time_they_take_before_they_begin(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Began(Exception):
        pass

    def begin(*_: object) -> None:
        raise Began

    monkeypatch.setattr("qss_offline.training.d3g.train_in_workers", begin)
    with pytest.raises(Began):
        terminal("random_obs", "--env Reacher --transitions 500 --seeds 100-199")
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("training 100 seeds (100 to 199), about ")
    assert RunFolder(Path("runs/Reacher-v5-random-100")).started
    assert any(said.split("about ")[1].split()[1] == unit for unit in ("min", "h"))
