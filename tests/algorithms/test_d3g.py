"""The equations of D3G with actions: against plain modules, and what moves what."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from qss_offline.algorithms.d3g import D3G, D3GBatch, D3GConfig, D3GParameters
from qss_offline.algorithms.networks import Network
from qss_offline.engine.cpu_graph import recorded_gradients
from qss_offline.engine.state import TrainState, initial_state
from qss_offline.engine.update import apply_update, eager_gradients
from qss_offline.errors import UserError

OBS_DIM, ACTION_DIM = 3, 2
CONFIG = D3GConfig(hidden_dims=(16, 16), batch_size=32, cycle_coef=3.0)


def batch(seeds: int = 1, size: int = 8, stream: int = 0, discrete: bool = False) -> D3GBatch:
    generator = torch.Generator().manual_seed(stream)
    obs, next_obs = (torch.randn(seeds, size, OBS_DIM, generator=generator) for _ in range(2))
    if discrete:
        chosen = torch.randint(ACTION_DIM, (seeds, size), generator=generator)
        action = nn.functional.one_hot(chosen, ACTION_DIM).float()
    else:
        action = torch.rand(seeds, size, ACTION_DIM, generator=generator) * 2 - 1
    reward = torch.rand(seeds, size, generator=generator)
    terminated = (torch.rand(seeds, size, generator=generator) < 0.3).float()
    limits = torch.full((seeds, 1), -100.0), torch.full((seeds, 1), 100.0)
    return D3GBatch(obs, action, next_obs, reward, terminated, *limits)


def module(network: Network, row: int, member: int | None = None) -> nn.Sequential:
    """One seed's network as torch modules that share nothing with ours."""
    single = network if member is None else network.members[member]
    layers: list[nn.Module] = []
    for weight, bias in zip(single.weights, single.biases, strict=True):
        linear = nn.Linear(*weight.shape[1:])
        linear.weight.data.copy_(weight[row].T)
        linear.bias.data.copy_(bias[row, 0])
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Plain:
    """One update of one seed, as the authors' code does it, from our parameters."""

    def __init__(self, state: TrainState, row: int, config: D3GConfig, discrete: bool) -> None:
        networks = state.networks
        self.critics = [module(networks["critic"], row, member) for member in range(2)]
        self.targets = [module(networks["critic_target"], row, member) for member in range(2)]
        self.proposal = module(networks["proposal"], row)
        self.proposal_target = module(networks["proposal_target"], row)
        self.inverse = module(networks["inverse_dynamics"], row)
        self.forward = module(networks["forward_model"], row) if config.cycle else None
        self.config, self.discrete = config, discrete

    def action(self, obs: Tensor, next_obs: Tensor) -> Tensor:
        logits = self.inverse(torch.cat((obs, next_obs), 1))
        return logits.softmax(1) if self.discrete else logits.tanh()

    def reach(self, obs: Tensor, proposed: Tensor) -> Tensor:
        if self.forward is None:
            return proposed
        return obs + self.forward(torch.cat((obs, self.action(obs, proposed)), 1))

    def losses(self, b: D3GBatch, row: int) -> dict[str, Tensor]:
        obs, action, next_obs = b.obs[row], b.action[row], b.next_obs[row]
        with torch.no_grad():
            reached = self.reach(next_obs, next_obs + self.proposal_target(next_obs))
            pair = torch.cat((next_obs, reached), 1)
            least = torch.min(self.targets[0](pair), self.targets[1](pair))[:, 0]
            target = b.reward[row] + self.config.gamma * (1 - b.terminated[row]) * least
        mse = nn.functional.mse_loss
        pair = torch.cat((obs, next_obs), 1)
        losses = {
            "critic": sum(mse(critic(pair)[:, 0], target) for critic in self.critics),
            "inverse_dynamics": mse(self.action(obs, next_obs), action),
        }
        if self.forward is not None:
            step = self.forward(torch.cat((obs, action), 1))
            losses["forward_model"] = mse(step, next_obs - obs)
        proposed = obs + self.proposal(obs)
        reached = self.reach(obs, proposed)
        value = self.critics[0](torch.cat((obs, reached), 1)).mean()
        losses["proposal"] = self.config.cycle_coef * mse(proposed, reached) - value
        return losses  # type: ignore[return-value]

    def gradient(self, name: str, loss: Tensor) -> list[Tensor]:
        """Of each weight and bias, the twins' one after the other."""
        modules: dict[str, Any] = {
            "critic": self.critics,
            "inverse_dynamics": [self.inverse],
            "forward_model": [self.forward],
            "proposal": [self.proposal],
        }
        parameters = [p for part in modules[name] for p in part.parameters()]
        return list(torch.autograd.grad(loss, parameters))


