"""Budgets that shrink, and what progress counts of a run."""

from dataclasses import replace

import pytest

from qss_offline.algorithms.bco import CloningConfig
from qss_offline.online.config import EvaluationPlan, OnlineConfig
from qss_offline.online.work import work_until
from qss_offline.presets import PRESETS, preset
from qss_offline.runs.config import Preset, RunConfig


@pytest.mark.parametrize(
    "preset", [preset(name, method) for name in PRESETS for method in PRESETS[name]]
)
def test_only_very_small_budgets_leave_fewer_updates_of_the_inverse_model(preset: Preset) -> None:
    rounds, own = preset.inverse.rounds, preset.inverse
    for steps in (100 * rounds, 1_000 * rounds):
        spent = preset.spend(100, steps, None)
        assert spent.inverse.updates_per_round == own.updates_per_round
        assert spent.inverse.known_updates == own.known_updates
    small = preset.spend(20, 10 * rounds, None)
    assert small.inverse.updates_per_round == min(1_000, own.updates_per_round)
    assert small.inverse.known_updates == 2_000
    assert preset.spend(None, None, None) == preset


def run_config(method: str, device: str = "cpu", seeds: int = 1) -> RunConfig:
    cloning = CloningConfig((32,), 32, error_power=2.0) if method == "bco" else None
    return RunConfig(
        method,  # type: ignore[arg-type]
        "Reacher-v5",
        "any-v0",
        tuple(range(seeds)),
        "default",
        preset("default", "d3g"),
        cloning,
        1_000 if cloning else 0,
        device=device,
    )


def test_work_is_that_of_the_updates_and_of_what_follows_them() -> None:
    d3g = run_config("d3g")
    trained = preset("default", "d3g").offline_updates
    assert trained < d3g.units < 1.1 * trained, "an inverse update is a fraction of D3G's"
    on_gpu = run_config("d3g", "cuda")
    assert on_gpu.units - trained > 5 * (d3g.units - trained)
    bco = run_config("bco")
    assert bco.units < d3g.units - trained + 3 * 1_000
    heavier = replace(d3g, preset=replace(d3g.preset, inverse=preset("default", "bco").inverse))
    assert heavier.units > d3g.units


def test_work_of_online_steps_grows_to_the_whole() -> None:
    config = OnlineConfig(steps=2_500, warm_up=1_000, model_updates=100)
    plan = EvaluationPlan(interval=1_000, episodes=2)
    work = [work_until(config, plan, step) for step in range(0, config.steps + 1)]
    assert work[0] == 0 and work == sorted(work)
    # A random step is less than one that is learned from; evaluations are before, at 1,000, 2,000
    # and at the end.
    assert work[900] - work[899] < 0.2 < 1 <= work[1_500] - work[1_499]
    none = EvaluationPlan(interval=1_000, episodes=1)
    assert work[-1] - work_until(config, none, config.steps) == pytest.approx(
        4 * (work[1] - work_until(config, none, 1))
    )
