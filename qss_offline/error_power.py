"""Whether errors against recorded behaviour are squared: what a recording itself says of it.

Where chance acts at some steps, the mean that a squared error asks for lies beside what the
controller does, and a low power asks for the mode (`algorithms/behaviour.py`). Where none acts,
there is nothing to leave out, and a low power cares least for the states that it fits worst, which
are those that a body falls in. D3G's proposals and BCO's policy ask this alike.
"""

from __future__ import annotations

from collections.abc import Iterable

from qss_offline.data.chance import CHANCE_FROM, chance_share
from qss_offline.data.transitions import Transitions
from qss_offline.errors import UserError

MEAN_POWER, MODE_POWER = 2.0, 0.5


def power_of(share: float | None) -> float:
    """Return 2 where a recording holds no chance, else ½.

    Args:
        share: see `chance_share`; where it can't be told, chance isn't ruled out.
    """
    return MEAN_POWER if share is not None and share < CHANCE_FROM else MODE_POWER


def settled_power(asked: float | None, recordings: Iterable[Transitions]) -> float:
    """Return the power that was asked for, or where it is None what the recordings ask for.

    Args:
        asked: a power, or None to measure it.
        recordings: what seeds of one stack learn from.

    Raises:
        UserError: it is measured, and some recordings hold chance and others don't: one loss serves
            all seeds of a stack.
    """
    if asked is not None:
        return asked
    # Seeds of one recording share it: each is looked at once.
    different = {id(recording): recording for recording in recordings}.values()
    powers = {power_of(chance_share(recording)) for recording in different}
    if len(powers) > 1:
        raise UserError(
            "of the recordings to learn from at once, some hold chance and some don't: set the "
            "power of errors (0.5 for the mode, 2 for the mean), or train them apart"
        )
    return powers.pop()
