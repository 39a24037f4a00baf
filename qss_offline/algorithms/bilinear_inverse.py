"""I(s, s') in closed form: an action as a bilinear function of state and step.

Where forces act on a robot, its acceleration is affine in them: s' − s = g(s) + B(s) a. So an
action is affine in the step, with weights that depend on the state. To first order in
the state that is

    a = b + W₁ s + W₂ Δ + Σ_ij V_ij s_i Δ_j,   Δ = (s' − s) / spread,

which ridge regression solves from a hundred transitions, where a network needs a thousand. A
departure: the paper's I is a network (Eq. 10), and one is needed where contacts bend this law.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from qss_offline.algorithms.networks import MLPShape, Network

RIDGE = 1.0
"""How many transitions the pull of the weights towards 0 is worth."""
_STATE_SHARE = 0.3
"""States are shrunk by this, so that the ridge holds what depends on them to less."""
MOST_INPUTS = 2_000
"""A wider form is neither small nor soon solved: up to 43 numbers in an observation."""
_NUMBERS = 1 << 23
"""A hundred thousand recorded steps at once would fill the memory with their products."""
LIMIT = 8.0
"""Steps beyond so many spreads count as so many: extrapolation is linear, and would be wild."""


def bilinear_shape(obs_dim: int, action_dim: int) -> MLPShape:
    """Return the shape of a model: one layer, on what `bilinear_inputs` makes."""
    return MLPShape((obs_dim * (obs_dim + 2), action_dim))


def is_bilinear(shape: MLPShape) -> bool:
    """Whether a model of I is one: it alone has no hidden layer."""
    return len(shape.dims) == 2


def bilinear_inputs(obs: Tensor, step: Tensor) -> Tensor:
    """Return s, Δ and all their products.

    Args:
        obs: s, `(…, obs_dim)`, scaled.
        step: Δ, `(…, obs_dim)`, in units of its spread.

    Returns:
        `(…, obs_dim * (obs_dim + 2))`.
    """
    obs, step = _STATE_SHARE * obs, step.clamp(-LIMIT, LIMIT)
    products = (obs.unsqueeze(-1) * step.unsqueeze(-2)).flatten(-2)
    return torch.cat((obs, step, products), dim=-1)


def solve_bilinear(obs: Tensor, step: Tensor, actions: Tensor, ridge: float = RIDGE) -> Network:
    """Fit one seed's model: min ‖I(s, s') − a‖² + ridge ‖W‖², without a penalty on the bias.

    Args:
        obs: `(N, obs_dim)`, scaled.
        step: `(N, obs_dim)`, in units of its spread.
        actions: `(N, action_dim)`, in units of the action box.
        ridge: weight of the penalty, in transitions.

    Returns:
        A network `(1, P)`.
    """
    shape = bilinear_shape(obs.shape[1], actions.shape[1])
    width, targets = shape.dims[0], actions.double()
    bias = targets.mean(0)

    rows = max(1, _NUMBERS // width)

    def parts() -> Iterator[tuple[Tensor, Tensor]]:
        columns = zip(*(column.split(rows) for column in (obs, step, targets)), strict=True)
        return ((bilinear_inputs(s, d).double(), a - bias) for s, d, a in columns)

    center = torch.zeros(width, dtype=torch.float64)
    for inputs, _ in parts():
        center += inputs.sum(0) / len(obs)
    normal = ridge * torch.eye(width, dtype=torch.float64)
    products = torch.zeros(width, actions.shape[1], dtype=torch.float64)
    for inputs, deviations in parts():
        inputs -= center
        normal += inputs.T @ inputs
        products += inputs.T @ deviations
    weights = torch.linalg.solve(normal, products)
    network = Network(shape, torch.zeros(1, sum(shape.sizes)))
    network.weights[0][0] = weights.float()
    network.biases[0][0, 0] = (bias - center @ weights).float()
    return network
