"""MDPs that tests build."""

import numpy as np

from qss_offline.tabular.mdp import BoolArray, FloatArray, IntArray, TabularMDP, from_probabilities


def from_next_states(
    next_states: IntArray,
    rewards: FloatArray,
    terminal: BoolArray,
    start: int = 0,
) -> TabularMDP:
    """Build a deterministic MDP from the state `(S, A)` that each action leads to."""
    num_states = next_states.shape[0]
    return from_probabilities(np.eye(num_states)[next_states], rewards, terminal, start)
