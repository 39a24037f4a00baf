"""Environments of one's own: what they mean is taken, what they can't mean is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from qss_offline.analysis.rollouts import roll_out
from qss_offline.data import DatasetSpec, collect, collect_with_policy, load_transitions
from qss_offline.data.checked_environment import CheckedEnv
from qss_offline.data.environments import check_acting, make_env
from qss_offline.errors import UserError
from qss_offline.evaluation.actions import ActionBox
from qss_offline.evaluation.episodes import evaluate
from qss_offline.training.interaction import take_steps

ID = "Track-v0"


class Track(gym.Env[Any, Any]):
    """A point on a track, which remembers what it truly showed.

    Args:
        observe: makes an observation of position and speed.
        reward: makes a reward of the true one.
    """

    observation_space: spaces.Space[Any] = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space: spaces.Space[Any] = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(
        self,
        observe: Callable[[NDArray[Any]], Any] = np.array,
        reward: Callable[[float], Any] = float,
        ends: Callable[[bool], Any] = bool,
        whole: bool = False,
    ) -> None:
        self.observe, self.reward, self.ends, self.whole = observe, reward, ends, whole
        self.shown: list[list[float]] = []
        self.told: list[Any] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.state = self.np_random.uniform(-1, 1, 2)
        if self.whole:
            self.state = np.round(self.state)
            return self._show(self.state.astype(int)), {}
        return self._show(self.state), {}

    def step(self, action: Any) -> Any:
        self.told.append(np.array(action))
        self.state = self.state + np.array([0.1 * self.state[1], 0.1 * float(action[0])])
        far = self.ends(bool(abs(self.state[0]) > 5))
        return self._show(self.state), self.reward(-abs(self.state[0])), far, self.ends(False), {}

    def _show(self, state: NDArray[Any]) -> Any:
        self.shown.append([float(one) for one in state])
        return self.observe(state)


made: list[Track] = []


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    made.clear()
    yield
    gym.registry.pop(ID, None)


def register(make: Callable[..., Any], limit: int | None = 20) -> str:
    def keep() -> Any:
        made.append(make())
        return made[-1]

    gym.register(ID, keep, max_episode_steps=limit)
    return ID


def into_one_array() -> Callable[[NDArray[Any]], Any]:
    own = np.zeros(2)

    def observe(state: NDArray[Any]) -> Any:
        own[:] = state
        return own

    return observe


TAKEN: dict[str, Callable[[], Track]] = {
    "arrays": Track,
    "lists": lambda: Track(lambda state: [float(one) for one in state]),
    "tensors": lambda: Track(torch.tensor),
    "its own array": lambda: Track(into_one_array()),
    "whole numbers first": lambda: Track(whole=True),
    "float32": lambda: Track(np.float32),
    "rewards in arrays": lambda: Track(reward=lambda r: np.array([r])),
    "ends in arrays": lambda: Track(ends=lambda e: np.array([e])),
}


def still(obs: NDArray[Any]) -> NDArray[np.float32]:
    return np.full((len(obs), 1), 0.5, np.float32)


@pytest.mark.parametrize("kind", sorted(TAKEN))
def test_whoever_acts_sees_what_the_environment_shows(kind: str) -> None:
    env_id = register(TAKEN[kind])
    seen: list[NDArray[Any]] = []

    def policy(obs: NDArray[Any]) -> NDArray[np.float32]:
        seen.append(obs[0].copy())
        return still(obs)

    result = evaluate(policy, env_id, 1)
    shown = np.array(made[-1].shown)
    np.testing.assert_allclose(seen, shown[:-1], atol=1e-6)
    assert result.returns[0] == pytest.approx(-np.abs(shown[1:, 0]).sum())

    trajectory = roll_out(still, env_id, 1, 30, 0).observations[0]
    np.testing.assert_allclose(trajectory, made[-1].shown, atol=1e-6)

    env = make_env(env_id)
    box, rng = ActionBox.of(env.action_space), np.random.default_rng(0)
    steps = take_steps(env, 15, box, lambda obs: still(obs[None])[0], 0.1, rng)
    np.testing.assert_allclose(steps.obs, made[-1].shown[:15], atol=1e-6)
    np.testing.assert_allclose(steps.next_obs, made[-1].shown[1:], atol=1e-6)

    recorded = collect(DatasetSpec(env_id, transitions=15, shards=1), 1)
    np.testing.assert_allclose(recorded.observations, made[-1].shown[:15], atol=1e-6)
    np.testing.assert_allclose(recorded.next_observations, made[-1].shown[1:], atol=1e-6)
    np.testing.assert_allclose(recorded.rewards, -np.abs(recorded.next_observations[:, 0]))


@given(
    values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5),
    dtype=st.sampled_from([np.float32, np.float64, np.int32, np.bool_]),
    declared=st.sampled_from([np.float32, np.float64]),
    listed=st.booleans(),
)
def test_an_observation_becomes_the_dtype_of_its_space(
    values: list[float], dtype: Any, declared: Any, listed: bool
) -> None:
    given_one = np.array(values).astype(dtype)

    class Constant(Track):
        observation_space = spaces.Box(-np.inf, np.inf, (len(values),), declared)

        def _show(self, state: NDArray[Any]) -> Any:
            return given_one.tolist() if listed else given_one

    env = CheckedEnv(Constant(), "it")
    for obs in (env.reset(seed=0)[0], env.step(np.zeros(1))[0]):
        assert obs.dtype == declared
        np.testing.assert_array_equal(obs, given_one.astype(declared))


class OldReset(Track):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=seed)[0]


class OldStep(Track):
    def step(self, action: Any) -> Any:
        obs, reward, ended, cut, info = super().step(action)
        return obs, reward, ended or cut, info


class NoSeed(Track):
    def reset(self) -> Any:  # type: ignore[override]
        return super().reset()


class Nothing(Track):
    def step(self, action: Any) -> Any:
        return None


class Late(Track):
    def step(self, action: Any) -> Any:
        if len(self.told) == 6:
            raise RuntimeError("the robot is\x1b[2J\nlost")
        return super().step(action)


class LateNaN(Track):
    def step(self, action: Any) -> Any:
        obs, reward, *rest = super().step(action)
        return (obs * np.nan if len(self.told) == 7 else obs), reward, *rest


REFUSED: dict[str, tuple[Callable[[], Track], str]] = {
    "reset of the old interface": (OldReset, "reset() returned an array"),
    "step of the old interface": (OldStep, "observation, reward, terminated, truncated, info"),
    "no seed": (NoSeed, "reset(self, *, seed=None, options=None)"),
    "nothing": (Nothing, "observation, reward, terminated, truncated, info"),
    "an exception": (Late, "step() raised RuntimeError: the robot is"),
    "NaN": (LateNaN, ", step 7 of an episode: number 0 of its observation is nan"),
    "infinity": (lambda: Track(lambda s: [s[0], np.inf]), "number 1 of its observation is inf"),
    "three numbers": (lambda: Track(lambda s: [*s, 0.0]), "of shape (3,), its observation_space"),
    "a column": (lambda: Track(lambda s: s[:, None]), "of shape (2, 1), its observation_space"),
    "unequal rows": (lambda: Track(lambda s: [[1.0], [1.0, 2.0]]), "no numbers"),
    "text": (lambda: Track(str), "no numbers"),
    "a reward of nothing": (lambda: Track(reward=lambda r: None), "a reward of None"),
    "a reward of NaN": (lambda: Track(reward=lambda r: np.nan), "its reward is nan"),
    "two rewards": (lambda: Track(reward=lambda r: np.ones(2)), "a reward of an array"),
    "two ends": (lambda: Track(ends=lambda e: np.ones(2, bool)), "expected a number, a bool"),
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_a_broken_environment_ends_in_one_line(kind: str) -> None:
    make, expected = REFUSED[kind]
    env_id = register(make)
    for use in (
        lambda: collect(DatasetSpec(env_id, transitions=15, shards=1), 1),
        lambda: evaluate(still, env_id, 1),
        lambda: collect_with_policy(env_id, lambda obs: np.ones(1), "mine/x", transitions=15),
    ):
        with pytest.raises(UserError) as caught:
            use()
        message = str(caught.value)
        assert expected in message and ID in message
        assert message.isprintable() and len(message) < 400


def test_what_can_not_be_closed_is_said_once(
    minari_root: object, in_process: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """A client that is made in `reset()` isn't there where only spaces were asked for."""

    class Client(Track):
        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            self.client = object()
            return super().reset(seed=seed)

        def close(self) -> None:
            del self.client

    env_id = register(Client)
    check_acting(env_id)
    collect(DatasetSpec(env_id, transitions=15, shards=1), 1)
    collect_with_policy(env_id, lambda obs: np.ones(1), "mine/x", transitions=15)
    evaluate(still, env_id, 1)
    check_acting(env_id)
    assert capsys.readouterr().err.count("close() raised AttributeError: ") == 1

    class Odd(Client):
        action_space = spaces.MultiBinary(3)

    with pytest.raises(UserError, match="its actions are"):
        check_acting(register(Odd))


