"""Networks that see and give steps: the same functions and losses, written in another unit."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from qss_offline.acting import ObservationScale
from qss_offline.algorithms.d3g import D3G, D3GBatch, D3GConfig, D3GParameters
from qss_offline.algorithms.d3g import forward_step as d3g_step
from qss_offline.algorithms.folding import gives_states, sees_states
from qss_offline.algorithms.networks import MLPShape, Network
from qss_offline.algorithms.observational_d3g import (
    ObservationalD3G,
    ObservationalD3GConfig,
    ObservationalD3GParameters,
    ObservationBatch,
    cycle,
)
from qss_offline.algorithms.qss import propose_next_obs, transition_value
from qss_offline.engine.state import TrainState, initial_state
from qss_offline.errors import UserError
from qss_offline.offline_training import step_scale

SEEDS, SIZE, DIM, ACTIONS = 2, 32, 3, 2
SCALE = torch.tensor([[[0.05, 1.0, 3.0]], [[0.2, 0.5, 1.5]]])


def draw(*size: int, stream: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(stream))


def observation_batch() -> ObservationBatch:
    obs = draw(SEEDS, SIZE, DIM)
    next_obs = obs + SCALE * draw(SEEDS, SIZE, DIM, stream=1)
    return ObservationBatch(obs, next_obs, draw(SEEDS, SIZE, stream=2), torch.zeros(SEEDS, SIZE))


def folded(state: TrainState) -> ObservationalD3GParameters:
    turned = {
        name: (sees_states if name.startswith("critic") else gives_states)(network, SCALE)
        for name, network in state.networks.items()
    }
    return ObservationalD3GParameters(**turned)


@settings(deadline=None)
@given(st.integers(0, 1000), st.sampled_from([None, 2]), st.floats(-2, 1))
def test_folding_changes_the_unit_and_nothing_else(
    stream: int, members: int | None, exponent: float
) -> None:
    scale = 10**exponent * draw(SEEDS, 1, DIM, stream=stream).double().exp()
    obs = draw(SEEDS, SIZE, DIM, stream=stream + 1).double()
    next_obs = obs + scale * draw(SEEDS, SIZE, DIM, stream=stream + 2).double()

    def network(shape: MLPShape) -> Network:
        generators = [torch.Generator().manual_seed(stream + seed) for seed in range(SEEDS)]
        return Network(
            shape, torch.stack([shape.init(generator) for generator in generators]).double()
        )

    critic = network(MLPShape((2 * DIM, 8, 1), members))
    torch.testing.assert_close(
        transition_value(sees_states(critic, scale), obs, next_obs),
        transition_value(critic, obs, next_obs, scale),
    )
    proposal = network(MLPShape((DIM, 8, DIM)))
    torch.testing.assert_close(
        propose_next_obs(gives_states(proposal, scale), obs),
        propose_next_obs(proposal, obs, scale),
    )
    assert sees_states(critic, None) is critic and gives_states(proposal, None) is proposal


def test_offline_losses_are_those_of_folded_networks() -> None:
    config = ObservationalD3GConfig((8,), SIZE, cycle_coef=2.0, step_units=True)
    algorithm = ObservationalD3G(config, DIM, step_scale=SCALE)
    plain = ObservationalD3G(ObservationalD3GConfig((8,), SIZE, cycle_coef=2.0), DIM)
    state = initial_state(algorithm, list(range(SEEDS)))
    parameters, turned = ObservationalD3GParameters(**state.networks), folded(state)
    batch = observation_batch()
    # Values are in the unit of rewards, whatever networks see.
    torch.testing.assert_close(
        algorithm.critic_loss(parameters, batch)[0], plain.critic_loss(turned, batch)[0]
    )
    # Errors of states are in units of a step.
    critic, forward = turned.critic.members[0], turned.q_forward_model
    proposed = propose_next_obs(turned.proposal, batch.obs)
    reached = cycle(critic, forward, batch.obs, proposed)
    error = ((proposed - reached) / SCALE).square().mean((1, 2))
    value = transition_value(critic, batch.obs, reached).mean(1)
    loss, metrics = algorithm.proposal_loss(parameters, batch)
    torch.testing.assert_close(loss, 2.0 * error - value)
    torch.testing.assert_close(metrics["cycle_error"], error)
    value = transition_value(turned.critic_target.members[0], batch.obs, batch.next_obs)
    made = plain_step(forward, batch.obs, value)
    error = ((made - (batch.next_obs - batch.obs)) / SCALE).square().mean((1, 2))
    torch.testing.assert_close(algorithm.forward_loss(parameters, batch)[0], error)


def plain_step(forward: Network, obs: Tensor, value: Tensor) -> Tensor:
    hidden = torch.cat((obs, value.unsqueeze(-1)), -1) @ forward.weights[0] + forward.biases[0]
    return hidden.relu() @ forward.weights[1] + forward.biases[1]


def test_online_losses_and_actions_are_those_of_folded_networks() -> None:
    config = D3GConfig((8,), SIZE, step_inputs=True, step_units=True)
    stepwise = D3G(config, DIM, ACTIONS, step_scale=SCALE)
    plain = D3G(D3GConfig((8,), SIZE, step_inputs=True), DIM, ACTIONS, step_scale=SCALE)
    state = initial_state(stepwise, list(range(SEEDS)))
    parameters = D3GParameters(**state.networks)
    turned = {
        name: sees_states(network, SCALE)
        if name.startswith("critic")
        else gives_states(network, SCALE)
        if name.startswith(("proposal", "forward"))
        else network
        for name, network in state.networks.items()
    }
    alike = D3GParameters(**turned)
    assert alike.forward_model is not None
    observed = observation_batch()
    limits = torch.zeros(SEEDS, 1)
    action = draw(SEEDS, SIZE, ACTIONS, stream=5).tanh()
    batch = D3GBatch(observed.obs, action, *observed[1:], limits, limits)
    torch.testing.assert_close(
        stepwise.critic_loss(parameters, batch)[0], plain.critic_loss(alike, batch)[0]
    )
    made = plain.reach(alike, batch.obs, propose_next_obs(alike.proposal, batch.obs))
    error = ((propose_next_obs(alike.proposal, batch.obs) - made) / SCALE).square().mean((1, 2))
    value = transition_value(alike.critic.members[0], batch.obs, made).mean(1)
    torch.testing.assert_close(stepwise.proposal_loss(parameters, batch)[0], error - value)
    step = d3g_step(alike.forward_model, batch.obs, batch.action)
    error = ((step - (batch.next_obs - batch.obs)) / SCALE).square().mean((1, 2))
    torch.testing.assert_close(stepwise.forward_loss(parameters, batch)[0], error)
    torch.testing.assert_close(
        stepwise.policy_action(parameters, batch.obs), plain.policy_action(alike, batch.obs)
    )
    torch.testing.assert_close(
        propose_next_obs(stepwise.acting_proposal(parameters), batch.obs),
        propose_next_obs(alike.proposal_average, batch.obs),
    )
    assert plain.acting_proposal(alike) is alike.proposal_average


def test_values_are_weighed_in_units_of_the_gap() -> None:
    config = ObservationalD3GConfig((8,), SIZE, cycle_coef=2.0, gap_units=True)
    algorithm = ObservationalD3G(config, DIM)
    state = initial_state(algorithm, list(range(SEEDS)))
    parameters = ObservationalD3GParameters(**state.networks)
    batch = observation_batch()
    critic, forward = parameters.critic.members[0], parameters.q_forward_model
    proposed = propose_next_obs(parameters.proposal, batch.obs)
    reached = cycle(critic, forward, batch.obs, proposed)
    values = transition_value(critic, batch.obs, reached)
    gap = (values - transition_value(critic, batch.obs, batch.next_obs)).abs().mean(1)
    error = (proposed - reached).square().mean((1, 2))
    loss, metrics = algorithm.proposal_loss(parameters, batch)
    torch.testing.assert_close(loss, 2.0 * error - values.mean(1) / gap)
    torch.testing.assert_close(metrics["gap"], gap)


def test_a_scale_without_steps_is_refused() -> None:
    scale = ObservationScale(torch.zeros(DIM), torch.ones(DIM))
    with pytest.raises(UserError, match="spread of steps"):
        step_scale(ObservationalD3GConfig(step_units=True), [scale])
    assert step_scale(ObservationalD3GConfig(), [scale]) is None