@pytest.mark.parametrize("cycle", [True, False])
@pytest.mark.parametrize("discrete", [True, False])
def test_losses_and_gradients_agree_with_plain_modules(cycle: bool, discrete: bool) -> None:
    config = D3GConfig(hidden_dims=(16, 16), cycle=cycle, cycle_coef=3.0)
    algorithm = D3G(config, OBS_DIM, ACTION_DIM, discrete)
    state = initial_state(algorithm, [0, 1])
    for start in range(1, 8):  # targets and averages move away from their sources
        apply_update(algorithm, state, batch(2, stream=start, discrete=discrete), start, 1e-2)
    drawn = batch(2, stream=99, discrete=discrete)
    names = {"critic", "inverse_dynamics", "proposal"} | ({"forward_model"} if cycle else set())
    assert {rule.network for rule in algorithm.updates} == names
    for row in range(2):
        plain = Plain(state, row, config, discrete)
        expected = plain.losses(drawn, row)
        for rule in algorithm.updates:
            loss, _ = rule.loss(D3GParameters(**state.networks), drawn)
            torch.testing.assert_close(loss[row], expected[rule.network])
            gradient, _ = eager_gradients(algorithm, state.networks, drawn)(rule)
            shape = state.networks[rule.network].shape
            flat = gradient[row].flatten(0, -2) if gradient.dim() == 3 else gradient[row : row + 1]
            theirs = plain.gradient(rule.network, expected[rule.network])
            ours = []
            for member in flat:
                weights, biases = shape.views(member.unsqueeze(0))
                for weight, bias in zip(weights, biases, strict=True):
                    ours += [weight[0].T, bias[0, 0]]
            for left, right in zip(ours, theirs, strict=True):
                torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-6)


def all_trainable(state: TrainState) -> D3GParameters:
    return D3GParameters(**{n: network.trainable() for n, network in state.networks.items()})


@pytest.mark.parametrize("network", ["critic", "inverse_dynamics", "forward_model"])
def test_a_loss_that_learns_from_data_moves_its_own_network_alone(network: str) -> None:
    algorithm = D3G(CONFIG, OBS_DIM, ACTION_DIM)
    networks = all_trainable(initial_state(algorithm, [0]))
    (rule,) = [rule for rule in algorithm.updates if rule.network == network]
    loss, _ = rule.loss(networks, batch())
    leaves = {name: net.flat for name, net in networks._asdict().items() if net is not None}
    grads = torch.autograd.grad(loss.sum(), list(leaves.values()), allow_unused=True)
    moved = {n for n, g in zip(leaves, grads, strict=True) if g is not None and bool(g.any())}
    assert moved == {network}


def test_hand_computed_target_goes_through_inverse_and_forward_model() -> None:
    """τ' = 0.5, I = tanh(0.5), f(s, a) = 4a, Q'_i(s, s') = c_i · relu(s'): y follows by hand."""
    algorithm = D3G(D3GConfig(hidden_dims=(4,), gamma=0.9), 1, 1)
    state = initial_state(algorithm, [0])
    for network in state.networks.values():
        network.flat.zero_()
    state.networks["proposal_target"].biases[-1].fill_(0.5)
    state.networks["inverse_dynamics"].biases[-1].fill_(0.5)
    forward, critic = state.networks["forward_model"], state.networks["critic_target"]
    forward.weights[0][0, 1, 0] = 1.0  # the action
    forward.weights[1][0, 0, 0] = 4.0
    for member, slope in enumerate((3.0, 2.0)):
        critic.weights[0][member, 1, 0] = 1.0  # s'
        critic.weights[1][member, 0, 0] = slope
    one = torch.ones(1, 1)
    drawn = D3GBatch(
        torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), torch.ones(1, 1, 1), 2 * one, 0 * one, one, one
    )
    target = algorithm.td_target(D3GParameters(**state.networks), drawn)
    reached = 1 + 4 * float(torch.tensor(0.5).tanh())
    assert float(target) == pytest.approx(2 + 0.9 * 2.0 * reached)


def test_a_termination_does_not_bootstrap_and_a_time_limit_does() -> None:
    algorithm = D3G(CONFIG, OBS_DIM, ACTION_DIM)
    networks = D3GParameters(**initial_state(algorithm, [0]).networks)
    drawn = batch()
    ended = drawn._replace(terminated=torch.ones_like(drawn.terminated))
    going = drawn._replace(terminated=torch.zeros_like(drawn.terminated))
    torch.testing.assert_close(algorithm.td_target(networks, ended), drawn.reward)
    assert not torch.allclose(algorithm.td_target(networks, going), drawn.reward)


