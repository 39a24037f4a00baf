"""Growing tables: what is kept, what is drawn, and that a seed draws alone as in a stack."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from qss_offline.engine.replay import ReplaySampler, ReplayTable
from qss_offline.engine.state import seeded_generator


def rows(start: int, stop: int) -> NDArray[np.float32]:
    return np.arange(start, stop, dtype=np.float32)[:, None].repeat(2, axis=1)


def filled(capacity: int, count: int, piece: int = 3) -> ReplayTable:
    table = ReplayTable(capacity, 2)
    for start in range(0, count, piece):
        table.append(rows(start, min(start + piece, count)))
    return table


@pytest.mark.parametrize(("capacity", "count"), [(10, 4), (10, 10), (10, 13), (10, 37), (3, 8)])
def test_the_newest_rows_are_kept_in_their_order(capacity: int, count: int) -> None:
    table = filled(capacity, count)
    kept = min(capacity, count)
    assert (len(table), table.oldest, table.added) == (kept, count - kept, count)
    np.testing.assert_array_equal(table.read(table.oldest, count), rows(count - kept, count))


@pytest.mark.parametrize("count", [4, 37])
def test_draws_are_uniform_over_the_rows_that_are_there(count: int) -> None:
    table = filled(10, count)
    drawn = table.draw(torch.Generator().manual_seed(0), 20_000)
    values, counts = np.unique(drawn[:, 0].numpy(), return_counts=True)
    np.testing.assert_array_equal(values, np.arange(count - len(table), count))
    assert counts.min() > 0.85 * 20_000 / len(table)
    assert torch.equal(drawn[:, 0], drawn[:, 1])


def test_a_seed_draws_alone_what_it_draws_in_a_stack() -> None:
    def draw(seeds: list[int]) -> Any:
        tables = [filled(50, 20 + seed) for seed in seeds]
        sampler = ReplaySampler(tables, 4, lambda gathered: gathered)
        return sampler.draw([seeded_generator(seed, "batches", "cpu") for seed in seeds], 3)

    stack = draw([5, 1, 9])
    assert stack.shape == (3, 3, 4, 2)
    for place, seed in enumerate([5, 1, 9]):
        assert torch.equal(draw([seed])[:, 0], stack[:, place])
