"""I(s, s') in closed form: what it solves, that few steps suffice, and where it may be used."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qss_offline.algorithms.bilinear_inverse import bilinear_inputs, is_bilinear, solve_bilinear
from qss_offline.algorithms.inverse_dynamics import (
    InverseDynamicsConfig,
    InverseForm,
    inverse_action,
)
from qss_offline.algorithms.networks import MLPShape, Network, mlp
from qss_offline.errors import UserError
from qss_offline.evaluation.policies import ObservationScale
from qss_offline.evaluation.policy_files import load_policy
from qss_offline.runs.inverse_config import InverseFitConfig
from qss_offline.training.bco import BCOTrainer
from qss_offline.training.inverse import models
from qss_offline.training.inverse.fitting import InverseFitter
from tests.evaluation.test_policies import SCALE, PointMass, fits_alike, to_origin_proposal
from tests.training.test_bco import CLONING, expert_recording

MODEL = InverseDynamicsConfig(step_inputs=True, form="bilinear")


def fitter(seeds: tuple[int, ...], rounds: int = 2, steps_per_round: int = 10) -> InverseFitter:
    config = InverseFitConfig(rounds, steps_per_round, 5, model=MODEL)
    proposals = [to_origin_proposal() for _ in seeds]
    return InverseFitter(seeds, proposals, [SCALE] * len(seeds), PointMass, config)


@settings(max_examples=25)
@given(
    obs_dim=st.integers(1, 4),
    action_dim=st.integers(1, 3),
    ridge=st.floats(0.01, 100),
    seed=st.integers(0, 10**6),
)
def test_the_solution_is_that_of_augmented_least_squares(
    obs_dim: int, action_dim: int, ridge: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    obs, step = torch.randn(2, 60, obs_dim, generator=generator)
    actions = torch.rand(60, action_dim, generator=generator) * 2 - 1
    solved = solve_bilinear(obs, step, actions, ridge)
    inputs = bilinear_inputs(obs, step).double().numpy()
    width = inputs.shape[1]
    # Rows of √ridge times the identity, without one for the bias, say the penalty.
    left = np.block(
        [
            [inputs, np.ones((60, 1))],
            [np.sqrt(ridge) * np.eye(width), np.zeros((width, 1))],
        ]
    )
    right = np.concatenate([actions.double().numpy(), np.zeros((width, action_dim))])
    expected, *_ = np.linalg.lstsq(left, right, rcond=None)
    np.testing.assert_allclose(solved.weights[0][0].numpy(), expected[:-1], atol=1e-4)
    np.testing.assert_allclose(solved.biases[0][0, 0].numpy(), expected[-1], atol=1e-4)


def test_an_environment_whose_forces_depend_on_its_state_is_solved_exactly() -> None:
    """s' = s + g(s) + B(s) a with the affine inverse a = (2 + s)(Δ − s / 2)."""
    generator = torch.Generator().manual_seed(0)
    obs = torch.rand(200, 1, generator=generator) * 2 - 1
    step = torch.rand(200, 1, generator=generator) * 0.2
    actions = (2 + obs) * step
    network = solve_bilinear(obs, step, actions, ridge=1e-9)
    said = inverse_action(network, obs[None], (obs + step)[None], torch.ones(1, 1, 1))
    torch.testing.assert_close(said[0], actions, atol=1e-4, rtol=1e-4)


def test_inputs_are_the_state_the_step_and_their_products() -> None:
    obs, step = torch.tensor([[10.0, 20.0]]), torch.tensor([[2.0, 100.0]])
    expected = [3.0, 6.0, 2.0, 8.0, 6.0, 24.0, 12.0, 48.0]
    torch.testing.assert_close(bilinear_inputs(obs, step), torch.tensor([expected]))


def test_twenty_steps_are_enough_for_a_point_mass() -> None:
    fitted = fitter((0,))
    for _ in range(2):
        fitted.run_round()
    assert fitted.rounds_done == 2
    for x in (-0.15, -0.05, 0.1):
        assert fitted.policy(0)(np.array([x]))[0] == pytest.approx(-10 * x, abs=0.3)
    assert fitted.policy(0)(np.array([5.0]))[0] == -2.0


def test_a_seed_fits_alike_alone_in_company_and_after_an_interruption() -> None:
    fits_alike(fitter)


