"""One policy of every kind, with networks as they are drawn before training."""

import numpy as np
import torch

from qss_offline.algorithms.networks import MLPShape, Network
from qss_offline.evaluation.actions import ActionBox
from qss_offline.evaluation.policies import (
    ClonedPolicy,
    DiscretePolicy,
    ObservationScale,
    Policy,
    SavedPolicy,
)


def network(*dims: int, seed: int = 0) -> Network:
    shape = MLPShape(dims)
    return Network(shape, shape.init(torch.Generator().manual_seed(seed)).unsqueeze(0))


def scale(obs_dim: int) -> ObservationScale:
    """Return means and spreads that differ between dimensions."""
    numbers = np.arange(obs_dim) + 1.0
    return ObservationScale.of(3 * numbers - 4, 0.5 * numbers, 0.1 * numbers)


def box(low: list[float], high: list[float]) -> ActionBox:
    return ActionBox(np.array(low, np.float32), np.array(high, np.float32))


LOPSIDED = box([-3.0, 0.0, 2.0], [1.0, 10.0, 2.5])

ONE_NUMBER = "network of next observations, of one number"

POLICIES: dict[str, SavedPolicy] = {
    "network of steps": Policy(
        network(4, 32, 32, 4), network(8, 32, 32, 3, seed=1), scale(4), True, LOPSIDED, "Arm-v0"
    ),
    ONE_NUMBER: Policy(
        network(1, 16, 1), network(2, 16, 1, seed=1), scale(1), False, box([-2.0], [2.0])
    ),
    "bilinear": Policy(
        network(4, 32, 4), network(24, 3, seed=1), scale(4), True, LOPSIDED, "Arm-v0"
    ),
    "discrete": DiscretePolicy(
        network(4, 32, 4), network(8, 32, 5, seed=1), scale(4), True, -2, "Grid-v0"
    ),
    "cloned": ClonedPolicy(network(4, 32, 32, 3), scale(4), LOPSIDED, "my_env.py:Arm-v0"),
}


def observations(policy: SavedPolicy, count: int, seed: int = 0) -> np.ndarray:
    """Draw observations as a policy's recording may have had them."""
    mean, std = policy.scale.mean.numpy(), policy.scale.std.numpy()
    drawn = np.random.default_rng(seed).normal(mean, std, (count, len(mean)))
    return drawn.astype(np.float32)
