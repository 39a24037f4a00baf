"""A chunk of updates in one CUDA graph: one launch where eager takes thousands."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from qss_offline.algorithms.protocol import Algorithm
from qss_offline.engine.schedule import Schedule
from qss_offline.engine.state import TrainState
from qss_offline.engine.update import CHUNK, Metrics, MetricSums, apply_update
from qss_offline.errors import UserError

_WARM_UP_UPDATES = 4


class CapturedChunk:
    """`CHUNK` updates, captured once and replayed on new batches.

    The graph holds the very functions that eager runs. It reads its batches from fixed memory and
    changes the state's tensors in place; the random draws and the gathers stay outside, a few
    launches a chunk.

    Args:
        algorithm: what to train.
        state: on a CUDA device; unchanged by the capture.
        block: columns of `(CHUNK, S, B, …)`, for their shapes.
        schedule: Adam's step size.

    Raises:
        UserError: the state isn't on a CUDA device, or a rule's interval doesn't divide `CHUNK`.
    """

    def __init__(
        self, algorithm: Algorithm, state: TrainState, block: Any, schedule: Schedule
    ) -> None:
        if not state.device.type == "cuda":
            raise UserError("captured training needs a CUDA device; use eager")
        intervals = {rule.interval for rule in algorithm.updates}
        intervals |= {track.interval for track in algorithm.tracks}
        if any(CHUNK % interval for interval in intervals):
            raise UserError(f"captured training needs intervals that divide {CHUNK}; use eager")
        self._schedule = schedule
        self._step_sizes = torch.zeros(CHUNK, device=state.device)
        self._block = type(block)(*(column.clone() for column in block))
        before = [tensor.clone() for tensor in _tensors(state)]

        def updates(count: int) -> Metrics:
            totals: Metrics = {}
            self._counts: dict[str, int] = {}
            for index in range(count):
                batch = type(block)(*(column[index] for column in self._block))
                measured = apply_update(algorithm, state, batch, index + 1, self._step_sizes[index])
                for name, value in measured.items():
                    totals[name] = totals[name] + value if name in totals else value
                    self._counts[name] = self._counts.get(name, 0) + 1
            return totals

        # Libraries set themselves up on first use, which a capture may not record.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            updates(_WARM_UP_UPDATES)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._totals = updates(CHUNK)
        for tensor, value in zip(_tensors(state), before, strict=True):
            tensor.copy_(value)

    def replay(self, state: TrainState, block: Any, metrics: MetricSums) -> None:
        """Apply `CHUNK` updates on the batches of `block`."""
        for column, values in zip(self._block, block, strict=True):
            column.copy_(values)
        first = state.update + 1
        step_sizes = [self._schedule(update) for update in range(first, first + CHUNK)]
        self._step_sizes.copy_(torch.tensor(step_sizes))
        self._graph.replay()
        state.update += CHUNK
        for name, total in self._totals.items():
            metrics.add({name: total}, self._counts[name])


def _tensors(state: TrainState) -> list[Tensor]:
    networks = [network.flat for network in state.networks.values()]
    moments = [tensor for m in state.moments.values() for tensor in (m.first, m.second, m.steps)]
    return [*networks, *moments]
