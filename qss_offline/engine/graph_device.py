"""What records launches and plays them again: a GPU, or what stands for one in tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


class GraphDevice:
    """One kind of device whose launches can be captured: NVIDIA's, the current one."""

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Launch on a stream of its own, after what was launched before and before what follows."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            yield
        torch.cuda.current_stream().wait_stream(stream)

    @contextmanager
    def graph(self) -> Iterator[Callable[[], None]]:
        """Record launches instead of making them; what it gives makes them all: replay."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            yield graph.replay

    def synchronize(self) -> None:
        """Wait until everything that was launched is done."""
        torch.cuda.synchronize()

    def free_bytes(self) -> int:
        """Return how much memory is left."""
        return torch.cuda.mem_get_info()[0]


GRAPH_DEVICES: dict[str, GraphDevice] = {"cuda": GraphDevice()}
"""By the type of a torch device."""


def captures(device: torch.device) -> bool:
    """Whether updates on a device are captured; elsewhere they are recorded."""
    return device.type in GRAPH_DEVICES
