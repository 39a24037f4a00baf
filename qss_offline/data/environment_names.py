"""How one string names an environment: `source:Id?name=value&name=value`.

`Id` is a Gymnasium id, a short name, or a class or function of the source, which is a module or the
path of a Python file and may be missing. Values are JSON; a word that isn't JSON is text. Nothing
is imported here, and nothing is looked up.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from qss_offline.errors import UserError, shown
from qss_offline.files import parse_json

MOST_CHARACTERS = 4_000
_WORD = re.compile(r"[A-Za-z_./~][\w./~-]*", re.ASCII)
# What begins as JSON does, or as Python would write it, is no word by accident.
_JSON_BEGINS = tuple('[{"-0123456789')
_NO_WORDS = {"true", "false", "null", "True", "False", "None", "NaN", "Infinity"}
_NOT_TAKEN = {"render_mode": "commands choose how it is drawn"}


@dataclass(frozen=True)
class EnvironmentName:
    """The parts of an environment's string; `str` puts them together, arguments sorted.

    Attributes:
        source: a module, or the path of a Python file; empty where there is none.
        id: a Gymnasium id, or the name of a class or function.
        arguments: of the environment, of plain JSON types.
    """

    source: str
    id: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        head = f"{self.source}:{self.id}" if self.source else self.id
        pairs = [f"{name}={_text_of(value)}" for name, value in sorted(self.arguments.items())]
        return f"{head}?{'&'.join(pairs)}" if pairs else head

    @property
    def is_file(self) -> bool:
        """Whether the source is a file."""
        return is_file(self.source)


def is_file(source: str) -> bool:
    """Return whether a source is the path of a file, rather than a module."""
    return source.endswith(".py") or "/" in source or "\\" in source


def parse_name(text: object) -> EnvironmentName:
    """Take an environment's string apart.

    Raises:
        UserError: it is no text, too long, holds control characters, or its arguments can't be
            read.
    """
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"environment: expected a Gymnasium id, got {shown(text)}")
    if len(text) > MOST_CHARACTERS:
        raise UserError(
            f"environment: {shown(text)} has {len(text):,} characters, {MOST_CHARACTERS:,} at most"
        )
    if not text.isprintable():
        raise UserError(f"environment: {shown(text)} holds control characters")
    head, _, given = text.strip().partition("?")
    source, _, name = head.rpartition(":")
    arguments: dict[str, Any] = {}
    for pair in given.split("&") if given else ():
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            raise UserError(f"environment {shown(text)}: expected name=value, got {shown(pair)}")
        if key in arguments:
            raise UserError(f"environment {shown(text)}: {key} is there twice")
        arguments[key] = _value_of(value, f"environment {shown(text)}: {key}")
    return checked_name(EnvironmentName(source, name, arguments))


def checked_name(name: EnvironmentName) -> EnvironmentName:
    """Return a name whose arguments can be written and given to an environment.

    Raises:
        UserError: one can't, or the whole is too long.
    """
    for key, value in name.arguments.items():
        if not key.isidentifier():
            raise UserError(f"environment {shown(name.id)}: {shown(key)} is no name of an argument")
        if key in _NOT_TAKEN:
            raise UserError(f"environment {shown(name.id)}: no {key} here, {_NOT_TAKEN[key]}")
        limit = key == "max_episode_steps"
        if limit and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise UserError(
                f"environment {shown(name.id)}: max_episode_steps is {shown(value)}, expected a "
                "whole number of at least 1"
            )
        try:
            parse_json(json.dumps(value, allow_nan=False), key)
        except (TypeError, ValueError, RecursionError, UserError) as error:
            raise UserError(
                f"environment {shown(name.id)}: its {key} is {shown(value)}, which JSON can't "
                "hold; give a callable that makes the environment instead"
            ) from error
    if len(str(name)) > MOST_CHARACTERS:
        raise UserError(
            f"environment {shown(name.id)}: its arguments take {len(str(name)):,} characters, "
            f"{MOST_CHARACTERS:,} at most"
        )
    return name


def _value_of(text: str, where: str) -> Any:
    try:
        return parse_json(text, where)
    except UserError as error:
        if not text or text.startswith(_JSON_BEGINS) or text in _NO_WORDS:
            raise UserError(
                f"{where} is {shown(text)}, expected JSON: a finite number, true, false, null, a "
                'list, or text, in "quotes" where it begins like one of these'
            ) from error
        return text


def _text_of(value: Any) -> str:
    if isinstance(value, str) and _WORD.fullmatch(value) and value not in _NO_WORDS:
        return value
    # "&" stands in texts only.
    text = json.dumps(value, separators=(",", ":"), sort_keys=True)
    return text.replace("&", "\\u0026")


def env_name_of(env_id: str) -> str:
    """Return an id without its version, source and arguments: what it is, in any."""
    name = env_id.partition("?")[0].rpartition(":")[2]
    return name.rpartition("-v")[0] or name


def without_source(env_id: str) -> str:
    """Return an environment's string without the module or file that it comes from."""
    head, mark, arguments = env_id.partition("?")
    return head.rpartition(":")[2] + mark + arguments


def without_folder(env_id: str) -> str:
    """Return an environment's string as files that are shared hold it: of a path, the file's name.

    Where it lies on this machine is nobody's business elsewhere.
    """
    head, mark, arguments = env_id.partition("?")
    source, colon, name = head.rpartition(":")
    if is_file(source):
        source = PurePath(source).name
    return source + colon + name + mark + arguments


def plain_name(env_id: str) -> str:
    """Return an environment's string as the name of a folder or part of a dataset's id.

    Without its source; letters, digits, `_`, `-`, `.` and `/` are kept.
    """
    head, _, arguments = without_source(env_id).partition("?")
    return "-".join(re.sub(r"[^\w./-]", "_", part, flags=re.ASCII) for part in
                    (head, *arguments.split("&")) if part)  # fmt: skip
