"""Spaces of observations and actions: read from untrusted metadata, and what they hold."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium import spaces
from minari.serialization import deserialize_space

from qss_offline.errors import UserError

NO_ACTIONS = spaces.Box(-math.inf, math.inf, (0,), np.float32)
# Numbers in an observation or action that a dataset may declare.
_MAX_SPACE_NUMBERS = 1 << 22
# Squares of larger numbers are beyond float32.
_NO_BOUND = 1e18


def read_space(metadata: dict[str, Any], key: str) -> spaces.Space[Any]:
    """Return the space stored under `observation_space` or `action_space`.

    Raises:
        UserError: it can't be read.
    """
    try:
        _check_size(json.loads(metadata[key]))
        with np.errstate(over="ignore"):  # a bound beyond the dtype is infinite
            space = deserialize_space(metadata[key])
    except Exception as error:
        # An untrusted description may make Minari and Gymnasium raise anything.
        raise UserError(
            f"dataset {metadata['dataset_id']!r}: its {key} can't be read "
            f"({' '.join(repr(error).split())[:200]})"
        ) from error
    assert isinstance(space, spaces.Space)
    return space


def _check_size(description: Any) -> int:
    """Return how many numbers a space's description declares; refuse it before it is made."""
    numbers = 0
    if isinstance(description, dict):
        subspaces = description.get("subspaces", [])
        inner = subspaces.values() if isinstance(subspaces, dict) else subspaces
        numbers += sum(_check_size(part) for part in inner)
        if np.dtype(description.get("dtype", "float32")).kind not in "biuf":
            raise ValueError(f"its dtype is {description['dtype']!r}")
        shape = description.get("shape", [])
        declared = [math.prod(int(size) for size in shape)] if shape else []
        for key in ("n", "nvec"):
            declared.append(_total(description.get(key, 0)))
        if any(number < 0 for number in declared):
            raise ValueError("a size is negative")
        numbers += sum(declared)
    if numbers > _MAX_SPACE_NUMBERS:
        raise ValueError(f"it declares more than {_MAX_SPACE_NUMBERS:,} numbers")
    return numbers


def _total(sizes: Any) -> int:
    return sum(map(_total, sizes)) if isinstance(sizes, list) else int(sizes)


def is_placeholder(action_space: spaces.Space[Any]) -> bool:
    """Return whether an action space is this package's way to say "no actions"."""
    return isinstance(action_space, spaces.Box) and action_space.shape == (0,)


def is_vector(space: spaces.Space[Any]) -> bool:
    """Return whether a space is a one-dimensional Box with at least one number."""
    return isinstance(space, spaces.Box) and len(space.shape) == 1 and space.shape[0] > 0


def check_bounds(action_space: spaces.Box) -> None:
    """Refuse actions that can't be drawn at random or scaled to [−1, 1]. Locked ones can.

    Raises:
        UserError: a bound is infinite, or so large that it stands for none.
    """
    low, high = action_space.low.reshape(-1), action_space.high.reshape(-1)
    for index, bounds in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        if not max(map(abs, bounds)) < _NO_BOUND:
            raise UserError(
                f"action {index} reaches from {bounds[0]:g} to {bounds[1]:g}, but actions need "
                "finite bounds to be explored within: give the environment's action_space its real "
                "ones"
            )


def vector_size(space: spaces.Space[Any]) -> int:
    """Return the numbers in a flattened observation.

    Raises:
        UserError: the space can't be flattened into numbers.
    """
    for part in _parts(space):
        if isinstance(part, spaces.Box) and part.dtype == np.uint8 and len(part.shape) > 1:
            raise UserError("images are no vectors: encode them first")
        known = (spaces.Box, spaces.Discrete, spaces.MultiBinary, spaces.MultiDiscrete)
        if not isinstance(part, known):
            raise UserError(f"a {type(part).__name__} space can't be flattened into numbers")
    size = int(spaces.flatdim(space))
    if size == 0:
        raise UserError("an observation without numbers says nothing")
    return size


def _parts(space: spaces.Space[Any]) -> Iterator[spaces.Space[Any]]:
    if isinstance(space, spaces.Dict):
        for part in space.spaces.values():
            yield from _parts(part)
    elif isinstance(space, spaces.Tuple):
        for part in space.spaces:
            yield from _parts(part)
    else:
        yield space
