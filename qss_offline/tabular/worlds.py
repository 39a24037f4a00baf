"""Several worlds laid end to end, so that one step of NumPy moves walkers in all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qss_offline.tabular.mdp import BoolArray, FloatArray, IntArray, TabularMDP


class Worlds:
    """Worlds of one shape but for the number of actions; those with fewer are padded.

    Attributes:
        count: W, how many worlds there are.
        num_states: S, in each of them.
        max_neighbours: N, in each of them.
        num_actions: `(W,)`, how many actions may be chosen in each.
        max_actions: A, the largest of these.
        start: `(W,)`.
        max_episode_steps: `(W,)`.
        terminal: `(W, S)`.
        is_neighbour: `(W, S, N)`.
        is_action: `(W, A)`.
        inverse_dynamics: `(W, S, N, A)`, see `TabularMDP.inverse_dynamics`.
    """

    def __init__(self, worlds: Sequence[TabularMDP]) -> None:
        if len({mdp.neighbours.shape for mdp in worlds}) != 1:
            raise ValueError("worlds that step together must agree in states and neighbours")
        self.count = len(worlds)
        self.num_states, self.max_neighbours = worlds[0].neighbours.shape
        self.num_actions = np.array([mdp.num_actions for mdp in worlds])
        self.max_actions = int(self.num_actions.max())
        self.start = np.array([mdp.start for mdp in worlds])
        self.max_episode_steps = np.array([mdp.max_episode_steps for mdp in worlds])
        self.terminal = np.stack([mdp.terminal for mdp in worlds])
        self.is_neighbour = np.stack([mdp.is_neighbour for mdp in worlds])
        self.is_action = np.arange(self.max_actions) < self.num_actions[:, None]

        shape = (self.count, self.num_states, self.max_neighbours, self.max_actions)
        self.inverse_dynamics = np.zeros(shape, dtype=np.bool_)
        chances = np.zeros(shape)
        for index, mdp in enumerate(worlds):
            known = np.s_[index, :, :, : mdp.num_actions]
            self.inverse_dynamics[known] = mdp.inverse_dynamics()
            chances[known] = mdp.probabilities.transpose(0, 2, 1)

        self._neighbours = np.stack([mdp.neighbours for mdp in worlds]).ravel()
        self._rewards = np.stack([mdp.rewards for mdp in worlds]).ravel()
        self._terminated = np.stack([mdp.terminal[mdp.neighbours] for mdp in worlds]).ravel()
        # A draw lands in the slot behind as many thresholds as it passes; the last slot needs
        # none. Rounding must not leave any probability for padding behind the last neighbour.
        thresholds = chances.cumsum(axis=2)[:, :, :-1]
        thresholds[thresholds > 1.0 - 1e-9] = 1.0
        # Slots come first: along the first axis NumPy compares and adds fastest.
        self._thresholds = np.ascontiguousarray(
            thresholds.transpose(2, 0, 1, 3).reshape(self.max_neighbours - 1, -1)
        )

    def step(
        self, place: IntArray, action: IntArray, uniform: FloatArray
    ) -> tuple[IntArray, IntArray, FloatArray, BoolArray]:
        """Return slot, next state, reward and whether that ended the episode, each `(rows,)`.

        Args:
            place: world · S + state of every walker.
            action: what it does.
            uniform: a draw from [0, 1) that decides the next state.
        """
        thresholds = self._thresholds.take(place * self.max_actions + action, axis=1)
        slot = (uniform >= thresholds).sum(axis=0)
        edge = place * self.max_neighbours + slot
        return slot, self._neighbours[edge], self._rewards[edge], self._terminated[edge]
