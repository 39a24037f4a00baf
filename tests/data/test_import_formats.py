"""Files in the layouts that robots, simulators and libraries write, and hostile ones."""

from __future__ import annotations

import os
import shutil
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from gymnasium import spaces
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qss_offline.data import (
    ColumnNames,
    ImportRules,
    export_dataset,
    load_transitions,
    plan_arrays,
    plan_file,
    plan_frame,
    plan_replay_buffer,
)
from qss_offline.errors import UserError

from .conftest import same
from .logs import (
    StableBaselinesBuffer,
    TianshouBuffer,
    happened,
    make_log,
    same_rows,
    write_d4rl,
    write_lerobot,
    write_robomimic,
)

pytestmark = pytest.mark.usefixtures("in_process")


def without_last(rows: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """What is left of rows whose last next observation is unknown, and which they are."""
    last = rows["terminations"] | rows["truncations"]
    return rows | {
        "terminations": 0 * last.astype(bool),
        "truncations": np.append(last[1:], True),
    }, ~last


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
@pytest.mark.parametrize("done", [True, False])
def test_lerobot(tmp_path: Path, version: str, done: bool) -> None:
    """More than ten episodes: files are sorted by their numbers; `meta/` holds no steps."""
    log = make_log([4, 3, 5, *[2] * 10], obs_dim=3, act_dim=2)
    plan = plan_file(write_lerobot(tmp_path / "set", log, version, done))
    same_rows(plan.transitions, *without_last(log.rows()))
    assert plan.names == tuple(f"observation.state.joint_{k}" for k in range(3))
    roles = {role.role: role.columns for role in plan.report.roles}
    assert roles["order"] == ("frame_index", "timestamp")
    assert roles["rewards"] == ("next.reward",) and "task_index" in plan.report.unused
    assert not plan.report.notices


def test_a_lerobot_dataset_of_which_a_part_is_here(tmp_path: Path) -> None:
    log = make_log([4, 3, 5])
    folder = write_lerobot(tmp_path / "set", log, "v2.1")
    (folder / "data" / "chunk-000" / "episode_000001.parquet").unlink()
    plan = plan_file(folder)
    assert plan.report.recorded.steps == 9
    assert plan.report.notices == ("meta/info.json says 12 frames, 9 are here",)


@pytest.mark.parametrize("own", [True, False])
def test_d4rl(tmp_path: Path, own: bool) -> None:
    log = make_log([5, 3, 4], obs_dim=3)
    plan = plan_file(write_d4rl(tmp_path / "hopper-medium-v2.hdf5", log, own))
    expected = (log.rows(), slice(None)) if own else without_last(log.rows())
    same_rows(plan.transitions, *expected)
    assert "infos/qpos" in plan.report.unused


def test_a_group_for_each_episode(tmp_path: Path) -> None:
    log = make_log([5, 3, *[2] * 10], obs_dim=3)
    plan = plan_file(write_robomimic(tmp_path / "demo.HDF5", log))
    rows = log.rows()
    same_rows(plan.transitions, rows)
    with h5py.File(tmp_path / "minari.hdf5", "w") as file:
        for index, states in enumerate(log.states):
            group = file.create_group(f"episode_{index}")
            group["observations"], group["rewards"] = states, log.rewards[index]
            group["terminations"] = np.arange(len(states) - 1) == len(states) - 2
    same_rows(plan_file(tmp_path / "minari.hdf5").transitions, rows | {
        "terminations": rows["terminations"] | rows["truncations"],
        "truncations": 0 * rows["truncations"]})  # fmt: skip


@pytest.mark.parametrize(
    "names",
    [
        [f"{part}/episode_{k}" for part in ("test", "train") for k in range(11)],
        [f"data/{kind}_{k}" for kind in ("demo", "traj") for k in range(3)],
        ["demo_1", "demo_01", "demo_002"],
    ],
)
def test_groups_of_several_heads_are_all_kept(tmp_path: Path, names: list[str]) -> None:
    log = make_log([2 + k % 3 for k in range(len(names))])
    with h5py.File(tmp_path / "all.hdf5", "w") as file:
        for name, states, rewards in zip(names, log.states, log.rewards, strict=True):
            file[f"{name}/obs"], file[f"{name}/reward"] = states, rewards
    transitions = plan_file(tmp_path / "all.hdf5").transitions
    assert len(transitions.episode_lengths()) == len(names)
    assert happened(transitions, log) and len(transitions) == sum(log.lengths)


def test_what_some_groups_lack_is_not_used_and_said(tmp_path: Path) -> None:
    log = make_log([4, 5, 3])
    with h5py.File(tmp_path / "some.hdf5", "w") as file:
        for k, states in enumerate(log.states):
            file[f"demo_{k}/obs"] = states
            if k:
                file[f"demo_{k}/reward"] = log.rewards[k]
    plan = plan_file(tmp_path / "some.hdf5")
    assert plan.report.unused == ("reward",) and plan.metadata["rewards_missing"]
    with pytest.raises(UserError, match="no column 'reward' in every group"):
        plan_file(tmp_path / "some.hdf5", names=ColumnNames(rewards="reward"))


def test_links_in_hdf5_are_not_followed(tmp_path: Path) -> None:
    log = make_log([4])
    write_d4rl(tmp_path / "other.hdf5", log)
    path = write_d4rl(tmp_path / "linked.hdf5", log)
    with h5py.File(path, "r+") as file:
        del file["rewards"]
        file["rewards"] = h5py.ExternalLink("other.hdf5", "rewards")
        file["loop"] = file["/"]
    with pytest.raises(UserError, match=r"no column 'rewards'|too many objects"):
        plan_file(path, names=ColumnNames(rewards="rewards"))
    layout = h5py.VirtualLayout((4,), np.float32)
    layout[:] = h5py.VirtualSource(tmp_path / "other.hdf5", "rewards", (4,))
    with h5py.File(path, "r+") as file:
        del file["rewards"], file["loop"]
        file.create_virtual_dataset("rewards", layout)
    with pytest.raises(UserError, match="in another file: refused"):
        plan_file(path)


@pytest.mark.parametrize("fill", ["part", "turned"])
@pytest.mark.parametrize("environments", [1, 3])
def test_buffers_of_stable_baselines(fill: str, environments: int) -> None:
    logs = [make_log([6, 5, 4], seed=k) for k in range(environments)]
    size = 40 if fill == "part" else 11
    plan = plan_replay_buffer(StableBaselinesBuffer(logs, size))
    begin = 0 if fill == "part" else 4
    kept = 15 - begin
    for index, log in enumerate(logs):
        part = {name: column[index * kept : (index + 1) * kept]
                for name, column in plan.transitions.columns().items()}  # fmt: skip
        rows = {name: column[begin:] for name, column in log.rows().items()}
        for name in ("observations", "next_observations", "actions", "rewards", "terminations"):
            np.testing.assert_array_equal(part[name], rows[name].astype(part[name].dtype), name)


@settings(max_examples=40)
@given(
    low=st.floats(-5, 0.5), width=st.floats(0.1, 9), kind=st.sampled_from(("scaled", "by hand")),
    environments=st.integers(1, 3), dtype=st.sampled_from((np.float32, np.float64)),
)  # fmt: skip
def test_actions_of_stable_baselines_are_those_that_were_executed(
    low: float, width: float, kind: str, environments: int, dtype: Any
) -> None:
    logs = [make_log([6, 5, 4], act_dim=2, seed=k) for k in range(environments)]
    buffer = StableBaselinesBuffer(logs, 40)
    box = spaces.Box(low, low + width, (2,), dtype)
    units = np.clip(np.array(buffer.actions) * 1.5, -1, 1)
    executed = box.low + (units + 1) / 2 * (box.high - box.low)
    buffer.action_space = box
    buffer.actions = units if kind == "scaled" else executed.astype(np.float32)
    plan = plan_replay_buffer(buffer)
    actions = plan.transitions.actions
    assert actions is not None and plan.action_space is not None
    np.testing.assert_allclose(plan.action_space.high, box.high, rtol=1e-6)
    given = np.swapaxes(executed[:15], 0, 1).reshape(-1, 2)
    if kind == "scaled":
        np.testing.assert_allclose(actions, given, atol=2e-6)
        inside = (np.abs([box.low, box.high]) <= 1).all() and (units >= box.low).all()
        assert inside or any("scaled" in line for line in plan.report.notices)
    elif (np.abs(given) > 1.001).any() or (np.abs([box.low, box.high]) <= 1).all():
        np.testing.assert_array_equal(actions, given.astype(np.float32))
        assert not any("scaled" in line for line in plan.report.notices)


@pytest.mark.parametrize("high", [0.5, np.array([2.0, np.inf])])
def test_actions_of_rollouts_are_clipped_as_they_were(high: Any) -> None:
    log = make_log([6, 5, 4], act_dim=2)
    rows = {name: column[:, None] for name, column in log.rows().items()}
    last = rows["terminations"] | rows["truncations"]
    box = spaces.Box(-0.5, np.broadcast_to(high, 2).astype(np.float32), dtype=np.float32)
    buffer = SimpleNamespace(
        observations=rows["observations"], actions=rows["actions"], rewards=rows["rewards"],
        episode_starts=np.roll(last, 1), buffer_size=15, pos=15, full=True, action_space=box,
    )  # fmt: skip
    plan = plan_replay_buffer(buffer)
    found = plan.transitions.actions
    assert found is not None and len(found) == 12
    whole = plan_arrays(**{name: column for name, column in log.rows().items()
                           if name != "next_observations"}).transitions.actions  # fmt: skip
    assert whole is not None
    np.testing.assert_array_equal(found, np.clip(whole, box.low, box.high))
    assert any("stored clipped" in line for line in plan.report.notices)
    buffer.action_space = spaces.Discrete(3)
    assert plan_replay_buffer(buffer).action_space is None


def test_buffers_of_tianshou_and_of_nothing() -> None:
    log = make_log([6, 5, 4])
    same_rows(plan_replay_buffer(TianshouBuffer(log, begin=4)).transitions, log.rows())
    with pytest.raises(UserError, match="expected one of d3rlpy"):
        plan_replay_buffer([1, 2])


def test_arrays_of_several_environments_in_a_file(tmp_path: Path) -> None:
    logs = [make_log([6, 4], seed=k) for k in range(2)]
    names = {
        "obs": "observations",
        "obs_next": "next_observations",
        "act": "actions",
        "rew": "rewards",
        "terminated": "terminations",
        "truncated": "truncations",
    }
    stacked = {
        short: np.stack([log.rows()[name] for log in logs], axis=1) for short, name in names.items()
    }
    np.savez(tmp_path / "buffer.npz", allow_pickle=False, **stacked)
    both = {name: np.concatenate([log.rows()[name] for log in logs]) for name in logs[0].rows()}
    same_rows(plan_file(tmp_path / "buffer.npz").transitions, both)


def table_of(rows: dict[str, Any]) -> dict[str, Any]:
    return {
        "x": rows["observations"][:, 0], "y": rows["observations"][:, 1],
        "reward": rows["rewards"], "force": rows["actions"][:, 0],
        "terminated": rows["terminations"], "timeout": rows["truncations"],
        "trial": rows["episodes"],
    }  # fmt: skip


NAMES = ColumnNames(observations="x,y", actions="force")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_csv_in_any_dialect(data: st.DataObject, tmp_path: Path) -> None:
    draw = data.draw
    log = make_log([4, 1, 5], seed=draw(st.integers(0, 9)))
    rows = log.rows()
    delimiter = draw(st.sampled_from((",", ";", "\t", "|")))
    comma = delimiter != "," and draw(st.booleans())
    labels = draw(st.sampled_from(("{}", "run {}", "run_{}", "é{}")))
    booleans = draw(
        st.sampled_from((("0", "1"), ("false", "true"), ("False", "True"), ("0.0", "1.0")))
    )
    space = draw(st.sampled_from(("", " ")))
    quoted = draw(st.booleans())
    encoding = draw(st.sampled_from(("utf-8", "utf-8-sig", "utf-16", "latin-1")))
    ending = draw(st.sampled_from(("\n", "\r\n")))
    suffix = draw(st.sampled_from((".csv", ".CSV", ".tsv", ".Csv", ".txt")))

    def cell(name: str, value: Any) -> str:
        if name in ("terminated", "timeout"):
            text = booleans[int(value)]
        elif name == "trial":
            text = labels.format(value)
        else:
            text = repr(float(value))
        return text.replace(".", ",") if comma and name != "trial" else text

    table = table_of(rows)
    header = (delimiter + space).join(
        f'"{name}"' if quoted and not space else name for name in table
    )
    lines = [header] + [
        delimiter.join(cell(name, column[row]) for name, column in table.items())
        for row in range(10)
    ]
    if delimiter == ";" and draw(st.booleans()):
        lines.insert(0, "sep=;")
    path = tmp_path / f"log{suffix}"
    path.write_bytes((ending.join(lines) + ending).encode(encoding))
    same_rows(plan_file(path, names=NAMES).transitions, *without_last(rows))


def test_numbers_that_change_their_type_further_down(tmp_path: Path) -> None:
    count = 120_000
    lines = ["obs_0,reward,done,episode"]
    lines += [
        f"{i if i < count - 9 else i + 0.5},{'' if i else 1},0,{i // 1000}" for i in range(count)
    ]
    path = tmp_path / "long.csv"
    path.write_text("\n".join(lines))
    plan = plan_file(
        path, names=ColumnNames(observations="obs_0"), rules=ImportRules(ignore=("reward",))
    )
    assert plan.transitions.next_observations[-1].tolist() == [count - 0.5]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x,x,reward,done\n1,2,3,0\n1,2,3,1\n", "names 'x' twice"),
        ("1.5,2,0\n1.6,2,1\n", "its first line holds numbers"),
        ("\n1,2\n", "no names of columns"),
        ("x,reward,done\n1,a,0\n2,b,1\n", "reward: expected numbers, got text ('a' in row 0)"),
        ("x,reward,done\n1,2\n2,3,1\n", "Expected 3 columns"),
        ("x,reward,done\n", "no rows"),
        ("x,reward,done,trial\n1,2,0,\n2,2,0,a\n3,3,1,a\n", ""),
    ],
)  # fmt: skip
def test_text_that_is_no_table(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "log.csv").write_text(text)
    if not words:
        assert plan_file(tmp_path / "log.csv", names=ColumnNames(observations="x"))
        return
    with pytest.raises(UserError) as caught:
        plan_file(tmp_path / "log.csv", names=ColumnNames(observations="x"))
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("continued", "labels"), [(True, True), (False, True), (False, False)])
def test_folders_of_files(tmp_path: Path, continued: bool, labels: bool) -> None:
    """Files are episodes of their own, unless label and order say that one goes on."""
    log = make_log([4, 7, 5])
    rows = log.rows()
    table = table_of(rows) | {"frame": np.concatenate([np.arange(n) for n in log.lengths])}
    del table["terminated"], table["timeout"]
    cuts = (0, 7, 16) if continued else (0, 4, 11, 16)
    for index, (begin, end) in enumerate(pairwise(cuts)):
        part = {name: column[begin:end] for name, column in table.items()}
        if not continued:
            part["trial"] = np.zeros(end - begin, np.int64)
        if not labels:
            del part["trial"]
        pa.parquet.write_table(pa.table(part), tmp_path / f"part-{index * 5}.parquet")
    plan = plan_file(tmp_path, names=NAMES)
    same_rows(plan.transitions, *without_last(rows))
    (tmp_path / "other.csv").write_text("x\n1\n")
    with pytest.raises(UserError, match="files of one kind"):
        plan_file(tmp_path, names=NAMES)


