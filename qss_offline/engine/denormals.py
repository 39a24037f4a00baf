"""Numbers too small to matter, which a processor computes with a hundred times slower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def denormals_as_zero() -> Iterator[None]:
    """Let this thread take float32 numbers below 1.2e-38 for zero, where the processor can.

    Units that no longer fire get gradients of zero, and Adam's mean of them decays into these
    numbers and stays there.
    """
    before = bool(torch.tensor(1e-39) * 1.0 == 0.0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
