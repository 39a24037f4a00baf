from __future__ import annotations

import numpy as np
import pytest

from qss_offline.errors import UserError
from qss_offline.tabular.gridworld import cliffworld, gridworld
from qss_offline.tabular.mdp import TabularMDP, from_probabilities
from qss_offline.tabular.worlds import Worlds
from tests.tabular.mdps import from_next_states


def transition_probability(mdp: TabularMDP, state: int, action: int, next_state: int) -> float:
    slots = mdp.neighbours[state] == next_state
    return float(mdp.probabilities[state, action, slots & mdp.is_neighbour[state]].sum())


def reward(mdp: TabularMDP, state: int, next_state: int) -> float:
    slot = np.flatnonzero((mdp.neighbours[state] == next_state) & mdp.is_neighbour[state])
    return float(mdp.rewards[state, slot.item()])


def test_the_grid_moves_in_four_directions_and_stops_at_its_walls() -> None:
    mdp = gridworld()
    assert mdp.num_states == 121
    assert mdp.num_actions == 4
    assert (mdp.probabilities.max(axis=2) == 1.0).all()
    middle = 5 * 11 + 5
    for action, target in enumerate((middle - 11, middle + 11, middle - 1, middle + 1)):
        assert transition_probability(mdp, middle, action, target) == 1.0
    assert transition_probability(mdp, 0, 0, 0) == transition_probability(mdp, 0, 2, 0) == 1.0
    # N of the corner: itself, right of it and below it; two walls make one neighbour.
    assert mdp.neighbours[0][mdp.is_neighbour[0]].tolist() == [0, 1, 11]


def test_rewards_are_minus_one_until_the_goal() -> None:
    mdp = gridworld()
    assert mdp.start == 0
    assert np.flatnonzero(mdp.terminal).tolist() == [120]
    assert reward(mdp, 0, 1) == -1.0
    assert reward(mdp, 119, 120) == 1.0
    assert reward(mdp, 120, 120) == 0.0


@pytest.mark.parametrize("slip", [0.0, 0.3, 1.0])
def test_slipping_executes_a_random_action(slip: float) -> None:
    mdp = gridworld(slip=slip)
    middle = 5 * 11 + 5
    assert transition_probability(mdp, middle, 3, middle + 1) == pytest.approx(
        1.0 - slip + slip / 4
    )
    assert transition_probability(mdp, middle, 3, middle - 1) == pytest.approx(slip / 4)
    # Two of four directions run into the corner's walls.
    assert transition_probability(mdp, 0, 3, 0) == pytest.approx(slip / 2)
    np.testing.assert_allclose(mdp.probabilities.sum(axis=2), 1.0)


def test_copies_and_permutations_change_actions_but_not_neighbours() -> None:
    plain, copied = gridworld(), gridworld(copies=5)
    shuffled = gridworld(permutation=(3, 2, 1, 0))
    assert copied.num_actions == 20
    for action in range(20):
        np.testing.assert_array_equal(
            copied.probabilities[:, action], plain.probabilities[:, action % 4]
        )
    for action in range(4):
        np.testing.assert_array_equal(
            shuffled.probabilities[:, action], plain.probabilities[:, 3 - action]
        )
    for other in (copied, shuffled):
        np.testing.assert_array_equal(other.neighbours, plain.neighbours)
        np.testing.assert_array_equal(other.rewards, plain.rewards)


def test_the_wind_blows_off_the_last_row_only() -> None:
    mdp = cliffworld()
    assert (mdp.num_states, mdp.start) == (132, 110)
    edge, abyss, above = 110 + 4, 121 + 4, 99 + 4
    assert transition_probability(mdp, edge, 3, edge + 1) == 0.5
    assert transition_probability(mdp, edge, 3, abyss) == 0.5
    assert transition_probability(mdp, edge, 0, above) == 0.5
    assert transition_probability(mdp, edge, 1, abyss) == 1.0
    assert transition_probability(mdp, above, 3, above + 1) == 1.0
    assert reward(mdp, edge, edge + 1) == reward(mdp, edge, abyss) == 0.0
    assert reward(mdp, 119, 120) == 1.0
    assert np.flatnonzero(mdp.terminal).tolist() == list(range(120, 132))


