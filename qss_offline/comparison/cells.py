"""One cell of a comparison: a method on a recording, for some seeds, in one process of one thread.

A cell's folder is a run folder (`runs/folder.py`); a seed is done when its `result.json` is
there. What is run again does only what is missing.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qss_offline.comparison.config import ComparisonConfig
from qss_offline.data.environments import plain_name
from qss_offline.data.facts import RecordingFacts, facts_of_config, recording_facts
from qss_offline.data.load import load_transitions
from qss_offline.engine.checkpoint import load_checkpoint
from qss_offline.errors import UserError
from qss_offline.files import write_json
from qss_offline.launch import cell as launch
from qss_offline.parallel.processes import Tick
from qss_offline.parallel.reporting import counted_on
from qss_offline.runs.clock import ELAPSED_INTERVAL_S
from qss_offline.runs.config import RunConfig
from qss_offline.runs.folder import RunFolder, SeedFolder, read_json, versions
from qss_offline.runs.results import write_evaluations
from qss_offline.runs.work import EPISODE
from qss_offline.settings_json import from_plain, to_plain
from qss_offline.training.bco import bco_trainer, train_bco_seeds
from qss_offline.training.cells import MEMORY_GB
from qss_offline.training.d3g import train_seeds
from qss_offline.training.offline import SeedTask

TASK = "qss_offline.comparison.cells:run_job"

_UPDATE_WORK = {"bc": 1.0, "td3+bc": 2.0, "iql": 3.0, "cql": 15.0}
"""Work of an update of d3rlpy's methods (`runs/work.py`)."""

Run = tuple[str, str, float, str, int]
"""Comparison, environment, level of randomness, method and seed."""


