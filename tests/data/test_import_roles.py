"""Which column serves which role: names in any spelling, order and number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qss_offline.data import (
    ColumnNames,
    ImportRules,
    load_transitions,
    plan_arrays,
    plan_file,
    plan_frame,
)
from qss_offline.data.importing.names import by_number, simplified
from qss_offline.errors import UserError

from .logs import Log, make_log, same_rows

pytestmark = pytest.mark.usefixtures("in_process")

OBSERVATIONS = ("obs_{}", "observations_{}", "observation.{}", "state{}", "Obs {}", "states/{}")
NEXT = ("next_obs_{}", "obs_next_{}", "nextState{}", "next.observation.{}", "new_obs_{}")
REWARDS = ("reward", "rewards", "next.reward", "Reward", "rew")
TERMINATIONS = ("terminations", "terminated", "terminals", "is_terminal", "nextTerminated")
TRUNCATIONS = ("truncated", "timeouts", "TimeLimit.truncated", "truncations")
ENDS = ("done", "dones", "next.done", "is_last")
EPISODES = ("episode", "episode_index", "traj_id", "Trial", "ep")
UNUSED = ("comment_length", "battery", "temperature", "success", "task_index", "image_id")


def numbered(pattern: str, matrix: Any) -> dict[str, Any]:
    return {pattern.format(k): matrix[:, k] for k in range(matrix.shape[1])}


@settings(max_examples=60)
@given(data=st.data())
def test_well_known_names_in_any_spelling_and_order(data: st.DataObject) -> None:
    draw = data.draw
    log = make_log([4, 1, 6], obs_dim=draw(st.integers(1, 13)), seed=draw(st.integers(0, 9)))
    rows = log.rows()
    with_next = draw(st.booleans())
    table: dict[str, Any] = numbered(draw(st.sampled_from(OBSERVATIONS)), rows["observations"])
    if with_next:
        table |= numbered(draw(st.sampled_from(NEXT)), rows["next_observations"])
    table |= numbered(draw(st.sampled_from(("action_{}", "actions{}", "act.{}"))), rows["actions"])
    table[draw(st.sampled_from(REWARDS))] = rows["rewards"]
    style = draw(st.sampled_from(("both", "done and timeouts", "done and terminated", "episodes")))
    terminations, truncations = rows["terminations"], rows["truncations"]
    if style in ("both", "done and terminated"):
        table[draw(st.sampled_from(TERMINATIONS))] = terminations.astype(int)
    if style in ("both", "done and timeouts"):
        table[draw(st.sampled_from(TRUNCATIONS))] = truncations
    if style.startswith("done"):
        table[draw(st.sampled_from(ENDS))] = (terminations | truncations).astype(float)
    if style == "episodes" or draw(st.booleans()):
        table[draw(st.sampled_from(EPISODES))] = rows["episodes"] * 3 + 7
    for name in draw(st.lists(st.sampled_from(UNUSED), max_size=3, unique=True)):
        table[name] = np.arange(len(rows["rewards"])) % 3
    order = draw(st.permutations(list(table)))
    plan = plan_frame(pa.table({name: table[name] for name in order}))
    if style == "episodes":
        truncations, terminations = terminations | truncations, np.zeros_like(terminations)
    expected = rows | {"terminations": terminations, "truncations": truncations}
    last = np.append(rows["episodes"][1:] != rows["episodes"][:-1], True)
    if with_next:
        same_rows(plan.transitions, expected)
    else:
        expected["terminations"] = np.zeros_like(last)
        expected["truncations"] = np.append(last[1:], True)
        same_rows(plan.transitions, expected, ~last)
    assert plan.report.unused == tuple(name for name in order if name in UNUSED)


def test_literal_names_come_before_patterns() -> None:
    columns = {"q0": [100, 200, 300], "q[0]": [0.1, 0.2, 0.3], "a*": [1.0, 2, 3], "ab": [9, 9, 9],
               "x,y": [5.0, 6, 7], "reward": [0.0, 0, 1], "done": [0, 0, 1]}  # fmt: skip
    asked_for = {"q[0]": [0.1], "a*": [1.0], "x,y": [5.0], "q[0],x,y": [0.1, 5.0]}
    for asked, first in asked_for.items():
        plan = plan_frame(columns, names=ColumnNames(observations=asked))
        np.testing.assert_allclose(plan.transitions.observations[0], first, rtol=1e-6)
    both = plan_frame(columns, names=ColumnNames(observations="q*"))
    np.testing.assert_allclose(both.transitions.observations[0], [100.0, 0.1], rtol=1e-6)
    with pytest.raises(UserError, match=r"no column 'q\[1\]'; did you mean"):
        plan_frame(columns, names=ColumnNames(observations="q[1]"))


@given(st.permutations([f"j{a}_{b}" for a in (1, 2, 10) for b in (0, 3, 11)]))
def test_numbered_columns_come_by_their_numbers(names: list[str]) -> None:
    expected = [f"j{a}_{b}" for a in (1, 2, 10) for b in (0, 3, 11)]
    assert by_number(names) == expected
    assert by_number(["z", *names, "a"])[0] == "z"


def test_names_without_numbers_keep_their_order() -> None:
    assert by_number(["vel_x", "pos_x", "pos_y"]) == ["vel_x", "pos_x", "pos_y"]
    interleaved = ["a1_pos", "a1_vel", "a2_pos", "a2_vel"]
    assert by_number(interleaved) == interleaved
    assert simplified("nextDone") == simplified("next.done") == simplified("Next Done")


def flags(**columns: Any) -> dict[str, Any]:
    x = np.array([0.0, 1, 2, 3, 4, 5])
    return {"obs_0": x, "next_obs_0": x + 1, "reward": x, **columns}


ONE_END = np.array([0, 0, 1, 0, 0, 1])
OTHER_END = np.array([0, 1, 0, 0, 0, 0])


@pytest.mark.parametrize("name", ["timeouts", "done", "is_first", "episode_end", "robot_done"])
def test_columns_of_ends_are_used_or_refused_and_never_ignored(name: str) -> None:
    """Ends that only one column marks: no step leads across them, or the import is refused."""
    mark = np.roll(OTHER_END, 1) if name == "is_first" else OTHER_END
    named = ColumnNames(terminations="fell")
    try:
        plan = plan_frame(flags(fell=ONE_END * 0, **{name: mark}), names=named)
    except UserError as error:
        assert f"--ignore {name}" in str(error)
        rules = ImportRules(ignore=(name,))
        plan = plan_frame(flags(fell=ONE_END * 0, **{name: mark}), names=named, rules=rules)
        assert plan.report.kept.episodes == 1 and plan.report.ignored == (name,)
    else:
        assert plan.transitions.truncations.nonzero()[0].tolist() == [1, 5]


def test_done_alone_counts_as_termination_and_says_so() -> None:
    plan = plan_frame(flags(done=ONE_END))
    assert plan.transitions.terminations.nonzero()[0].tolist() == [2, 5]
    assert any("done counts as termination" in text for _, text in plan.report.table())
    named = plan_frame(flags(done=ONE_END), names=ColumnNames(truncations="done"))
    assert not named.transitions.terminations.any() and named.report.kept.episodes == 2


def test_ends_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(UserError, match="--ignore done leaves it out"):
        plan_frame(flags(terminated=ONE_END, done=OTHER_END))
    with pytest.raises(UserError, match="'done' ends an episode in row 1, but neither"):
        plan_frame(flags(terminated=ONE_END, truncated=ONE_END * 0, done=ONE_END | OTHER_END))
    with pytest.raises(UserError, match="no column says where episodes end"):
        plan_frame(flags())
    # A second column that says the same is no contradiction.
    assert plan_frame(flags(terminated=ONE_END, grasp_done=ONE_END)).report.kept.episodes == 2


def test_a_column_serves_two_roles_only_where_both_name_it() -> None:
    columns = {"j_pos": [1.0, 2, 3], "j_cmd": [4.0, 6, 5], "reward": [0.0, 1, 2], "done": [0, 0, 1]}
    with pytest.raises(UserError, match="observations: 'j_cmd' matches, but serves as actions"):
        plan_frame(columns, names=ColumnNames(observations="j_*", actions="j_cmd"))
    named = ColumnNames(observations="j_pos,j_cmd,reward", actions="j_cmd", rewards="reward")
    plan = plan_frame(columns, names=named)
    assert plan.transitions.observations[0].tolist() == [1, 4, 0]
    assert any(
        "equals action 'j_cmd'" in line and "--ignore" in line for line in plan.report.notices
    )


def test_actions_among_the_observations_are_named() -> None:
    log = make_log([30, 20], act_dim=2)
    rows = log.rows()
    states = np.concatenate([
        np.column_stack((states, np.vstack([np.zeros(2), actions])))
        for states, actions in zip(log.states, log.actions, strict=True)
    ])  # fmt: skip
    given = {name: rows[name] for name in ("rewards", "terminations", "truncations", "actions")}
    plan = plan_arrays(observations=states, **given)
    assert len(plan.report.notices) == 2
    assert all(f"observations[{2 + k}]" in plan.report.notices[k] for k in range(2))
    left = ImportRules(ignore=("observations[2]", "observations[3]"))
    clean = plan_arrays(observations=states, rules=left, **given)
    assert not clean.report.notices
    same_rows(clean.transitions, rows)
    with pytest.raises(UserError, match=r"no column 'observations\[7\]'"):
        plan_arrays(observations=states, rules=ImportRules(ignore=("observations[7]",)), **given)


def test_the_table_and_what_is_lost() -> None:
    rows = make_log([3, 3, 3]).rows()
    sparse = (rows["terminations"] | rows["truncations"]).astype(float)
    given = {"observations": rows["observations"], "terminations": sparse, "rewards": sparse}
    plan = plan_arrays(**given)
    table = plan.report.table()
    assert [head for head, _ in table[:3]] == ["role", "observations", "next_observations"]
    lost = dict(table)["left out"]
    assert "3 of 9 steps" in lost and "3 of 3 rewards" in lost and "3 of 3 terminations" in lost
    assert all(len(line) <= 80 for line in plan.report.lines())
    report = json.loads(json.dumps(plan.report.as_json()))
    assert report["left_out"][0]["terminations"] == 3 and report["kept"]["steps"] == 6
    assert any("nothing can be learned" in line for line in plan.report.notices)


def test_missing_rewards_and_terminations(minari_root: Path) -> None:
    rows = make_log([4, 5]).rows()
    frame = pa.table({"obs": rows["observations"].tolist(), "episode": rows["episodes"]})
    plan = plan_frame(frame)
    stored = plan.store("mine/thing")
    loaded = load_transitions(stored.obs_id)
    assert loaded.info.rewards_missing and not loaded.transitions.rewards.any()
    assert not loaded.transitions.terminations.any() and stored.episodes == 2
    left_out = dict(plan.report.table())["left out"]
    assert "7" not in left_out and "2 of 9 steps" in left_out


class Polars:
    """A frame that knows Arrow's stream interface alone, as polars and pandas do."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


