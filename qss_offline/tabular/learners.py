"""Tabular QSA and QSS: the Bellman updates and policies of sections 2 and 3.

| in the paper | here |
|---|---|
| Q-learning for Q(s, a) (no number) | `QSA.update` |
| Eq. 2, the Bellman update of Q(s, s') | `bellman_update`, which QSA shares |
| Eq. 3, τ(s) = argmax_{s'∈N(s)} Q(s, s') | `QSS.propose` |
| Eq. 4, π(s) = I(s, τ(s)) | `QSS.act` |
| Eq. 5, Eq. 2 with γ Q(s', τ(s')) for its maximum | `QSS.update` |

Deviations from the paper and the authors' code:
- Ties go to the lowest number, as with the authors, but neighbours are numbered by state here and
  by direction there. Two directions that both run into a corner are one neighbour.
- The step size α is an argument: the authors use 0.01 everywhere. What each experiment uses, and
  why, stands in `experiments`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qss_offline.tabular.inverse import InverseDynamics
from qss_offline.tabular.lockstep import Transitions
from qss_offline.tabular.mdp import BoolArray, FloatArray, IntArray
from qss_offline.tabular.worlds import Worlds


@dataclass(frozen=True)
class Settings:
    """What QSA and QSS have in common; the defaults are the authors'.

    Attributes:
        gamma: γ.
        alpha: α.
        initial_value: what every entry of a table begins with. It lies above the true values, so
            the greedy policy tries what it doesn't know yet.
    """

    gamma: float = 0.99
    alpha: float = 0.01
    initial_value: float = 0.001


def bellman_update(
    table: FloatArray,
    index: IntArray,
    reward: FloatArray,
    next_value: FloatArray,
    terminated: BoolArray,
    settings: Settings,
) -> None:
    """Do Eq. 2 in place: Q ← Q + α [r + γ max Q(s', ·) − Q], without the max at an end.

    Args:
        table: every entry of every table, flat.
        index: `(rows,)`, the entries to update.
        reward: `(rows,)`, r.
        next_value: `(rows,)`, the maximum over what can be done in s'.
        terminated: `(rows,)`, whether s' is terminal.
        settings: γ and α.
    """
    target = reward + settings.gamma * np.where(terminated, 0.0, next_value)
    old = table[index]
    table[index] = old + settings.alpha * (target - old)


class QSA:
    """Q-learning with a table Q(s, a) for every world and seed.

    Args:
        worlds: the worlds, W.
        seeds: how many learners each world has, K.
        settings: γ, α and the initial value.

    Attributes:
        table: `(W · K, S, A)`; −inf for actions that a world doesn't have.
    """

    def __init__(self, worlds: Worlds, seeds: int, settings: Settings) -> None:
        self._settings = settings
        valid = np.repeat(worlds.is_action, seeds, axis=0)[:, None, :]
        shape = (len(valid), worlds.num_states, worlds.max_actions)
        self.table = np.where(np.broadcast_to(valid, shape), settings.initial_value, -np.inf)
        self._by_cell = self.table.reshape(-1, worlds.max_actions)
        self._flat = self.table.reshape(-1)

    def values(self) -> FloatArray:
        """Return max_a Q(s, a) `(W · K, S)`."""
        values: FloatArray = self.table.max(axis=2)
        return values

    def act(self, cell: IntArray, uniform: FloatArray) -> IntArray:
        """Return π(s) = argmax_a Q(s, a); the draws aren't needed."""
        action: IntArray = self._by_cell.take(cell, axis=0).argmax(axis=1)
        return action

    def update(self, transitions: Transitions) -> None:
        """Update Q(s, a) by Q-learning."""
        columns = self._by_cell.shape[1]
        best = self._by_cell.take(transitions.next_cell, axis=0).argmax(axis=1)
        bellman_update(
            self._flat,
            transitions.cell * columns + transitions.action,
            transitions.reward,
            self._flat.take(transitions.next_cell * columns + best),
            transitions.terminated,
            self._settings,
        )


class QSS:
    """QSS-learning with a table Q(s, s') for every world and seed.

    Args:
        worlds: the worlds, W; N(s) is taken from them.
        seeds: how many learners each world has, K.
        settings: γ, α and the initial value.
        inverse_dynamics: I(s, s').

    Attributes:
        table: `(W · K, S, N)`; −inf in the slots of no neighbour.
        inverse_dynamics: may be exchanged, as after a transfer; the values don't depend on it.
    """

    def __init__(
        self, worlds: Worlds, seeds: int, settings: Settings, inverse_dynamics: InverseDynamics
    ) -> None:
        self._settings = settings
        valid = np.repeat(worlds.is_neighbour, seeds, axis=0)
        self.table = np.where(valid, settings.initial_value, -np.inf)
        self.inverse_dynamics = inverse_dynamics
        self._by_cell = self.table.reshape(-1, worlds.max_neighbours)
        self._flat = self.table.reshape(-1)

    def values(self) -> FloatArray:
        """Return max_{s'∈N(s)} Q(s, s') `(W · K, S)`."""
        values: FloatArray = self.table.max(axis=2)
        return values

    def propose(self, cell: IntArray) -> IntArray:
        """Return the slot of τ(s) = argmax_{s'∈N(s)} Q(s, s') (Eq. 3)."""
        slot: IntArray = self._by_cell.take(cell, axis=0).argmax(axis=1)
        return slot

    def act(self, cell: IntArray, uniform: FloatArray) -> IntArray:
        """Return π(s) = I(s, τ(s)) (Eq. 4)."""
        return self.inverse_dynamics.sample(cell, self.propose(cell), uniform)

    def update(self, transitions: Transitions) -> None:
        """Update Q(s, s') towards r + γ Q(s', τ(s')) (Eq. 5), and show the IDM the action."""
        columns = self._by_cell.shape[1]
        proposal = self.propose(transitions.next_cell)
        bellman_update(
            self._flat,
            transitions.cell * columns + transitions.slot,
            transitions.reward,
            self._flat.take(transitions.next_cell * columns + proposal),
            transitions.terminated,
            self._settings,
        )
        self.inverse_dynamics.see(transitions.cell, transitions.slot, transitions.action)
