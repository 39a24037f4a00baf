from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from qss_offline.tabular.gridworld import cliffworld, gridworld
from qss_offline.tabular.inverse import InverseDynamics
from qss_offline.tabular.learners import QSA, QSS, Settings
from qss_offline.tabular.lockstep import Curves, Schedule, Transitions, learn
from qss_offline.tabular.value_iteration import solve_qsa, solve_qss
from qss_offline.tabular.worlds import Worlds
from tests.tabular.mdps import from_next_states

SCHEDULE = Schedule(seeds=(0, 1, 2), steps=3_000, evaluate_every=1_000, epsilon_steps=2_000)
FAST = Settings(alpha=0.5)

Make = Callable[[Worlds, int, Settings], QSA | QSS]


def make_qsa(worlds: Worlds, seeds: int, settings: Settings) -> QSA:
    return QSA(worlds, seeds, settings)


def make_qss(worlds: Worlds, seeds: int, settings: Settings) -> QSS:
    return QSS(worlds, seeds, settings, InverseDynamics.given(worlds, seeds))


def make_learning_qss(worlds: Worlds, seeds: int, settings: Settings) -> QSS:
    return QSS(worlds, seeds, settings, InverseDynamics.learned(worlds, seeds))


EVERY_LEARNER = pytest.mark.parametrize("make", [make_qsa, make_qss, make_learning_qss])


def corridor() -> Worlds:
    """States 0, 1, 2; action 0 goes left, 1 goes right, 2 is the goal."""
    next_states = np.array([[0, 1], [0, 2], [2, 2]])
    rewards = np.full((3, 3), -1.0)
    rewards[:, 2] = 10.0
    return Worlds([from_next_states(next_states, rewards, np.array([False, False, True]))])


def transition(
    cell: int, action: int, slot: int, reward: float, next_cell: int, terminated: bool
) -> Transitions:
    return Transitions(
        np.array([cell]),
        np.array([action]),
        np.array([slot]),
        np.array([reward]),
        np.array([next_cell]),
        np.array([terminated]),
    )


def test_a_qsa_update_by_hand() -> None:
    qsa = QSA(corridor(), 1, Settings(gamma=0.9, alpha=0.25, initial_value=0.0))
    qsa.table[0] = [[1.0, 2.0], [3.0, 4.0], [50.0, 60.0]]
    qsa.update(transition(0, 1, 1, -1.0, 1, False))
    # 2 + 0.25 (−1 + 0.9 · max(3, 4) − 2)
    assert qsa.table[0, 0].tolist() == pytest.approx([1.0, 2.15])
    qsa.update(transition(1, 1, 1, 10.0, 2, True))
    # 4 + 0.25 (10 − 4): the goal's own values play no part.
    assert qsa.table[0, 1].tolist() == pytest.approx([3.0, 5.5])
    assert qsa.act(np.array([0, 1]), np.zeros(2)).tolist() == [1, 1]


def test_a_qss_update_by_hand() -> None:
    worlds = corridor()
    qss = make_qss(worlds, 1, Settings(gamma=0.9, alpha=0.25, initial_value=0.0))
    # N(0) = {0, 1}, N(1) = {0, 2}, N(2) = {2} and padding.
    assert worlds.is_neighbour[0].tolist() == [[True, True], [True, True], [True, False]]
    qss.table[0] = [[1.0, 2.0], [3.0, 4.0], [50.0, -np.inf]]
    qss.update(transition(0, 1, 1, -1.0, 1, False))
    # Eq. 2: Q(0, 1) + 0.25 (−1 + 0.9 max_s'' Q(1, s'') − Q(0, 1)); Eq. 5: the same by Q(1, τ(1)).
    assert qss.table[0, 0].tolist() == pytest.approx([1.0, 2.15])
    qss.update(transition(1, 1, 1, 10.0, 2, True))
    assert qss.table[0, 1].tolist() == pytest.approx([3.0, 5.5])
    # Eq. 3: τ(0) is state 1 and τ(1) state 2, both in slot 1; Eq. 4: action 1 leads there.
    assert qss.propose(np.array([0, 1])).tolist() == [1, 1]
    assert qss.act(np.array([0, 1]), np.array([0.0, 0.99])).tolist() == [1, 1]


def test_what_one_action_shows_qss_knows_of_its_copies() -> None:
    worlds = Worlds([gridworld(3, copies=4)])
    qss = make_qss(worlds, 1, FAST)
    assert qss.table.shape == (1, 9, worlds.max_neighbours)
    assert make_qsa(worlds, 1, FAST).table.shape == (1, 9, 16)


