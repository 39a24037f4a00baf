"""What the paper reports, as it reports it.

Edwards et al. 2020, Table 1: the best of 100 evaluations of each of 10 seeds, mean and standard
deviation over seeds, in the v2 environments of the time; `behaviour` is its πo.
"""

from __future__ import annotations

from dataclasses import dataclass

REPORTED = ("d3g", "bco")
"""The methods that it reports, beside what was recorded."""


@dataclass(frozen=True)
class Reported:
    """A mean and a standard deviation over seeds."""

    mean: float
    std: float

    def __str__(self) -> str:
        """Return "900.2 ± 299.2", as the paper has it."""
        return f"{self.mean:,g} ± {self.std:,g}"


_LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
_ROWS = {
    ("Reacher", "behaviour"): ((-4.1, 0.7), (-12.5, 1.0), (-22.6, 0.9), (-32.6, 0.4), (-40.6, 0.5)),
    ("Reacher", "bco"): ((-4.2, 0.6), (-4.3, 0.6), (-4.9, 0.7), (-6.6, 1.3), (-9.7, 0.8)),
    ("Reacher", "d3g"): ((-14.7, 30.5), (-4.2, 0.6), (-4.2, 0.6), (-4.6, 0.6), (-6.4, 0.7)),
    ("InvertedPendulum", "behaviour"):
        ((1000, 0), (52.3, 3.7), (18.0, 2.4), (11.4, 1.3), (8.6, 0.3)),
    ("InvertedPendulum", "bco"): ((1000, 0), (1000, 0), (12.1, 8.3), (12.1, 8.3), (31.0, 4.7)),
    ("InvertedPendulum", "d3g"):
        ((3.0, 0.9), (602.1, 487.4), (900.2, 299.2), (1000, 0), (1000, 0)),
}  # fmt: skip


def reported(env_id: str, method: str, random_action_prob: float) -> Reported | None:
    """Return the paper's figure for an environment of any version, or None.

    With arguments of its own it is another than the paper's.
    """
    row = _ROWS.get((env_id.rpartition("-v")[0], method))
    if row is None or "?" in env_id or random_action_prob not in _LEVELS:
        return None
    return Reported(*row[_LEVELS.index(random_action_prob)])
