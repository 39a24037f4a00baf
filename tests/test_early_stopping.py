"""I stopped early: what is held out, what is chosen by it, and that nothing learns from it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from qss_offline.action_steps import ActionSteps
from qss_offline.algorithms.inverse_dynamics import InverseDynamicsConfig, inverse_logits
from qss_offline.bco_training import BCOTrainer
from qss_offline.early_stopping import LeastErrors, held_out_steps, is_held_out, looks
from qss_offline.errors import UserError
from qss_offline.inverse_config import InverseFitConfig
from qss_offline.inverse_fitting import InverseFitter
from qss_offline.inverse_models import InverseModels
from tests.test_acting import SCALE, PointMass, fits_alike, to_origin_proposal
from tests.test_bco import CLONING, expert_recording

MODEL = InverseDynamicsConfig((16, 16), 32, 3e-3, step_inputs=True, average_step_size=0.1)
PLAIN = InverseFitConfig(2, 30, 50, model=MODEL)
STOPPING = replace(PLAIN, held_out=0.2)


def fitter(config: InverseFitConfig, seeds: tuple[int, ...]) -> InverseFitter:
    return InverseFitter(
        seeds,
        [to_origin_proposal() for _ in seeds],
        [SCALE] * len(seeds),
        PointMass,
        config,
        None,
        [expert_recording(5) for _ in seeds],
    )


@given(st.integers(1, 6), st.integers(1, 200), st.floats(0, 0.99))
def test_the_last_steps_of_every_round_are_held_out(rounds: int, steps: int, share: float) -> None:
    held = is_held_out(rounds * steps, share, steps).reshape(rounds, steps)
    count = held_out_steps(share, steps)
    assert count == pytest.approx(share * steps, abs=0.5)
    assert held[:, steps - count :].all()
    assert not held[:, : steps - count].any()


@given(st.integers(0, 10_000), st.integers(1, 10_000))
def test_looks_are_even_and_end_with_the_round(begun: int, updates: int) -> None:
    stops = looks(begun, begun + updates)
    assert stops[-1] == begun + updates
    gaps = np.diff([begun, *stops])
    assert gaps.min() > 0
    assert gaps.max() - gaps.min() <= 1
    assert len(stops) == min(10, updates)


def test_the_least_error_is_chosen_and_judged_anew() -> None:
    def off(target: float) -> Callable[[Tensor], float]:
        return lambda one: abs(float(one) - target)

    least = LeastErrors(2)
    for value in (3.0, 1.0, 2.0):
        least.consider(0, torch.tensor([value]), off(0.9))
    assert float(least.chosen[0] or 0) == 1.0
    assert least.chosen[1] is None
    least.begin_round(0, off(5.0))
    least.consider(0, torch.tensor([0.5]), off(5.0))
    assert float(least.chosen[0]) == 1.0, "0.5 errs more than 1.0 by the new measure"
    least.consider(0, torch.tensor([4.0]), off(5.0))
    assert float(least.chosen[0]) == 4.0
    least.begin_round(0, lambda one: float("nan"))
    least.consider(0, torch.tensor([7.0]), off(5.0))
    assert float(least.chosen[0]) == 7.0, "what can't be measured is worse than anything"


@pytest.mark.parametrize(
    "config",
    [
        STOPPING,
        replace(STOPPING, inverse_models=3),
        replace(STOPPING, model=replace(MODEL, form="either")),
        replace(STOPPING, model=replace(MODEL, recorded_coef=1.0)),
        replace(STOPPING, model=replace(MODEL, step_inputs=False)),
    ],
)
def test_a_seed_fits_alike_alone_in_company_and_after_an_interruption(
    config: InverseFitConfig,
) -> None:
    fits_alike(lambda seeds: fitter(config, seeds))


def test_no_step_that_is_held_out_is_learned_from() -> None:
    """Another action in one of them changes which network is chosen, but none of the networks."""

    def learned(sign: float) -> InverseFitter:
        one = fitter(replace(STOPPING, rounds=1), (4,))
        one.steps = [_steps(30, seed=0)]
        taken = one.steps[0]
        assert taken is not None
        taken.actions[24:] *= sign
        one._learn(50, lambda updates: None)
        return one

    one, other = learned(1.0), learned(-1.0)
    for name, network in one.state.networks.items():
        assert torch.equal(network.flat, other.state.networks[name].flat)
    assert not torch.equal(one.average(0).flat, other.average(0).flat)


def test_what_is_chosen_is_the_best_of_ten_plain_fits() -> None:
    """Each an independent run, stopped after 5, 10, … 50 updates on the 24 steps learned from."""
    # Noise in the place of actions: what is learned of it is learned by heart.
    steps = _steps(30, seed=3, noise=0.5)
    stopping = fitter(replace(STOPPING, rounds=1), (4,))
    stopping.steps = [steps]
    stopping._learn(50, lambda updates: None)
    errors, models = [], []
    for updates in range(5, 55, 5):
        plain = fitter(replace(PLAIN, rounds=1), (4,))
        plain.steps = [steps.where(np.arange(30) < 24)]
        plain._learn(updates, lambda updates: None)
        models.append(plain.average(0).flat)
        unseen = steps.where(np.arange(30) >= 24)
        obs, next_obs, actions = (
            torch.from_numpy(column) for column in (unseen.obs, unseen.next_obs, unseen.actions)
        )
        said = inverse_logits(plain.average(0), obs[None], next_obs[None], SCALE.step_std).tanh()
        errors.append(float((said[0] - actions).square().mean()))
    best = int(np.argmin(errors))
    assert errors[best] < errors[-1], "nothing to stop for"
    assert torch.equal(stopping.average(0).flat, models[best])


def ruin(models: InverseModels) -> None:
    """Have the next round ruin the network, so that the choice of the round before stands."""
    models.config = replace(models.config, model=replace(MODEL, learning_rate=1e3))


def test_a_later_round_may_keep_the_choice_of_an_earlier_one_and_so_does_a_resumed_one() -> None:
    one, resumed = fitter(STOPPING, (4,)), fitter(STOPPING, (4,))
    one.run_round()
    kept = one.average(0).flat
    resumed.restore([one.checkpoint(0, {})])
    assert torch.equal(resumed.average(0).flat, kept)
    for models in (one, resumed):
        ruin(models)
        models.run_round()
        assert torch.equal(models.average(0).flat, kept)
        assert not torch.equal(models.state.networks["inverse_average"].flat[:1], kept)
    whole, again = one.checkpoint(0, {}).tensors, resumed.checkpoint(0, {}).tensors
    assert whole.keys() == again.keys()
    assert "stopped" in whole
    for name, tensor in whole.items():
        assert torch.equal(tensor, again[name]), name


def test_bco_labels_with_what_was_chosen_and_so_does_a_resumed_one() -> None:
    def trainer() -> BCOTrainer:
        return BCOTrainer((2,), [expert_recording(5)], [SCALE], PointMass, STOPPING, CLONING, 50)

    bco, resumed = trainer(), trainer()
    bco.run_round()
    labels = bco.labels(0)
    resumed.restore([bco.checkpoint(0, {})])
    np.testing.assert_array_equal(resumed.labels(0), labels)
    ruin(bco)
    bco.run_round()
    np.testing.assert_array_equal(bco.labels(0), labels)


def test_with_known_steps_what_acted_in_a_round_may_be_chosen() -> None:
    known = _steps(200, seed=1)
    one = InverseFitter(
        (4,),
        [to_origin_proposal()],
        [SCALE],
        PointMass,
        replace(STOPPING, known_updates=200),
        known,
    )
    one._learn(200, lambda updates: None)
    acted = one.average(0).flat
    ruin(one)
    one.run_round()
    assert torch.equal(one.average(0).flat, acted)
    assert not torch.equal(one.state.networks["inverse_average"].flat, acted)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: replace(PLAIN, held_out=1.0), "held_out must be from 0 to below 1, not 1.0"),
        (lambda: replace(PLAIN, held_out=-0.1), "held_out must be from 0"),
        (lambda: replace(PLAIN, held_out=0.01), "holds out 0 of 30 steps a round"),
        (lambda: replace(PLAIN, held_out=0.99), "holds out 30 of 30 steps a round"),
        (
            lambda: replace(STOPPING, model=replace(MODEL, form="bilinear")),
            "choose form=network, or held_out=0",
        ),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make()


def _steps(count: int, seed: int, noise: float = 0.1) -> ActionSteps:
    rng = np.random.default_rng(seed)
    obs = rng.uniform(-1, 1, (count, 1)).astype(np.float32)
    actions = rng.uniform(-0.5, 0.5, (count, 1)).astype(np.float32)
    seen = actions + noise * rng.standard_normal((count, 1)).astype(np.float32)
    return ActionSteps(obs, obs + 0.2 * seen, actions)
