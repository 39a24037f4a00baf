"""Tables that grow while they are drawn from: one a seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qss_offline.engine.device import check_room, send
from qss_offline.engine.graph_device import captures


class ReplayTable:
    """The rows of one seed, each all columns of a step side by side; the oldest make way.

    Args:
        capacity: rows kept at most. The memory is set aside at once; on a CPU the system takes
            pages only as they are filled.
        width: numbers in a row.
    """

    def __init__(self, capacity: int, width: int) -> None:
        self._rows = torch.empty(capacity, width)
        self.added = 0

    @property
    def capacity(self) -> int:
        """Rows kept at most."""
        return len(self._rows)

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return self._rows.shape[1]

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
        numbers = torch.arange(start, stop) % len(self._rows)
        return np.asarray(self._rows.index_select(0, numbers).numpy(), np.float32)

    def draw(self, generator: torch.Generator, count: int) -> Tensor:
        """Draw `count` rows uniformly with replacement, `(count, width)`."""
        rows = torch.randint(len(self), (count,), generator=generator, device=generator.device)
        return self._rows.index_select(0, rows)


class ReplaySampler:
    """Uniform draws from one growing table a seed, as `UniformSampler` draws from fixed ones.

    On a GPU it keeps a copy of the tables there, of equal capacity and with equally many rows, and
    brings new rows of all seeds to it in one transfer.

    Args:
        tables: one a seed, in the memory of the CPU.
        batch_size: B.
        make_batch: builds a batch from rows `(updates, S, B, width)`.
        device: where batches are.

    Raises:
        UserError: the GPU has no room for the copy.
    """

    def __init__(
        self,
        tables: Sequence[ReplayTable],
        batch_size: int,
        make_batch: Callable[[Tensor], Any],
        device: torch.device | str = "cpu",
    ) -> None:
        self._tables, self._batch_size, self._make_batch = tables, batch_size, make_batch
        device = torch.device(device)
        self._copy: Tensor | None = None
        self._copied = tables[0].oldest
        if captures(device):
            sizes = len(tables), tables[0].capacity, tables[0].width
            check_room(device, 4 * math.prod(sizes), "The replay")
            self._copy = torch.empty(sizes, device=device)
            self._starts = torch.arange(len(tables), device=device).unsqueeze(1) * sizes[1]

    def draw(self, generators: Sequence[torch.Generator], updates: int) -> Any:
        """Draw `updates` batches as columns `(updates, S, B, …)`."""
        shape = updates, self._batch_size
        if self._copy is None:
            drawn = [
                table.draw(generator, updates * self._batch_size).unflatten(0, shape)
                for table, generator in zip(self._tables, generators, strict=True)
            ]
            return self._make_batch(torch.stack(drawn, dim=1))
        self._bring_new(self._copy)
        count, device = len(self._tables[0]), self._copy.device
        numbers = [torch.randint(count, shape, generator=g, device=device) for g in generators]
        rows = (torch.stack(numbers, dim=1) + self._starts).flatten()
        gathered = self._copy.flatten(0, 1).index_select(0, rows)
        return self._make_batch(gathered.unflatten(0, (updates, len(numbers), self._batch_size)))

    def _bring_new(self, copy: Tensor) -> None:
        """Copy the rows that were added since the last call, `(S, n, width)`."""
        added, capacity = self._tables[0].added, copy.shape[1]
        start = max(self._copied, self._tables[0].oldest)
        if start == added:
            return
        new = np.stack([table.read(start, added) for table in self._tables])
        place, sent = start % capacity, send(torch.from_numpy(new), copy.device)
        until_end = capacity - place
        copy[:, place : place + added - start] = sent[:, :until_end]
        if added - start > until_end:
            copy[:, : added - start - until_end] = sent[:, until_end:]
        self._copied = added