LEGAL = {
    "Dict": spaces.Dict({"x": spaces.Box(-9, 9, (2,)), "on": spaces.Discrete(3)}),
    "Tuple": spaces.Tuple((spaces.Box(-9, 9, (1,)), spaces.Box(-9, 9, (2,)))),
    "matrix": spaces.Box(-9, 9, (2, 3)),
    "whole numbers": spaces.Box(-9, 9, (3,), np.int64),
    "switches": spaces.MultiBinary(3),
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(LEGAL))
@pytest.mark.usefixtures("in_process")
def test_observations_are_flattened_in_training_as_in_recording(
    kind: str, minari_root: object
) -> None:
    """What a recorder stores, an environment that is trained in shows, in the same order."""
    space = LEGAL[kind]
    space.seed(0)
    shown = [space.sample() for _ in range(16)]

    class Odd(Track):
        observation_space = space

        def _show(self, state: NDArray[Any]) -> Any:
            return shown[len(self.told)]

    env_id = register(Odd, 15)
    stored = collect_with_policy(env_id, lambda obs: np.ones(1), "mine/x", transitions=15)
    rows = load_transitions(stored.obs_id, notice=lambda line: None).transitions
    env = make_env(env_id)
    assert np.issubdtype(env.observation_space.dtype, np.floating)
    np.testing.assert_array_equal(env.reset()[0], rows.observations[0])
    for after in rows.next_observations:
        np.testing.assert_array_equal(env.step(np.zeros(1))[0], after)
        np.testing.assert_array_equal(after, spaces.flatten(space, shown[len(made[-1].told)]))


