"""One update as one function that a compiler makes few kernels of.

`make_fx` writes down what an update does to tensors, gradients included, and `torch.compile` fuses
biases, activations, reductions and Adam between the matrix products. It takes a compiler (on GPUs
Triton, which comes with torch there) and up to a minute; where it fails, updates run as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from qss_offline.algorithms.networks import Network
from qss_offline.algorithms.protocol import Algorithm
from qss_offline.engine.adam import AdamState, adam_step, adam_step_in_parts
from qss_offline.engine.state import TrainState
from qss_offline.engine.update import Metrics, apply_update
from qss_offline.errors import printable
from qss_offline.parallel.reporting import say_once

BACKEND = "inductor"
"""Of `torch.compile`."""

_TOLERANCE = 0.01
"""By how much of its norm anything may differ from what it is without fusing."""

_Function = Callable[[list[Tensor], list[Tensor], Tensor], Metrics]
"""From the tensors of a state, changed in place, a batch's columns and Adam's step size."""


class FusedUpdate:
    """Updates of a state, fused.

    Args:
        algorithm: what to train.
        state: changed in place, but for its update count.
    """

    def __init__(self, algorithm: Algorithm, state: TrainState) -> None:
        self._algorithm, self._tensors = algorithm, state.tensors()
        # Not the state itself: what was captured goes with it.
        self._seeds, self._moments = state.seeds, tuple(state.moments)
        self._shapes = {name: network.shape for name, network in state.networks.items()}
        self._functions: dict[tuple[bool, ...], _Function] = {}

    def __call__(self, batch: Any, number: int, step_size: Tensor) -> Metrics:
        """Do what `apply_update` does."""
        due = due_rules(self._algorithm, number)
        columns = list(batch)
        if due not in self._functions:
            self._functions[due] = self._compile(type(batch), number, columns, step_size)
        return self._functions[due](self._tensors, columns, step_size)

    def _compile(
        self, make_batch: Callable[..., Any], number: int, columns: list[Tensor], step_size: Tensor
    ) -> _Function:
        """Compile the update of a number; return it as it is where that fails."""

        def function(plain: bool) -> _Function:
            def run(tensors: list[Tensor], columns: list[Tensor], step_size: Tensor) -> Metrics:
                state = self._with_tensors(tensors, plain)
                step = adam_step_in_parts if plain else adam_step
                batch = make_batch(*columns)
                return apply_update(self._algorithm, state, batch, number, step_size, step=step)

            return run

        before, after = ([t.clone() for t in self._tensors] for _ in range(2))
        try:
            # Takes seconds to import.
            from torch.fx.experimental.proxy_tensor import make_fx

            graph = make_fx(function(plain=True))([*after], columns, step_size)
            for tensor, value in zip(after, before, strict=True):
                tensor.copy_(value)
            fused: _Function = torch.no_grad()(
                torch.compile(graph, fullgraph=True, dynamic=False, backend=BACKEND)
            )
            found = fused(after, columns, step_size)
            expected = function(plain=False)(before, columns, step_size)
            _check(list(expected.values()) + before, [found[name] for name in expected] + after)
        except Exception as error:  # Compilers fail in ways of their own.
            reason = printable(str(error).partition("\n")[0])
            say_once(f"updates aren't fused, which is slower: {type(error).__name__}: {reason}")
            return function(plain=False)
        return fused

    def _with_tensors(self, tensors: list[Tensor], plain: bool) -> TrainState:
        """Return a state of other tensors, in the order of `TrainState.tensors`."""
        left = iter(tensors)
        networks = {n: Network(shape, next(left), plain) for n, shape in self._shapes.items()}
        moments = {name: AdamState(next(left), next(left), next(left)) for name in self._moments}
        return TrainState(self._seeds, networks, moments, [], 0)


def due_rules(algorithm: Algorithm, number: int) -> tuple[bool, ...]:
    """Return which rules an update applies."""
    intervals = [rule.interval for rule in algorithm.updates]
    intervals += [track.interval for track in algorithm.tracks]
    return tuple(number % interval == 0 for interval in intervals)


def _check(expected: list[Tensor], found: list[Tensor]) -> None:
    for one, another in zip(expected, found, strict=True):
        difference = torch.linalg.vector_norm(one - another)
        if not difference <= _TOLERANCE * torch.linalg.vector_norm(one) + 1e-6:
            raise ArithmeticError("fused updates give other numbers")
