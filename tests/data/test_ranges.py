"""Recordings of another machine are refused; genuine ones, of experts and in pieces, are not."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from qss_offline.data import DatasetSpec, Transitions, collect, read_family
from qss_offline.data.environments import env_id_of
from qss_offline.data.ranges import check_ranges
from qss_offline.errors import UserError

DATASETS = Path(__file__).parents[2] / "datasets"
FAMILIES = sorted(path.stem for path in DATASETS.glob("*.toml"))


@cache
def recorded(family: str, most_random: bool) -> tuple[str, Transitions]:
    levels = read_family(DATASETS / f"{family}.toml").specs
    chosen = (max if most_random else min)(levels, key=lambda spec: spec.random_action_prob)
    small = replace(chosen, transitions=1_600, shards=2)
    return small.env_id, collect(small, 1)


def piece(transitions: Transitions, rows: Any) -> Transitions:
    columns: dict[str, Any] = {k: np.array(v[rows]) for k, v in transitions.columns().items()}
    episodes = columns["episodes"]
    ends = np.append(episodes[1:] != episodes[:-1], True)
    columns["truncations"] = ends & ~columns["terminations"]
    return Transitions(**columns)


def changed(transitions: Transitions, change: Any) -> Transitions:
    columns: dict[str, Any] = dict(transitions.columns())
    for name in ("observations", "next_observations"):
        columns[name] = change(columns[name].astype(np.float64)).astype(np.float32)
    return Transitions(**columns)


def refused(transitions: Transitions, env_id: str) -> str:
    with pytest.raises(UserError) as caught:
        check_ranges(transitions, env_id)
    message = str(caught.value)
    assert message.isprintable() and "--no-check-ranges" in message
    assert "check_ranges=False" in message
    return message


@pytest.mark.parametrize("most_random", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_genuine_recordings_pass(family: str, most_random: bool) -> None:
    env_id, whole = recorded(family, most_random)
    check_ranges(whole, env_id)
    ages = np.arange(len(whole)) - np.repeat(whole.episode_starts(), whole.episode_lengths())
    for rows in (
        slice(0, 1),
        slice(0, 20),
        slice(len(whole) // 2, len(whole) // 2 + 15),
        np.flatnonzero(ages >= 100),  # an expert at full speed, never seen to start
        np.flatnonzero(whole.episodes == 0),  # a goal that stays where it is
    ):
        if len(whole.rewards[rows]):
            check_ranges(piece(whole, rows), env_id)


@pytest.mark.parametrize("name", ["Pendulum", "MountainCarContinuous", "Swimmer", "Ant", "Pusher"])
def test_genuine_recordings_of_other_environments_pass(name: str) -> None:
    spec = DatasetSpec(name, transitions=600, seed=5)
    whole = collect(spec, 1)
    check_ranges(whole, spec.env_id)
    check_ranges(piece(whole, slice(300, 340)), spec.env_id)


def test_noise_and_rounding_pass() -> None:
    spec = DatasetSpec("Pendulum", transitions=500)
    rng = np.random.default_rng(0)
    noisy = changed(collect(spec, 1), lambda o: o.clip(-0.98, 0.98) + rng.normal(0, 0.005, o.shape))
    check_ranges(noisy, spec.env_id)


def test_an_arms_log_is_no_pendulum() -> None:
    rng = np.random.default_rng(1)
    angles = np.cumsum(rng.normal(0, 0.05, (400, 3)), 0)
    log = collect(DatasetSpec("Pendulum", transitions=400, shards=1), 1)
    message = refused(changed(log, lambda _: 3 * angles), "Pendulum-v1")
    assert "dimension 0" in message and "-1 to 1" in message
    # Small angles stay within every bound, but are no cosines and sines.
    message = refused(changed(log, lambda _: 0.3 * np.tanh(angles)), "Pendulum-v1")
    assert "dimensions 0 and 1" in message and "a cosine and a sine" in message


@pytest.mark.parametrize("name", ["InvertedPendulum", "Reacher", "HalfCheetah", "Swimmer"])
def test_other_units_are_refused(name: str) -> None:
    spec = DatasetSpec(name, transitions=500, seed=2)
    whole = collect(spec, 1)
    for times in (180 / np.pi, 1000):
        message = refused(changed(whole, lambda o, times=times: times * o), spec.env_id)
        assert "dimension" in message and str(spec.env_id) in message


def test_an_offset_is_refused() -> None:
    spec = DatasetSpec("InvertedPendulum", transitions=500, seed=2)
    message = refused(changed(collect(spec, 1), lambda o: o + np.array([0, 90, 0, 0])), spec.env_id)
    assert "dimension 1 is 89.8 to 90.2" in message


class OneSided(gym.Env[np.ndarray, np.ndarray]):
    """A level that is never below 0, a depth never above it, and a number without bounds."""

    observation_space = spaces.Box(
        np.array([0, -np.inf, -np.inf], np.float32), np.array([np.inf, 0, np.inf], np.float32)
    )
    action_space = spaces.Box(-1, 1, (1,))

    def _seen(self) -> np.ndarray:
        drawn = self.np_random.normal(size=3)
        return np.array([abs(drawn[0]), -abs(drawn[1]), drawn[2]], np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return self._seen(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return self._seen(), 0.0, False, False, {}


@pytest.mark.parametrize("dim", [0, 1])
def test_bounds_on_one_side_count(dim: int) -> None:
    env_id = env_id_of(OneSided)
    recorded = collect(DatasetSpec(env_id, transitions=400, shards=1), 1)
    check_ranges(recorded, env_id)
    message = refused(changed(recorded, lambda o: o * np.where(np.arange(3) == dim, -1, 1)), env_id)
    assert f"dimension {dim} is" in message


def test_columns_in_another_order_are_refused() -> None:
    spec = DatasetSpec("InvertedPendulum", transitions=500, seed=2)
    message = refused(changed(collect(spec, 1), lambda o: o[:, [0, 1, 3, 2]]), spec.env_id)
    assert "a step of dimension" in message


@pytest.mark.parametrize("name", ["InvertedPendulum", "InvertedPendulum-v4", "Hopper"])
@pytest.mark.parametrize("walk", [False, True])
def test_noise_within_every_bound_is_no_motion(name: str, walk: bool) -> None:
    """Positions that don't follow their velocities are no robot's, whatever their sizes."""
    spec = DatasetSpec(name, transitions=500, seed=2)
    whole = collect(spec, 1)
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(len(whole) + 1, whole.obs_dim)) * whole.observations.std(0)
    if walk:
        noise = np.cumsum(noise, 0) / 10
    columns: dict[str, Any] = dict(whole.columns())
    columns |= {
        "observations": noise[:-1].astype(np.float32),
        "next_observations": noise[1:].astype(np.float32),
    }
    assert "a step of dimension" in refused(Transitions(**columns), spec.env_id)


def test_steps_of_another_length_are_refused() -> None:
    slow = DatasetSpec("Hopper?frame_skip=16", transitions=500, seed=2)
    recorded = collect(slow, 1)
    check_ranges(recorded, slow.env_id)
    assert "a step of dimension" in refused(recorded, "Hopper-v5")


def test_other_robots_of_as_many_numbers_are_refused() -> None:
    of_eleven = ["Hopper-v5", "Reacher-v4", "InvertedDoublePendulum-v4"]
    for name in of_eleven:
        whole = collect(DatasetSpec(name, transitions=500, seed=3), 1)
        for other in of_eleven:
            if other != name:
                refused(whole, other)


def test_nothing_is_concluded_of_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow environment shows too little of itself; its declared bounds count all the same."""
    monkeypatch.setattr("qss_offline.data.ranges._SECONDS", 0.0)
    spec = DatasetSpec("InvertedPendulum?max_episode_steps=30", transitions=200)
    check_ranges(changed(collect(spec, 1), lambda o: 1000 * o), spec.env_id)
    spec = DatasetSpec("Pendulum?max_episode_steps=30", transitions=200)
    assert "declares" in refused(changed(collect(spec, 1), lambda o: 1000 * o), spec.env_id)
