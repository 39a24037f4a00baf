"""Losses and their gradients as straight lines of operations, without the bookkeeping around them.

The operations are those of eager, in the same order, so the bits are the same (a test holds them
equal); what is saved is more than half of the time at these sizes. `torch.compile` needs a C++
compiler and a minute, and was slower here.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from qss_offline.algorithms.networks import Network
from qss_offline.algorithms.protocol import Algorithm, UpdateRule
from qss_offline.engine.state import TrainState
from qss_offline.engine.straight_line import SpareBuffers, StraightLine

Metrics = dict[str, Tensor]


def eager_gradient(
    algorithm: Algorithm, rule: UpdateRule, networks: dict[str, Network], batch: Any
) -> tuple[Tensor, Metrics]:
    """Return the gradient of a rule's loss for its network's flat tensor, and metrics `(S,)`.

    The losses of the seeds are summed and differentiated together. As no loss mixes seeds, each
    seed's gradient is what it would be alone.
    """
    trainable = networks[rule.network].trainable()
    loss, metrics = rule.loss(
        algorithm.parameters_type(**{**networks, rule.network: trainable}), batch
    )
    (gradient,) = torch.autograd.grad(loss.sum(), trainable.flat)
    return gradient, {name: value.detach() for name, value in metrics.items()}


_compiled: WeakKeyDictionary[Algorithm, dict[tuple[torch.Size, ...], CompiledGradients]] = (
    WeakKeyDictionary()
)


def compiled_gradients(algorithm: Algorithm, state: TrainState, batch: Any) -> CompiledGradients:
    """Return the algorithm's compiled gradients for these shapes; recorded on first use."""
    by_shapes = _compiled.setdefault(algorithm, {})
    shapes = tuple(column.shape for column in batch)
    if shapes not in by_shapes:
        by_shapes[shapes] = CompiledGradients(algorithm, state, batch)
    return by_shapes[shapes]


class CompiledGradients:
    """`eager_gradient` for every rule of an algorithm, recorded once for one stack and batch.

    Args:
        algorithm: whose rules are recorded. Tensors that its losses hold become constants.
        state: for the shapes of its networks; unchanged.
        batch: for the shapes of its columns.
    """

    def __init__(self, algorithm: Algorithm, state: TrainState, batch: Any) -> None:
        self._batch = type(batch)(*(column.clone() for column in batch))
        self._lines: dict[str, StraightLine] = {}
        self._metrics: dict[str, list[str]] = {}
        self._bound_to: tuple[Tensor, ...] = ()
        self._bound: dict[str, Callable[[], list[Tensor]]] = {}
        spare: SpareBuffers = {}
        for rule in algorithm.updates:
            self._lines[rule.network] = self._record(algorithm, rule, state, spare)

    def place(self, columns: Iterable[Tensor]) -> Any:
        """Copy a batch to where the recorded functions read it, and return it."""
        for placed, column in zip(self._batch, columns, strict=True):
            placed.copy_(column)
        return self._batch

    def __call__(
        self, algorithm: Algorithm, rule: UpdateRule, networks: dict[str, Network], batch: Any
    ) -> tuple[Tensor, Metrics]:
        """Do what `eager_gradient` does; what it returns is overwritten by the next call."""
        if batch is not self._batch:
            self.place(batch)
        flats = tuple(network.flat for network in networks.values())
        if not all(map(operator.is_, flats, self._bound_to)) or not self._bound:
            self._bound_to = flats
            self._bound = {n: line.bind((*flats, *self._batch)) for n, line in self._lines.items()}
        gradient, *metrics = self._bound[rule.network]()
        return gradient, dict(zip(self._metrics[rule.network], metrics, strict=True))

    def _record(
        self, algorithm: Algorithm, rule: UpdateRule, state: TrainState, spare: SpareBuffers
    ) -> StraightLine:
        shapes = {name: network.shape for name, network in state.networks.items()}

        def function(*tensors: Tensor) -> tuple[Tensor, ...]:
            flats = dict(zip(shapes, tensors, strict=False))
            networks = {name: Network(shape, flats[name]) for name, shape in shapes.items()}
            columns = type(self._batch)(*tensors[len(shapes) :])
            gradient, metrics = eager_gradient(algorithm, rule, networks, columns)
            self._metrics[rule.network] = list(metrics)
            return (gradient, *metrics.values())

        flats = (network.flat for network in state.networks.values())
        return StraightLine(function, (*flats, *self._batch), spare)
