"""Gradients of losses without the bookkeeping around their operations.

`recorded_gradients` is the way in. The operations are those of eager, in the same order, so the
bits are the same; what is saved is up to three quarters of the time of small networks.
`torch.compile` needs a C++ compiler and a minute, and was slower here.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from qss_offline.algorithms.networks import Network
from qss_offline.algorithms.protocol import Algorithm, UpdateRule
from qss_offline.engine.cpu_graph.graph import Graph, SpareMemory
from qss_offline.engine.cpu_graph.recorder import CannotRecordError, Recorder
from qss_offline.engine.update import GradientOf, Metrics, eager_gradients
from qss_offline.parallel.reporting import say_once


@dataclass
class _Recorded:
    """The gradient of a rule.

    Attributes:
        graph: gives the gradient, then the metrics.
        names: of the metrics.
        checked: whether it was seen to give the bits of eager.
    """

    graph: Graph
    names: list[str]
    checked: bool = False

    def run(self) -> tuple[Tensor, Metrics]:
        """Return the gradient and the metrics; overwritten by the next run."""
        gradient, *metrics = self.graph.run()
        return gradient, dict(zip(self.names, metrics, strict=True))


class _Recording:
    """The gradients of an algorithm, for these networks and batches of this shape."""

    def __init__(self, networks: dict[str, Network], batch: Any) -> None:
        self._flats = [network.flat for network in networks.values()]
        self._batch = type(batch)(*(column.clone() for column in batch))
        # By network; None where eager must do.
        self._rules: dict[str, _Recorded | None] = {}
        self._spare: SpareMemory = {}

    def reads(self, networks: dict[str, Network]) -> bool:
        """Whether these are its networks."""
        return all(map(operator.is_, self._flats, (n.flat for n in networks.values())))

    def place(self, batch: Any) -> None:
        """Copy a batch to where the graphs read it."""
        for placed, column in zip(self._batch, batch, strict=True):
            placed.copy_(column)

    def gradient(
        self, algorithm: Algorithm, networks: dict[str, Network], rule: UpdateRule
    ) -> tuple[Tensor, Metrics]:
        """Return a rule's gradient and metrics for the batch that was placed last."""
        recorded = self._rules.get(rule.network)
        if recorded is not None and recorded.checked:
            return recorded.run()
        eager = eager_gradients(algorithm, networks, self._batch)
        expected = eager(rule)
        try:
            if rule.network not in self._rules:
                self._rules[rule.network] = self._record(eager, rule)
            elif recorded is not None:
                recorded.checked = _same_bits(recorded.run(), expected)
                if not recorded.checked:
                    raise CannotRecordError("it depends on values out of torch's sight")
        except (CannotRecordError, RuntimeError) as error:
            self._rules[rule.network] = None
            reason = str(error).partition("\n")[0]
            say_once(f"the loss of {rule.network!r} runs eager, which is slower: {reason}")
        return expected

    def _record(self, eager: GradientOf, rule: UpdateRule) -> _Recorded:
        with Recorder() as recorder:
            gradient, metrics = eager(rule)
        results = [gradient, *metrics.values()]
        graph = Graph(recorder, [*self._flats, *self._batch], results, self._spare)
        return _Recorded(graph, list(metrics))


_recordings: WeakKeyDictionary[Algorithm, dict[tuple[torch.Size, ...], _Recording]] = (
    WeakKeyDictionary()
)


def recorded_gradients(
    algorithm: Algorithm, networks: dict[str, Network], batch: Any
) -> GradientOf:
    """Do what `eager_gradients` does; what a rule gives is overwritten when it is next applied.

    A rule's first loss for these networks and shapes is recorded, the second is compared. One that
    can't be recorded, or gives other bits then, is left to eager, which is said once. Tensors that
    a loss holds are constants.
    """
    by_shapes = _recordings.setdefault(algorithm, {})
    shapes = tuple(column.shape for column in batch)
    recording = by_shapes.get(shapes)
    if recording is None or not recording.reads(networks):
        recording = by_shapes[shapes] = _Recording(networks, batch)
    recording.place(batch)
    return partial(recording.gradient, algorithm, networks)


def _same_bits(left: tuple[Tensor, Metrics], right: tuple[Tensor, Metrics]) -> bool:
    pairs = zip((left[0], *left[1].values()), (right[0], *right[1].values()), strict=True)
    return all(torch.allclose(*pair, rtol=0, atol=0, equal_nan=True) for pair in pairs)
