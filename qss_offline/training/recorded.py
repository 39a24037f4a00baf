"""The columns of recordings where training reads them.

On a GPU a column is copied there once, as batches hold it. On a CPU it is a map of a file: batches
are gathered from that, and scaled one by one, so that the recording needn't fit into memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from qss_offline.data.transitions import Transitions
from qss_offline.engine.device import check_room
from qss_offline.engine.graph_device import captures
from qss_offline.engine.sampler import Columns, without_copy
from qss_offline.evaluation.policies import ObservationScale

_OBSERVATIONS = ("observations", "next_observations")


class RecordedColumns:
    """The columns of one recording.

    Args:
        recording: what was recorded.
        scale: what observations go through; None leaves them.
        device: where training reads them.
    """

    def __init__(
        self, recording: Transitions, scale: ObservationScale | None, device: torch.device
    ) -> None:
        self.recording, self.scale, self.device = recording, scale, device
        self._columns: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return len(self.recording)

    def column(self, name: str) -> Tensor:
        """Return a column, `(N, …)`; the same object each time.

        Raises:
            UserError: the GPU has no room for it.
        """
        if name not in self._columns:
            column = without_copy(getattr(self.recording, name))
            if captures(self.device):
                # Beside the column itself, once more while it is scaled.
                check_room(self.device, 8 * column.numel(), "The recording")
                column = _prepared(name, column.to(self.device), self.scale)
            self._columns[name] = column
        return self._columns[name]

    def rows(self, name: str, rows: slice) -> Tensor:
        """Return some rows of a column as batches hold them."""
        column = self.column(name)[rows]
        return column if captures(self.device) else _prepared(name, column, self.scale)


def recorded_through(
    recordings: Sequence[Transitions], scales: Sequence[ObservationScale], device: torch.device
) -> list[RecordedColumns]:
    """Return the columns of each seed's recording; seeds that learn from one share them."""
    each: dict[tuple[int, int], RecordedColumns] = {}
    return [
        each.setdefault((id(recording), id(scale)), RecordedColumns(recording, scale, device))
        for recording, scale in zip(recordings, scales, strict=True)
    ]


def batch_transform(
    recordings: Sequence[RecordedColumns], names: Sequence[str | None]
) -> Callable[[Columns], Columns] | None:
    """Return what gathered columns `(updates, S, B, …)` still have to go through.

    Args:
        recordings: one a seed; all are scaled, or none.
        names: of the columns; None for one that isn't a recording's and stays as it is.
    """
    if captures(recordings[0].device):
        return None
    scales = [recording.scale for recording in recordings if recording.scale is not None]
    stacked = ObservationScale.of_stack(scales) if scales else None

    def transform(columns: Columns) -> Columns:
        named = zip(names, columns, strict=True)
        return tuple(c if name is None else _prepared(name, c, stacked) for name, c in named)

    return transform


def _prepared(name: str, column: Tensor, scale: ObservationScale | None) -> Tensor:
    if name == "terminations":
        return column.float()
    if scale is None or name not in _OBSERVATIONS:
        return column
    return scale.on(column.device).apply(column)
