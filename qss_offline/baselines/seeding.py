"""d3rlpy draws from torch's global random numbers and runs in its global threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from qss_offline.engine.denormals import denormals_as_zero


@contextmanager
def one_seeded_thread(seed: int) -> Iterator[None]:
    """Seed torch, keep it to one thread and spare it denormals; put all back afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with denormals_as_zero(), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
