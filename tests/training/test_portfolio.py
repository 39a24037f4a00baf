"""A portfolio raced on one online budget: who wins, what is counted, and resuming."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import qss_offline as qss
from qss_offline.algorithms.bco import CloningConfig
from qss_offline.algorithms.inverse_dynamics import InverseDynamicsConfig
from qss_offline.algorithms.td3_bc import TD3BCConfig
from qss_offline.analysis.video import render_run
from qss_offline.cli.training import say
from qss_offline.files import write_json
from qss_offline.runs.folder import read_json
from qss_offline.runs.inverse_config import InverseFitConfig
from qss_offline.runs.portfolio_config import (
    CLONING,
    D3G,
    MEMBERS,
    VALUES,
    PortfolioConfig,
)
from qss_offline.runs.reader import load_run
from qss_offline.training.portfolio.trainer import PortfolioTrainer
from tests.evaluation.test_policies import (
    SCALE,
    PointMass,
    constant_step_proposal,
    to_origin_proposal,
)
from tests.training.test_bco import expert_recording
from tests.training.test_known_actions import known

PORTFOLIO = PortfolioConfig(
    CloningConfig((16, 16), 32, 1e-3), 100, TD3BCConfig((16, 16), 32, 1e-3), 100
)
MODEL = InverseDynamicsConfig((16, 16), 32, 3e-3, step_inputs=True, corrected_labels=True)
AWAY = constant_step_proposal(0.2)


def trainer(
    leads_home: bool = True,
    rounds: int = 5,
    steps: int = 200,
    with_known: bool = False,
    deterministic: bool = False,
) -> PortfolioTrainer:
    """Of a race in which D3G's proposal leads home, or away."""
    return PortfolioTrainer(
        0, expert_recording(3), SCALE, SCALE, to_origin_proposal() if leads_home else AWAY,
        PointMass, InverseFitConfig(rounds, steps, 200, known_updates=200, model=MODEL), PORTFOLIO,
        deterministic, known() if with_known else None,
    )  # fmt: skip


def test_whoever_leads_home_wins() -> None:
    """Members that learn from labels have too few updates here to get far."""
    raced = trainer()
    for _ in range(5):
        raced.run_round()
    assert raced.race.leader == D3G
    policy = raced.policy(0)
    for x in (-0.15, 0.1):
        assert policy(np.array([x]))[0] == pytest.approx(-10 * x, abs=0.5)
    astray = trainer(leads_home=False)
    for _ in range(5):
        astray.run_round()
    assert astray.race.leader != D3G


def test_every_step_is_counted_and_teaches_the_idm() -> None:
    raced = trainer(rounds=6, steps=203)
    for number in range(1, 7):
        raced.run_round()
        steps = raced.steps[0]
        assert steps is not None and len(steps) == 203 * number
        acted = sum(heat.steps for heat in raced.race.rounds)
        assert acted == 203 * (number - 1), "the first round is random"


@pytest.mark.parametrize("deterministic", [False, True])
def test_noise_is_left_out_where_it_would_decide(deterministic: bool) -> None:
    raced = trainer(rounds=7, steps=50, deterministic=deterministic)
    raced.run_round()
    for _ in range(6):
        noisy, acting = raced.race.noisy(7), raced.policy_of(raced.race.turn(7))
        assert noisy or deterministic
        raced.run_round()
        taken = raced.steps[0]
        assert taken is not None
        asked = acting(taken.obs[-50:].astype(np.float64)) / raced.action_box.high
        assert np.allclose(taken.actions[-50:], asked, atol=1e-5) != noisy


@pytest.mark.parametrize(("rounds", "deterministic"), [(5, False), (7, True)])
def test_a_resumed_race_is_the_uninterrupted_one(rounds: int, deterministic: bool) -> None:
    whole, interrupted = (trainer(rounds=rounds, deterministic=deterministic) for _ in range(2))
    for number in range(rounds):
        whole.run_round()
        if number:
            again = trainer(rounds=rounds, deterministic=deterministic)
            again.restore([interrupted.checkpoint(0, {"evaluations": []})])
            interrupted = again
        interrupted.run_round()
    assert interrupted.race.rounds == whole.race.rounds
    obs = np.linspace(-0.5, 0.5, 7)[:, None]
    for member in MEMBERS:
        ours, theirs = (one.policy_of(member)(obs) for one in (interrupted, whole))
        np.testing.assert_array_equal(ours, theirs)
    checkpoints = [one.checkpoint(0, {"evaluations": []}) for one in (interrupted, whole)]
    for name, tensor in checkpoints[1].tensors.items():
        assert torch.equal(checkpoints[0].tensors[name], tensor), name
    assert checkpoints[0].metadata == checkpoints[1].metadata


