"""What to do with what can't be taken as it stands; nothing is done that wasn't asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from qss_offline.errors import UserError

Missing: TypeAlias = Literal["refuse", "drop-step", "interpolate"]
Rounding: TypeAlias = Literal["refuse", "keep"]
Resets: TypeAlias = Literal["refuse", "drop-step", "keep"]


@dataclass(frozen=True)
class ImportRules:
    """How a recording is mended on import. By default what would need it is refused.

    Attributes:
        ignore: columns, by names or patterns as in `ColumnNames`, that are taken as if they weren't
            there. Of a matrix `NAME[3]` is the fourth number.
        offset: columns of observations whose first value is subtracted from all others, where
            float32 can't hold their steps.
        order: a column by which the rows of each episode are sorted.
        missing: of values that are missing and gaps in the order: `drop-step` leaves the steps out
            that need them; `interpolate` fills observations and actions linearly between their
            neighbours in the episode, and leaves out what then still lacks something.
        resets: of resets that no column marks: `drop-step` leaves the steps across them out, and
            ends the episode there; `keep` takes them as steps.
        rounding: of columns whose changes float32 can't hold: `keep` rounds them away.
        skip_bad: leave out whole episodes in which something would be refused.

    Raises:
        UserError: a value isn't one of these.
    """

    ignore: tuple[str, ...] = ()
    offset: tuple[str, ...] = ()
    order: str | None = None
    missing: Missing = "refuse"
    resets: Resets = "refuse"
    rounding: Rounding = "refuse"
    skip_bad: bool = False

    def __post_init__(self) -> None:
        for name, known in (("missing", Missing), ("resets", Resets), ("rounding", Rounding)):
            value = getattr(self, name)
            if value not in get_args(known):
                raise UserError(f"{name}: expected {', '.join(get_args(known))}, not {value!r}")


AS_IT_STANDS = ImportRules()
