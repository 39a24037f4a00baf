"""I(s, s') that learns from recorded steps: its losses, its bits, and what they are good for."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from qss_offline.algorithms.inverse_dynamics import InverseDynamicsConfig, inverse_action
from qss_offline.algorithms.networks import Network
from qss_offline.algorithms.semi_supervised_inverse import (
    SemiSupervisedBatch,
    SemiSupervisedInverseDynamics,
    affine_step,
)
from qss_offline.data.transitions import Transitions
from qss_offline.engine.loop import Mode, fit
from qss_offline.engine.sampler import UniformSampler
from qss_offline.engine.state import TrainState, initial_state
from qss_offline.errors import UserError
from qss_offline.evaluation.actions import ActionBox
from qss_offline.evaluation.policies import ObservationScale
from qss_offline.runs.inverse_config import InverseFitConfig
from qss_offline.training.bco import BCOTrainer
from qss_offline.training.interaction import take_steps
from qss_offline.training.inverse.fitting import InverseFitter
from qss_offline.training.inverse.models import InverseModels
from tests.evaluation.test_policies import SCALE, PointMass, fits_alike, to_origin_proposal
from tests.training.test_bco import CLONING, expert_recording

MODEL = InverseDynamicsConfig((16, 16), 32, 3e-3, step_inputs=True, recorded_coef=2.0)
CONFIG = InverseFitConfig(2, 30, 50, model=MODEL)


class Gear(gym.Env[NDArray[np.float32], NDArray[np.float32]]):
    """x' = x + gear(x) a / 10, from x near 0, which five steps don't leave far behind."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    @staticmethod
    def gear(x: Any) -> Any:
        """From 1 at x = 0 to 0.2 at x = 2."""
        return 0.6 + 0.4 * np.cos(np.pi * x / 2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x, self.t = float(self.np_random.uniform(-0.1, 0.1)), 0
        return np.array([self.x], np.float32), {}

    def step(self, action: NDArray[np.float32]) -> Any:
        self.x += float(self.gear(self.x) * action[0]) / 10
        self.t += 1
        return np.array([self.x], np.float32), 0.0, False, self.t >= 5, {}


def gear_recording(rows: int = 4_000) -> tuple[Transitions, NDArray[np.float32]]:
    """Steps of the gear from everywhere, without their actions, and these."""
    rng = np.random.default_rng(0)
    obs = rng.uniform(-0.5, 2.2, (rows, 1)).astype(np.float32)
    actions = rng.uniform(-1, 1, (rows, 1)).astype(np.float32)
    ends = np.ones(rows, bool)
    recording = Transitions(
        observations=obs,
        next_observations=(obs + Gear.gear(obs) * actions / 10).astype(np.float32),
        rewards=np.zeros(rows, np.float32),
        terminations=np.zeros(rows, bool),
        truncations=ends,
        episodes=np.arange(rows),
    )
    return recording, actions


def batch(seeds: int) -> SemiSupervisedBatch:
    generator = torch.Generator().manual_seed(5)

    def drawn(dim: int) -> torch.Tensor:
        return torch.randn(seeds, 6, dim, generator=generator)

    return SemiSupervisedBatch(drawn(3), drawn(3), drawn(2), drawn(3), drawn(3), drawn(2))


def algorithm(seeds: int) -> SemiSupervisedInverseDynamics:
    scale = 0.5 + torch.rand(seeds, 1, 3, generator=torch.Generator().manual_seed(6))
    return SemiSupervisedInverseDynamics(MODEL, 3, 2, scale)


def plain(network: Network, index: int, inputs: torch.Tensor) -> torch.Tensor:
    """One seed's network in torch's own operations."""
    for layer, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        inputs = inputs.relu() if layer else inputs
        inputs = inputs @ weight[index] + bias[index]
    return inputs


def test_losses_are_the_page_s() -> None:
    learner, drawn = algorithm(2), batch(2)
    state = initial_state(learner, (0, 1))
    networks = learner.parameters_type(**state.networks)
    forward, _ = learner.forward_loss(networks, drawn)
    inverse, _ = learner.inverse_and_code_loss(networks, drawn)
    for seed in range(2):
        spread = learner._spread[seed]
        obs, next_obs, action, recorded, recorded_next, noise = (c[seed] for c in drawn)

        def reached(s: torch.Tensor, a: torch.Tensor, seed: int = seed) -> torch.Tensor:
            terms = plain(networks.forward_dynamics, seed, s).reshape(6, 3, 3)
            return torch.stack([t[:, 0] + t[:, 1:] @ one for t, one in zip(terms, a, strict=True)])

        def said(
            s: torch.Tensor, n: torch.Tensor, seed: int = seed, spread: torch.Tensor = spread
        ) -> torch.Tensor:
            return plain(
                networks.inverse_dynamics, seed, torch.cat((s, (n - s) / spread), 1)
            ).tanh()

        online = (reached(obs, action) - (next_obs - obs) / spread).square().mean()
        code = said(recorded, recorded_next)
        error = reached(recorded, code + noise) - (recorded_next - recorded) / spread
        expected = 2.0 * error.square().mean()
        torch.testing.assert_close(forward[seed], online + expected)
        labels = (said(obs, next_obs) - action).square().mean()
        torch.testing.assert_close(inverse[seed], labels + expected)


def test_the_forward_model_is_affine_in_the_action() -> None:
    learner, drawn = algorithm(1), batch(1)
    network = initial_state(learner, (0,)).networks["forward_dynamics"]
    first, second = drawn.action, drawn.code_noise
    half = affine_step(network, drawn.obs, (first + second) / 2)
    mean = (affine_step(network, drawn.obs, first) + affine_step(network, drawn.obs, second)) / 2
    torch.testing.assert_close(half, mean)
    assert not torch.allclose(half, affine_step(network, drawn.obs, first), atol=1e-3)


def test_recorded_gives_the_bits_of_eager(capsys: pytest.CaptureFixture[str]) -> None:
    def trained(mode: Mode) -> TrainState:
        learner = algorithm(2)
        state = initial_state(learner, (0, 1))
        table = tuple(column.flatten(0, 1) for column in batch(2))
        sampler = UniformSampler([table, table], 8, SemiSupervisedBatch)
        fit(learner, state, sampler, 30, 1e-3, mode=mode)
        return state

    eager, recorded = trained("eager"), trained("recorded")
    assert eager.networks.keys() == recorded.networks.keys()
    for name, network in eager.networks.items():
        assert torch.equal(network.flat, recorded.networks[name].flat), name
    assert capsys.readouterr().err == "", "a loss was not recorded"


@pytest.mark.parametrize("known", [False, True])
def test_seeds_fit_alike_alone_in_company_and_after_an_interruption(known: bool) -> None:
    recording = expert_recording(5)
    steps = None
    if known:
        box = ActionBox.of(PointMass.action_space)
        steps = take_steps(PointMass(), 200, box, None, 0.0, np.random.default_rng(1))
    config = replace(CONFIG, known_updates=100)

    def fitter(seeds: tuple[int, ...]) -> InverseFitter:
        proposals = [to_origin_proposal() for _ in seeds]
        scales = [SCALE] * len(seeds)
        return InverseFitter(
            seeds, proposals, scales, PointMass, config, steps, [recording] * len(seeds)
        )

    fits_alike(fitter)


@pytest.mark.parametrize(("obs_dim", "action_dim"), [(11, 3), (9, 1)])
def test_a_seed_alone_has_the_bits_of_the_same_seed_in_a_stack(
    obs_dim: int, action_dim: int
) -> None:
    generator = torch.Generator().manual_seed(7)
    dims = (obs_dim, obs_dim, action_dim) * 2
    table = tuple(torch.randn(40, dim, generator=generator) for dim in dims)

    def trained(seeds: tuple[int, ...]) -> TrainState:
        scale = torch.full((len(seeds), 1, obs_dim), 0.5)
        learner = SemiSupervisedInverseDynamics(MODEL, obs_dim, action_dim, scale)
        state = initial_state(learner, seeds)
        sampler = UniformSampler([table] * len(seeds), 32, SemiSupervisedBatch)
        fit(learner, state, sampler, 20, 1e-3, mode="recorded")
        return state

    alone, together = trained((4,)), trained((9, 4, 2))
    for name, network in alone.networks.items():
        assert torch.equal(network.flat[0], together.networks[name].flat[1]), name


def test_recorded_steps_teach_what_online_steps_never_show() -> None:
    """A hundred online steps stay below x = 0.6; at x near 2 the same action does a fifth."""
    recording, actions = gear_recording()
    spread = torch.tensor([float(np.std(recording.next_observations - recording.observations))])
    scale = ObservationScale(torch.tensor([0.8]), torch.tensor([0.8]), spread / 0.8)
    far = recording.observations[:, 0] > 1.6

    def error(recorded_coef: float) -> float:
        model = replace(MODEL, hidden_dims=(32, 32), recorded_coef=recorded_coef)
        config = InverseFitConfig(1, 100, 2_000, model=model)
        seeds = (0, 1, 2, 3)
        recordings, scales = [recording] * len(seeds), [scale] * len(seeds)
        models = InverseModels(seeds, scales, Gear, config, recordings=recordings)
        models.fit_round(lambda index: None)
        for steps in models.steps:
            assert steps is not None and steps.obs.max() < 0.6
        obs, next_obs = (
            scale.apply(torch.from_numpy(column[far])).unsqueeze(0)
            for column in (recording.observations, recording.next_observations)
        )
        assert scale.step_std is not None
        errors = []
        for index in range(len(seeds)):
            said = inverse_action(models.average(index), obs, next_obs, scale.step_std)
            errors.append(np.square(said.squeeze(0).numpy() - actions[far]).mean())
        return float(np.mean(errors))

    without, with_recording = error(0.0), error(1.0)
    assert with_recording < 0.6 * without, (without, with_recording)


def test_bco_can_learn_so_too() -> None:
    recording = expert_recording(5)
    bco = BCOTrainer((0,), [recording], [SCALE], [SCALE], PointMass, CONFIG, CLONING, 50)
    bco.run_round()
    expected = (recording.next_observations - recording.observations) * 5
    assert np.corrcoef(bco.labels(0)[:, 0], expected[:, 0])[0, 1] > 0.5


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: replace(MODEL, recorded_coef=-1.0), "recorded_coef must be at least 0"),
        (lambda: replace(MODEL, form="bilinear"), "recorded_coef is for a network"),
        (lambda: replace(MODEL, step_inputs=False), "step_inputs must be True"),
        (lambda: InverseModels((0,), [SCALE], PointMass, CONFIG), "needs the recording"),
        (
            lambda: InverseModels((0,), [SCALE], PointMass, CONFIG, recordings=[]),
            "each seed needs a recording with 1 numbers",
        ),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make()
