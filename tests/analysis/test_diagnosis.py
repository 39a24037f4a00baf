"""Each hint shows where its figure is wrong, and nowhere else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from qss_offline.algorithms.networks import MLPShape, Network
from qss_offline.analysis import diagnostics as diagnosis
from qss_offline.analysis.diagnostics import (
    Finding,
    bar,
    diagnose,
    failed_seeds,
    hints,
    small_budget,
)
from qss_offline.analysis.measures import coverage, gain, inverse_fit, value_against_return
from qss_offline.analysis.models import inverse_model_of, planner_of, policy_of
from qss_offline.analysis.planning import Planner
from qss_offline.analysis.report.making import make_report
from qss_offline.analysis.video import render_run
from qss_offline.data.environments import env_id_of
from qss_offline.data.facts import recording_facts
from qss_offline.data.transitions import Transitions
from qss_offline.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from qss_offline.errors import UserError
from qss_offline.evaluation.policies import ClonedPolicy, ObservationScale
from qss_offline.presets import preset
from qss_offline.runs.reader import FinishedRun, load_run
from qss_offline.runs.results import EvaluationPoint, seed_results


def hint(run: FinishedRun, name: str) -> str | None:
    (found,) = [one for one in diagnose(run, 0) if one.name == name]
    return found.hint and found.hint.replace("{}", found.figure)


def log(run: FinishedRun, q: list[float], proposals: float) -> None:
    rows = [
        {"update": 1000 * (i + 1), "q": value, "proposal_value": proposals, "cycle_error": 0.1}
        for i, value in enumerate(q)
    ]
    run.folder.seed(0).metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_values_out_of_bounds_are_named(trained: FinishedRun) -> None:
    # Rewards of 0 and 1, γ = 0.99: between 0 and 100.
    name = "values within what the rewards allow"
    log(trained, [80.0], 104.0)
    assert hint(trained, name) is None
    log(trained, [80.0], 130.0)
    assert "Q is 130" in (hint(trained, name) or "") and "than 100" in (hint(trained, name) or "")
    log(trained, [-30.0], 1.0)
    assert "Q is -30.0" in (hint(trained, name) or "")
    log(trained, [float("nan")], 1.0)
    assert "no longer finite" in (hint(trained, name) or "")


def test_a_torn_line_of_metrics_is_reported(trained: FinishedRun) -> None:
    with trained.folder.seed(0).metrics.open("a") as file:
        file.write('{"update": 20')
    with pytest.raises(UserError, match=r"metrics\.jsonl: a line is not valid JSON"):
        trained.metrics(0)


def test_values_that_still_rise_are_named(trained: FinishedRun) -> None:
    name = "values have settled"
    log(trained, [10.0, 60.0, 60.0, 61.0], 60.0)
    assert hint(trained, name) is None
    log(trained, [10.0, 20.0, 30.0, 40.0], 40.0)
    assert "moved by 10.0" in (hint(trained, name) or "")
    log(trained, [10.0], 40.0)
    assert "too few" in (hint(trained, name) or "")


def test_an_inverse_model_that_fits_badly_is_named(trained: FinishedRun) -> None:
    name = "inverse model fits"
    folder = trained.folder.seed(0)
    good = inverse_fit(inverse_model_of(trained, 0), folder)
    saved = load_checkpoint(folder.online)
    actions = saved.tensors["steps.actions"]
    shuffled = actions[np.random.default_rng(0).permutation(len(actions))]
    save_checkpoint(
        folder.online,
        Checkpoint({**saved.tensors, "steps.actions": shuffled}, saved.metadata),
    )
    bad = inverse_fit(inverse_model_of(trained, 0), folder)
    assert bad < 0.2 < good <= 1
    assert "explains only" in (hint(trained, name) or "")


def test_proposals_outside_the_data_are_named(
    trained: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    transitions = trained.dataset.transitions

    def ask(move: float) -> None:
        monkeypatch.setattr(
            Planner, "propose", lambda self, obs: np.asarray(obs + np.float32(move))
        )

    ask(0.0)
    inside = coverage(planner_of(trained, 0), transitions)
    assert inside.proposed_outside < 0.05
    assert hint(trained, "proposals inside the data") is None
    ask(50.0)
    outside = coverage(planner_of(trained, 0), transitions)
    assert outside.proposed_outside == 1
    assert "100% of the proposals" in (hint(trained, "proposals inside the data") or "")


def test_plans_are_in_the_units_that_d3g_was_trained_in_whoever_won(trained: FinishedRun) -> None:
    """Of a race the policy may be one that sees observations in units of its own."""
    before = planner_of(trained, 0)
    policy = policy_of(trained, 0)
    shape = MLPShape((4, 8, 1))
    eased = ObservationScale(policy.scale.mean, 3 * policy.scale.std)
    network = Network(shape, torch.zeros(1, sum(shape.sizes)))
    cloned = ClonedPolicy(network, eased, policy.action_box)
    cloned.save(trained.folder.seed(0).policy, "InvertedPendulum-v5")
    obs = trained.dataset.transitions.observations[:5]
    np.testing.assert_array_equal(planner_of(trained, 0).propose(obs), before.propose(obs))


def test_values_that_dwarf_what_a_step_gains_are_named(
    trained: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "values beside what a step gains"
    transitions = trained.dataset.transitions

    def worth(slope: float) -> None:
        def value(_: Planner, obs: object, next_obs: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.asarray(-100 + slope * next_obs[:, 0], np.float32)

        monkeypatch.setattr(Planner, "value", value)
        # A hundredth to the left of where recorded steps lead.
        where = transitions.next_observations - np.float32(0.01)
        monkeypatch.setattr(Planner, "cycle", lambda self, obs: where)

    worth(1000.0)
    assert gain(planner_of(trained, 0), transitions).gap == pytest.approx(10, rel=1e-3)
    assert hint(trained, name) is None
    worth(1.0)
    assert hint(with_results(trained, 900.0, 900.0), name) is None, "it learned"
    failed = with_results(trained, 20.0, 20.0, random_action_prob=0.5)
    assert hint(with_results(failed, 20.0, 20.0, random_action_prob=1.0), name) is None
    assert "method auto" in (hint(failed, name) or "")
    worth(float("nan"))
    assert hint(failed, name) is None
    worth(0.0)
    assert gain(planner_of(failed, 0), transitions).ratio > 1e6


def test_few_terminal_transitions_are_named(
    trained: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hint(trained, "terminal transitions") is None
    rows = 300
    ends = np.zeros(rows, bool)
    ends[[99, 199, 299]] = True
    rng = np.random.default_rng(0)
    states = rng.normal(size=(2, rows, 4)).astype(np.float32)
    few = Transitions(
        states[0],
        states[1],
        np.ones(rows, np.float32),
        ends,
        np.zeros(rows, bool),
        np.arange(rows) // 100,
    )
    monkeypatch.setitem(trained.__dict__, "dataset", replace(trained.dataset, transitions=few))
    assert "only 3 recorded transitions" in (hint(trained, "terminal transitions") or "")
    assert recording_facts(few, True).value_limits(0.9) == pytest.approx((0.0, 10.0))


def with_results(run: FinishedRun, last: float, best: float, **other: object) -> FinishedRun:
    seeds = [
        {**seed, "last": {**seed["last"], "mean": last}, "best": {**seed["best"], "mean": best}}
        for seed in run.results["seeds"]
    ]
    return replace(run, results={**run.results, "seeds": seeds, **other})


def test_the_bar_stands_between_recorded_and_expert(trained: FinishedRun) -> None:
    random = with_results(trained, 190.0, 190.0, behaviour_return=5.3)
    assert bar(random) == pytest.approx(5.3 + 0.2 * 994.7)
    assert failed_seeds(random) == (0, 1)
    assert failed_seeds(with_results(trained, 220.0, 220.0, behaviour_return=5.3)) == ()
    expert = with_results(trained, 810.0, 810.0, behaviour_return=1000.0, random_action_prob=0.0)
    assert failed_seeds(expert) == ()
    assert failed_seeds(with_results(trained, float("nan"), 5.0)) == (0, 1)
    unknown = replace(random, config=replace(random.config, env_id="Pendulum-v1"))
    mean, spread = unknown.behaviour
    assert bar(unknown) == mean + spread


def test_what_was_lost_is_named_and_a_run_that_learned_says_nothing(
    trained: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hints(with_results(trained, 1000.0, 1000.0)) == []
    lost = with_results(trained, 20.0, 900.0)
    assert "dropped" in (hint(lost, "last policy as good as the best") or "")
    assert hints(lost)[0].startswith("2 of 2 seeds did not learn: last returns below 204 (seed 0: ")
    monkeypatch.setattr(diagnosis, "diagnose", lambda run, seed: ())
    assert hints(lost)[1:] == [
        "seeds 0 and 1: none of the known reasons shows; try more --updates, and other --seeds: "
        "they differ widely"
    ]


def of_seeds(run: FinishedRun, returns: dict[int, list[float]]) -> FinishedRun:
    """A run with seeds and the returns of their evaluations made up."""
    seeds = [
        seed_results(seed, [EvaluationPoint(100 * n, [one]) for n, one in enumerate(values, 1)])
        for seed, values in returns.items()
    ]
    config = replace(run.config, seeds=tuple(returns))
    return replace(run, results={**run.results, "seeds": seeds}, config=config)


def found_by(monkeypatch: pytest.MonkeyPatch, **findings: dict[int, Finding]) -> None:
    """Let the checks of each seed find these, and nothing else."""
    monkeypatch.setattr(
        diagnosis,
        "diagnose",
        lambda run, seed: [one[seed] for one in findings.values() if seed in one],
    )


def test_a_hint_is_said_once_a_run(trained: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = of_seeds(trained, {0: [5.0], 1: [1000.0], 2: [6.0], 3: [7.0]})
    bad = "the model explains only {} of them: give it more"
    found_by(
        monkeypatch,
        fit={seed: Finding("fit", "", bad, f"{10 * seed}%") for seed in (0, 2, 3)},
        all={seed: Finding("all", "", "record more") for seed in (0, 1, 2, 3)},
        one={2: Finding("one", "", "Q is {}", "130")},
        fine={seed: Finding("fine", "as it should be") for seed in (0, 1, 2, 3)},
    )
    assert hints(run) == [
        "3 of 4 seeds did not learn: last returns below 204 (seed 0: 5.0, seed 2: 6.0, "
        "seed 3: 7.0).",
        "seeds 0, 2 and 3: the model explains only 0%, 20% and 30% of them: give it more",
        "seeds 0, 2 and 3: record more",
        "seed 2: Q is 130",
    ]
    found_by(monkeypatch, one={2: Finding("one", "", "Q is {}", "130")})
    assert [line.partition(":")[0] for line in hints(run)[1:]] == ["seed 2", "seeds 0 and 3"]


@pytest.mark.parametrize(
    ("updates", "steps", "said", "left"),
    [
        (6_000, 3_000, "6,000 updates, where preset default has 30,000; leave out --updates", [6]),
        (30_000, 300, "300 online steps, where preset default has 3,000", [2, 3, 4, 5]),
        (6_000, 300, "6,000 updates and 300 online steps, where preset default has 30,000 and "
         "3,000; leave out --updates and --online-steps before anything else", []),
        (15_000, 1_500, None, [2, 3, 4, 5, 6, 7]),
        (60_000, 9_000, None, [2, 3, 4, 5, 6, 7]),
    ],
)  # fmt: skip
def test_a_small_budget_comes_first_and_what_follows_from_it_is_silent(
    trained: FinishedRun,
    monkeypatch: pytest.MonkeyPatch,
    updates: int,
    steps: int,
    said: str | None,
    left: list[int],
) -> None:
    spent = preset("default", "d3g").spend(updates, steps, None)
    config = replace(trained.config, preset=spent, preset_name="default with gamma=0.9")
    run = replace(of_seeds(trained, {0: [5.0]}), config=config)
    names = ("values within what the rewards allow", "terminal transitions", "values have settled",
             "proposals inside the data", "values beside what a step gains", "elsewhere",
             "inverse model fits", "last policy as good as the best")  # fmt: skip
    found_by(
        monkeypatch,
        **{str(n): {0: Finding(name, "", f"hint {n}")} for n, name in enumerate(names)},
    )
    lines = hints(run)[1:]
    if said is not None:
        assert lines.pop(0).startswith("the budget is small: ") and said in hints(run)[1]
    # Two are never a matter of the budget, nor is what isn't known to be.
    always = [0, 1, 5]
    assert lines == [f"seed 0: hint {n}" for n in sorted({*always, *left})]
    monkeypatch.setattr(diagnosis, "diagnose", lambda run, seed: ())
    assert len(hints(run)) == 2
    unknown = replace(run, config=replace(config, preset_name="mine"))
    assert "none of the known reasons" in hints(unknown)[1]


def test_the_evaluation_after_which_performance_dropped_is_named(trained: FinishedRun) -> None:
    name = "last policy as good as the best"
    run = of_seeds(trained, {0: [100.0, 900.0, 20.0]})
    (found,) = [one for one in diagnose_without_files(run) if one.name == name]
    assert found.figure == "evaluation 2 (from 900 to 20.0)"
    assert "dropped after {}. More" in (found.hint or "")
    for steady in ([100.0, 900.0, 500.0], [20.0, 900.0, 900.0], [1.0, 0.5, 0.1], [float("nan")]):
        (found,) = [
            one for one in diagnose_without_files(of_seeds(trained, {0: steady}))
            if one.name == name
        ]  # fmt: skip
        assert found.hint is None, steady


def diagnose_without_files(run: FinishedRun) -> tuple[Finding, ...]:
    return (diagnosis._steadiness(run, 0),)


def test_a_run_without_evaluations_has_no_seeds_that_failed(trained: FinishedRun) -> None:
    seeds = [seed_results(seed, []) for seed in trained.seeds]
    run = replace(trained, results={**trained.results, "seeds": seeds})
    assert not run.evaluated and failed_seeds(run) == () and hints(run) == []
    assert {one.name for one in diagnose(run, 0)} == {
        "values within what the rewards allow", "values have settled", "terminal transitions",
    }  # fmt: skip
    assert "Nothing was evaluated" in diagnosis.verdict(run)


def test_a_hint_names_no_setting_that_is_on_already(trained: FinishedRun) -> None:
    name = "values within what the rewards allow"
    log(trained, [80.0], 130.0)
    assert "clamp_targets" not in (hint(trained, name) or "")
    algorithm = replace(trained.config.preset.algorithm, clamp_targets=False)
    preset = replace(trained.config.preset, algorithm=algorithm)
    without = replace(trained, config=replace(trained.config, preset=preset))
    assert "clamp_targets holds" in (hint(without, name) or "")


def test_values_are_compared_with_what_followed(trained: FinishedRun) -> None:
    found = value_against_return(
        planner_of(trained, 0), policy_of(trained, 0), trained.env_id, 0.9, episodes=3
    )
    assert len(found.promised) == len(found.true)
    # Reward 1 a step but for the last: 1 + 0.9 + … of the steps that were left.
    assert found.true.min() == 0 and 0 < found.true.max() <= 10
    assert found.overestimation == pytest.approx(found.promised.mean() - found.true.mean())


def test_of_a_training_that_diverged_no_coverage_is_drawn(trained: FinishedRun) -> None:
    checkpoint = load_checkpoint(trained.folder.seed(0).training)
    lost = {name: tensor * float("nan") for name, tensor in checkpoint.tensors.items()
            if tensor.is_floating_point()}  # fmt: skip
    tensors = {**checkpoint.tensors, **lost}
    save_checkpoint(trained.folder.seed(0).training, Checkpoint(tensors, checkpoint.metadata))
    with pytest.raises(UserError, match="no longer finite"):
        coverage(planner_of(trained, 0), trained.dataset.transitions)
    page = make_report([trained.folder.path], video=False, notice=lambda _: None).read_text()
    assert "No coverage: " in page and "Results" in page


class SelfCut(gym.Env[Any, Any]):
    """A pendulum that never falls, and cuts its episodes itself."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (4,))
    action_space = gym.spaces.Box(-3, 3, (1,))

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._left = self._steps
        return np.zeros(4, np.float32), {}

    def step(self, action: Any) -> Any:
        self._left -= 1
        return np.zeros(4, np.float32), 1.0, False, self._left == 0, {}


