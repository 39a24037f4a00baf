"""The best value that recordings show at a state, as a bound for the value that f is given.

A departure; the paper has none. f(s, q) has seen only values that recorded steps have. Where a
proposal's value lies above all of those, f must guess, and the cycle leads to where nothing was
ever recorded: Q is then asked there, and its errors flow back through y. V(s), a high expectile of
Q(s, s') over the steps recorded at s, says what is still known; a higher value is lowered to it:

    C(s, s'_τ) = s + f(s, min(Q(s, s'_τ), V(s)))

The behaviour weights "in_sample" (`behaviour.py`) are measured from the same V(s).

The expectile is that of implicit Q-learning (Kostrikov et al., 2021,
https://arxiv.org/abs/2110.06169, Eq. 5), with Q(s, s') in the place of Q(s, a).
"""

from __future__ import annotations

import torch
from torch import Tensor

from qss_offline.algorithms.networks import Network, mlp


def state_value(network: Network, obs: Tensor) -> Tensor:
    """V(s): `(S, B, obs_dim)` to `(S, B)`."""
    return mlp(network, obs).squeeze(-1)


def expectile_loss(network: Network, obs: Tensor, values: Tensor, expectile: float) -> Tensor:
    """L_χ = |κ − 1(u < 0)| u² with u = Q(s, s') − V(s), a mean over the batch. `(S,)`.

    Args:
        network: V.
        obs: s, `(S, B, obs_dim)`.
        values: Q(s, s') of recorded steps, `(S, B)`, without a gradient.
        expectile: κ in (0, 1); 0.5 is the mean, near 1 the greatest.
    """
    above = values - state_value(network, obs)
    weights = torch.where(above < 0, 1 - expectile, expectile)
    return (weights * above.square()).mean(dim=-1)
