"""Step sizes that change with training."""

from __future__ import annotations

from collections.abc import Callable

Schedule = Callable[[int], float]
"""From the number of an update, counted from 1, to Adam's step size."""


def constant(step_size: float) -> Schedule:
    """The same step size for every update."""
    return lambda update: step_size


def linear_decay(step_size: float, share: float, updates: int) -> Schedule:
    """A step size that falls in a straight line towards 0 at the end of training.

    Args:
        step_size: before it falls.
        share: of training, at its end, over which it falls; 0 never does.
        updates: in all.
    """
    if share == 0:
        return constant(step_size)
    return lambda update: step_size * min(1.0, (updates + 1 - update) / (share * updates))
