"""Batches for S seeds, drawn with one stream of indices a seed and gathered many at a time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

from qss_offline.engine.graph_device import captures

Columns = tuple[Tensor, ...]
"""Columns of equal length N, each `(N, …)`; usually a NamedTuple that names them."""


class Sampler(Protocol):
    """Source of batches."""

    def draw(self, generators: Sequence[torch.Generator], updates: int) -> Columns:
        """Draw `updates` batches: columns of `(updates, S, B, …)`."""


class UniformSampler:
    """Uniform draws with replacement from one table of columns a seed.

    Args:
        tables: the columns of each seed; a column that seeds share is best the same object. On a
            GPU the others are put together, so that each column is gathered at once for all seeds.
        batch_size: B.
        make_batch: builds a batch from gathered columns, e.g. a NamedTuple's constructor.
        transform: applied to gathered columns `(updates, S, B, …)`; None leaves them.
        noise: the standard deviation, `(…)`, of Gaussian noise on each column, drawn with the rows
            and added after the transform; None for a column leaves it.
    """

    def __init__(
        self,
        tables: Sequence[Columns],
        batch_size: int,
        make_batch: Callable[..., Any],
        transform: Callable[[Columns], Columns] | None = None,
        noise: Sequence[Tensor | None] = (),
    ) -> None:
        self._lengths = [len(table[0]) for table in tables]
        self._columns = [_Column(parts) for parts in zip(*tables, strict=True)]
        self._device = tables[0][0].device
        self._batch_size, self._make_batch, self._transform = batch_size, make_batch, transform
        self._noise = {place: std for place, std in enumerate(noise) if std is not None}

    def draw(self, generators: Sequence[torch.Generator], updates: int) -> Any:
        """Draw `updates` batches as columns `(updates, S, B, …)`."""
        shape = updates, self._batch_size
        drawn: list[Tensor] = []
        normal: dict[int, list[Tensor]] = {place: [] for place in self._noise}
        for length, generator in zip(self._lengths, generators, strict=True):
            drawn.append(torch.randint(length, shape, generator=generator, device=self._device))
            for place, std in self._noise.items():
                sizes = (*shape, *std.shape)
                normal[place].append(torch.randn(sizes, generator=generator, device=self._device))
        rows = torch.stack(drawn, dim=1)
        columns: Columns = tuple(column.gather(rows) for column in self._columns)
        if self._transform is not None:
            columns = self._transform(columns)
        noisy = {
            place: columns[place] + std * torch.stack(normal[place], dim=1)
            for place, std in self._noise.items()
        }
        return self._make_batch(*(noisy.get(place, c) for place, c in enumerate(columns)))


class _Column:
    """One column of all seeds."""

    def __init__(self, parts: Sequence[Tensor]) -> None:
        self._parts, self._starts = parts, None
        distinct = {id(part): part for part in parts}
        if len(distinct) == 1:
            self._parts = parts[:1]
        elif captures(parts[0].device):
            # On a CPU recordings are maps of files, which a copy would bring into memory.
            ends = accumulate(map(len, distinct.values()), initial=0)
            starts = dict(zip(distinct, ends, strict=False))
            self._starts = torch.tensor([[starts[id(part)]] for part in parts]).to(parts[0].device)
            self._parts = [torch.cat(list(distinct.values()))]

    def gather(self, rows: Tensor) -> Tensor:
        """Gather each seed's rows `(updates, S, B)`: `(updates, S, B, …)`."""
        if self._starts is not None:
            rows = rows + self._starts
        if len(self._parts) == 1:
            return _select(self._parts[0], rows)
        parts = zip(self._parts, rows.unbind(1), strict=True)
        return torch.stack([_select(part, own) for part, own in parts], dim=1)


def _select(column: Tensor, rows: Tensor) -> Tensor:
    selected: Tensor = column.index_select(0, rows.flatten()).unflatten(0, rows.shape)
    return selected


class JointSampler:
    """Batches of several samplers as one: of each seed, the one's draws follow the other's.

    Args:
        samplers: give columns, as `UniformSampler` does with `tuple_of`.
        make_batch: builds a batch from all columns.
    """

    def __init__(self, samplers: Sequence[Sampler], make_batch: Callable[..., Any]) -> None:
        self._samplers, self._make_batch = samplers, make_batch

    def draw(self, generators: Sequence[torch.Generator], updates: int) -> Any:
        """Draw `updates` batches as columns `(updates, S, B, …)`."""
        return self._make_batch(
            *(c for sampler in self._samplers for c in sampler.draw(generators, updates))
        )


def tuple_of(*columns: Tensor) -> Columns:
    """Return columns as they are: a batch for a `JointSampler` to put together."""
    return columns


def without_copy(array: NDArray[Any]) -> Tensor:
    """Return an array, a read-only map of a file perhaps, as a tensor that nobody may write to."""
    with warnings.catch_warnings():
        # torch warns of read-only arrays.
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(array)
