"""Settings changed from the command line: `--set gamma=0.97`, one by one, by name."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast, get_type_hints

from qss_offline.errors import UserError, nearest
from qss_offline.settings_json import read_value

Config = TypeVar("Config")


def with_changes(name: str, changes: Iterable[str]) -> str:
    """Return the name of a preset that was changed, for results: "default with gamma=0.9"."""
    return " with ".join(filter(None, (name, ", ".join(changes))))


def differences(before: Any, after: Any) -> list[str]:
    """Return the `name=value` that make one of two settings into the other.

    Args:
        before: a frozen dataclass.
        after: another of its kind.
    """
    old, new = settings_by_name(before), settings_by_name(after)
    return [f"{name}={new[name]}" for name in old if old[name] != new[name]]


def changed(config: Config, changes: Iterable[str]) -> Config:
    """Return settings with some of them changed.

    Args:
        config: a frozen dataclass; its fields may be such, too.
        changes: each `name=value`, the value as Python or JSON writes it (words need no quotes). A
            name that several parts have needs its part before a dot: `model.hidden_dims`.

    Raises:
        UserError: there is no such setting, there are several, or the value isn't one of its kind.
    """
    values: dict[str, Any] = {}
    texts = tuple(changes)
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise UserError(f"--set takes name=value, such as gamma=0.97, not {text!r}")
        known = dict(_leaves(config))
        found = [path for path in known if path == name or path.endswith(f".{name}")]
        if name in found:
            found = [name]
        if not found:
            names = sorted({path.rpartition(".")[2] for path in known})
            hint = nearest(name, names) or f"; there are {', '.join(names)}"
            raise UserError(f"--set {text}: no setting {name!r}{hint}")
        if len(found) > 1:
            raise UserError(f"--set {text}: say which, {' or '.join(found)}")
        values[found[0]] = _read(text, value, known[found[0]])
    try:
        # At once: one setting may only make sense with another.
        return cast(Config, _replaced(config, values))
    except UserError as error:
        raise UserError(f"--set {' --set '.join(texts)}: {error}") from error


def settings_by_name(config: Any) -> dict[str, Any]:
    """Return every setting of a frozen dataclass, and of those in it, by its dotted name."""
    found = {}
    for path, _ in _leaves(config):
        value = config
        for part in path.split("."):
            value = getattr(value, part)
        found[path] = value
    return found


def _leaves(config: Any, before: str = "") -> Iterable[tuple[str, Any]]:
    """Every setting by its dotted name, with its type."""
    hints = get_type_hints(type(config))
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from _leaves(value, f"{before}{field.name}.")
        else:
            yield before + field.name, hints[field.name]


def _replaced(config: Any, values: Mapping[str, Any]) -> Any:
    """Return a dataclass with values by dotted names, its parts replaced before itself."""
    direct = {path: value for path, value in values.items() if "." not in path}
    for part in dict.fromkeys(path.partition(".")[0] for path in values if "." in path):
        inner = {
            p.removeprefix(f"{part}."): v for p, v in values.items() if p.startswith(f"{part}.")
        }
        direct[part] = _replaced(getattr(config, part), inner)
    return replace(config, **direct)


_WORDS_OF_JSON = {"true": True, "false": False, "null": None}


def _read(text: str, value: str, hint: Any) -> Any:
    try:
        read = ast.literal_eval(value)
    except (SyntaxError, ValueError, TypeError, RecursionError):
        read = _WORDS_OF_JSON.get(value, value)
    return read_value(hint, list(read) if isinstance(read, tuple) else read, f"--set {text}")