def test_partitioned_folders(tmp_path: Path) -> None:
    log = make_log([4, 3, *[2] * 10])
    rows = log.rows()
    for episode, length in enumerate(log.lengths):
        folder = tmp_path / "robot=a" / f"trial={episode}"
        folder.mkdir(parents=True)
        own = rows["episodes"] == episode
        part = {name: column[own] for name, column in table_of(rows).items() if name != "trial"}
        assert len(part["x"]) == length
        pa.parquet.write_table(pa.table(part), folder / "part-0.parquet")
    plan = plan_file(tmp_path, names=NAMES)
    same_rows(plan.transitions, *without_last(rows))
    assert plan.report.unused == ("robot",)


def write_part(path: Path, columns: dict[str, Any]) -> None:
    if path.suffix == ".csv":
        pa.csv.write_csv(pa.table(columns), path)
    elif path.suffix == ".parquet":
        pa.parquet.write_table(pa.table(columns), path)
    elif path.suffix == ".npz":
        np.savez(path, allow_pickle=False, **columns)
    else:
        with h5py.File(path, "w") as file:
            for name, column in columns.items():
                file[name] = column


SUFFIXES = [".csv", ".parquet", ".npz", ".hdf5"]


def write_parts(folder: Path, suffix: str) -> dict[str, Any]:
    """Three files of an episode each; return the columns of all."""
    log = make_log([4, 7, 5])
    table = table_of(log.rows()) | {
        "frame": np.concatenate([np.arange(n) for n in log.lengths]),
        "robot_done": np.concatenate([np.arange(n) == n - 1 for n in log.lengths]),
        "battery": np.ones(16),
    }
    folder.mkdir()
    for index, (begin, end) in enumerate(pairwise((0, 4, 11, 16))):
        part = {name: column[begin:end] for name, column in table.items()}
        write_part(folder / f"part-{index}{suffix}", part)
    return table


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", "_old", ".a/b", "c/_d/e"])
def test_hidden_folders_are_not_read(hidden: str, tmp_path: Path) -> None:
    folder = tmp_path / ".data"
    write_parts(folder, ".csv")
    whole = plan_file(folder, names=NAMES)
    shutil.copytree(folder, folder / hidden)
    write_part(folder / hidden / "other.parquet", {"x": [1.0]})
    again = plan_file(folder, names=NAMES)
    assert same(again.transitions, whole.transitions) and again.made == whole.made


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("without", [[0], [2], [0, 1]])
def test_what_some_files_lack_is_refused_or_unused(
    without: list[int], suffix: str, tmp_path: Path
) -> None:
    """No first file decides what the others hold."""
    folder = tmp_path / "parts"
    table = write_parts(folder, suffix)
    bounds = list(pairwise((0, 4, 11, 16)))
    whole = plan_file(folder, names=NAMES)
    for lacking in table:
        for index, (begin, end) in enumerate(bounds):
            kept = [n for n in table if not (n == lacking and index in without)]
            part = {name: table[name][begin:end] for name in kept}
            write_part(folder / f"part-{index}{suffix}", part)
        if lacking == "battery":
            plan = plan_file(folder, names=NAMES)
            assert same(plan.transitions, whole.transitions)
            assert set(plan.report.unused) == set(whole.report.unused)
            continue
        with pytest.raises(UserError) as caught:
            plan_file(folder, names=NAMES)
        told = str(caught.value)
        assert f"part-{without[0]}{suffix}: no column '{lacking}' for " in told
        assert f"--ignore {lacking}" in told and "\n" not in told
        if lacking not in ("x", "y", "force"):  # which are named
            left = plan_file(folder, names=NAMES, rules=ImportRules(ignore=(lacking,)))
            assert left.report.ignored == (lacking,)


