"""d3rlpy's methods in the loop of online D3G."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qss_offline.algorithms.d3g import D3GConfig
from qss_offline.comparison.online_runs import online_run
from qss_offline.errors import UserError
from qss_offline.launch.local import LocalLauncher
from qss_offline.online.config import EvaluationPlan, OnlineConfig, OnlineSettings
from qss_offline.online.env_loop import OnlineTask
from qss_offline.online.presets import BASELINES, DISCRETE
from qss_offline.online.trainer import OnlineTrainer
from qss_offline.parallel.reporting import no_tick
from qss_offline.runs.folder import RunFolder, SeedFolder, read_json

pytest.importorskip("d3rlpy")

from qss_offline.baselines.online import train_online

CONFIG = OnlineConfig(D3GConfig(hidden_dims=(8, 8), batch_size=32), steps=60, warm_up=30)
PLAN = EvaluationPlan(30, 1)
PENDULUM = "InvertedPendulum-v5"


def evaluations(method: str, seed: int, config: OnlineConfig = CONFIG) -> Any:
    task = OnlineTask(seed, SeedFolder(Path("unused")))
    env_id = "CartPole-v1" if method in DISCRETE else PENDULUM
    return train_online(method, env_id, config, PLAN, task)


@pytest.mark.parametrize("method", BASELINES)
def test_a_seed_gives_the_same_again_and_leaves_the_global_generator_alone(method: str) -> None:
    before = torch.random.get_rng_state()
    first = evaluations(method, 0)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(3)
    assert evaluations(method, 0) == first
    assert [point.online_steps for point in first] == [0, 30, 60]
    assert any(evaluations(method, other) != first for other in (1, 2, 3))


@pytest.mark.parametrize("method", BASELINES)
def test_first_steps_are_valued_and_what_they_were_worth_stands_beside(method: str) -> None:
    """The pendulum pays 1 a step, and so does the pole: their worth follows from the returns."""
    for point in evaluations(method, 0):
        assert point.value is not None and np.isfinite(point.value)
        (steps,) = point.returns
        gamma = CONFIG.algorithm.gamma
        assert point.discounted == pytest.approx((1 - gamma**steps) / (1 - gamma))


def test_warm_up_and_evaluations_are_those_of_d3g(tmp_path: Path) -> None:
    """Before anything is learned the same random actions have been taken from the same states."""
    from qss_offline.baselines import online as module

    loops = []
    seed_loop = module.SeedLoop

    def keeping(*arguments: Any) -> Any:
        loops.append(seed_loop(*arguments))
        return loops[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SeedLoop", keeping)
        evaluations("td3", 5)
    folder = SeedFolder(tmp_path / "5")
    task = OnlineTask(5, folder)
    OnlineTrainer([task], PENDULUM, CONFIG, PLAN, mode="eager").run(no_tick)
    from qss_offline.engine.checkpoint import load_checkpoint
    from qss_offline.online.files import replay_files

    ours = load_checkpoint(replay_files(folder)[0]).tensors["rows"].numpy()
    np.testing.assert_array_equal(loops[0].table.read(0, 30), ours[:30])
    assert not np.array_equal(loops[0].table.read(30, 60), ours[30:60])


def test_finished_seeds_are_read_when_a_run_goes_on(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    made = OnlineSettings(PENDULUM, "ddpg", (0, 1), "small", CONFIG, PLAN)
    whole = online_run(made, folder, launcher=LocalLauncher(1))
    assert whole["algorithm"] == "ddpg"
    written = folder.seed(0).result.stat().st_mtime_ns
    folder.seed(1).result.unlink()
    again = online_run(made, folder, resume=True, launcher=LocalLauncher(1))
    assert again["seeds"] == whole["seeds"]
    assert folder.seed(0).result.stat().st_mtime_ns == written
    assert read_json(folder.results)["seeds"] == whole["seeds"]


@pytest.mark.parametrize(
    ("method", "env_id", "message"),
    [
        ("reinforce", PENDULUM, "none of nfq, dqn"),
        ("td3", "Gridworld-v0", "td3 needs continuous actions"),
        ("dqn", PENDULUM, "dqn needs discrete actions; InvertedPendulum-v5 has continuous ones"),
    ],
)
def test_what_cannot_be_trained_is_refused(method: str, env_id: str, message: str) -> None:
    config = replace(CONFIG, steps=31)
    with pytest.raises(UserError, match=message):
        train_online(method, env_id, config, PLAN, OnlineTask(0, SeedFolder(Path("unused"))))


@pytest.mark.slow
def test_dqn_balances_a_pole() -> None:
    losses = D3GConfig(hidden_dims=(64, 64), batch_size=64, learning_rate=1e-3)
    config = OnlineConfig(replace(losses, polyak_step_size=0.01), steps=8_000, warm_up=1_000)
    task = OnlineTask(0, SeedFolder(Path("unused")))
    found = train_online("double-dqn", "CartPole-v1", config, EvaluationPlan(4_000, 5), task)
    assert found[-1].mean > 3 * found[0].mean
