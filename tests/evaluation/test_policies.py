"""The policy as a callable, its file, and the fitting of its inverse dynamics."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from qss_offline.algorithms.inverse_dynamics import InverseDynamicsConfig
from qss_offline.algorithms.networks import MLPShape, Network
from qss_offline.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from qss_offline.errors import UserError
from qss_offline.evaluation.actions import ActionBox
from qss_offline.evaluation.episodes import LONGEST_EPISODE, evaluate
from qss_offline.evaluation.policies import (
    ClonedPolicy,
    DiscretePolicy,
    ObservationScale,
    Policy,
)
from qss_offline.evaluation.policy_files import load_policy
from qss_offline.runs.inverse_config import InverseFitConfig
from qss_offline.training.interaction import take_steps
from qss_offline.training.inverse.fitting import InverseFitter
from tests.evaluation.some_policies import ONE_NUMBER, POLICIES, observations

NAN = float("nan")
BOX = ActionBox(np.array([-3.0, 0.0], np.float32), np.array([3.0, 10.0], np.float32))


class PointMass(gym.Env[NDArray[np.float32], NDArray[np.float32]]):
    """x' = x + a / 10, reward −|x'|, 20 steps: the right action is −10 x, clipped."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gym.spaces.Box(-2.0, 2.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x = float(self.np_random.uniform(-0.5, 0.5))
        self.t = 0
        return np.array([self.x], np.float32), {}

    def step(self, action: NDArray[np.float32]) -> Any:
        self.x += float(action[0]) / 10
        self.t += 1
        return np.array([self.x], np.float32), -abs(self.x), False, self.t >= 20, {}


def constant_step_proposal(step: float, obs_dim: int = 1) -> Network:
    network = Network(MLPShape((obs_dim, 4, obs_dim)), torch.zeros(1, 64))
    network.biases[-1].fill_(step)
    return network


def to_origin_proposal() -> Network:
    """τ(s) = −s, exactly: −relu(s) + relu(−s)."""
    network = Network(MLPShape((1, 2, 1)), torch.zeros(1, 64))
    network.weights[0].copy_(torch.tensor([[[1.0, -1.0]]]))
    network.weights[1].copy_(torch.tensor([[[-1.0], [1.0]]]))
    return network


SCALE = ObservationScale(torch.tensor([0.0]), torch.tensor([1.0]), torch.tensor([0.1]))


def fitter(seeds: tuple[int, ...], rounds: int = 2) -> InverseFitter:
    config = InverseFitConfig(
        rounds=rounds,
        steps_per_round=200,
        updates_per_round=300,
        model=InverseDynamicsConfig((16, 16), 32, 3e-3, step_inputs=True),
    )
    proposals = [to_origin_proposal() for _ in seeds]
    return InverseFitter(seeds, proposals, [SCALE] * len(seeds), PointMass, config)


def test_action_box_maps_both_ways() -> None:
    unit = np.array([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.5]])
    mapped = BOX.from_unit(unit)
    np.testing.assert_allclose(mapped, [[-3, 0], [3, 10], [0, 7.5]])
    np.testing.assert_allclose(BOX.to_unit(mapped), unit, atol=1e-6)
    assert BOX.from_unit(np.array([9.0, -9.0])).tolist() == [3.0, 0.0]


def test_take_steps_takes_exactly_what_is_stated_and_records_true_next_observations() -> None:
    box = ActionBox(np.array([-2.0], np.float32), np.array([2.0], np.float32))
    steps = take_steps(PointMass(), 53, box, None, 0.1, np.random.default_rng(0))
    assert len(steps) == 53
    np.testing.assert_allclose(steps.next_obs - steps.obs, steps.actions * 2.0 / 10, atol=1e-6)


def test_the_fitted_policy_reaches_what_the_proposal_proposes() -> None:
    fitted = fitter((0,))
    for _ in range(2):
        fitted.run_round()
    policy = fitted.policy(0)
    for x in (-0.15, -0.05, 0.1):
        assert policy(np.array([x]))[0] == pytest.approx(-10 * x, abs=0.3)
    assert policy(np.array([[0.1], [-0.1]])).shape == (2, 1)


def test_the_first_round_is_random_and_rounds_are_counted() -> None:
    fitted = fitter((0,))
    assert fitted.rounds_done == 0
    fitted.run_round()
    assert fitted.rounds_done == 1
    steps = fitted.steps[0]
    assert steps is not None
    assert len(steps) == 200
    assert abs(float(np.mean(steps.actions))) < 0.15
    assert float(np.std(steps.actions)) == pytest.approx(1 / np.sqrt(3), abs=0.08)


