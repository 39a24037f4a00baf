"""A behaviour term for τ: propose what was recorded, where that was worth it.

A departure; the paper has none, for its cycle holds proposals to what the data have shown. It is
to τ what the behaviour cloning term of TD3+BC (Fujimoto & Gu, 2021,
https://arxiv.org/abs/2106.06860) is to a policy, with next states in the place of actions, so that
it needs no actions either. The weights of its transitions are those of critic-regularised
regression (Wang et al., 2020, https://arxiv.org/abs/2006.15134): with behaviours of mixed quality
in one recording, only the good ones should be followed. A step's value is held against that of the
step proposed.

Where a controller acts at most steps and random actions are taken at the others, the next states
of a state are a cluster and a wide scatter around it. Their mean, which the squared error asks for,
lies beside the cluster, further the more random actions there are, and a walker that follows it
falls. The distance itself (power 1) asks for the geometric median, which stays in the cluster while
that holds more than half of the steps (Lopuhaä & Rousseeuw, 1991,
https://doi.org/10.1214/aos/1176347978); lower powers ask for what is nearest to many, the mode. No
value has to tell the steps apart for that.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from qss_offline.algorithms.networks import Network
from qss_offline.algorithms.qss import LEAST_GAP, Transition, transition_value

BehaviourWeights = Literal["plain", "advantage"]
BEHAVIOUR_WEIGHTS: tuple[BehaviourWeights, ...] = get_args(BehaviourWeights)


def behaviour_weights(advantage: Tensor, kind: BehaviourWeights) -> Tensor:
    """How much each recorded step counts, from its advantage. `(S, B)`.

    Args:
        advantage: A = Q_1(s, s') − Q_1(s, s'_f), `(S, B)`.
        kind: "plain" is 1 for all; "advantage" is exp(A / mean |A|), at most e.
    """
    if kind == "plain":
        return torch.ones_like(advantage)
    spread = advantage.abs().mean(dim=-1, keepdim=True).clamp_min(LEAST_GAP)
    return (advantage / spread).clamp(max=1.0).exp()


_ROUNDED = 1e-4
"""Added to squared errors under a power below 2: within a hundredth of the unit that networks see,
all are alike."""


def error_power(errors: Tensor, power: float) -> Tensor:
    """Return ‖e‖^p from ‖e‖², of any shape; see above for what p asks for."""
    return errors if power == 2 else (errors + _ROUNDED).pow(power / 2)


def behaviour_loss(
    critic: Network,
    batch: Transition,
    proposed: Tensor,
    cycled_next_obs: Tensor,
    kind: BehaviourWeights,
    power: float = 2.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean of w ‖s'_τ − s'‖^p over the batch. `(S,)`.

    ‖·‖² is a mean over dimensions.

    Args:
        critic: a single critic, Q_1.
        batch: transitions.
        proposed: s'_τ, `(S, B, obs_dim)`.
        cycled_next_obs: s'_f, `(S, B, obs_dim)`.
        kind: see `behaviour_weights`.
        power: p, see `error_power`.
    """
    with torch.no_grad():
        recorded_q = transition_value(critic, batch.obs, batch.next_obs)
        cycled_q = transition_value(critic, batch.obs, cycled_next_obs)
        weights = behaviour_weights(recorded_q - cycled_q, kind)
    errors = (proposed - batch.next_obs).square().mean(dim=-1)
    loss = (weights * error_power(errors, power)).mean(dim=-1)
    squared = (weights * errors).mean(dim=-1)
    return loss, {"behaviour_error": squared, "behaviour_weight": weights.mean(dim=-1)}
