"""The training loop: draw batches, apply the algorithm's rules, report what was measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from qss_offline.algorithms.protocol import Algorithm
from qss_offline.engine.captured import CapturedChunk
from qss_offline.engine.compiled import CompiledGradients, compiled_gradients, eager_gradient
from qss_offline.engine.denormals import denormals_as_zero
from qss_offline.engine.sampler import Sampler
from qss_offline.engine.schedule import Schedule, constant
from qss_offline.engine.state import TrainState
from qss_offline.engine.update import CHUNK, MetricSums, apply_update

Mode = Literal["eager", "compiled", "captured"]
"""How the same functions are run: as they are, recorded once and run without Python
(`engine/compiled.py`), or in a CUDA graph (`engine/captured.py`)."""

ReadMetrics = Callable[[], dict[str, list[float]]]


def fit(
    algorithm: Algorithm,
    state: TrainState,
    sampler: Sampler,
    updates: int,
    learning_rate: float | Schedule,
    on_chunk: Callable[[TrainState, ReadMetrics], None] | None = None,
    mode: Mode = "eager",
) -> None:
    """Train until `state.update` is `updates`, changing `state` in place.

    Args:
        algorithm: what to train.
        state: where training stands.
        sampler: source of batches.
        updates: the update to stop at, counted from the start of training.
        learning_rate: Adam's step size, of each update if it changes.
        on_chunk: called after each chunk with the state and a function that reads the means of
            the metrics since it was last called, `{name: [a value for each seed]}`.
        mode: how to run the updates; "captured" needs a CUDA device.
    """
    schedule = learning_rate if callable(learning_rate) else constant(learning_rate)
    metrics = MetricSums()
    captured: CapturedChunk | None = None
    compiled: CompiledGradients | None = None
    while state.update < updates:
        length = min(CHUNK - state.update % CHUNK, updates - state.update)
        block = sampler.draw(state.generators, length)
        if mode == "captured" and length == CHUNK:
            if captured is None:
                captured = CapturedChunk(algorithm, state, block, schedule)
            captured.replay(state, block, metrics)
        else:
            with denormals_as_zero():
                for index in range(length):
                    state.update += 1
                    batch = type(block)(*(column[index] for column in block))
                    if mode == "compiled":
                        if compiled is None:
                            compiled = compiled_gradients(algorithm, state, batch)
                        batch = compiled.place(batch)
                    measured = apply_update(
                        algorithm,
                        state,
                        batch,
                        state.update,
                        schedule(state.update),
                        compiled or eager_gradient,
                    )
                    metrics.add(measured)
        if on_chunk is not None:
            on_chunk(state, metrics.read)
