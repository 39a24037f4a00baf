"""A function of tensors as a straight line of operations on memory that is set aside once.

What a record of a function's operations holds besides arithmetic is done once instead of in every
call: views are taken, values that never change are computed, and every result is given a buffer,
which serves again as soon as what it held is no longer needed, so that few are in use and they stay
in the processor's cache. What is left are the function's own operations in their own order, each
writing to its buffer; TorchScript runs them without Python. The bits are those of the function
itself.
"""

from __future__ import annotations

import operator
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx

from qss_offline.engine.recording import LAYOUT, record

_UNSET = {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided"}
_FILLED = {"ones", "ones_like", "zeros", "zeros_like", "full", "full_like"}

SpareBuffers = dict[tuple[int, torch.dtype], list[Tensor]]
"""Memory that is free to be used, by number of elements and type."""


class StraightLine:
    """A recorded function of tensors.

    Args:
        function: from tensors to a sequence of tensors. It may not look at their values.
            Tensors that it holds become constants.
        example: arguments of the right shapes; the function is run on them once.
        spare: where buffers are taken from and left for other functions. Functions that share
            them may not run at the same time.

    Raises:
        NotImplementedError: the function runs an operation with several results, or without any,
            or one that looks at values.
    """

    def __init__(
        self,
        function: Callable[..., Sequence[Tensor]],
        example: Sequence[Tensor],
        spare: SpareBuffers,
    ) -> None:
        recorded = record(function, example)
        self._graph, self._constants = recorded.graph, recorded.constants
        self._fold_constants()
        self._graph.eliminate_dead_code()
        self._nodes = list(self._graph.nodes)
        self._owners = _find_owners(self._nodes)
        self._buffers = self._plan_buffers(spare)
        self._script: Any = None

    def bind(self, tensors: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
        """Return the function as it runs on these very tensors, whatever they hold by then.

        What it returns is overwritten by its next call.
        """
        calls, results = self._calls(tensors)
        arguments: list[Tensor] = []
        places: dict[int, _Place] = {}

        def place(argument: Any) -> Any:
            if not isinstance(argument, Tensor):
                return argument
            if id(argument) not in places:
                places[id(argument)] = _Place(len(arguments))
                arguments.append(argument)
            return places[id(argument)]

        placed = [(call, fx.node.map_aggregate(values, place)) for call, values in calls]
        inputs = tuple(arguments)
        if self._script is None:
            self._script = _trace(placed, inputs)
        script = self._script

        def run() -> list[Tensor]:
            script(*inputs)
            return results

        return run

    def _calls(
        self, tensors: Sequence[Tensor]
    ) -> tuple[list[tuple[Any, tuple[Any, ...]]], list[Tensor]]:
        """Return each operation with its positional arguments and keywords, and the results."""
        inputs = iter(tensors)
        values: dict[fx.Node, Any] = dict(self._buffers)
        calls: list[tuple[Any, tuple[Any, ...]]] = []
        results: list[Tensor] = []
        for node in self._nodes:
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.get)
            if node.op == "placeholder":
                values[node] = next(inputs)
            elif node.op == "output":
                results = list(args[0])
            elif node.op == "get_attr":
                values[node] = self._constants[str(node.target)]
            elif _name(node) in _UNSET:
                continue
            elif _is_view(node):
                values[node] = node.target(*args, **kwargs)
            elif node in self._buffers:
                variant, out = _out_variant(node.target)
                calls.append((variant, (args, {**kwargs, out: self._buffers[node]})))
            else:
                calls.append((node.target, (args, kwargs)))
                values[node] = values[_written(node)]
        return calls, results

    def _fold_constants(self) -> None:
        """Compute values that are the same in every call, such as the mean's share of a sum."""
        graph = self._graph
        owners = _find_owners(graph.nodes)
        written = {owners[node] for node in graph.nodes if _writes(node)}
        for node in list(graph.nodes):
            # Of what a filled tensor is to be like, only the shape counts.
            filled = _name(node) in _FILLED
            inputs = node.all_input_nodes
            folded = node.op == "call_function" and (
                filled or (inputs and all(argument.op == "get_attr" for argument in inputs))
            )
            if not folded or owners[node] in written:
                continue

            def value(argument: fx.Node, filled: bool = filled) -> Any:
                if filled:
                    return argument.meta[LAYOUT].empty()
                return self._constants[str(argument.target)]

            args, kwargs = fx.node.map_arg((node.args, node.kwargs), value)
            name = f"folded_{node.name}"
            self._constants[name] = node.target(*args, **kwargs)
            with graph.inserting_before(node):
                node.replace_all_uses_with(graph.get_attr(name), propagate_meta=True)
            graph.erase_node(node)

    def _plan_buffers(self, spare: SpareBuffers) -> dict[fx.Node, Tensor]:
        """Give each result memory that nothing else needs while it lives."""
        last_use: dict[fx.Node, int] = {}
        for index, node in enumerate(self._nodes):
            for used in (node, *node.all_input_nodes):
                last_use[self._owners[used]] = index
        ending: dict[int, list[fx.Node]] = defaultdict(list)
        for owner, index in last_use.items():
            ending[index].append(owner)
        memory: dict[fx.Node, Tensor] = {}
        buffers: dict[fx.Node, Tensor] = {}
        for index, node in enumerate(self._nodes):
            if node.op == "call_function" and self._owners[node] is node:
                like = node.meta.get(LAYOUT)
                if like is None:
                    raise NotImplementedError(f"{node.target} in a loss can't be compiled")
                key = (like.elements, like.dtype)
                memory[node] = (
                    spare[key].pop()
                    if spare.get(key)
                    else torch.empty(like.elements, dtype=like.dtype, device=like.device)
                )
                buffers[node] = memory[node].as_strided(like.shape, like.stride)
            if node.op == "output":
                # Results live on after the call.
                continue
            for owner in ending[index]:
                if owner in memory:
                    freed = memory[owner]
                    spare.setdefault((freed.numel(), freed.dtype), []).append(freed)
        return buffers


class _Place:
    """Stands for the tensor at this place in the list of arguments."""

    def __init__(self, index: int) -> None:
        self.index = index


def _trace(calls: Sequence[tuple[Any, Any]], inputs: tuple[Tensor, ...]) -> Any:
    def run(*tensors: Tensor) -> Tensor:
        for call, values in calls:
            args, kwargs = fx.node.map_aggregate(
                values, lambda v: tensors[v.index] if isinstance(v, _Place) else v
            )
            call(*args, **kwargs)
        return tensors[0]

    with warnings.catch_warnings():
        # TorchScript is no longer developed, which is what it says here; it stays in torch.
        warnings.simplefilter("ignore")
        return torch.jit.trace(run, inputs, check_trace=False)


def _find_owners(nodes: Iterable[fx.Node]) -> dict[fx.Node, fx.Node]:
    """For each value, the node that brought forth the memory it lies in."""
    owners: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        source = node
        if _is_view(node):
            source = node.all_input_nodes[0]
        elif _writes(node):
            source = _written(node)
        owners[node] = owners.get(source, source)
    return owners


def _name(node: fx.Node) -> str:
    schema = getattr(node.target, "_schema", None)
    return "" if schema is None else schema.name.removeprefix("aten::")


def _writes(node: fx.Node) -> bool:
    """Whether an operation writes to one of its arguments."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def _is_view(node: fx.Node) -> bool:
    """Whether a call returns a view of its argument, or picks one of several."""
    if node.op != "call_function" or _writes(node):
        return False
    if node.target is operator.getitem:
        return True
    return any(value.alias_info is not None for value in node.target._schema.returns)  # type: ignore[union-attr]


def _written(node: fx.Node) -> fx.Node:
    """The argument that an operation writes to and returns."""
    for position, argument in enumerate(node.target._schema.arguments):  # type: ignore[union-attr]
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = node.kwargs.get(argument.name) if argument.kwarg_only else node.args[position]
            if isinstance(value, fx.Node) and node.target._schema.returns:  # type: ignore[union-attr]
                return value
    raise NotImplementedError(f"{node.target} in a loss can't be compiled")


@cache
def _out_variant(operation: Any) -> tuple[Any, str]:
    """Find the variant of an operation that writes to a given tensor, and that argument's name."""
    wanted = [(argument.name, str(argument.type)) for argument in operation._schema.arguments]
    for overload in operation.overloadpacket.overloads():
        variant = getattr(operation.overloadpacket, overload)
        arguments = variant._schema.arguments
        written = [a for a in arguments if a.alias_info is not None and a.kwarg_only]
        read = [(a.name, str(a.type)) for a in arguments if a.alias_info is None]
        if len(written) == 1 and read == wanted:
            return variant, written[0].name

    def copied(*args: Any, out: Tensor, **kwargs: Any) -> Tensor:
        return out.copy_(operation(*args, **kwargs))

    return copied, "out"
