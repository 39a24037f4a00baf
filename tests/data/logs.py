"""Logs of known content, and how robots, simulators and libraries write them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet

from qss_offline.data import Transitions

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Log:
    """Episodes whose steps are about 1 long, and begin far apart.

    Attributes:
        states: of each episode (T + 1, obs_dim).
        actions: (T, act_dim) of each.
        rewards: (T,) of each.
        terminated: of each.
    """

    states: list[Array]
    actions: list[Array]
    rewards: list[Array]
    terminated: list[bool]

    @property
    def lengths(self) -> list[int]:
        return [len(one) for one in self.rewards]

    def rows(self) -> dict[str, Array]:
        """One row a step, under the names of `plan_arrays`."""
        last = np.concatenate([np.arange(n) == n - 1 for n in self.lengths])
        ended = np.repeat(self.terminated, self.lengths)
        return {
            "observations": np.concatenate([one[:-1] for one in self.states]),
            "next_observations": np.concatenate([one[1:] for one in self.states]),
            "actions": np.concatenate(self.actions),
            "rewards": np.concatenate(self.rewards),
            "terminations": last & ended,
            "truncations": last & ~ended,
            "episodes": np.repeat(np.arange(len(self.lengths)), self.lengths),
        }

    def steps(self) -> set[tuple[bytes, bytes]]:
        """All steps that happened, as float32."""
        return {
            pair
            for one in self.states
            for pair in zip(*(map(np.ndarray.tobytes, one.astype(np.float32)[s])
                              for s in (slice(-1), slice(1, None))), strict=True)
        }  # fmt: skip


def make_log(
    lengths: list[int], obs_dim: int = 2, act_dim: int = 1, seed: int = 0, apart: float = 200.0
) -> Log:
    """Steps of 0.5 to 1.5 in every number; each episode begins `apart` from the one before."""
    rng = np.random.default_rng(seed)
    states = []
    for index, length in enumerate(lengths):
        steps = rng.uniform(0.5, 1.5, (length, obs_dim)) * rng.choice([-1, 1], (length, obs_dim))
        start = apart * (1 + index % 3) + rng.uniform(0, 1, obs_dim)
        states.append(np.cumsum(np.vstack([start, steps]), axis=0))
    return Log(
        states,
        [rng.uniform(-1, 1, (n, act_dim)) for n in lengths],
        [rng.normal(size=n) for n in lengths],
        [index % 2 == 0 for index in range(len(lengths))],
    )


def same_rows(found: Transitions, rows: dict[str, Array], kept: Any = slice(None)) -> None:
    """Compare what was stored with what was recorded, row by row."""
    for name, column in found.columns().items():
        if name == "episodes":
            continue
        recorded = np.asarray(rows[name])[kept]
        if recorded.dtype.kind == "f":
            recorded = recorded.astype(np.float32)
        np.testing.assert_array_equal(column, recorded, err_msg=name)


def happened(found: Transitions, log: Log) -> bool:
    """Whether every step that was stored was recorded."""
    steps = log.steps()
    return all(
        (before.tobytes(), after.tobytes()) in steps
        for before, after in zip(found.observations, found.next_observations, strict=True)
    )


def write_lerobot(folder: Path, log: Log, version: str, done: bool = True) -> Path:
    """A LeRobot dataset: a file for each episode (v2.1), or one for all (v3.0)."""
    dim, act_dim = log.states[0].shape[1], log.actions[0].shape[1]
    names = [f"joint_{k}" for k in range(dim)]
    tables = []
    begin = 0
    for index, length in enumerate(log.lengths):
        columns: dict[str, Any] = {
            "observation.state": pa.FixedSizeListArray.from_arrays(
                pa.array(log.states[index][:-1].astype(np.float32).reshape(-1)), dim
            ),
            "action": pa.array(
                log.actions[index].astype(np.float32).tolist(), pa.list_(pa.float32())
            ),
            "episode_index": np.full(length, index),
            "frame_index": np.arange(length),
            "timestamp": (np.arange(length) / 30).astype(np.float32),
            "next.reward": log.rewards[index].astype(np.float32),
            "index": np.arange(begin, begin + length),
            "task_index": np.zeros(length, np.int64),
        }
        if done:
            columns["next.done"] = np.arange(length) == length - 1
        tables.append(pa.table(columns))
        begin += length
    data = folder / "data" / "chunk-000"
    data.mkdir(parents=True)
    if version == "v2.1":
        for index, table in enumerate(tables):
            pa.parquet.write_table(table, data / f"episode_{index:06d}.parquet")
    else:
        pa.parquet.write_table(pa.concat_tables(tables), data / "file-000.parquet")
        meta = folder / "meta" / "episodes" / "chunk-000"
        meta.mkdir(parents=True)
        episodes = {"episode_index": range(len(tables)), "length": log.lengths}
        pa.parquet.write_table(
            pa.table({k: list(v) for k, v in episodes.items()}), meta / "file-000.parquet"
        )
    (folder / "meta").mkdir(exist_ok=True)
    features: dict[str, Any] = {
        "observation.state": {"dtype": "float32", "shape": [dim], "names": {"motors": names}},
        "action": {"dtype": "float32", "shape": [act_dim], "names": None},
    }
    info = {
        "codebase_version": version,
        "fps": 30,
        "total_episodes": len(tables),
        "total_frames": begin,
        "features": features,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
    }
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    return folder


def write_d4rl(path: Path, log: Log, next_observations: bool = True) -> Path:
    """A file of D4RL: keys of its own, infos beside them."""
    rows = log.rows()
    columns = {
        "observations": rows["observations"].astype(np.float32),
        "actions": rows["actions"].astype(np.float32),
        "rewards": rows["rewards"].astype(np.float32),
        "terminals": rows["terminations"],
        "timeouts": rows["truncations"],
        "infos/qpos": rows["observations"],
        "infos/action_log_probs": rows["rewards"],
        "metadata/algorithm": np.bytes_("SAC"),
    }
    if next_observations:
        columns["next_observations"] = rows["next_observations"].astype(np.float32)
    with h5py.File(path, "w") as file:
        for name, column in columns.items():
            file.create_dataset(name, data=column)
    return path


def write_robomimic(path: Path, log: Log) -> Path:
    """A group for each episode, with observations in parts."""
    with h5py.File(path, "w") as file:
        for index, states in enumerate(log.states):
            group = file.create_group(f"data/demo_{index}")
            for part, rows in (("obs", states[:-1]), ("next_obs", states[1:])):
                group[f"{part}/eef"], group[f"{part}/joint"] = rows[:, :1], rows[:, 1:]
            group["actions"], group["rewards"] = log.actions[index], log.rewards[index]
            ended = np.arange(len(states) - 1) == len(states) - 2
            group["dones"] = (ended & log.terminated[index]).astype(np.int64)
    return path


@dataclass
class D3rlpyEpisode:
    """What d3rlpy keeps of an episode: as many observations as steps."""

    observations: Any
    actions: Any
    rewards: Any
    terminated: bool


class D3rlpyBuffer:
    """What d3rlpy's ReplayBuffer holds, and what it may say of the actions."""

    def __init__(self, episodes: list[D3rlpyEpisode], actions: str | None = None) -> None:
        self.episodes = episodes
        if actions is not None:
            self.dataset_info = SimpleNamespace(action_space=SimpleNamespace(name=actions))


