"""How long a comparison takes, roughly: said before it begins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

from gymnasium.spaces import flatdim

from qss_offline.comparison.cells import Cell
from qss_offline.data.environments import make_env
from qss_offline.data.facts import RecordingFacts
from qss_offline.parallel.processes import available_cores
from qss_offline.training.runner import seconds_per_seed

_UPDATES_PER_S = {"bc": 156.0, "td3+bc": 70.0, "iql": 48.0, "cql": 8.0}
"""Of d3rlpy's methods on one thread at 256 wide layers and batches, measured once; narrower ones
take about half as long."""
_NARROW = 2.0
_EVALUATION_STEPS_PER_S = 5_000.0


def seconds_of_cells(wanted: Sequence[tuple[Cell, int]], width: int) -> float:
    """Return the wall time of some cells.

    Args:
        wanted: cells, and how many of their seeds run one after the other.
        width: how many run at a time.
    """
    if not wanted:
        return 0.0
    times = [_seconds(cell) * seeds for cell, seeds in wanted]
    # A cell isn't shared out.
    return max(max(times), math.fsum(times) / min(width, len(times)))


def _seconds(cell: Cell) -> float:
    """Return the seconds of one seed."""
    method = cell.method.removeprefix("pseudo-")
    if method in _UPDATES_PER_S:
        settings = cell.settings
        speed = _UPDATES_PER_S[method]
        if max(settings.baseline_hidden_dims) < 256:
            speed *= _NARROW
        steps = settings.baseline_evaluations * settings.episodes * _sizes(cell.env_id)[2]
        return settings.updates(cell.method) / speed + steps / _EVALUATION_STEPS_PER_S
    return _training_seconds(cell)


_measured: dict[tuple[str, str, int, int], float] = {}


def _training_seconds(cell: Cell) -> float:
    """Return the seconds of a seed of D3G or BCO; an update is measured once for its sizes."""
    obs_dim, action_dim, _ = _sizes(cell.env_id)
    key = cell.settings.name, cell.method, obs_dim, action_dim
    if key not in _measured:
        ones = (1.0,) * obs_dim
        facts = RecordingFacts((0.0,) * obs_dim, ones, ones, 0.0, 1.0, None, 2.0)
        _measured[key] = seconds_per_seed(cell.run_config((0,), facts), obs_dim, action_dim)
    return _measured[key]


@cache
def _sizes(env_id: str) -> tuple[int, int, int]:
    """Return the numbers of an observation and of an action, and the steps of an episode."""
    env = make_env(env_id)
    try:
        assert env.observation_space.shape is not None
        steps = (env.spec and env.spec.max_episode_steps) or 1_000
        return env.observation_space.shape[0], flatdim(env.action_space), steps
    finally:
        env.close()


_ONLINE_STEPS_PER_S = 70.0


def online_seconds(steps: int, workers: int | None = None) -> float:
    """Return the wall time of online steps with an update each, at the sizes of the paper.

    Args:
        steps: of all seeds.
        workers: processes; None takes one a core.
    """
    return steps / _ONLINE_STEPS_PER_S / min(workers or available_cores(), available_cores())
