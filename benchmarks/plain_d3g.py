"""Offline D3G written the ordinary way: `nn.Module`, `torch.optim.Adam`, one seed.

The yardstick of `benchmarks/updates.py`, and the independent reference of the tests. It follows
the same equations as `qss_offline.algorithms.observational_d3g` and shares no code with it.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def perceptron(dims: Sequence[int]) -> nn.Sequential:
    """Build linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for in_dim, out_dim in itertools.pairwise(dims):
        layers += [nn.Linear(in_dim, out_dim), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class PlainD3G:
    """Offline D3G for one seed, with the authors' settings unless given others."""

    def __init__(
        self,
        obs_dim: int,
        hidden_dims: Sequence[int] = (256, 256),
        cycle_coef: float = 1.0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.critics = nn.ModuleList(
            perceptron((2 * obs_dim, *hidden_dims, 1)) for _ in range(2)
        ).to(device)
        self.proposal = perceptron((obs_dim, *hidden_dims, obs_dim)).to(device)
        self.forward_model = perceptron((obs_dim + 1, *hidden_dims, obs_dim)).to(device)
        self.critics_target = copy.deepcopy(self.critics)
        self.proposal_target = copy.deepcopy(self.proposal)
        self.critic_optimiser = torch.optim.Adam(self.critics.parameters(), lr=3e-4)
        self.proposal_optimiser = torch.optim.Adam(self.proposal.parameters(), lr=3e-4)
        self.forward_optimiser = torch.optim.Adam(self.forward_model.parameters(), lr=3e-4)
        self.cycle_coef, self.update_count = cycle_coef, 0

    def update(self, obs: Tensor, next_obs: Tensor, reward: Tensor, terminated: Tensor) -> None:
        """One update. `obs`, `next_obs` `(B, obs_dim)`; `reward`, `terminated` `(B, 1)`."""
        self.update_count += 1
        with torch.no_grad():
            proposed = next_obs + self.proposal_target(next_obs)
            q = self.critics_target[0](torch.cat((next_obs, proposed), 1))
            reached = next_obs + self.forward_model(torch.cat((next_obs, q), 1))
            pair = torch.cat((next_obs, reached), 1)
            value = torch.min(self.critics_target[0](pair), self.critics_target[1](pair))
            target = reward + 0.99 * (1 - terminated) * value
        pair = torch.cat((obs, next_obs), 1)
        critic_loss = sum(
            (F.mse_loss(critic(pair), target) for critic in self.critics), torch.zeros(())
        )
        self.critic_optimiser.zero_grad()
        critic_loss.backward()
        self.critic_optimiser.step()

        with torch.no_grad():
            q = self.critics_target[0](pair)
        forward_loss = F.mse_loss(self.forward_model(torch.cat((obs, q), 1)), next_obs - obs)
        self.forward_optimiser.zero_grad()
        forward_loss.backward()
        self.forward_optimiser.step()

        if self.update_count % 2 == 0:
            proposed = obs + self.proposal(obs)
            q = self.critics[0](torch.cat((obs, proposed), 1))
            reached = obs + self.forward_model(torch.cat((obs, q), 1))
            value = self.critics[0](torch.cat((obs, reached), 1)).mean()
            proposal_loss = self.cycle_coef * F.mse_loss(reached, proposed) - value
            self.proposal_optimiser.zero_grad()
            proposal_loss.backward()
            self.proposal_optimiser.step()
            with torch.no_grad():
                for source, target in (
                    (self.critics, self.critics_target),
                    (self.proposal, self.proposal_target),
                ):
                    for parameter, averaged in zip(
                        source.parameters(), target.parameters(), strict=True
                    ):
                        averaged.lerp_(parameter, 0.005)
