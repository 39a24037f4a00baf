"""Tiny numbers are zero where updates ask for it."""

import pytest
import torch

from qss_offline.engine.denormals import denormals_as_zero


def test_denormals_are_zero_inside_only() -> None:
    tiny = torch.tensor(1e-39)
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor can't")
    with denormals_as_zero():
        assert float(tiny * 1.0) == 0
        with denormals_as_zero():
            pass
        assert float(tiny * 1.0) == 0
    assert float(tiny * 1.0) > 0
