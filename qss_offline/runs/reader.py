"""A finished run on a recording, of any method, read back."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qss_offline.data.environments import env_id_of_file
from qss_offline.data.facts import RecordingFacts
from qss_offline.data.load import LoadedDataset, load_transitions
from qss_offline.errors import UserError, printable, shown
from qss_offline.files import parse_json, read_regular_file
from qss_offline.runs.config import Method, RunConfig
from qss_offline.runs.folder import MOST_METRICS_BYTES, RunFolder, SeedFolder, read_json
from qss_offline.runs.portfolio_config import D3G
from qss_offline.runs.race import Race
from qss_offline.runs.results import results_of_file, seeds_of_file
from qss_offline.runs.values import number, whole
from qss_offline.settings_json import settings_of

LABELS: dict[str, str] = {
    "d3g": "D3G",
    "d3g-no-cycle": "D3G⁻",
    "bco": "BCO",
    "bco-mean": "BCO as published",
    "auto": "auto",
    "behaviour": "recorded",
    "pseudo-iql": "IQL on BCO's labels",
    "bc": "BC with actions",
    "td3+bc": "TD3+BC with actions",
    "iql": "IQL with actions",
    "cql": "CQL with actions",
    "nfq": "fitted Q-iteration",
    "dqn": "DQN",
    "double-dqn": "Double DQN",
    "ddpg": "DDPG",
    "td3": "TD3",
    "sac": "SAC",
}
"""Methods of runs and tables as figures and tables name them."""


@dataclass(frozen=True)
class Scored:
    """A run with scores.

    Attributes:
        results: what came of it, by name.
    """

    results: dict[str, Any]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of training."""
        return tuple(int(seed["seed"]) for seed in self.results["seeds"])

    @property
    def evaluated(self) -> bool:
        """Whether there are any scores: without an environment there are none."""
        return bool(self.results["seeds"][0]["evaluations"])

    @property
    def last(self) -> NDArray[np.float64]:
        """`(seeds,)` mean return of each seed's last evaluation."""
        return np.array([seed["last"]["mean"] for seed in self.results["seeds"]])

    @property
    def best(self) -> NDArray[np.float64]:
        """`(seeds,)` mean return of each seed's best evaluation."""
        return np.array([seed["best"]["mean"] for seed in self.results["seeds"]])


@dataclass(frozen=True)
class FinishedRun(Scored):
    """A run with everything that `results.json` holds.

    Attributes:
        results: what came of it.
        folder: its files.
        config: what it was asked to do.
    """

    folder: RunFolder
    config: RunConfig

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.path.resolve().name

    @property
    def method(self) -> Method:
        """What learned."""
        return self.config.method

    @property
    def env_id(self) -> str:
        """Where the policies act.

        Raises:
            UserError: the run had no environment.
        """
        if self.config.env_id is None:
            path = shlex.quote(str(self.folder.path))
            raise UserError(
                f"{self.folder.path} was trained without an environment: fit its inverse dynamics "
                f"model in one first, with qss fit-inverse {path} --env NAME"
            )
        return self.config.env_id

    @property
    def dataset_id(self) -> str:
        """What it learned from."""
        return self.config.dataset_id

    @property
    def behaviour(self) -> tuple[float, float]:
        """Mean and standard deviation of the recorded returns."""
        return self.results["behaviour_return"], self.results["behaviour_return_std"]

    @property
    def label(self) -> str:
        """Its method, preset and changed settings: what it is called beside other runs."""
        preset, power = self.config.preset_name, self.config.error_power
        if self.method == "bco" and power != self.facts.error_power:
            preset = f"{preset} with error_power={power:g}"
        return f"{LABELS[self.method]} ({preset})"

    @property
    def facts(self) -> RecordingFacts:
        """What was measured of the recording."""
        return self.config.facts

    def seed_folder(self, seed: int) -> SeedFolder:
        """Return the files of one seed.

        Raises:
            UserError: the run has no such seed.
        """
        if seed not in self.seeds:
            known = ", ".join(map(str, self.seeds))
            raise UserError(f"{self.folder.path} has no seed {seed}; its seeds are {known}")
        return self.folder.seed(seed)

    def winner(self, seed: int) -> str | None:
        """Return the member of a race that acts for a seed, None where nobody raced.

        Raises:
            UserError: the results hold no race that can be read.
        """
        (result,) = (one for one in self.results["seeds"] if one["seed"] == seed)
        raced = result.get("race")
        return None if raced is None else Race.of_file(raced, self.folder.results).leader

    @property
    def proposes(self) -> bool:
        """Whether D3G's proposals lead: in a run of its own, or where it won every race.

        Raises:
            UserError: as `winner`.
        """
        if self.method == "auto":
            return all(self.winner(seed) in (None, D3G) for seed in self.seeds)
        return self.method == "d3g"

    @cached_property
    def dataset(self) -> LoadedDataset:
        """What it learned from.

        Raises:
            UserError: the dataset isn't here, or another one has its id by now.
        """
        dataset = load_transitions(self.dataset_id)
        self.folder.check_recording(self.dataset_id, dataset.info.digest)
        return dataset

    def metrics(self, seed: int) -> dict[str, NDArray[np.float64]]:
        """Return the losses and values of training, of an ensemble's first, each `(rows,)`.

        Raises:
            UserError: the file is damaged.
        """
        path = self.seed_folder(seed).metrics
        if not path.exists():
            return {}
        rows: list[dict[str, Any]] = []
        for line in read_regular_file(path, MOST_METRICS_BYTES).splitlines():
            row = parse_json(line, f"{path}: a line", nan=True)
            if not isinstance(row, dict) or (rows and row.keys() != rows[0].keys()):
                raise UserError(f"{path} holds lines of different metrics")
            rows.append(row)
        names = rows[0].keys() if rows else ()
        return {
            name: np.array([number(row[name], f"{path}: {shown(name)}") for row in rows])
            for name in names
        }


