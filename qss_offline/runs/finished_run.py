"""A finished run of any method on a recording, read back: its settings, returns and policies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qss_offline.algorithms.networks import Network
from qss_offline.data.environments import env_id_of_file
from qss_offline.data.load import LoadedDataset, load_transitions
from qss_offline.errors import UserError
from qss_offline.evaluation.policies import ObservationScale, SavedPolicy
from qss_offline.runs.folder import RunFolder, SeedFolder, read_json
from qss_offline.runs.inverse_config import InverseFitConfig
from qss_offline.training.recording_facts import RecordingFacts, facts_of_config


class InverseModel(NamedTuple):
    """A seed's I(s, s') as it is after its last round.

    Attributes:
        network: I, one seed, `(1, P)`.
        scale: what observations go through.
        step_inputs: whether I was trained on steps; needs `scale.step_std`.
    """

    network: Network
    scale: ObservationScale
    step_inputs: bool


@dataclass(frozen=True)
class FinishedRun(ABC):
    """A run with everything that `results.json` holds.

    Attributes:
        folder: its files.
        config: what it was asked to do.
        results: what came of it.
    """

    folder: RunFolder
    config: dict[str, Any]
    results: dict[str, Any]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.path.resolve().name

    @property
    def env_id(self) -> str:
        """Where the policies act.

        Raises:
            UserError: that isn't registered here.
        """
        return env_id_of_file(self.config["env_id"], self.folder.config)

    @property
    def dataset_id(self) -> str:
        """What it learned from."""
        return str(self.config["dataset_id"])

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of training."""
        return tuple(int(seed["seed"]) for seed in self.results["seeds"])

    @property
    def last(self) -> NDArray[np.float64]:
        """`(seeds,)` mean return of each seed's last evaluation."""
        return np.array([seed["last"]["mean"] for seed in self.results["seeds"]])

    @property
    def best(self) -> NDArray[np.float64]:
        """`(seeds,)` mean return of each seed's best evaluation."""
        return np.array([seed["best"]["mean"] for seed in self.results["seeds"]])

    @property
    def behaviour(self) -> tuple[float, float]:
        """Mean and standard deviation of the recorded returns."""
        return self.results["behaviour_return"], self.results["behaviour_return_std"]

    @property
    @abstractmethod
    def label(self) -> str:
        """What it is called beside other runs of its recording."""

    @property
    @abstractmethod
    def updates(self) -> int:
        """Updates of offline D3G, or of a cloned policy."""

    @property
    @abstractmethod
    def inverse_settings(self) -> InverseFitConfig:
        """Settings of the inverse fit.

        Raises:
            UserError: they are of another version of this package.
        """

    @abstractmethod
    def policy(self, seed: int) -> SavedPolicy:
        """Return a seed's policy.

        Raises:
            UserError: its file can't be read, or holds another method's policy.
        """

    @abstractmethod
    def inverse_model(self, seed: int) -> InverseModel:
        """Return a seed's I.

        Raises:
            UserError: it can't be read, or was made by another version of this package.
        """

    def seed_folder(self, seed: int) -> SeedFolder:
        """Return the files of one seed.

        Raises:
            UserError: the run has no such seed.
        """
        if seed not in self.seeds:
            known = ", ".join(map(str, self.seeds))
            raise UserError(f"{self.folder.path} has no seed {seed}; its seeds are {known}")
        return self.folder.seed(seed)

    @cached_property
    def facts(self) -> RecordingFacts:
        """What was measured of the recording.

        Raises:
            UserError: the run is of another version, which doesn't say.
        """
        return facts_of_config(self.config, str(self.folder.config))

    @cached_property
    def dataset(self) -> LoadedDataset:
        """What it learned from.

        Raises:
            UserError: the dataset isn't here.
        """
        return load_transitions(self.dataset_id)


class RunFiles(NamedTuple):
    """What is read of a run folder before anyone knows what made it."""

    folder: RunFolder
    config: dict[str, Any]
    results: dict[str, Any]


def read_run_files(path: Path) -> RunFiles:
    """Read the settings and results of a run on a recording.

    Raises:
        UserError: there is no such folder, it holds no run, one that isn't finished, or an online
            one.
    """
    folder = RunFolder(path)
    if not path.is_dir():
        raise UserError(f"{path} does not exist; give a run folder, such as one under runs/")
    if not folder.started:
        raise UserError(f"{path} holds no run (no config.json)")
    if not folder.results.exists():
        raise UserError(f"{path} is not finished (no results.json); --resume continues it")
    config = read_json(folder.config)
    if "plan" in config:
        raise UserError(f"{path} is an online run; this reads offline runs")
    return RunFiles(folder, config, read_json(folder.results))


def check_complete(run: FinishedRun, what: str) -> None:
    """Refuse a run whose files lack what every run has.

    Args:
        run: just read.
        what: its method, in words.

    Raises:
        UserError: they do, or its settings are of another version of this package.
    """
    path = run.folder.path
    try:
        told = run.env_id, run.dataset_id, run.label, run.updates, run.last, run.best, run.behaviour
        complete = run.inverse_settings.steps_per_round > 0 and None not in told[:4]
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} holds no run of {what}: {error} is missing") from error
    if not complete or not run.seeds:
        raise UserError(f"{path} holds no run of {what}")
