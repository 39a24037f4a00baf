"""What the network of I misses near its online steps, from these steps themselves.

A network spreads what it can't fit over all states. Where its steps are dense, as where a policy
has followed the recording, they say more than it has learned of them: kernel ridge regression of
its errors on them adds

    Σ_j k((s, Δ), (s_j, Δ_j)) α_j,   (K + ridge) α = a − I(s, s')   over online steps j,
    k = exp(−‖s − s_j‖² / 2d) (1 + Δ·Δ_j / d),   Δ = (s' − s) / spread,   d = obs_dim,

to the action that it infers. Near a state that is affine in the step, as actions are where forces
accelerate a robot (`bilinear_inverse.py`), and far from all online steps nothing. A network that
learns from the recording, too (`semi_supervised_inverse.py`), gained nothing by it in trials.

A departure: in the paper I is a network alone (Eq. 10). Kernel regression of what a model of a
robot's inverse dynamics misses is from Nguyen-Tuong and Peters, *Using Model Knowledge for Learning
Inverse Dynamics* (ICRA 2010), where the model is of rigid bodies.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from qss_offline.algorithms.bilinear_inverse import LIMIT

RIDGE = 1e-2
"""Variance of what no step explains, where k of a step of mean size with itself is 2."""
MOST_STEPS = 3_000
"""Solving takes their cube."""
_NUMBERS = 1 << 22
"""A hundred thousand recorded steps at once would fill the memory with their kernels."""


class KernelCorrection(NamedTuple):
    """What to add to a network of I.

    Attributes:
        obs: s of online steps, `(N, obs_dim)`, scaled.
        step: Δ, `(N, obs_dim)`, in units of its spread.
        weights: α, `(N, action_dim)`.
    """

    obs: Tensor
    step: Tensor
    weights: Tensor

    def __call__(self, obs: Tensor, step: Tensor) -> Tensor:
        """Return what to add to the actions between, `(B, action_dim)`, in units of the box.

        Args:
            obs: s, `(B, obs_dim)`, scaled.
            step: Δ, `(B, obs_dim)`, in units of its spread.
        """
        rows = max(1, _NUMBERS // len(self.obs))
        pairs = zip(obs.split(rows), step.split(rows), strict=True)
        return torch.cat([kernel(s, d, self.obs, self.step) @ self.weights for s, d in pairs])


def solve_correction(obs: Tensor, step: Tensor, errors: Tensor) -> KernelCorrection:
    """Fit one seed's correction.

    Args:
        obs: s of online steps, `(N, obs_dim)`, scaled; `taken_steps` says which.
        step: Δ, `(N, obs_dim)`, in units of its spread.
        errors: a − I(s, s'), `(N, action_dim)`, in units of the action box.
    """
    exact = obs.double(), step.double()
    gram = kernel(*exact, *exact)
    gram.diagonal().add_(RIDGE)
    weights = torch.cholesky_solve(errors.double(), torch.linalg.cholesky(gram))
    return KernelCorrection(obs, step, weights.to(obs.dtype))


def taken_steps(count: int) -> Tensor:
    """Return which of so many steps a correction takes: all, or `MOST_STEPS`, evenly spread."""
    return torch.linspace(0, count - 1, min(count, MOST_STEPS), dtype=torch.float64).long()


def kernel(obs: Tensor, step: Tensor, other_obs: Tensor, other_step: Tensor) -> Tensor:
    """k of every step of the first with every one of the others, `(B, N)`. Arguments as above."""
    obs, step, other_obs, other_step = (
        one.clamp(-LIMIT, LIMIT) for one in (obs, step, other_obs, other_step)
    )
    size = obs.shape[1]
    squares = obs.square().sum(1, keepdim=True) + other_obs.square().sum(1)
    distances = torch.addmm(squares, obs, other_obs.T, alpha=-2).clamp_(min=0)
    near = distances.mul_(-0.5 / size).exp_()
    return near.mul_(torch.addmm(near.new_ones(()), step, other_step.T, alpha=1 / size))
