"""Settings as JSON keeps them, and back: every value is checked when it is read.

A setting that a file lacks takes its default, the authors' choice: it didn't exist yet. One that it
has and nobody knows is refused, for nobody can say what it did; one that is gone is left out where
it was off.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from qss_offline.errors import UserError, nearest, shown

Config = TypeVar("Config")

_GONE: Mapping[str, Any] = {
    "gap_units": False,
    "behaviour_coef": 0.0,
    "behaviour_weights": "advantage",
    "behaviour_power": 2.0,
}
"""Settings that are gone, each with the value at which it was off."""

_OTHER = "it was made by another version of this package"


def to_plain(config: Any) -> Any:
    """Return settings, which may hold frozen dataclasses and paths, as JSON keeps them."""
    return json.loads(json.dumps(config, default=_plain))


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else asdict(value)


def still_known(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings without those that are gone and were off."""
    return {k: v for k, v in given.items() if k not in _GONE or v != _GONE[k]}


def from_plain(config_type: type[Config], given: Any, where: str) -> Config:
    """Undo `to_plain` for a frozen dataclass whose fields are numbers, words, tuples or such.

    Args:
        config_type: the dataclass.
        given: what JSON made of it. A field that it lacks takes its default.
        where: what is read, for a refusal.

    Raises:
        UserError: a field is unknown, missing, of another type, or out of its range.
    """
    if not isinstance(given, Mapping):
        raise UserError(f"{where}: expected settings by name, not {shown(given)}")
    given = still_known(given)
    hints = get_type_hints(config_type)
    known = {field.name: field for field in fields(cast(Any, config_type))}
    unknown = sorted(map(str, given.keys() - known.keys()))
    if unknown:
        hint = nearest(unknown[0], sorted(known))
        raise UserError(f"{where}: no setting {shown(unknown[0])}{hint}; {_OTHER}")
    values = {}
    for name, field in known.items():
        if name in given:
            values[name] = read_value(hints[name], given[name], f"{where}.{name}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise UserError(f"{where}: {name} is missing; {_OTHER}")
    try:
        return config_type(**values)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def settings_of(config_type: type[Config], config: Mapping[str, Any], where: str) -> Config:
    """Read the settings that are among other things in a run's `config.json`.

    Args:
        config_type: the dataclass.
        config: what the file holds.
        where: what is read, for a refusal.

    Raises:
        UserError: as `from_plain`.
    """
    known = {field.name for field in fields(cast(Any, config_type))}
    return from_plain(config_type, {k: v for k, v in config.items() if k in known}, where)


def read_value(hint: Any, value: Any, where: str) -> Any:
    """Return a value of a setting.

    Args:
        hint: its type.
        value: what JSON made of it.
        where: what is read, for a refusal.

    Raises:
        UserError: it is of another type, or no finite number.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is UnionType:
        if value is None and NoneType in arguments:
            return None
        (inner,) = (one for one in arguments if one is not NoneType)
        return read_value(inner, value, where)
    if is_dataclass(hint):
        return from_plain(cast(type[Any], hint), value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise UserError(f"{where}: expected a list, not {shown(value)}")
        return tuple(read_value(arguments[0], one, f"{where}[{n}]") for n, one in enumerate(value))
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise UserError(f"{where}: expected values by name, not {shown(value)}")
        return {
            str(key): read_value(arguments[1], one, f"{where}.{key}") for key, one in value.items()
        }
    if hint is Path:
        return Path(_read_number_or_word(str, value, where))
    if origin is Literal:
        if value not in arguments:
            raise UserError(f"{where}: expected {' or '.join(arguments)}, not {shown(value)}")
        return value
    return _read_number_or_word(hint, value, where)


def _read_number_or_word(hint: Any, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            value = float(value)
        except OverflowError:
            value = math.inf
    if type(value) is not hint:
        words = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
        raise UserError(f"{where}: expected {words[hint]}, not {shown(value)}")
    if isinstance(value, str) and not value.isprintable():
        raise UserError(f"{where}: expected text without control characters, not {shown(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where}: expected a finite number, not {value}")
    return value