@dataclass(frozen=True)
class Cell:
    """A method on a recording.

    Attributes:
        method: one of `METHODS`.
        env_id: where policies act.
        random_action_prob: of the recording.
        obs_id: the recording without actions.
        act_id: its twin with actions; only methods that are given actions open it.
        root: folder of the whole comparison's runs.
        settings: the comparison.
        actions_from: another recording in the environment, with actions, that the IDM of D3G and
            BCO learns from first, if there is one.
    """

    method: str
    env_id: str
    random_action_prob: float
    obs_id: str
    act_id: str
    root: Path
    settings: ComparisonConfig
    actions_from: str | None = None

    @property
    def key(self) -> tuple[str, float, str]:
        """Environment, level and method: what tells a cell from others of its comparison."""
        return self.env_id, self.random_action_prob, self.method

    @property
    def labeller(self) -> Cell | None:
        """The cell whose inverse models label this one's recording, if it needs labels."""
        return replace(self, method="bco") if self.method.startswith("pseudo-") else None

    @property
    def folder(self) -> RunFolder:
        """Where its runs go."""
        level = f"random-{100 * self.random_action_prob:g}"
        return RunFolder(self.root / plain_name(self.env_id) / level / self.method)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds that the comparison asks for."""
        return self.settings.seeds_of(self.method, self.random_action_prob)

    def check_recording(self) -> None:
        """Refuse a folder that holds runs on another recording: they'd be taken for this one's.

        Raises:
            UserError: it does.
        """
        if not self.folder.started:
            return
        then = read_json(self.folder.path / "config.json").get("dataset_id")
        if then != self.obs_id:
            raise UserError(
                f"{self.folder.path} holds runs on {then}, not on {self.obs_id}; choose another "
                "--runs and another --out, or delete it"
            )

    def run(self, seed: int) -> Run:
        """Return what tells a seed's run from all others."""
        return self.settings.name, self.env_id, self.random_action_prob, self.method, seed

    def missing(self, known: Collection[Run] = ()) -> tuple[int, ...]:
        """Return the seeds that are neither known nor done."""
        return tuple(
            seed for seed in self.seeds if self.run(seed) not in known and not self.done(seed)
        )

    def done(self, seed: int) -> bool:
        """Whether a seed is done: its seconds are written last."""
        path = self.folder.seed(seed).result
        return path.exists() and "seconds" in read_json(path)

    @property
    def units(self) -> float:
        """Work of one seed, in updates of offline D3G (`runs/work.py`): what progress counts."""
        if self.method in ("d3g", "bco"):
            return self._asked(()).units
        settings = self.settings
        updates = settings.updates(self.method)
        work = updates * _UPDATE_WORK[self.method.removeprefix("pseudo-")]
        return work + settings.baseline_evaluations * settings.episodes * EPISODE

    def measured(self) -> RecordingFacts | None:
        """Return what was measured of the recording, or measure it; None for d3rlpy's methods."""
        if self.method not in ("d3g", "bco"):
            return None
        if self.folder.started:
            return facts_of_config(read_json(self.folder.config), str(self.folder.config))
        recorded = load_transitions(self.obs_id).transitions
        return recording_facts(recorded, self.settings.d3g.algorithm.normalize_observations)

    def run_config(self, seeds: tuple[int, ...], facts: RecordingFacts) -> RunConfig:
        """Return what D3G or BCO is asked to do for some seeds."""
        return self._asked(seeds).with_recording(facts)

    def _asked(self, seeds: tuple[int, ...]) -> RunConfig:
        settings = self.settings
        bco = self.method == "bco"
        return RunConfig(
            "bco" if bco else "d3g",
            self.env_id,
            self.obs_id,
            seeds,
            settings.name,
            settings.d3g,
            settings.cloning if bco else None,
            settings.cloning_updates if bco else 0,
            evaluation_episodes=settings.episodes,
            device=settings.device,
            tf32=settings.tf32,
            actions_from=self.actions_from,
        )

    def config(self, facts: RecordingFacts | None = None) -> dict[str, Any]:
        """Return what settles the results of a seed; the number of seeds doesn't.

        Args:
            facts: what was measured of the recording, for D3G and BCO.
        """
        settings = self.settings
        shared: dict[str, Any] = {"random_action_prob": self.random_action_prob}
        if facts is not None:
            asked = vars(self.run_config((), facts))
            return {**shared, **{k: v for k, v in asked.items() if k != "seeds"}}
        config: dict[str, Any] = {
            **shared,
            "method": self.method,
            "env_id": self.env_id,
            "dataset_id": self.obs_id,
            "evaluation_episodes": settings.episodes,
            "preset_name": settings.name,
            "updates": settings.updates(self.method),
            "hidden_dims": settings.baseline_hidden_dims,
            "batch_size": settings.baseline_batch_size,
            "learning_rate": settings.baseline_learning_rate,
            "evaluations": settings.baseline_evaluations,
        }
        if self.labeller is not None:
            config |= {
                "preset": settings.d3g,
                "actions_from": self.actions_from,
                "cloning": settings.cloning,
                "cloning_updates": settings.cloning_updates,
            }
        return config


@dataclass(frozen=True)
class Job:
    """Some seeds of a cell, for one process.

    Attributes:
        cell: whose.
        seeds: some of those that it asks for.
    """

    cell: Cell
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        """What tells it from others of its comparison."""
        level = f"{100 * self.cell.random_action_prob:g}%"
        seeds = ",".join(map(str, self.seeds))
        return f"{self.cell.env_id} {level} {self.cell.method} seeds {seeds}"

    @property
    def opened(self) -> tuple[str, ...]:
        """The recordings that it opens."""
        cell = self.cell
        twin = cell.labeller is None and cell.method not in ("d3g", "bco")
        both = (cell.act_id if twin else cell.obs_id, cell.actions_from)
        return tuple(one for one in both if one is not None)

    def launched(self, digests: Mapping[str, str], after: Sequence[str] = ()) -> launch.Cell:
        """Return it as what is launched.

        Args:
            digests: of recordings, by id.
            after: names of those that it waits for.
        """
        cell = replace(self.cell, root=self.cell.root.resolve())
        return launch.Cell(
            self.name,
            TASK,
            {"cell": to_plain(cell), "seeds": list(self.seeds)},
            tuple(str(cell.folder.seed(seed).path) for seed in self.seeds),
            cell.units * len(self.seeds),
            environments=(cell.env_id,),
            recordings={name: digests[name] for name in self.opened if name in digests},
            needs=launch.Needs(
                gpus=launch.SHARED_GPU * (cell.settings.device == "cuda"), memory_gb=MEMORY_GB
            ),
            after=tuple(after),
        )


