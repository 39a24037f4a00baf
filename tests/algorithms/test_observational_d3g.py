"""The equations of offline D3G: against an independent implementation, and what moves what."""

from typing import Any

import pytest
import torch

from benchmarks.plain_d3g import PlainD3G
from qss_offline.algorithms.networks import Network
from qss_offline.algorithms.observational_d3g import (
    ObservationalD3G,
    ObservationalD3GConfig,
    ObservationalD3GParameters,
    ObservationBatch,
)
from qss_offline.engine.state import TrainState, initial_state
from qss_offline.engine.update import apply_update
from qss_offline.errors import UserError

OBS_DIM = 3
CONFIG = ObservationalD3GConfig(hidden_dims=(16, 16), batch_size=32, cycle_coef=3.0)


def batch(seeds: int = 1, size: int = 8, stream: int = 0) -> ObservationBatch:
    generator = torch.Generator().manual_seed(stream)
    obs, next_obs = (torch.randn(seeds, size, OBS_DIM, generator=generator) for _ in range(2))
    reward = torch.rand(seeds, size, generator=generator)
    terminated = (torch.rand(seeds, size, generator=generator) < 0.3).float()
    return ObservationBatch(obs, next_obs, reward, terminated)


def copy_into_plain(state: TrainState, plain: PlainD3G, row: int) -> None:
    def copy(network: Network, module: torch.nn.Module) -> None:
        linear = [layer for layer in module if isinstance(layer, torch.nn.Linear)]  # type: ignore[union-attr]
        with torch.no_grad():
            for weight, bias, layer in zip(network.weights, network.biases, linear, strict=True):
                layer.weight.copy_(weight[row].T)
                layer.bias.copy_(bias[row, 0])

    for index in range(2):
        copy(state.networks["critic"].members[index], plain.critics[index])
        copy(state.networks["critic_target"].members[index], plain.critics_target[index])
    copy(state.networks["proposal"], plain.proposal)
    copy(state.networks["proposal_target"], plain.proposal_target)
    copy(state.networks["q_forward_model"], plain.forward_model)


def test_updates_agree_with_the_plain_implementation() -> None:
    algorithm = ObservationalD3G(CONFIG, OBS_DIM)
    state = initial_state(algorithm, [0, 1])
    plains = [PlainD3G(OBS_DIM, CONFIG.hidden_dims, cycle_coef=3.0) for _ in range(2)]
    for row, plain in enumerate(plains):
        copy_into_plain(state, plain, row)
    for update in range(1, 21):
        drawn = batch(seeds=2, stream=update)
        apply_update(algorithm, state, drawn, update, CONFIG.learning_rate)
        for row, plain in enumerate(plains):
            plain.update(
                drawn.obs[row],
                drawn.next_obs[row],
                drawn.reward[row].unsqueeze(-1),
                drawn.terminated[row].unsqueeze(-1),
            )
    for row, plain in enumerate(plains):
        expected = PlainD3G(OBS_DIM, CONFIG.hidden_dims)
        copy_into_plain(state, expected, row)
        for ours, theirs in (
            (expected.critics, plain.critics),
            (expected.critics_target, plain.critics_target),
            (expected.proposal, plain.proposal),
            (expected.proposal_target, plain.proposal_target),
            (expected.forward_model, plain.forward_model),
        ):
            for left, right in zip(ours.parameters(), theirs.parameters(), strict=True):
                torch.testing.assert_close(left, right, rtol=1e-4, atol=2e-6)


def parameters(state: TrainState, trainable: str | None = None) -> ObservationalD3GParameters:
    networks = dict(state.networks)
    if trainable is not None:
        networks[trainable] = networks[trainable].trainable()
    return ObservationalD3GParameters(**networks)


def all_trainable(state: TrainState) -> ObservationalD3GParameters:
    return ObservationalD3GParameters(**{n: net.trainable() for n, net in state.networks.items()})


def moved_by(loss: torch.Tensor, networks: ObservationalD3GParameters) -> set[str]:
    leaves = {name: net.flat for name, net in networks._asdict().items() if net is not None}
    grads = torch.autograd.grad(loss.sum(), list(leaves.values()), allow_unused=True)
    return {
        name
        for name, grad in zip(leaves, grads, strict=True)
        if grad is not None and bool(grad.abs().sum() > 0)
    }


def test_critic_loss_moves_only_the_critic() -> None:
    algorithm = ObservationalD3G(CONFIG, OBS_DIM)
    networks = all_trainable(initial_state(algorithm, [0]))
    assert moved_by(algorithm.critic_loss(networks, batch())[0], networks) == {"critic"}


def test_forward_loss_moves_only_the_forward_model() -> None:
    algorithm = ObservationalD3G(CONFIG, OBS_DIM)
    networks = all_trainable(initial_state(algorithm, [0]))
    loss = algorithm.forward_loss(networks, batch())[0]
    assert moved_by(loss, networks) == {"q_forward_model"}


