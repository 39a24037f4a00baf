from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import minari
import numpy as np
import pytest

from qss_offline.data import (
    DatasetPair,
    Transitions,
    dataset_card,
    dataset_statistics,
    describe,
    export_dataset,
    from_arrays,
    list_datasets,
    load_transitions,
    merge_datasets,
    sample_dataset,
    split_dataset,
    verify_dataset,
    write_card,
)
from qss_offline.data.sidecar import SidecarInfo, digest, write_sidecar
from qss_offline.errors import UserError

from .conftest import make_transitions, same
from .test_load import FOREIGN, buffers, create, quiet

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.usefixtures("in_process"),
]


@pytest.fixture
def mine(minari_root: Path) -> tuple[str, str]:
    """A pair of forty episodes."""
    stored = from_arrays("mine/thing/all", **make_transitions(list(range(1, 41))).columns())
    assert stored.act_id is not None
    return stored.obs_id, stored.act_id


def loaded(dataset_id: str) -> Transitions:
    return load_transitions(dataset_id, notice=quiet).transitions


def episodes_of(transitions: Transitions) -> set[bytes]:
    starts = transitions.episode_starts()
    ends = np.append(starts[1:], len(transitions))
    columns = transitions.columns()
    del columns["episodes"]
    return {
        b"".join(column[start:end].tobytes() for column in columns.values())
        for start, end in zip(starts, ends, strict=True)
    }


# --- verify ---------------------------------------------------------------------------------


def test_a_sound_pair(pair: DatasetPair) -> None:
    for dataset_id in (pair.obs_id, pair.act_id):
        verification = verify_dataset(dataset_id)
        assert verification.ok, verification.faults
        assert sum(check.ok is True for check in verification.checks) >= 7
    names = [check.name for check in verify_dataset(pair.obs_id).checks if check.ok]
    assert "no byte of the twin's actions" in names


def rewrite_sidecar(root: Path, dataset_id: str) -> None:
    """Put other numbers, with a digest of their own, in the place of a sidecar."""
    transitions = loaded(dataset_id)
    columns: dict[str, Any] = dict(transitions.columns())
    columns["rewards"] = columns["rewards"] + 1
    other = Transitions(**columns)
    info = SidecarInfo(len(other), len(other.episode_starts()), dataset_id, digest(other))
    write_sidecar(root / dataset_id / "data" / "columns.arrow", other, info)
    edit(root, dataset_id, digest=info.digest)


def edit(root: Path, dataset_id: str, **changes: Any) -> None:
    path = root / dataset_id / "data" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def body(root: Path, dataset_id: str) -> h5py.File:
    return h5py.File(root / dataset_id / "data" / "main_data.hdf5", "r+")


def change_reward(root: Path, dataset_id: str) -> None:
    with body(root, dataset_id) as file:
        file["episode_3/rewards"][1] += 1


def add_infos(root: Path, dataset_id: str) -> None:
    with body(root, dataset_id) as file:
        file["episode_3"].create_group("infos")["reward_ctrl"] = np.ones(4)


def put_actions_back(root: Path, dataset_id: str) -> None:
    with body(root, dataset_id) as file:
        del file["episode_3/actions"]
        file["episode_3"]["actions"] = np.ones((4, 2))


def hide_actions(root: Path, dataset_id: str) -> None:
    actions = loaded(dataset_id.replace("-obs-", "-act-")).actions
    assert actions is not None
    (root / dataset_id / "notes.bin").write_bytes(b"x" * 33 + actions.tobytes())


def drop_observation(root: Path, dataset_id: str) -> None:
    with body(root, dataset_id) as file:
        rows = file["episode_3/observations"][:-1]
        del file["episode_3/observations"]
        file["episode_3/observations"] = rows


def shrink_space(root: Path, dataset_id: str) -> None:
    space = {"type": "Box", "dtype": "float32", "shape": [3], "low": [-0.1] * 3, "high": [0.1] * 3}
    edit(root, dataset_id, observation_space=json.dumps(space))