@pytest.mark.parametrize("kind", ["vector", *sorted(LEGAL)])
def test_what_acts_without_a_time_limit_goes_past_it(kind: str) -> None:
    space = LEGAL.get(kind, Track.observation_space)

    class Odd(Track):
        observation_space = space

        def _show(self, state: NDArray[Any]) -> Any:
            return space.sample()

    env_id = f"{register(Odd, 20)}?max_episode_steps=5"
    assert roll_out(still, env_id, 2, 12, 0).lengths.tolist() == [12, 12]
    env = make_env(env_id)
    env.reset()
    assert [env.step(np.zeros(1))[3] for _ in range(5)] == [False] * 4 + [True]


INFINITE = np.inf
UNBOUNDED = {
    "none": (-INFINITE, INFINITE),
    "one of two": (0.0, INFINITE),
    "the largest number": (-3.4e38, 3.4e38),
    "one of several": ([-1.0, -1.0], [1.0, INFINITE]),
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(UNBOUNDED))
def test_actions_without_bounds_are_refused_before_training(kind: str) -> None:
    low, high = (np.atleast_1d(np.float32(bound)) for bound in UNBOUNDED[kind])

    class Free(Track):
        action_space = spaces.Box(low, high)

    with pytest.raises(UserError, match=r"finite bounds"):
        check_acting(register(Free))


@given(seed=st.integers(0, 99), places=st.lists(st.booleans(), min_size=1, max_size=4))
def test_a_locked_action_never_moves_and_nothing_is_nan(seed: int, places: list[bool]) -> None:
    rng, locked = np.random.default_rng(seed), np.array(places)
    low = rng.normal(size=len(places)).astype(np.float32)
    high = np.where(locked, low, low + 1).astype(np.float32)

    class Locked(Track):
        action_space = spaces.Box(low, high)

    env = Locked()
    box = ActionBox(low, high)
    steps = take_steps(CheckedEnv(env, "it"), 5, box, lambda obs: low, 0.3, rng)
    told = np.array(env.told)
    assert np.isfinite(told).all() and np.isfinite(steps.actions).all()
    assert (told >= low).all() and (told <= high).all()
    assert (told[:, locked] == low[locked]).all() and (steps.actions[:, locked] == 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_actions_come_in_the_dtype_of_their_space(dtype: Any) -> None:
    class Strict(Track):
        action_space = spaces.Box(-0.4, 1.2, (1,), dtype)

        def step(self, action: Any) -> Any:
            assert self.action_space.contains(action), action
            return super().step(action)

    env = make_env(register(Strict))
    take_steps(env, 15, ActionBox.of(env.action_space), None, 0.1, np.random.default_rng(0))


@pytest.mark.parametrize("shape", [(), (1,), (2, 2), (2, 1, 3)])
@pytest.mark.usefixtures("in_process")
def test_actions_of_any_shape_are_taken(minari_root: object, shape: tuple[int, ...]) -> None:
    class Shaped(Track):
        action_space = spaces.Box(-1, 1, shape)

        def step(self, action: Any) -> Any:
            assert self.action_space.contains(action), action
            return super().step(np.ones(1))

    stored = collect_with_policy(
        register(Shaped), lambda obs: np.ones(shape, np.float32), "mine/x", transitions=15
    )
    assert (stored.act_id is not None) == (len(shape) == 1)


@pytest.mark.parametrize("action", [np.nan, np.inf])
def test_no_action_that_is_not_finite_reaches_an_environment(action: float) -> None:
    env = make_env(register(Track))
    env.reset()
    with pytest.raises(UserError, match="an action isn't finite"):
        env.step(np.array([action], np.float32))
    assert not made[-1].told
