"""A policy whose networks are no longer finite is data like any other: its seed alone has none."""

import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import qss_offline as qss
from qss_offline.analysis.diagnostics import FINITE, diagnose
from qss_offline.evaluation.actions import ActionBox
from qss_offline.evaluation.episodes import evaluate
from qss_offline.runs.folder import RunFolder, read_json
from qss_offline.runs.portfolio_config import CLONING, D3G, VALUES
from qss_offline.runs.race import Heat
from qss_offline.training.interaction import take_steps
from tests.training.test_portfolio import trainer

ENV = "InvertedPendulum-v5"
TOO_LARGE = {
    "algorithm.learning_rate": 1e25, "model.learning_rate": 1e25, "updates_per_round": 10,
}  # fmt: skip


def test_an_episode_that_a_policy_can_not_end_has_no_return() -> None:
    steps = 0

    def policy(obs: np.ndarray) -> np.ndarray:
        nonlocal steps
        steps += 1
        actions = np.zeros((len(obs), 1), np.float32)
        if steps == 3:
            actions[1] = np.nan
        return actions

    found = evaluate(policy, ENV, episodes=3, gamma=0.9)
    assert [math.isnan(value) for value in found.returns] == [False, True, False]
    assert [math.isnan(value) for value in found.discounted] == [False, True, False]
    assert found.lengths[1] == 2, "steps that were taken"
    whole = evaluate(lambda obs: np.zeros((len(obs), 1), np.float32), ENV, episodes=3, gamma=0.9)
    assert (found.returns[0], found.discounted[2]) == (whole.returns[0], whole.discounted[2])


def test_steps_of_such_a_policy_are_those_of_its_noise() -> None:
    env = gym.make(ENV)
    box = ActionBox.of(env.action_space)

    def steps(value: float) -> Any:
        rng = np.random.default_rng(0)
        return take_steps(env, 50, box, lambda obs: np.full(1, value, np.float32), 0.1, rng)

    found, still = steps(np.nan), steps(0.0)
    assert np.array_equal(found.actions, still.actions)
    assert np.array_equal(found.next_obs, still.next_obs)


@pytest.mark.parametrize("method", ["auto", "d3g", "bco"])
def test_a_run_ends_and_says_so(
    method: str, minari_root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recording = qss.Recording.from_env("InvertedPendulum", steps=400, progress=False)
    run = qss.train(
        recording, method=method, seeds=2, updates=60, online_steps=60, online_rounds=5,
        episodes=1, workers=1, changes=TOO_LARGE, progress=False, out=tmp_path / "run",
    )  # fmt: skip
    assert [math.isnan(seed.last) for seed in run.summary().seeds] == [True, True]
    folder = RunFolder(run.path)
    assert not any(folder.seed(seed).policy.exists() for seed in run.seeds)
    assert capfd.readouterr().err.count("diverged") == 2
    (finding,) = diagnose(run.done, 0)
    assert finding.name == FINITE and finding.hint is not None
    again = qss.resume(run.path, progress=False)
    assert [math.isnan(seed.last) for seed in again.summary().seeds] == [True, True]
    with pytest.raises(qss.UserError, match="no policy of seed 0"):
        run.policy()


def test_an_online_run_keeps_no_policy_from_before(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The one that stood after an earlier evaluation would pass for the last."""
    run = qss.train_online(
        "InvertedPendulum", steps=300, warm_up=100, seeds=2, workers=1, evaluate_every=100,
        episodes=1, changes={"learning_rate": 1e25, "model_updates": 5}, progress=False,
        out=tmp_path / "run",
    )  # fmt: skip
    first, *_, last = read_json(RunFolder(run.path).results)["seeds"][0]["evaluations"]
    assert math.isfinite(first["mean"]) and last["mean"] is None
    assert capfd.readouterr().err.count("diverged") == 2
    assert not any(RunFolder(run.path).seed(seed).policy.exists() for seed in run.seeds)


def test_a_member_that_diverged_does_not_race() -> None:
    race = trainer()
    race._proposal.flat.fill_(np.nan)
    for _ in range(5):
        race.run_round()
    *first, d3g, last = race.race.rounds
    assert [heat.member for heat in first] == [CLONING, VALUES] and d3g == Heat.diverged(D3G)
    assert last.member in (CLONING, VALUES) and last.steps
    assert np.isfinite(race.policy(0)(np.zeros((1, 1)))).all()


@pytest.mark.parametrize("before", range(4))
def test_whoever_leads_may_still_diverge(before: int) -> None:
    """In whichever round it is found out, the others go on."""
    race = trainer()
    race.run_round()
    for number in range(4):
        if number == before:
            lost = race.race.turn(5)
            states = {CLONING: race._states[CLONING], VALUES: race._states[VALUES]}
            flat = race._proposal.flat if lost == D3G else states[lost].networks["policy"].flat
            flat.fill_(np.nan)
        race.run_round()
    assert race.race.rounds[before] == Heat.diverged(lost)
    assert race.race.leader != lost and race.policy(0).diverged is None


def test_where_all_members_diverged_nobody_races() -> None:
    race = trainer()
    for network in (race._proposal, *(s.networks["policy"] for s in race._states.values())):
        network.flat.fill_(np.nan)
    for _ in range(5):
        race.run_round()
    assert not any(heat.steps for heat in race.race.rounds)
    assert race.policy(0).diverged is not None
    assert race.steps[0] is not None and len(race.steps[0]) == 5 * race.config.steps_per_round
    again = trainer()
    again.restore([race.checkpoint(0, {})])
    assert again.race.rounds == race.race.rounds and again.rounds_done == 5


def test_a_policy_of_discrete_actions_that_diverged_returns_nothing(
    minari_root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """NaN has an argmax: it could act, and would pass for a policy like any other."""
    recording = qss.Recording.from_env("CartPole", steps=400, progress=False)
    offline = qss.train(
        recording, updates=20, online_steps=60, online_rounds=5, episodes=1, workers=1,
        changes=TOO_LARGE, progress=False, out=tmp_path / "offline",
    )  # fmt: skip
    online = qss.train_online(
        "CartPole", steps=60, warm_up=20, workers=1, evaluate_every=20, episodes=1,
        changes={"learning_rate": 1e25, "model_updates": 5}, progress=False,
        out=tmp_path / "online",
    )  # fmt: skip
    for run in (offline, online):
        (seed,) = run.summary().seeds
        assert math.isnan(seed.last)
        assert not RunFolder(run.path).seed(0).policy.exists()
    assert capfd.readouterr().err.count("diverged") == 2
