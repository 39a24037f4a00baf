"""The one exception that a user is meant to read, and text made fit to be read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

Value = TypeVar("Value")


class UserError(Exception):
    """Something the user gave can't be used.

    The message is one line that says what was wrong and what would be right. Command-line
    programs print it without a traceback and exit with code 2.
    """


def nearest(name: str, candidates: Iterable[str]) -> str:
    """Return `"; did you mean a, b or c?"` for the closest candidates, or an empty string."""
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    matches = difflib.get_close_matches(name.lower(), list(by_lower), cutoff=0.5)
    if not matches:
        return ""
    names = [by_lower[match] for match in matches]
    listed = names[0] if len(names) == 1 else ", ".join(names[:-1]) + " or " + names[-1]
    return f"; did you mean {listed}?"


def by_name(kind: str, name: str, known: Mapping[str, Value]) -> Value:
    """Return what is known by a name.

    Args:
        kind: what it is a name of, as the message says it.
        name: the name.
        known: everything of that kind.

    Raises:
        UserError: there is none of that name, or it is no text.
    """
    if not isinstance(name, str):
        raise UserError(f"{kind} {shown(name)} is no text: there are {', '.join(known)}")
    if name not in known:
        raise UserError(
            f"unknown {kind} {name!r}: there are {', '.join(known)}{nearest(name, known)}"
        )
    return known[name]


def printable(text: object) -> str:
    """Return text as one line that a terminal shows and doesn't obey.

    What a file brings along may hold escape sequences, line breaks, or marks that turn the
    direction of writing around; each such character is written as its code, such as `\\x1b`.
    """
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in str(text)
    )


def one_line(error: BaseException) -> str:
    """Return in a line what an exception of somebody else's says."""
    return " ".join(str(error).split())[:300] or type(error).__name__


_SHOWN = 60


def shown(value: object) -> str:
    """Return a value from a file as a message can hold it: as Python writes it, and short."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):
        # Nested too deeply, or a number of thousands of digits.
        text = f"a {type(value).__name__}"
    return printable(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
