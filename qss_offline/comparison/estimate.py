"""How long online runs take, roughly: said before they begin."""

from __future__ import annotations

from collections.abc import Iterable

from qss_offline.online.config import OnlineConfig
from qss_offline.online.presets import BASELINES
from qss_offline.parallel.processes import available_cores

_SMALL = 128
_STEPS_PER_S = 250.0
"""Of a core, with an update each: of D3G with small networks, stacked or alone."""
_BASELINE_STEPS_PER_S = 80.0
"""Of d3rlpy's methods, likewise."""
_WIDE_STEPS_PER_S = 70.0
"""At the sizes of the paper."""


def online_seconds(
    runs: Iterable[tuple[str, OnlineConfig]], seeds: int = 1, workers: int | None = None
) -> float:
    """Return the wall time of online runs.

    Args:
        runs: the algorithm and the settings of each.
        seeds: of each.
        workers: processes; None takes one a core.
    """
    taken = sum(config.steps / _rate(algorithm, config) for algorithm, config in runs)
    return seeds * taken / min(workers or available_cores(), available_cores())


def _rate(algorithm: str, config: OnlineConfig) -> float:
    if max(config.algorithm.hidden_dims) > _SMALL:
        return _WIDE_STEPS_PER_S
    return _BASELINE_STEPS_PER_S if algorithm in BASELINES else _STEPS_PER_S
