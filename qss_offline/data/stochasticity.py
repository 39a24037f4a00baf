"""Behaviour stochasticity: how much of a recording's steps their states don't explain.

Where actions are a function of the state and the environment is deterministic, steps lie on a
smooth surface over the states. Where some actions are random, steps of nearly the same state lie
apart. So around some recorded states a local linear regression is fitted to the steps of the
nearest recorded ones (Cleveland, 1979, https://doi.org/10.1080/01621459.1979.10481038), and its
residuals are measured. Actions are not used, and the measure doesn't say which steps are random,
only whether there are any.
"""

from __future__ import annotations

import numpy as np

from qss_offline.data.transitions import Float64Array, Transitions

STOCHASTIC_FROM = 0.03
"""A share below it counts as none. In this project's environments 20,000 steps without random
actions have at most 0.014, but for one with 0.033; with a random action at one step in twenty they
have at least 0.038 (`docs/method.md`)."""

_ROWS = 100_000
_STATES = 200
_NEIGHBOURS_PER_COEFFICIENT = 10
_GRAINS = 4
"""Spreads of so many of the last digits that float32 keeps count as none: they are rounding."""


def behaviour_stochasticity(transitions: Transitions, seed: int = 0) -> float | None:
    """Return the share of the variance of steps that states don't explain, between about 0 and 1.

    It is the median over 200 recorded states; of a long recording 100,000 rows are looked at.
    Dimensions of a step count alike, each by its own spread; those that never move, but for
    rounding, don't. Noise of the environment or of sensors counts, too.

    Args:
        transitions: a recording.
        seed: of the states that are drawn.

    Returns:
        The share, or None where a recording is too small to tell (fewer than four rows for each
        coefficient of the regression), or nothing moves in it.
    """
    from scipy.spatial import cKDTree  # 0.3 s that listing datasets shouldn't take

    rng = np.random.default_rng(seed)
    total = len(transitions)
    some = total > _ROWS
    rows = np.sort(rng.choice(total, _ROWS, replace=False)) if some else np.arange(total)
    obs = transitions.observations[rows].astype(np.float64)
    steps = transitions.next_observations[rows] - obs
    still = _GRAINS * np.finfo(np.float32).eps * np.abs(obs).max(axis=0)
    obs, steps = _standardised(obs, still), _standardised(steps, still)
    coefficients = obs.shape[1] + 1
    if coefficients == 1 or steps.shape[1] == 0 or len(rows) < 4 * coefficients:
        return None
    count = min(_NEIGHBOURS_PER_COEFFICIENT * coefficients, len(rows) // 2)
    centers = rng.choice(len(rows), min(_STATES, len(rows)), replace=False)
    _, near = cKDTree(obs).query(obs[centers], k=count)
    shares = []
    for center, rows_near in zip(centers, near, strict=True):
        inputs = np.column_stack((np.ones(count), obs[rows_near] - obs[center]))
        line, _, rank, _ = np.linalg.lstsq(inputs, steps[rows_near], rcond=1e-6)
        left = np.square(steps[rows_near] - inputs @ line).sum()
        shares.append(left / (count - rank) / steps.shape[1])
    return float(np.median(shares))


def _standardised(values: Float64Array, still: Float64Array) -> Float64Array:
    """Columns in units of their spread, around 0; without those that have none beyond `still`."""
    spread = values.std(axis=0)
    moving = spread > still
    return np.asarray((values[:, moving] - values[:, moving].mean(axis=0)) / spread[moving])
