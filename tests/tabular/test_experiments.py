from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from qss_offline.parallel.progress import silent
from qss_offline.statistics import mean_band
from qss_offline.tabular.experiments import EXPERIMENTS, Plan
from qss_offline.tabular.learners import Settings
from qss_offline.tabular.lockstep import Schedule
from qss_offline.tabular.results import (
    CliffResult,
    EquivalenceResult,
    PermutedResult,
    RedundantResult,
    StochasticResult,
)

SEEDS = tuple(range(40))


@pytest.fixture(scope="module")
def equivalence() -> EquivalenceResult:
    plan = Plan(Schedule(SEEDS[:4], 10_000, 1_000, epsilon_end=1.0), Settings(alpha=0.2), size=4)
    result = EXPERIMENTS["equivalence"].run(plan, silent)
    assert isinstance(result, EquivalenceResult)
    return result


@pytest.fixture(scope="module")
def stochastic() -> StochasticResult:
    plan = Plan(
        Schedule(SEEDS[:4], 6_000, 6_000, trials=2, walkers=16, epsilon_steps=6_000),
        Settings(alpha=0.05),
        size=4,
    )
    result = EXPERIMENTS["stochastic"].run(plan, silent)
    assert isinstance(result, StochasticResult)
    return result


@pytest.fixture(scope="module")
def redundant() -> RedundantResult:
    plan = Plan(Schedule(SEEDS, 8_000, 1_000, epsilon_steps=8_000), Settings(alpha=0.5), size=5)
    result = EXPERIMENTS["redundant"].run(plan, silent)
    assert isinstance(result, RedundantResult)
    return result


@pytest.fixture(scope="module")
def permuted() -> PermutedResult:
    plan = Plan(Schedule(SEEDS, 2_400, 200), Settings(alpha=0.5), size=5, pretraining_steps=6_000)
    result = EXPERIMENTS["permuted"].run(plan, silent)
    assert isinstance(result, PermutedResult)
    return result


@pytest.fixture(scope="module")
def cliff() -> CliffResult:
    plan = Plan(
        Schedule(SEEDS[:5], 8_000, 4_000, trials=2, walkers=16, epsilon_steps=8_000),
        Settings(alpha=0.1),
        size=5,
    )
    result = EXPERIMENTS["cliff"].run(plan, silent)
    assert isinstance(result, CliffResult)
    return result


def test_equivalence_is_exact_and_is_learned(equivalence: EquivalenceResult) -> None:
    assert equivalence.theorem_gap < 1e-10
    difference = equivalence.fractional_difference
    assert difference[1].max() > 1e-3
    assert difference[-1].max() < 1e-6


def test_the_distance_grows_with_slip(stochastic: StochasticResult) -> None:
    distances = stochastic.distances.mean(axis=1)
    assert distances[0] < 1e-4
    assert (np.diff(distances) > 1.0).all()
    assert (np.diff(stochastic.exact_distances) > 0).all()
    assert (stochastic.qss_values >= stochastic.qsa_values - 1e-4).all()


def test_qss_at_full_slip_looks_like_qss_without(stochastic: StochasticResult) -> None:
    np.testing.assert_allclose(stochastic.qss_values[-1], stochastic.qss_values[0], atol=0.1)
    assert (stochastic.qsa_values[-1, :, 0] < stochastic.qsa_values[0, :, 0] - 10).all()


@pytest.mark.parametrize("learner", ["QSS", "QSS with learned I"])
def test_copies_of_actions_leave_qss_alone(redundant: RedundantResult, learner: str) -> None:
    averages = redundant.curves[learner].returns.mean(axis=0)  # (W, K)
    slowdown = np.ptp(redundant.curves["QSA"].returns.mean(axis=(0, 2)))
    for copied in averages[1:]:
        # Paired over seeds; 3.5 standard errors leave room for three comparisons of two learners.
        difference = copied - averages[0]
        error = difference.std(ddof=1) / np.sqrt(len(difference))
        assert abs(difference.mean()) < 3.5 * error
        assert abs(difference.mean()) < 0.1 * slowdown


