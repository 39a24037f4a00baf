"""Inverse dynamics I(s, s') in a table: a set of actions for every state and neighbour."""

from __future__ import annotations

import numpy as np

from qss_offline.tabular.mdp import BoolArray, FloatArray, IntArray
from qss_offline.tabular.worlds import Worlds


class InverseDynamics:
    """I(s, s'), given from the start, or learned as the set of actions that led from s to s'.

    An answer is drawn evenly from the set, or evenly from all actions while the set is empty
    (section 3.3). Nothing is taken out of a set again: where actions slip, a learned one would
    come to hold them all. So the stochastic experiments are given the IDM, as the authors' are.

    Args:
        known: `(tables, S, N, A)`, what the sets hold to begin with.
        num_actions: `(tables,)`, how many of the A actions there are in each table's world.
        learns: whether `see` adds to the sets.
    """

    def __init__(self, known: BoolArray, num_actions: IntArray, learns: bool) -> None:
        _, self._num_states, self._max_neighbours, self._max_actions = known.shape
        self._num_actions = num_actions
        self._learns = learns
        # An edge is cell · N + slot. Each has its set twice: as a mask, to ask whether an action
        # is in it, and as a list with a length, to draw from it without searching the mask.
        self._known = known.reshape(-1, self._max_actions).copy()
        self._size = self._known.sum(axis=1)
        self._listed = np.argsort(~self._known, axis=1, kind="stable").astype(np.int16)

    @classmethod
    def given(cls, worlds: Worlds, seeds: int) -> InverseDynamics:
        """Return the true inverse dynamics of each of `worlds`, for each of so many seeds."""
        known = np.repeat(worlds.inverse_dynamics, seeds, axis=0)
        return cls(known, np.repeat(worlds.num_actions, seeds), learns=False)

    @classmethod
    def learned(cls, worlds: Worlds, seeds: int) -> InverseDynamics:
        """Return empty sets, which fill with observed actions."""
        unknown = np.zeros_like(np.repeat(worlds.inverse_dynamics, seeds, axis=0))
        return cls(unknown, np.repeat(worlds.num_actions, seeds), learns=True)

    def sample(self, cell: IntArray, slot: IntArray, uniform: FloatArray) -> IntArray:
        """Return an action `(rows,)` meant to lead from each cell to its neighbour in `slot`."""
        edge = cell * self._max_neighbours + slot
        size = self._size.take(edge)
        action: IntArray = self._listed[edge, (uniform * size).astype(np.int64)].astype(np.int64)
        empty = size == 0
        if empty.any():
            choices = self._num_actions[cell[empty] // self._num_states]
            action[empty] = (uniform[empty] * choices).astype(np.int64)
        return action

    def see(self, cell: IntArray, slot: IntArray, action: IntArray) -> None:
        """Remember that `action` led from each cell to its neighbour in `slot`."""
        if not self._learns:
            return
        edge = cell * self._max_neighbours + slot
        new = ~self._known[edge, action]
        if new.any():
            # Of two walkers with news for one set, the first is heard and the other another time.
            grown, first = np.unique(edge[new], return_index=True)
            added = action[new][first]
            self._listed[grown, self._size[grown]] = added
            self._known[grown, added] = True
            self._size[grown] += 1
