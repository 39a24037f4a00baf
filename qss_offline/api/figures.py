"""Figures that a notebook shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qss_offline.analysis.plots.style import to_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def displayed(figure: Figure) -> Figure:
    """Return a figure that a notebook draws: IPython draws those of pyplot alone by itself."""
    figure._repr_png_ = lambda: to_png(figure)  # type: ignore[attr-defined]
    return figure
