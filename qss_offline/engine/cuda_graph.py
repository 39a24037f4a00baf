"""Updates in one CUDA graph: one launch where eager takes thousands."""

from __future__ import annotations

import math
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch

from qss_offline.algorithms.protocol import Algorithm
from qss_offline.engine.device import send
from qss_offline.engine.fused import FusedUpdate, due_rules
from qss_offline.engine.graph_device import GRAPH_DEVICES, GraphDevice
from qss_offline.engine.schedule import Schedule
from qss_offline.engine.state import TrainState
from qss_offline.engine.update import Metrics, MetricSums, apply_update
from qss_offline.errors import UserError

_WARM_UP_UPDATES = 3


class CapturedUpdates:
    """A number of updates, captured once and replayed on new batches.

    The graph holds the very functions that eager runs. It reads its batches and step sizes from
    fixed memory and changes the state's tensors in place; the random draws and the gathers stay
    outside, a few launches for all of them.

    Args:
        algorithm: what to train.
        state: unchanged by the capture.
        block: columns of `(updates, S, B, …)`, for their shapes.
        device: that records.
        fused: compile the updates into few kernels first (`engine/fused.py`).
    """

    def __init__(
        self,
        algorithm: Algorithm,
        state: TrainState,
        block: Any,
        device: GraphDevice,
        fused: bool = False,
    ) -> None:
        self._tensors = state.tensors()
        self._length = len(block[0])
        self._block = type(block)(*(torch.empty_like(column) for column in block))
        # Each at the start of 16 bytes, as compiled kernels want their arguments.
        self._step_sizes = torch.zeros(self._length, 4, device=state.device)[:, 0]
        self._counts: dict[str, int] = {}
        before = [tensor.clone() for tensor in self._tensors]
        for column, values in zip(self._block, block, strict=True):
            column.copy_(values)

        # What is compiled stays as long as what was captured of it.
        self._fused = FusedUpdate(algorithm, state) if fused else None
        apply = self._fused or partial(apply_update, algorithm, state)

        def update(index: int) -> Metrics:
            batch = type(block)(*(column[index] for column in self._block))
            return apply(batch, state.update + index + 1, self._step_sizes[index])

        # Libraries and compilers set themselves up on first use, which a capture may not record.
        numbers = range(state.update + 1, state.update + 1 + self._length)
        kinds = {due_rules(algorithm, number): i for i, number in enumerate(numbers)}
        with device.stream():
            for index in list(kinds.values()) * _WARM_UP_UPDATES:
                update(index)
        with device.graph() as self._replay:
            totals: Metrics = {}
            for index in range(self._length):
                for name, value in update(index).items():
                    totals[name] = totals[name] + value if name in totals else value
                    self._counts[name] = self._counts.get(name, 0) + 1
        self._totals = totals
        for tensor, value in zip(self._tensors, before, strict=True):
            tensor.copy_(value)

    def reads(self, state: TrainState) -> bool:
        """Whether the state's tensors are those that it changes."""
        return all(a is b for a, b in zip(self._tensors, state.tensors(), strict=True))

    def replay(
        self, state: TrainState, block: Any, schedule: Schedule, metrics: MetricSums
    ) -> None:
        """Apply the updates on the batches of `block`."""
        for column, values in zip(self._block, block, strict=True):
            column.copy_(values)
        first = state.update + 1
        step_sizes = [schedule(update) for update in range(first, first + self._length)]
        self._step_sizes.copy_(send(torch.tensor(step_sizes), state.device))
        self._replay()
        state.update += self._length
        for name, total in self._totals.items():
            metrics.add({name: total}, self._counts[name])


_Key = tuple[int, bool, int, tuple[torch.Size, ...]]
_captured: WeakKeyDictionary[TrainState, dict[_Key, tuple[Algorithm, CapturedUpdates]]] = (
    WeakKeyDictionary()
)


def captured_updates(
    algorithm: Algorithm,
    state: TrainState,
    block: Any,
    schedule: Schedule,
    metrics: MetricSums,
    fused: bool = False,
) -> None:
    """Apply an update for each batch of a block, captured when the like of it first comes.

    What is captured is kept as long as the state lives: for an algorithm, a block's shapes, and
    where it starts among the rules' intervals.

    Raises:
        UserError: the state's device can't capture.
    """
    device = GRAPH_DEVICES.get(state.device.type)
    if device is None:
        raise UserError("captured training needs a CUDA device; use eager")
    intervals = {rule.interval for rule in algorithm.updates}
    intervals |= {track.interval for track in algorithm.tracks}
    phase = state.update % math.lcm(*intervals)
    kept = _captured.setdefault(state, {})
    key = id(algorithm), fused, phase, tuple(column.shape for column in block)
    found = kept.get(key)
    if found is None or not found[1].reads(state):
        # With the algorithm, whose id would else be another's one day.
        found = kept[key] = algorithm, CapturedUpdates(algorithm, state, block, device, fused)
    found[1].replay(state, block, schedule, metrics)
