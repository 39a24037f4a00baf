from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qss_offline.data import Transitions, observation_statistics
from qss_offline.data import transitions as module
from qss_offline.errors import UserError

from .conftest import make_transitions


def changed(**columns: Any) -> dict[str, Any]:
    return make_transitions([3, 1, 2]).columns() | columns


def with_value(name: str, row: int, value: float) -> dict[str, Any]:
    columns = changed()
    columns[name] = columns[name].copy()
    columns[name][row] = value
    return columns


def test_episode_figures() -> None:
    transitions = make_transitions([3, 1, 2])
    assert len(transitions) == 6
    assert transitions.obs_dim == 3
    assert transitions.episode_lengths().tolist() == [3, 1, 2]
    assert transitions.episode_starts().tolist() == [0, 3, 4]
    rewards = transitions.rewards.astype(np.float64)
    expected = [rewards[:3].sum(), rewards[3], rewards[4:].sum()]
    np.testing.assert_allclose(transitions.episode_returns(), expected)
    assert transitions.episode_returns().dtype == np.float64


def test_arrays_are_read_only_but_the_callers_stay_writable() -> None:
    columns = {name: column.copy() for name, column in changed().items()}
    transitions = Transitions(**columns)
    for column in transitions.columns().values():
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 0
    columns["rewards"][0] = 5.0
    assert np.shares_memory(columns["rewards"], transitions.rewards)


def test_without_actions_shares_the_columns() -> None:
    transitions = make_transitions([2, 2])
    bare = transitions.without_actions()
    assert bare.actions is None
    assert np.shares_memory(bare.observations, transitions.observations)


ROWS = np.arange(6)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (changed(rewards=ROWS.astype(np.float64)), "rewards: expected dtype float32, got float64"),
        (changed(rewards=[0.0] * 6), "rewards: expected a NumPy array, got list"),
        (changed(observations=np.zeros(6, np.float32)), "observations: expected shape"),
        (changed(observations=np.zeros((6, 0), np.float32)), "observations: expected shape"),
        (changed(next_observations=np.zeros((6, 4), np.float32)), "next_observations: shape"),
        (changed(actions=np.zeros((5, 2), np.float32)), "actions: 5 rows"),
        (changed(actions=np.zeros((6, 0), np.float32)), "actions: expected shape"),
        (changed(terminations=np.zeros(6, np.uint8)), "terminations: expected dtype bool"),
        (with_value("observations", 4, np.nan), "observations: row 4"),
        (with_value("next_observations", 2, np.inf), "next_observations: row 2"),
        (with_value("rewards", 5, -np.inf), "rewards: row 5"),
        (with_value("actions", 1, np.nan), "actions: row 1"),
        (changed(episodes=np.array([0, 0, 0, 2, 1, 1])), "falls after row 3"),
        (changed(episodes=np.array([-1, -1, -1, 0, 1, 1])), "can't be negative"),
        (changed(episodes=np.array([0, 0, 0, 1, 1, 1])), "row 3 ends an episode"),
        (with_value("terminations", 0, True), "row 0 ends an episode"),
        (with_value("terminations", 2, False), "row 2 is the last of episode 0"),
        (with_value("terminations", 5, False), "row 5 is the last of episode 2"),
    ],
)
def test_bad_columns_are_named_with_their_row(columns: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        Transitions(**columns)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_rows() -> None:
    empty = {name: column[:0] for name, column in changed().items()}
    with pytest.raises(UserError, match="no rows"):
        Transitions(**empty)


@settings(max_examples=50)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 5), st.data())
def test_checks_do_not_depend_on_the_chunks(
    lengths: list[int], chunk: int, data: st.DataObject
) -> None:
    columns = make_transitions(lengths).columns()
    row = data.draw(st.integers(0, sum(lengths) - 1))
    columns["rewards"] = columns["rewards"].copy()
    columns["rewards"][row] = np.nan
    flags = {name: columns[name].copy() for name in ("terminations", "truncations")}
    wrong = data.draw(st.integers(0, sum(lengths) - 1))
    ended = flags["terminations"][wrong] | flags["truncations"][wrong]
    flags["terminations"][wrong], flags["truncations"][wrong] = not ended, False
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK_ROWS", chunk)
        with pytest.raises(UserError, match=rf"rewards: row {row} "):
            Transitions(**columns)
        with pytest.raises(UserError, match=rf"truncations: row {wrong} "):
            Transitions(**(make_transitions(lengths).columns() | flags))


@given(
    unit=st.floats(-9, 9).map(lambda power: 10.0**power),
    offset=st.floats(-1e3, 1e3),
    constant=st.floats(-1e6, 1e6, width=32, allow_subnormal=False),
)
def test_the_spread_of_observations_follows_their_unit(
    unit: float, offset: float, constant: float
) -> None:
    rng = np.random.default_rng(0)
    columns = make_transitions([200]).columns()
    values = (unit * (rng.normal(size=(200, 3)) + offset)).astype(np.float32)
    values[:, 1] = constant
    # Rounding alone: two neighbours among the numbers that float32 knows.
    values[:, 2] = np.where(
        rng.random(200) < 0.5, np.float32(constant), np.nextafter(np.float32(constant), np.inf)
    )
    mean, std = observation_statistics(Transitions(**(columns | {"observations": values})))
    np.testing.assert_allclose(std[0], values[:, 0].astype(np.float64).std(), rtol=1e-3)
    np.testing.assert_allclose(std[1:], 1.0)
    np.testing.assert_allclose(mean, values.astype(np.float64).mean(axis=0), rtol=1e-5, atol=1e-30)


def test_observation_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK_ROWS", 7)
    columns = make_transitions([40, 1, 30]).columns()
    observations = columns["observations"] * np.float32(3) + np.float32(100)
    observations[:, 1] = 0.01
    mean, std = observation_statistics(Transitions(**(columns | {"observations": observations})))
    assert mean.dtype == std.dtype == np.float32
    np.testing.assert_allclose(mean, observations.astype(np.float64).mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(std[[0, 2]], observations[:, [0, 2]].astype(float).std(0), rtol=1e-5)
    assert std[1] == 1.0
