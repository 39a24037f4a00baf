"""A recording: states and rewards, no actions needed."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from qss_offline.api.figures import displayed
from qss_offline.data.build import build_dataset
from qss_offline.data.environments import EnvFactory, env_id_of, named_env, register_environments
from qss_offline.data.families import expert_path
from qss_offline.data.importing.names import ColumnNames
from qss_offline.data.importing.plan import ImportPlan
from qss_offline.data.importing.report import print_report
from qss_offline.data.importing.rules import ImportRules
from qss_offline.data.importing.sources import plan_arrays, plan_file, plan_frame
from qss_offline.data.importing.store import About
from qss_offline.data.load import load_transitions
from qss_offline.data.local import check_base_id, local_dataset_ids, pair_id, twin_id
from qss_offline.data.sidecar import digest
from qss_offline.data.specs import DatasetSpec
from qss_offline.data.statistics import Statistics, dataset_figure, dataset_statistics
from qss_offline.data.transitions import Transitions
from qss_offline.errors import UserError
from qss_offline.files import path_of
from qss_offline.parallel.progress import progress as show_progress
from qss_offline.parallel.reporting import print_notice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Environment: TypeAlias = "str | EnvFactory"
"""An id or short name, `module:Id`, `file.py:Class`, or what makes an environment."""


def make_known(env: Environment | None) -> None:
    """Let runs that name an environment of the user's own find it; None names none.

    Raises:
        UserError: it can't be used.
    """
    if isinstance(env, str):
        register_environments([env])
    elif env is not None:
        env_id_of(env)


class Recording:
    """A recording of states and rewards, stored as a local Minari dataset.

    Recordings are made with `from_arrays`, `from_frame`, `from_file` (any of the formats) and
    `from_env`, or opened with `from_minari`. What one holds is mapped from its file, not read into
    memory.

    Args:
        dataset_id: of a local Minari dataset.

    Raises:
        UserError: there is none, or it can't be used.

    Examples:
        >>> recording = Recording.from_env("InvertedPendulum", steps=2_000)
        >>> len(recording), recording.env_id, recording.has_actions
        (2000, 'InvertedPendulum-v5', False)
    """

    def __init__(self, dataset_id: str) -> None:
        self.dataset_id = dataset_id
        self._loaded = load_transitions(dataset_id)

    @staticmethod
    def from_arrays(
        observations: Any,
        rewards: Any = None,
        terminations: Any = None,
        *,
        truncations: Any = None,
        next_observations: Any = None,
        actions: Any = None,
        episodes: Any = None,
        rules: ImportRules | None = None,
        env: Environment | None = None,
        env_kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        overwrite: bool = False,
        progress: bool = True,
    ) -> Recording:
        """Store N steps as a recording, after checking that they fit together.

        Args:
            observations: `(N, obs_dim)`, before each step, or a dict of such arrays.
            rewards: `(N,)`; BCO does without.
            terminations: `(N,)`, whether a step ended its episode for good; may be left out where
                `truncations` or `episodes` are given.
            truncations: `(N,)`, whether it was cut there, as by a time limit.
            next_observations: `(N, obs_dim)`, after each step; None takes the next row, and the
                last row of each episode is left out.
            actions: `(N, action_dim)`, kept in a second recording (`with_actions()`); training
                doesn't look at them.
            episodes: `(N,)` numbers or names of the episodes.
            rules: what to do with what can't be taken as it stands; None refuses it.
            env: where it was recorded, if there is such an environment.
            env_kwargs: its keyword arguments.
            name: `namespace/.../name`; None makes one of what is stored, so that the same steps
                make the same recording.
            overwrite: replace a recording of that name.
            progress: whether to show it, and the table of roles.

        Raises:
            UserError: something doesn't fit, or can't be stored.
        """
        about = _about(env, env_kwargs, name)
        plan = plan_arrays(
            observations=observations,
            rewards=rewards,
            terminations=terminations,
            truncations=truncations,
            next_observations=next_observations,
            actions=actions,
            episodes=episodes,
            rules=rules or ImportRules(),
        )
        return _stored(plan, "recording", about, name, overwrite, progress)

    @staticmethod
    def from_frame(
        frame: Any,
        *,
        columns: ColumnNames | None = None,
        rules: ImportRules | None = None,
        env: Environment | None = None,
        env_kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        overwrite: bool = False,
        progress: bool = True,
    ) -> Recording:
        """Store a frame of pandas or polars, or a table of Arrow, a row a step.

        Args:
            frame: the rows.
            columns: which column is what, where names don't say.
            rules: what to do with what can't be taken as it stands; None refuses it.
            env: where it was recorded, if there is such an environment.
            env_kwargs: its keyword arguments.
            name: `namespace/.../name`; None makes one of what is stored.
            overwrite: replace a recording of that name.
            progress: whether to show it, and the table of roles.

        Raises:
            UserError: something doesn't fit, or can't be stored.
        """
        about = _about(env, env_kwargs, name)
        plan = plan_frame(frame, names=columns, rules=rules or ImportRules())
        return _stored(plan, "recording", about, name, overwrite, progress)

    @staticmethod
    def from_file(
        path: str | Path,
        *,
        columns: ColumnNames | None = None,
        rules: ImportRules | None = None,
        env: Environment | None = None,
        env_kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        overwrite: bool = False,
        progress: bool = True,
    ) -> Recording:
        """Store a file, a row a step, as a recording.

        Args:
            path: CSV, Parquet, NumPy (`.npz`) or HDF5, a folder of files of one kind, or a LeRobot
                dataset.
            columns: which column is what, where names don't say.
            rules: what to do with what can't be taken as it stands; None refuses it.
            env: where it was recorded, if there is such an environment.
            env_kwargs: its keyword arguments.
            name: `namespace/.../name`; None makes one of the file's name and what is stored.
            overwrite: replace a recording of that name.
            progress: whether to show it, and the table of roles.

        Raises:
            UserError: the file can't be read, or something doesn't fit.
        """
        about = _about(env, env_kwargs, name)
        plan = plan_file(path, names=columns, rules=rules or ImportRules())
        return _stored(plan, Path(path).stem, about, name, overwrite, progress)

    from_csv = from_parquet = from_file

    @staticmethod
    def from_minari(dataset_id: str) -> Recording:
        """Open a local Minari dataset, whoever made it; `qss data pull` brings one here.

        Raises:
            UserError: there is none, or it can't be used.
        """
        return Recording(dataset_id)

    @staticmethod
    def from_env(
        env: Environment,
        *,
        env_kwargs: Mapping[str, Any] | None = None,
        steps: int = 100_000,
        randomness: float = 1.0,
        expert: str | Path | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> Recording:
        """Record behaviour in an environment, or find it recorded already.

        Args:
            env: an id or short name, `module:Id`, `file.py:Class`, or what makes it.
            env_kwargs: its keyword arguments.
            steps: to record.
            randomness: probability of a uniformly random action at a step.
            expert: policy of the steps that aren't random; None takes the environment's own,
                where there is one.
            seed: of the recording.
            progress: whether to show it.

        Raises:
            UserError: the environment can't be used, or there is no expert and one is needed.
        """
        spec = spec_of_env(env, env_kwargs, steps, randomness, expert, seed)
        return Recording(build_dataset(spec, **_shown(progress)).obs_id)

    @property
    def transitions(self) -> Transitions:
        """Its rows: `observations (N, obs_dim)`, `rewards (N,)`, … , read-only."""
        return self._loaded.transitions

    @property
    def env_id(self) -> str | None:
        """Where it was recorded; None where it doesn't say."""
        return self._loaded.info.env_id

    @property
    def has_actions(self) -> bool:
        """Whether it holds actions, too."""
        return not self._loaded.info.observation_only

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.transitions)

    def with_actions(self) -> Recording:
        """Return its twin with actions, such as an inverse dynamics model learns from.

        Raises:
            UserError: there is none here.
        """
        if self.has_actions:
            return self
        twin = twin_id(self.dataset_id)
        if twin is None or twin not in local_dataset_ids():
            raise UserError(f"{self.dataset_id} has no twin with actions here")
        return Recording(twin)

    @cached_property
    def _statistics(self) -> Statistics:
        return dataset_statistics(self.dataset_id)

    def summary(self) -> Statistics:
        """Return numbers about it: episodes, returns, lengths, coverage, stochasticity."""
        return self._statistics

    def plot(self) -> Figure:
        """Draw its returns, lengths and state coverage."""
        return displayed(dataset_figure(self.dataset_id, self.transitions))

    def __repr__(self) -> str:
        """Return what it is, in a line."""
        where = "" if self.env_id is None else f" of {self.env_id}"
        actions = "with actions" if self.has_actions else "no actions"
        return (
            f"Recording({self.dataset_id!r}: {len(self):,} steps, "
            f"{self.transitions.obs_dim} numbers each,{where} {actions})"
        )


