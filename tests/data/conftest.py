from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from qss_offline.data import (
    DatasetSpec,
    StoredDatasets,
    Transitions,
    build_dataset,
    collect,
    load_transitions,
    plan_arrays,
)
from tests.conftest import read_in_process


@pytest.fixture
def minari_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "minari"
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))
    return root


@pytest.fixture(scope="session")
def small_spec() -> DatasetSpec:
    return DatasetSpec("InvertedPendulum", transitions=1_500, seed=3, shards=3)


@pytest.fixture(scope="session")
def recording(small_spec: DatasetSpec) -> Transitions:
    return collect(small_spec)


@pytest.fixture(scope="session")
def built_once(
    tmp_path_factory: pytest.TempPathFactory, small_spec: DatasetSpec
) -> tuple[Path, StoredDatasets]:
    root = tmp_path_factory.mktemp("pair") / "minari"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root))
        return root, build_dataset(small_spec, workers=1)


@pytest.fixture
def pair(minari_root: Path, built_once: tuple[Path, StoredDatasets]) -> StoredDatasets:
    """A pair that each test may damage: a copy of one that is built once."""
    shutil.copytree(built_once[0], minari_root, dirs_exist_ok=True)
    return built_once[1]


@pytest.fixture(scope="session")
def mine_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[str, str]]:
    root = tmp_path_factory.mktemp("mine") / "minari"
    root.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root))
        read_in_process(patch)
        stored = plan_arrays(**make_transitions(list(range(1, 41))).columns()).store(
            "mine/thing/all"
        )
    assert stored.act_id is not None
    return root, (stored.obs_id, stored.act_id)


@pytest.fixture
def mine(minari_root: Path, mine_once: tuple[Path, tuple[str, str]]) -> tuple[str, str]:
    """A pair of forty episodes."""
    shutil.copytree(mine_once[0], minari_root, dirs_exist_ok=True)
    return mine_once[1]


def make_transitions(
    lengths: list[int], obs_dim: int = 3, act_dim: int | None = 2, seed: int = 0
) -> Transitions:
    """Aligned transitions of episodes of the given lengths; even ones terminate."""
    rng = np.random.default_rng(seed)
    rows = sum(lengths)
    episodes = np.repeat(np.arange(len(lengths)), lengths).astype(np.int64)
    observations = np.empty((rows, obs_dim), dtype=np.float32)
    next_observations = np.empty_like(observations)
    start = 0
    for length in lengths:
        states = rng.normal(size=(length + 1, obs_dim)).astype(np.float32)
        observations[start : start + length] = states[:-1]
        next_observations[start : start + length] = states[1:]
        start += length
    last = np.append(episodes[1:] != episodes[:-1], True)
    actions = None
    if act_dim is not None:
        actions = rng.uniform(-1, 1, (rows, act_dim)).astype(np.float32)
    return Transitions(
        observations=observations,
        next_observations=next_observations,
        rewards=rng.normal(size=rows).astype(np.float32),
        terminations=last & (episodes % 2 == 0),
        truncations=last & (episodes % 2 == 1),
        episodes=episodes,
        actions=actions,
    )


def same(left: Transitions, right: Transitions) -> bool:
    a, b = left.columns(), right.columns()
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype and np.array_equal(a[name], b[name]) for name in a
    )


def loaded(dataset_id: str) -> Transitions:
    return load_transitions(dataset_id, notice=lambda message: None).transitions
