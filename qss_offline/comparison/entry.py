"""One run of a comparison: a method, a seed, and the recording that is the seed's own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from gymnasium.spaces import flatdim

from qss_offline.baselines.offline import OfflineBaselineConfig
from qss_offline.comparison.config import (
    PSEUDO,
    RIVALS,
    WITHOUT_ACTIONS,
    ComparisonConfig,
    evaluation_episodes,
)
from qss_offline.comparison.raced import RacedRun, members_cell, members_file
from qss_offline.comparison.rivals import RivalConfig, RivalRun
from qss_offline.data.environments import make_env
from qss_offline.data.facts import MEAN_POWER, MODE_POWER, RecordingFacts
from qss_offline.data.specs import DatasetSpec
from qss_offline.errors import UserError
from qss_offline.launch.cell import Cell
from qss_offline.runs.config import Preset, RunConfig
from qss_offline.runs.folder import RunFolder, read_json
from qss_offline.training.cells import training_cells
from qss_offline.training.options import TrainOptions
from qss_offline.training.runner import TrainingRun, seconds_per_unit

Key = tuple[str, float, str, int]
"""Family, level of randomness, method and seed: what tells a run from others of its comparison."""


@dataclass(frozen=True)
class Entry:
    """One run.

    Attributes:
        settings: the comparison.
        family: whose recording it learns from.
        method: one of `METHODS`.
        seed: of the method.
        spec: the seed's recording.
        root: folder of the comparison's runs.
    """

    settings: ComparisonConfig
    family: str
    method: str
    seed: int
    spec: DatasetSpec
    root: Path

    @property
    def key(self) -> Key:
        """What tells it from others of its comparison."""
        return Path(self.family).stem, self.spec.random_action_prob, self.method, self.seed

    @property
    def name(self) -> str:
        """Of its folder."""
        family, level, method, seed = self.key
        return f"{family}-{100 * level:g}-{method}-{seed}"

    @property
    def folder(self) -> RunFolder:
        """Where everything of it goes."""
        return RunFolder(self.root / self.name)

    @property
    def labeller(self) -> Entry | None:
        """The run whose IDM labels this one's recording, if it needs labels."""
        return replace(self, method="bco") if self.method.startswith(PSEUDO) else None

    @property
    def dataset_id(self) -> str:
        """What it learns from."""
        return self.spec.obs_id if self.method in WITHOUT_ACTIONS else self.spec.act_id

    @property
    def updates(self) -> int:
        """Gradient steps, as results have them."""
        return self._rival.baseline.updates if self.method in RIVALS else self._own().updates

    @property
    def done(self) -> bool:
        """Whether it is done, with as many updates as are asked for."""
        results, members = self.folder.results, members_file(self.folder, self.seed)
        if not results.exists() or (self.method == "auto" and not members.exists()):
            return False
        # What is there with other settings is refused where it is begun.
        return read_json(results).get("updates") == self.updates

    def check_recording(self) -> None:
        """Refuse a folder that holds a run on another recording: it'd be taken for this one's.

        Raises:
            UserError: it does.
        """
        if not self.folder.started:
            return
        then = read_json(self.folder.config).get("dataset_id")
        if then != self.dataset_id:
            raise UserError(
                f"{self.folder.path} holds a run on {then}, not on {self.dataset_id}; choose "
                "another --runs and another --out, or delete it"
            )

    def begun(self) -> TrainingRun | RivalRun:
        """Return it as what is launched, once its recording is there.

        Raises:
            UserError: the recording or the folder can't be used.
        """
        if self.method in RIVALS:
            return RivalRun(self._rival, self.folder)
        kind = RacedRun if self.method == "auto" else TrainingRun
        return kind(self._own(), self.folder, self.folder.started)

    def planned(self) -> list[Cell]:
        """Return the cells that are left, made where there is no recording yet; with seconds."""
        if self.method in RIVALS:
            cells = self._rival.cells(self.folder, {})
            unit = self._rival.seconds / self._rival.units
        else:
            config = self._own().with_recording(self._facts())
            cells = training_cells(config, self.folder, {}, None)
            unit = self._own_unit_seconds(config)
            if self.method == "auto":
                cells.append(members_cell(config, self.folder, cells))
        return [replace(cell, seconds=unit * cell.units) for cell in cells]

    def _own_unit_seconds(self, config: RunConfig) -> float:
        """Return the seconds of a unit of its work on one core; measured once for its sizes."""
        obs_dim, action_dim = _sizes(self.spec.env_id)
        key = self.method, config.preset, obs_dim, action_dim
        if key not in _measured:
            _measured[key] = seconds_per_unit(config, obs_dim, action_dim)
        return _measured[key]

    def _facts(self) -> RecordingFacts:
        """Return facts of no recording, where only sizes count, and whether actions are random."""
        ones = (1.0,) * _sizes(self.spec.env_id)[0]
        power = MODE_POWER if self.spec.random_action_prob else MEAN_POWER
        return RecordingFacts((0.0,) * len(ones), ones, ones, 0.0, 1.0, None, power)

    @property
    def _rival(self) -> RivalConfig:
        settings, labeller = self.settings, self.labeller
        method = self.method.removeprefix(PSEUDO)
        return RivalConfig(
            self.method,
            self.spec.env_id,
            self.dataset_id,
            self.seed,
            settings.name,
            OfflineBaselineConfig(method, settings.rival_updates),
            settings.rival_evaluations,
            *(() if labeller is None else labeller.labels),
        )

    @property
    def labels(self) -> tuple[str, int]:
        """The folder of a run of BCO, and the online steps that its labels took."""
        return str(self.folder.path.resolve()), self._own().inverse.online_steps

    def _own(self) -> RunConfig:
        settings, published = self.settings, self.method == "bco-mean"
        options = TrainOptions(
            "bco" if published else self.method,
            settings.preset,
            seeds=(self.seed,),
            updates=settings.updates,
            episodes=evaluation_episodes(self.spec.env_id),
            error_power=MEAN_POWER if published else None,
            device=settings.device,
            tf32=settings.tf32,
        )
        return options.config(self.dataset_id, self.spec.env_id)


_measured: dict[tuple[str, Preset, int, int], float] = {}


@cache
def _sizes(env_id: str) -> tuple[int, int]:
    """Return the numbers of an observation and of an action."""
    env = make_env(env_id)
    try:
        assert env.observation_space.shape is not None
        return env.observation_space.shape[0], flatdim(env.action_space)
    finally:
        env.close()
