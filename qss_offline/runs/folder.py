"""The run folder: what a run was asked to do, how far it is, and what came of it.

config.json                 settings, versions; written first
elapsed.json                seconds spent so far, over all resumptions
seeds/<seed>/training.safetensors   offline training, to resume from
seeds/<seed>/online.safetensors     inverse fit, to resume from
seeds/<seed>/metrics.jsonl          losses and values during training
seeds/<seed>/policy.safetensors     the policy
seeds/<seed>/result.json            its returns
seeds/<seed>/lock                   held by the process that works on it; says which
seeds/<seed>/failed.txt             why it failed last, until it is done
seeds/<seed>/members/<n>/           training and metrics of the others of an ensemble, from 1 on
seeds/<seed>/members/<name>/        training, metrics and policies of a portfolio's members
results.json                the run's results; written last
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from qss_offline.errors import UserError
from qss_offline.files import (
    open_in_place,
    parse_json,
    read_regular_file,
    write_bytes,
    write_json,
)
from qss_offline.runs.values import number
from qss_offline.settings_json import still_known, to_plain

MOST_SEEDS = 10_000
MOST_METRICS_BYTES = 1 << 30
_MAX_JSON_BYTES = 256 << 20


@dataclass(frozen=True)
class SeedFolder:
    """Files of one seed."""

    path: Path

    def member(self, name: int | str) -> SeedFolder:
        """Return the files of one of an ensemble's trainings, or of a portfolio's member.

        Those of an ensemble have numbers; the first has the seed's own files.
        """
        return SeedFolder(self.path / "members" / str(name)) if name else self

    @property
    def training(self) -> Path:
        """Checkpoint of offline training."""
        return self.path / "training.safetensors"

    @property
    def online(self) -> Path:
        """Checkpoint of the inverse fit."""
        return self.path / "online.safetensors"

    @property
    def metrics(self) -> Path:
        """One JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def policy(self) -> Path:
        """The policy."""
        return self.path / "policy.safetensors"

    @property
    def result(self) -> Path:
        """Returns of every evaluation."""
        return self.path / "result.json"

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Add a row of metrics.

        Raises:
            UserError: the folder can't be written to or the disk is full.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = open_in_place(self.metrics, os.O_WRONLY | os.O_APPEND)
            with os.fdopen(descriptor, "a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise UserError(f"cannot write {self.metrics}: {error.strerror or error}") from error

    def cut_metrics(self, update: int) -> None:
        """Drop what was logged after `update`, and what a kill left half-written."""
        if self.metrics.exists():
            lines = [line + b"\n" for line, now, _ in self.metric_rows() if now <= update]
            write_bytes(self.metrics, b"".join(lines))

    def metric_rows(self) -> list[tuple[bytes, int, dict[str, Any]]]:
        """Return each line of metrics, its update and what it holds, without half-written ones.

        Raises:
            UserError: the file can't be read.
        """
        rows = []
        if self.metrics.exists():
            for line in read_regular_file(self.metrics, MOST_METRICS_BYTES).splitlines():
                try:
                    row = parse_json(line, self.metrics, nan=True)
                except UserError:
                    continue
                now = row.get("update") if isinstance(row, dict) else None
                if isinstance(now, int):
                    rows.append((line, now, row))
        return rows


@dataclass(frozen=True)
class RunFolder:
    """A run's files."""

    path: Path

    def seed(self, seed: int) -> SeedFolder:
        """Return the files of one seed."""
        return SeedFolder(self.path / "seeds" / str(seed))

    @property
    def config(self) -> Path:
        """What the run was asked to do."""
        return self.path / "config.json"

    @property
    def started(self) -> bool:
        """Whether there is a run to resume."""
        return self.config.exists()

    @property
    def is_online(self) -> bool:
        """Whether it is an online run, as its configuration says.

        Raises:
            UserError: the configuration can't be read.
        """
        return self.started and read_json(self.config).get("method") == "online"

    @property
    def results(self) -> Path:
        """The run's results."""
        return self.path / "results.json"

    def check(self, resume: bool) -> None:
        """Find out whether there is a run to resume, or room for a new one.

        Raises:
            UserError: there isn't, or a folder in it is a link, through which others' files would
                be written over.
        """
        if resume and not self.started:
            raise UserError(
                f"{self.path} holds no run to resume (no config.json); qss train starts one"
            )
        if self.started and not resume:
            raise UserError(
                f"{self.path} holds a run already: qss resume {shlex.quote(str(self.path))} goes "
                "on with it; choose another --out for a new one"
            )
        if not self.started and (self.path / "seeds").exists():
            raise UserError(
                f"{self.path} holds parts of a run that never began (no config.json); delete it, "
                "or choose another --out"
            )
        for folder, inside, _ in os.walk(self.path):
            for name in inside:
                if (path := Path(folder, name)).is_symlink():
                    raise UserError(f"{path} is a link: refused; only a whole run's folder may be")

    def check_recording(self, dataset_id: str, digest: str | None) -> None:
        """Refuse a recording that was replaced, under the same id, since the run began with it.

        Args:
            dataset_id: its id.
            digest: of what it holds now.

        Raises:
            UserError: it was.
        """
        if read_json(self.config).get("dataset_digest") != digest:
            raise UserError(
                f"{dataset_id} isn't the recording that {self.path} began with: it was replaced "
                "since; train a new run on it, with another --out"
            )

    def start(
        self,
        config: Mapping[str, Any],
        resume: bool,
        fill: Callable[[], None] = lambda: None,
    ) -> None:
        """Write the configuration of a new run, or check that of a run to resume.

        Args:
            config: settings, which may hold dataclasses. What didn't exist when the run was
                started counts as off, or in a dataclass as its default, the authors' choice.
            resume: continue what the folder holds.
            fill: writes what a new run begins with, before its configuration.

        Raises:
            UserError: the folder holds a run already and `resume` is off, or a run with other
                settings; or it can't be written to.
        """
        self.check(resume)
        if not self.started:
            fill()
            write_json(self.config, to_plain(config))
            return
        asked = {name: value for name, value in config.items() if name != "versions"}
        found = _difference(asked, read_json(self.config))
        if found is not None:
            name, now, then = found
            raise UserError(
                f"{self.path} was started with {name} = {json.dumps(then)}, not "
                f"{json.dumps(now)}; give the same settings to resume it, or another --out"
            )

    @property
    def elapsed_s(self) -> float:
        """Seconds spent so far.

        Raises:
            UserError: the file can't be read or holds something else.
        """
        path = self.path / "elapsed.json"
        if not path.exists():
            return 0.0
        return number(read_json(path).get("seconds", 0.0), f"{path}: seconds")

    def set_elapsed(self, seconds: float) -> None:
        """Note the seconds spent so far."""
        write_json(self.path / "elapsed.json", {"seconds": round(seconds, 1)})


def _difference(now: Any, then: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """Return the first setting that differs, by its dotted name, and both values as JSON."""
    if isinstance(then, dict) and is_dataclass(now) and not isinstance(now, type):
        then, known = still_known(then), {field.name for field in fields(now)}
        for strange in sorted(then.keys() - known):
            return f"{name}.{strange}" if name else strange, None, then[strange]
        defaults = {field.name: to_plain(_default(field)) for field in fields(now)}
        then = {**defaults, **then}
        now = {field.name: getattr(now, field.name) for field in fields(now)}
    if isinstance(now, dict) and isinstance(then, dict):
        for key, value in now.items():
            if key not in then and not value:
                continue
            found = _difference(value, then.get(key), f"{name}.{key}" if name else key)
            if found is not None:
                return found
        return None
    now = to_plain(now)
    return None if now == then else (name, now, then)


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return None if field.default is MISSING else field.default


def read_json(path: Path) -> dict[str, Any]:
    """Read an untrusted JSON object; its numbers are finite.

    Raises:
        UserError: the file is missing or no regular one, or not a JSON object.
    """
    content = parse_json(read_regular_file(path, _MAX_JSON_BYTES), path)
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object")
    return content


def beside(path: Path, suffix: str) -> Path:
    """Return the path of a folder beside another, called as that is and a suffix."""
    # Those of the current folder and of the one above say no name.
    named = path.resolve() if path.name in ("", "..") else path
    return named.with_name(f"{named.name}{suffix}")


def free_folder(base: Path) -> Path:
    """Return `base`, or `base-2`, `base-3`, … : the first that doesn't exist."""
    candidate, number = base, 1
    while candidate.exists():
        number += 1
        candidate = beside(base, f"-{number}")
    return candidate


def versions() -> dict[str, str]:
    """Versions of what numbers depend on."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in ("qss-offline", "torch", "numpy", "gymnasium", "mujoco", "minari"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    if "torch" not in sys.modules:
        # Nothing was computed with it, and it takes seconds to import.
        return found
    from qss_offline.engine.device import gpu_versions

    return found | gpu_versions()


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read `"5"` as seeds 0 to 4, `"100-104"` as a range, and `"0,3,7-9"` as a list of such.

    Raises:
        UserError: the text is none of these, or names a seed twice.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    seeds: list[int] = []
    for part in parts:
        match = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", part)
        if match is None:
            seeds = []
            break
        first, last = int(match[1]), int(match[2] or match[1])
        if match[2] is None and "," not in text:
            first, last = 0, first - 1
        if last < first:
            seeds = []
            break
        if last - first >= MOST_SEEDS:
            raise UserError(f"--seeds {text}: {MOST_SEEDS:,} seeds are the most of one run")
        seeds += range(first, last + 1)
    if not seeds or len(set(seeds)) < len(seeds):
        raise UserError(
            "--seeds takes a number of seeds (5 for seeds 0 to 4), a range (100-104) or a list of "
            f"different ones (0,3,7 or 3,), not {text!r}"
        )
    return tuple(seeds)


def seeds_in_words(seeds: Sequence[int]) -> str:
    """Return how many seeds there are, and which: "100 seeds (0 to 99)"."""
    if len(seeds) == 1:
        return f"1 seed ({seeds[0]})"
    in_a_row = tuple(seeds) == tuple(range(seeds[0], seeds[0] + len(seeds)))
    which = f"{seeds[0]} to {seeds[-1]}" if in_a_row else ", ".join(map(str, seeds))
    return f"{len(seeds)} seeds ({which})"
