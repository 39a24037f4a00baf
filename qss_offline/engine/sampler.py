"""Batches for S seeds, drawn with one stream of indices a seed and gathered many at a time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

Columns = tuple[Tensor, ...]
"""Columns of equal length N, each `(N, …)`; usually a NamedTuple that names them."""


class Sampler(Protocol):
    """Source of batches."""

    def draw(self, generators: Sequence[torch.Generator], updates: int) -> Columns:
        """Draw `updates` batches: columns of `(updates, S, B, …)`."""


class UniformSampler:
    """Uniform draws with replacement from one table of columns a seed.

    Args:
        tables: the columns of each seed; the same object may serve several seeds.
        batch_size: B.
        make_batch: builds a batch from gathered columns, e.g. a NamedTuple's constructor.
        transforms: one a seed, applied to gathered columns `(updates * B, …)`; None leaves them.
        noise: for each seed the standard deviations, `(…)`, of Gaussian noise on each column,
            drawn with the rows and after the transform; None for a column leaves it, and None
            leaves all.
    """

    def __init__(
        self,
        tables: Sequence[Columns],
        batch_size: int,
        make_batch: Callable[..., Any],
        transforms: Sequence[Callable[[Columns], Columns]] | None = None,
        noise: Sequence[tuple[Tensor | None, ...]] | None = None,
    ) -> None:
        self._tables, self._batch_size, self._make_batch = tables, batch_size, make_batch
        self._transforms, self._noise = transforms, noise

    def draw(self, generators: Sequence[torch.Generator], updates: int) -> Any:
        """Draw `updates` batches as columns `(updates, S, B, …)`."""
        gathered: list[Columns] = []
        for seed, (table, generator) in enumerate(zip(self._tables, generators, strict=True)):
            rows = torch.randint(
                len(table[0]),
                (updates * self._batch_size,),
                generator=generator,
                device=generator.device,
            )
            columns: Columns = tuple(column.index_select(0, rows) for column in table)
            if self._transforms is not None:
                columns = self._transforms[seed](columns)
            if self._noise is not None:
                columns = tuple(
                    column if std is None else column + std * _normal(column, generator)
                    for column, std in zip(columns, self._noise[seed], strict=True)
                )
            gathered.append(columns)
        return self._make_batch(
            *(
                torch.stack([c.unflatten(0, (updates, self._batch_size)) for c in columns], dim=1)
                for columns in zip(*gathered, strict=True)
            )
        )


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


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=generator.device, dtype=like.dtype)