FAULTS: list[tuple[Callable[[Path, str], None], str]] = [
    (change_reward, "digest"),
    (rewrite_sidecar, "sidecar and episodes agree"),
    (add_infos, "nothing besides the five arrays"),
    (put_actions_back, "nothing besides the five arrays"),
    (hide_actions, "no byte of the twin's actions"),
    (drop_observation, "episodes: lengths, T+1 alignment, finite values"),
    (shrink_space, "observations within their space"),
    (lambda root, name: edit(root, name, observation_only=False), "spaces"),
    (lambda root, name: edit(root, name, total_steps=819), "episodes: lengths"),
    (lambda root, name: edit(root, name, total_steps="x"), "folder and metadata"),
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


# --- list, describe, split, merge, sample ---------------------------------------------------


def test_list_and_describe(mine: tuple[str, str], minari_root: Path) -> None:
    (minari_root / "half/built-v0/data").mkdir(parents=True)
    summaries = {one.dataset_id: one for one in list_datasets()}
    assert sorted(summaries) == sorted(("half/built-v0", *mine))
    assert summaries[mine[0]].observation_only is True
    assert summaries[mine[1]].observation_only is False
    assert (summaries[mine[0]].total_steps, summaries[mine[0]].total_episodes) == (820, 40)
    assert "half-built" in (summaries["half/built-v0"].problem or "")
    known = describe(mine[1])
    assert known["action_low"] == [None, None]
    assert known["metadata"]["made_from"] == {"kind": "arrays"}


def test_split_deals_every_episode_once(mine: tuple[str, str]) -> None:
    for index, source in enumerate(mine):
        parts = {f"mine/part{index}/a": 0.75, f"mine/part{index}/b": 0.25}
        stored = split_dataset(source, parts, seed=1)
        assert [one.episodes for one in stored] == [30, 10]
        assert all((one.act_id is None) == (index == 0) for one in stored)
        found = [episodes_of(loaded(one.ids[-1])) for one in stored]
        assert not found[0] & found[1]
        assert found[0] | found[1] == episodes_of(loaded(source))
    first, second = (minari.load_dataset(f"mine/part{i}/a-obs-v0").storage.metadata for i in (0, 1))
    assert first["digest"] == second["digest"]
    assert first["made_from"]["of"][0]["dataset_id"] == mine[0]


def test_merge(mine: tuple[str, str]) -> None:
    parts = split_dataset(mine[1], {"mine/a": 0.5, "mine/b": 0.5})
    acts = [one.act_id or "" for one in parts]
    merged = merge_datasets(acts, "mine/merged")
    assert merged.transitions == 820 and merged.act_id is not None
    assert episodes_of(loaded(merged.act_id)) == episodes_of(loaded(mine[1]))
    for ids, words in (
        ([parts[0].obs_id, acts[1]], "is observation-only, but 'mine/b-act-v0' holds actions"),
        ([acts[0]], "two datasets or more"),
        ([acts[0], acts[0]], "occurs twice"),
    ):
        with pytest.raises(UserError, match=words):
            merge_datasets(ids, "mine/again")
    other = from_arrays("mine/other", **make_transitions([4], obs_dim=5).columns())
    with pytest.raises(UserError, match="observation spaces"):
        merge_datasets([acts[0], other.act_id or ""], "mine/again")


def test_sample(mine: tuple[str, str]) -> None:
    drawn = sample_dataset(mine[0], "mine/ten", episodes=10, seed=2)
    assert drawn.episodes == 10 and drawn.act_id is None
    assert episodes_of(loaded(drawn.obs_id)) <= episodes_of(loaded(mine[0]))
    again = sample_dataset(mine[0], "mine/again", episodes=10, seed=2)
    assert again.obs_digest == drawn.obs_digest
    rows = sample_dataset(mine[0], "mine/rows", transitions=101, seed=2)
    assert rows.transitions == 101
    everything = sample_dataset(mine[0], "mine/everything", transitions=820)
    assert episodes_of(loaded(everything.obs_id)) == episodes_of(loaded(mine[0]))
    for wrong in ({}, {"episodes": 41}, {"transitions": 0}, {"episodes": 1, "transitions": 1}):
        with pytest.raises(UserError):
            sample_dataset(mine[0], "mine/wrong", **wrong)
    for parts in ({}, {"mine/x": 0.0}, {"mine/x": 1.2}, {"mine/x": 0.001}, {"x": 1.0}):
        with pytest.raises(UserError):
            split_dataset(mine[0], parts)
    assert not any("wrong" in one.dataset_id for one in list_datasets())


def test_export_refuses(mine: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "there.npz").write_text("mine")
    for name, words in (("there.npz", "exists"), ("x.csv", "ends in .parquet or .npz")):
        with pytest.raises(UserError, match=words):
            export_dataset(mine[0], tmp_path / name)
    assert (tmp_path / "there.npz").read_text() == "mine"


# --- stats and card -------------------------------------------------------------------------


def test_statistics_and_picture(mine: tuple[str, str], tmp_path: Path) -> None:
    path = tmp_path / "look.png"
    numbers = dataset_statistics(mine[0], path)
    assert path.read_bytes().startswith(b"\x89PNG")
    transitions = loaded(mine[0])
    assert numbers.return_mean == pytest.approx(transitions.episode_returns().mean())
    assert numbers.return_interval is not None
    low, high = numbers.return_interval
    assert low < numbers.return_mean < high
    assert numbers.length_mean == 20.5 and numbers.terminated == 0.5
    assert 0.05 < numbers.coverage < 0.6
    assert numbers.stochasticity is not None and numbers.stochasticity > 0.3, (
        "next observations are noise"
    )
    with pytest.raises(UserError, match="exists"):
        dataset_statistics(mine[0], path)
    with pytest.raises(UserError, match=r"ends in \.png"):
        dataset_statistics(mine[0], tmp_path / "x.jpg")
    one = from_arrays("mine/one", **make_transitions([1], obs_dim=1).columns())
    numbers = dataset_statistics(one.obs_id, tmp_path / "one.png")
    assert numbers.episodes == 1 and numbers.stochasticity is None
    assert numbers.return_interval is None and numbers.length_interval is None


def test_matplotlib_is_loaded_only_for_pictures() -> None:
    code = "import sys, qss_offline.data; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_card(pair: DatasetPair, minari_root: Path) -> None:
    text = dataset_card(pair.obs_id)
    front, _, rest = text.removeprefix("---\n").partition("\n---\n")
    assert "license: unknown" in front and "size_categories:\n- 1K<n<10K" in front
    assert "- observation-only" in front
    for words in (
        "## How it was made", "uniformly random actions", "with probability 1", "seed: 3",
        "95% interval", "versions: python", "mujoco", "## Licence", "## Citation",
        "minari.load_dataset", "load_transitions", "Box(-inf, inf, (0,), float32)",
        pair.obs_digest, "InvertedPendulum-v5", "isn't explained by the state they start from",
    ):  # fmt: skip
        assert words in rest, words
    path = Path(write_card(pair.obs_id, license="cc-by-4.0", citation="@misc{me}"))
    assert path == minari_root / pair.obs_id / "README.md"
    assert "license: cc-by-4.0" in path.read_text() and "@misc{me}" in path.read_text()
    assert verify_dataset(pair.obs_id).ok
    assert "license: cc-by-4.0" in dataset_card(pair.obs_id)
    assert minari.load_dataset(pair.obs_id).total_steps == 1500
    with pytest.raises(UserError, match="license: expected an identifier"):
        dataset_card(pair.obs_id, license="a: b\nevil: true")
    edit(minari_root, pair.obs_id, description="x\n---\nevil: <script> | y")
    assert "\nevil" not in dataset_card(pair.obs_id)
    act = dataset_card(pair.act_id)
    assert "observation-only convention" not in act


def test_the_cards_examples_run(pair: DatasetPair) -> None:
    code = "\n".join(
        part.partition("```")[0] for part in dataset_card(pair.obs_id).split("```python")[1:]
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "(1500, 4) (1500, 4)" in done.stdout


def test_twins_stay_twins(mine: tuple[str, str]) -> None:
    assert same(loaded(mine[0]), loaded(mine[1]).without_actions())
