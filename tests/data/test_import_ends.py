"""No step that never happened: resets that nothing marks, orders that disagree, files in parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qss_offline.data import ColumnNames, ImportRules, plan_arrays, plan_frame
from qss_offline.errors import UserError

from .logs import Log, happened, make_log, same_rows

LENGTHS = st.lists(st.integers(5, 12), min_size=3, max_size=6)
DROP = ImportRules(resets="drop-step")


def without_next(rows: dict[str, Any]) -> dict[str, Any]:
    return {name: column for name, column in rows.items() if name != "next_observations"}


@given(lengths=LENGTHS, obs_dim=st.integers(1, 4), seed=st.integers(0, 9))
def test_the_next_episodes_first_is_never_a_next_observation(
    lengths: list[int], obs_dim: int, seed: int
) -> None:
    """Same-step resets, as stable-baselines3 and gym before 1.0 record them."""
    log = make_log(lengths, obs_dim, seed=seed)
    rows = log.rows()
    last = rows["terminations"] | rows["truncations"]
    reset = rows["next_observations"].copy()
    reset[last] = np.roll(rows["observations"], -1, axis=0)[last]
    del rows["episodes"]
    plan = plan_arrays(**(rows | {"next_observations": reset}))
    assert happened(plan.transitions, log)
    flags = {"terminations": np.zeros_like(last), "truncations": np.append(last[1:], True)}
    same_rows(plan.transitions, rows | flags, ~last)
    lost = plan.report.left_out[0]
    assert lost.steps == len(lengths) and lost.terminations == rows["terminations"].sum()
    assert "the recorder reset by itself" in lost.reason
    kept = plan_arrays(**(rows | {"next_observations": reset}), rules=ImportRules(resets="keep"))
    assert len(kept.transitions) == sum(lengths)


def next_step(log: Log) -> dict[str, Any]:
    """Gymnasium 1.0's vector environments: a step of its own, which resets."""
    before, after, ends, terminated, rewards = [], [], [], [], []
    for index, states in enumerate(log.states):
        before += [*states[:-1], states[-1]]
        following = log.states[(index + 1) % len(log.states)][0]
        after += [*states[1:], following]
        ends += [*(np.arange(len(states) - 1) == len(states) - 2), False]
        terminated += [log.terminated[index]] * len(states)
        rewards += [*log.rewards[index], 0.0]
    over, died = np.array(ends), np.array(terminated)
    return {
        "observations": np.array(before),
        "next_observations": np.array(after),
        "rewards": rewards,
        "terminations": over & died,
        "truncations": over & ~died,
    }


@given(lengths=LENGTHS, obs_dim=st.integers(1, 4), seed=st.integers(0, 9), own=st.booleans())
def test_steps_that_reset_are_refused_or_left_out(
    lengths: list[int], obs_dim: int, seed: int, own: bool
) -> None:
    log = make_log(lengths, obs_dim, seed=seed)
    rows = next_step(log)
    given = rows if own else without_next(rows)
    with pytest.raises(UserError, match="--resets drop-step"):
        plan_arrays(**given)
    plan = plan_arrays(**given, rules=DROP)
    assert happened(plan.transitions, log)
    if own:
        assert len(plan.transitions) == sum(lengths)
        assert plan.report.kept.terminations == sum(log.terminated)


@given(lengths=LENGTHS, obs_dim=st.integers(1, 4), seed=st.integers(0, 9), shift=st.integers(0, 2))
def test_resets_inside_an_episode_are_refused_or_left_out(
    lengths: list[int], obs_dim: int, seed: int, shift: int
) -> None:
    """Ends that nothing marks, or marks a row or two late."""
    log = make_log([*lengths, 12, 12], obs_dim, seed=seed)
    rows = without_next(log.rows())
    last = rows["terminations"] | rows["truncations"]
    del rows["episodes"]
    rows["truncations"] = np.roll(last, shift) if shift else np.append(0 * last[1:], True)
    rows["terminations"] = 0 * last
    with pytest.raises(UserError, match="--resets drop-step"):
        plan_arrays(**rows)
    plan = plan_arrays(**rows, rules=DROP)
    assert happened(plan.transitions, log)
    assert len(plan.transitions) >= 0.6 * (len(last) - 2 * len(log.lengths))


@given(lengths=LENGTHS, seed=st.integers(0, 9), start=st.sampled_from((0, 1, 100)))
def test_windows_of_one_run_are_whole(lengths: list[int], seed: int, start: int) -> None:
    """A run that is cut into windows goes on: its steps are kept, across no reset."""
    log = make_log([sum(lengths)], seed=seed)
    rows = log.rows()
    last = np.zeros(sum(lengths), np.bool_)
    last[np.cumsum(lengths) - 1] = True
    del rows["episodes"]
    rows["terminations"], rows["truncations"] = 0 * last, last
    plan = plan_arrays(**rows)
    same_rows(plan.transitions, rows)