def test_values_are_not_held_against_what_a_cut_left_out(trained: FinishedRun) -> None:
    who = planner_of(trained, 0), policy_of(trained, 0)
    # At γ = 0.9 what follows after 44 steps is less than 1%.
    found = value_against_return(*who, env_id_of(SelfCut, {"steps": 60}), 0.9, episodes=2)
    assert found.true == pytest.approx([10.0] * len(found.true), rel=0.011)
    assert len(found.true) == 2 * (60 - 44)
    with pytest.raises(UserError, match="cuts its episodes itself"):
        value_against_return(*who, env_id_of(SelfCut, {"steps": 44}), 0.9, episodes=2)


def test_a_recording_that_was_replaced_is_not_looked_at(trained: FinishedRun) -> None:
    config = trained.folder.config
    held = json.loads(config.read_text())
    assert held["dataset_digest"] == trained.dataset.info.digest
    config.write_text(json.dumps({**held, "dataset_digest": "another"}))
    run = load_run(trained.folder.path)
    with pytest.raises(UserError, match="replaced since"):
        diagnose(run, 0)
    with pytest.raises(UserError, match="replaced since"):
        render_run(run, steps=3)
    page = make_report([run.folder.path], video=False, notice=lambda _: None).read_text()
    assert page.count("it was replaced since") == 3, "diagnosis, coverage, card"
    assert "Results" in page


