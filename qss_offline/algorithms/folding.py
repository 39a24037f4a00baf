"""Networks trained on steps, rewritten as networks that see and give states.

What `step_units` changes (`qss.py`) is linear in front of a critic and behind a proposal or a
forward model, so that it can be folded into the first or the last layer. Policies, plans and
pictures then need not know which unit a network was trained in. Adam's moments can't be folded:
training itself goes on with the networks as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qss_offline.algorithms.networks import Network


@torch.no_grad()
def gives_states(network: Network, step_scale: Tensor | None) -> Network:
    """Fold σ into the last layer of a proposal or a forward model.

    Args:
        network: of S seeds, gives (s' − s) / σ.
        step_scale: σ, `(S, 1, obs_dim)`; None returns the network itself.

    Returns:
        A network that gives s' − s.
    """
    if step_scale is None:
        return network
    folded = Network(network.shape, network.flat.detach().clone())
    folded.weights[-1].mul_(step_scale)
    folded.biases[-1].mul_(step_scale)
    return folded


@torch.no_grad()
def sees_states(critic: Network, step_scale: Tensor | None) -> Network:
    """Fold σ into the first layer of critics: W_1 s + W_2 (s' − s) / σ.

    Args:
        critic: of S seeds, single or side by side, sees (s, (s' − s) / σ).
        step_scale: σ, `(S, 1, obs_dim)`; None returns the critics themselves.

    Returns:
        Critics that see (s, s').
    """
    if step_scale is None:
        return critic
    folded = Network(critic.shape, critic.flat.detach().clone())
    per_row = step_scale.transpose(1, 2).repeat_interleave(critic.shape.members or 1, dim=0)
    of_state, of_step = folded.weights[0].chunk(2, dim=1)
    of_step.div_(per_row)
    of_state.sub_(of_step)
    return folded
