"""What records launches and plays them again: a GPU, or what stands for one in tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch


class GraphDevice(Protocol):
    """One kind of device whose launches can be captured."""

    def stream(self) -> AbstractContextManager[None]:
        """Launch on a stream of its own, after what was launched before and before what follows."""

    def graph(self) -> AbstractContextManager[Callable[[], None]]:
        """Record launches instead of making them; what it gives makes them all: replay."""

    def synchronize(self) -> None:
        """Wait until everything that was launched is done."""

    def free_bytes(self) -> int:
        """Return how much memory is left."""


class _Cuda:
    """NVIDIA's; the current device of this process."""

    @contextmanager
    def stream(self) -> Iterator[None]:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            yield
        torch.cuda.current_stream().wait_stream(stream)

    @contextmanager
    def graph(self) -> Iterator[Callable[[], None]]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            yield graph.replay

    def synchronize(self) -> None:
        torch.cuda.synchronize()

    def free_bytes(self) -> int:
        return torch.cuda.mem_get_info()[0]


GRAPH_DEVICES: dict[str, GraphDevice] = {"cuda": _Cuda()}
"""By the type of a torch device."""


def captures(device: torch.device) -> bool:
    """Whether updates on a device are captured; elsewhere they are recorded."""
    return device.type in GRAPH_DEVICES
