"""The training loop: draw batches, apply the algorithm's rules, report what was measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor

from qss_offline.algorithms.networks import Network
from qss_offline.algorithms.protocol import Algorithm, UpdateRule
from qss_offline.engine.compiled import CompiledGradients, eager_gradient
from qss_offline.engine.optimiser import adam_step
from qss_offline.engine.sampler import Sampler
from qss_offline.engine.state import TrainState

CHUNK = 50
"""Updates for which indices are drawn and rows gathered at once, and which one captured graph
holds. Checkpoints fall between chunks. It is part of what a seed's numbers depend on on a GPU, so
it is no setting."""

Mode = Literal["eager", "compiled", "captured"]
"""How the same functions are run: as they are, recorded once and run without Python
(`engine/compiled.py`), or in a CUDA graph (`engine/captured.py`)."""

GradientFunction = Callable[
    [Algorithm, UpdateRule, dict[str, Network], Any], tuple[Tensor, dict[str, Tensor]]
]

Metrics = dict[str, Tensor]
ReadMetrics = Callable[[], dict[str, list[float]]]


def apply_update(
    algorithm: Algorithm,
    state: TrainState,
    batch: Any,
    update: int,
    learning_rate: float,
    gradient_of: GradientFunction = eager_gradient,
) -> Metrics:
    """Apply every rule that is due at `update` (counted from 1) to all seeds, in place.

    Args:
        algorithm: what to train.
        state: changed in place, but for its update count.
        batch: columns of `(S, B, …)`.
        update: number of this update.
        learning_rate: Adam's step size.
        gradient_of: `eager_gradient`, or something that does the same faster.

    Returns:
        Metrics of the rules that were applied, each `(S,)`.
    """
    metrics: Metrics = {}
    for rule in algorithm.updates:
        if update % rule.interval:
            continue
        gradient, measured = gradient_of(algorithm, rule, state.networks, batch)
        flat = state.networks[rule.network].flat
        adam_step(flat, gradient, state.moments[rule.network], learning_rate)
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
        means = {name: (total / self._counts[name]).tolist() for name, total in self._sums.items()}
        self._sums.clear()
        self._counts.clear()
        return means


def fit(
    algorithm: Algorithm,
    state: TrainState,
    sampler: Sampler,
    updates: int,
    learning_rate: float,
    on_chunk: Callable[[TrainState, ReadMetrics], None] | None = None,
    mode: Mode = "eager",
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
        mode: how to run the updates; "captured" needs a CUDA device.
    """
    metrics = MetricSums()
    captured: Any = None
    gradient_of: GradientFunction = eager_gradient
    while state.update < updates:
        length = min(CHUNK - state.update % CHUNK, updates - state.update)
        block = sampler.draw(state.generators, length)
        if mode == "captured" and length == CHUNK:
            if captured is None:
                # Only a GPU's run needs it, and only there can it be imported and used.
                from qss_offline.engine.captured import CapturedChunk

                captured = CapturedChunk(algorithm, state, block, learning_rate)
            captured.replay(state, block, metrics)
        else:
            for index in range(length):
                state.update += 1
                batch = type(block)(*(column[index] for column in block))
                if mode == "compiled" and gradient_of is eager_gradient:
                    gradient_of = CompiledGradients(algorithm, state, batch)
                metrics.add(
                    apply_update(algorithm, state, batch, state.update, learning_rate, gradient_of)
                )
        if on_chunk is not None:
            on_chunk(state, metrics.read)
