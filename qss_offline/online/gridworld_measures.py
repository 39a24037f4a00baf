"""What Figure 6 shows of an online run in the gridworld.

For each seed: the values Q(s, τ(s)) of all states at the end, the distance of τ(⟨0, 0⟩) from its
nearest neighbour over training, and the trajectory that τ imagines from ⟨0, 0⟩.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qss_offline.algorithms.networks import MLPShape
from qss_offline.algorithms.qss import transition_value
from qss_offline.engine.checkpoint import load_checkpoint, network_of
from qss_offline.evaluation.policies import Policy
from qss_offline.evaluation.policy_files import load_policy
from qss_offline.online.gridworld import neighbour_distance
from qss_offline.runs.folder import SeedFolder

SIZE = 11
IMAGINED_STEPS = 30
_ARRIVED = 0.5
_LOST = 100.0 * SIZE


def measure_seed(folder: SeedFolder, gamma: float) -> dict[str, Any]:
    """Return what Figure 6 shows of one seed, in plain JSON types.

    Args:
        folder: of a seed that was trained with its policies kept.
        gamma: discount γ, for the values that are right.

    Returns:
        `values`, 11 rows of 11, null at the goal, where no step begins; `value_error`, their mean
        difference from the optimal values; `distance`, pairs of environment step and distance;
        `trajectory`, imagined states ⟨row, column⟩.
    """
    policy = _load(folder.policy)
    values = state_values(folder, policy)
    error = values - optimal_values(gamma)
    return {
        "values": [[None if np.isnan(v) else float(v) for v in row] for row in values],
        "value_error": float(np.nanmean(error)),
        "distance": [
            [int(path.stem), _distance(_load(path))]
            for path in sorted((folder.path / "policies").glob("*.safetensors"))
        ],
        "trajectory": imagine(policy).tolist(),
    }


def state_values(folder: SeedFolder, policy: Policy) -> NDArray[np.float64]:
    """Q_1(s, s + τ(s)) of every state after the last update, `(11, 11)`; NaN at the goal."""
    states = np.stack(np.divmod(np.arange(SIZE * SIZE), SIZE), axis=1).astype(np.float32)
    shape = MLPShape((4, *policy.proposal.shape.dims[1:-1], 1), members=2)
    critic = network_of(load_checkpoint(folder.training), "critic", shape)
    obs, proposed = (
        policy.scale.apply(torch.from_numpy(array)).unsqueeze(0)
        for array in (states, policy.propose(states))
    )
    with torch.no_grad():
        q = transition_value(critic.members[0], obs, proposed)[0].numpy()
    values = q.astype(np.float64).reshape(SIZE, SIZE)
    values[-1, -1] = np.nan
    return values


def optimal_values(gamma: float) -> NDArray[np.float64]:
    """Discounted sums of −1 a step along shortest paths, `(11, 11)`; NaN at the goal."""
    row, column = np.divmod(np.arange(SIZE * SIZE), SIZE)
    steps = 2 * (SIZE - 1) - row - column
    values = -(1 - gamma**steps) / (1 - gamma)
    values[-1] = np.nan
    return np.asarray(values.reshape(SIZE, SIZE), np.float64)


def _load(path: Path) -> Policy:
    policy = load_policy(path)
    assert isinstance(policy, Policy)
    return policy


def _distance(policy: Policy) -> float:
    origin = np.zeros(2, np.float32)
    return neighbour_distance(policy.propose(origin[None])[0], origin, SIZE)


def imagine(policy: Policy) -> NDArray[np.float32]:
    """s, s + τ(s), … from ⟨0, 0⟩ until the goal is near or the grid far, `(states, 2)`."""
    states = [np.zeros(2, np.float32)]
    for _ in range(IMAGINED_STEPS):
        states.append(policy.propose(states[-1][None])[0])
        # Without a cycle, proposals may grow beyond what a number can hold.
        if np.abs(states[-1]).max() > _LOST or np.abs(states[-1] - (SIZE - 1)).max() < _ARRIVED:
            break
    return np.stack(states)
