"""A whole run on a recording, of any method: check, begin or resume, train, time, sum up."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from gymnasium.spaces import flatdim

from qss_offline.data import ranges
from qss_offline.data.environments import make_env, same_environment, workers_for
from qss_offline.data.facts import facts_of_config, recording_facts
from qss_offline.data.load import LoadedDataset, load_transitions, recorded_behaviour
from qss_offline.engine.device import check_device
from qss_offline.errors import UserError, printable
from qss_offline.files import write_json
from qss_offline.parallel.pace import in_words
from qss_offline.parallel.processes import available_cores
from qss_offline.parallel.progress import Reporter
from qss_offline.parallel.reporting import ProgressFactory, forward_only, no_progress
from qss_offline.runs.clock import RunClock
from qss_offline.runs.config import Method, RunConfig
from qss_offline.runs.folder import RunFolder, read_json, seeds_in_words, versions
from qss_offline.runs.results import read_evaluations, read_race, seed_results
from qss_offline.training.bco import bco_seconds_per_update, train_bco
from qss_offline.training.d3g import d3g_seconds_per_update, train_d3g
from qss_offline.training.interaction import ActionSteps, known_steps
from qss_offline.training.offline import SeedTask
from qss_offline.training.portfolio.auto import train_auto

LONG_RUN = 20_000
"""Units of work, of all seeds, from which on the time that they take is said before they begin."""

FEWEST_TRANSITIONS = 20
"""Of a recording; with fewer neither training nor a report says anything."""


class _Training(NamedTuple):
    """How the seeds of a method are trained, and how long that takes."""

    train: Callable[[RunConfig, Sequence[SeedTask], int | None, Reporter], None]
    seconds_per_update: Callable[[RunConfig, int, int], float]


_TRAINING: dict[Method, _Training] = {
    "d3g": _Training(train_d3g, d3g_seconds_per_update),
    "bco": _Training(train_bco, bco_seconds_per_update),
    "auto": _Training(train_auto, d3g_seconds_per_update),
}


def run(
    config: RunConfig,
    folder: RunFolder,
    resume: bool = False,
    show_progress: ProgressFactory = no_progress,
    workers: int | None = None,
    begun: float | None = None,
    *,
    check_ranges: bool = True,
) -> dict[str, Any]:
    """Train and evaluate every seed, and return what `results.json` holds.

    Seeds are spread over worker processes of one thread each, at most one a core.

    Args:
        config: what to do, all of which `config.json` holds: a run is resumed with the same only.
        folder: where everything goes.
        resume: continue what the folder holds.
        show_progress: makes a progress display.
        workers: processes; None takes one a core, and one a GPU to train offline on GPUs.
        begun: reading of `time.monotonic()` that `wall_seconds` counts from, where building the
            dataset is to be counted; None counts from this call.
        check_ranges: refuse a recording whose observations can't be the environment's
            (`data/ranges.py`); a run that is resumed was checked before.

    Raises:
        UserError: the dataset or the folder can't be used.
    """
    begin = time.monotonic() if begun is None else begun
    check_device(config.device)
    dataset = load_transitions(config.dataset_id)
    if len(dataset.transitions) < FEWEST_TRANSITIONS:
        raise UserError(
            f"dataset {config.dataset_id!r} holds {len(dataset.transitions)} transitions, of which "
            f"nothing can be learned; {FEWEST_TRANSITIONS} are needed at least, and thousands to "
            "learn well"
        )
    if config.method != "bco" and dataset.info.rewards_missing:
        raise UserError(
            f"dataset {config.dataset_id!r} was recorded without rewards, from which D3G learns; "
            "BCO needs none: --method bco"
        )
    _check_environment(config.env_id, config.dataset_id, dataset, check_ranges and not resume)
    folder.check(resume)
    digest = dataset.info.digest
    earlier = read_json(folder.config) if folder.started else None
    # What is given by name may be another by the time a run is resumed.
    if earlier is not None and earlier.get("dataset_digest") != digest:
        raise UserError(
            f"{config.dataset_id} isn't the recording that {folder.path} began with: it was "
            "replaced since; choose another --out to learn from the new one"
        )
    facts = config.recording
    if earlier is not None:
        facts = facts_of_config(earlier, str(folder.config))
    if facts is None:
        normalize = config.preset.algorithm.normalize_observations
        facts = recording_facts(dataset.transitions, normalize)
    config = config.with_recording(facts)
    stored = {**vars(config), "dataset_digest": digest, "versions": versions()}
    known = known_steps(config.actions_from, config.env_id)
    known_count, action_dim = 0, _action_dim(config.env_id, known)
    if known is not None:
        known_count, stored["known_digest"] = len(known), known.digest
        del known
    folder.start(stored, resume)
    clock = RunClock(folder, begin)
    tasks = [SeedTask(seed, config.dataset_id, folder.seed(seed)) for seed in config.seeds]
    workers = workers_for([config.env_id], workers or available_cores(), len(tasks))
    title = f"training {len(tasks)} seed{'s' if len(tasks) > 1 else ''}"
    _print_plan(config, dataset.transitions.obs_dim, action_dim, workers, earlier is not None)

    def updates(units: float) -> int:
        return round(units / config.update_units)

    with show_progress(title, updates(round(config.units * len(tasks))), "updates") as show:
        told = forward_only(clock.noting(show))
        training = _TRAINING[config.method]
        training.train(config, tasks, workers, lambda done, note="": told(updates(done), note))
    behaviour = recorded_behaviour(dataset)
    results = {
        "method": config.method,
        "preset": config.preset_name,
        "updates": config.updates,
        "ensemble": config.preset.ensemble,
        "env_id": config.env_id,
        "random_action_prob": dataset.info.random_action_prob,
        "dataset_id": config.dataset_id,
        "transitions": len(dataset.transitions),
        "actions_from": config.actions_from,
        "known_steps": known_count,
        "behaviour_return": behaviour.mean,
        "behaviour_return_std": behaviour.std,
        "behaviour_stochasticity": config.facts.behaviour_stochasticity,
        "wall_seconds": round(clock.seconds, 1),
        "seeds": [
            seed_results(
                task.seed, read_evaluations(task.folder.result), read_race(task.folder.result)
            )
            for task in tasks
        ],
        "versions": versions(),
    }
    write_json(folder.results, results)
    return results


def seconds_per_seed(config: RunConfig, obs_dim: int, action_dim: int) -> float:
    """Measure, in a moment, how long a seed takes in one process on a CPU.

    Args:
        config: what to do.
        obs_dim: numbers of an observation.
        action_dim: numbers of an action.
    """
    update = _TRAINING[config.method].seconds_per_update(config, obs_dim, action_dim)
    return update * config.units / config.update_units


def _print_plan(
    config: RunConfig, obs_dim: int, action_dim: int, workers: int | None, resumed: bool
) -> None:
    """Say which seeds are trained, and how long that takes where it takes long."""
    seeds = config.seeds
    long = len(seeds) * config.units >= LONG_RUN and not resumed and config.device == "cpu"
    if len(seeds) == 1 and not long:
        return
    line = f"training {seeds_in_words(seeds)}"
    if long:
        cores = min(workers or available_cores(), available_cores())
        trainings = len(seeds) * config.preset.ensemble
        processes = min(cores, trainings)
        # Those of an ensemble are spread over processes, too.
        in_turn = math.ceil(trainings / processes) / config.preset.ensemble
        seconds = in_turn * seconds_per_seed(config, obs_dim, action_dim)
        line += f", about {in_words(seconds)} on {processes} core{'s' if processes > 1 else ''}"
    print(line, flush=True)


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
    if check_ranges:
        ranges.check_ranges(dataset.transitions, env_id)
