"""Run folders from anybody, and runs on a machine that fails: right, or one line; never a lie."""

from __future__ import annotations

import base64
import errno
import json
import math
import os
import random
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from safetensors.torch import save

from qss_offline.analysis.diagnostics import diagnose
from qss_offline.analysis.models import inverse_model_of, planner_of, policy_of
from qss_offline.analysis.plots import style
from qss_offline.analysis.report.making import make_report
from qss_offline.api.training import fit_inverse
from qss_offline.cli.runs import report
from qss_offline.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from qss_offline.errors import UserError
from qss_offline.files import write_json
from qss_offline.launch.local import LocalLauncher
from qss_offline.launch.lock import hold
from qss_offline.online.config import OnlineSettings
from qss_offline.online.export import export_replay
from qss_offline.online.presets import online_preset
from qss_offline.parallel.reporting import no_tick
from qss_offline.runs import folder as folder_module
from qss_offline.runs.clock import RunClock
from qss_offline.runs.folder import RunFolder, SeedFolder, read_json
from qss_offline.runs.reader import (
    FinishedRun,
    OnlineRun,
    load_any_run,
    load_run,
    read_run_config,
)
from qss_offline.runs.results import EvaluationPoint, results_of_file, seed_results
from qss_offline.settings_json import to_plain
from qss_offline.training.interaction import known_steps
from qss_offline.training.runner import run
from tests.analysis.conftest import cloned, finished, finished_bco, trained
from tests.hostile.conftest import refused
from tests.hostile.test_files import ODD_FILES

__all__ = ["cloned", "finished", "finished_bco", "trained"]

VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 3, 2**62, 10**400, 0.5, 1e308, -1e308, float("nan"), float("inf"), "",
    "text", "\x1b[2J", "os:X-v0", [], [[]], {}, {"a": 1}, [None], [2**62, 2**62], "x" * 100_000,
)  # fmt: skip


def looks(path: Path) -> None:
    """Read everything of a run as reports do."""
    found = load_run(path)
    for seed in found.seeds:
        policy_of(found, seed)
        inverse_model_of(found, seed)
        found.metrics(seed)
        if found.method == "d3g":
            planner_of(found, seed)
        diagnose(found, seed)


