"""What settings refuse at the edge, said in the same words everywhere."""

from __future__ import annotations

from qss_offline.errors import UserError


def check_positive(settings: object, *names: str) -> None:
    """Refuse attributes that aren't above 0; of a tuple, each number counts, and it has some.

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
        for label, number in numbers.items():
            if number <= 0:
                raise UserError(f"{label} must be above 0, not {number}")


def check_step_size(settings: object, *names: str) -> None:
    """Refuse step sizes of averages outside (0, 1]; None, where nothing is averaged, passes.

    Raises:
        UserError: the first that isn't inside.
    """
    for name in names:
        value = getattr(settings, name)
        if value is not None and not 0 < value <= 1:
            raise UserError(f"{name} must be in (0, 1], not {value}")
