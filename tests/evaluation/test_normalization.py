"""Normalised scores are of the environments that they were measured in."""

import pytest

from qss_offline.evaluation.normalization import REFERENCES, normalised, reference
from qss_offline.runs.folder import read_json
from tests.published import needs_published
from tests.test_dependencies import ROOT


@pytest.mark.parametrize("env_id", ["Reacher-v5", "Reacher-v4", "my_envs:Reacher-v5"])
def test_any_version_is_on_one_scale(env_id: str) -> None:
    assert normalised(-4.1, env_id) == 1.0 and normalised(-42.8, env_id) == 0.0


@pytest.mark.parametrize("env_id", [
    "Reacher-v5?frame_skip=4", "Pendulum-v1", "Reacher", "arm.py:Reacher", "here/arm.py:Reacher",
    "pkg:Reacher", "my/Reacher-v5", "pkg:my/Reacher-v5",
])  # fmt: skip
def test_others_have_no_scale(env_id: str) -> None:
    assert reference(env_id) is None and normalised(-4.0, env_id) is None


@needs_published
def test_the_scale_is_what_was_measured() -> None:
    rows = read_json(ROOT / "benchmarks" / "results" / "references.json")["rows"]
    assert rows.keys() == REFERENCES.keys()
    for name, ends in REFERENCES.items():
        for kind, value in zip(("random", "expert"), ends, strict=True):
            measured = rows[name][kind]["mean"]
            assert value == pytest.approx(measured, abs=0.5 if abs(measured) >= 100 else 0.05)
