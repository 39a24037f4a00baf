"""One seed of one of d3rlpy's methods as a run of its own, beside those of `training/runner.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qss_offline.baselines.offline import OfflineBaselineConfig, train_offline
from qss_offline.comparison.config import evaluation_episodes
from qss_offline.data.load import load_transitions, recorded_behaviour
from qss_offline.engine.checkpoint import load_checkpoint
from qss_offline.errors import UserError
from qss_offline.launch.cell import Cell
from qss_offline.launch.driver import Begun
from qss_offline.parallel.processes import Tick
from qss_offline.parallel.reporting import counted_on
from qss_offline.runs.folder import RunFolder, versions
from qss_offline.runs.reader import read_run_config
from qss_offline.runs.results import read_evaluations, seed_results, write_evaluations
from qss_offline.runs.work import EPISODE
from qss_offline.settings_json import from_plain, to_plain
from qss_offline.training.bco import bco_trainer

TASK = "qss_offline.comparison.rivals:train_rival"

_UPDATES_PER_S = {"bc": 156.0, "td3+bc": 70.0, "iql": 48.0, "cql": 8.0}
"""On one thread at their authors' sizes, measured once."""
_UPDATE_WORK = {"bc": 1.0, "td3+bc": 2.0, "iql": 3.0, "cql": 15.0}
"""Work of an update (`runs/work.py`)."""


@dataclass(frozen=True)
class RivalConfig:
    """What a run of one of d3rlpy's methods is asked to do.

    Attributes:
        method: as tables name it.
        env_id: where policies act.
        dataset_id: what it learns from, with actions unless it takes labels.
        seed: its one seed.
        preset_name: name of the comparison.
        baseline: settings of the method.
        evaluations: how many, evenly spaced over the updates.
        labels_from: run of BCO whose IDM labels the recording; None takes the recorded actions.
        online_steps: environment steps that these labels took.
    """

    method: str
    env_id: str
    dataset_id: str
    seed: int
    preset_name: str
    baseline: OfflineBaselineConfig
    evaluations: int
    labels_from: str | None = None
    online_steps: int = 0

    @property
    def units(self) -> float:
        """Work of it, in updates of offline D3G (`runs/work.py`)."""
        episodes = self.evaluations * evaluation_episodes(self.env_id)
        return self.baseline.updates * _UPDATE_WORK[self.baseline.method] + episodes * EPISODE

    @property
    def seconds(self) -> float:
        """Seconds that it takes on one core, roughly; evaluations are the least of it."""
        return self.baseline.updates / _UPDATES_PER_S[self.baseline.method]

    def cells(self, folder: RunFolder, recordings: Mapping[str, str]) -> list[Cell]:
        """Return its one cell, none where its returns are there.

        Args:
            folder: where everything goes.
            recordings: digests of the recordings, by id.
        """
        path = folder.path.resolve()
        if folder.seed(self.seed).result.exists():
            return []
        after: tuple[str, ...] = ()
        if self.labels_from is not None:
            # As `training_cells` names the one cell of a seed of BCO.
            after = (f"{Path(self.labels_from).name} seeds {self.seed}",)
        return [
            Cell(
                f"{path.name} seeds {self.seed}",
                TASK,
                {"config": to_plain(self), "folder": str(path)},
                (str(RunFolder(path).seed(self.seed).path),),
                self.units,
                environments=(self.env_id,),
                recordings=recordings,
                after=after,
            )
        ]


class RivalRun(Begun):
    """A run of one of d3rlpy's methods: what `launch.driver` begins and ends.

    Args:
        config: what to do.
        folder: where everything goes.
    """

    def __init__(self, config: RivalConfig, folder: RunFolder) -> None:
        super().__init__(folder, (config.seed,))
        self.config = config
        self._digest = load_transitions(config.dataset_id).info.digest

    def start(self) -> None:
        """Write the settings of a new run, or compare those of one that goes on."""
        stored = {
            **to_plain(self.config), "dataset_digest": self._digest, "versions": versions(),
        }  # fmt: skip
        self.folder.start(stored, self.folder.started)

    def cells(self, shares: int | None) -> list[Cell]:
        """Return its cell, none where it is done."""
        return self.config.cells(self.folder, {self.config.dataset_id: self._digest})

    def _results(self) -> dict[str, Any]:
        config = self.config
        evaluations = read_evaluations(self.folder.seed(config.seed).result)
        return {
            "method": config.method,
            "preset": config.preset_name,
            "updates": config.baseline.updates,
            "env_id": config.env_id,
            "dataset_id": config.dataset_id,
            "behaviour_return": recorded_behaviour(load_transitions(config.dataset_id)).mean,
            "seeds": [seed_results(config.seed, evaluations)],
        }


def train_rival(settings: Mapping[str, Any], tick: Tick) -> None:
    """Train one of d3rlpy's methods from the start; it keeps no checkpoints.

    Args:
        settings: those that `RivalConfig.cells` makes.
        tick: called with the units done, and what is going on.

    Raises:
        UserError: the recording or the labels can't be used.
    """
    config = from_plain(RivalConfig, settings["config"], "the cell's run")
    place = RunFolder(Path(settings["folder"])).seed(config.seed)
    if place.result.exists():
        return
    transitions = load_transitions(config.dataset_id).transitions
    if config.labels_from is not None:
        labels = _labels(RunFolder(Path(config.labels_from)), config.seed)
        transitions = replace(transitions, actions=labels)
    trained = train_offline(
        transitions,
        config.env_id,
        config.baseline,
        config.seed,
        evaluations=config.evaluations,
        episodes=evaluation_episodes(config.env_id),
        tick=counted_on(tick, 0.0, config.units / config.baseline.updates),
    )
    place.path.mkdir(parents=True, exist_ok=True)
    points = [one._replace(online_steps=config.online_steps) for one in trained.evaluations]
    write_evaluations(place.result, config.seed, points)


def _labels(folder: RunFolder, seed: int) -> NDArray[np.float32]:
    """Return the labels of a run of BCO, in the environment's units.

    Raises:
        UserError: it isn't done.
    """
    if not folder.seed(seed).result.exists():
        raise UserError(f"{folder.path} isn't done, whose IDM labels: run bco first")
    trainer = bco_trainer(read_run_config(folder), (seed,))
    trainer.restore([load_checkpoint(folder.seed(seed).online)])
    labels = trainer.action_box.from_unit(trainer.labels(0).cpu().numpy())
    return np.asarray(labels, np.float32)