def spec_of_env(
    env: Environment,
    env_kwargs: Mapping[str, Any] | None = None,
    steps: int = 100_000,
    randomness: float = 1.0,
    expert: str | Path | None = None,
    seed: int = 0,
) -> DatasetSpec:
    """Return what `Recording.from_env` records; arguments and errors are its own."""
    env_id = env_id_of(env, env_kwargs)
    path = None if expert is None else path_of(expert, "expert")
    if path is None and randomness < 1 and expert_path(env_id).exists():
        path = expert_path(env_id)
        print_notice(f"steps that aren't random are those of the expert {path.stem}")
    return DatasetSpec(env_id, randomness, steps, seed, expert=path)


def recording_of(recording: str | Recording) -> Recording:
    """Return a recording, given itself or its Minari id.

    Raises:
        UserError: there is none of that id, or it is a file, which is imported first.
    """
    if isinstance(recording, str) and Path(recording).is_file():
        raise UserError(
            f"{recording} is a file: import it first, with qss data import "
            f"{shlex.quote(recording)} --into me/NAME, or Recording.from_file"
        )
    return recording if isinstance(recording, Recording) else Recording(str(recording))


def _shown(progress: bool) -> dict[str, Any]:
    return {"progress": show_progress} if progress else {}


def _about(env: Environment | None, kwargs: Mapping[str, Any] | None, name: str | None) -> About:
    """Return what is known of a recording; its name is looked at before anything is read."""
    if name is not None:
        check_base_id(name)
    return About(env_id=named_env(env, kwargs))


def _stored(
    plan: ImportPlan, stem: str, about: About, name: str | None, overwrite: bool, progress: bool
) -> Recording:
    """Store what isn't stored yet, and open it.

    Args:
        plan: what is stored.
        stem: what it is called where it has no name, beside a digest of what it holds.
        about: what else is known.
        name: as asked for.
        overwrite: replace a recording of that name.
        progress: whether to show it.
    """
    plan.require()
    known = None
    if name is None:
        held = repr((digest(plan.transitions), plan.metadata, about.env_id)).encode()
        words = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in stem)
        name = f"local/{words.strip('-') or 'recording'}-{sha256(held).hexdigest()[:10]}"
        known = pair_id(name, "obs")
        if known in local_dataset_ids():
            return Recording(known)
    if progress:
        print_report(plan.report)
    try:
        return Recording(plan.store(name, about, overwrite=overwrite, **_shown(progress)).obs_id)
    except UserError:
        # Another process may have stored the same meanwhile.
        if known is None or known not in local_dataset_ids():
            raise
        return Recording(known)