def test_what_groups_of_some_files_lack_is_refused_too(tmp_path: Path) -> None:
    log = make_log([4, 5, 3, 4])
    for name, episodes, missing in (("a", (0, 1), 1), ("b", (2, 3), None)):
        with h5py.File(tmp_path / f"{name}.hdf5", "w") as file:
            for k in episodes:
                file[f"demo_{k}/obs"] = log.states[k]
                if k != missing:
                    file[f"demo_{k}/reward"] = log.rewards[k]
    with pytest.raises(UserError, match=r"a\.hdf5: no column 'reward' in every group"):
        plan_file(tmp_path)


def test_a_file_beside_partitions_is_refused(tmp_path: Path) -> None:
    """It would belong to no episode."""
    write_parts(tmp_path / "parts", ".parquet")
    for k in (1, 2):
        file = tmp_path / "parts" / f"part-{k}.parquet"
        (file.parent / f"demo={k}").mkdir()
        file.rename(file.parent / f"demo={k}" / "0.parquet")
    with pytest.raises(UserError, match=r"part-0\.parquet: no column 'demo' for episodes, which"):
        plan_file(tmp_path / "parts", names=NAMES)


@pytest.mark.parametrize("clock", ["step", "timestamp"])
@pytest.mark.parametrize("together", [True, False])
def test_robots_that_number_their_episodes_alike(clock: str, together: bool) -> None:
    """Rows of two robots are no episode, however they lie and are sorted."""
    episodes, steps, robots = (
        axis.reshape(-1)
        for axis in np.meshgrid(np.arange(3), np.arange(8), np.arange(2), indexing="ij")
    )
    rows = np.lexsort((steps, episodes, robots)) if together else np.arange(len(steps))
    frame = {
        "robot": robots[rows],
        "episode": episodes[rows],
        clock: steps[rows] * 0.02 if clock == "timestamp" else steps[rows],
        "obs": np.random.default_rng(0).normal(size=(len(rows), 2)),
        "reward": np.ones(len(rows)),
    }
    for order in (None, clock):
        with pytest.raises(UserError, match="--episodes robot,episode"):
            plan_frame(frame, rules=ImportRules(order=order))
    named = ColumnNames(episodes="robot,episode")
    plan = plan_frame(frame, names=named, rules=ImportRules(order=clock))
    assert plan.report.kept.episodes == 6
    constant = {**frame, clock: episodes[rows]} if together else {}
    if constant:  # which step of training recorded the episode, say
        assert plan_frame(constant, names=named).report.kept.episodes == 6