def load_run(path: Path) -> FinishedRun:
    """Read the folder of a finished run.

    Raises:
        UserError: there is no such folder, it holds no run, one that isn't finished, an online one,
            or one of another version of this package.
    """
    folder = RunFolder(path)
    if not path.is_dir():
        raise UserError(f"{path} does not exist; give a run folder, such as one under runs/")
    if not folder.started:
        raise UserError(f"{path} holds no run (no config.json)")
    if not folder.results.exists():
        raise UserError(
            f"{path} is not finished (no results.json); qss resume {shlex.quote(str(path))} goes on"
        )
    config = read_run_config(folder)
    results = results_of_file(read_json(folder.results), folder.results)
    run = FinishedRun(results, folder, config)
    if run.config.recording is None:
        raise UserError(f"{folder.config}: recording is missing: it is of another version")
    return run


@dataclass(frozen=True)
class OnlineRun(Scored):
    """A finished online run: what its `results.json`, or a copy of it elsewhere, holds.

    Attributes:
        results: what the file holds, the scores of its seeds computed from their returns.
        path: the file.
        config: what it was asked to do, as its folder's `config.json` says; empty of a copy.
    """

    path: Path
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The folder's name, or the file's."""
        path = self.path.resolve()
        return path.parent.name if path.name == "results.json" else path.stem

    @property
    def env_id(self) -> str:
        """Where it acted."""
        return str(self.results["env_id"])

    @property
    def algorithm(self) -> str:
        """What learned."""
        return str(self.results["algorithm"])

    @property
    def preset_name(self) -> str:
        """Where its settings came from, changed ones included."""
        return str(self.results.get("preset", "unknown"))

    @property
    def label(self) -> str:
        """Its method, preset and changed settings: what it is called beside other runs."""
        started = ", started offline" if self.results.get("start_run") is not None else ""
        name = LABELS.get(self.algorithm, self.algorithm)
        return printable(f"online {name} ({self.preset_name}{started})")


def load_online_run(path: Path) -> OnlineRun:
    """Read a finished online run.

    Args:
        path: its folder, or a file of results.

    Raises:
        UserError: the file can't be read, or holds no results of an online run of this version.
    """
    folder = RunFolder(path)
    file = folder.results if path.is_dir() else path
    if path.is_dir() and folder.started and not file.exists():
        raise UserError(
            f"{path} is not finished (no results.json); qss resume {shlex.quote(str(path))} goes on"
        )
    results = read_json(file)
    missing = [name for name in ("env_id", "algorithm", "wall_seconds") if name not in results]
    if missing:
        raise UserError(f"{file} holds no results of an online run: {missing[0]} is missing")
    for name in ("env_id", "algorithm"):
        if not isinstance(results[name], str):
            raise UserError(f"{file}: {name} is {shown(results[name])}, expected text")
    held: dict[str, Any] = {"seeds": seeds_of_file(results, file)}
    held["wall_seconds"] = number(results["wall_seconds"], f"{file}: wall_seconds")
    results = {"steps": held["seeds"][0]["online_steps"], **results}
    for name in {"steps", "steps_before"} & results.keys():
        held[name] = whole(results[name], f"{file}: {name}")
    asked = read_json(folder.config) if path.is_dir() and folder.started else {}
    run = OnlineRun({**results, **held}, file, asked)
    if not run.evaluated:
        raise UserError(f"{file}: an online run has evaluations, and here there are none")
    return run


def load_any_run(path: Path) -> FinishedRun | OnlineRun:
    """Read a finished run: on a recording, or online.

    Args:
        path: its folder, or a copy of an online run's results.

    Raises:
        UserError: as `load_run` and `load_online_run`.
    """
    folder = RunFolder(path)
    if path.is_file():
        return load_online_run(path)
    return load_online_run(path) if folder.is_online else load_run(path)


def read_run_config(folder: RunFolder) -> RunConfig:
    """Read what a run on a recording was asked to do.

    Raises:
        UserError: it is an online run, or of another version of this package; or its environment
            isn't registered here.
    """
    if folder.is_online:
        raise UserError(f"{folder.path} is an online run, without a recording that it learned from")
    config = read_json(folder.config)
    asked = settings_of(RunConfig, config, str(folder.config))
    if asked.env_id is None:
        return asked
    return replace(asked, env_id=env_id_of_file(asked.env_id, folder.config))
