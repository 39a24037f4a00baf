"""One run of a comparison: a method, a seed, and the recording that is the seed's own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from gymnasium.spaces import flatdim

from qss_offline.baselines.offline import OfflineBaselineConfig
from qss_offline.comparison.config import PSEUDO, RIVALS, WITHOUT_ACTIONS, ComparisonConfig
from qss_offline.comparison.raced import RacedRun, members_cell, members_file
from qss_offline.comparison.rivals import RivalConfig, RivalRun
from qss_offline.data.environments import make_env
from qss_offline.data.facts import RecordingFacts
from qss_offline.data.specs import DatasetSpec
from qss_offline.errors import UserError
from qss_offline.launch.cell import Cell
from qss_offline.runs.config import RunConfig
from qss_offline.runs.folder import RunFolder, read_json
from qss_offline.training.cells import training_cells
from qss_offline.training.options import TrainOptions
from qss_offline.training.runner import TrainingRun, seconds_per_seed

_UPDATES_PER_S = {"bc": 156.0, "td3+bc": 70.0, "iql": 48.0, "cql": 8.0}
"""Of d3rlpy's methods on one thread at their authors' sizes, measured once."""
_EVALUATION_STEPS_PER_S = 5_000.0

Key = tuple[str, float, str, int]
"""Family, level of randomness, method and seed: what tells a run from others of its comparison."""

MEAN_POWER = 2.0
"""Of BCO's errors as it was published."""


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
        """Whether it is done."""
        seed = members_file(self.folder, self.seed)
        return self.folder.results.exists() and (self.method != "auto" or seed.exists())

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
            config = self._rival
            return RivalRun(config, self.folder, self.seconds / config.units)
        kind = RacedRun if self.method == "auto" else TrainingRun
        return kind(self._own(), self.folder, self.folder.started)

    def planned(self) -> list[Cell]:
        """Return its cells where there is no recording yet, each with its seconds."""
        if self.method in RIVALS:
            cells = self._rival.cells(self.folder, {})
        else:
            config = self._own().with_recording(_facts(self.spec.env_id))
            cells = training_cells(config, self.folder, {}, None)
            if self.method == "auto":
                cells.append(members_cell(config, self.folder, cells))
        unit = self.seconds / sum(cell.units for cell in cells)
        return [replace(cell, seconds=unit * cell.units) for cell in cells]

    @property
    def seconds(self) -> float:
        """Seconds that it takes on one core, roughly."""
        obs_dim, action_dim, steps = _sizes(self.spec.env_id)
        if self.method in RIVALS:
            rival = self._rival
            acted = rival.evaluations * rival.evaluation_episodes * steps
            speed = _UPDATES_PER_S[rival.baseline.method]
            return rival.baseline.updates / speed + acted / _EVALUATION_STEPS_PER_S
        settings = self.settings
        key = self.method, settings.preset, settings.updates, obs_dim, action_dim
        if key not in _measured:
            config = self._own().with_recording(_facts(self.spec.env_id))
            _measured[key] = seconds_per_seed(config, obs_dim, action_dim)
        return _measured[key]

    @property
    def _rival(self) -> RivalConfig:
        settings, labeller = self.settings, self.labeller
        method = self.method.removeprefix(PSEUDO)
        updates = settings.updates_of(method, self.spec.env_id)
        return RivalConfig(
            self.method,
            self.spec.env_id,
            self.dataset_id,
            self.seed,
            settings.name,
            OfflineBaselineConfig(method, updates),
            settings.rival_evaluations,
            settings.episodes,
            None if labeller is None else str(labeller.folder.path.resolve()),
        )

    def _own(self) -> RunConfig:
        settings, published = self.settings, self.method == "bco-mean"
        options = TrainOptions(
            "bco" if published else self.method,
            settings.preset,
            seeds=(self.seed,),
            updates=settings.updates,
            error_power=MEAN_POWER if published else None,
            episodes=settings.episodes,
            device=settings.device,
            tf32=settings.tf32,
        )
        return options.config(self.dataset_id, self.spec.env_id)


_measured: dict[tuple[str, str, int | None, int, int], float] = {}


def _facts(env_id: str) -> RecordingFacts:
    """Return facts of no recording, where only sizes count."""
    obs_dim = _sizes(env_id)[0]
    ones = (1.0,) * obs_dim
    return RecordingFacts((0.0,) * obs_dim, ones, ones, 0.0, 1.0, None, 2.0)


@cache
def _sizes(env_id: str) -> tuple[int, int, int]:
    """Return the numbers of an observation and of an action, and the steps of an episode."""
    env = make_env(env_id)
    try:
        assert env.observation_space.shape is not None
        steps = (env.spec and env.spec.max_episode_steps) or 1_000
        return env.observation_space.shape[0], flatdim(env.action_space), steps
    finally:
        env.close()
