"""TD3+BC: its equations against an ordinary implementation, and what moves what."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from qss_offline.algorithms.networks import Network
from qss_offline.algorithms.td3_bc import TD3BC, TD3BCConfig, ValuedBatch
from qss_offline.engine.state import TrainState, initial_state
from qss_offline.engine.update import apply_update
from qss_offline.errors import UserError

OBS_DIM, ACTION_DIM = 3, 2
CONFIG = TD3BCConfig(hidden_dims=(16, 16), batch_size=32, gamma=0.9, polyak_step_size=0.1)


def batch(seeds: int = 1, size: int = 32, stream: int = 0) -> ValuedBatch:
    generator = torch.Generator().manual_seed(stream)
    obs, next_obs = (torch.randn(seeds, size, OBS_DIM, generator=generator) for _ in range(2))
    action = torch.rand(seeds, size, ACTION_DIM, generator=generator) * 2 - 1
    reward = torch.rand(seeds, size, generator=generator)
    terminated = (torch.rand(seeds, size, generator=generator) < 0.3).float()
    noise = torch.randn(seeds, size, ACTION_DIM, generator=generator)
    return ValuedBatch(obs, action, next_obs, reward, terminated, noise)


def plain(network: Network, row: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for weight, bias in zip(network.weights, network.biases, strict=True):
        layer = nn.Linear(weight.shape[1], weight.shape[2])
        with torch.no_grad():
            layer.weight.copy_(weight[row].T)
            layer.bias.copy_(bias[row, 0])
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class PlainTD3BC:
    """As its paper writes it, one seed, with torch's own modules and Adam."""

    def __init__(self, state: TrainState, row: int) -> None:
        critic = state.networks["critic"]
        self.critics = [plain(member, row) for member in critic.members]
        self.policy = plain(state.networks["policy"], row)
        self.old_critics, self.old_policy = deepcopy(self.critics), deepcopy(self.policy)
        parameters = [p for critic in self.critics for p in critic.parameters()]
        self.critic_adam = torch.optim.Adam(parameters, CONFIG.learning_rate)
        self.policy_adam = torch.optim.Adam(self.policy.parameters(), CONFIG.learning_rate)

    def update(self, number: int, drawn: ValuedBatch, row: int) -> None:
        obs, action, next_obs, reward, terminated, noise = (column[row] for column in drawn)
        with torch.no_grad():
            target_action = self.old_policy(next_obs).tanh() + noise.clamp(-0.5, 0.5)
            inputs = torch.cat((next_obs, target_action.clamp(-1, 1)), -1)
            least = torch.minimum(*(critic(inputs)[:, 0] for critic in self.old_critics))
            target = reward + CONFIG.gamma * (1 - terminated) * least
        both = torch.cat((obs, action), -1)
        loss = sum(((critic(both)[:, 0] - target) ** 2).mean() for critic in self.critics)
        self._step(self.critic_adam, loss)
        if number % CONFIG.policy_update_interval:
            return
        chosen = self.policy(obs).tanh()
        value = self.critics[0](torch.cat((obs, chosen), -1)).mean()
        weight = CONFIG.value_weight / self.critics[0](both).abs().mean().detach()
        self._step(self.policy_adam, ((chosen - action) ** 2).mean() - weight * value)
        for old, new in zip([*self.old_critics, self.old_policy], [*self.critics, self.policy],
                            strict=True):  # fmt: skip
            for before, after in zip(old.parameters(), new.parameters(), strict=True):
                before.data.lerp_(after.data, CONFIG.polyak_step_size)

    def _step(self, adam: torch.optim.Optimizer, loss: Tensor | int) -> None:
        assert isinstance(loss, Tensor)
        adam.zero_grad()
        loss.backward()
        adam.step()


def test_updates_agree_with_the_plain_implementation() -> None:
    algorithm = TD3BC(CONFIG, OBS_DIM, ACTION_DIM)
    state = initial_state(algorithm, [0, 1])
    plains = [PlainTD3BC(state, row) for row in range(2)]
    for update in range(1, 21):
        drawn = batch(seeds=2, stream=update)
        apply_update(algorithm, state, drawn, update, CONFIG.learning_rate)
        for row, one in enumerate(plains):
            one.update(update, drawn, row)
    obs = batch(stream=99).obs[0]
    for row, one in enumerate(plains):
        ours = plain(state.networks["policy"], row)(obs)
        torch.testing.assert_close(ours, one.policy(obs), rtol=1e-4, atol=1e-5)
        target = plain(state.networks["policy_target"], row)(obs)
        torch.testing.assert_close(target, one.old_policy(obs), rtol=1e-4, atol=1e-5)


def test_without_values_it_is_cloning() -> None:
    algorithm = TD3BC(TD3BCConfig((16, 16), 32, value_weight=0.0), OBS_DIM, ACTION_DIM)
    state = initial_state(algorithm, [0])
    parameters = algorithm.parameters_type(**state.networks)
    drawn = batch()
    loss, metrics = algorithm.policy_loss(parameters, drawn)
    torch.testing.assert_close(loss, metrics["cloning_error"])


@pytest.mark.parametrize("bad", [{"gamma": 1.0}, {"value_weight": -1.0}, {"batch_size": 33}])
def test_settings_that_cannot_be_trained_with_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(bad))):
        TD3BCConfig(**bad)  # type: ignore[arg-type]
