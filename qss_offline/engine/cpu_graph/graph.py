"""A record of a loss and its gradient, run again and again on memory that is set aside once.

The bits are those of the function itself: left are its own operations in their own order, each of
which writes to the same memory in every run. Values that never change are those of the recorded
run, and memory serves again as soon as what it holds is no longer needed, so that little is in use
and stays in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache, partial
from inspect import isbuiltin, ismethoddescriptor
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from qss_offline.engine.cpu_graph.recorder import Call, Recorder, memory, operation_name

SpareMemory = dict[tuple[torch.device, int], list[torch.UntypedStorage]]
"""Memory that is free to be used, by device and number of bytes."""


class Graph:
    """The calls of a recorder, without those that needn't be run.

    Args:
        recorder: of the one run of a function.
        arguments: what the function read that changes between runs, in place. Other tensors that
            it held are constants.
        results: what it returned.
        spare: where memory is taken from and left for other graphs. Graphs that share it may not
            run at the same time.
    """

    def __init__(
        self,
        recorder: Recorder,
        arguments: Iterable[Tensor],
        results: Sequence[Tensor],
        spare: SpareMemory,
    ) -> None:
        calls = _without_constants(recorder.calls, {memory(tensor) for tensor in arguments})
        kept = {memory(tensor) for tensor in results}
        calls = _without_unused(calls, kept)
        last_use = {m: index for index, call in enumerate(calls) for m in call.read | call.written}
        places: dict[int, torch.UntypedStorage] = {}

        def place(tensor: Tensor) -> Tensor:
            if memory(tensor) not in places:
                return tensor.detach()
            empty = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
            storage, offset = places[memory(tensor)], tensor.storage_offset()
            return empty.set_(storage, offset, tensor.shape, tensor.stride())

        self._calls: list[Callable[[], object]] = []
        for index, call in enumerate(calls):
            for made in call.written - places.keys():
                storage = recorder.made[made]
                free = spare.get((storage.device, storage.nbytes()))
                places[made] = free.pop() if free else storage
            self._calls.append(_bind(call, place))
            for used in call.read | call.written:
                if last_use[used] == index and used in places and used not in kept:
                    storage = places[used]
                    spare.setdefault((storage.device, storage.nbytes()), []).append(storage)
        # Spares each call torch's bookkeeping for gradients.
        self._mode = torch.inference_mode()
        self._results = [place(tensor) for tensor in results]

    def run(self) -> list[Tensor]:
        """Return what the function would; overwritten by the next run."""
        with self._mode:
            for call in self._calls:
                call()
        return self._results


def _without_constants(calls: Sequence[Call], varying: set[int]) -> list[Call]:
    """Leave out what gives the same in every run, such as the mean's share of a sum."""
    varying = varying.union(*(call.written for call in calls if not call.results))
    left = []
    for call in calls:
        if (call.read | call.written) & varying:
            varying |= call.written
            left.append(call)
    return left


def _without_unused(calls: Sequence[Call], needed: set[int]) -> list[Call]:
    """Leave out what no result comes of."""
    left = []
    for call in reversed(calls):
        if call.written & needed:
            needed = needed | call.read
            left.append(call)
    return left[::-1]


def _bind(call: Call, place: Callable[[Tensor], Tensor]) -> Callable[[], object]:
    """Return an operation that writes to where its results are placed; it is run once."""
    args, kwargs, results = tree_map_only(Tensor, place, (call.args, call.kwargs, call.results))
    variant, out = _out_variant(call.operation)
    if variant is not None and results:
        return _quickest(variant, args, {**kwargs, out: results[0]})
    compute = _quickest(call.operation, args, kwargs)
    if not results:
        return compute

    def copied() -> None:
        for result, value in zip(results, tree_leaves(compute()), strict=True):
            result.copy_(value)

    copied()
    return copied


@cache
def _out_variant(operation: Any) -> tuple[Any, str]:
    """Find the variant of an operation that writes to a given tensor, and that argument's name.

    Generated ones copy, and take longer for it.
    """
    wanted = [(argument.name, str(argument.type)) for argument in operation._schema.arguments]
    for overload in operation.overloadpacket.overloads():
        variant = getattr(operation.overloadpacket, overload)
        arguments = variant._schema.arguments
        written = [a for a in arguments if a.alias_info is not None and a.kwarg_only]
        read = [(a.name, str(a.type)) for a in arguments if a.alias_info is None]
        generated = torch.Tag.generated in variant.tags
        if not generated and [str(a.type) for a in written] == ["Tensor"] and read == wanted:
            return variant, written[0].name
    return None, ""


def _quickest(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> partial[object]:
    """Run an operation by torch's own function or method of that name where it takes these.

    They take half of the time that `torch.ops` takes to get to the same code.
    """
    name = operation_name(operation)
    functions = [getattr(holder, name, None) for holder in (torch, Tensor)]
    for function in functions:
        if isbuiltin(function) or ismethoddescriptor(function):
            call = partial(function, *args, **kwargs)
            with suppress(TypeError):
                call()
                return call
    call = partial(operation, *args, **kwargs)
    call()
    return call
