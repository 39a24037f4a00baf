"""Normalised scores are of the environments that they were measured in."""

import pytest

from qss_offline.evaluation.normalization import normalised, reference


@pytest.mark.parametrize("env_id", ["Reacher-v5", "Reacher-v4", "my_envs:Reacher-v5"])
def test_any_version_is_on_one_scale(env_id: str) -> None:
    assert normalised(-4.0, env_id) == 1.0 and normalised(-42.5, env_id) == 0.0


@pytest.mark.parametrize("env_id", ["Reacher-v5?frame_skip=4", "Pendulum-v1"])
def test_others_have_no_scale(env_id: str) -> None:
    assert reference(env_id) is None and normalised(-4.0, env_id) is None