def test_learned_inverse_dynamics_draw_from_observed_actions_and_evenly_before() -> None:
    worlds = Worlds([gridworld(3, copies=2)])
    learned = InverseDynamics.learned(worlds, 1)
    draws = (np.arange(800) + 0.5) / 800
    cell, slot = np.full(800, 4), np.zeros(800, dtype=np.int64)
    unseen = learned.sample(cell, slot, draws)
    assert np.bincount(unseen, minlength=8).tolist() == [100] * 8
    for action in (4, 0, 4):
        learned.see(np.array([4]), np.array([0]), np.array([action]))
    seen = learned.sample(cell, slot, draws)
    assert np.bincount(seen, minlength=8).tolist() == [400, 0, 0, 0, 400, 0, 0, 0]
    # Another state's set is still empty, and so are the other slots of this one.
    assert set(learned.sample(cell + 1, slot, draws).tolist()) == set(range(8))
    assert set(learned.sample(cell, slot + 1, draws).tolist()) == set(range(8))


def test_two_walkers_may_tell_learned_inverse_dynamics_of_one_transition() -> None:
    learned = InverseDynamics.learned(Worlds([gridworld(3, copies=2)]), 1)
    together = np.array([4, 4, 4]), np.array([0, 0, 0])
    for _ in range(2):
        learned.see(*together, np.array([0, 4, 0]))
    draws = (np.arange(10) + 0.5) / 10
    answers = learned.sample(np.full(10, 4), np.zeros(10, dtype=np.int64), draws)
    assert np.bincount(answers).tolist() == [5, 0, 0, 0, 5]


def test_an_empty_set_draws_only_actions_that_the_world_has() -> None:
    worlds = Worlds([gridworld(3), gridworld(3, copies=3)])
    learned = InverseDynamics.learned(worlds, 1)
    draws = np.linspace(0.0, 0.999, 500)
    nothing = np.zeros(500, dtype=np.int64)
    assert set(learned.sample(nothing, nothing, draws).tolist()) == set(range(4))
    assert set(learned.sample(nothing + 9, nothing, draws).tolist()) == set(range(12))


def test_given_inverse_dynamics_forget_and_learn_nothing() -> None:
    worlds = Worlds([gridworld(3)])
    given = InverseDynamics.given(worlds, 1)
    upwards = np.array([0])
    given.see(np.array([4]), upwards, np.array([3]))
    draws = np.linspace(0.0, 0.999, 50)
    answers = given.sample(np.full(50, 4), np.zeros(50, dtype=np.int64), draws)
    assert set(answers.tolist()) == {0}


@EVERY_LEARNER
def test_learned_values_converge_to_value_iteration(make: Make) -> None:
    mdp = gridworld(5)
    worlds = Worlds([mdp])
    schedule = Schedule(tuple(range(3)), 16_000, 8_000, epsilon_end=1.0)
    curves = learn(make(worlds, 3, FAST), worlds, schedule)
    exact = solve_qsa(mdp).values
    np.testing.assert_allclose(
        curves.values[-1, 0], np.broadcast_to(exact, (3, exact.size)), atol=1e-6
    )
    assert curves.returns[-1].tolist() == [[-6.0] * 3]


def test_the_deterministic_case_is_learned_equal_by_both() -> None:
    mdp = gridworld(5)
    worlds = Worlds([mdp])
    schedule = Schedule(tuple(range(3)), 16_000, 16_000, epsilon_end=1.0)
    qsa = learn(make_qsa(worlds, 3, FAST), worlds, schedule).values[-1]
    qss = learn(make_qss(worlds, 3, FAST), worlds, schedule).values[-1]
    np.testing.assert_allclose(qss, qsa, rtol=0, atol=1e-6)


def test_under_slip_qss_learns_the_best_case() -> None:
    mdp = gridworld(4, slip=0.5)
    worlds = Worlds([mdp])
    schedule = Schedule(tuple(range(4)), 12_000, 12_000, walkers=8, epsilon_end=1.0)
    settings = Settings(alpha=0.02)
    qsa = learn(make_qsa(worlds, 4, settings), worlds, schedule).values[-1, 0]
    qss = learn(make_qss(worlds, 4, settings), worlds, schedule).values[-1, 0]
    assert (qss >= qsa - 1e-9).all()
    np.testing.assert_allclose(qss, np.tile(solve_qss(mdp).values, (4, 1)), atol=0.01)
    # A constant α leaves noise, and a maximum over noise lies a little high.
    np.testing.assert_allclose(qsa.mean(axis=0), solve_qsa(mdp).values, atol=0.5)
    assert (qss[:, 0] - qsa[:, 0] > 2.0).all()


