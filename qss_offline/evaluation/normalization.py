"""What random actions and an expert return: the two ends of a normalised score."""

from __future__ import annotations

import math
import re
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from qss_offline.data.environments import env_name_of, without_source

Value = TypeVar("Value", float, NDArray[np.float64])

REFERENCES = {
    "InvertedPendulum": (5.3, 1000.0),
    "InvertedDoublePendulum": (46.5, 9282.0),
    "Reacher": (-42.8, -4.1),
    "Hopper": (17.4, 3144.0),
    "Walker2d": (1.4, 3509.0),
    "HalfCheetah": (-281.0, 5876.0),
}
"""Mean returns of Gymnasium's version 5: of uniformly random actions, and of the expert in
`datasets/experts`; measured by `python -m benchmarks.references`, and rounded."""


def environment_name(env_id: str) -> str:
    """Return an id without module, namespace and version: `Reacher` of `Reacher-v5`."""
    return env_name_of(env_id).rpartition("/")[2]


def reference(env_id: str) -> tuple[float, float] | None:
    """Return what random actions and an expert return, None where that isn't known.

    With arguments of its own an environment returns something else, and so does a class, or one of
    somebody's namespace, that has the name of Gymnasium's.
    """
    registered = re.fullmatch(r"\w+-v\d+", without_source(env_id))
    return REFERENCES.get(environment_name(env_id)) if registered else None


def or_random(value: float, env_id: str) -> float:
    """Return a return; of a policy that diverged, NaN, what random actions return where known."""
    found = reference(env_id)
    return found[0] if found is not None and math.isnan(value) else value


def normalised(value: Value, env_id: str) -> Value | None:
    """Return 0 for random actions and 1 for an expert, None where that isn't known."""
    found = reference(env_id)
    return None if found is None else (value - found[0]) / (found[1] - found[0])