def resumes(path: Path) -> None:
    """Go on with a run as `--resume` does."""
    folder = RunFolder(path)
    run(read_run_config(folder), folder, resume=True, launcher=LocalLauncher(1))


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return every place in a JSON value."""
    if isinstance(value, dict):
        inner = [place for key in value for place in places(value[key], (*at, key))]
    elif isinstance(value, list):
        inner = [place for n in range(len(value)) for place in places(value[n], (*at, n))]
    else:
        inner = []
    return [at, *inner]


def spoil(content: Any, rng: random.Random) -> Any:
    """Put any value in any place of a JSON value, or take it out."""
    *before, last = rng.choice(places(content)[1:])
    inner = content
    for key in before:
        inner = inner[key]
    if rng.random() < 0.2:
        del inner[last]
    else:
        inner[last] = rng.choice(VALUES)
    return content


@pytest.mark.parametrize("method", ["trained", "cloned"])
@pytest.mark.parametrize("name", ["config.json", "results.json"])
def test_whatever_a_run_says_it_is_read_or_refused_in_one_line(
    method: str, name: str, cases: int, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(method).folder.path
    looks(path)
    honest = (path / name).read_text()
    for case in range(max(1, cases // 4)):
        rng = random.Random(f"{method} {name} {case}")
        (path / name).write_text(json.dumps(spoil(json.loads(honest), rng)))
        refused(looks, path)


@pytest.mark.parametrize("name", ["config.json", "results.json"])
def test_whatever_an_online_run_says_it_is_reported_or_refused_in_one_line(
    name: str, cases: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(style, "to_png", lambda figure: b"\x89PNG")
    monkeypatch.setattr(style, "to_svg", lambda figure: b"<svg/>")
    honest = online_files(tmp_path / "run")
    for case in range(max(1, cases // 2)):
        rng = random.Random(f"online {name} {case}")
        for file, content in honest.items():
            (tmp_path / "run" / file).write_text(json.dumps(content))
        (tmp_path / "run" / name).write_text(json.dumps(spoil(json.loads(
            json.dumps(honest[name])), rng)))  # fmt: skip
        refused(make_report, [tmp_path / "run"], tmp_path / "out", notice=lambda line: None)


ROWS = np.random.default_rng(0).uniform(-0.5, 0.5, (30, 10 + 2 + 10 + 3)).astype(np.float32)
ROWS[:, -1] = 1  # each is an episode


def exports(path: Path, rows: torch.Tensor) -> str | None:
    save_checkpoint(path / "seeds/0/replay/000000000.safetensors", Checkpoint({"rows": rows}))
    return refused(export_replay, RunFolder(path), 0, "mine/replay", overwrite=True)


def test_whatever_an_online_run_says_its_replay_is_exported_or_refused_in_one_line(
    cases: int, minari_root: Path, tmp_path: Path
) -> None:
    honest = json.loads(json.dumps(online_files(tmp_path)["config.json"]))
    (tmp_path / "seeds/0/replay").mkdir(parents=True)
    rows = torch.from_numpy(ROWS)
    assert exports(tmp_path, rows) is None
    for bad in (
        rows[:, :-1],
        rows[0],
        rows[0, 0],
        rows[:0],
        rows.double(),
        rows.bfloat16(),
        rows / 0,
    ):
        assert exports(tmp_path, bad.clone()) is not None
    for name in honest:
        write_json(tmp_path / "config.json", {k: v for k, v in honest.items() if k != name})
        exports(tmp_path, rows)
    for case in range(max(1, cases // 4)):
        spoilt = spoil(json.loads(json.dumps(honest)), random.Random(f"replay {case}"))
        (tmp_path / "config.json").write_text(json.dumps(spoilt))
        exports(tmp_path, rows)


@pytest.mark.parametrize("seconds", VALUES, ids=lambda value: repr(value)[:12])
@pytest.mark.usefixtures("undrawn")
def test_whatever_an_online_run_took_it_is_reported(seconds: Any, tmp_path: Path) -> None:
    held = online_files(tmp_path / "run")["results.json"]
    (tmp_path / "run" / "results.json").write_text(json.dumps({**held, "wall_seconds": seconds}))
    refused(make_report, [tmp_path / "run"], tmp_path / "out", video=False)


@pytest.mark.parametrize("name", [r"a$\frac$", "a$x$b", "\x1b[2J", "", "a" * 300])
def test_an_environment_of_any_name_is_drawn(name: str, tmp_path: Path) -> None:
    held = online_files(tmp_path / "run")["results.json"]
    (tmp_path / "run" / "results.json").write_text(json.dumps({**held, "env_id": name}))
    make_report([tmp_path / "run"], tmp_path / "out", video=False)


def online_files(path: Path) -> dict[str, Any]:
    """Write a finished online run's two files, and return what they hold."""
    config = online_preset("default")
    settings = OnlineSettings("Reacher-v5", "d3g", (0, 1), "default", config)
    seeds = [seed_results(k, [EvaluationPoint(5 * n, (1.0 * n, 2.0)) for n in range(3)])
             for k in (0, 1)]  # fmt: skip
    results = {"method": "online", "env_id": "Reacher-v5", "algorithm": "d3g",
               "preset": "default", "steps": 10, "start_run": None, "config": asdict(config),
               "wall_seconds": 1.0, "seeds": seeds}  # fmt: skip
    held = {"config.json": to_plain({"method": "online", **vars(settings)}),
            "results.json": results}  # fmt: skip
    for name, content in held.items():
        write_json(path / name, content)
    return held


def test_the_method_in_the_settings_says_how_a_run_is_read(
    trained: FinishedRun, tmp_path: Path
) -> None:
    assert isinstance(load_any_run(trained.folder.path), FinishedRun)
    path = tmp_path / "online"
    online_files(path)
    run = load_any_run(path)
    assert isinstance(run, OnlineRun) and run.name == "online"
    assert (run.label, run.preset_name) == ("online D3G (default)", "default")
    assert run.config["preset_name"] == "default" and run.last.tolist() == [2.0, 2.0]
    copied = Path(shutil.copy(path / "results.json", tmp_path / "Reacher.json"))
    copy = load_any_run(copied)
    assert isinstance(copy, OnlineRun) and (copy.name, dict(copy.config)) == ("Reacher", {})
    for spoiled, words in (
        ({"env_id": 7}, "env_id is 7, expected text"),
        ({"wall_seconds": "x"}, "wall_seconds is 'x'"),
        ({"steps": -1}, "steps is -1"),
        ({"seeds": [seed_results(0, [])]}, "here there are none"),
    ):
        held = json.loads((path / "results.json").read_text())
        write_json(tmp_path / "spoiled.json", {**held, **spoiled})
        with pytest.raises(UserError, match=words):
            load_any_run(tmp_path / "spoiled.json")
    (path / "results.json").unlink()
    with pytest.raises(UserError, match="not finished"):
        load_any_run(path)
    with pytest.raises(UserError, match="does not exist"):
        load_any_run(tmp_path / "none")


