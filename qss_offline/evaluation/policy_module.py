"""A policy as a plain `torch.nn.Module`, from observation to action in the environment's units.

The networks of this package are rows of a stack, padded for the sake of bits. Other programs read
linear layers, so that this is the same function written with them; sums are rounded differently.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qss_offline.algorithms.bilinear_inverse import bilinear_inputs, is_bilinear
from qss_offline.algorithms.networks import Network
from qss_offline.evaluation.policies import DiscretePolicy, Policy, SavedPolicy


class PolicyModule(nn.Module):
    """π(s): `(N, obs_dim)` to `(N, action_dim)`, or to int64 `(N,)` where actions are discrete.

    Args:
        policy: what it equals.
    """

    mean: Tensor
    std: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, policy: SavedPolicy) -> None:
        super().__init__()
        self.register_buffer("mean", policy.scale.mean)
        self.register_buffer("std", policy.scale.std)
        self.acting = _Proposing(policy) if isinstance(policy, Policy) else _layers(policy.policy)
        self.first_action: int | None = None
        if isinstance(policy, DiscretePolicy):
            self.first_action = policy.first_action
            return
        bilinear = isinstance(policy, Policy) and is_bilinear(policy.inverse_dynamics.shape)
        self.squash = nn.Hardtanh() if bilinear else nn.Tanh()
        self.register_buffer("low", torch.from_numpy(policy.action_box.low))
        self.register_buffer("high", torch.from_numpy(policy.action_box.high))

    def logits(self, observation: Tensor) -> Tensor:
        """Return what the last layer says: `(N, action_dim)`, one an action if discrete."""
        logits: Tensor = self.acting((observation - self.mean) / self.std)
        return logits

    def forward(self, observation: Tensor) -> Tensor:
        """Choose actions."""
        logits = self.logits(observation)
        if self.first_action is not None:
            return logits.argmax(dim=-1) + self.first_action
        action = self.low + (self.squash(logits) + 1.0) * ((self.high - self.low) / 2)
        return torch.minimum(torch.maximum(action, self.low), self.high)


class _Proposing(nn.Module):
    """I(s, s + τ(s)) before it is squashed, on scaled observations `(N, obs_dim)`."""

    step_std: Tensor | None

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.proposal = _layers(policy.proposal)
        self.inverse_dynamics = _layers(policy.inverse_dynamics)
        self.bilinear = is_bilinear(policy.inverse_dynamics.shape)
        self.register_buffer("step_std", policy.scale.step_std if policy.step_inputs else None)

    def forward(self, obs: Tensor) -> Tensor:
        second: Tensor = obs + self.proposal(obs)
        if self.step_std is not None:
            second = (second - obs) / self.step_std
        inputs = bilinear_inputs(obs, second) if self.bilinear else torch.cat((obs, second), -1)
        logits: Tensor = self.inverse_dynamics(inputs)
        return logits


def _layers(network: Network) -> nn.Sequential:
    """Return the layers of one seed's network, with ReLU between them."""
    layers: list[nn.Module] = []
    for weight, bias in zip(network.weights, network.biases, strict=True):
        linear = nn.Linear(weight.shape[-2], weight.shape[-1], device="meta")
        linear.weight = nn.Parameter(weight[0].T.contiguous(), requires_grad=False)
        linear.bias = nn.Parameter(bias[0, 0].clone(), requires_grad=False)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])
