"""What every run on a recording does around its training: check, begin or resume, time, sum up."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, Self, TypeVar

import numpy as np

from qss_offline.data.environments import body_of, make_env
from qss_offline.data.load import LoadedDataset, load_transitions
from qss_offline.data.minari_format import BehaviourReturns, returns_of
from qss_offline.errors import UserError
from qss_offline.files import write_json
from qss_offline.parallel.processes import available_cores
from qss_offline.parallel.progress import Reporter
from qss_offline.parallel.reporting import ProgressFactory, forward_only
from qss_offline.runs.clock import RunClock, in_words
from qss_offline.runs.folder import RunFolder, read_json, seeds_in_words, versions
from qss_offline.runs.inverse_config import InverseFitConfig
from qss_offline.training.interaction import ActionSteps
from qss_offline.training.offline import SeedTask
from qss_offline.training.recording_facts import RecordingFacts, facts_of_config, recording_facts

LONG_RUN = 50_000
"""Updates, of all seeds, from which on the time that they take is said before they begin."""


class RecordedRun(Protocol):
    """What any method is asked to do with a recording; see `RunSettings`."""

    @property
    def env_id(self) -> str:
        """Where the policy acts."""

    @property
    def dataset_id(self) -> str:
        """What it learns from."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of training."""

    @property
    def actions_from(self) -> str | None:
        """What the inverse model learns from first."""

    @property
    def inverse(self) -> InverseFitConfig:
        """The online budget."""

    @property
    def normalize_observations(self) -> bool:
        """Whether networks see observations in units of their spread."""

    @property
    def facts(self) -> RecordingFacts:
        """What was measured of the recording."""

    @property
    def units(self) -> int:
        """Updates of one seed: what progress counts."""

    def with_recording(self, facts: RecordingFacts) -> Self:
        """Return the settings with what was measured of the recording."""

    def seconds_per_seed(self, obs_dim: int, action_dim: int, stack: int) -> float:
        """Measure how long the updates of a seed take in one process, `stack` seeds at a time."""

    def known_steps(self) -> ActionSteps | None:
        """Read the steps of `actions_from`."""


Settings = TypeVar("Settings", bound=RecordedRun)


def run_recorded(
    method: str,
    settings: Settings,
    folder: RunFolder,
    train: Callable[[Settings, Sequence[SeedTask], Reporter], None],
    *,
    told: Mapping[str, Any],
    resume: bool,
    show_progress: ProgressFactory,
    workers: int | None,
    begun: float | None,
    options: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Train every seed, and return what `results.json` holds.

    Args:
        method: its name in `config.json`.
        settings: what to do, all of which `config.json` holds: a run is resumed with the same only.
        folder: where everything goes.
        train: trains and evaluates the tasks, from where their folders stand.
        told: what the method adds to `results.json`.
        resume: continue what the folder holds.
        show_progress: makes a progress display.
        workers: processes; None takes one a core.
        begun: reading of `time.monotonic()` that `wall_seconds` counts from; None counts from this
            call.
        options: what a command was given, for `config.json`.

    Raises:
        UserError: the dataset or the folder can't be used.
    """
    begin = time.monotonic() if begun is None else begun
    dataset = load_transitions(settings.dataset_id)
    _check_environment(settings.env_id, settings.dataset_id, dataset)
    folder.check(resume)
    digest = dataset.info.digest
    earlier = read_json(folder.config) if folder.started else None
    # What is given by name may be another by the time a run is resumed.
    if earlier is not None and earlier.get("dataset_digest") != digest:
        raise UserError(
            f"{settings.dataset_id} isn't the recording that {folder.path} began with: it was "
            "replaced since; choose another --out to learn from the new one"
        )
    settings = settings.with_recording(
        recording_facts(dataset.transitions, settings.normalize_observations)
        if earlier is None
        else facts_of_config(earlier, str(folder.config))
    )
    config = {
        "method": method,
        **vars(settings),
        "dataset_digest": digest,
        "versions": versions(),
    }
    if earlier is None and options is not None:
        config["options"] = options
    known = settings.known_steps()
    known_count = 0
    if known is not None:
        known_count, config["known_digest"] = len(known), known.digest
        del known
    folder.start(config, resume)
    clock = RunClock(folder, begin)
    tasks = [SeedTask(seed, settings.dataset_id, folder.seed(seed)) for seed in settings.seeds]
    title = f"training {len(tasks)} seed{'s' if len(tasks) > 1 else ''}"
    _tell_seeds(settings, dataset.transitions.obs_dim, workers)
    with show_progress(title, settings.units * len(tasks), "updates") as show:
        train(settings, tasks, forward_only(clock.noting(show)))
    behaviour = recorded_behaviour(dataset)
    results = {
        **told,
        "env_id": settings.env_id,
        "random_action_prob": dataset.info.random_action_prob,
        "dataset_id": settings.dataset_id,
        "transitions": len(dataset.transitions),
        "actions_from": settings.actions_from,
        "known_steps": known_count,
        "behaviour_return": behaviour.mean,
        "behaviour_return_std": behaviour.std,
        "chance_share": settings.facts.chance_share,
        "wall_seconds": round(clock.seconds, 1),
        "seeds": [
            _seed_result(read_json(task.folder.result), settings.inverse.online_steps)
            for task in tasks
        ],
        "versions": versions(),
    }
    write_json(folder.results, results)
    return results


def recorded_behaviour(dataset: LoadedDataset) -> BehaviourReturns:
    """Return what recorded episodes returned: as the dataset says, else of all that it holds.

    What it says leaves out episodes that the end of a recording cut.
    """
    told = dataset.info.behaviour_return
    return returns_of(dataset.transitions.episode_returns()) if told is None else told


def _tell_seeds(settings: RecordedRun, obs_dim: int, workers: int | None) -> None:
    """Say which seeds are trained, and how long that takes where it takes long."""
    seeds = settings.seeds
    if len(seeds) == 1:
        return
    line = f"training {seeds_in_words(seeds)}"
    if len(seeds) * settings.units >= LONG_RUN:
        env = make_env(settings.env_id)
        shape = env.action_space.shape
        env.close()
        assert shape is not None
        processes = min(workers or available_cores(), available_cores(), len(seeds))
        stack = math.ceil(len(seeds) / processes)
        seconds = stack * settings.seconds_per_seed(obs_dim, shape[0], min(stack, 8))
        line += f", about {in_words(seconds)} on {processes} core{'s' if processes > 1 else ''}"
    print(line, flush=True)


def _check_environment(env_id: str, dataset_id: str, dataset: LoadedDataset) -> None:
    """Refuse a dataset of another body: by its name, where it has one, and by its observations.

    Raises:
        UserError: it is.
    """
    recorded = dataset.info.env_id
    if recorded is not None and body_of(recorded) != body_of(env_id):
        raise UserError(
            f"dataset {dataset_id!r} is of another body: {recorded}, not {env_id}; choose a "
            "dataset of that environment"
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


def _seed_result(result: Mapping[str, Any], online_steps: int) -> dict[str, Any]:
    """Return what `results.json` says of a seed.

    Args:
        result: the seed's own `result.json`.
        online_steps: environment steps of the whole run.
    """
    returns = [evaluation["returns"] for evaluation in result["evaluations"]]
    means = [float(np.mean(values)) for values in returns]
    best = int(np.argmax(means))
    return {
        "seed": result["seed"],
        "last": {"mean": means[-1], "returns": returns[-1]},
        "best": {"mean": means[best], "evaluation": best + 1},
        "evaluations": means,
        "online_steps": online_steps,
    }
