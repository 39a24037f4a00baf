"""A dataset's metadata, checked in one place: where they are read.

Whoever uses them afterwards finds plain JSON of moderate depth in which every number is finite, and
those that this package knows are of their type and in their range.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MAX_BYTES = 16 << 20
_MAX_DEPTH = 64
# Beyond it a whole number is no float any more.
_MAX_DIGITS = 300
# Characters of a stranger's text in a message.
_SHOWN = 80


@dataclass(frozen=True)
class _Number:
    """The range of a number, and whether it is a whole one."""

    low: float
    high: float
    whole: bool = False

    def check(self, name: str, value: object) -> None:
        kind = int if self.whole else int | float
        inside = isinstance(value, kind) and self.low <= value <= self.high
        if isinstance(value, bool) or not inside:
            what = "a whole number" if self.whole else "a number"
            raise ValueError(
                f"{name} is {_shown(value)}, expected {what} from {self.low:g} to {self.high:g}"
            )


_COUNT = _Number(0, 10**12, whole=True)
_REAL = _Number(-1e300, 1e300)
_REQUIRED = {"total_steps": _COUNT, "total_episodes": _COUNT}
_OPTIONAL = {
    "transitions": _COUNT,
    "random_action_prob": _Number(0, 1),
    "dataset_size": _Number(0, 1e12),  # megabytes
}
_BEHAVIOUR_RETURN = {"mean": _REAL, "std": _REAL, "min": _REAL, "max": _REAL, "n": _COUNT}
_TEXTS = ("dataset_id", "data_format", "observation_space", "action_space")


def parse_metadata(content: bytes) -> dict[str, Any]:
    """Return the metadata in a file's content.

    Raises:
        ValueError: they are too large, no JSON, or not what `check_metadata` expects.
    """
    if len(content) > MAX_BYTES:
        raise ValueError("it is too large")
    try:
        return check_metadata(json.loads(content, parse_int=_whole_number))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def check_metadata(metadata: object) -> dict[str, Any]:
    """Return metadata as they are, every number being checked, and the keys that all datasets have.

    Raises:
        ValueError: a number is out of range or of another type, a key is missing, or values are
            nested too deeply.
    """
    if not isinstance(metadata, dict):
        raise ValueError("it is not an object")
    for name, value in _numbers(metadata):
        if not abs(value) < 10.0**_MAX_DIGITS:
            raise ValueError(f"{name} is {_shown(value)}, expected a finite number")
    for name, number in _REQUIRED.items():
        number.check(name, metadata.get(name))
    for name, number in _OPTIONAL.items():
        if metadata.get(name) is not None:
            number.check(name, metadata[name])
    returns = metadata.get("behaviour_return")
    if returns is not None:
        if not isinstance(returns, dict):
            raise ValueError(f"behaviour_return is {_shown(returns)}, expected an object")
        for name, number in _BEHAVIOUR_RETURN.items():
            number.check(f"behaviour_return.{name}", returns.get(name))
    for name in _TEXTS:
        if not isinstance(metadata.get(name), str):
            raise ValueError(f"{name} is missing")
    return metadata


def env_id_of(metadata: dict[str, Any]) -> str | None:
    """Return the environment's id, None where there is none; nothing is made of it here."""
    try:
        env_id = json.loads(metadata["env_spec"])["id"]
    except (KeyError, TypeError, ValueError, RecursionError):
        env_id = metadata.get("env_id")
    return env_id if isinstance(env_id, str) else None


def _whole_number(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_DIGITS else math.inf


def _numbers(metadata: dict[str, Any]) -> Iterator[tuple[str, int | float]]:
    """Yield all numbers with the names of the keys that they stand under."""
    waiting: list[tuple[str, Any, int]] = [("", metadata, 0)]
    while waiting:
        name, value, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            raise ValueError("it is nested too deeply")
        if isinstance(value, dict):
            # Cut short: a long key that holds a million numbers would be copied a million times.
            prefix = f"{name}."[:_SHOWN] if name else ""
            waiting += [(prefix + key[:_SHOWN], inner, depth + 1) for key, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(name, inner, depth + 1) for inner in value]
        elif isinstance(value, int | float):
            yield name, value


def _shown(value: object) -> str:
    """Return the beginning of a value, for a message."""
    if isinstance(value, int) and abs(value) >= 10**20:
        return "a whole number of more than 20 digits"
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
