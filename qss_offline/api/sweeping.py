"""Sweeps: every recording with every method, preset and seed that a TOML file names."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from qss_offline.api.comparing import Comparison, compare
from qss_offline.api.options import recording_name
from qss_offline.api.recording import Recording, spec_of_env
from qss_offline.api.runs import Run
from qss_offline.api.training import asked_run
from qss_offline.data.environments import NotNamedError
from qss_offline.data.local import local_dataset_ids
from qss_offline.errors import UserError, nearest, shown
from qss_offline.files import read_regular_file
from qss_offline.launch.cell import Launcher
from qss_offline.launch.choice import launcher_of
from qss_offline.launch.driver import launch
from qss_offline.parallel.progress import progress
from qss_offline.parallel.reporting import print_notice
from qss_offline.settings_json import read_value
from qss_offline.statistics import counted
from qss_offline.training.runner import TrainingRun

_MOST_BYTES = 1 << 20
_RECORDED = {"env": str, "steps": int, "randomness": float, "expert": str, "seed": int}
"""What a table of a recording may hold, with its type."""


@dataclass(frozen=True)
class Sweep:
    """What is trained.

    Attributes:
        recordings: Minari ids, or what `Recording.from_env` records: tables of `env`, `steps`,
            `randomness`, `expert` and `seed`.
        methods: some of "auto", "d3g", "bco"; None is the preset's own.
        presets: names; None is the default.
        seeds: as for `train`.
        options: more arguments of `train`, the same for all.
    """

    recordings: tuple[str | Mapping[str, Any], ...]
    methods: tuple[str | None, ...] = (None,)
    presets: tuple[str | None, ...] = (None,)
    seeds: int | str | Sequence[int] = 3
    options: Mapping[str, Any] = field(default_factory=dict)


_OPTIONS = {
    "env": str, "updates": int, "online_steps": int, "online_rounds": int, "actions": str,
    "error_power": float, "changes": tuple[str, ...], "check_ranges": bool, "episodes": int,
    "device": str, "tf32": bool, "workers": int,
}  # fmt: skip
"""What else a file may hold, with its type."""


def read_sweep(path: Path) -> Sweep:
    """Read a sweep from a TOML file.

    Raises:
        UserError: it can't be read, names something unknown, or no recording, or a value is of
            another type.
    """
    try:
        table = tomllib.loads(read_regular_file(path, _MOST_BYTES).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no TOML file: {error}") from error
    own = ("recordings", "methods", "presets", "seeds")
    for name in table:
        if name not in (*own, *_OPTIONS):
            known = (*own, *_OPTIONS)
            hint = nearest(name, known) or f"; there are {', '.join(known)}"
            raise UserError(f"{path}: unknown setting {shown(name)}{hint}")
    lists = {name: table.get(name) for name in own[:3] if name in table}
    for name, value in lists.items():
        if not isinstance(value, list) or not value:
            raise UserError(f"{path}: {name} is {shown(value)}, expected a list")
    if "recordings" not in lists:
        raise UserError(f"{path}: recordings is missing: a list of Minari ids")
    settings = {
        name: read_value(tuple[str, ...], value, f"{path}: {name}")
        for name, value in lists.items()
        if name != "recordings"
    }
    recordings = tuple(
        _read_recording(one, f"{path}: recordings[{number}]")
        for number, one in enumerate(table["recordings"])
    )
    seeds = table.get("seeds", 3)
    if not isinstance(seeds, int | str | list):
        raise UserError(f"{path}: seeds is {shown(seeds)}, expected a number, a text or a list")
    options = {
        # Settings by name are taken as they are, and checked with the preset.
        name: table[name]
        if name == "changes" and isinstance(table[name], dict)
        else read_value(hint, table[name], f"{path}: {name}")
        for name, hint in _OPTIONS.items()
        if name in table
    }
    return Sweep(recordings, **settings, seeds=seeds, options=options)


def _read_recording(given: object, where: str) -> str | dict[str, Any]:
    """Return an id, or what `Recording.from_env` is called with.

    Raises:
        UserError: it is neither.
    """
    if not isinstance(given, dict):
        read: str = read_value(str, given, where)
        return read
    unknown = sorted(given.keys() - _RECORDED)
    if unknown:
        raise UserError(f"{where} holds {shown(unknown)}; there are {', '.join(_RECORDED)}")
    if "env" not in given:
        raise UserError(f"{where}: env is missing: where it is recorded")
    return {
        name: read_value(_RECORDED[name], one, f"{where}.{name}") for name, one in given.items()
    }


def run_sweep(
    sweep: Sweep, out: Path, launcher: str | Launcher = "local"
) -> tuple[Comparison | None, list[str]]:
    """Train what is missing of a sweep; what fails doesn't take the rest with it.

    Args:
        sweep: what is trained.
        out: folder of the runs, one for each recording, method and preset.
        launcher: as for `train`; all seeds of all runs are launched together.

    Returns:
        All finished runs side by side, None where there are none or cells were only listed, and a
        line for each that failed.
    """
    options = dict(sweep.options)
    launched = launcher_of(launcher, options.pop("workers", None))
    check_ranges = options.pop("check_ranges", True)
    begun: list[TrainingRun] = []
    failures: list[str] = []

    def fail(name: object, reason: object) -> None:
        failures.append(f"{name}: {reason}")
        print_notice(f"failed: {failures[-1]}")

    for given in sweep.recordings:
        try:
            recording = _recording(given, launched.dry)
        except UserError as error:
            fail(given, error)
            continue
        for method, preset in product(sweep.methods, sweep.presets):
            words = (recording_name(recording.dataset_id), method, preset)
            name = "-".join(word for word in words if word is not None)
            if name in (run.name for run in begun):
                fail(given, f"another run is called {name}, too: sweep it apart")
                continue
            try:
                config, folder, there = asked_run(
                    recording, method=method, preset=preset or "default", seeds=sweep.seeds,
                    out=out / name, if_exists="resume", **options,
                )  # fmt: skip
                begun.append(TrainingRun(config, folder, there, check_ranges=check_ranges))
            except NotNamedError as error:
                needed = json.dumps(error.env_id, ensure_ascii=False)
                fail(name, f"{error.why}: the file needs env = {needed}")
            except UserError as error:
                fail(name, error)
    runs: dict[str, Run] = {}
    title = counted(len(begun), "run")
    for training, ended in zip(begun, launch(begun, launched, progress, title), strict=True):
        if ended.results is not None:
            runs[training.name] = Run(training.folder.path)
        for reason in ended.failures:
            fail(training.name, reason)
    return (compare(runs) if runs and not launched.lists else None), failures


def _recording(given: str | Mapping[str, Any], dry: bool) -> Recording:
    """Open a recording, or make it.

    Raises:
        UserError: it can't be made, or isn't there and nothing may be recorded.
    """
    if isinstance(given, str):
        return Recording(given)
    if dry:
        dataset_id = spec_of_env(**given).obs_id
        if dataset_id not in local_dataset_ids():
            raise UserError(f"{dataset_id} isn't recorded yet; its cells are listed once it is")
    return Recording.from_env(**given)
