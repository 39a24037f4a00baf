from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qss_offline.data import DatasetSpec, Transitions, collect, stochasticity
from qss_offline.data.stochasticity import STOCHASTIC_FROM, behaviour_stochasticity

EXPERTS = Path(__file__).parents[2] / "datasets" / "experts"

Steps = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def recorded(steps: Steps, rows: int = 4_000, dim: int = 3, seed: int = 0) -> Transitions:
    """One-step episodes from states all over a box."""
    rng = np.random.default_rng(seed)
    obs = rng.uniform(-1, 1, (rows, dim))
    following = obs + steps(obs, rng)
    over = np.ones(rows, bool)
    return Transitions(
        obs.astype(np.float32),
        following.astype(np.float32),
        np.zeros(rows, np.float32),
        over,
        ~over,
        np.arange(rows, dtype=np.int64),
    )


def smooth(obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return 0.1 * np.sin(obs @ np.array([[1.0, 0.5, 0.2], [-0.5, 1.0, 0.0], [0.3, 0.0, 1.0]]))


def share(transitions: Transitions, seed: int = 0) -> float:
    found = behaviour_stochasticity(transitions, seed)
    assert found is not None
    return found


def test_steps_that_follow_from_states_are_not_stochastic() -> None:
    assert share(recorded(smooth)) < 0.002


@settings(max_examples=12)
@given(st.floats(0.02, 0.9), st.integers(0, 2**31))
def test_it_is_the_share_of_the_variance_that_noise_has(noise: float, seed: int) -> None:
    rng = np.random.default_rng(9)
    spread = np.std(smooth(rng.uniform(-1, 1, (9_999, 3)), rng), axis=0)

    def noisy(obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        scale = spread * (noise / (1 - noise)) ** 0.5
        return smooth(obs, rng) + scale * rng.normal(size=obs.shape)

    assert share(recorded(noisy, seed=seed), seed) == pytest.approx(noise, rel=0.12, abs=0.003)


@settings(max_examples=10)
@given(st.floats(-50, 50), st.floats(0.01, 100))
def test_units_and_dimensions_that_stand_still_don_t_matter(shift: float, scale: float) -> None:
    def mixed(obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        random = rng.uniform(size=(len(obs), 1)) < 0.3
        return np.where(random, rng.uniform(-0.1, 0.1, obs.shape), smooth(obs, rng))

    plain = recorded(mixed)

    def moved(values: np.ndarray) -> np.ndarray:
        still = np.full((len(values), 1), 7.0)
        return np.column_stack((values * scale + shift, still)).astype(np.float32)

    columns = plain.columns() | {
        "observations": moved(plain.observations.astype(np.float64)),
        "next_observations": moved(plain.next_observations.astype(np.float64)),
    }
    assert share(Transitions(**columns)) == pytest.approx(share(plain), rel=0.02)


def test_more_random_actions_are_a_greater_share_in_a_robot() -> None:
    shares = [
        share(
            collect(
                DatasetSpec(
                    "Reacher",
                    transitions=5_000,
                    random_action_prob=level,
                    expert=EXPERTS / "reacher.safetensors",
                )
            )
        )
        for level in (0.0, 0.05, 0.25, 1.0)
    ]
    assert shares == sorted(shares)
    assert shares[0] < STOCHASTIC_FROM / 3 and shares[1] > 3 * STOCHASTIC_FROM


def test_too_little_to_tell() -> None:
    assert behaviour_stochasticity(recorded(smooth, rows=15)) is None
    assert behaviour_stochasticity(recorded(lambda obs, rng: np.zeros_like(obs))) is None
    still = recorded(smooth)
    columns = still.columns() | {"observations": np.zeros_like(still.observations)}
    assert behaviour_stochasticity(Transitions(**columns)) is None
    assert behaviour_stochasticity(recorded(smooth, rows=16)) is not None


def test_of_a_long_recording_some_rows_tell_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    def noisy(obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return smooth(obs, rng) + 0.03 * rng.normal(size=obs.shape)

    long = recorded(noisy, rows=20_000)
    whole = share(long)
    monkeypatch.setattr(stochasticity, "_ROWS", 5_000)
    assert share(long) == pytest.approx(whole, rel=0.1)
    assert share(long) != whole


def test_rounding_is_not_stochastic() -> None:
    """A quantity near 10 that never changes, but for the last digits that float32 keeps."""
    plain = recorded(smooth)
    rng = np.random.default_rng(1)
    quantity = rng.uniform(9.9, 10.1, (len(plain), 1))
    rounded = (quantity + 1e-6 * rng.normal(size=quantity.shape)).astype(np.float32)
    assert 0 < np.std(rounded - quantity) < 2e-6
    recording = Transitions(
        **{
            **plain.columns(),
            "observations": np.hstack((plain.observations, quantity.astype(np.float32))),
            "next_observations": np.hstack((plain.next_observations, rounded)),
        }
    )
    assert share(recording) < 0.002
