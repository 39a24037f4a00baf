"""A Markov decision process small enough to be a few arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class TabularMDP:
    """States, actions, and for every state its neighbours N(s), in read-only arrays.

    What an action does is given as a probability for each *slot*, that is, each neighbour's place
    in N(s). Q(s, s') is then a table over (state, slot), as Q(s, a) is one over (state, action).
    With S states, A actions and at most N neighbours of a state:

    Attributes:
        neighbours: `(S, N)`, the states that some action may lead to, in ascending order; a
            state with fewer than N neighbours is padded with itself.
        is_neighbour: `(S, N)`, False where a slot is padding.
        probabilities: `(S, A, N)`, P(s'|s, a); every row sums to 1, padding holds 0.
        rewards: `(S, N)`, r(s, s'): as in the paper, actions play no part in it.
        terminal: `(S,)`, the states in which an episode ends.
        start: the state in which an episode begins.
        max_episode_steps: an episode is cut off, without being terminal, after so many steps.
    """

    neighbours: IntArray
    is_neighbour: BoolArray
    probabilities: FloatArray
    rewards: FloatArray
    terminal: BoolArray
    start: int
    max_episode_steps: int

    def __post_init__(self) -> None:
        for array in (
            self.neighbours,
            self.is_neighbour,
            self.probabilities,
            self.rewards,
            self.terminal,
        ):
            array.setflags(write=False)

    @property
    def num_states(self) -> int:
        """S."""
        return int(self.probabilities.shape[0])

    @property
    def num_actions(self) -> int:
        """A."""
        return int(self.probabilities.shape[1])

    def inverse_dynamics(self) -> BoolArray:
        """Return `(S, N, A)`: the actions that I(s, s') may answer with.

        These are the actions most likely to lead from s to s'; there are several if they are
        copies of each other, or if two of them run into a corner. Padding has none.
        """
        chances = self.probabilities.transpose(0, 2, 1)
        best = chances.max(axis=2, keepdims=True)
        actions: BoolArray = (chances == best) & (best > 0.0)
        return actions


def from_probabilities(
    probabilities: FloatArray,
    rewards: FloatArray,
    terminal: BoolArray,
    start: int = 0,
    max_episode_steps: int = 500,
) -> TabularMDP:
    """Build an MDP from P(s'|s, a) `(S, A, S)` and r(s, s') `(S, S)`.

    Terminal states are made to stay where they are for no reward, whatever the arrays say.
    """
    num_states = probabilities.shape[0]
    ends = np.flatnonzero(terminal)
    dense = probabilities.copy()
    dense[ends] = 0.0
    dense[ends, :, ends] = 1.0
    dense_rewards = rewards.copy()
    dense_rewards[ends, ends] = 0.0

    reachable = dense.max(axis=1) > 0.0
    counts = reachable.sum(axis=1)
    slots = np.arange(counts.max())
    is_neighbour = slots < counts[:, None]
    # A stable sort on "not reachable" puts the neighbours first and keeps their order.
    neighbours = np.argsort(~reachable, axis=1, kind="stable")[:, : counts.max()]
    states = np.arange(num_states)[:, None]
    neighbours = np.where(is_neighbour, neighbours, states)
    per_slot = np.take_along_axis(dense, neighbours[:, None, :], axis=2)
    return TabularMDP(
        neighbours=neighbours,
        is_neighbour=is_neighbour,
        probabilities=np.where(is_neighbour[:, None, :], per_slot, 0.0),
        rewards=np.where(is_neighbour, dense_rewards[states, neighbours], 0.0),
        terminal=terminal.copy(),
        start=start,
        max_episode_steps=max_episode_steps,
    )
