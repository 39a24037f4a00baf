"""What corrects labels: what it solves, where it says something, and what many steps cost."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qss_offline.algorithms.inverse_dynamics import InverseDynamicsConfig
from qss_offline.algorithms.kernel_correction import (
    MOST_STEPS,
    RIDGE,
    solve_correction,
    taken_steps,
)
from qss_offline.errors import UserError


def steps(
    count: int, obs_dim: int, action_dim: int, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    obs, step = torch.randn(2, count, obs_dim, generator=generator)
    return obs, step, torch.rand(count, action_dim, generator=generator) * 2 - 1


@settings(max_examples=25)
@given(
    count=st.integers(1, 40),
    obs_dim=st.integers(1, 4),
    action_dim=st.integers(1, 3),
    seed=st.integers(0, 10**6),
)
def test_it_is_the_mean_of_a_gaussian_process(
    count: int, obs_dim: int, action_dim: int, seed: int
) -> None:
    obs, step, errors = steps(count, obs_dim, action_dim, seed)
    others, other_steps, _ = steps(5, obs_dim, action_dim, seed + 1)

    def covariance(s: np.ndarray, d: np.ndarray, t: np.ndarray, e: np.ndarray) -> float:
        near = np.exp(-((s - t) ** 2).sum() / (2 * obs_dim))
        return float(near * (1 + (d * e).sum() / obs_dim))

    seen, new = (
        list(zip(a.double().numpy(), b.double().numpy(), strict=True))
        for a, b in ((obs, step), (others, other_steps))
    )
    gram = np.array([[covariance(*one, *other) for other in seen] for one in seen])
    cross = np.array([[covariance(*one, *other) for other in seen] for one in new])
    expected = cross @ np.linalg.solve(gram + RIDGE * np.eye(count), errors.double().numpy())
    added = solve_correction(obs, step, errors)(others, other_steps)
    np.testing.assert_allclose(added, expected, atol=2e-3)


def test_it_corrects_where_there_are_steps_and_adds_nothing_far_from_them() -> None:
    """The model errs by an affine function of the step that depends on the state."""
    obs, step, _ = steps(2_000, 2, 1)

    def missed(obs: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        return 0.3 * obs[:, :1].sin() + 0.2 * obs[:, 1:].cos() * step[:, :1]

    correction = solve_correction(obs, step, missed(obs, step))
    obs, step, _ = steps(500, 2, 1, seed=1)
    left = missed(obs, step) - correction(obs, step)
    assert left.abs().mean() < 0.05 * missed(obs, step).abs().mean()
    assert correction(obs + 20, step).abs().max() < 1e-3


def test_of_many_steps_it_takes_some_from_beginning_to_end() -> None:
    for count in (MOST_STEPS + 1, 2 * MOST_STEPS, 100_000_000):
        taken = taken_steps(count)
        assert len(taken) == MOST_STEPS and taken[[0, -1]].tolist() == [0, count - 1]
        assert (taken.diff() > 0).all()
    for count in (1, 7, MOST_STEPS):
        assert taken_steps(count).tolist() == list(range(count))


def test_steps_of_any_size_and_number_give_finite_corrections() -> None:
    obs, step, errors = steps(50, 3, 2)
    same = solve_correction(obs[:1].repeat(50, 1), step[:1].repeat(50, 1), errors)
    wild = solve_correction(1e6 * obs, 1e6 * step, errors)
    for correction in (same, wild):
        assert correction(1e6 * obs, -1e6 * step).isfinite().all()
    assert same(obs, step).isfinite().all()
    assert same(obs[:0], step[:0]).shape == (0, 2)


def test_it_needs_a_model_of_steps() -> None:
    with pytest.raises(UserError, match="step_inputs must be True"):
        InverseDynamicsConfig(corrected_labels=True)