def test_targets_are_clamped_per_seed_if_asked_to() -> None:
    low, high = torch.tensor([[-1.0], [0.5]]), torch.tensor([[0.2], [0.6]])
    drawn = batch(2)._replace(target_low=low, target_high=high)
    algorithm = D3G(D3GConfig(hidden_dims=(16, 16), clamp_targets=True), OBS_DIM, ACTION_DIM)
    networks = D3GParameters(**initial_state(algorithm, [0, 1]).networks)
    targets = algorithm.td_target(networks, drawn)
    assert bool((targets >= low).all() and (targets <= high).all())
    assert targets[0].min() < 0.5, "the second seed's bounds must not reach the first"
    free = D3G(D3GConfig(hidden_dims=(16, 16)), OBS_DIM, ACTION_DIM).td_target(networks, drawn)
    assert not bool((free >= low).all() and (free <= high).all())


def test_cross_entropy_of_discrete_actions() -> None:
    algorithm = D3G(
        D3GConfig(hidden_dims=(16,), discrete_loss="cross_entropy"), OBS_DIM, ACTION_DIM, True
    )
    state, drawn = initial_state(algorithm, [0]), batch(discrete=True)
    loss, _ = algorithm.inverse_loss(D3GParameters(**state.networks), drawn)
    logits = module(state.networks["inverse_dynamics"], 0)(
        torch.cat((drawn.obs[0], drawn.next_obs[0]), 1)
    )
    expected = nn.functional.cross_entropy(logits, drawn.action[0].argmax(1))
    torch.testing.assert_close(loss[0], expected)


def test_step_inputs_are_the_step_in_units_of_its_spread() -> None:
    spread = torch.tensor([[[0.5, 2.0, 4.0]]])
    algorithm = D3G(
        D3GConfig(hidden_dims=(16,), step_inputs=True), OBS_DIM, ACTION_DIM, step_scale=spread
    )
    state, drawn = initial_state(algorithm, [0]), batch()
    ours = algorithm.inverse(D3GParameters(**state.networks), drawn.obs, drawn.next_obs)
    step = (drawn.next_obs - drawn.obs) / spread
    theirs = module(state.networks["inverse_dynamics"], 0)(torch.cat((drawn.obs, step), -1)[0])
    torch.testing.assert_close(ours[0], theirs.tanh())


def test_updates_of_the_dynamics_alone_leave_values_and_proposals_as_they_are() -> None:
    algorithm = D3G(CONFIG, OBS_DIM, ACTION_DIM, only_dynamics=True)
    state = initial_state(algorithm, [0])
    before = {name: network.flat.clone() for name, network in state.networks.items()}
    for update in range(1, 5):
        apply_update(algorithm, state, batch(stream=update), update, 1e-3)
    changed = {n for n, net in state.networks.items() if not torch.equal(net.flat, before[n])}
    assert changed == {"inverse_dynamics", "forward_model", "inverse_average"}


@pytest.mark.parametrize("discrete", [True, False])
def test_compiled_equals_eager(discrete: bool, capsys: pytest.CaptureFixture[str]) -> None:
    config = D3GConfig(hidden_dims=(16, 16), clamp_targets=True, discrete_loss="cross_entropy")
    algorithm = D3G(config, OBS_DIM, ACTION_DIM, discrete)
    eager, compiled = (initial_state(algorithm, [0, 1]) for _ in range(2))
    for update in range(1, 11):
        drawn = batch(2, stream=update, discrete=discrete)
        apply_update(algorithm, eager, drawn, update, 1e-3)
        apply_update(algorithm, compiled, drawn, update, 1e-3, recorded_gradients)
    for name, network in eager.networks.items():
        assert torch.equal(network.flat, compiled.networks[name].flat), name
    assert capsys.readouterr().err == "", "a loss was not recorded"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("gamma", 1.0),
        ("cycle_coef", -1.0),
        ("batch_size", 0),
        ("batch_size", 6),
        ("polyak_step_size", 0.0),
        ("inverse_average_step_size", 1.5),
        ("discrete_loss", "hinge"),
    ],
)
def test_settings_that_cannot_be_trained_with_are_refused(setting: str, value: Any) -> None:
    with pytest.raises(UserError, match=setting):
        D3GConfig(**{setting: value})