def run_job(settings: Mapping[str, Any], tick: Tick) -> None:
    """Run what is missing of the seeds of a job, from where they stand.

    Args:
        settings: those that `Job.launched` makes.
        tick: called with the units done, and what is going on.
    """
    cell = from_plain(Cell, settings["cell"], "the cell")
    facts = cell.measured()
    cell.folder.start({**cell.config(facts), "versions": versions()}, resume=cell.folder.started)
    seeds = tuple(seed for seed in settings["seeds"] if seed in cell.missing())
    if seeds:
        _run_timed(Job(cell, seeds), facts, tick)


def _run_timed(job: Job, facts: RecordingFacts | None, tick: Tick) -> None:
    """Run the job and note in every seed's result its share of the seconds spent."""
    cell = job.cell
    folders = [cell.folder.seed(seed) for seed in job.seeds]
    keeper = RunFolder(folders[0].path)
    earlier, begun = keeper.elapsed_s, time.monotonic()
    noted = begun

    def timed(units: float, phase: str = "", note: str = "") -> None:
        nonlocal noted
        if time.monotonic() - noted > ELAPSED_INTERVAL_S:
            noted = time.monotonic()
            keeper.set_elapsed(earlier + noted - begun)
        tick(units, phase, note)

    tasks = [
        SeedTask(seed, cell.obs_id, folder) for seed, folder in zip(job.seeds, folders, strict=True)
    ]
    if cell.method == "d3g" and facts is not None:
        train_seeds(cell.run_config(job.seeds, facts), tasks, timed)
    elif cell.method == "bco" and facts is not None:
        train_bco_seeds(cell.run_config(job.seeds, facts), tasks, timed)
    else:
        # Evaluations lie evenly between its updates.
        an_update = cell.units / cell.settings.updates(cell.method)
        for index, task in enumerate(tasks):
            told = counted_on(timed, index * cell.units, an_update)
            _run_baseline(cell, task.seed, task.folder, told)
    seconds = (earlier + time.monotonic() - begun) / len(tasks)
    for task in tasks:
        result = read_json(task.folder.result)
        write_json(task.folder.result, {**result, "seconds": round(seconds, 1)})


def _labels(cell: Cell, seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the labels of BCO's inverse model of the same seed, in the environment's units."""
    assert cell.labeller is not None
    task = SeedTask(seed, cell.obs_id, cell.labeller.folder.seed(seed))
    if not cell.labeller.done(seed):
        raise UserError(f"{cell.method} needs BCO's inverse model of seed {seed}: run bco first")
    facts = cell.labeller.measured()
    assert facts is not None
    trainer = bco_trainer(cell.labeller.run_config((seed,), facts), (seed,))
    trainer.restore([load_checkpoint(task.folder.online)])
    return trainer.action_box.from_unit(trainer.labels(0).cpu().numpy())


def _run_baseline(cell: Cell, seed: int, folder: SeedFolder, tick: Tick) -> None:
    from qss_offline.baselines.offline import OfflineBaselineConfig, train_offline

    settings = cell.settings
    method = cell.method.removeprefix("pseudo-")
    if cell.labeller is None:
        transitions = load_transitions(cell.act_id).transitions
    else:
        recorded = load_transitions(cell.obs_id).transitions
        transitions = replace(recorded, actions=_labels(cell, seed))
    config = OfflineBaselineConfig(
        method,
        settings.updates(cell.method),
        settings.baseline_hidden_dims,
        settings.baseline_batch_size,
        settings.baseline_learning_rate,
    )
    trained = train_offline(
        transitions,
        cell.env_id,
        config,
        seed,
        evaluations=settings.baseline_evaluations,
        episodes=settings.episodes,
        tick=tick,
    )
    steps = settings.online_steps(cell.method)
    folder.path.mkdir(parents=True, exist_ok=True)
    points = [point._replace(online_steps=steps) for point in trained.evaluations]
    write_evaluations(folder.result, seed, points)
