"""What few runs allow to be said, and how it is shown, in every table and figure alike.

After Agarwal et al., *Deep Reinforcement Learning at the Edge of the Statistical Precipice*
(NeurIPS 2021, https://arxiv.org/abs/2108.13264), whose library rliable is archived. Scores are
of shape `(runs, tasks)`, or `(runs,)` for one task. Intervals are percentile intervals of the
stratified bootstrap: runs are drawn again within each task, independently of the other tasks.

Bounds are moved outwards to the estimate where rounding, or a skewed statistic, would leave it
outside its own interval: `low <= estimate <= high`.

Fewer than `ENOUGH` runs have no interval: the bounds are NaN, and their scores are shown instead
(`scores_text`). Three runs have only ten different resamples, and intervals that are too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from qss_offline.errors import UserError

FloatArray: TypeAlias = NDArray[np.float64]
Statistic: TypeAlias = Callable[[FloatArray], FloatArray]
"""Maps `(…, scores)` to `(…)`: reduces the last axis."""

ENOUGH = 5
"""Runs that an interval takes; of fewer each score is shown."""

RESAMPLES = 10_000
_CONFIDENCE = 0.95
# Of numbers in words: what is beyond is as good as infinite, what is below as good as nothing.
_MOST, _LEAST = 1e12, 1e-6
# Numbers held at once while resampling: tens of megabytes.
_BATCH_NUMBERS = 2_000_000


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval.

    Attributes:
        estimate: the statistic of all scores.
        low: lower bound, at most the estimate; NaN where there are too few runs.
        high: upper bound, at least the estimate, likewise.
    """

    estimate: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        """Whether there were enough runs for bounds."""
        return not math.isnan(self.low)

    def __str__(self) -> str:
        """Return "0.75 [0.5; 0.9]", of too few runs "0.75"."""
        bounds = f" [{number_text(self.low)}; {number_text(self.high)}]" if self.known else ""
        return f"{number_text(self.estimate)}{bounds}"


@dataclass(frozen=True, eq=False)
class Profile:
    """A performance profile (Agarwal et al. 2021, Section 4.2) with pointwise bands.

    Attributes:
        thresholds: `(thresholds,)`.
        fractions: `(thresholds,)`, the share of all runs of all tasks above each threshold.
        low: `(thresholds,)` lower bounds, NaN where there are too few runs.
        high: `(thresholds,)` upper bounds, likewise.
    """

    thresholds: FloatArray
    fractions: FloatArray
    low: FloatArray
    high: FloatArray


def mean(scores: FloatArray) -> FloatArray:
    """Return the mean along the last axis, `(…, n)` to `(…)`."""
    return np.asarray(np.mean(scores, axis=-1), np.float64)


def iqm(scores: FloatArray) -> FloatArray:
    """Return the interquartile mean along the last axis, `(…, n)` to `(…)`.

    It is the mean without the ⌊n/4⌋ smallest and the ⌊n/4⌋ largest scores, as in rliable; of
    fewer than four scores it is their mean.
    """
    # Here, since it takes as long to import as everything else but torch together.
    from scipy import stats

    return np.asarray(stats.trim_mean(scores, 0.25, axis=-1), np.float64)


