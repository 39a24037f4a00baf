"""The training loop: draw batches, apply the algorithm's rules, report what was measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch

from qss_offline.algorithms.protocol import Algorithm
from qss_offline.engine.cpu_graph import recorded_gradients
from qss_offline.engine.cuda_graph import captured_updates
from qss_offline.engine.denormals import denormals_as_zero
from qss_offline.engine.graph_device import captures
from qss_offline.engine.sampler import Sampler
from qss_offline.engine.schedule import Schedule, constant
from qss_offline.engine.state import TrainState
from qss_offline.engine.update import CHUNK, MetricSums, apply_update, eager_gradients

Mode = Literal["eager", "recorded", "captured"]
"""How the same functions are run: as they are, recorded once and run without Python
(`engine/cpu_graph`), or in a CUDA graph (`engine/cuda_graph.py`)."""


def best_mode(device: torch.device) -> Mode:
    """Return how updates run fastest on a device."""
    return "captured" if captures(device) else "recorded"


ReadMetrics = Callable[[], dict[str, list[float]]]


def fit(
    algorithm: Algorithm,
    state: TrainState,
    sampler: Sampler,
    updates: int,
    learning_rate: float | Schedule,
    on_chunk: Callable[[TrainState, ReadMetrics], None] | None = None,
    mode: Mode = "eager",
    fused: bool = False,
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
        fused: compile what is captured first, which takes up to a minute (`engine/fused.py`).
    """
    schedule = learning_rate if callable(learning_rate) else constant(learning_rate)
    metrics = MetricSums()
    gradients = recorded_gradients if mode == "recorded" else eager_gradients
    while state.update < updates:
        length = min(CHUNK - state.update % CHUNK, updates - state.update)
        block = sampler.draw(state.generators, length)
        if mode == "captured" and length == CHUNK:
            captured_updates(algorithm, state, block, schedule, metrics, fused)
        else:
            with denormals_as_zero():
                for batch in map(type(block), *(column.unbind() for column in block)):
                    state.update += 1
                    measured = apply_update(
                        algorithm,
                        state,
                        batch,
                        state.update,
                        schedule(state.update),
                        gradients,
                    )
                    metrics.add(measured)
        if on_chunk is not None:
            on_chunk(state, metrics.read)