class OldFrame:
    """A frame that gives a table."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def to_arrow(self) -> pa.Table:
        return self._table


class Lazy(Polars):
    """A frame that is a table once it is collected."""

    def collect_schema(self) -> object:
        return self._table.schema

    def collect(self) -> Polars:
        return Polars(self._table)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        raise NotImplementedError


@pytest.mark.parametrize("kind", [Polars, OldFrame, Lazy, lambda t: t, lambda t: t.to_pydict()])
def test_frames_of_any_kind(kind: Any) -> None:
    log: Log = make_log([4, 3])
    rows = log.rows()
    table = pa.table({
        "observation": pa.array(rows["observations"].tolist(), pa.large_list(pa.float64())),
        "next_observation": pa.array(rows["next_observations"].tolist()),
        "action": rows["actions"][:, 0],
        "reward": rows["rewards"],
        "terminated": rows["terminations"],
        "truncated": rows["truncations"],
        "episode": [f"run {k}" for k in rows["episodes"]],
    })  # fmt: skip
    same_rows(plan_frame(kind(table)).transitions, rows)
    for other in (3, [1, 2], "text", None):
        with pytest.raises(UserError, match="frame: expected a table"):
            plan_frame(other)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_structs_lists_and_types_of_parquet(data: st.DataObject, tmp_path: Path) -> None:
    log = make_log([5, 4], obs_dim=3)
    rows = log.rows()
    as_list = data.draw(st.sampled_from((
        pa.list_(pa.float64()), pa.large_list(pa.float64()), pa.list_(pa.float64(), 2),
        pa.large_list(pa.float64()),
    )))  # fmt: skip
    state = pa.StructArray.from_arrays(
        [pa.array(rows["observations"][:, :2].tolist(), as_list),
         pa.array(rows["observations"][:, 2])], ["joints", "height"],
    )  # fmt: skip
    following = pa.StructArray.from_arrays(
        [pa.array(rows["next_observations"][:, :2].tolist(), as_list),
         pa.array(rows["next_observations"][:, 2])], ["joints", "height"],
    )  # fmt: skip
    flag = data.draw(st.sampled_from((pa.bool_(), pa.int8(), pa.uint64(), pa.float32())))
    table = pa.table({
        "obs": state, "next_obs": following, "reward": rows["rewards"],
        "terminated": pa.array(rows["terminations"]).cast(pa.int8()).cast(flag),
        "truncated": pa.array(rows["truncations"]).cast(pa.int8()).cast(flag),
        "episode_id": pa.array([f"e{k}" for k in rows["episodes"]]).dictionary_encode(),
    })  # fmt: skip
    pa.parquet.write_table(table, tmp_path / "log.PARQUET")
    same_rows(plan_file(tmp_path / "log.PARQUET").transitions, rows)


def test_text_among_the_columns() -> None:
    rows = make_log([4, 3]).rows()
    frame = {"obs": rows["observations"], "reward": rows["rewards"], "episode": list("aaaabbb"),
             "obs_note": list("abcdefg"), "comment": ["x"] * 7, "when": [{}] * 7}  # fmt: skip
    plan = plan_frame(frame)
    assert plan.report.kept.episodes == 2 and plan.report.unused == ("obs_note", "comment", "when")
    flagged = {"obs": rows["observations"][:, 0], "reward": rows["rewards"], "done": ["no"] * 7}
    for kind in (dict, pa.table):
        with pytest.raises(UserError, match="'done' holds text, and is called like an end"):
            plan_frame(kind(flagged))


def test_parts_of_observations_are_ignored_by_their_name() -> None:
    rows = make_log([4, 3], obs_dim=3).rows()
    nested = {
        name: {"arm": rows[name][:, 1:], "z": rows[name][:, 0]}
        for name in ("observations", "next_observations")
    }
    left = ImportRules(ignore=("observations.arm",))
    plan = plan_arrays(**rows | nested, rules=left)
    np.testing.assert_array_equal(
        plan.transitions.next_observations, rows["next_observations"][:, :1].astype(np.float32)
    )
