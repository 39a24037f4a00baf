"""Which columns float32 can't hold: their steps or their spread would be rounded away."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

_MOST_LOST = 0.05
"""Share of a spread, as root mean square, that rounding may change."""

_NO_SPREAD = 4e-15
"""Spreads so small beside the values are float64's own rounding: the column is constant."""

_TINY = float(np.finfo(np.float32).tiny)


class Rounding:
    """Adds up what becomes of columns as float32, piece by piece.

    Args:
        width: columns.
    """

    def __init__(self, width: int) -> None:
        self._rows = 0
        self._first: npt.NDArray[np.float64] | None = None
        self._sums = np.zeros((6, width))
        self._greatest = np.zeros(width)

    def add(self, before: Array, after: Array | None = None) -> None:
        """Look at rows, and at the steps from them.

        Args:
            before: (n, width) of any precision.
            after: likewise, after a step from each; None looks at no steps.
        """
        if not len(before) or before.dtype in (np.float32, np.float16):
            return
        with np.errstate(over="ignore", invalid="ignore"):
            exact = before.astype(np.float64)
            rounded = _as_float32(exact)
            if self._first is None:
                self._first = exact[0].copy()
            centred = exact - self._first
            terms = [rounded - exact, centred]
            if after is not None:
                later = after.astype(np.float64)
                step = later - exact
                terms += [_as_float32(later) - rounded - step, step]
            for index, values in enumerate(terms):
                self._sums[index] += np.nansum(np.square(values), axis=0)
            self._sums[4] += np.nansum(centred, axis=0)
        self._greatest = np.fmax(self._greatest, np.nanmax(np.abs(exact), axis=0, initial=0.0))
        self._rows += len(before)

    def lost(self) -> list[int]:
        """Return the columns whose steps or whose spread float32 doesn't hold."""
        if not self._rows:
            return []
        off, squares, step_off, steps, total, _ = self._sums
        variance = np.maximum(squares / self._rows - (total / self._rows) ** 2, 0.0)
        noise = (_NO_SPREAD * self._greatest) ** 2
        moves = (variance > noise) & (variance > 0)
        changed = off / self._rows > _MOST_LOST**2 * variance
        changed |= (steps / self._rows > noise) & (step_off > _MOST_LOST**2 * steps)
        return [int(index) for index in np.flatnonzero(moves & changed)]


def _as_float32(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Round to float32 and back; what it can hold only as a denormal counts as 0 in training."""
    rounded = values.astype(np.float32).astype(np.float64)
    rounded[np.abs(rounded) < _TINY] = 0.0
    return rounded
