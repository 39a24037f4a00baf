"""Tables that grow while they are drawn from: one a seed, on the device that trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class ReplayTable:
    """The rows of one seed, each all columns of a step side by side; the oldest make way.

    Args:
        capacity: rows kept at most. The memory is set aside at once; on a CPU the system takes
            pages only as they are filled.
        width: numbers in a row.
        device: where the rows live.
    """

    def __init__(self, capacity: int, width: int, device: torch.device | str = "cpu") -> None:
        self._rows = torch.empty(capacity, width, device=device)
        self.added = 0

    @property
    def capacity(self) -> int:
        """Rows kept at most."""
        return len(self._rows)

    def __len__(self) -> int:
        return min(self.added, len(self._rows))

    @property
    def oldest(self) -> int:
        """Number of the oldest row kept, counted from the first ever added."""
        return self.added - len(self)

    def append(self, rows: NDArray[np.float32]) -> None:
        """Add rows `(n, width)`, n at most the capacity."""
        start = self.added % len(self._rows)
        until_end = len(self._rows) - start
        tensor = torch.from_numpy(rows)
        self._rows[start : start + len(rows)] = tensor[:until_end]
        if len(rows) > until_end:
            self._rows[: len(rows) - until_end] = tensor[until_end:]
        self.added += len(rows)

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return a copy of the rows numbered `start` to `stop`, `(stop − start, width)`."""
        numbers = torch.arange(start, stop, device=self._rows.device) % len(self._rows)
        return np.asarray(self._rows.index_select(0, numbers).cpu().numpy(), np.float32)

    def draw(self, generator: torch.Generator, count: int) -> Tensor:
        """Draw `count` rows uniformly with replacement, `(count, width)`."""
        rows = torch.randint(len(self), (count,), generator=generator, device=generator.device)
        return self._rows.index_select(0, rows)


class ReplaySampler:
    """Uniform draws from one growing table a seed, as `UniformSampler` draws from fixed ones.

    Args:
        tables: one a seed.
        batch_size: B.
        make_batch: builds a batch from rows `(updates, S, B, width)`.
    """

    def __init__(
        self,
        tables: Sequence[ReplayTable],
        batch_size: int,
        make_batch: Callable[[Tensor], Any],
    ) -> None:
        self._tables, self._batch_size, self._make_batch = tables, batch_size, make_batch

    def draw(self, generators: Sequence[torch.Generator], updates: int) -> Any:
        """Draw `updates` batches as columns `(updates, S, B, …)`."""
        rows = [
            table.draw(generator, updates * self._batch_size).unflatten(
                0, (updates, self._batch_size)
            )
            for table, generator in zip(self._tables, generators, strict=True)
        ]
        return self._make_batch(torch.stack(rows, dim=1))
