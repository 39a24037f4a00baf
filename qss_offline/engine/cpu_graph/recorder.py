"""Which operations a function runs, and on which memory.

`torch.fx.experimental.proxy_tensor.make_fx` records operations, too, and imports torch's whole
compiler for it, which takes seconds at the start of every process that trains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# What these give, or its shape, isn't a fixed function of the tensors that they are given.
_REFUSED = {
    torch.Tag.data_dependent_output: "looks at values",
    torch.Tag.dynamic_output_shape: "looks at values",
    torch.Tag.nondeterministic_seeded: "draws random numbers",
    torch.Tag.inplace_view: "changes a shape in place",
}
_UNSET = {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided"}
_FILLED = {"ones_like", "zeros_like", "full_like", "new_ones", "new_zeros", "new_full"}


class CannotRecordError(Exception):
    """A function runs something that can't be run again from a record."""


@dataclass(frozen=True, eq=False)
class Call:
    """An operation that brings forth new memory or writes to some.

    Attributes:
        operation: of torch.
        args: positional arguments.
        kwargs: arguments by name.
        results: what it returns in new memory.
        read: the memory that what it does depends on.
        written: the memory that it writes to, new or not.
    """

    operation: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: list[Tensor]
    read: set[int]
    written: set[int]


def memory(tensor: Tensor) -> int:
    """Return what tells the memory that a tensor lies in from others, as long as both live."""
    return int(tensor.untyped_storage()._cdata)


def operation_name(operation: Any) -> str:
    """Return the name of one of torch's own operations without its overload, else nothing."""
    namespace, name = operation._schema.name.split("::")
    return name if namespace == "aten" else ""


class Recorder(TorchDispatchMode):
    """Sees every operation below autograd, which is where gradients are operations, too.

    Views need no call: the memory that they lie in tells them from each other.

    Attributes:
        calls: in their order.
        made: memory that the calls brought forth; the tensors that lie there are kept, so that
            no other memory gets the same name.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []
        self.made: dict[int, torch.UntypedStorage] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keep torch from importing its compiler in order to skip it."""
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation and write it down."""
        kwargs, schema = dict(kwargs or {}), func._schema
        for tag, reason in _REFUSED.items():
            if tag in func.tags:
                raise CannotRecordError(f"{func} {reason}")
        read = _memories((args, kwargs))
        written: set[int] = set()
        for position, argument in enumerate(schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                written |= _memories(args[position : position + 1] or kwargs.get(argument.name))
        if not written <= self.made.keys():
            raise CannotRecordError(f"{func} writes to what it doesn't own")
        result = func(*args, **kwargs)
        returned = _tensors(result)
        results = [tensor for tensor in returned if memory(tensor) not in read]
        if results and (schema.is_mutable or len(results) < len(returned)):
            raise CannotRecordError(f"{func} makes tensors, and writes to or returns others")
        self.made |= {memory(tensor): tensor.untyped_storage() for tensor in results}
        name = operation_name(func)
        if (results or written) and name not in _UNSET:
            depends_on = set() if name in _FILLED else read
            self.calls.append(
                Call(func, tuple(args), kwargs, results, depends_on, written | _memories(results))
            )
        return result


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def _memories(values: Any) -> set[int]:
    return {memory(tensor) for tensor in _tensors(values)}
