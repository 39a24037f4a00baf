"""Adam over stacked parameters: elementwise, so each seed moves as it would alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


@dataclass
class AdamState:
    """Moments of one flat tensor of parameters.

    Attributes:
        first: running mean of gradients, in the shape of the parameters.
        second: running mean of squared gradients, likewise.
        steps: number of steps taken, `()`, on the same device so that a captured graph can count.
    """

    first: Tensor
    second: Tensor
    steps: Tensor

    @classmethod
    def zeros_like(cls, parameters: Tensor) -> AdamState:
        """Moments before the first step."""
        return cls(
            first=torch.zeros_like(parameters),
            second=torch.zeros_like(parameters),
            steps=torch.zeros((), device=parameters.device),
        )


AdamStep = Callable[[Tensor, Tensor, AdamState, "float | Tensor"], None]
"""Moves parameters by a gradient, as `adam_step` does."""


def adam_step(
    parameters: Tensor, gradient: Tensor, state: AdamState, learning_rate: float | Tensor
) -> None:
    """Move `parameters` in place by one step of Adam with β = (0.9, 0.999) and ε = 1e-8.

    A step size that is a tensor `()` on the same device is read when the step is taken, so that it
    can change in a captured graph.
    """
    # What torch.optim.adam.adam(fused=True) calls, without its checks, which take as long again.
    state.steps.add_(1)
    torch._fused_adam_(
        [parameters],
        [gradient],
        [state.first],
        [state.second],
        [],
        [state.steps],
        lr=learning_rate,
        beta1=_BETA1,
        beta2=_BETA2,
        weight_decay=0.0,
        eps=_EPSILON,
        amsgrad=False,
        maximize=False,
    )


def adam_step_in_parts(
    parameters: Tensor, gradient: Tensor, state: AdamState, learning_rate: float | Tensor
) -> None:
    """Do what `adam_step` does in elementary operations, which a compiler fuses."""
    state.steps.add_(1)
    state.first.lerp_(gradient, 1 - _BETA1)
    state.second.mul_(_BETA2).addcmul_(gradient, gradient, value=1 - _BETA2)
    step_size = learning_rate / (1 - _BETA1**state.steps)
    spread = (state.second / (1 - _BETA2**state.steps)).sqrt()
    parameters.sub_(step_size * state.first / (spread + _EPSILON))
