"""The training loop: draw batches, apply the algorithm's rules, report what was measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from qss_offline.algorithms.protocol import Algorithm
from qss_offline.engine.optimiser import adam_step
from qss_offline.engine.sampler import Sampler
from qss_offline.engine.state import TrainState

CHUNK = 50
"""Updates for which indices are drawn and rows gathered at once. Checkpoints fall between chunks.
It is part of what a seed's numbers depend on, so it is no setting."""

Metrics = dict[str, Tensor]


def apply_update(
    algorithm: Algorithm,
    state: TrainState,
    batch: Any,
    update: int,
    learning_rate: float,
) -> Metrics:
    """Apply every rule that is due at `update` (counted from 1) to all seeds, in place.

    The losses of the seeds are summed and differentiated together. As no loss mixes seeds, each
    seed's gradient is what it would be alone.

    Returns:
        Metrics of the rules that were applied, each `(S,)`.
    """
    metrics: Metrics = {}
    for rule in algorithm.updates:
        if update % rule.interval:
            continue
        network = state.networks[rule.network]
        trainable = network.trainable()
        networks = {**state.networks, rule.network: trainable}
        loss, measured = rule.loss(algorithm.parameters_type(**networks), batch)
        (gradient,) = torch.autograd.grad(loss.sum(), trainable.flat)
        adam_step(network.flat, gradient, state.moments[rule.network], learning_rate)
        metrics.update({name: value.detach() for name, value in measured.items()})
    for track in algorithm.tracks:
        if update % track.interval == 0:
            source = state.networks[track.source].flat
            state.networks[track.target].flat.lerp_(source, track.step_size)
    return metrics


def fit(
    algorithm: Algorithm,
    state: TrainState,
    sampler: Sampler,
    updates: int,
    learning_rate: float,
    on_chunk: Callable[[TrainState, Callable[[], dict[str, list[float]]]], None] | None = None,
) -> None:
    """Train until `state.update` is `updates`, changing `state` in place.

    Args:
        algorithm: what to train.
        state: where training stands.
        sampler: source of batches.
        updates: the update to stop at, counted from the start of training.
        learning_rate: Adam's step size.
        on_chunk: called after each chunk with the state and a function that reads the means of
            the metrics since it was last called, `{name: [a value for each seed]}`.
    """
    sums: Metrics = {}
    counts: dict[str, int] = {}

    def read_metrics() -> dict[str, list[float]]:
        means = {name: (total / counts[name]).tolist() for name, total in sums.items()}
        sums.clear()
        counts.clear()
        return means

    while state.update < updates:
        length = min(CHUNK - state.update % CHUNK, updates - state.update)
        block = sampler.draw(state.generators, length)
        for index in range(length):
            state.update += 1
            batch = type(block)(*(column[index] for column in block))
            measured = apply_update(algorithm, state, batch, state.update, learning_rate)
            for name, value in measured.items():
                sums[name] = sums[name] + value if name in sums else value
                counts[name] = counts.get(name, 0) + 1
        if on_chunk is not None:
            on_chunk(state, read_metrics)
