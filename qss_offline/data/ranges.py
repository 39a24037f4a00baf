"""Whether a recording's observations mean what an environment's do, though their sizes agree.

Nothing here is proof that they do. What is refused lies outside declared bounds, far outside
whatever the environment shows, or breaks a relation that always holds in it: genuine recordings,
those of experts included, which go where random actions never do, are none of that.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache

import numpy as np
from gymnasium import spaces

from qss_offline.data.environments import Env, make_env
from qss_offline.data.transitions import Float64Array, Transitions
from qss_offline.errors import UserError

_STEPS, _SECONDS = 3_000, 1.0
# Of fewer observations nothing is concluded but what the environment declares.
_FEWEST = 200
_EPISODE = 200
_ROWS = 50_000
_SHOWN = 3

# Shares of rows that may be odd for other reasons: a sensor's outlier, a crash.
_ODD_ROWS = 0.02
_ROUNDING = 1e-4
# An expert runs ten times faster than random actions do; degrees are 57 times radians.
_TIMES = 30.0
_GAP = 2.0
_ON_CIRCLE, _OFF_CIRCLE = 1e-4, 0.1
_SMALL = 1e-3


@dataclass(frozen=True)
class _Sample:
    """What an environment shows under random actions.

    Attributes:
        observations: `(N, obs_dim)`.
        steps: `(N, obs_dim)`, s' − s.
        low: `(obs_dim,)` declared bounds, infinite where there are none.
        high: likewise.
    """

    observations: Float64Array
    steps: Float64Array
    low: Float64Array
    high: Float64Array


def check_ranges(transitions: Transitions, env_id: str) -> None:
    """Refuse a recording whose observations can't be those of an environment.

    Takes a second at most, once a process and environment.

    Args:
        transitions: the recording; its observations are of the environment's size.
        env_id: the environment.

    Raises:
        UserError: they can't be; each dimension is named, with what is recorded and what the
            environment has.
    """
    sample = _sample(env_id)
    rows = np.unique(np.linspace(0, len(transitions) - 1, _ROWS).astype(np.int64))
    recorded = np.asarray(transitions.observations[rows], np.float64)
    steps = np.asarray(transitions.next_observations[rows], np.float64) - recorded
    reasons = _out_of_bounds(recorded, sample)
    if len(sample.observations) >= _FEWEST:
        for found in (_far_away(recorded, steps, sample), _off_circles(recorded, sample)):
            reasons |= {dim: why for dim, why in found.items() if dim not in reasons}
    if not reasons:
        return
    named = [reasons[dim] for dim in sorted(reasons)[:_SHOWN]]
    more = len(reasons) - len(named)
    raise UserError(
        f"the recording doesn't fit {env_id}: {'; '.join(named)}"
        f"{f'; and {more} more' if more else ''}; choose the environment that was recorded, or "
        "insist with --no-check-ranges (in Python check_ranges=False)"
    )


@cache
def _sample(env_id: str) -> _Sample:
    env = make_env(env_id)
    try:
        return _act_at_random(env)
    finally:
        env.close()


def _act_at_random(env: Env) -> _Sample:
    space = env.observation_space
    assert isinstance(space, spaces.Box)
    env.action_space.seed(0)
    before, after = [], []
    until = time.monotonic() + _SECONDS
    obs, _ = env.reset(seed=0)
    age = 0
    for _ in range(_STEPS):
        before.append(np.array(obs, np.float64))
        obs, _, terminated, truncated, _ = env.step(env.action_space.sample())
        after.append(np.array(obs, np.float64))
        age += 1
        if terminated or truncated or age == _EPISODE:
            obs, _ = env.reset()
            age = 0
        if time.monotonic() > until:
            break
    first, second = np.array(before), np.array(after)
    return _Sample(
        np.concatenate((first, second)),
        second - first,
        space.low.astype(np.float64),
        space.high.astype(np.float64),
    )


def _out_of_bounds(recorded: Float64Array, sample: _Sample) -> dict[int, str]:
    """Return dimensions that leave their declared bounds, in more rows than an odd one."""
    room = _ROUNDING * np.maximum(1.0, np.maximum(np.abs(sample.low), np.abs(sample.high)))
    outside = (recorded < sample.low - room) | (recorded > sample.high + room)
    # Some environments leave their own bounds, too.
    shown = sample.observations
    loose = ((shown < sample.low - room) | (shown > sample.high + room)).any(0)
    return {
        int(dim): _described(dim, recorded[:, dim], sample.low[dim], sample.high[dim], "declares")
        for dim in np.flatnonzero((outside.mean(0) > _ODD_ROWS) & ~loose)
    }


def _far_away(recorded: Float64Array, steps: Float64Array, sample: _Sample) -> dict[int, str]:
    """Return dimensions far from everything seen: beside it, or many times greater and faster."""
    shown = sample.observations
    low, high = shown.min(0), shown.max(0)
    least, most = recorded.min(0), recorded.max(0)
    width = np.maximum(high - low, most - least)
    gap = np.maximum(low - most, least - high)
    centre = np.median(shown, 0)
    greater = _scale(recorded - centre) / np.maximum(_scale(shown - centre), _SMALL)
    faster = _scale(steps) / np.maximum(_scale(sample.steps), _SMALL)
    # Of what never changes under random actions, such as a force of contact, nothing is known.
    varies = high - low > _SMALL
    far = varies & ((gap > _GAP * width) | ((greater > _TIMES) & (faster > _TIMES)))
    return {
        int(dim): _described(dim, recorded[:, dim], low[dim], high[dim], "shows")
        for dim in np.flatnonzero(far)
    }


def _off_circles(recorded: Float64Array, sample: _Sample) -> dict[int, str]:
    """Return pairs that are a cosine and a sine in the environment, but not in the recording."""
    reasons = {}
    shown = np.square(sample.observations)
    varied = np.flatnonzero((shown.max(0) - shown.min(0) > _SMALL) & (shown.max(0) < 1.01))
    for index, first in enumerate(varied):
        others = varied[index + 1 :]
        # A few rows leave hardly any pair for all rows.
        few = np.abs(shown[::100, first, None] + shown[::100, others] - 1).max(0)
        for second in others[few < _ON_CIRCLE]:
            if np.abs(shown[:, first] + shown[:, second] - 1).max() > _ON_CIRCLE:
                continue
            total = np.square(recorded[:, first]) + np.square(recorded[:, second])
            if (np.abs(total - 1) > _OFF_CIRCLE).mean() > _ODD_ROWS:
                reasons[int(first)] = (
                    f"dimensions {first} and {second} are a cosine and a sine in the environment, "
                    f"whose squares add up to 1, and to {_span(total.min(), total.max())} in the "
                    "recording"
                )
    return reasons


def _scale(values: Float64Array) -> Float64Array:
    scale: Float64Array = np.quantile(np.abs(values), 0.99, axis=0)
    return scale


def _described(dim: int, column: Float64Array, low: float, high: float, says: str) -> str:
    recorded = _span(float(column.min()), float(column.max()))
    return (
        f"dimension {dim} is {recorded} in the recording, the environment {says} {_span(low, high)}"
    )


def _span(low: float, high: float) -> str:
    return f"{low:.3g} to {high:.3g}"
