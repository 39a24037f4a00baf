"""BCO: its loss, its labels, its rounds; and that it learns from an expert."""

import math
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qss_offline.algorithms import kernel_correction
from qss_offline.algorithms.bco import (
    BehaviouralCloning,
    CloningConfig,
    LabelledBatch,
    cloned_action,
    error_power,
)
from qss_offline.algorithms.inverse_dynamics import InverseDynamicsConfig, inverse_action
from qss_offline.algorithms.networks import Network
from qss_offline.data.transitions import Transitions
from qss_offline.engine.checkpoint import Checkpoint
from qss_offline.engine.state import initial_state
from qss_offline.errors import UserError
from qss_offline.evaluation.episodes import evaluate
from qss_offline.evaluation.policies import ClonedPolicy, ObservationScale
from qss_offline.evaluation.policy_files import load_policy
from qss_offline.runs.inverse_config import InverseFitConfig
from qss_offline.runs.work import CLONING_UPDATE
from qss_offline.training.bco import BCOTrainer
from qss_offline.training.inverse import models
from tests.evaluation.test_policies import PointMass

SCALE = ObservationScale(torch.tensor([0.05]), torch.tensor([0.2]), torch.tensor([0.4]))
MODEL = InverseDynamicsConfig((16, 16), 32, 1e-3, step_inputs=True, average_step_size=0.1)
CLONING = CloningConfig((16, 16), 32, 1e-3)


def expert_recording(episodes: int, seed: int = 0) -> Transitions:
    """The point goes home in one step, as far as its bounds allow, then stays. No actions kept."""
    env, rng = PointMass(), np.random.default_rng(seed)
    rows: list[tuple[float, float, float, bool]] = []
    for _ in range(episodes):
        obs, _ = env.reset(seed=int(rng.integers(2**31)))
        ended = False
        while not ended:
            before = float(obs[0])
            obs, reward, _, ended, _ = env.step(np.clip(-10 * obs, -2, 2))
            rows.append((before, float(obs[0]), reward, ended))
    before, after, rewards, truncated = (np.array(column) for column in zip(*rows, strict=True))
    return Transitions(
        observations=before.astype(np.float32)[:, None],
        next_observations=after.astype(np.float32)[:, None],
        rewards=rewards.astype(np.float32),
        terminations=np.zeros(len(rows), np.bool_),
        truncations=truncated.astype(np.bool_),
        episodes=np.repeat(np.arange(episodes), 20),
    )


def trainer(seeds: list[int], rounds: int = 2, updates: int = 100, **changes: Any) -> BCOTrainer:
    model = replace(MODEL, **changes)
    return BCOTrainer(
        seeds,
        [expert_recording(5)] * len(seeds),
        [SCALE] * len(seeds),
        [SCALE] * len(seeds),
        PointMass,
        InverseFitConfig(rounds, 100, updates, model=model),
        CLONING,
        cloning_updates=updates,
    )


def weights(policy: ClonedPolicy) -> torch.Tensor:
    return policy.policy.flat


def test_the_loss_is_the_mean_squared_error_of_an_ordinary_mlp() -> None:
    algorithm = BehaviouralCloning(CLONING, 3, 2)
    state = initial_state(algorithm, [0, 1])
    batch = LabelledBatch(torch.randn(2, 5, 3), torch.rand(2, 5, 2) * 2 - 1)
    network = state.networks["policy"]
    loss, metrics = algorithm.cloning_loss(algorithm.parameters_type(network), batch)
    for seed in range(2):
        layers: list[torch.nn.Module] = []
        for weight, bias in zip(network.weights, network.biases, strict=True):
            linear = torch.nn.Linear(*weight.shape[1:])
            linear.weight.data, linear.bias.data = weight[seed].T, bias[seed, 0]
            layers += [linear, torch.nn.ReLU()]
        reference = torch.nn.Sequential(*layers[:-1], torch.nn.Tanh())
        expected = torch.nn.functional.mse_loss(reference(batch.obs[seed]), batch.action[seed])
        assert loss[seed].item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.equal(metrics["cloning_loss"], loss)


def test_a_low_power_repeats_what_most_steps_do_and_the_square_their_mean() -> None:
    """At one state two steps in three push by 0.6, the third by −0.9: their mean is 0.1."""
    labels = torch.tensor([[0.6], [0.6], [-0.9]]).repeat(10, 1)
    batch = LabelledBatch(torch.zeros(1, 30, 1), labels.unsqueeze(0))
    repeated = {}
    for power in (2.0, 0.5):
        algorithm = BehaviouralCloning(CloningConfig((8,), 32, 1e-2, power), 1, 1)
        state = initial_state(algorithm, [0])
        network = state.networks["policy"]
        network.flat.requires_grad_()
        optimiser = torch.optim.Adam([network.flat], lr=1e-2)
        for _ in range(500):
            optimiser.zero_grad()
            loss, _ = algorithm.cloning_loss(algorithm.parameters_type(network), batch)
            loss.sum().backward()
            optimiser.step()
        with torch.no_grad():
            repeated[power] = cloned_action(network, batch.obs[:, :1]).item()
    assert repeated[2.0] == pytest.approx(0.1, abs=0.02)
    assert repeated[0.5] == pytest.approx(0.6, abs=0.02)