def test_without_steps_nobody_races() -> None:
    idle = trainer(rounds=1, steps=0, with_known=True)
    idle.run_round()
    assert idle.race.rounds == [] and idle.race.leader == MEMBERS[0]
    assert np.isfinite(idle.policy(0)(np.zeros((2, 1)))).all()


@pytest.mark.usefixtures("undrawn")
def test_offline_first_and_the_race_later_is_the_run_at_once(
    minari_root: Path, tmp_path: Path
) -> None:
    recording = qss.Recording.from_env("InvertedPendulum", steps=400, progress=False)
    asked: dict[str, Any] = {
        "method": "auto", "updates": 40, "changes": {"updates_per_round": 20}, "progress": False,
    }  # fmt: skip
    online: dict[str, Any] = {"online_steps": 60, "online_rounds": 5, "episodes": 1}
    at_once = qss.train(recording, **asked, **online, out=tmp_path / "whole")
    offline = qss.train(recording, **asked, offline_only=True, out=tmp_path / "offline")
    say(offline)
    later = qss.fit_inverse(offline, **online, out=tmp_path / "later", progress=False)
    assert later.results["seeds"] == at_once.results["seeds"]
    policies = [run.folder.seed(0).policy.read_bytes() for run in (at_once, later)]
    assert policies[0] == policies[1]
    assert "The race of every seed" in later.report(video=False).read_text()
    assert "The race" not in offline.report(video=False).read_text()
    further = qss.train_online(
        "InvertedPendulum", start=at_once, steps=30, warm_up=10, evaluate_every=30, episodes=1,
        changes={"model_updates": 5}, out=tmp_path / "online", progress=False,
    )  # fmt: skip
    assert further.returns()[-1]["online_steps"] == 30


@pytest.mark.parametrize(("randomness", "deterministic"), [(1.0, False), (0.0, True)])
def test_the_recording_decides_how_its_members_are_compared(
    randomness: float, deterministic: bool, minari_root: Path, tmp_path: Path
) -> None:
    recording = qss.Recording.from_env(
        "InvertedPendulum", steps=3_000, randomness=randomness, progress=False
    )
    run = qss.train(
        recording, method="auto", updates=10, online_steps=70, online_rounds=7, episodes=1,
        changes={"updates_per_round": 5, "ensemble": 1}, out=tmp_path / "run", progress=False,
    )  # fmt: skip
    acted = [heat["member"] for heat in run.results["seeds"][0]["race"]]
    others = acted.index(VALUES)
    assert others == (1 if deterministic else 3)
    assert acted[:5] == [CLONING] * others + [VALUES, D3G] + [CLONING] * (3 - others)


@pytest.mark.usefixtures("undrawn")
def test_a_plan_is_shown_where_d3g_leads(minari_root: Path, tmp_path: Path) -> None:
    recording = qss.Recording.from_env("InvertedPendulum", steps=400, progress=False)
    run = qss.train(
        recording, method="auto", updates=20, online_steps=60, online_rounds=5, episodes=1,
        changes={"updates_per_round": 5, "ensemble": 1}, out=tmp_path / "run", progress=False,
    )  # fmt: skip
    seed, results = run.folder.seed(0), read_json(run.folder.results)
    for member in (VALUES, D3G):
        # Whoever has led here, let this member have.
        seed.policy.write_bytes(seed.member(member).policy.read_bytes())
        for heat in results["seeds"][0]["race"]:
            heat["reward"] = float(heat["member"] == member)
        write_json(run.folder.results, results)
        led = load_run(run.path)
        assert led.proposes == (member == D3G)
        numbers = render_run(led, steps=4, episodes=2).numbers
        assert ("mean" in read_json(numbers)) == led.proposes
        page = qss.load(run.path).report(video=False).read_text()
        assert ("What was learned" in page) == led.proposes