class Hinge(PointMass):
    """x' = x + a² sign(a) / 5: what no bilinear form says."""

    def step(self, action: NDArray[np.float32]) -> Any:
        return super().step(action * np.abs(action))


@pytest.mark.parametrize(("env", "bilinear"), [(PointMass, True), (Hinge, False)])
def test_of_either_the_one_acts_that_erred_less_on_new_steps(
    env: type[PointMass], bilinear: bool
) -> None:
    model = InverseDynamicsConfig((32, 32), 32, 3e-3, step_inputs=True, form="either")
    config = InverseFitConfig(3, 100, 600, model=model)

    def fitted() -> InverseFitter:
        return InverseFitter((4,), [to_origin_proposal()], [SCALE], env, config)

    whole, interrupted, resumed = fitted(), fitted(), fitted()
    company = InverseFitter((9, 4), [to_origin_proposal()] * 2, [SCALE] * 2, env, config)
    for _ in range(3):
        company.run_round()
    whole.run_round()
    assert is_bilinear(whole.average(0).shape), "nothing speaks for the network yet"
    whole.run_round()
    whole.run_round()
    assert is_bilinear(whole.average(0).shape) == bilinear
    interrupted.run_round()
    interrupted.run_round()
    resumed.restore([interrupted.checkpoint(0, {})])
    resumed.run_round()
    steps = whole.steps[0]
    assert steps is not None
    errors = whole._errors(0, steps)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "_ROWS", 7)
        torch.testing.assert_close(whole._errors(0, steps), errors)
    obs = np.linspace(-0.5, 0.5, 11)[:, None]
    np.testing.assert_array_equal(resumed.policy(0)(obs), whole.policy(0)(obs))
    np.testing.assert_array_equal(company.policy(1)(obs), whole.policy(0)(obs))
    whole.state.networks["inverse_average"].flat.fill_(torch.nan)
    whole.run_round()
    assert is_bilinear(whole.average(0).shape), "NaN is no smaller error"


def test_many_observations_leave_the_network_alone() -> None:
    scale = ObservationScale(*(torch.full((50,), value) for value in (0.0, 1.0, 0.1)))
    proposals = [Network(MLPShape((50, 4, 50)), torch.zeros(1, 512))]

    def fitted(form: InverseForm) -> InverseFitter:
        model = InverseDynamicsConfig((8, 8), 32, step_inputs=True, form=form)
        return InverseFitter((0,), proposals, [scale], PointMass, InverseFitConfig(model=model))

    assert not is_bilinear(fitted("either").average(0).shape)
    with pytest.raises(UserError, match="50 numbers in an observation; choose form=network"):
        fitted("bilinear")


def test_a_policy_file_keeps_the_form(tmp_path: Path) -> None:
    fitted = fitter((0,))
    fitted.run_round()
    policy = fitted.policy(0)
    policy.save(tmp_path / "policy.safetensors", "PointMass-v0")
    loaded = load_policy(tmp_path / "policy.safetensors")
    obs = np.linspace(-1, 1, 7)[:, None]
    np.testing.assert_array_equal(loaded(obs), policy(obs))


def test_bco_labels_with_it() -> None:
    recording = expert_recording(5)
    trainer = BCOTrainer(
        [0],
        [recording],
        [SCALE],
        [SCALE],
        PointMass,
        InverseFitConfig(1, 30, 20, model=MODEL),
        CLONING,
        20,
    )
    trainer.run_round()
    true = np.clip(-10 * recording.observations, -2, 2) / 2
    np.testing.assert_allclose(trainer.labels(0), true, atol=0.1)


def test_what_it_cannot_do_is_told() -> None:
    with pytest.raises(UserError, match="step_inputs must be True"):
        replace(MODEL, step_inputs=False)
    with pytest.raises(UserError, match="form must be network, bilinear or either"):
        replace(MODEL, form="linear")  # type: ignore[arg-type]
    # One layer would be taken for the bilinear form.
    with pytest.raises(UserError, match="hidden_dims must not be empty"):
        InverseDynamicsConfig(hidden_dims=())


def test_the_network_of_one_layer_is_an_affine_map() -> None:
    network = solve_bilinear(torch.randn(9, 2), torch.randn(9, 2), torch.randn(9, 3))
    assert isinstance(network, Network)
    inputs = torch.randn(1, 5, 8)
    expected = inputs[0] @ network.weights[0][0] + network.biases[0][0, 0]
    torch.testing.assert_close(mlp(network, inputs)[0], expected)
