"""A recording: states and rewards, no actions needed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from qss_offline.data.build import build_dataset
from qss_offline.data.environments import env_id_of
from qss_offline.data.families import expert_path
from qss_offline.data.importing import About, from_arrays
from qss_offline.data.load import load_transitions
from qss_offline.data.local import local_dataset_ids
from qss_offline.data.readers import ColumnNames, from_file
from qss_offline.data.specs import DatasetSpec
from qss_offline.data.statistics import Statistics, dataset_figure, dataset_statistics
from qss_offline.data.transitions import Transitions
from qss_offline.data.write import StoredDatasets
from qss_offline.errors import UserError
from qss_offline.parallel.progress import progress as show_progress
from qss_offline.parallel.reporting import print_notice

if TYPE_CHECKING:
    import gymnasium as gym
    from matplotlib.figure import Figure


class Recording:
    """A recording of states and rewards, stored as a local Minari dataset.

    Recordings are made with `from_arrays`, `from_csv`, `from_parquet` (`from_file` takes any of the
    formats) and `from_env`, or opened with `from_minari`. What one holds is mapped from its file,
    not read into memory.

    Args:
        dataset_id: of a local Minari dataset.

    Raises:
        UserError: there is none, or it can't be used.

    Example:
        >>> recording = Recording.from_env("InvertedPendulum", steps=2_000)
        >>> len(recording), recording.env_id, recording.has_actions
        (2000, 'InvertedPendulum-v5', False)
    """

    def __init__(self, dataset_id: str) -> None:
        self.dataset_id = dataset_id
        self._loaded = load_transitions(dataset_id)

    @staticmethod
    def from_arrays(
        observations: npt.ArrayLike,
        rewards: npt.ArrayLike,
        terminations: npt.ArrayLike,
        *,
        truncations: npt.ArrayLike | None = None,
        next_observations: npt.ArrayLike | None = None,
        actions: npt.ArrayLike | None = None,
        episodes: npt.ArrayLike | None = None,
        env: str | Callable[..., gym.Env[Any, Any]] | None = None,
        env_kwargs: dict[str, Any] | None = None,
        name: str | None = None,
        overwrite: bool = False,
        progress: bool = True,
    ) -> Recording:
        """Store N steps as a recording, after checking that they fit together.

        Args:
            observations: `(N, obs_dim)`, before each step.
            rewards: `(N,)`.
            terminations: `(N,)`, whether a step ended its episode for good.
            truncations: `(N,)`, whether it was cut there, as by a time limit.
            next_observations: `(N, obs_dim)`, after each step; None takes the next row, and the
                last row of each episode is left out.
            actions: `(N, action_dim)`, kept in a second recording (`with_actions()`); training
                doesn't look at them.
            episodes: `(N,)` numbers of the episodes.
            env: where it was recorded, if there is such an environment.
            env_kwargs: its keyword arguments.
            name: `namespace/.../name`; None makes one of the content, so that the same arrays
                make the same recording.
            overwrite: replace a recording of that name.
            progress: whether to show it.

        Raises:
            UserError: something doesn't fit, or can't be stored.
        """
        given = {
            "observations": observations,
            "rewards": rewards,
            "terminations": terminations,
            "truncations": truncations,
            "next_observations": next_observations,
            "actions": actions,
            "episodes": episodes,
        }
        columns: dict[str, Any] = {
            key: np.asarray(value) for key, value in given.items() if value is not None
        }
        env_id = None if env is None else env_id_of(env, env_kwargs)

        def store(base: str) -> StoredDatasets:
            return from_arrays(
                base,
                **columns,
                about=About(env_id=env_id),
                overwrite=overwrite,
                **_shown(progress),
            )

        content = [
            part for key, column in columns.items() for part in (key.encode(), _bytes(column))
        ]
        return _stored(name, "recording", [str(env_id).encode(), *content], store)

    @staticmethod
    def from_file(
        path: str | Path,
        *,
        env: str | Callable[..., gym.Env[Any, Any]] | None = None,
        env_kwargs: dict[str, Any] | None = None,
        name: str | None = None,
        columns: ColumnNames | None = None,
        overwrite: bool = False,
        progress: bool = True,
    ) -> Recording:
        """Store a CSV, Parquet or NumPy (`.npz`) file, a row a step, as a recording.

        Args:
            path: the file.
            env: where it was recorded, if there is such an environment.
            env_kwargs: its keyword arguments.
            name: `namespace/.../name`; None makes one of the file's name and content.
            columns: which column is what, where names don't say.
            overwrite: replace a recording of that name.
            progress: whether to show it.

        Raises:
            UserError: the file can't be read, or something doesn't fit.
        """
        file = Path(path)
        env_id = None if env is None else env_id_of(env, env_kwargs)

        def store(base: str) -> StoredDatasets:
            return from_file(
                file,
                base,
                names=columns or ColumnNames(),
                about=About(env_id=env_id),
                overwrite=overwrite,
                **_shown(progress),
            )

        if not file.is_file():
            raise UserError(f"{file} does not exist")
        content = [str(env_id).encode(), repr(columns).encode(), file.read_bytes()]
        return _stored(name, file.stem, content, store)

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
        env: str | Callable[..., gym.Env[Any, Any]],
        *,
        env_kwargs: dict[str, Any] | None = None,
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
        env_id = env_id_of(env, env_kwargs)
        path = None if expert is None else Path(expert)
        if path is None and randomness < 1 and expert_path(env_id).exists():
            path = expert_path(env_id)
            print_notice(f"steps that aren't random are those of the expert {path.stem}")
        spec = DatasetSpec(env_id, randomness, steps, seed, expert=path)
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
        twin = self.dataset_id.replace("-obs-v", "-act-v")
        if self.has_actions:
            return self
        if twin not in local_dataset_ids():
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
        return dataset_figure(self.dataset_id, self.transitions)

    def __repr__(self) -> str:
        """Return what it is, in a line."""
        where = "" if self.env_id is None else f" of {self.env_id}"
        actions = "with actions" if self.has_actions else "no actions"
        return (
            f"Recording({self.dataset_id!r}: {len(self):,} steps, "
            f"{self.transitions.obs_dim} numbers each,{where} {actions})"
        )


def recording_of(recording: str | Recording) -> Recording:
    """Return a recording, given itself or its Minari id.

    Raises:
        UserError: there is none of that id.
    """
    return recording if isinstance(recording, Recording) else Recording(str(recording))


def _bytes(column: npt.NDArray[Any]) -> bytes:
    return f"{column.dtype}{column.shape}".encode() + np.ascontiguousarray(column).tobytes()


def _shown(progress: bool) -> dict[str, Any]:
    return {"progress": show_progress} if progress else {}


def _stored(
    name: str | None, stem: str, content: list[bytes], store: Callable[[str], StoredDatasets]
) -> Recording:
    """Store what isn't stored yet, and open it.

    Args:
        name: as asked for; None makes one of the stem and the content.
        stem: what it is called where it has no name.
        content: what tells it from others of no name.
        store: stores it under a name.
    """
    if name is not None:
        return Recording(store(name).ids[0])
    digest = hashlib.sha256(b"\0".join(content)).hexdigest()[:10]
    words = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in stem)
    base = f"local/{words.strip('-') or 'recording'}-{digest}"
    if f"{base}-obs-v0" in local_dataset_ids():
        return Recording(f"{base}-obs-v0")
    return Recording(store(base).ids[0])