def fits_alike(fitter: Callable[[tuple[int, ...]], InverseFitter]) -> None:
    """Two rounds of seed 3 give the same policy alone, beside seed 7, and resumed."""
    together, alone, resumed, interrupted = (fitter(s) for s in ((7, 3), (3,), (3,), (3,)))
    for _ in range(2):
        together.run_round()
        alone.run_round()
    interrupted.run_round()
    resumed.restore([interrupted.checkpoint(0, {})])
    resumed.run_round()
    obs = np.linspace(-0.5, 0.5, 11)[:, None]
    expected = alone.policy(0)(obs)
    np.testing.assert_array_equal(together.policy(1)(obs), expected)
    np.testing.assert_array_equal(resumed.policy(0)(obs), expected)


def test_a_seed_fits_alike_alone_in_company_and_after_an_interruption() -> None:
    fits_alike(fitter)


def test_policy_files_round_trip_and_damage_is_told(tmp_path: Path) -> None:
    policy = Policy(
        constant_step_proposal(0.3),
        Network(
            MLPShape((2, 4, 2)), torch.randn(1, 64, generator=torch.Generator().manual_seed(0))
        ),
        SCALE,
        True,
        BOX,
    )
    path = tmp_path / "policy.safetensors"
    policy.save(path, "PointMass-v0")
    loaded = load_policy(path)
    obs = np.linspace(-1, 1, 7)[:, None]
    assert loaded.env_id == "PointMass-v0"
    np.testing.assert_array_equal(loaded(obs), policy(obs))
    np.testing.assert_allclose(loaded.propose(obs), obs + 0.3, atol=1e-6)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError):
        load_policy(path)


def test_evaluation_keeps_every_return_and_each_episode_has_its_own_stream() -> None:
    def to_origin(obs: NDArray[Any]) -> NDArray[Any]:
        return np.clip(-10 * obs, -2, 2)

    def make(_: str) -> PointMass:
        return PointMass()

    ten = evaluate(to_origin, "PointMass-v0", 10, seed=1, make=make)
    assert ten.lengths == (20,) * 10
    assert ten.mean == pytest.approx(np.mean(ten.returns))
    assert len(set(ten.returns)) > 5
    assert evaluate(to_origin, "PointMass-v0", 3, seed=1, make=make).returns == ten.returns[:3]


@given(
    st.floats(-100, 100),
    st.floats(0.01, 100),
    st.sampled_from([np.float32, np.float64]),
)
def test_actions_lie_in_boxes_of_any_precision(low: float, width: float, dtype: Any) -> None:
    """Bounds such as 0.1 have no float32 of their own, and what is nearest may lie beyond."""
    space = gym.spaces.Box(np.array([low], dtype), np.array([low + width], dtype), dtype=dtype)
    box = ActionBox.of(space)
    for unit in (-1.0, 0.0, 0.3, 1.0):
        assert space.contains(box.from_unit(np.array([unit])).astype(dtype)), unit


def test_returns_are_discounted_and_first_observations_kept() -> None:
    def actions(obs: Any) -> Any:
        return np.zeros((len(obs), 1), np.float32)

    found = evaluate(actions, "InvertedPendulum-v5", 3, seed=2, gamma=0.9)
    assert found.starts.shape == (3, 4)
    for steps, worth in zip(found.returns, found.discounted, strict=True):
        assert worth == pytest.approx((1 - 0.9**steps) / 0.1)
    plain = evaluate(actions, "InvertedPendulum-v5", 3, seed=2)
    assert plain.discounted == plain.returns == found.returns


def test_what_follows_a_time_limit_is_worth_something_too() -> None:
    """Values bootstrap through it; so does what they are compared with."""

    def still(obs: Any) -> Any:
        return np.zeros((len(obs), 2), np.float32)

    short = evaluate(still, "Reacher-v5", 3, seed=4, gamma=0.95)
    long = evaluate(still, "Reacher-v5?max_episode_steps=300", 3, seed=4, gamma=0.95)
    assert short.lengths == (50, 50, 50) and long.lengths == (300, 300, 300)
    np.testing.assert_allclose(short.discounted, long.discounted, rtol=0.011)
    without = evaluate(still, "Reacher-v5", 3, seed=4)
    assert without.returns == short.returns == without.discounted


