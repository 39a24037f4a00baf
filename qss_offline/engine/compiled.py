"""Losses and their gradients as straight-line graphs: the same operations without Python.

`make_fx` records which operations a loss and its backward pass run on given shapes; TorchScript
runs the record. The operations are those of eager, in the same order, so the bits are the same
(a test holds them equal); what is saved is the bookkeeping around them, which at these sizes is a
third of the time. `torch.compile` needs a C++ compiler and a minute, and was slower here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from qss_offline.algorithms.networks import Network
from qss_offline.algorithms.protocol import Algorithm, UpdateRule
from qss_offline.engine.state import TrainState

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


_recorded: WeakKeyDictionary[Algorithm, dict[tuple[torch.Size, ...], CompiledGradients]] = (
    WeakKeyDictionary()
)


def compiled_gradients(algorithm: Algorithm, state: TrainState, batch: Any) -> CompiledGradients:
    """Return the algorithm's recorded gradients for these shapes; recorded on first use."""
    by_shapes = _recorded.setdefault(algorithm, {})
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
        self._functions: dict[str, Callable[..., tuple[Tensor, ...]]] = {}
        self._metrics: dict[str, list[str]] = {}
        for rule in algorithm.updates:
            self._functions[rule.network] = self._record(algorithm, rule, state, batch)

    def __call__(
        self, algorithm: Algorithm, rule: UpdateRule, networks: dict[str, Network], batch: Any
    ) -> tuple[Tensor, Metrics]:
        """Do what `eager_gradient` does."""
        flats = (network.flat for network in networks.values())
        gradient, *metrics = self._functions[rule.network](*flats, *batch)
        return gradient, dict(zip(self._metrics[rule.network], metrics, strict=True))

    def _record(
        self, algorithm: Algorithm, rule: UpdateRule, state: TrainState, batch: Any
    ) -> Callable[..., tuple[Tensor, ...]]:
        shapes = {name: network.shape for name, network in state.networks.items()}

        def function(*tensors: Tensor) -> tuple[Tensor, ...]:
            flats = dict(zip(shapes, tensors, strict=False))
            networks = {name: Network(shape, flats[name]) for name, shape in shapes.items()}
            columns = type(batch)(*tensors[len(shapes) :])
            gradient, metrics = eager_gradient(algorithm, rule, networks, columns)
            self._metrics[rule.network] = list(metrics)
            return (gradient, *metrics.values())

        example = (*(network.flat for network in state.networks.values()), *batch)
        graph = make_fx(function)(*example)
        graph.graph.eliminate_dead_code()
        graph.recompile()
        with warnings.catch_warnings():
            # TorchScript is no longer developed, which is what it says here; it stays in torch.
            warnings.simplefilter("ignore")
            recorded: Callable[..., tuple[Tensor, ...]] = torch.jit.trace(
                graph, example, check_trace=False
            )
        return recorded
