"""Step sizes that fall towards 0."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qss_offline.algorithms.observational_d3g import (
    ObservationalD3G,
    ObservationalD3GConfig,
    ObservationBatch,
)
from qss_offline.engine.loop import fit
from qss_offline.engine.sampler import UniformSampler
from qss_offline.engine.schedule import linear_decay
from qss_offline.engine.state import TrainState, initial_state
from tests.engine.test_stacking import table


def test_the_step_size_falls_over_the_share_named() -> None:
    schedule = linear_decay(0.1, 0.4, 10)
    expected = [0.1] * 7 + [0.075, 0.05, 0.025]
    assert [schedule(update) for update in range(1, 11)] == pytest.approx(expected)


@given(share=st.floats(0, 1), updates=st.integers(1, 300))
def test_it_never_rises_and_never_reaches_zero(share: float, updates: int) -> None:
    schedule = linear_decay(1.0, share, updates)
    sizes = [schedule(update) for update in range(1, updates + 1)]
    assert sizes[0] <= 1.0 and sizes[-1] > 0
    assert all(earlier >= later for earlier, later in pairwise(sizes))


def test_training_takes_each_update_with_its_own_step_size() -> None:
    algorithm = ObservationalD3G(ObservationalD3GConfig((16, 16), batch_size=32), 3)

    def start() -> tuple[TrainState, UniformSampler]:
        return initial_state(algorithm, [0], "cpu"), UniformSampler(
            [table(0, 3)], 8, ObservationBatch
        )

    # Changes between chunks, so that constants give the same.
    whole, sampler = start()
    fit(algorithm, whole, sampler, 150, lambda update: 1e-3 if update <= 50 else 1e-4)
    parts, sampler = start()
    fit(algorithm, parts, sampler, 50, 1e-3)
    halfway = {name: network.flat.clone() for name, network in parts.networks.items()}
    fit(algorithm, parts, sampler, 150, 1e-4)
    for name, network in whole.networks.items():
        assert torch.equal(network.flat, parts.networks[name].flat), name
        assert not torch.equal(network.flat, halfway[name]), name
