"""The worlds of sections 2 and 3: an 11×11 grid, its slippery, redundant and permuted kin, a cliff.

Where the paper says little, the definitions are those of the authors' toy problems. The step that
reaches the goal is rewarded with +1, so the best return of the 11×11 grid is 19·(−1) + 1 = −18.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qss_offline.errors import UserError
from qss_offline.tabular.mdp import FloatArray, TabularMDP, from_probabilities

MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
"""What the four directions up, down, left and right add to ⟨row, column⟩."""

GOAL_REWARD = 1.0
"""What the step into the goal is worth, in the grid and on the cliff."""


def gridworld(
    size: int = 11,
    slip: float = 0.0,
    copies: int = 1,
    permutation: Sequence[int] | None = None,
    max_episode_steps: int = 500,
) -> TabularMDP:
    """Return a `size`×`size` grid from ⟨0, 0⟩ to the far corner at −1 a step.

    State ⟨row, column⟩ has the number row · size + column. A move off the grid stays in place.

    Args:
        size: rows and columns.
        slip: the probability that a random action is executed instead of the chosen one.
        copies: how many actions each direction has; action a moves in direction a mod 4.
        permutation: action a does what action `permutation[a]` does without it.
        max_episode_steps: the time limit.
    """
    if size < 2:
        raise UserError(f"size must be at least 2, not {size}")
    if not 0.0 <= slip <= 1.0:
        raise UserError(f"slip must be a probability between 0 and 1, not {slip}")
    if copies < 1:
        raise UserError(f"copies must be at least 1, not {copies}")
    num_actions = copies * len(MOVES)
    order = np.arange(num_actions) if permutation is None else np.asarray(permutation)
    if sorted(order.tolist()) != list(range(num_actions)):
        raise UserError(f"permutation must hold each of 0 to {num_actions - 1} once")

    intended = _moves(size, size)[:, order % len(MOVES)]
    probabilities = (1.0 - slip) * intended + slip * intended.mean(axis=1, keepdims=True)
    goal = size * size - 1
    rewards = np.full((size * size, size * size), -1.0)
    rewards[:, goal] = GOAL_REWARD
    terminal = np.arange(size * size) == goal
    return from_probabilities(probabilities, rewards, terminal, 0, max_episode_steps)


def cliffworld(size: int = 11, wind: float = 0.5) -> TabularMDP:
    """Return the windy cliff of the authors' appendix: a grid with an abyss below its last row.

    The episode begins in the bottom left corner, and the goal is the bottom right one. On the
    bottom row every step falls off with probability `wind`, and a step down surely does. Falling
    ends the episode with nothing; reaching the goal ends it with +1; every other step is worth 0.
    The row of the abyss comes last: states size·size to size·(size + 1) − 1.
    """
    if size < 2:
        raise UserError(f"size must be at least 2, not {size}")
    if not 0.0 <= wind <= 1.0:
        raise UserError(f"wind must be a probability between 0 and 1, not {wind}")
    columns = np.arange(size)
    edge, abyss = (size - 1) * size + columns, size * size + columns
    probabilities = _moves(size + 1, size)
    probabilities[edge] *= 1.0 - wind
    probabilities[edge, :, abyss] += wind
    goal = int(edge[-1])
    num_states = size * (size + 1)
    rewards = np.zeros((num_states, num_states))
    rewards[:, goal] = GOAL_REWARD
    terminal = np.arange(num_states) >= size * size
    terminal[goal] = True
    return from_probabilities(probabilities, rewards, terminal, int(edge[0]))


def _moves(rows: int, columns: int) -> FloatArray:
    """Return the four moves' P(s'|s, direction) `(rows·columns, 4, rows·columns)`."""
    row, column = np.divmod(np.arange(rows * columns), columns)
    next_states = np.stack(
        [
            np.clip(row + down, 0, rows - 1) * columns + np.clip(column + right, 0, columns - 1)
            for down, right in MOVES
        ],
        axis=1,
    )
    probabilities: FloatArray = np.eye(rows * columns)[next_states]
    return probabilities
