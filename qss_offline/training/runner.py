"""A whole run on a recording, of any method: check, begin or resume, train, time, sum up."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gymnasium.spaces import flatdim

from qss_offline.data import ranges
from qss_offline.data.environments import make_env, same_environment
from qss_offline.data.facts import facts_of_config, recording_facts
from qss_offline.data.load import LoadedDataset, load_transitions, recorded_behaviour
from qss_offline.data.local import local_dataset_ids
from qss_offline.engine.device import check_device
from qss_offline.errors import UserError, printable
from qss_offline.launch.cell import Cell, Launcher
from qss_offline.launch.driver import Begun, launch
from qss_offline.launch.local import LocalLauncher
from qss_offline.parallel.pace import in_words
from qss_offline.parallel.reporting import Notice, ProgressFactory, no_progress, print_notice
from qss_offline.runs.config import Method, RunConfig
from qss_offline.runs.folder import RunFolder, read_json, seeds_in_words, versions
from qss_offline.runs.results import read_evaluations, read_race, seed_results
from qss_offline.training.bco import bco_seconds_per_update
from qss_offline.training.cells import training_cells
from qss_offline.training.d3g import d3g_seconds_per_update
from qss_offline.training.interaction import ActionSteps, known_steps

LONG_RUN = 20_000
"""Units of work, of all seeds, from which on the time that they take is said before they begin."""

FEWEST_TRANSITIONS = 20
"""Of a recording; with fewer neither training nor a report says anything."""


_SECONDS_PER_UPDATE: dict[Method, Callable[[RunConfig, int, int], float]] = {
    "d3g": d3g_seconds_per_update,
    "bco": bco_seconds_per_update,
    "auto": d3g_seconds_per_update,
}


def run(
    config: RunConfig,
    folder: RunFolder,
    resume: bool = False,
    show_progress: ProgressFactory = no_progress,
    launcher: Launcher | None = None,
    begun: float | None = None,
    *,
    check_ranges: bool = True,
    fill: Callable[[], None] = lambda: None,
    notice: Notice | None = print_notice,
) -> dict[str, Any]:
    """Train and evaluate every seed, and return what `results.json` holds.

    Args:
        config: what to do, all of which `config.json` holds: a run is resumed with the same only.
        folder: where everything goes.
        resume: continue what the folder holds.
        show_progress: makes a progress display.
        launcher: where seeds are trained; None takes processes of one thread each here, at most
            one a core on a CPU, one in all on a GPU.
        begun: reading of `time.monotonic()` that `wall_seconds` counts from, where building the
            dataset is to be counted; None counts from this call.
        check_ranges: refuse a recording whose observations can't be the environment's
            (`data/ranges.py`); a run that is resumed was checked before.
        fill: writes what a new run begins with into its folder.
        notice: called with the plan, in a line; None says none.

    Raises:
        UserError: the dataset or the folder can't be used, or a seed's training failed.
    """
    begin = time.monotonic() if begun is None else begun
    launcher = launcher or LocalLauncher()
    training = TrainingRun(
        config, folder, resume, check_ranges=check_ranges, begun=begin, fill=fill
    )
    if notice is not None and not launcher.lists:
        training.say_plan(launcher, notice)
    count = len(config.seeds)
    title = f"training {count} seed{'s' if count > 1 else ''}"
    (ended,) = launch([training], launcher, show_progress, title, config.update_units)
    return ended.or_refuse()


class TrainingRun(Begun):
    """A run on a recording that was checked: what `launch.driver` begins and ends.

    Args:
        config: what to do.
        folder: where everything goes.
        resume: continue what the folder holds.
        check_ranges: as for `run`.
        begun: reading of `time.monotonic()` that its seconds count from; None counts from when
            its first cell begins.
        fill: as for `run`.

    Raises:
        UserError: the dataset or the folder can't be used.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: RunFolder,
        resume: bool,
        *,
        check_ranges: bool = True,
        begun: float | None = None,
        fill: Callable[[], None] = lambda: None,
    ) -> None:
        check_device(config.device)
        dataset = load_transitions(config.dataset_id)
        if len(dataset.transitions) < FEWEST_TRANSITIONS:
            raise UserError(
                f"dataset {config.dataset_id!r} holds {len(dataset.transitions)} transitions, of "
                f"which nothing can be learned; {FEWEST_TRANSITIONS} are needed at least, and "
                "thousands to learn well"
            )
        if config.method != "bco" and dataset.info.rewards_missing:
            raise UserError(
                f"dataset {config.dataset_id!r} was recorded without rewards, from which D3G "
                "learns; BCO needs none: --method bco"
            )
        folder.check(resume)
        digest = dataset.info.digest
        earlier = read_json(folder.config) if folder.started else None
        facts = config.recording
        if earlier is not None:
            folder.check_recording(config.dataset_id, digest)
            facts = facts_of_config(earlier, str(folder.config))
        _check_environment(config.env_id, config.dataset_id, dataset, check_ranges and not resume)
        if facts is None:
            normalize = config.preset.algorithm.normalize_observations
            facts = recording_facts(dataset.transitions, normalize)
        super().__init__(folder, config.seeds, begun)
        self.config = config.with_recording(facts)
        self._dataset, self._resume, self._resumed = dataset, resume, earlier is not None
        self._stored = {**vars(self.config), "dataset_digest": digest, "versions": versions()}
        # Open as long as the run is: a process opens a recording once.
        self._opened = {config.dataset_id: dataset}
        source = config.actions_from
        if source in local_dataset_ids() and not RunFolder(Path(source)).started:
            self._opened[source] = load_transitions(source)
        known = known_steps(source, config.env_id)
        if source in self._opened and config.env_id is not None and check_ranges and not resume:
            try:
                ranges.check_ranges(self._opened[source].transitions, config.env_id)
            except UserError as error:
                raise UserError(f"actions from {source!r}: {error}") from error
        self._known_count = 0 if known is None else len(known)
        self._action_dim = _action_dim(config.env_id, known)
        if known is not None:
            self._stored["known_digest"] = known.digest
        self._fill = fill

    def start(self) -> None:
        """Write the settings of a new run, or compare those of one that goes on."""
        self.folder.start(self._stored, self._resume, self._fill)
        self._resume = True

    def cells(self, shares: int | None) -> list[Cell]:
        """Return its cells, none where all is done."""
        if self.done:
            return []
        recordings = {name: opened.info.digest for name, opened in self._opened.items()}
        return training_cells(self.config, self.folder, recordings, shares)

    @property
    def unit_seconds(self) -> float:
        """Seconds of a unit of work, roughly: measured in a moment, in one process on a CPU."""
        obs_dim = self._dataset.transitions.obs_dim
        return seconds_per_unit(self.config, obs_dim, self._action_dim)

    def _results(self) -> dict[str, Any]:
        config, dataset = self.config, self._dataset
        behaviour = recorded_behaviour(dataset)
        folders = {seed: self.folder.seed(seed) for seed in config.seeds}
        return {
            "method": config.method,
            "preset": config.preset_name,
            "updates": config.updates,
            "ensemble": config.preset.ensemble,
            "env_id": config.env_id,
            "random_action_prob": dataset.info.random_action_prob,
            "dataset_id": config.dataset_id,
            "transitions": len(dataset.transitions),
            "actions_from": config.actions_from,
            "known_steps": self._known_count,
            "behaviour_return": behaviour.mean,
            "behaviour_return_std": behaviour.std,
            "behaviour_stochasticity": config.facts.behaviour_stochasticity,
            "seeds": [
                seed_results(seed, read_evaluations(one.result), read_race(one.result))
                for seed, one in folders.items()
            ],
        }

    def say_plan(self, launcher: Launcher, notice: Notice) -> None:
        """Say which seeds are trained, and how long that takes here where it takes long."""
        seeds, config = self.config.seeds, self.config
        long = len(seeds) * config.units >= LONG_RUN and not self._resumed
        if len(seeds) == 1 and not long:
            return
        line = f"training {seeds_in_words(seeds)}"
        if long and config.device == "cpu":
            cells = self.cells(None)
            width = launcher.width(cells)
            # Those of an ensemble are spread over processes, too.
            in_turn = math.ceil(len(cells) / width) / len(cells)
            seconds = in_turn * len(seeds) * config.units * self.unit_seconds
            line += f", about {in_words(seconds)} on {width} core{'s' if width > 1 else ''}"
        notice(line)


