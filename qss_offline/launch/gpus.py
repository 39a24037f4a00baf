"""Which GPU a process of several trains on."""

from __future__ import annotations

import torch


def gpu_count(device: str) -> int:
    """Return how many GPUs there are for a device, which is none for "cpu"."""
    return torch.cuda.device_count() if device == "cuda" else 0


def take_gpu(device: str, number: int) -> None:
    """Let this process train on its GPU: the processes take turns at them.

    Args:
        device: "cpu" or "cuda".
        number: of this process among all.
    """
    count = gpu_count(device)
    if count:
        torch.cuda.set_device(number % count)
