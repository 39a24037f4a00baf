"""Sweeps: every recording with every method, preset and seed that a TOML file names."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qss_offline.api.comparing import Comparison, compare
from qss_offline.api.options import recording_name
from qss_offline.api.recording import Recording
from qss_offline.api.runs import Run
from qss_offline.api.training import train
from qss_offline.errors import UserError, nearest, shown
from qss_offline.files import read_regular_file
from qss_offline.parallel.reporting import ProgressFactory, print_notice

_MOST_BYTES = 1 << 20
_RECORDED = ("env", "steps", "randomness", "expert", "seed")


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
    seeds: int | str = 3
    options: Mapping[str, Any] = field(default_factory=dict)


_OPTIONS = (
    "env", "updates", "online_steps", "online_rounds", "actions", "error_power", "changes",
    "check_ranges", "episodes", "device", "tf32", "workers",
)  # fmt: skip


def read_sweep(path: Path) -> Sweep:
    """Read a sweep from a TOML file.

    Raises:
        UserError: it can't be read, names something unknown, or no recording.
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
    for one in table["recordings"]:
        unknown = sorted(set(one) - set(_RECORDED)) if isinstance(one, dict) else []
        if unknown or not isinstance(one, str | dict):
            hint = f"; there are {', '.join(_RECORDED)}" if unknown else ""
            raise UserError(f"{path}: recordings holds {shown(unknown or one)}{hint}")
    options = {name: table[name] for name in _OPTIONS if name in table}
    settings = {name: tuple(value) for name, value in lists.items() if value is not None}
    return Sweep(**settings, seeds=table.get("seeds", 3), options=options)


def run_sweep(
    sweep: Sweep, out: Path, progress: bool | ProgressFactory = True
) -> tuple[Comparison | None, list[str]]:
    """Train what is missing of a sweep; one that fails doesn't take the others with it.

    Args:
        sweep: what is trained.
        out: folder of the runs, one for each recording, method and preset.
        progress: whether to show it, or what makes a progress display.

    Returns:
        All finished runs side by side, None where there are none, and a line for each that failed.
    """
    runs: dict[str, Run] = {}
    failures = []
    for given in sweep.recordings:
        try:
            recording = (
                Recording(given)
                if isinstance(given, str)
                else Recording.from_env(**given, progress=progress is not False)
            )
        except UserError as error:
            failures.append(f"{given}: {error}")
            continue
        for method in sweep.methods:
            for preset in sweep.presets:
                words = (recording_name(recording.dataset_id), method, preset)
                name = "-".join(word for word in words if word is not None)
                try:
                    runs[name] = train(
                        recording, method=method, preset=preset or "default", seeds=sweep.seeds,
                        out=out / name, if_exists="resume", progress=progress, **sweep.options,
                    )  # fmt: skip
                except UserError as error:
                    failures.append(f"{name}: {error}")
                    print_notice(f"failed: {failures[-1]}")
    return (compare(runs) if runs else None), failures