def test_columns_that_no_array_holds_as_they_are() -> None:
    """Two of one name; times of day in nanoseconds."""
    log = make_log([4, 5]).rows()
    columns = {
        "obs_0": log["observations"][:, 0],
        "reward": log["rewards"],
        "episode": log["episodes"],
        "t": pa.array(1_000_000_001 * np.arange(9), pa.time64("ns")),
    }
    plan = plan_frame(pa.table(columns))
    assert plan.report.kept.episodes == 2
    named = [*columns, "reward"]
    with pytest.raises(UserError, match="reward: two columns have this name"):
        plan_frame(pa.table([*map(pa.array, columns.values()), pa.array(log["rewards"])], named))


@pytest.mark.parametrize("make", ["empty", "pipe", "missing", "wrong"])
def test_folders_and_names_that_hold_nothing(tmp_path: Path, make: str) -> None:
    path = tmp_path / "log.csv"
    if make == "empty":
        path = tmp_path / "folder"
        path.mkdir()
    elif make == "pipe":
        os.mkfifo(path)
    elif make == "wrong":
        path = tmp_path / "log.pkl"
        path.write_bytes(b"x")
    with pytest.raises(UserError, match=r"does not exist|expected"):
        plan_file(path)


def test_recordings_without_rewards_stay_so(minari_root: Path, tmp_path: Path) -> None:
    log = make_log([5, 4])
    path = write_lerobot(tmp_path / "set", log, "v2.1")
    stored = plan_file(path, rules=ImportRules(ignore=("next.reward",))).store("mine/a")
    assert load_transitions(stored.obs_id).info.rewards_missing
    back = plan_file(export_dataset(stored.obs_id, tmp_path / "out.npz")).store("mine/b")
    assert load_transitions(back.obs_id).info.rewards_missing
    assert back.obs_digest == stored.obs_digest