def test_nothing_is_said_of_online_steps_where_none_were_to_be_taken(trained: FinishedRun) -> None:
    inverse = replace(trained.config.inverse, steps_per_round=0, rounds=1)
    preset = replace(trained.config.preset, inverse=inverse)
    config = replace(trained.config, preset=preset, actions_from="somebody")
    seeds = [{**one, "online_steps": 0} for one in trained.results["seeds"]]
    results = {**trained.results, "seeds": seeds, "known_steps": 70}
    run = replace(trained, config=replace(config, preset_name="default"), results=results)
    assert small_budget(run).keys() == {"updates"}
    (found,) = [one for one in diagnose(run, 0) if one.name == "inverse model fits"]
    assert found.hint is None and "70 known steps" in found.measured


def test_folders_that_hold_no_run_are_refused(trained: FinishedRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_run(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no config\.json"):
        load_run(tmp_path / "empty")
    path = trained.folder.path
    (path / "results.json").rename(path / "moved.json")
    with pytest.raises(UserError, match="qss resume"):
        load_run(path)
    (path / "results.json").write_text("{}")
    with pytest.raises(UserError, match=r"results\.json: .* is missing"):
        load_run(path)
    (path / "moved.json").rename(path / "results.json")
    (path / "seeds" / "1" / "training.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="no readable checkpoint"):
        planner_of(load_run(path), 1)