def bootstrap_interval(
    scores: ArrayLike,
    rng: Generator,
    statistic: Statistic = iqm,
    *,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return a statistic of all scores of all tasks, with its stratified bootstrap interval.

    Args:
        scores: `(runs, tasks)`, or `(runs,)` for one task.
        rng: draws the resamples.
        statistic: `iqm`, `mean`, or anything that reduces the last axis.
        resamples: how many; the bounds vary with the draw, less the more there are.

    Raises:
        UserError: no scores, NaN or infinity among them, or another shape.
    """
    tasks = _tasks("scores", scores)

    def of_all(*resampled: FloatArray) -> FloatArray:
        return statistic(np.concatenate(resampled, axis=-1))

    return _interval(tasks, of_all, sum(map(len, tasks)), rng, resamples)


@dataclass(frozen=True, eq=False)
class MeanBand:
    """Means over seeds and their 95% intervals, each of the shape without that axis.

    The bounds are NaN where there are too few seeds.
    """

    mean: FloatArray
    low: FloatArray
    high: FloatArray

    @property
    def errors(self) -> FloatArray:
        """`(2, …)` how far the bounds are from the means, as error bars take it."""
        return np.stack((self.mean - self.low, self.high - self.mean))


def mean_band(samples: ArrayLike) -> MeanBand:
    """Return means along the last axis, that of the seeds, with pointwise 95% bootstrap intervals.

    A resample draws the same seeds at every point; 2,000 are drawn, always the same.
    """
    array = np.asarray(samples, np.float64)
    means, count = np.asarray(array.mean(axis=-1)), array.shape[-1]
    if count < ENOUGH:
        none = np.full_like(means, np.nan)
        return MeanBand(means, none, none)
    draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), 2_000)
    resampled = array @ (draws.T / count)
    low, high = np.quantile(resampled, (0.025, 0.975), axis=-1)
    return MeanBand(means, np.minimum(low, means), np.maximum(high, means))


def mean_of(scores: ArrayLike) -> Interval:
    """Return the mean of a group of scores, `(n,)`, with its 95% bootstrap interval.

    Raises:
        UserError: as in `bootstrap_interval`.
    """
    return bootstrap_interval(scores, np.random.default_rng(0), mean)


def scores_text(scores: Sequence[float] | FloatArray, noun: str | None = None) -> str:
    """Return how a group of scores is shown: the mean, and what is known of its spread.

    Of `ENOUGH` scores or more that is the 95% bootstrap interval of the mean, of fewer every score:
    "951 [853; 1,000]", "918 (1,000; 756; 1,000)", "756".

    Args:
        scores: `(n,)`, one at least.
        noun: what each is of, such as "seed"; adds how many there are where the text doesn't show
            it.
    """
    numbers = [float(score) for score in scores]
    average = float(np.mean(numbers))
    if 1 < len(numbers) < ENOUGH:
        return f"{number_text(average)} ({'; '.join(map(number_text, numbers))})"
    finite = bool(np.isfinite(numbers).all())
    text = str(mean_of(numbers)) if finite else number_text(average)
    return text + (f" ({counted(len(numbers), noun)})" if noun else "")


def number_text(value: float) -> str:
    """Return a number as one writes it for readers: three digits or so, and no exponent."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else f"{'-' if value < 0 else ''}infinite"
    size = abs(value)
    if size >= _MOST:
        return f"{'less than -' if value < 0 else 'more than '}1 trillion"
    for unit, name in ((1e9, "billion"), (1e6, "million")):
        if size >= unit:
            return f"{number_text(value / unit)} {name}"
    if size >= 99.95:
        return f"{value:,.0f}"
    if size >= 0.995:
        return f"{value:.1f}"
    if size >= 0.0995:
        return f"{value:.2f}"
    if size < _LEAST:
        return "0"
    # Two digits, wherever they begin.
    return f"{value:.{1 - math.floor(math.log10(size))}f}"


def counted(count: int, noun: str) -> str:
    """Return "1 seed", "5 seeds", "1,000 updates"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


_MANY = 10_000


def mean_interval(values: ArrayLike, rng: Generator, *, resamples: int = 1_000) -> Interval:
    """Return the mean of many values, such as the returns of a recording, with its 95% interval.

    Args:
        values: `(n,)`. Of more than 10,000 the interval is the normal approximation, which is the
            same there, at once.
        rng: draws the resamples.
        resamples: how many.

    Raises:
        UserError: as in `bootstrap_interval`.
    """
    (numbers,) = _tasks("values", np.ravel(values))
    if len(numbers) <= _MANY:
        return bootstrap_interval(numbers, rng, mean, resamples=resamples)
    estimate, half = float(numbers.mean()), 1.96 * float(numbers.std()) / len(numbers) ** 0.5
    return Interval(estimate, estimate - half, estimate + half)


def probability_of_improvement(
    scores: ArrayLike,
    others: ArrayLike,
    rng: Generator,
    *,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return P(X > Y): how likely a run of one method beats a run of another on a task.

    Ties count half (the Mann-Whitney statistic over the number of pairs); the mean over tasks.

    Args:
        scores: X, `(runs, tasks)` or `(runs,)`.
        others: Y, of the same tasks; it may hold another number of runs.
        rng: draws the resamples, of X and of Y, within each task.
        resamples: how many.

    Raises:
        UserError: as in `bootstrap_interval`, or the numbers of tasks differ.
    """
    left, right = _tasks("scores", scores), _tasks("others", others)
    if len(left) != len(right):
        raise UserError(f"others: {len(right)} tasks, but scores has {len(left)}")

    def beats(*resampled: FloatArray) -> FloatArray:
        tasks = len(resampled) // 2
        pairs = zip(resampled[:tasks], resampled[tasks:], strict=True)
        shares = [0.5 + 0.5 * _sign(x, y).mean(axis=(-1, -2)) for x, y in pairs]
        return np.asarray(np.mean(shares, axis=0), np.float64)

    numbers = len(left) * len(left[0]) * len(right[0])
    return _interval([*left, *right], beats, numbers, rng, resamples)


def performance_profile(
    scores: ArrayLike,
    thresholds: ArrayLike,
    rng: Generator,
    *,
    resamples: int = 2_000,
) -> Profile:
    """Return the share of runs above each threshold, with pointwise bootstrap bands.

    Args:
        scores: `(runs, tasks)` or `(runs,)`, normalised where tasks differ in scale.
        thresholds: `(thresholds,)`; a score counts where it is strictly above.
        rng: draws the resamples.
        resamples: how many.

    Raises:
        UserError: as in `bootstrap_interval`, or there are no thresholds.
    """
    tasks = _tasks("scores", scores)
    marks = np.asarray(thresholds, np.float64)
    if marks.ndim != 1 or not marks.size or not np.isfinite(marks).all():
        raise UserError("thresholds: expected at least one finite number, in one dimension")
    # One row for each threshold; a resample draws the same runs in all rows.
    above = [np.asarray(task > marks[:, None], np.float64) for task in tasks]

    def share(*resampled: FloatArray) -> FloatArray:
        return mean(np.concatenate(resampled, axis=-1))

    numbers = len(marks) * sum(map(len, tasks))
    low, high = _bounds(above, share, numbers, rng, resamples)
    fractions = share(*above)
    # NaN, where there are no bounds, stays.
    return Profile(marks, fractions, np.minimum(low, fractions), np.maximum(high, fractions))


def _sign(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return 1, 0 or −1 for each pair, `(…, n)` and `(…, m)` to `(…, n, m)`."""
    return np.asarray(np.sign(x[..., :, None] - y[..., None, :]), np.float64)


def _tasks(name: str, scores: ArrayLike) -> list[FloatArray]:
    """Return the scores of each task, `(runs,)` each."""
    try:
        array = np.asarray(scores, np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: expected numbers of shape (runs, tasks) or (runs,)") from error
    if array.ndim not in (1, 2) or not array.size:
        raise UserError(
            f"{name}: expected shape (runs, tasks) or (runs,), at least 1 each, got {array.shape}"
        )
    if not np.isfinite(array).all():
        raise UserError(f"{name}: NaN or infinity among them; a missing run has no score")
    return list(array.T) if array.ndim == 2 else [array]


def _interval(
    samples: Sequence[FloatArray],
    statistic: Callable[..., FloatArray],
    numbers: int,
    rng: Generator,
    resamples: int,
) -> Interval:
    low, high = _bounds(samples, statistic, numbers, rng, resamples)
    estimate = float(statistic(*samples))
    return Interval(estimate, float(np.minimum(low, estimate)), float(np.maximum(high, estimate)))


def _bounds(
    samples: Sequence[FloatArray],
    statistic: Callable[..., FloatArray],
    numbers: int,
    rng: Generator,
    resamples: int,
) -> tuple[Any, Any]:
    """Return the percentile bounds; `numbers` is what one resample holds in memory."""
    if min(sample.shape[-1] for sample in samples) < ENOUGH:
        return np.nan, np.nan

    def vectorised(*resampled: FloatArray, axis: int) -> FloatArray:
        return statistic(*resampled)

    from scipy import stats

    interval = stats.bootstrap(
        samples,
        vectorised,
        n_resamples=resamples,
        batch=max(1, _BATCH_NUMBERS // numbers),
        vectorized=True,
        axis=-1,
        confidence_level=_CONFIDENCE,
        method="percentile",
        random_state=rng,  # `rng` since SciPy 1.15, which still takes the old name
    ).confidence_interval
    return interval.low, interval.high
