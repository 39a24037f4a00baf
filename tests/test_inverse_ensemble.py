"""Several I a seed: what each is, what their mean says, and how they explore."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from qss_offline.algorithms.inverse_dynamics import (
    InverseDynamicsConfig,
    InverseForm,
    inverse_logits,
)
from qss_offline.bco_training import BCOTrainer
from qss_offline.errors import UserError
from qss_offline.inverse_config import InverseFitConfig
from qss_offline.inverse_fitting import InverseFitter
from tests.test_acting import SCALE, PointMass, fits_alike, to_origin_proposal
from tests.test_bco import CLONING, expert_recording

MODEL = InverseDynamicsConfig((16, 16), 32, 3e-3, step_inputs=True, average_step_size=0.1)
EITHER = replace(MODEL, form="either")
ALONE = InverseFitConfig(2, 30, 50, model=MODEL)
TRIO = replace(ALONE, inverse_models=3)


def fitter(config: InverseFitConfig, seeds: tuple[int, ...]) -> InverseFitter:
    proposals = [to_origin_proposal() for _ in seeds]
    recordings = [expert_recording(5) for _ in seeds]
    return InverseFitter(
        seeds, proposals, [SCALE] * len(seeds), PointMass, config, None, recordings
    )


@pytest.mark.parametrize(
    ("form", "recorded_coef", "member_exploration"),
    [("network", 0.0, False), ("network", 1.0, True), ("either", 0.0, False)],
)
def test_an_ensemble_fits_alike_alone_in_company_and_after_an_interruption(
    form: InverseForm, recorded_coef: float, member_exploration: bool
) -> None:
    model = replace(MODEL, form=form, recorded_coef=recorded_coef)
    config = replace(TRIO, model=model, member_exploration=member_exploration)
    fits_alike(lambda seeds: fitter(config, seeds))


def test_two_seeds_are_restored_in_their_order() -> None:
    whole, half, resumed = (fitter(replace(TRIO, model=EITHER), (7, 3)) for _ in range(3))
    whole.run_round()
    whole.run_round()
    half.run_round()
    resumed.restore([half.checkpoint(index, {}) for index in range(2)])
    resumed.run_round()
    for index in range(2):
        for one, other in zip(
            whole.member_averages(index), resumed.member_averages(index), strict=True
        ):
            assert torch.equal(one.flat, other.flat)
    assert torch.equal(whole._unseen_errors, resumed._unseen_errors)
    assert bool((whole._unseen_errors > 0).all())


@pytest.mark.parametrize(("recorded_coef", "step_noise"), [(0.0, 0.3), (1.0, 0.0)])
def test_each_member_is_what_it_would_be_alone_on_the_same_steps(
    recorded_coef: float, step_noise: float
) -> None:
    model = replace(MODEL, recorded_coef=recorded_coef, step_noise=step_noise)
    trio = fitter(replace(TRIO, rounds=1, model=model), (4,))
    trio.run_round()
    for number, seed in enumerate((4, 1_000_004, 2_000_004)):
        alone = fitter(replace(ALONE, rounds=1, model=model), (seed,))
        # The steps of the trio's seed, in the place of its own.
        alone.steps = list(trio.steps)
        alone._learn(50, lambda updates: None)
        assert torch.equal(trio.member_averages(0)[number].flat, alone.average(0).flat)


def test_the_policy_acts_on_the_mean_of_what_they_say() -> None:
    trio = fitter(TRIO, (7, 3))
    trio.run_round()
    obs = torch.linspace(-1, 1, 9).reshape(1, 9, 1)
    said = [
        inverse_logits(one, obs, torch.zeros_like(obs), SCALE.step_std)
        for one in trio.member_averages(1)
    ]
    assert not torch.allclose(said[0], said[1], atol=1e-3)
    mean = inverse_logits(trio.average(1), obs, torch.zeros_like(obs), SCALE.step_std)
    torch.testing.assert_close(mean, torch.stack(said).mean(0))
    np.testing.assert_allclose(
        trio.policy(1)(obs[0].numpy()), 2 * mean[0].tanh().numpy(), rtol=1e-4, atol=1e-5
    )


def test_bco_labels_with_the_mean_and_resumes() -> None:
    def trained(rounds: int, restored: BCOTrainer | None = None) -> BCOTrainer:
        bco = BCOTrainer((2,), [expert_recording(5)], [SCALE], PointMass, TRIO, CLONING, 50)
        if restored is not None:
            bco.restore([restored.checkpoint(0, {})])
        for _ in range(rounds):
            bco.run_round()
        return bco

    whole, resumed = trained(2), trained(1, trained(1))
    np.testing.assert_array_equal(whole.labels(0), resumed.labels(0))
    obs = np.linspace(-1, 1, 5)[:, None]
    np.testing.assert_array_equal(whole.policy(0)(obs), resumed.policy(0)(obs))
    recording = expert_recording(5)
    states = [
        torch.from_numpy(np.array(column)).unsqueeze(0)
        for column in (recording.observations, recording.next_observations)
    ]
    said = [inverse_logits(one, *states, SCALE.step_std) for one in whole.member_averages(0)]
    mean = torch.stack(said).mean(0).tanh()
    np.testing.assert_allclose(whole.labels(0), mean[0].numpy(), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(said[0].tanh(), mean, atol=1e-3)


def test_members_take_the_steps_in_turns_where_they_disagree() -> None:
    """Without noise, and hardly trained: the actions at one state are those of the members."""
    config = replace(TRIO, updates_per_round=1, exploration_noise=0.0, member_exploration=True)
    exploring = fitter(config, (5,))
    exploring.run_round()
    policies = [exploring._policy_of(0, one) for one in exploring.member_averages(0)]
    exploring.run_round()
    taken = exploring.steps[0]
    assert taken is not None
    later = slice(30, 60)
    obs, actions = taken.obs[later], taken.actions[later]
    each = np.stack([exploring.action_box.to_unit(policy(obs)) for policy in policies])
    nearest = np.abs(each - actions).max(-1)
    assert nearest.min(0).max() < 1e-5
    drawn = nearest.argmin(0)
    counts = np.bincount(drawn, minlength=3)
    assert counts.min() >= 3, counts
    assert np.count_nonzero(np.diff(drawn)) >= 10, "each step draws anew"
    assert each.std(0).max() > 1e-3


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: replace(ALONE, inverse_models=0), "inverse_models must be above 0"),
        (lambda: replace(TRIO, model=replace(MODEL, form="bilinear")), "form=network"),
        (lambda: replace(ALONE, member_exploration=True), "needs several I"),
        (
            lambda: replace(TRIO, model=replace(MODEL, form="either"), member_exploration=True),
            "choose form=network, not either",
        ),
        (lambda: fitter(TRIO, (1_000_000,)), "seeds must be below 1,000,000"),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make()
