"""BC, TD3+BC, IQL and CQL by d3rlpy on our columns."""

from __future__ import annotations

import dataclasses
import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from qss_offline.baselines.offline import METHODS, OfflineBaselineConfig, train_offline
from qss_offline.data import Transitions
from qss_offline.errors import UserError
from qss_offline.evaluation.episodes import evaluate
from qss_offline.parallel.reporting import return_in_words

from ..data.conftest import make_transitions

pytest.importorskip("d3rlpy")

ENV = "InvertedPendulum-v5"


def small(method: str, updates: int = 20, **settings: Any) -> OfflineBaselineConfig:
    return OfflineBaselineConfig(method, updates, (16, 16), 16, **settings)


def probe(trained: Any, recording: Transitions) -> Any:
    return trained.policy(recording.observations[:50])


@pytest.mark.parametrize("method", METHODS)
def test_each_method_from_end_to_end(method: str, recording: Transitions) -> None:
    updates = 300 if method == "bc" else 100
    ticks: list[tuple[float, str]] = []

    def tick(units: float, phase: str = "", note: str = "") -> None:
        ticks.append((units, note))

    trained = train_offline(
        recording, ENV, small(method, updates), 1, evaluations=3, episodes=2, tick=tick
    )
    expected = [updates // 3, 2 * updates // 3, updates]
    assert [point.updates for point in trained.evaluations] == expected
    assert all(len(point.returns) == 2 for point in trained.evaluations)
    assert all(0 <= value <= 1000 for point in trained.evaluations for value in point.returns)
    assert [units for units, _ in ticks] == list(range(0, updates + 1, 100))
    assert ticks[-1][1] == return_in_words([trained.evaluations[-1].returns])
    actions = probe(trained, recording)
    assert actions.shape == (50, 1) and np.abs(actions).max() <= 3 + 1e-5
    # The last evaluation is of the policy that is handed over.
    start = np.random.SeedSequence([1, *b"evaluation", 3]).generate_state(1)[0]
    assert evaluate(trained.policy, ENV, 2, int(start)).returns == trained.evaluations[-1].returns


@pytest.mark.parametrize("method", METHODS)
def test_the_seed_alone_decides_and_evaluations_disturb_nothing(
    method: str, recording: Transitions
) -> None:
    once = probe(train_offline(recording, ENV, small(method), 1, evaluations=0), recording)
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 - what a caller may have done
    random.seed(99)
    before = torch.get_rng_state(), repr(np.random.get_state()), random.getstate()  # noqa: NPY002
    threads = torch.get_num_threads()
    again = train_offline(recording, ENV, small(method), 1, evaluations=2, episodes=1)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert repr(np.random.get_state()) == before[1]  # noqa: NPY002
    assert random.getstate() == before[2]
    assert torch.get_num_threads() == threads
    np.testing.assert_array_equal(probe(again, recording), once)
    other = train_offline(recording, ENV, small(method), 2, evaluations=0)
    assert not np.array_equal(probe(other, recording), once)


def test_settings_reach_d3rlpy(recording: Transitions) -> None:
    def config(method: str, **settings: Any) -> Any:
        trained = train_offline(recording, ENV, small(method, 1, **settings), 0, evaluations=0)
        layers = trained.algo.impl.modules.get_torch_modules().values()
        sizes = {
            layer.out_features
            for module in layers
            for layer in module.modules()
            if isinstance(layer, torch.nn.Linear)
        }
        assert sizes == {16, 1}
        return trained.algo.config

    for method in METHODS:
        settings = config(method)
        assert settings.batch_size == 16
        scaled = settings.action_scaler.transform_numpy(np.array([[-3.0], [0.0], [3.0]]))
        assert scaled.tolist() == [[-1], [0], [1]]
        normalised = settings.observation_scaler
        assert (normalised is not None) == (method == "td3+bc")
        if normalised is not None:
            scaled = normalised.transform_numpy(recording.observations)
            np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-4)
            np.testing.assert_allclose(scaled.std(axis=0), 1, atol=0.05)
    assert config("bc").learning_rate == 1e-3
    assert config("bc", learning_rate=1e-2).learning_rate == 1e-2
    fast = config("cql", learning_rate=1e-2, gamma=0.9)
    assert (fast.actor_learning_rate, fast.critic_learning_rate, fast.gamma) == (1e-2, 1e-2, 0.9)


def test_iql_scales_rewards_by_the_range_of_returns(recording: Transitions) -> None:
    def rewards(transitions: Transitions) -> Any:
        trained = train_offline(transitions, ENV, small("iql", 1), 0, evaluations=0)
        scaler = trained.algo.config.reward_scaler
        return None if scaler is None else scaler.transform_numpy(transitions.rewards)

    scaled = dataclasses.replace(recording, rewards=rewards(recording).astype(np.float32))
    returns = scaled.episode_returns()
    assert returns.max() - returns.min() == pytest.approx(1000, rel=1e-4)
    nothing = dataclasses.replace(recording, rewards=np.zeros_like(recording.rewards))
    assert rewards(nothing) is None


def test_actions_beyond_one_are_cloned(recording: Transitions) -> None:
    constant = dataclasses.replace(recording, actions=np.full_like(recording.rewards, 2.5)[:, None])
    trained = train_offline(constant, ENV, small("bc", 400), 0, evaluations=0)
    assert np.abs(probe(trained, recording) - 2.5).mean() < 0.3


def test_training_prints_nothing() -> None:
    program = (
        "from qss_offline.data import DatasetSpec, collect\n"
        "from qss_offline.baselines.bridge import to_replay_buffer\n"
        "from qss_offline.baselines.offline import OfflineBaselineConfig, train_offline\n"
        "rows = collect(DatasetSpec('InvertedPendulum', transitions=200, shards=1), workers=1)\n"
        "to_replay_buffer(rows)\n"
        "config = OfflineBaselineConfig('bc', 2, (8,), 8)\n"
        "train_offline(rows, 'InvertedPendulum-v5', config, 0, evaluations=1, episodes=1)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "td3bc"}, r"none of bc, td3\+bc, iql, cql; did you mean td3\+bc"),
        ({"method": "bc", "updates": 0}, "updates must be above 0"),
        ({"method": "bc", "hidden_dims": (16, 0)}, r"hidden_dims\[1\]"),
        ({"method": "bc", "learning_rate": -1.0}, "learning_rate"),
        ({"method": "bc", "gamma": 1.0}, "gamma"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        OfflineBaselineConfig(**settings)


def test_recordings_that_do_not_fit_are_refused(recording: Transitions) -> None:
    for transitions, words in (
        (recording.without_actions(), "no actions"),
        (make_transitions([5]), "observations of 4 numbers and actions of 1"),
    ):
        with pytest.raises(UserError, match=words):
            train_offline(transitions, ENV, small("bc"), 0)
    with pytest.raises(UserError, match="spread over 20 updates"):
        train_offline(recording, ENV, small("bc"), 0, evaluations=41)
    with pytest.raises(UserError, match="episodes"):
        train_offline(recording, ENV, small("bc"), 0, episodes=0)


@pytest.mark.slow
def test_cloning_an_expert_learns(expert_recording: Transitions) -> None:
    behaviour = float(np.mean(expert_recording.episode_returns()))
    for seed in (0, 1):
        config = OfflineBaselineConfig("bc", updates=4_000)
        trained = train_offline(expert_recording, ENV, config, seed, evaluations=2)
        assert np.mean(trained.evaluations[-1].returns) > max(900.0, 1.5 * behaviour)
