"""Stopping I early: of the networks on its way, the one that errs least on steps it never saw.

A network that learns for long from few steps ends with learning them by heart; steps that are held
out show where that begins (Prechelt, 1998, https://doi.org/10.1007/3-540-49430-8_3). Held out are
the last steps of each round, all in one piece: neighbours are alike, and single steps drawn from
between those that are learned from would tell nothing. Learning itself goes on to its last update,
and the next round from there; what is chosen is what the policy acts on.

A departure: the authors take I as it is after its last update.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

_LOOKS = 10
"""How often a round looks at the held-out steps: evenly over its updates, last after the last."""


def held_out_steps(share: float, steps_per_round: int) -> int:
    """Return how many steps of a round are held out."""
    return round(share * steps_per_round)


def is_held_out(steps: int, share: float, steps_per_round: int) -> NDArray[np.bool_]:
    """Tell which of the steps of whole rounds, oldest first, are held out: `(steps,)`."""
    kept: NDArray[np.bool_] = np.arange(steps) % steps_per_round >= (
        steps_per_round - held_out_steps(share, steps_per_round)
    )
    return kept


def looks(begun: int, updates: int) -> list[int]:
    """Return the updates after which to look, from those done to those that end the round."""
    count = min(_LOOKS, updates - begun)
    return [begun + (updates - begun) * look // count for look in range(1, count + 1)]


class LeastErrors:
    """The parameters of each of S seeds that have erred least on its held-out steps.

    Args:
        seeds: S.

    Attributes:
        chosen: parameters of all I of each seed, `(members, P)`; None before its first round.
    """

    def __init__(self, seeds: int) -> None:
        self.chosen: list[Tensor | None] = [None] * seeds
        self._least = [math.inf] * seeds

    def begin_round(self, index: int, error: Callable[[Tensor], float]) -> None:
        """Judge what the seed at `index` has chosen so far anew, on held-out steps that are more.

        Args:
            index: of the seed.
            error: what parameters `(members, P)` err by.
        """
        chosen = self.chosen[index]
        self._least[index] = math.inf if chosen is None else _finite(error(chosen))

    def consider(self, index: int, candidate: Tensor, error: Callable[[Tensor], float]) -> None:
        """Choose `candidate`, `(members, P)`, if it errs less than all before it."""
        found = _finite(error(candidate))
        if self.chosen[index] is None or found < self._least[index]:
            self.chosen[index], self._least[index] = candidate.clone(), found


def _finite(error: float) -> float:
    """Take what is no number for the greatest: nothing would be less than it."""
    return math.inf if math.isnan(error) else error