def test_copies_of_actions_slow_qsa_down(redundant: RedundantResult) -> None:
    averages = mean_band(redundant.curves["QSA"].returns.mean(axis=0))
    # More copies, less return over the run, and the intervals of neighbours don't touch.
    assert (averages.high[1:] < averages.low[:-1]).all()
    qss = mean_band(redundant.curves["QSS"].returns.mean(axis=0))
    assert (averages.high[1:] < qss.low[1:]).all()


def test_transfer_is_faster_than_scratch_and_fastest_for_qss(permuted: PermutedResult) -> None:
    averages = {
        name: mean_band(curves.returns[:, 0].mean(axis=0))
        for name, curves in permuted.curves.items()
    }
    assert averages["QSS transfer"].low > averages["QSA transfer"].high
    assert averages["QSA transfer"].low > averages["QSA from scratch"].high
    assert averages["QSA transfer"].low > averages["QSS from scratch"].high
    assert (permuted.curves["QSS transfer"].returns[-1] == -6.0).all()


def test_the_best_case_costs_return_on_the_cliff(cliff: CliffResult) -> None:
    assert cliff.final_returns["QSA"] == pytest.approx(0.5)
    assert cliff.final_returns["QSS"] == pytest.approx(0.5**4)
    # Yet QSS believes in more than QSA does.
    assert cliff.believed_values["QSS"].min() > cliff.believed_values["QSA"].max()
    assert cliff.exact_values["QSS"] == pytest.approx(0.99**3)
    assert cliff.exact_values["QSA"] == pytest.approx(0.5 * 0.99**5)
    # State = row · 5 + column: QSA leaves the edge at once, QSS walks along it.
    assert set(cliff.routes["QSA"]) == {(20, 15, 16, 17, 18, 19, 24)}
    assert set(cliff.routes["QSS"]) == {(20, 21, 22, 23, 24)}


def test_every_result_can_be_tabled_and_quoted(
    equivalence: EquivalenceResult,
    stochastic: StochasticResult,
    redundant: RedundantResult,
    permuted: PermutedResult,
    cliff: CliffResult,
) -> None:
    for result in (equivalence, stochastic, redundant, permuted, cliff):
        for columns in result.tables().values():
            assert len({len(column) for column in columns.values()}) == 1
        json.dumps(result.findings(), allow_nan=False)


def test_the_rows_of_a_table_name_the_right_value(redundant: RedundantResult) -> None:
    table = redundant.tables()["curves"]
    row = (
        (table["learner"] == "QSA")
        & (table["step"] == 5_000)
        & (table["copies"] == 2)
        & (table["seed"] == 7)
    )
    assert table["return"][row].item() == redundant.curves["QSA"].returns[5, 1, 7]
    assert table["episodes"][row].item() == redundant.curves["QSA"].episodes[5, 1, 7]


def test_the_paper_s_numbers_of_seeds_are_the_defaults() -> None:
    counts = {name: known.plan.num_seeds for name, known in EXPERIMENTS.items()}
    assert counts == {
        "equivalence": 10,
        "stochastic": 10,
        "redundant": 50,
        "permuted": 50,
        "cliff": 10,
    }


@pytest.mark.parametrize("name", list(EXPERIMENTS))
def test_progress_ends_at_the_announced_total(name: str) -> None:
    experiment = EXPERIMENTS[name]
    plan = replace(
        experiment.plan,
        size=3,
        schedule=replace(experiment.plan.schedule, seeds=(0, 1), steps=200, evaluate_every=100),
        pretraining_steps=min(experiment.plan.pretraining_steps, 300),
    )
    heard: list[int] = []
    experiment.run(plan, lambda completed, note="": heard.append(completed))
    assert heard[-1] == experiment.total_steps(plan)
    assert heard == sorted(heard)
