"""Numbers of untrusted files, checked when they are read."""

from __future__ import annotations

import math

from qss_offline.errors import UserError, shown

MISSING = object()
"""What a file doesn't hold."""


def number(value: object, where: str) -> float:
    """Return a number from a file; null is NaN.

    Raises:
        UserError: it is none.
    """
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        found = "missing" if value is MISSING else f"{shown(value)}, expected a number"
        raise UserError(f"{where} is {found}")
    return float(value)


def whole(value: object, where: str) -> int:
    """Return a whole number from a file, of at least 0.

    Raises:
        UserError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UserError(f"{where} is {shown(value)}, expected a whole number")
    return value
