"""Random streams: each depends on a seed, what it is for, and numbers such as a round, alone."""

from __future__ import annotations

import numpy as np

EVALUATION = "evaluation"
"""Episodes of evaluations: those of a seed are the same for every method."""


def stream(seed: int, purpose: str, *numbers: int) -> np.random.SeedSequence:
    """Return a stream that shares nothing with those of other seeds, purposes and numbers."""
    return np.random.SeedSequence([seed, *purpose.encode(), *numbers])


def seed_of(seed: int, purpose: str, *numbers: int) -> int:
    """Return the seed that a stream gives, for what takes an integer."""
    return int(stream(seed, purpose, *numbers).generate_state(1)[0])