@pytest.mark.parametrize("cycle_coef", [0.0, 1.0])
def test_proposal_gradient_flows_through_the_value_that_conditions_the_forward_model(
    cycle_coef: float,
) -> None:
    """With β = 0 the only path from ψ to the loss is τ → Q_1 → f → Q_1."""
    algorithm = ObservationalD3G(ObservationalD3GConfig((16, 16), cycle_coef=cycle_coef), OBS_DIM)
    state = initial_state(algorithm, [0])
    networks = parameters(state, "proposal")
    loss, _ = algorithm.proposal_loss(networks, batch())
    (gradient,) = torch.autograd.grad(loss.sum(), networks.proposal.flat)
    assert gradient.abs().sum() > 0


def test_cycle_term_reaches_the_proposal_through_both_sides() -> None:
    """The analytic gradient equals finite differences of the whole loss, not of one side."""
    algorithm = ObservationalD3G(CONFIG, OBS_DIM)
    state = initial_state(algorithm, [0])
    state.networks = {
        name: Network(network.shape, network.flat.double())
        for name, network in state.networks.items()
    }
    drawn = ObservationBatch(*(column.double() for column in batch()))
    networks = parameters(state, "proposal")
    loss, _ = algorithm.proposal_loss(networks, drawn)
    (gradient,) = torch.autograd.grad(loss.sum(), networks.proposal.flat)
    direction = torch.randn(
        gradient.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5)
    )
    step = 1e-6
    flat = state.networks["proposal"].flat

    def shifted(by: float) -> float:
        network = Network(networks.proposal.shape, flat + by * direction)
        return float(algorithm.proposal_loss(networks._replace(proposal=network), drawn)[0])

    numeric = (shifted(step) - shifted(-step)) / (2 * step)
    assert numeric == pytest.approx(float((gradient * direction).sum()), rel=1e-4)


def test_a_termination_does_not_bootstrap_and_a_time_limit_does() -> None:
    algorithm = ObservationalD3G(CONFIG, OBS_DIM)
    networks = parameters(initial_state(algorithm, [0]))
    drawn = batch()
    ended = drawn._replace(terminated=torch.ones_like(drawn.terminated))
    going = drawn._replace(terminated=torch.zeros_like(drawn.terminated))
    torch.testing.assert_close(algorithm.td_target(networks, ended), drawn.reward)
    assert not torch.allclose(algorithm.td_target(networks, going), drawn.reward)


def test_targets_are_clamped_per_seed() -> None:
    low, high = torch.tensor([[-1.0], [0.5]]), torch.tensor([[0.2], [0.6]])
    algorithm = ObservationalD3G(CONFIG, OBS_DIM, low, high)
    targets = algorithm.td_target(parameters(initial_state(algorithm, [0, 1])), batch(seeds=2))
    assert bool((targets >= low).all())
    assert bool((targets <= high).all())
    assert targets[0].min() < 0.5, "the second seed's bounds must not reach the first"


@pytest.mark.parametrize(("pessimism", "value"), [(1.0, 1.0), (0.5, 1.5), (0.0, 2.0)])
def test_hand_computed_target(pessimism: float, value: float) -> None:
    """Networks of constant output: τ' = 0.5, f = 2, Q'_1 = 3, Q'_2 = 1; y = r + γ · 1 to 2."""
    config = ObservationalD3GConfig((4,), gamma=0.9, twin_pessimism=pessimism)
    algorithm = ObservationalD3G(config, 1)
    state = initial_state(algorithm, [0])
    for network in state.networks.values():
        network.flat.zero_()
    state.networks["critic_target"].biases[-1].copy_(torch.tensor([[[3.0]], [[1.0]]]))
    state.networks["proposal_target"].biases[-1].fill_(0.5)
    state.networks["q_forward_model"].biases[-1].fill_(2.0)
    one = torch.ones(1, 1)
    drawn = ObservationBatch(torch.zeros(1, 1, 1), torch.ones(1, 1, 1), 2 * one, 0 * one)
    target = algorithm.td_target(parameters(state), drawn)
    assert float(target) == pytest.approx(2 + 0.9 * value)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("gamma", 1.0),
        ("cycle_coef", -1.0),
        ("batch_size", 0),
        ("batch_size", 50),
        ("polyak_step_size", 0.0),
        ("twin_pessimism", 1.5),
        ("learning_rate_decay", 1.5),
    ],
)
def test_settings_that_cannot_be_trained_with_are_refused(setting: str, value: object) -> None:
    with pytest.raises(UserError, match=setting):
        ObservationalD3GConfig(**{setting: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("changed", [{"proposal_update_interval": 1.5}, {"batch_size": 32.0}])
def test_inherited_counts_must_be_whole_numbers(changed: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"{next(iter(changed))} must be a whole number"):
        ObservationalD3GConfig(**changed)