@pytest.mark.parametrize("power", [2.0, 1.0, 0.5])
def test_hand_computed_powers(power: float) -> None:
    """Errors of 3 and 4 in two of two dimensions: ‖e‖² = 12.5, and nothing: ‖e‖² = 0."""
    errors = torch.tensor([[3.0, 4.0], [0.0, 0.0]]).square().mean(dim=-1)
    nothing = 0.0 if power == 2 else 0.01**power
    expected = torch.tensor([12.5 ** (power / 2), nothing])
    torch.testing.assert_close(error_power(errors, power), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("share", "power", "found"),
    [(0.6, 2.0, False), (0.6, 1.0, True), (0.4, 1.0, False), (0.4, 0.5, True)],
)
def test_powers_ask_for_the_mean_the_median_and_the_mode(
    share: float, power: float, found: bool
) -> None:
    """A share of the labels is (2, 2), the others anywhere between (−2, −2) and (2, 2)."""
    generator = torch.Generator().manual_seed(0)
    labels = 4 * torch.rand(400, 2, generator=generator) - 2
    labels[: int(400 * share)] = 2.0
    held = labels.mean(dim=0).clone().requires_grad_()
    optimiser = torch.optim.Adam([held], 1e-2)
    for _ in range(800):
        optimiser.zero_grad()
        error_power((held - labels).square().mean(dim=-1), power).mean().backward()
        optimiser.step()
    assert (float((held.detach() - 2).abs().max()) < 0.1) == found, held


@pytest.mark.parametrize("power", [0.0, -1.0, 2.5, float("nan")])
def test_a_power_that_means_nothing_is_refused(power: float) -> None:
    with pytest.raises(UserError, match="error_power must be above 0"):
        CloningConfig(error_power=power)


def test_labels_are_the_averaged_inverse_model_on_every_recorded_transition() -> None:
    bco = trainer([3], rounds=1)
    bco.run_round()
    labels = bco.labels(0)
    recording = bco._recorded[0].recording
    assert labels.shape == (len(recording), 1)
    model = bco.average(0)
    for row in (0, 17, len(recording) - 1):
        obs = SCALE.apply(torch.from_numpy(np.array(recording.observations[row])))
        after = SCALE.apply(torch.from_numpy(np.array(recording.next_observations[row])))
        hidden = torch.cat((obs, (after - obs) / 0.4))
        for index, (weight, bias) in enumerate(zip(model.weights, model.biases, strict=True)):
            hidden = (hidden if index == 0 else hidden.relu()) @ weight[0] + bias[0, 0]
        assert labels[row] == pytest.approx(hidden.tanh().numpy(), abs=1e-5)


def test_corrected_labels_are_nearer_to_the_actions() -> None:
    errors = {}
    for corrected in (False, True):
        bco = trainer([3], rounds=1, updates=300, corrected_labels=corrected)
        bco.run_round()
        true = np.clip(-10 * bco._recorded[0].recording.observations, -2, 2) / 2
        labels = bco.labels(0).numpy()
        assert np.abs(labels).max() <= 1
        errors[corrected] = np.abs(labels - true).mean()
    assert errors[True] < 0.5 * errors[False], errors


def test_long_recordings_are_labelled_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    bco = trainer([3], rounds=1, corrected_labels=True)
    bco.run_round()
    told, whole = [], bco.labels(0)
    monkeypatch.setattr(models, "_ROWS", 7)
    parts = bco.labels(0, lambda: told.append(True))
    assert len(told) == math.ceil(len(whole) / 7)
    torch.testing.assert_close(parts, whole)


def test_a_correction_takes_no_more_steps_than_it_can_solve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bco = trainer([3], rounds=1, corrected_labels=True)
    bco.run_round()
    asked: list[int] = []

    def counting(network: Network, obs: torch.Tensor, *rest: Any) -> torch.Tensor:
        asked.append(obs.shape[1])
        return inverse_action(network, obs, *rest)

    monkeypatch.setattr(models, "inverse_action", counting)
    monkeypatch.setattr(kernel_correction, "MOST_STEPS", 10)
    assert len(bco._correction(0, bco.average(0)).obs) == 10
    assert asked == [10], "nor does the model"


def test_labels_of_a_model_that_learns_from_the_recording_are_not_corrected() -> None:
    labels = []
    for corrected in (False, True):
        bco = trainer([3], rounds=1, recorded_coef=1.0, corrected_labels=corrected)
        bco.run_round()
        labels.append(bco.labels(0))
    assert torch.equal(*labels)


