"""Means over seeds, with what can be said about them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from qss_offline.tabular.mdp import FloatArray


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and its 95% confidence interval, each of the shape without that axis."""

    mean: FloatArray
    low: FloatArray
    high: FloatArray


def interval(samples: ArrayLike, axis: int = -1) -> Interval:
    """Return the mean along `axis`, the axis of the seeds, with Student's 95% interval."""
    array = np.asarray(samples, dtype=np.float64)
    count = array.shape[axis]
    mean = np.asarray(array.mean(axis=axis))
    error = array.std(axis=axis, ddof=1) / np.sqrt(count)
    margin = np.asarray(float(special.stdtrit(count - 1, 0.975)) * error)
    return Interval(mean, mean - margin, mean + margin)