def test_of_an_environment_that_cuts_its_own_episodes_nobody_knows_what_would_follow() -> None:
    class Strict(gym.Env[Any, Any]):
        observation_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
        action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            super().reset(seed=seed)
            self.left = 5
            return np.zeros(1, np.float32), {}

        def step(self, action: Any) -> Any:
            assert self.left, "nobody acts after the end"
            self.left -= 1
            return np.zeros(1, np.float32), 1.0, False, self.left == 0, {}

    def still(obs: Any) -> Any:
        return np.zeros((len(obs), 1), np.float32)

    found = evaluate(still, "Strict-v0", 2, make=lambda _: Strict(), gamma=0.9)
    assert found.lengths == (5, 5)
    assert np.isnan(found.discounted).all() and found.worth is None
    soon = evaluate(still, "Strict-v0", 2, make=lambda _: Strict(), gamma=0.3)
    # What would follow after 5 steps is less than 1% of it.
    assert soon.discounted == pytest.approx(((1 - 0.3**5) / 0.7,) * 2)
    assert soon.worth == pytest.approx(soon.discounted[0])


def test_an_environment_without_an_end_is_evaluated_for_a_stated_number_of_steps(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Endless(PointMass):
        def step(self, action: NDArray[np.float32]) -> Any:
            obs, reward, *_ = super().step(action)
            return obs, reward, False, False, {}

    def limited(_: str) -> gym.Env[Any, Any]:
        env = gym.wrappers.TimeLimit(Endless(), LONGEST_EPISODE + 5)
        env.unwrapped.spec = gym.envs.registration.EnvSpec("Limited-v0", max_episode_steps=1)
        return env

    def still(obs: NDArray[Any]) -> NDArray[Any]:
        return np.zeros((len(obs), 1), np.float32)

    for _ in range(2):
        assert evaluate(still, "Endless-v0", 2, make=lambda _: Endless()).lengths == (10_000,) * 2
    warned = capsys.readouterr().err
    assert warned.count("Endless-v0 has no time limit") == 1 and "10,000 steps" in warned
    assert evaluate(still, "Limited-v0", 1, make=limited).lengths == (LONGEST_EPISODE + 5,)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("setting", ["rounds", "steps_per_round", "updates_per_round"])
def test_a_budget_that_cannot_be_spent_is_refused(setting: str) -> None:
    with pytest.raises(UserError, match=setting):
        InverseFitConfig(**{setting: 0})


def test_a_policy_that_diverged_is_neither_written_nor_read(tmp_path: Path) -> None:
    shape = MLPShape((2, 4, 1))
    network = Network(shape, torch.zeros(1, sum(shape.sizes)))
    scale = ObservationScale(torch.zeros(2), torch.ones(2))
    box = ActionBox(-np.ones(1, np.float32), np.ones(1, np.float32))
    path = tmp_path / "policy.safetensors"
    ClonedPolicy(network, scale, box).save(path, "Any-v0")
    checkpoint = load_checkpoint(path)
    checkpoint.tensors["policy"][0, 3] = float("nan")
    save_checkpoint(tmp_path / "nan.safetensors", checkpoint)
    with pytest.raises(UserError, match="its policy is not finite: it diverged"):
        load_policy(tmp_path / "nan.safetensors")
    network.flat[0, 0] = float("inf")
    with pytest.raises(UserError, match="diverged: its policy is not finite; take a smaller"):
        ClonedPolicy(network, scale, box).save(tmp_path / "inf.safetensors", "Any-v0")
    assert not (tmp_path / "inf.safetensors").exists()


def test_a_policy_that_diverged_goes_on_where_it_led() -> None:
    """A run whose policy diverged ends with that, not with the observations that came of it."""
    policy = copy.copy(POLICIES["cloned"])
    assert isinstance(policy, ClonedPolicy)
    policy.policy = Network(policy.policy.shape, torch.full_like(policy.policy.flat, NAN))
    assert np.isnan(policy(np.full(4, np.nan))).all()


def test_what_is_no_policy_is_not_to_be_deleted(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder; give a file"):
        load_policy(tmp_path)
    path = tmp_path / "expert.safetensors"
    path.write_bytes(b"not a policy")
    with pytest.raises(UserError, match="no readable checkpoint or policy") as refused:
        load_policy(path)
    assert "delete" not in str(refused.value)
    path = tmp_path / "seeds" / "0" / "training.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"cut")
    with pytest.raises(UserError, match="delete it to start that seed anew"):
        load_checkpoint(path)


@pytest.mark.parametrize("kind", POLICIES)
def test_a_policy_of_any_kind_is_read_back_bit_for_bit(kind: str, tmp_path: Path) -> None:
    policy, path = POLICIES[kind], tmp_path / "policy.safetensors"
    policy.save(str(path))
    loaded = load_policy(str(path))
    assert type(loaded) is type(policy) and repr(loaded) == repr(policy).replace("my_env.py:", "")
    obs = observations(policy, 9)
    np.testing.assert_array_equal(loaded(obs), policy(obs))
    if isinstance(policy, Policy):
        assert isinstance(loaded, Policy)
        np.testing.assert_array_equal(loaded.propose(obs), policy.propose(obs))


@pytest.mark.parametrize("kind", POLICIES)
def test_one_observation_is_a_batch_of_one(kind: str) -> None:
    policy = POLICIES[kind]
    obs = observations(policy, 3)
    own = policy(obs)
    for actions, state in (
        policy.predict(obs),
        policy.predict(obs.astype(np.float64), None, np.zeros(3, bool), deterministic=False),
    ):
        np.testing.assert_array_equal(actions, own)
        assert state is None
    kept = (np.ones(2),)
    action, state = policy.predict(obs[1], kept)
    assert state is kept
    np.testing.assert_array_equal(action, policy(obs[1:2])[0])
    np.testing.assert_array_equal(policy(obs[1].tolist()), action)
    np.testing.assert_array_equal(policy(torch.from_numpy(obs[1]).requires_grad_()), action)
    if isinstance(policy, DiscretePolicy):
        assert action.shape == () and action.dtype == np.int64
        assert action == policy.logits(obs[1]).argmax() + policy.first_action
    else:
        assert action.shape == policy.action_box.low.shape and action.dtype == np.float32


def test_what_a_policy_proposes_is_in_the_units_of_its_environment() -> None:
    scale = ObservationScale.of([10.0, -5.0], [2.0, 0.5])
    inverse = Network(MLPShape((4, 4, 2)), torch.zeros(1, 64))
    policy = Policy(constant_step_proposal(0.5, 2), inverse, scale, False, BOX)
    np.testing.assert_allclose(policy.propose([1.0, 2.0]), [2.0, 2.25], rtol=1e-6)
    assert policy.propose(np.zeros((3, 2))).shape == (3, 2)


@pytest.mark.parametrize(
    ("obs", "said"),
    [
        (0.5, r"\(4,\) or \(n, 4\), not \(\)"),
        (np.zeros(3), r"not \(3,\)"),
        (np.zeros((2, 3)), r"not \(2, 3\)"),
        (np.zeros((2, 2, 4)), r"not \(2, 2, 4\)"),
        (np.zeros((84, 84, 3), np.uint8), r"not \(84, 84, 3\)"),
        ({"observation": np.zeros(4)}, "not a dict"),
        (([0.0] * 4, {}), "not a tuple: reset.. returns an observation and a dict, give the first"),
        ([[0.0] * 4, [0.0]], "not a list"),
        (None, "not a NoneType"),
        ("state", "not a str"),
        (np.zeros(4, complex), "not an array of complex128"),
        ([0.0, 0.0, NAN, 0.0], r"finite numbers, but number \[2\] is nan"),
        (np.array([[0.0] * 4, [0.0, 1e300, 0.0, 0.0]]), r"number \[1, 1\] is 1e\+300"),
    ],
    ids=str,
)
def test_what_is_no_observation_is_refused_in_one_line(obs: Any, said: str) -> None:
    policy = POLICIES["bilinear"]
    assert isinstance(policy, Policy)
    for ask in (policy, policy.predict, policy.propose):
        with pytest.raises(UserError, match=said) as refused:
            ask(obs)
        assert "\n" not in str(refused.value)


def test_a_policy_describes_itself_in_one_line() -> None:
    described = {kind: repr(policy) for kind, policy in POLICIES.items()}
    for part in ("Policy(", "'Arm-v0'", "obs_dim=4", "-3", "10", "[32, 32]"):
        assert part in described["network of steps"]
    assert "bilinear" in described["bilinear"]
    assert "-2 to 2" in described["discrete"] and "DiscretePolicy" in described["discrete"]
    assert "ClonedPolicy" in described["cloned"] and "low=-2, high=2" in described[ONE_NUMBER]
    hostile = copy.copy(POLICIES["cloned"])
    hostile.env_id = "\x1b[2J\n" * 100
    assert repr(hostile).isprintable() and len(repr(hostile)) < 300


def test_a_file_may_leave_its_environment_out(tmp_path: Path) -> None:
    policy, path = POLICIES[ONE_NUMBER], tmp_path / "policy.safetensors"
    policy.save(path)
    checkpoint = load_checkpoint(path)
    assert checkpoint.metadata["env_id"] is None
    left = {name: value for name, value in checkpoint.metadata.items() if name != "env_id"}
    save_checkpoint(path, Checkpoint(checkpoint.tensors, left))
    assert load_policy(path).env_id is None