@given(data=st.data(), lengths=LENGTHS, seed=st.integers(0, 9))
def test_rows_out_of_order_are_refused_or_sorted(
    data: st.DataObject, lengths: list[int], seed: int
) -> None:
    log = make_log(lengths, seed=seed)
    rows = log.rows()
    name = data.draw(st.sampled_from(("frame_index", "step", "timestamp", "t")))
    frame = np.concatenate([np.arange(n) for n in lengths]).astype(float)
    order = frame if name in ("frame_index", "step") else 1.7e9 + frame / 50
    if data.draw(st.booleans()):  # within the episodes, else all over
        shuffled = np.concatenate([
            begin + np.array(data.draw(st.permutations(range(n))))
            for begin, n in zip(np.cumsum([0, *lengths[:-1]]), lengths, strict=True)
        ])  # fmt: skip
    else:
        shuffled = np.array(data.draw(st.permutations(range(sum(lengths)))))
    names = {"observations": "obs", "next_observations": "next_obs", "rewards": "reward",
             "actions": "action", "terminations": "terminated", "truncations": "truncated",
             "episodes": "episode"}  # fmt: skip
    table = {short: np.asarray(rows[long])[shuffled] for long, short in names.items()}
    table[name] = order[shuffled]
    if not np.array_equal(shuffled, np.arange(len(shuffled))):
        with pytest.raises(UserError, match=r"--order|ends an episode|differs from"):
            plan_frame(table)
    plan = plan_frame(table, rules=ImportRules(order=name))
    # Episodes come as they are first seen.
    seen = dict.fromkeys(rows["episodes"][shuffled])
    expected = np.concatenate([np.flatnonzero(rows["episodes"] == one) for one in seen])
    same_rows(plan.transitions, rows, expected)


@given(data=st.data(), lengths=LENGTHS, seed=st.integers(0, 9))
def test_rows_of_several_episodes_are_sorted_only_where_these_are_numbered(
    data: st.DataObject, lengths: list[int], seed: int
) -> None:
    rows = make_log(lengths, seed=seed).rows()
    frame = np.concatenate([np.arange(n) for n in lengths])
    shuffled = np.concatenate([
        begin + np.append(np.array(data.draw(st.permutations(range(n - 1))), int), n - 1)
        for begin, n in zip(np.cumsum([0, *lengths[:-1]]), lengths, strict=True)
    ])  # fmt: skip
    table = {name: np.asarray(column)[shuffled] for name, column in rows.items()}
    del table["episodes"]
    table["t"] = frame[shuffled]
    rules = ImportRules(order="t")
    if len(lengths) > 1:
        with pytest.raises(UserError, match="mix the rows of several episodes"):
            plan_frame(table, rules=rules)
    else:
        same_rows(plan_frame(table, rules=rules).transitions, rows)
    if not np.array_equal(shuffled, np.arange(len(shuffled))):
        with pytest.raises(UserError) as refused:
            plan_frame(table)
        advised = "--episodes COLUMN --order t" in str(refused.value)
        assert advised == (len(lengths) > 1) or "differs from" in str(refused.value)


def test_an_order_that_begins_anew_ends_an_episode() -> None:
    log = make_log([5, 6, 4])
    table = {
        "obs": log.rows()["observations"],
        "reward": log.rows()["rewards"],
        "run": np.zeros(15),
        "frame_index": np.concatenate([np.arange(n) for n in log.lengths]),
    }
    with pytest.raises(UserError, match="'frame_index' begins anew in row 5"):
        plan_frame(table)
    plan = plan_frame(table, rules=DROP)
    assert happened(plan.transitions, log) and plan.report.kept.episodes == 3
    # A counter of episodes says nothing of the order of rows.
    table["step"] = np.repeat([4, 9, 9], log.lengths)
    assert len(plan_frame(table, names=ColumnNames(episodes="run"), rules=DROP).transitions) == 12


@given(data=st.data())
def test_rows_that_are_missing_are_refused_or_not_stepped_across(data: st.DataObject) -> None:
    log = make_log([12, 10])
    rows = without_next(log.rows())
    keep = np.ones(22, np.bool_)
    keep[data.draw(st.lists(st.integers(1, 10), min_size=1, max_size=3))] = False
    step = data.draw(st.sampled_from((1, 5)))
    table = {
        "obs": rows["observations"][keep],
        "reward": rows["rewards"][keep],
        "episode": rows["episodes"][keep],
        "frame": step * np.concatenate([np.arange(12), np.arange(10)])[keep],
    }
    with pytest.raises(UserError, match="rows are missing after row"):
        plan_frame(table)
    plan = plan_frame(table, rules=ImportRules(missing="drop-step"))
    assert happened(plan.transitions, log)


@given(data=st.data())
def test_bad_episodes_are_left_out_whole_and_counted(data: st.DataObject) -> None:
    log = make_log([6, 7, 8, 9])
    rows = log.rows()
    bad = data.draw(st.sets(st.integers(0, 3), min_size=1, max_size=3))
    values = {name: np.array(column) for name, column in rows.items()}
    for episode in bad:
        row = int(np.flatnonzero(rows["episodes"] == episode)[2])
        kind = data.draw(st.sampled_from(("missing", "infinite", "reward", "other next")))
        if kind == "missing":
            values["observations"][row, 0] = np.nan
        elif kind == "infinite":
            values["observations"][row, 1] = np.inf
        elif kind == "reward":
            values["rewards"][row] = 1e300
        else:
            values["next_observations"][row] += 0.25
    with pytest.raises(UserError):
        plan_arrays(**values)
    plan = plan_arrays(**values, rules=ImportRules(skip_bad=True))
    same_rows(plan.transitions, rows, ~np.isin(rows["episodes"], list(bad)))
    assert sum(one.episodes for one in plan.report.left_out) == len(bad)
    assert len(plan.faults) >= 1
