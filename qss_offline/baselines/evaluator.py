"""Our policies where d3rlpy expects an algorithm, and d3rlpy's algorithms where we expect a policy.

Nothing here imports d3rlpy: both sides only need methods of the right names.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from qss_offline.errors import UserError
from qss_offline.evaluation.episodes import BatchPolicy


class PolicyAlgo:
    """A policy as a d3rlpy `QLearningAlgoProtocol`: for `EnvironmentEvaluator` and its like.

    Args:
        policy: maps observations `(n, obs_dim)` to actions; those of saved policies, for one.
        action_size: numbers in an action.
    """

    gamma = 1.0
    """No discount: nothing is valued."""
    observation_scaler = action_scaler = reward_scaler = None

    def __init__(self, policy: BatchPolicy, action_size: int) -> None:
        self._policy = policy
        self.action_size = action_size

    def predict(self, x: NDArray[Any]) -> NDArray[Any]:
        """Choose actions: `(n, obs_dim)` to `(n, action_size)`."""
        if np.ndim(x) != 2:
            raise UserError(f"expected observations of shape (n, obs_dim), got {np.shape(x)}")
        return np.asarray(self._policy(x))

    def sample_action(self, x: NDArray[Any]) -> NDArray[Any]:
        """Choose the same actions: the policy is deterministic."""
        return self.predict(x)

    def predict_value(self, x: NDArray[Any], action: NDArray[Any]) -> NoReturn:
        """Refuse: Q(s, s') values transitions, not actions."""
        raise UserError("this policy has no value of actions: use an evaluator of returns")


def batch_policy(algo: Any) -> BatchPolicy:
    """Return a d3rlpy algorithm as a policy for `qss_offline.evaluation.episodes.evaluate`."""

    def act(obs: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(algo.predict(np.asarray(obs, np.float32)))

    return act
