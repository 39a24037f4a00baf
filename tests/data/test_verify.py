from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from qss_offline.data import (
    StoredDatasets,
    Transitions,
    verify_dataset,
)
from qss_offline.data.sidecar import SidecarInfo, digest, write_sidecar
from qss_offline.errors import UserError

from .conftest import loaded
from .test_load import FOREIGN, buffers, create

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.usefixtures("in_process"),
]


def test_a_sound_pair(pair: StoredDatasets) -> None:
    for dataset_id in (pair.obs_id, pair.act_id):
        verification = verify_dataset(dataset_id)
        assert verification.ok, verification.faults
        assert sum(check.ok is True for check in verification.checks) >= 7
    names = [check.name for check in verify_dataset(pair.obs_id).checks if check.ok]
    assert "no byte of the twin's actions" in names


def test_a_twin_of_other_rollouts_is_named(pair: StoredDatasets, minari_root: Path) -> None:
    edit_metadata(minari_root, pair.obs_id, digest="blake2b-256:" + "0" * 64)
    faults = verify_dataset(pair.act_id).faults
    assert [fault.name for fault in faults] == ["the same rollouts as its twin's"]
    assert pair.obs_id in faults[0].detail


def rewrite_sidecar(root: Path, dataset_id: str) -> None:
    """Put other numbers, with a digest of their own, in the place of a sidecar."""
    transitions = loaded(dataset_id)
    columns: dict[str, Any] = dict(transitions.columns())
    columns["rewards"] = columns["rewards"] + 1
    other = Transitions(**columns)
    info = SidecarInfo(len(other), len(other.episode_starts()), dataset_id, digest(other))
    write_sidecar(root / dataset_id / "data" / "columns.arrow", other, info)
    edit_metadata(root, dataset_id, digest=info.digest)


def edit_metadata(root: Path, dataset_id: str, **changes: Any) -> None:
    path = root / dataset_id / "data" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def episodes_file(root: Path, dataset_id: str) -> h5py.File:
    return h5py.File(root / dataset_id / "data" / "main_data.hdf5", "r+")


def change_reward(root: Path, dataset_id: str) -> None:
    with episodes_file(root, dataset_id) as file:
        file["episode_3/rewards"][1] += 1


def add_infos(root: Path, dataset_id: str) -> None:
    with episodes_file(root, dataset_id) as file:
        file["episode_3"].create_group("infos")["reward_ctrl"] = np.ones(4)


def put_actions_back(root: Path, dataset_id: str) -> None:
    with episodes_file(root, dataset_id) as file:
        del file["episode_3/actions"]
        file["episode_3"]["actions"] = np.ones((4, 2))


def hide_actions(root: Path, dataset_id: str) -> None:
    actions = loaded(dataset_id.replace("-obs-", "-act-")).actions
    assert actions is not None
    (root / dataset_id / "notes.bin").write_bytes(b"x" * 33 + actions.tobytes())


def drop_observation(root: Path, dataset_id: str) -> None:
    with episodes_file(root, dataset_id) as file:
        rows = file["episode_3/observations"][:-1]
        del file["episode_3/observations"]
        file["episode_3/observations"] = rows


def shrink_space(root: Path, dataset_id: str) -> None:
    space = {"type": "Box", "dtype": "float32", "shape": [3], "low": [-0.1] * 3, "high": [0.1] * 3}
    edit_metadata(root, dataset_id, observation_space=json.dumps(space))


FAULTS: list[tuple[Callable[[Path, str], None], str]] = [
    (change_reward, "digest"),
    (rewrite_sidecar, "sidecar and episodes agree"),
    (add_infos, "nothing besides the five arrays"),
    (put_actions_back, "nothing besides the five arrays"),
    (hide_actions, "no byte of the twin's actions"),
    (drop_observation, "episodes: lengths, T+1 alignment, finite values"),
    (shrink_space, "observations within their space"),
    (lambda root, name: edit_metadata(root, name, observation_only=False), "spaces"),
    (lambda root, name: edit_metadata(root, name, total_steps=819), "episodes: lengths"),
    (lambda root, name: edit_metadata(root, name, total_steps="x"), "folder and metadata"),
]


@pytest.mark.parametrize(("damage", "name"), FAULTS)
def test_every_fault_is_found_and_nothing_is_repaired(
    mine: tuple[str, str], minari_root: Path, damage: Callable[[Path, str], None], name: str
) -> None:
    damage(minari_root, mine[0])
    files = sorted(path for path in (minari_root / mine[0]).rglob("*") if path.is_file())
    before = {path: path.read_bytes() for path in files}
    verification = verify_dataset(mine[0])
    assert not verification.ok
    assert any(fault.name.startswith(name) for fault in verification.faults), verification
    assert {path: path.read_bytes() for path in files} == before
    assert sorted(p for p in (minari_root / mine[0]).rglob("*") if p.is_file()) == files


def test_a_foreign_dataset_and_an_unknown_one(minari_root: Path) -> None:
    create(buffers())
    verification = verify_dataset(FOREIGN)
    assert verification.ok
    assert not (minari_root / FOREIGN / "data" / "columns.arrow").exists()
    with pytest.raises(UserError, match="no dataset"):
        verify_dataset("mine/none-v0")
