"""How long an update takes here: measured on random numbers, before hours are spent."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from qss_offline.algorithms.protocol import Algorithm
from qss_offline.engine.loop import fit
from qss_offline.engine.state import initial_state

_PREPARING, _TIMED, _REPEATS = 5, 8, 5
"""Updates: in the first ones what follows is recorded. Of several measurements the shortest counts:
other work on the machine only makes one longer."""


class _Fixed:
    """The same batch for every update."""

    def __init__(self, columns: Sequence[Tensor], make_batch: Callable[..., Any]) -> None:
        self._columns, self._make_batch = columns, make_batch

    def draw(self, generators: Sequence[torch.Generator], updates: int) -> Any:
        return self._make_batch(*(c.expand(updates, *c.shape) for c in self._columns))


def seconds_per_update(
    algorithm: Algorithm,
    widths: Sequence[int | None],
    batch_size: int,
    make_batch: Callable[..., Any],
) -> float:
    """Return the seconds that one update of a seed takes in this thread, on a CPU.

    Args:
        algorithm: what is trained; its step sizes are 0 here.
        widths: numbers in a row of each column of a batch; None for a column without that axis.
        batch_size: B.
        make_batch: makes a batch of its columns.
    """
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, batch_size) if w is None else (1, batch_size, w) for w in widths]
    sampler = _Fixed([torch.rand(shape, generator=generator) for shape in shapes], make_batch)
    state = initial_state(algorithm, (0,))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        fit(algorithm, state, sampler, _PREPARING, 0.0, mode="recorded")
        seconds = []
        for _ in range(_REPEATS):
            begun = time.perf_counter()
            fit(algorithm, state, sampler, state.update + _TIMED, 0.0, mode="recorded")
            seconds.append(time.perf_counter() - begun)
        return min(seconds) / _TIMED
    finally:
        torch.set_num_threads(threads)