def test_the_inverse_dynamics_name_every_action_that_is_meant_to_lead_there() -> None:
    mdp = gridworld(copies=2, slip=0.4)
    inverse = mdp.inverse_dynamics()
    corner = {
        int(state): np.flatnonzero(inverse[0, slot]).tolist()
        for slot, state in enumerate(mdp.neighbours[0])
        if mdp.is_neighbour[0, slot]
    }
    assert corner == {0: [0, 2, 4, 6], 1: [3, 7], 11: [1, 5]}
    assert not inverse[~mdp.is_neighbour].any()
    cliff = cliffworld()
    fall = int(np.flatnonzero(cliff.neighbours[114] == 125).item())
    assert np.flatnonzero(cliff.inverse_dynamics()[114, fall]).tolist() == [1]


def test_terminal_states_stay_put_whatever_the_arrays_say() -> None:
    mdp = from_next_states(
        np.array([[1], [0]]), np.full((2, 2), 7.0), np.array([False, True]), start=0
    )
    assert mdp.neighbours.tolist() == [[1], [1]]
    assert mdp.rewards.tolist() == [[7.0], [0.0]]


def test_the_arrays_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        gridworld(3).rewards[0, 0] = 5.0


def test_a_step_of_stacked_worlds_follows_the_probabilities() -> None:
    worlds = Worlds([gridworld(5, slip=0.5), gridworld(5, copies=3)])
    draws = (np.arange(4000) + 0.5) / 4000
    middle = 2 * 5 + 2
    slippery = np.full(4000, middle)
    slot, next_state, gain, ended = worlds.step(slippery, np.full(4000, 3), draws)
    states, counts = np.unique(next_state, return_counts=True)
    assert states.tolist() == [middle - 5, middle - 1, middle + 1, middle + 5]
    np.testing.assert_allclose(counts / 4000, [0.125, 0.125, 0.625, 0.125], atol=1e-3)
    np.testing.assert_array_equal(gridworld(5).neighbours[middle][slot], next_state)
    assert set(gain.tolist()) == {-1.0}
    assert not ended.any()

    second_world = np.array([25 + 23])
    _, next_state, gain, ended = worlds.step(second_world, np.array([11]), np.array([0.999999]))
    assert (next_state.item(), gain.item(), ended.item()) == (24, 1.0, True)


def test_worlds_of_different_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="agree"):
        Worlds([gridworld(4), gridworld(5)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 1}, "size must be at least 2, not 1"),
        ({"slip": 1.5}, "slip must be a probability between 0 and 1, not 1.5"),
        ({"copies": 0}, "copies must be at least 1, not 0"),
        ({"permutation": (0, 1, 2, 2)}, "permutation must hold each of 0 to 3 once"),
    ],
)
def test_bad_grids_are_refused_in_one_line(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        gridworld(**arguments)  # type: ignore[arg-type]


def test_bad_cliffs_are_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="wind must be a probability"):
        cliffworld(wind=-0.1)
    with pytest.raises(UserError, match="size must be at least 2"):
        cliffworld(size=1)


def test_a_sliver_of_rounding_never_reaches_padding() -> None:
    # Ten times 0.1 adds up to less than one in floating point; padding follows state 0.
    probabilities = np.zeros((11, 1, 11))
    probabilities[0, 0, :10] = 0.1
    probabilities[1:, 0, :] = 1.0 / 11.0
    mdp = from_probabilities(probabilities, np.zeros((11, 11)), np.zeros(11, dtype=np.bool_))
    worlds = Worlds([mdp])
    slot, _, _, _ = worlds.step(np.array([0]), np.array([0]), np.array([np.nextafter(1.0, 0.0)]))
    assert slot.item() == 9
