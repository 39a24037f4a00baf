"""Exact answers to hold the learners against: both value functions by value iteration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from qss_offline.tabular.mdp import FloatArray, TabularMDP


@dataclass(frozen=True)
class Solution:
    """An optimal table and the states' values it implies.

    Attributes:
        table: `(S, A)` for Q(s, a), `(S, N)` for Q(s, s'); −inf in the slots of no neighbour.
        values: `(S,)`, the maximum of each row; 0 in terminal states.
    """

    table: FloatArray
    values: FloatArray


def solve_qsa(mdp: TabularMDP, gamma: float = 0.99) -> Solution:
    """Solve Q*(s, a) = E[r + γ max_a' Q*(s', a') | s, a]."""

    def backup(values: FloatArray) -> FloatArray:
        outcomes = mdp.rewards + gamma * values[mdp.neighbours]
        table: FloatArray = np.einsum("san,sn->sa", mdp.probabilities, outcomes)
        return table

    return _iterate(backup, mdp)


def solve_qss(mdp: TabularMDP, gamma: float = 0.99) -> Solution:
    """Solve Eq. 1, Q*(s, s') = r + γ max_{s''∈N(s')} Q*(s', s'').

    How likely a neighbour is doesn't enter: under slip this is the best case, not the expected.
    """

    def backup(values: FloatArray) -> FloatArray:
        outcomes = mdp.rewards + gamma * values[mdp.neighbours]
        return np.where(mdp.is_neighbour, outcomes, -np.inf)

    return _iterate(backup, mdp)


def _iterate(backup: Callable[[FloatArray], FloatArray], mdp: TabularMDP) -> Solution:
    """Repeat `backup` until no value moves by more than 1e-12."""
    values = np.zeros(mdp.num_states)
    while True:
        table = backup(values)
        updated = np.where(mdp.terminal, 0.0, table.max(axis=1))
        change = float(np.abs(updated - values).max())
        values = updated
        if change <= 1e-12:
            return Solution(table, values)


def expected_return(mdp: TabularMDP, policy: FloatArray) -> float:
    """Return the expected undiscounted return of an episode under `policy` `(S, A)`, exactly."""
    chances = np.einsum("sa,san->sn", policy, mdp.probabilities)
    gains = (chances * mdp.rewards).sum(axis=1)
    values = np.zeros(mdp.num_states)
    for _ in range(mdp.max_episode_steps):
        values = np.where(mdp.terminal, 0.0, gains + (chances * values[mdp.neighbours]).sum(axis=1))
    return float(values[mdp.start])
