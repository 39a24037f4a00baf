"""What settings refuse at the edge, said in the same words everywhere."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from qss_offline.errors import UserError, shown

ROWS_TOGETHER = 32
"""Rows of which the numbers of one seed fill whole vector loops, whatever the columns.

Torch computes the numbers left over at the end of an elementwise operation one by one, and a power
or a logistic function gives other last bits there. Its loops take 32 numbers of float32 at a time
with AVX-512, 16 with AVX2; and the 128 bytes keep each seed's block of a batched product aligned.
"""


def check_positive(settings: Any, *names: str) -> None:
    """Refuse attributes that aren't above 0; of a tuple, each number counts, and it has some.

    One whose type is `int` must be a whole number.

    Raises:
        UserError: the first that isn't.
    """
    for name in names:
        value = getattr(settings, name)
        numbers = {name: value}
        if isinstance(value, tuple):
            if not value:
                raise UserError(f"{name} must not be empty")
            numbers = {f"{name}[{index}]": number for index, number in enumerate(value)}
        kind = next(f.type for f in fields(settings) if f.name == name)
        whole = kind in ("int", int)
        for label, number in numbers.items():
            if whole and (isinstance(number, bool) or not isinstance(number, int)):
                raise UserError(f"{label} must be a whole number, not {number!r}")
            if number <= 0:
                raise UserError(f"{label} must be above 0, not {number}")


def check_flag(settings: object, *names: str) -> None:
    """Refuse attributes that are neither true nor false.

    Raises:
        UserError: the first that isn't.
    """
    for name in names:
        value = getattr(settings, name)
        if not isinstance(value, bool):
            raise UserError(f"{name} must be true or false, not {shown(value)}")


def check_batch_size(settings: Any) -> None:
    """Refuse a `batch_size` that isn't a multiple of `ROWS_TOGETHER`.

    A seed's last numbers would be computed one by one when it is trained alone, and together with
    the next seed's in a stack: its bits would depend on its company.

    Raises:
        UserError: it isn't, or isn't above 0.
    """
    check_positive(settings, "batch_size")
    size = settings.batch_size
    if size % ROWS_TOGETHER:
        raise UserError(
            f"batch_size must be a multiple of {ROWS_TOGETHER}, so that seeds trained together "
            f"give the same bits as alone, not {size}; the next is {size + -size % ROWS_TOGETHER}"
        )


def check_step_size(settings: object, *names: str) -> None:
    """Refuse step sizes of averages outside (0, 1]; None, where nothing is averaged, passes.

    Raises:
        UserError: the first that isn't inside.
    """
    for name in names:
        value = getattr(settings, name)
        if value is not None and not 0 < value <= 1:
            raise UserError(f"{name} must be in (0, 1], not {value}")


def check_discount(gamma: float) -> None:
    """Refuse a discount γ outside [0, 1).

    Raises:
        UserError: it is outside.
    """
    if not 0 <= gamma < 1:
        raise UserError(f"gamma must be in [0, 1), not {gamma}")
