"""Random numbers that depend on a seed alone, not on the seeds that learn beside it."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import numpy as np

from qss_offline.tabular.mdp import FloatArray


class Purpose(enum.IntEnum):
    """What a stream is for: how often one evaluates must not change what is learned."""

    LEARNING = 0
    EVALUATING = 1


class Streams:
    """One `numpy.random.Generator` for every seed; a seed draws the same in any company.

    Args:
        seeds: the seeds.
        purpose: what the numbers are for.
        phase: tells apart runs that follow each other, as before and after a transfer.

    Attributes:
        seeds: how many there are.
    """

    def __init__(self, seeds: Sequence[int], purpose: Purpose, phase: int = 0) -> None:
        self.seeds = len(seeds)
        self._generators = [
            np.random.Generator(
                np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(phase, purpose)))
            )
            for seed in seeds
        ]

    def draw(self, steps: int, kinds: int, walkers: int, worlds: int) -> FloatArray:
        """Return uniforms `(steps, kinds, worlds · seeds · walkers)` from [0, 1).

        Time comes first in every seed's own draw, so that asking twice for 50 steps gives what
        asking once for 100 does. All worlds see the same numbers, which pairs their comparison.
        """
        own = [generator.random((steps, kinds, walkers)) for generator in self._generators]
        return np.tile(np.concatenate(own, axis=2), (1, 1, worlds))
