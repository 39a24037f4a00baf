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

from qss_offline.data.environments import Env, importable, make_env
from qss_offline.data.transitions import Float64Array, Transitions
from qss_offline.errors import UserError

_STEPS, _SECONDS = 3_000, 1.0
# Of fewer observations nothing is concluded but what the environment declares.
_FEWEST = 200
# The first half of the steps is of whole episodes, the second of many beginnings.
_BEGINNING = 50
_ROWS = 50_000
_SHOWN = 3

# Shares of rows that may be odd for other reasons: a sensor's outlier, a crash.
_ODD_ROWS = 0.02
_ROUNDING = 1e-4
# An expert runs ten times faster than random actions do; degrees are 57 times radians.
_TIMES = 30.0
_GAP = 5.0
_ON_CIRCLE, _OFF_CIRCLE = 1e-4, 0.1
_LINEAR, _FEW_ROWS, _TINY = 0.99, 20, 1e-12
_MOVING, _SMALL = 0.1, 1e-3
_FOLLOWS = 0.3


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

    Takes little more than a second, once a process and environment.

    Args:
        transitions: the recording; its observations are of the environment's size.
        env_id: the environment.

    Raises:
        UserError: they can't be; each dimension is named, with what is recorded and what the
            environment has.
    """
    # A cell that is run again may give another class the same name.
    sample = _known_sample(env_id) if importable(env_id) else _sample(env_id)
    rows = np.unique(np.linspace(0, len(transitions) - 1, _ROWS).astype(np.int64))
    recorded = np.asarray(transitions.observations[rows], np.float64)
    steps = np.asarray(transitions.next_observations[rows], np.float64) - recorded
    reasons = _out_of_bounds(recorded, sample)
    if len(sample.observations) >= _FEWEST:
        for found in (
            _far_away(recorded, steps, sample),
            _off_circles(recorded, sample),
            _other_speeds(recorded, steps, sample),
        ):
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


def _sample(env_id: str) -> _Sample:
    env = make_env(env_id)
    try:
        return _act_at_random(env)
    finally:
        env.close()


_known_sample = cache(_sample)


def _act_at_random(env: Env) -> _Sample:
    space = env.observation_space
    assert isinstance(space, spaces.Box)
    env.action_space.seed(0)
    before, after = [], []
    until = time.monotonic() + _SECONDS
    obs, _ = env.reset(seed=0)
    age = 0
    for step in range(_STEPS):
        before.append(np.array(obs, np.float64))
        obs, _, terminated, truncated, _ = env.step(env.action_space.sample())
        after.append(np.array(obs, np.float64))
        age += 1
        if terminated or truncated or (step > _STEPS / 2 and age >= _BEGINNING):
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
    low, high = (
        bound + sign * _ROUNDING * np.where(np.isfinite(bound), np.maximum(1, np.abs(bound)), 0)
        for sign, bound in ((-1, sample.low), (1, sample.high))
    )
    outside = (recorded < low) | (recorded > high)
    # Some environments leave their own bounds, too.
    loose = ((sample.observations < low) | (sample.observations > high)).any(0)
    return {
        dim: _described(dim, recorded[:, dim], sample.low[dim], sample.high[dim], "declares")
        for dim in np.flatnonzero((outside.mean(0) > _ODD_ROWS) & ~loose).tolist()
    }


def _far_away(recorded: Float64Array, steps: Float64Array, sample: _Sample) -> dict[int, str]:
    """Return dimensions far from everything seen: beside it, or many times greater and faster."""
    shown = sample.observations
    low, high = shown.min(0), shown.max(0)
    least, most = recorded.min(0), recorded.max(0)
    width = np.maximum(high - low, most - least)
    gap = np.maximum(low - most, least - high)
    centre = np.median(shown, 0)
    # Forces of contact are 0 in most rows, and great in few.
    greater = _scale(recorded - centre) / np.maximum(np.abs(shown - centre).max(0), _SMALL)
    faster = _scale(steps) / np.maximum(np.abs(sample.steps).max(0), _SMALL)
    # Of what never changes under random actions, such as a force of contact, nothing is known.
    varies = high - low > _SMALL
    far = varies & ((gap > _GAP * width) | ((greater > _TIMES) & (faster > _TIMES)))
    return {
        dim: _described(dim, recorded[:, dim], low[dim], high[dim], "shows")
        for dim in np.flatnonzero(far).tolist()
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


def _other_speeds(recorded: Float64Array, steps: Float64Array, sample: _Sample) -> dict[int, str]:
    """Return positions that move by another multiple of their velocity than in the environment.

    Steps of another length do so, and so do other machines. Only relations that leave less than a
    hundredth of a step's variance to random actions count, and only where the recording moves as
    much as a third: there no policy can bend them.
    """
    reasons: dict[int, str] = {}
    if len(recorded) < _FEW_ROWS:
        return reasons
    half = len(sample.observations) // 2
    before, moved = sample.observations[:half], sample.steps
    speeds, recorded_speeds = before + moved / 2, recorded + steps / 2
    squares, powers = np.square(speeds).sum(0), np.square(moved).sum(0)
    products = moved.T @ speeds
    explained = np.square(products) / np.maximum(np.outer(powers, squares), _TINY)
    np.fill_diagonal(explained, 0.0)
    for dim in np.flatnonzero(explained.max(1) > _LINEAR).tolist():
        speed = int(explained[dim].argmax())
        factor = products[dim, speed] / squares[speed]
        own, step = recorded_speeds[:, speed], steps[:, dim]
        power, square, product = np.mean(own**2), np.mean(step**2), np.mean(own * step)
        if power < _MOVING * squares[speed] / half:
            continue
        found = product / power
        linear = product**2 > 0.9 * power * square
        worse = np.mean((step - factor * own) ** 2) > 2 * square
        if not product**2 > _FOLLOWS * power * square:
            reasons[dim] = (
                f"a step of dimension {dim} is {factor:.3g} times dimension {speed} in the "
                "environment, and doesn't follow it in the recording"
            )
        elif worse or (linear and not 0.4 < found / factor < 2.5):
            reasons[dim] = (
                f"a step of dimension {dim} is {factor:.3g} times dimension {speed} in the "
                f"environment, and {found:.3g} times in the recording"
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
