"""What stands for a GPU in tests: operations recorded, then replayed into the same memory.

`Emulated` does so on the CPU, so that numbers can be compared with eager's. `Dry` knows shapes and
devices alone ("meta"), so that everything that would go wrong between two devices does. Neither
knows streams, memory pools or what cuBLAS may do in a capture: that takes a GPU.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_NO_KERNEL = {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided"}
_KERNELS = {"aten::baddbmm": 2, "aten::_fused_adam_": 1}
"""Of an operation, where it isn't one: a bias is copied before a product is added to it."""
_COPIES = {"aten::_to_copy", "aten::copy_"}


def tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def memories(values: Any) -> set[int]:
    return {tensor.untyped_storage()._cdata for tensor in tensors(values)}


def unmixed(func: Any, args: Any) -> None:
    """Fail where an operation takes tensors of two devices, as a GPU would."""
    devices = {tensor.device.type for tensor in tensors(args)}
    assert len(devices) <= 1, f"{func} takes tensors of {sorted(devices)}"


class Recording(TorchDispatchMode):
    """Operations in a captured region, which fails where a capture would.

    Args:
        device: type of the device that everything must be on.
    """

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device, self.kernels = device, Counter[str]()
        self._calls: list[tuple[Any, Any, Any, list[Tensor]]] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = func._schema.name
        for tag in (
            torch.Tag.data_dependent_output,
            torch.Tag.dynamic_output_shape,
            torch.Tag.nondeterministic_seeded,
        ):
            assert tag not in func.tags, f"{func} in a captured region"
        assert name != "aten::lift_fresh", "a tensor is built of Python's numbers while capturing"
        given = tensors((args, kwargs))
        result = run(func, args, kwargs)
        for tensor in (*given, *tensors(result)):
            assert tensor.device.type == self.device, f"{func} has a tensor on {tensor.device}"
        known = memories(given)
        fresh = [t.detach() for t in tensors(result) if t.untyped_storage()._cdata not in known]
        written = any(a.alias_info and a.alias_info.is_write for a in func._schema.arguments)
        if (fresh or written) and name.partition("::")[2] not in _NO_KERNEL:
            self.kernels[name] += _KERNELS.get(name, 1)
            self._calls.append((func, args, kwargs, fresh))
        return result

    def forget(self) -> None:
        """Let nothing that was computed while recording pass for a replay's."""
        for *_, fresh in self._calls:
            for tensor in fresh:
                if tensor.is_floating_point():
                    tensor.fill_(torch.nan)

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, fresh in self._calls:
            for tensor, value in zip(fresh, tensors(func(*args, **kwargs)), strict=False):
                tensor.copy_(value)


def run(func: Any, args: Any, kwargs: Any) -> Any:
    """Run an operation; the one without shapes of its own changes none."""
    if func._schema.name == "aten::_fused_adam_" and args[0][0].is_meta:
        return None
    return func(*args, **kwargs)


class Emulated:
    """A device that captures on the CPU.

    Attributes:
        recordings: the graphs captured.
        replays: of all of them.
        free: bytes.
    """

    type = "cpu"

    def __init__(self) -> None:
        self.recordings: list[Recording] = []
        self.replays, self.free = 0, 1 << 40

    @contextmanager
    def stream(self) -> Iterator[None]:
        yield

    @contextmanager
    def graph(self) -> Iterator[Callable[[], None]]:
        recording = Recording(self.type)

        def replay() -> None:
            self.replays += 1
            self._replay(recording)

        # What is compiled runs uncompiled where its operations are watched.
        watched: Any = nullcontext()
        if "torch._dynamo" in sys.modules:
            watched = torch.compiler.set_stance("force_eager")
        with watched, recording:
            yield replay
        recording.forget()
        self.recordings.append(recording)

    def _replay(self, recording: Recording) -> None:
        recording.replay()

    def synchronize(self) -> None:
        pass

    def free_bytes(self) -> int:
        return self.free


class Dry(Emulated):
    """A device without numbers."""

    type = "meta"

    def _replay(self, recording: Recording) -> None:
        pass


class Unmixed(TorchDispatchMode):
    """Fails on operations over two devices, wherever they are."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func._schema.name not in _COPIES:
            unmixed(func, (args, kwargs))
        return run(func, args, kwargs)
