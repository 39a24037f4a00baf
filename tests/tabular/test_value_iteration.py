from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qss_offline.tabular.gridworld import cliffworld, gridworld
from qss_offline.tabular.mdp import TabularMDP, from_probabilities
from qss_offline.tabular.value_iteration import expected_return, solve_qsa, solve_qss
from tests.tabular.mdps import from_next_states

GAMMA = 0.9


@st.composite
def deterministic_mdps(draw: st.DrawFn) -> TabularMDP:
    num_states = draw(st.integers(2, 8))
    num_actions = draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return from_next_states(
        rng.integers(0, num_states, (num_states, num_actions)),
        rng.normal(size=(num_states, num_states)),
        rng.random(num_states) < 0.2,
    )


@st.composite
def stochastic_mdps(draw: st.DrawFn) -> TabularMDP:
    num_states = draw(st.integers(2, 6))
    num_actions = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weights = rng.random((num_states, num_actions, num_states))
    weights *= rng.random(weights.shape) < 0.6
    weights[..., 0] += 0.01
    return from_probabilities(
        weights / weights.sum(axis=2, keepdims=True),
        rng.normal(size=(num_states, num_states)),
        rng.random(num_states) < 0.2,
    )


@settings(max_examples=100)
@given(deterministic_mdps())
def test_theorem_2_2_1_holds_in_random_deterministic_mdps(mdp: TabularMDP) -> None:
    assert (mdp.probabilities.max(axis=2) == 1.0).all()
    qsa, qss = solve_qsa(mdp, GAMMA), solve_qss(mdp, GAMMA)
    np.testing.assert_allclose(qss.values, qsa.values, rtol=0, atol=1e-9)
    # The proof's first step: Q(s, s') = Q(s, I(s, s')), for every action in I.
    state, slot, action = np.nonzero(mdp.inverse_dynamics())
    np.testing.assert_allclose(qss.table[state, slot], qsa.table[state, action], atol=1e-9)


@settings(max_examples=50)
@given(stochastic_mdps())
def test_qss_never_underestimates_in_random_stochastic_mdps(mdp: TabularMDP) -> None:
    qsa, qss = solve_qsa(mdp, GAMMA), solve_qss(mdp, GAMMA)
    assert (qss.values >= qsa.values - 1e-9).all()


def test_the_grid_is_solved_to_the_closed_form() -> None:
    mdp = gridworld()
    steps = 20 - np.add.outer(np.arange(11), np.arange(11)).ravel()
    before_last = np.maximum(steps - 1, 0)
    expected = np.where(steps == 0, 0.0, -(1 - 0.99**before_last) / 0.01 + 0.99**before_last)
    np.testing.assert_allclose(solve_qsa(mdp).values, expected, atol=1e-9)
    np.testing.assert_array_equal(solve_qsa(mdp).values, solve_qss(mdp).values)


def test_slip_lowers_q_of_s_a_and_leaves_q_of_s_s_alone() -> None:
    firm = solve_qss(gridworld()).values
    distances = []
    for slip in (0.0, 0.25, 0.5, 0.75, 1.0):
        mdp = gridworld(slip=slip)
        qss = solve_qss(mdp).values
        np.testing.assert_allclose(qss, firm, atol=1e-9)
        distances.append(float(np.linalg.norm(qss - solve_qsa(mdp).values)))
    assert distances[0] == pytest.approx(0.0, abs=1e-9)
    assert (np.diff(distances) > 0).all()


def test_copies_and_permutations_leave_the_values_alone() -> None:
    values = solve_qsa(gridworld()).values
    for mdp in (gridworld(copies=10), gridworld(permutation=(3, 2, 1, 0))):
        np.testing.assert_allclose(solve_qsa(mdp).values, values, atol=1e-12)
        np.testing.assert_allclose(solve_qss(mdp).values, values, atol=1e-12)


def test_on_the_cliff_each_believes_in_another_route() -> None:
    mdp = cliffworld()
    # QSA risks one windy step to leave the edge: 12 steps. QSS sees no risk: 10 steps along it.
    assert solve_qsa(mdp).values[mdp.start] == pytest.approx(0.5 * 0.99**11)
    assert solve_qss(mdp).values[mdp.start] == pytest.approx(0.99**9)


def test_expected_return_counts_the_windy_steps() -> None:
    mdp = cliffworld()
    up, down, right = np.eye(4)[[0, 1, 3]]
    along_the_edge = np.tile(right, (mdp.num_states, 1))
    assert expected_return(mdp, along_the_edge) == pytest.approx(0.5**10)
    around = np.tile(right, (mdp.num_states, 1))
    around[mdp.start] = up
    around[9 * 11 + 10] = down
    assert expected_return(mdp, around) == pytest.approx(0.5)


def test_expected_return_respects_the_time_limit() -> None:
    mdp = gridworld(max_episode_steps=7)
    assert expected_return(mdp, np.tile(np.eye(4)[0], (mdp.num_states, 1))) == -7.0
