"""What every run on a recording does around its training: check, begin or resume, time, sum up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from qss_offline.action_steps import ActionSteps
from qss_offline.data.chance import chance_share
from qss_offline.data.environments import body_of, make_env
from qss_offline.data.load import LoadedDataset, load_transitions
from qss_offline.data.minari_store import BehaviourReturns, returns_of
from qss_offline.elapsed import RunClock
from qss_offline.errors import UserError
from qss_offline.files import write_json
from qss_offline.inverse_config import InverseFitConfig
from qss_offline.offline_training import SeedTask
from qss_offline.progress import Reporter
from qss_offline.reporting import ProgressFactory, forward_only
from qss_offline.runs import RunFolder, read_json, versions


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
    def units(self) -> int:
        """Updates of one seed: what progress counts."""

    def known_steps(self) -> ActionSteps | None:
        """Read the steps of `actions_from`."""


def run_recorded(
    settings: RecordedRun,
    inverse: InverseFitConfig,
    folder: RunFolder,
    train: Callable[[Sequence[SeedTask], Reporter], None],
    *,
    kept: Mapping[str, Any],
    told: Mapping[str, Any],
    resume: bool,
    show_progress: ProgressFactory,
    begun: float | None,
) -> dict[str, Any]:
    """Train every seed, and return what `results.json` holds.

    Args:
        settings: what to do.
        inverse: the online budget.
        folder: where everything goes.
        train: trains and evaluates the tasks, from where their folders stand.
        kept: what settles the results, for `config.json`: a run is resumed with the same only.
        told: what the method adds to `results.json`.
        resume: continue what the folder holds.
        show_progress: makes a progress display.
        begun: reading of `time.monotonic()` that `wall_seconds` counts from; None counts from this
            call.

    Raises:
        UserError: the dataset or the folder can't be used.
    """
    begin = time.monotonic() if begun is None else begun
    dataset = load_transitions(settings.dataset_id)
    _check_environment(settings.env_id, settings.dataset_id, dataset)
    # What is given by name may be another by the time a run is resumed.
    digest = dataset.info.digest
    begun_with = read_json(folder.config).get("dataset_digest") if folder.started else digest
    if begun_with not in (None, digest):
        raise UserError(
            f"{settings.dataset_id} isn't the recording that {folder.path} began with: it was "
            "replaced since; choose another --out to learn from the new one"
        )
    # Runs of earlier versions don't say.
    told_digest = {} if begun_with is None else {"dataset_digest": digest}
    config = {**kept, **told_digest, "versions": versions()}
    known = settings.known_steps()
    known_count = 0
    if known is not None:
        known_count, config["known_digest"] = len(known), known.digest
        del known
    folder.start(config, resume)
    clock = RunClock(folder, begin)
    tasks = [SeedTask(seed, settings.dataset_id, folder.seed(seed)) for seed in settings.seeds]
    title = f"training {len(tasks)} seed{'s' if len(tasks) > 1 else ''}"
    with show_progress(title, settings.units * len(tasks), "updates") as show:
        train(tasks, forward_only(clock.noting(show)))
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
        "chance_share": chance_share(dataset.transitions),
        "wall_seconds": round(clock.seconds, 1),
        "seeds": [
            _seed_result(read_json(task.folder.result), inverse.online_steps) for task in tasks
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
