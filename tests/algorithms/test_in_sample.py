"""The bound on the value that f is given: an expectile of what was recorded."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import expectile

from qss_offline.algorithms.in_sample import expectile_loss
from qss_offline.algorithms.networks import MLPShape, Network
from qss_offline.algorithms.observational_d3g import (
    ObservationalD3G,
    ObservationalD3GConfig,
    cycle,
    forward_step,
)
from qss_offline.algorithms.qss import transition_value
from qss_offline.engine.state import initial_state
from qss_offline.errors import UserError
from tests.algorithms.test_observational_d3g import OBS_DIM, batch, parameters

BOUNDED = ObservationalD3GConfig((16, 16), value_expectile=0.9)


@pytest.mark.parametrize("level", [0.5, 0.7, 0.95])
def test_the_loss_is_least_at_scipys_expectile(level: float) -> None:
    values = np.random.default_rng(0).gamma(2.0, size=200)
    network = Network(MLPShape((1, 1)), torch.zeros(1, 64))
    bias = network.biases[0]
    guesses = np.linspace(values.min(), values.max(), 2001)
    losses = []
    for guess in guesses:
        bias.fill_(float(guess))
        recorded = torch.tensor(values, dtype=torch.float32)[None]
        losses.append(float(expectile_loss(network, torch.zeros(1, 200, 1), recorded, level)))
    assert guesses[np.argmin(losses)] == pytest.approx(expectile(values, level), abs=0.01)


def test_f_is_given_the_lesser_of_value_and_bound() -> None:
    algorithm = ObservationalD3G(BOUNDED, OBS_DIM)
    networks = parameters(initial_state(algorithm, [0, 1]))
    bound, critic = networks.state_value, networks.critic.members[0]
    assert bound is not None
    drawn = batch(seeds=2)
    value = transition_value(critic, drawn.obs, drawn.next_obs)
    flat = torch.zeros_like(bound.flat)
    for level in (-100.0, float(value.median()), 100.0):
        level_bound = Network(bound.shape, flat.clone())
        level_bound.biases[-1].fill_(level)
        reached = cycle(
            critic, networks.q_forward_model, drawn.obs, drawn.next_obs, None, level_bound
        )
        expected = drawn.obs + forward_step(
            networks.q_forward_model, drawn.obs, value.clamp(max=level)
        )
        torch.testing.assert_close(reached, expected)


def test_a_proposal_above_the_bound_moves_by_the_cycle_term_alone() -> None:
    config = replace(BOUNDED, cycle_coef=0.0)
    algorithm = ObservationalD3G(config, OBS_DIM)
    networks = parameters(initial_state(algorithm, [0, 1]), "proposal")
    assert networks.state_value is not None
    for level, moves in ((-100.0, False), (100.0, True)):
        bound = Network(networks.state_value.shape, torch.zeros_like(networks.state_value.flat))
        bound.biases[-1].fill_(level)
        loss, _ = algorithm.proposal_loss(networks._replace(state_value=bound), batch(seeds=2))
        (gradient,) = torch.autograd.grad(loss.sum(), networks.proposal.flat)
        assert bool(gradient.abs().max() > 0) is moves


def test_off_nothing_is_added() -> None:
    plain = ObservationalD3G(ObservationalD3GConfig((16, 16)), OBS_DIM)
    bounded = ObservationalD3G(BOUNDED, OBS_DIM)
    assert "state_value" not in plain.shapes
    before, after = initial_state(plain, [3]), initial_state(bounded, [3])
    for name, network in before.networks.items():
        assert torch.equal(network.flat, after.networks[name].flat), name


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5])
def test_levels_that_are_none_are_refused(level: float) -> None:
    with pytest.raises(UserError, match="value_expectile must be between 0 and 1"):
        ObservationalD3GConfig(value_expectile=level)
