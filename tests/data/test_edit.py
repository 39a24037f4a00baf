from __future__ import annotations

from pathlib import Path

import minari
import numpy as np
import pytest

from qss_offline.data import (
    Transitions,
    describe,
    export_dataset,
    list_datasets,
    merge_datasets,
    plan_arrays,
    sample_dataset,
    split_dataset,
)
from qss_offline.errors import UserError

from .conftest import loaded, make_transitions, same

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.usefixtures("in_process"),
]


def episodes_of(transitions: Transitions) -> set[bytes]:
    starts = transitions.episode_starts()
    ends = np.append(starts[1:], len(transitions))
    columns = transitions.columns()
    del columns["episodes"]
    return {
        b"".join(column[start:end].tobytes() for column in columns.values())
        for start, end in zip(starts, ends, strict=True)
    }


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
    other = plan_arrays(**make_transitions([4], obs_dim=5).columns()).store("mine/other")
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
    nan = {"mine/x": float("nan"), "mine/wrong": 0.5}
    there = {"mine/wrong": 0.5, "mine/ten": 0.5}
    for parts in ({}, {"mine/x": 0.0}, {"mine/x": 1.2}, {"mine/x": 0.001}, {"x": 1.0}, nan, there):
        with pytest.raises(UserError):
            split_dataset(mine[0], parts)
    assert not any("wrong" in one.dataset_id for one in list_datasets())


def test_export_refuses(mine: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "there.npz").write_text("mine")
    for name, words in (("there.npz", "exists"), ("x.csv", "ends in .parquet or .npz")):
        with pytest.raises(UserError, match=words):
            export_dataset(mine[0], tmp_path / name)
    assert (tmp_path / "there.npz").read_text() == "mine"


def test_twins_stay_twins(mine: tuple[str, str]) -> None:
    assert same(loaded(mine[0]), loaded(mine[1]).without_actions())
