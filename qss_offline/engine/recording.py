"""Which operations a function of tensors runs, as a graph.

`torch.fx.experimental.proxy_tensor.make_fx` records the same, and imports torch's whole compiler
for it, which takes seconds at the start of every process that trains.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._python_dispatch import TorchDispatchMode

# What they give, or its shape, would be that of the example in every call.
_LOOKS_AT_VALUES = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}

LAYOUT = "layout"
"""Where a node's `meta` says how its tensor lies in memory; not there for other values."""


@dataclass(frozen=True)
class Layout:
    """How a tensor lies in memory.

    Attributes:
        shape: its sizes.
        stride: elements between neighbours, along each dimension.
        elements: of all the memory that it lies in.
        dtype: type of an element.
        device: where.
    """

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    elements: int
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, tensor: Tensor) -> Layout:
        """Return a tensor's layout."""
        elements = tensor.untyped_storage().nbytes() // tensor.element_size()
        return cls(
            tuple(tensor.shape), tuple(tensor.stride()), elements, tensor.dtype, tensor.device
        )

    def empty(self) -> Tensor:
        """Return a tensor of this layout, whatever it holds."""
        return torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device=self.device)


@dataclass(frozen=True, eq=False)
class Record:
    """The operations of a function, in their order.

    Attributes:
        graph: a placeholder for each argument, a call for each operation, and the results.
            A `get_attr` stands for a tensor that the function holds.
        constants: these tensors, by name.
    """

    graph: fx.Graph
    constants: dict[str, Tensor]


def record(function: Callable[..., Sequence[Tensor]], example: Sequence[Tensor]) -> Record:
    """Run a function once and return the operations that it ran, gradients' included.

    Args:
        function: from tensors to a sequence of tensors. What it does may not depend on their
            values.
        example: arguments of the right shapes; unchanged, unless the function changes them.

    Raises:
        NotImplementedError: the function looks at values, or makes tensors out of sight.
    """
    recorder = _Recorder()
    arguments = [tensor.detach() for tensor in example]
    for number, argument in enumerate(arguments):
        recorder.add(recorder.graph.placeholder(f"argument_{number}"), argument)
    with recorder:
        results = function(*arguments)
    recorder.graph.output(tuple(recorder.node(result) for result in results))
    return Record(recorder.graph, recorder.constants)


_NOTHING = 0
"""Where tensors without elements lie."""


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class _Recorder(TorchDispatchMode):
    """Sees every operation below autograd, which is where gradients are operations, too."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.graph = fx.Graph()
        self.constants: dict[str, Tensor] = {}
        # By identity, so that tensors must be kept: another one could get a dead one's.
        self._nodes: dict[int, fx.Node] = {}
        self._kept: list[Tensor] = []
        # Addresses of memory: of constants, and of all else.
        self._held: set[int] = set()
        self._made: set[int] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keep torch from importing its compiler in order to skip it."""
        return False

    def add(self, node: fx.Node, value: Any) -> None:
        """Note which node a value came of."""
        if isinstance(value, Tensor):
            node.meta[LAYOUT] = Layout.of(value)
            self._nodes[id(value)] = node
            self._kept.append(value)
            self._made |= {_address(value)} - self._held - {_NOTHING}
        elif isinstance(value, list | tuple):
            for index, part in enumerate(value):
                picked = self.graph.call_function(operator.getitem, (node, index))
                self.add(picked, part)

    def node(self, value: Any) -> Any:
        """Return a tensor's node; of a tensor that nothing here brought forth, a constant's."""
        if not isinstance(value, Tensor):
            return value
        if id(value) not in self._nodes:
            if _address(value) in self._made:
                # A constant would hold what the example left there.
                raise NotImplementedError("a tensor came of others unseen: it can't be compiled")
            self._held |= {_address(value)} - {_NOTHING}
            name = f"constant_{len(self.constants)}"
            self.constants[name] = value
            self.add(self.graph.get_attr(name), value)
        return self._nodes[id(value)]

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation and write it down."""
        if _LOOKS_AT_VALUES & set(func.tags):
            raise NotImplementedError(f"{func} looks at values: it can't be compiled")
        result = func(*args, **(kwargs or {}))
        node = self.graph.call_function(
            func,
            fx.node.map_aggregate(tuple(args), self.node),
            fx.node.map_aggregate(dict(kwargs or {}), self.node),
        )
        self.add(node, result)
        return result
