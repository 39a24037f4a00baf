"""Interquartile means and bootstrap intervals, against SciPy and by hand."""

import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from qss_offline.errors import UserError
from qss_offline.statistics import (
    Interval,
    Statistic,
    bootstrap_interval,
    counted,
    iqm,
    mean,
    mean_band,
    mean_interval,
    mean_of,
    number_text,
    performance_profile,
    probability_of_improvement,
    scores_text,
)

NUMBERS = st.floats(-1e3, 1e3).map(lambda x: round(x, 3))
SCORES = st.tuples(st.integers(5, 8), st.integers(1, 3)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=NUMBERS)
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def two_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs have an interval, so that it can be told by hand."""
    monkeypatch.setattr("qss_offline.statistics.ENOUGH", 2)


def test_iqm_by_hand() -> None:
    assert iqm(np.array([100.0, 1, 2, 3, 4, 5, 6, -50])) == pytest.approx((2 + 3 + 4 + 5) / 4)
    # Of five scores one falls at each end, of three none.
    assert iqm(np.array([0.0, 0, 3, 6, 1000])) == 3
    assert iqm(np.array([0.0, 3, 30])) == 11
    np.testing.assert_allclose(iqm(np.array([[9.0, 0, 1, 2], [4, 4, 4, 4]])), [1.5, 4])


@given(arrays(np.float64, st.integers(1, 40), elements=NUMBERS))
def test_iqm_is_scipys_trimmed_mean(scores: np.ndarray) -> None:
    assert iqm(scores) == pytest.approx(stats.trim_mean(scores, 0.25))


@pytest.mark.parametrize("statistic", [mean, iqm])
def test_one_task_is_scipys_bootstrap(statistic: object) -> None:
    scores = rng(1).normal(size=10)
    ours = bootstrap_interval(scores, rng(2), statistic, resamples=999)  # type: ignore[arg-type]
    scipys = stats.bootstrap(
        (scores,),
        np.mean if statistic is mean else lambda x, axis: stats.trim_mean(x, 0.25, axis=axis),
        n_resamples=999,
        method="percentile",
        random_state=rng(2),
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((scipys.low, scipys.high))
    assert ours == bootstrap_interval(scores[:, None], rng(2), statistic, resamples=999)  # type: ignore[arg-type]


@pytest.mark.usefixtures("two_are_enough")
def test_runs_are_drawn_within_their_task_independently_of_other_tasks() -> None:
    # Two runs a task: a resample of (0, 1) has mean 0, 1/2 or 1 with probability 1/4, 1/2, 1/4.
    # Mixed over tasks (1000 among them), the mean would leave [500, 501]. Were both tasks drawn
    # alike, no resample could have mean 500.5 − 0.25.
    scores = np.array([[0.0, 1000.0], [1.0, 1001.0]])
    means_drawn: set[float] = set()

    def remember(values: np.ndarray) -> np.ndarray:
        means = mean(values)
        means_drawn.update(np.ravel(means).tolist())
        return means

    interval = bootstrap_interval(scores, rng(), remember)
    assert means_drawn == {500.0, 500.25, 500.5, 500.75, 501.0}
    assert (interval.estimate, interval.low, interval.high) == (500.5, 500, 501)


@pytest.mark.usefixtures("two_are_enough")
def test_bounds_are_percentiles_of_all_resamples() -> None:
    # All 256 equally likely resamples of four runs give the exact distribution.
    for scores in ([1.0, 2.0, 6.0, 9.0], [0.0, 0.0, 1.0, 7.0]):
        exact = [np.mean(drawn) for drawn in itertools.product(scores, repeat=4)]
        interval = bootstrap_interval(scores, rng(), mean)
        expected = np.quantile(exact, [0.025, 0.975], method="inverted_cdf")
        assert (interval.low, interval.high) == pytest.approx(tuple(expected))


def test_coverage_of_the_mean() -> None:
    samples = rng(3).normal(size=(200, 20))
    hits = 0
    for index, sample in enumerate(samples):
        interval = bootstrap_interval(sample, rng(index), mean, resamples=300)
        hits += interval.low <= 0 <= interval.high
    assert 0.85 <= hits / 200 <= 0.99


@pytest.mark.parametrize("statistic", [mean, iqm, lambda scores: scores.max(axis=-1)])
@settings(max_examples=60)
@given(
    st.tuples(st.integers(5, 7), st.integers(1, 3)).flatmap(
        lambda shape: st.one_of(
            arrays(np.float64, shape, elements=NUMBERS),
            # Equal scores: means of the same numbers differ in their last bits.
            NUMBERS.map(lambda number: np.full(shape, number)),
        )
    )
)
def test_an_estimate_lies_in_its_interval(statistic: Statistic, scores: np.ndarray) -> None:
    interval = bootstrap_interval(scores, rng(), statistic, resamples=19)
    assert interval.low <= interval.estimate <= interval.high
    others = scores[::-1] + 1
    beats = probability_of_improvement(scores, others, rng(), resamples=19)
    assert beats.low <= beats.estimate <= beats.high
    profile = performance_profile(scores, np.unique(scores), rng(), resamples=19)
    assert (profile.low <= profile.fractions).all() and (profile.fractions <= profile.high).all()
    lines = mean_interval(scores[:, 0], rng(), resamples=19)
    assert lines.low <= lines.estimate <= lines.high


def test_means_of_many_values_have_the_interval_of_the_bootstrap() -> None:
    values = rng(3).normal(size=40_000)
    at_once = mean_interval(values, rng())
    drawn = bootstrap_interval(values[:10_000], rng(), mean, resamples=500)
    assert at_once.high - at_once.low == pytest.approx((drawn.high - drawn.low) / 2, rel=0.15)


@settings(max_examples=30)
@given(SCORES, st.floats(-10, 10), st.floats(0.1, 10))
def test_intervals_hold_the_scores_and_move_with_them(
    scores: np.ndarray, shift: float, factor: float
) -> None:
    interval = bootstrap_interval(scores, rng(), resamples=99)
    slack = 1e-9
    assert scores.min() - slack <= interval.low <= interval.high <= scores.max() + slack
    moved = bootstrap_interval(scores * factor + shift, rng(), resamples=99)
    for name in ("estimate", "low", "high"):
        expected = getattr(interval, name) * factor + shift
        assert getattr(moved, name) == pytest.approx(expected, abs=1e-6)


def test_the_generator_alone_decides() -> None:
    scores = rng(1).normal(size=(6, 2))
    assert bootstrap_interval(scores, rng(7)) == bootstrap_interval(scores, rng(7))
    assert bootstrap_interval(scores, rng(7), resamples=50) != bootstrap_interval(
        scores, rng(8), resamples=50
    )


def test_equal_scores() -> None:
    assert bootstrap_interval([3.0] * 5, rng()) == Interval(3.0, 3.0, 3.0)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_fewer_than_five_runs_have_no_interval(count: int) -> None:
    scores = np.arange(2.0 * count).reshape(count, 2)
    one = bootstrap_interval(scores, rng())
    assert one.estimate == count - 0.5 and math.isnan(one.low) and math.isnan(one.high)
    assert not one.known and str(one) == f"{one.estimate:.{1 if count > 1 else 2}f}"
    beats = probability_of_improvement(scores[:, 0] + 9, [0.0] * 5, rng())
    assert beats.estimate == 1.0 and not beats.known
    profile = performance_profile(scores, [-1.0, 9.0], rng())
    assert profile.fractions.tolist() == [1, 0] and np.isnan(profile.low).all()
    band = mean_band(scores.T)
    assert band.mean.tolist() == [count - 1, count] and np.isnan([band.low, band.high]).all()


def test_five_have_one_everywhere() -> None:
    scores = [1.0, 2.0, 3.0, 4.0, 15.0]
    interval = mean_of(scores)
    assert interval.known and interval.low < 5.0 < interval.high
    band = mean_band([scores, [0.0] * 5])
    assert band.mean.tolist() == [5, 0] and band.low[1] == band.high[1] == 0
    # The same bootstrap, but for what was drawn.
    assert (band.low[0], band.high[0]) == pytest.approx((interval.low, interval.high), abs=0.4)
    assert band.errors[:, 0] == pytest.approx((5 - band.low[0], band.high[0] - 5))


def test_groups_of_scores_are_shown_alike() -> None:
    assert scores_text([756.2]) == "756"
    assert scores_text([756.2], "seed") == "756 (1 seed)"
    assert scores_text([1000.0, 756.2, 1000.0], "seed") == "919 (1,000; 756; 1,000)"
    assert scores_text([-5.0] * 5) == "-5.0 [-5.0; -5.0]"
    assert scores_text([-5.0] * 5, "seed") == "-5.0 [-5.0; -5.0] (5 seeds)"
    low, high = mean_of([1.0, 2.0, 3.0, 4.0, 15.0]).low, mean_of([1.0, 2.0, 3.0, 4.0, 15.0]).high
    assert scores_text(np.array([1.0, 2.0, 3.0, 4.0, 15.0])) == f"5.0 [{low:.1f}; {high:.1f}]"
    # A seed that diverged hides nothing and breaks nothing.
    assert scores_text([math.nan, 1.0]) == "not a number (not a number; 1.0)"
    assert scores_text([math.inf] * 5) == "infinite"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (-0.0, "0"), (1000.0, "1,000"), (951.24, "951"), (99.97, "100"),
        (-5.36, "-5.4"), (0.996, "1.0"), (0.5, "0.50"), (-0.0123, "-0.012"), (0.0999, "0.10"),
        (560829.92, "560,830"), (1e5, "100,000"), (12_345_678.0, "12.3 million"),
        (-2.5e9, "-2.5 billion"), (1e30, "more than 1 trillion"),
        (-1e30, "less than -1 trillion"), (1e-9, "0"), (math.nan, "not a number"),
        (-math.inf, "-infinite"),
    ],
)  # fmt: skip
def test_numbers_are_written_as_one_writes_them(value: float, text: str) -> None:
    assert number_text(value) == text


@given(st.floats(-1e15, 1e15))
def test_no_number_has_an_exponent(value: float) -> None:
    assert re.fullmatch(r"(more than |less than )?-?[\d,]+(\.\d+)?( [mbt]r?illion)?",
                        number_text(value))  # fmt: skip


def test_counts_are_singular_and_plural() -> None:
    assert [counted(n, "seed") for n in (0, 1, 2)] == ["0 seeds", "1 seed", "2 seeds"]
    assert counted(30_000, "update") == "30,000 updates"


@pytest.mark.usefixtures("two_are_enough")
def test_probability_of_improvement_by_hand() -> None:
    # Pairs: 3>1, 3>2, 3=3; 1=1, 1<2, 1<3: 2 wins and 2 ties of 6.
    assert probability_of_improvement([3.0, 1.0], [1.0, 2.0, 3.0], rng()).estimate == 0.5
    # A second task that is always won: the mean of 1/2 and 1.
    left, right = np.array([[3.0, 9.0], [1.0, 9.0]]), np.array([[1.0, 0.0], [2, 0], [3, 0]])
    interval = probability_of_improvement(left, right, rng())
    assert interval.estimate == 0.75
    # The second task can't vary: the bounds are those of the first, halved around 1.
    first = probability_of_improvement(left[:, 0], right[:, 0], rng(), resamples=50_000)
    assert interval.low == pytest.approx((first.low + 1) / 2, abs=0.05)
    certain = probability_of_improvement([5.0, 6.0], [1.0, 2.0], rng())
    assert certain == Interval(1.0, 1.0, 1.0)


@settings(max_examples=30)
@given(SCORES, st.integers(0, 1000))
def test_probability_of_improvement_is_mann_whitneys(scores: np.ndarray, seed: int) -> None:
    others = np.round(rng(seed).uniform(-1e3, 1e3, (5, scores.shape[1])))
    ours = probability_of_improvement(scores, others, rng(), resamples=9).estimate
    pairs = zip(scores.T, others.T, strict=True)
    counts = [stats.mannwhitneyu(x, y).statistic / (len(x) * len(y)) for x, y in pairs]
    assert ours == pytest.approx(np.mean(counts))
    theirs = probability_of_improvement(others, scores, rng(), resamples=9).estimate
    assert ours + theirs == pytest.approx(1)


@pytest.mark.usefixtures("two_are_enough")
def test_performance_profile_by_hand() -> None:
    scores = np.array([[0.0, 2.0], [1.0, 3.0]])
    profile = performance_profile(scores, [-1.0, 0.0, 1.5, 2.5, 3.0], rng())
    assert profile.fractions.tolist() == [1, 0.75, 0.5, 0.25, 0]
    # At 0 the first task gives 0, 1/2 or 1 of its runs, the second all of them.
    assert profile.low.tolist() == [1, 0.5, 0.5, 0, 0]
    assert profile.high.tolist() == [1, 1, 0.5, 0.5, 0]


@settings(max_examples=30)
@given(SCORES)
def test_profiles_fall_within_their_bands(scores: np.ndarray) -> None:
    thresholds = np.sort(np.append(np.linspace(-1e3, 1e3, 9), scores[0]))
    profile = performance_profile(scores, thresholds, rng(), resamples=99)
    for line in (profile.fractions, profile.low, profile.high):
        assert (np.diff(line) <= 0).all() and line.min() >= 0 and line.max() <= 1


def test_small_batches_of_resamples_change_no_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = rng(1).normal(size=(6, 2))
    whole = bootstrap_interval(scores, rng())
    monkeypatch.setattr("qss_offline.statistics._BATCH_NUMBERS", 1200)
    parts = bootstrap_interval(scores, rng())
    assert parts.estimate == whole.estimate
    assert (parts.low, parts.high) == pytest.approx((whole.low, whole.high), abs=0.05)


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ([1.0, math.nan], "NaN"),
        ([1.0, math.inf], "infinity"),
        ([], "at least 1"),
        (np.zeros((3, 0)), "at least 1"),
        (np.zeros((2, 2, 2)), "shape"),
        (1.0, "shape"),
        ([[1.0], [1.0, 2.0]], "expected numbers"),
        (["a"], "expected numbers"),
    ],
)
def test_what_is_no_table_of_scores_is_refused(scores: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        bootstrap_interval(scores, rng())  # type: ignore[arg-type]
    with pytest.raises(UserError, match=words):
        probability_of_improvement([1.0, 2.0], scores, rng())  # type: ignore[arg-type]
    with pytest.raises(UserError, match=words):
        performance_profile(scores, [0.0], rng())  # type: ignore[arg-type]


def test_other_wrong_arguments() -> None:
    with pytest.raises(UserError, match="2 tasks, but scores has 1"):
        probability_of_improvement([1.0, 2.0], np.zeros((2, 2)), rng())
    with pytest.raises(UserError, match="thresholds"):
        performance_profile([1.0, 2.0], [], rng())
