"""A dataset's metadata, checked in one place: where they are read.

Whoever uses them afterwards finds plain JSON of moderate depth in which every number is finite, and
those that this package knows are of their type and in their range.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from qss_offline.data.environment_names import EnvironmentName, checked_name, without_source
from qss_offline.errors import UserError, shown
from qss_offline.files import parse_json

MAX_BYTES = 16 << 20
_MAX_DEPTH = 64


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
            raise UserError(
                f"{name} is {shown(value)}, expected {what} from {self.low:g} to {self.high:g}"
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
_DRAWING = {
    "render_mode", "width", "height", "camera_id", "camera_name", "default_camera_config",
    "max_geom", "visual_options", "screen_size",
}  # fmt: skip
_TEXTS = ("dataset_id", "data_format", "observation_space", "action_space")


def parse_metadata(content: bytes) -> dict[str, Any]:
    """Return the metadata in a file's content.

    Raises:
        UserError: they are no JSON of finite numbers, or not what `check_metadata` expects.
    """
    return check_metadata(parse_json(content, "it"))


def check_metadata(metadata: object) -> dict[str, Any]:
    """Return metadata as they are, once they are known to be what every dataset has.

    Raises:
        UserError: a key is missing, one of the numbers above is out of range or of another type,
            or values are nested too deeply.
    """
    if not isinstance(metadata, dict):
        raise UserError("it is not an object")
    _check_depth(metadata)
    for name, number in _REQUIRED.items():
        number.check(name, metadata.get(name))
    for name, number in _OPTIONAL.items():
        if metadata.get(name) is not None:
            number.check(name, metadata[name])
    returns = metadata.get("behaviour_return")
    if returns is not None:
        if not isinstance(returns, dict):
            raise UserError(f"behaviour_return is {shown(returns)}, expected an object")
        for name, number in _BEHAVIOUR_RETURN.items():
            number.check(f"behaviour_return.{name}", returns.get(name))
    for name in _TEXTS:
        if not isinstance(metadata.get(name), str):
            raise UserError(f"{name} is missing")
    return metadata


def env_id_of(metadata: dict[str, Any]) -> str | None:
    """Return the environment's string, its arguments included; nothing is made of it here.

    What only settles how it is drawn is left out.

    Returns:
        None where the dataset names no environment.

    Raises:
        UserError: its arguments can't be read.
    """
    named = metadata.get("env_id")
    named = named if isinstance(named, str) else None
    try:
        spec = json.loads(metadata["env_spec"])
        env_id, arguments = spec["id"], spec.get("kwargs") or {}
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        return named
    if not isinstance(env_id, str) or not isinstance(arguments, dict):
        return named
    known = without_source(named or "").partition("?")
    if known[0] == env_id and known[1]:
        return named
    own = {key: value for key, value in arguments.items() if key not in _DRAWING}
    source = named.partition("?")[0].rpartition(":")[0] if named and known[0] == env_id else ""
    return str(checked_name(EnvironmentName(source, env_id, own)))


def _check_depth(metadata: dict[str, Any]) -> None:
    """Refuse what could be read, but not be written again."""
    level: list[Any] = [metadata]
    for _ in range(_MAX_DEPTH):
        inside = [list(one.values()) if isinstance(one, dict) else one for one in level]
        level = [value for one in inside for value in one if isinstance(value, dict | list)]
        if not level:
            return
    raise UserError("it is nested too deeply")
