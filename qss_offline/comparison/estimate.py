"""How long online runs take, roughly: said before they begin."""

from __future__ import annotations

from qss_offline.parallel.processes import available_cores

_ONLINE_STEPS_PER_S = 70.0


def online_seconds(steps: int, workers: int | None = None) -> float:
    """Return the wall time of online steps with an update each, at the sizes of the paper.

    Args:
        steps: of all seeds.
        workers: processes; None takes one a core.
    """
    return steps / _ONLINE_STEPS_PER_S / min(workers or available_cores(), available_cores())