def seconds_per_unit(config: RunConfig, obs_dim: int, action_dim: int) -> float:
    """Measure, in a moment, how long a unit of work takes in one process on a CPU.

    Args:
        config: what to do.
        obs_dim: numbers of an observation.
        action_dim: numbers of an action.
    """
    return _SECONDS_PER_UPDATE[config.method](config, obs_dim, action_dim) / config.update_units


def _action_dim(env_id: str | None, known: ActionSteps | None) -> int:
    """Return how many numbers an action has, 0 where a run takes no notice of any."""
    if env_id is None:
        return 0 if known is None else known.actions.shape[1]
    env = make_env(env_id)
    env.close()
    return int(flatdim(env.action_space))


def _check_environment(
    env_id: str | None, dataset_id: str, dataset: LoadedDataset, check_ranges: bool
) -> None:
    """Refuse a dataset of another environment, by its name if it has one, and by its observations.

    Raises:
        UserError: it is.
    """
    if env_id is None:
        return
    recorded = dataset.info.env_id
    if recorded is not None and not same_environment(recorded, env_id):
        raise UserError(
            f"dataset {dataset_id!r} is of another environment: {printable(recorded)}, not "
            f"{env_id}; choose a dataset of that environment"
        )
    env = make_env(env_id)
    shape = env.observation_space.shape
    env.close()
    assert shape is not None
    if shape[0] != dataset.transitions.obs_dim:
        raise UserError(
            f"dataset {dataset_id!r} holds observations of {dataset.transitions.obs_dim} numbers, "
            f"but {env_id} gives {shape[0]}; choose a dataset of that environment"
        )
    if check_ranges and dataset.info.shifted:
        raise UserError(
            f"dataset {dataset_id!r} was imported with --offset, and {env_id} subtracts nothing; "
            "leave out the environment, or insist with --no-check-ranges (in Python "
            "check_ranges=False) if it does"
        )
    if check_ranges:
        ranges.check_ranges(dataset.transitions, env_id)