class StableBaselinesBuffer:
    """What stable-baselines3's ReplayBuffer holds: a ring of (steps, environments, …)."""

    def __init__(self, logs: list[Log], size: int) -> None:
        streams = [log.rows() for log in logs]
        steps = min(len(one["rewards"]) for one in streams)
        names = ("observations", "next_observations", "actions", "rewards")
        self.buffer_size, self.pos, self.full = size, steps % size, steps >= size

        def ring(columns: list[Array]) -> Array:
            whole = np.stack([column[:steps] for column in columns], axis=1)
            made = np.zeros((size, *whole.shape[1:]), np.float32)
            for step in range(steps):
                made[step % size] = whole[step]
            return made

        for name in names:
            setattr(self, name, ring([one[name] for one in streams]))
        self.timeouts = ring([one["truncations"] for one in streams])
        self.dones = ring([one["terminations"] | one["truncations"] for one in streams])
        self.optimize_memory_usage = False
        self.action_space: Any = None


class TianshouBuffer:
    """What Tianshou's ReplayBuffer gives: a ring, and its indices oldest first."""

    def __init__(self, log: Log, begin: int) -> None:
        rows = log.rows()
        turned = {name: np.roll(column, begin, axis=0) for name, column in rows.items()}
        self.obs, self.obs_next = turned["observations"], turned["next_observations"]
        self.act, self.rew = turned["actions"], turned["rewards"]
        self.terminated, self.truncated = turned["terminations"], turned["truncations"]
        self._order = (np.arange(len(self.rew)) + begin) % len(self.rew)

    def sample_indices(self, batch_size: int) -> Array:
        assert batch_size == 0
        return self._order