def columns(curves: Curves, seeds: slice) -> tuple[np.ndarray, ...]:
    return (
        curves.episodes[:, :, seeds],
        curves.returns[:, :, seeds],
        curves.values[:, :, seeds],
    )


@EVERY_LEARNER
@pytest.mark.parametrize("walkers", [1, 3])
def test_a_seed_alone_is_the_same_as_in_company(make: Make, walkers: int) -> None:
    worlds = Worlds([gridworld(4, slip=0.2), gridworld(4, copies=3)])
    schedule = replace(SCHEDULE, seeds=(7, 0, 3), walkers=walkers, trials=2)
    stack = learn(make(worlds, 3, FAST), worlds, schedule)
    for place, seed in enumerate(schedule.seeds):
        alone = learn(make(worlds, 1, FAST), worlds, replace(schedule, seeds=(seed,)))
        for mine, theirs in zip(
            columns(alone, slice(None)), columns(stack, slice(place, place + 1)), strict=True
        ):
            np.testing.assert_array_equal(mine, theirs)


@EVERY_LEARNER
def test_a_world_alone_is_the_same_as_in_a_stack(make: Make) -> None:
    mdps = [gridworld(4), gridworld(4, copies=5)]
    stack = learn(make(Worlds(mdps), 3, FAST), Worlds(mdps), SCHEDULE)
    for place, mdp in enumerate(mdps):
        worlds = Worlds([mdp])
        alone = learn(make(worlds, 3, FAST), worlds, SCHEDULE)
        np.testing.assert_array_equal(alone.returns[:, 0], stack.returns[:, place])
        np.testing.assert_array_equal(alone.values[:, 0], stack.values[:, place])


@EVERY_LEARNER
def test_how_often_one_evaluates_changes_nothing_that_is_learned(make: Make) -> None:
    worlds = Worlds([gridworld(4, slip=0.2)])
    often = learn(make(worlds, 3, FAST), worlds, replace(SCHEDULE, evaluate_every=500, trials=3))
    once = learn(make(worlds, 3, FAST), worlds, replace(SCHEDULE, evaluate_every=3_000))
    np.testing.assert_array_equal(often.values[-1], once.values[-1])
    np.testing.assert_array_equal(often.episodes[-1], once.episodes[-1])


def test_the_phase_and_the_seed_change_what_is_drawn() -> None:
    worlds = Worlds([gridworld(4)])
    first = learn(make_qsa(worlds, 3, FAST), worlds, SCHEDULE)
    second = learn(make_qsa(worlds, 3, FAST), worlds, replace(SCHEDULE, phase=1))
    assert (first.values[-1] != second.values[-1]).any()
    assert (first.values[-1, 0, 0] != first.values[-1, 0, 1]).any()


def test_exploration_fades_in_a_straight_line() -> None:
    schedule = Schedule((0,), 10, 10)
    epsilon = schedule.epsilon(np.array([0, 50_000, 100_000, 900_000]))
    np.testing.assert_allclose(epsilon, [1.0, 0.55, 0.1, 0.1])


def test_the_last_step_is_evaluated_even_between_two_evaluations() -> None:
    worlds = Worlds([gridworld(4)])
    curves = learn(make_qsa(worlds, 2, FAST), worlds, Schedule((0, 1), 250, 100))
    assert curves.steps.tolist() == [0, 100, 200, 250]
    assert curves.returns.shape == (4, 1, 2)


def test_an_episode_cut_off_by_the_time_limit_starts_over_and_bootstraps() -> None:
    mdp = gridworld(11, max_episode_steps=10)
    worlds = Worlds([mdp])
    curves = learn(make_qsa(worlds, 2, FAST), worlds, Schedule((0, 1), 200, 100))
    # The goal is 20 steps away, so every episode is cut off after 10.
    assert curves.episodes[-1].tolist() == [[20, 20]]
    assert curves.returns[-1].tolist() == [[-10.0, -10.0]]
    assert (curves.values[-1, 0, :, 0] < -1.0).all()


def test_evaluation_averages_over_its_trials() -> None:
    worlds = Worlds([cliffworld(5)])
    schedule = Schedule(tuple(range(20)), 10_000, 10_000, trials=10, walkers=4)
    returns = learn(make_qsa(worlds, 20, Settings(alpha=0.1)), worlds, schedule).returns[-1, 0]
    assert set(np.round(returns * 10).tolist()) <= set(range(11))
    np.testing.assert_allclose(returns * 10, np.round(returns * 10))
    assert returns.mean() == pytest.approx(0.5, abs=0.12)