def test_bytes_of_a_run_may_be_anything(trained: FinishedRun, cases: int) -> None:
    path = trained.folder.path
    chosen = [p for p in sorted(path.rglob("*")) if p.is_file()]
    for case in range(max(1, cases // 2)):
        rng = random.Random(case)
        file = rng.choice(chosen)
        honest = file.read_bytes()
        damaged = bytearray(honest)
        for _ in range(rng.randrange(1, 10)):
            damaged[rng.randrange(min(len(damaged), 500))] = rng.randrange(256)
        file.write_bytes(damaged[: rng.randrange(len(damaged) + 1)])
        refused(looks, path)
        file.write_bytes(honest)


@pytest.mark.parametrize("name", ["training", "online"])
def test_a_run_with_any_checkpoint_goes_on_or_is_refused_in_one_line(
    name: str, trained: FinishedRun, cases: int
) -> None:
    path = getattr(trained.folder.seed(0), name)
    held = load_checkpoint(path)
    # A copy: what was read is mapped from the file, which is written over.
    honest = Checkpoint({k: v.clone() for k, v in held.tensors.items()}, held.metadata)
    for case in range(max(1, cases // 5)):
        path.write_bytes(spoilt(honest, random.Random(f"{name} {case}")))
        refused(resumes, trained.folder.path)


def spoilt(honest: Checkpoint, rng: random.Random) -> bytes:
    """Return a checkpoint with one thing that is another."""
    tensors, metadata = dict(honest.tensors), json.loads(json.dumps(dict(honest.metadata)))
    name = rng.choice(sorted(tensors))
    old = tensors[name]
    changes: tuple[Callable[[], Any], ...] = (
        lambda: tensors.pop(name),
        lambda: tensors.update({name: old.double()}),
        lambda: tensors.update({name: old.flatten()[:-1].clone()}),
        lambda: tensors.update({name: old.repeat(*[2] * max(1, old.dim()))}),
        lambda: tensors.update({name: torch.full(old.shape, math.nan)}),
        lambda: tensors.update({name: torch.zeros(0)}),
        lambda: spoil(metadata, rng),
    )
    rng.choice(changes)()
    return save(tensors, metadata={"json": json.dumps(metadata)})


@pytest.mark.parametrize("name", ["config.json", "results.json", "training", "policy", "metrics"])
@pytest.mark.parametrize("make", ODD_FILES, ids=lambda make: make.__name__)
def test_odd_files_in_a_run_are_refused(
    make: Callable[[Path], None], name: str, trained: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = trained.folder.path
    file = path / name if name.endswith("json") else getattr(trained.folder.seed(0), name)
    file.unlink()
    monkeypatch.chdir(file.parent)
    make(Path(file.name))
    if name == "metrics" and not file.exists():
        assert trained.metrics(0) == {}
    else:
        assert refused(looks, path)


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that can be imported, and shouldn't be."""
    (tmp_path / "trap_of_a_run.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "trap_of_a_run"


@pytest.mark.parametrize(
    "act",
    [
        looks,
        resumes,
        lambda path: fit_inverse(path, online_steps=100, progress=False),
        lambda path: report([path], video=False),
        lambda path: known_steps(str(path), "InvertedPendulum-v5"),
    ],
    ids=["look", "resume", "fit_inverse", "report", "actions_from"],
)
@pytest.mark.usefixtures("undrawn")
def test_no_module_that_a_run_names_is_imported(
    act: Callable[[Path], Any], trained: FinishedRun, trap: str
) -> None:
    path = trained.folder.path
    config = json.loads((path / "config.json").read_text())
    for told in (f"{trap}:Trap-v0", f"{trap}:Trap", f"{trap}:"):
        (path / "config.json").write_text(json.dumps({**config, "env_id": told}))
        assert refused(act, path)
    # What is registered is found whatever module the file names with it.
    named = {**config, "env_id": f"{trap}:InvertedPendulum-v5"}
    (path / "config.json").write_text(json.dumps(named))
    refused(act, path)
    assert trap not in sys.modules


@pytest.mark.parametrize("name", ["dataset_id", "preset_name", "device", "actions_from"])
@pytest.mark.parametrize("text", ["a\x1b[2J", "a\nb", "\u202eevil", "\x00"], ids=ascii)
def test_words_that_a_terminal_would_obey_are_refused(
    name: str, text: str, trained: FinishedRun
) -> None:
    path = trained.folder.config
    path.write_text(json.dumps({**json.loads(path.read_text()), name: text}))
    assert refused(load_run, trained.folder.path)


def test_results_that_lie_are_computed_from_the_returns(trained: FinishedRun) -> None:
    path = trained.folder.results
    results = json.loads(path.read_text())
    results["seeds"][0]["last"]["mean"] = results["seeds"][0]["best"]["mean"] = 1e6
    path.write_text(json.dumps(results))
    assert load_run(trained.folder.path).last.tolist() == trained.last.tolist()
    assert load_run(trained.folder.path).best.tolist() == trained.best.tolist()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_results_can_be_written_and_read_whatever_was_returned(
    value: float, tmp_path: Path
) -> None:
    points = [EvaluationPoint(1, (3.0, 5.0)), EvaluationPoint(2, (value, 1.0))]
    seed = seed_results(0, points)
    if math.isnan(value):
        assert seed["best"]["evaluation"] == 1 and math.isnan(seed["last"]["mean"])
    told = {"behaviour_return": value, "behaviour_return_std": value, "wall_seconds": 1.0}
    write_json(tmp_path / "results.json", {**told, "seeds": [seed]})
    json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)
    read = results_of_file(read_json(tmp_path / "results.json"), "results.json")
    assert math.isnan(read["behaviour_return"])
    assert read["seeds"][0]["best"]["mean"] == 4.0
    assert math.isnan(read["seeds"][0]["last"]["mean"])


OF_A_RUN = (
    "config.json", "elapsed.json", "results.json", "seeds/1/lock", "seeds/1/failed.txt",
    "seeds/1/metrics.jsonl", "seeds/1/training.safetensors", "seeds/1/online.safetensors",
    "seeds/1/policy.safetensors", "seeds/1/result.json",
)  # fmt: skip
"""What a run writes."""


@pytest.mark.parametrize("begun", [False, True], ids=["anew", "begun"])
@pytest.mark.parametrize("name", OF_A_RUN)
def test_no_file_outside_of_a_run_is_written_through_it(
    name: str, begun: bool, trained: FinishedRun, tmp_path: Path
) -> None:
    if not begun:
        begin_again(trained)
    path, victim = trained.folder.path / name, tmp_path / "victim"
    honest = path.read_bytes() if path.exists() else b"mine"
    victim.write_bytes(honest)
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(victim)
    trained.folder.results.unlink(missing_ok=name != "results.json")
    refused(resumes, trained.folder.path)
    assert victim.read_bytes() == honest


@pytest.mark.parametrize("name", ["seeds", "seeds/0", "seeds/1", "seeds/0/members"])
def test_no_folder_of_a_run_that_goes_on_is_a_link(
    name: str, trained: FinishedRun, tmp_path: Path
) -> None:
    """A run as a whole may be one: its parts may lead to other runs."""
    path, victim = trained.folder.path / name, tmp_path / "victim"
    path.mkdir(exist_ok=True)
    path.rename(victim)
    path.symlink_to(victim)
    trained.folder.results.unlink()
    before = {one: one.stat().st_mtime_ns for one in victim.rglob("*")}
    message = refused(resumes, trained.folder.path)
    assert message is not None and "is a link" in message
    assert {one: one.stat().st_mtime_ns for one in victim.rglob("*")} == before
    path.unlink()
    victim.rename(path)
    (tmp_path / "alias").symlink_to(trained.folder.path)
    assert refused(resumes, tmp_path / "alias") is None


@pytest.mark.parametrize("make", ODD_FILES, ids=lambda make: make.__name__)
def test_what_is_written_in_place_is_a_regular_file(
    make: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, write in (
        ("lock", lambda: hold([Path()], no_tick).__enter__()),
        ("metrics.jsonl", lambda: SeedFolder(Path()).append_metrics({"update": 1})),
    ):
        make(Path(name))
        assert (refused(write) is None) == (make.__name__ in ("missing", "sparse"))


def a_secret(path: Path) -> None:
    """A link to what others mustn't see."""
    secret = path.parent.resolve() / "secret"
    secret.write_bytes(SECRET)
    path.symlink_to(secret)


SECRET = b"what nobody else may read"


@pytest.mark.parametrize("name", ["{}.mp4", "{}.png", "dimensions.png"])
@pytest.mark.parametrize("make", [*ODD_FILES, a_secret], ids=lambda make: make.__name__)
@pytest.mark.usefixtures("undrawn")
def test_only_a_runs_own_pictures_get_into_a_report(
    make: Callable[[Path], None],
    name: str,
    trained: FinishedRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    online_files(tmp_path / "online")
    distances = {"shown_seed": 0, "episodes": 1, "seeds": 2}
    distances |= {key: [0.0, 1.0] for key in ("mean", "low", "high", "still")}
    for path, film, numbers in (
        (trained.folder.path, "plan", "distances"), (tmp_path / "online", "acting", "acting"),
    ):  # fmt: skip
        write_json(path / "render" / f"{numbers}.json", distances)
        monkeypatch.chdir(path / "render")
        make(Path(name.format(film)))
        told: list[str] = []
        text = make_report([path], tmp_path / "out", video=False, notice=told.append).read_text()
        assert base64.b64encode(SECRET).decode() not in text
        there = Path(name.format(film)).exists()
        assert bool([line for line in told if film in line or "dimensions" in line]) == there


@pytest.mark.parametrize("make", ODD_FILES, ids=lambda make: make.__name__)
def test_odd_tables_of_returns_are_refused(
    make: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path("odd.csv"))
    told = refused(make_report, [Path("odd.csv")], tmp_path / "out")
    assert told is not None and "odd.csv" in told


@pytest.mark.parametrize("seconds", VALUES, ids=lambda value: repr(value)[:12])
def test_whatever_seconds_a_run_says_it_took_it_goes_on_or_is_refused(
    seconds: Any, tmp_path: Path
) -> None:
    (tmp_path / "elapsed.json").write_text(json.dumps({"seconds": seconds}))
    refused(lambda: RunClock(RunFolder(tmp_path)).note())


# --- a machine that fails -------------------------------------------------------------------


def came_to(trained: FinishedRun) -> dict[str, bytes]:
    """Return what training gave seed 1."""
    folder = trained.folder.seed(1)
    made = folder.policy, folder.result, folder.metrics, folder.training
    return {path.name: path.read_bytes() for path in made}


def begin_again(trained: FinishedRun) -> dict[str, bytes]:
    """Let seed 1 begin anew, and return what it had come to."""
    kept = came_to(trained)
    shutil.rmtree(trained.folder.seed(1).path)
    trained.folder.results.unlink()
    return kept


def test_a_full_disk_ends_in_one_line_and_the_run_goes_on(
    trained: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = begin_again(trained)
    fsync, left = os.fsync, 3

    def full(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        told = refused(resumes, trained.folder.path)
    assert told is not None and "No space left" in told
    assert list(trained.folder.path.rglob(".*")) == []
    resumes(trained.folder.path)
    assert came_to(trained) == kept


def test_metrics_that_find_no_room_end_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        folder_module, "open_in_place", lambda *_: os.open("/dev/full", os.O_WRONLY)
    )
    told = refused(SeedFolder(tmp_path).append_metrics, {"update": 1})
    assert told is not None and "No space left" in told


def test_a_clock_that_goes_backwards_changes_nothing(
    trained: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = begin_again(trained)
    now = time.time()

    def backwards() -> float:
        nonlocal now
        now -= 3600.0
        return now

    monkeypatch.setattr(time, "time", backwards)
    resumes(trained.folder.path)
    assert came_to(trained) == kept
    assert load_run(trained.folder.path).results["wall_seconds"] >= 0


@pytest.fixture
def outside() -> Iterator[Path]:
    """A folder that other users may enter, as pytest's are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user for a while")
def test_a_folder_that_another_user_may_only_read_is_refused_in_one_line(
    trained: FinishedRun, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = Path(gymnasium.__file__).resolve()
    if not all(folder.stat().st_mode & stat.S_IXOTH for folder in packages.parents):
        pytest.skip("another user may not read the installed packages")
    begin_again(trained)
    path = Path(shutil.copytree(trained.folder.path, outside / "run"))
    shutil.copytree(os.environ["MINARI_DATASETS_PATH"], outside / "minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(outside / "minari"))
    os.seteuid(65534)
    try:
        told = refused(resumes, path)
    finally:
        os.seteuid(0)
    assert told is not None and "Permission denied" in told
    assert not (path / "seeds" / "1").exists()


def test_a_checkpoint_of_returns_that_are_no_numbers_goes_on(tmp_path: Path) -> None:
    held = Checkpoint({"a": torch.zeros(1)}, {"evaluations": [[math.nan, 1.0]]})
    save_checkpoint(tmp_path / "x.safetensors", held)
    read = load_checkpoint(tmp_path / "x.safetensors").metadata["evaluations"]
    assert np.isnan(read[0][0])
    with pytest.raises(UserError, match="holds no 'update'"):
        load_checkpoint(tmp_path / "x.safetensors").metadata["update"]
