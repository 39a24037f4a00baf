"""One update, and the sums of what it measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from qss_offline.algorithms.networks import Network
from qss_offline.algorithms.protocol import Algorithm, UpdateRule
from qss_offline.engine.adam import AdamStep, adam_step
from qss_offline.engine.state import TrainState

CHUNK = 50
"""Updates for which indices are drawn and rows gathered at once, and which one captured graph
holds. Checkpoints fall between chunks. A seed's numbers on a GPU depend on it, so it is no
setting."""

Metrics = dict[str, Tensor]

GradientOf = Callable[[UpdateRule], tuple[Tensor, Metrics]]
"""The gradient of a rule's loss for its network's flat tensor, and metrics `(S,)`."""

Gradients = Callable[[Algorithm, dict[str, Network], Any], GradientOf]
"""Gradients on a batch, for the networks as they are when each is asked for."""


def eager_gradients(algorithm: Algorithm, networks: dict[str, Network], batch: Any) -> GradientOf:
    """Return what differentiates the losses of the seeds together.

    As no loss mixes seeds, each seed's gradient is what it would be alone.
    """

    def gradient_of(rule: UpdateRule) -> tuple[Tensor, Metrics]:
        trainable = networks[rule.network].trainable()
        loss, metrics = rule.loss(
            algorithm.parameters_type(**{**networks, rule.network: trainable}), batch
        )
        (gradient,) = torch.autograd.grad(loss.sum(), trainable.flat)
        return gradient, {name: value.detach() for name, value in metrics.items()}

    return gradient_of


def apply_update(
    algorithm: Algorithm,
    state: TrainState,
    batch: Any,
    update: int,
    learning_rate: float | Tensor,
    gradients: Gradients = eager_gradients,
    step: AdamStep = adam_step,
) -> Metrics:
    """Apply every rule that is due at `update` (counted from 1) to all seeds, in place.

    Args:
        algorithm: what to train.
        state: changed in place, but for its update count.
        batch: columns of `(S, B, …)`.
        update: number of this update.
        learning_rate: Adam's step size.
        gradients: `eager_gradients`, or something that does the same faster.
        step: how parameters are moved.

    Returns:
        Metrics of the rules that were applied, each `(S,)`.
    """
    gradient_of = gradients(algorithm, state.networks, batch)
    metrics: Metrics = {}
    for rule in algorithm.updates:
        if update % rule.interval:
            continue
        gradient, measured = gradient_of(rule)
        flat = state.networks[rule.network].flat
        step(flat, gradient, state.moments[rule.network], learning_rate)
        metrics.update(measured)
    for track in algorithm.tracks:
        if update % track.interval == 0:
            source = state.networks[track.source].flat
            state.networks[track.target].flat.lerp_(source, track.step_size)
    return metrics


class MetricSums:
    """Sums of metrics, kept on the device until somebody reads them."""

    def __init__(self) -> None:
        self._sums: Metrics = {}
        self._counts: dict[str, int] = {}

    def add(self, metrics: Metrics, updates: int = 1) -> None:
        """Add values, each a sum over `updates` updates."""
        for name, value in metrics.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value.clone()
            self._counts[name] = self._counts.get(name, 0) + updates

    def read(self) -> dict[str, list[float]]:
        """Return means since the last call, `{name: [a value for each seed]}`; waits for a GPU."""
        if not self._sums:
            return {}
        means = torch.stack([total / self._counts[name] for name, total in self._sums.items()])
        # All at once: a GPU is waited for once.
        read = dict(zip(self._sums, means.tolist(), strict=True))
        self._sums.clear()
        self._counts.clear()
        return read