@pytest.mark.parametrize("corrected", [False, True])
def test_a_seed_alone_is_the_same_seed_in_a_stack(corrected: bool) -> None:
    alone, stacked = (
        trainer([7], corrected_labels=corrected),
        trainer([2, 7], corrected_labels=corrected),
    )
    for _ in range(2):
        alone.run_round()
        stacked.run_round()
    assert torch.equal(weights(alone.policy(0)), weights(stacked.policy(1)))
    assert torch.equal(alone.average(0).flat, stacked.average(1).flat)


@pytest.mark.parametrize("corrected", [False, True])
def test_resumed_is_uninterrupted(corrected: bool) -> None:
    whole = trainer([1, 4], corrected_labels=corrected)
    whole.run_round()
    checkpoints = [whole.checkpoint(index, {"evaluations": []}) for index in range(2)]
    resumed = trainer([1, 4], corrected_labels=corrected)
    resumed.restore([Checkpoint(dict(c.tensors), dict(c.metadata)) for c in checkpoints])
    whole.run_round()
    resumed.run_round()
    for index in range(2):
        assert torch.equal(weights(whole.policy(index)), weights(resumed.policy(index)))


def test_progress_counts_and_names_both_models() -> None:
    bco, told = trainer([0]), list[tuple[float, str]]()

    def tick(units: float, phase: str = "", note: str = "") -> None:
        told.append((units, phase))

    bco.run_round(tick)
    bco.run_round(tick)
    units = [done for done, _ in told]
    assert units == sorted(units)
    work = bco.config.work(known=False) + bco.policies.update * CLONING_UPDATE
    assert units[-1] == pytest.approx(work)
    parts = [part for part, _ in groupby(phase for _, phase in told)]
    assert parts == ["inverse", "labels", "cloning"] * 2


def test_its_policy_is_saved_and_loaded(tmp_path: Path) -> None:
    bco = trainer([0], rounds=1)
    bco.run_round()
    bco.policy(0).save(tmp_path / "policy.safetensors", "InvertedPendulum-v5")
    loaded = load_policy(tmp_path / "policy.safetensors")
    assert loaded.env_id == "InvertedPendulum-v5"
    obs = np.array([[0.3], [-0.2]], np.float32)
    assert np.array_equal(loaded(obs), bco.policy(0)(obs))
    assert np.array_equal(loaded(obs[0]), bco.policy(0)(obs[0]))
    # One row is multiplied in another order than two.
    assert loaded(obs[0]) == pytest.approx(loaded(obs)[0], rel=1e-5)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(UserError, match="batch_size must be above 0"):
        CloningConfig(batch_size=0)
    with pytest.raises(UserError, match=r"multiple of 32, .*, not 250; the next is 256"):
        CloningConfig(batch_size=250)


def test_it_learns_to_do_what_the_expert_did() -> None:
    bco = trainer([0, 1], rounds=2, updates=1500)
    for _ in range(2):
        bco.run_round()

    def point_mass(_: str) -> PointMass:
        return PointMass()

    def still(obs: np.ndarray) -> np.ndarray:
        return np.zeros((len(obs), 1), np.float32)

    idle = evaluate(still, "", 20, 0, point_mass).mean
    for index in range(2):
        assert evaluate(bco.policy(index), "", 20, 0, point_mass).mean > 0.25 * idle
    true = np.clip(-10 * bco._recorded[0].recording.observations, -2, 2) / 2
    assert np.abs(bco.labels(0).numpy() - true).mean() < 0.1


@pytest.mark.slow
def test_it_learns_to_balance_from_an_expert(minari_root: Path) -> None:
    from qss_offline.data.build import build_dataset
    from qss_offline.data.environments import make_env
    from qss_offline.data.facts import observation_spread
    from qss_offline.data.load import load_transitions
    from qss_offline.data.specs import DatasetSpec
    from qss_offline.presets import preset

    expert = Path(__file__).parents[2] / "datasets/experts/inverted_pendulum.safetensors"
    spec = DatasetSpec("InvertedPendulum", 0.0, 20_000, expert=expert)
    recording = load_transitions(build_dataset(spec).obs_id).transitions
    bco = BCOTrainer(
        [0, 1],
        [recording] * 2,
        *[[ObservationScale.of(*observation_spread(recording, True))] * 2] * 2,
        lambda: make_env("InvertedPendulum-v5"),
        preset("default", "d3g").inverse,
        CloningConfig((128, 128), 128, 1e-3),
        cloning_updates=3000,
    )
    for _ in range(3):
        bco.run_round()
    for index in range(2):
        assert evaluate(bco.policy(index), "InvertedPendulum-v5", 5, 0, make_env).mean > 900


def test_networks_are_copies() -> None:
    bco = trainer([0], rounds=2)
    bco.run_round()
    policy = bco.policy(0)
    before = weights(policy).clone()
    bco.run_round()
    assert torch.equal(weights(policy), before)
    assert isinstance(policy.policy, Network)
