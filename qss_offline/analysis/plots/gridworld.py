"""Figure 6 drawn: values, proposals and imagined trajectories in the gridworld."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qss_offline.analysis.plots.style import COLOURS, GREY, WIDE_DPI, styled, thousands, to_png
from qss_offline.online.gridworld_measures import SIZE, optimal_values
from qss_offline.statistics import ENOUGH, mean_band, number_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FAR = 5.0
"""Distances beyond this are drawn on a logarithmic scale."""

_TITLES = {"d3g": "D3G", "d3g-no-cycle": "D3G⁻"}


@styled
def png(rows: Mapping[str, Sequence[Mapping[str, Any]]], gamma: float) -> bytes:
    """Draw a row of three panels for each algorithm.

    Args:
        rows: what `gridworld_measures.measure_seed` returned for each seed, by algorithm.
        gamma: discount γ.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.5, 4.1 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), 3, squeeze=False)
    for panels, (algorithm, seeds) in zip(axes, rows.items(), strict=True):
        name = _TITLES.get(algorithm, algorithm)
        _draw_values(figure, panels[0], seeds, name, gamma)
        _draw_distance(panels[1], seeds, name)
        _draw_trajectories(panels[2], seeds, name)
    return to_png(figure, WIDE_DPI)


def _draw_values(
    figure: Figure, panel: Axes, seeds: Sequence[Mapping[str, Any]], name: str, gamma: float
) -> None:
    # Without the cycle a seed's values may be billions: a mean would show them alone.
    values = np.median([np.array(seed["values"], np.float64) for seed in seeds], axis=0)
    image = panel.imshow(values, cmap="cividis")
    panel.grid(visible=False)
    figure.colorbar(image, ax=panel, label="median over seeds", shrink=0.85,
                    format=lambda value, _: number_text(value))  # fmt: skip
    best = optimal_values(gamma)
    panel.set_title(
        f"{name}: Q(s, τ(s)); optimal {np.nanmin(best):.1f} to {np.nanmax(best):.1f}", loc="left"
    )
    panel.set_xlabel("column")
    panel.set_ylabel("row")
    panel.set_xticks(range(0, SIZE, 2))
    panel.set_yticks(range(0, SIZE, 2))
    panel.text(0, 0, "S", color="white", ha="center", va="center", weight="bold")
    panel.text(SIZE - 1, SIZE - 1, "G", ha="center", va="center", weight="bold")


def _draw_distance(panel: Axes, seeds: Sequence[Mapping[str, Any]], name: str) -> None:
    steps = np.array([step for step, _ in seeds[0]["distance"]])
    samples = np.array([[distance for _, distance in seed["distance"]] for seed in seeds]).T
    for line, colour in zip(samples.T, COLOURS * len(seeds), strict=False):
        panel.plot(steps, line, color=colour, linewidth=0.8, alpha=0.6)
    panel.plot([], [], color=GREY, linewidth=0.8, label="each seed")
    panel.axhline(1.0, color=GREY, linestyle="--", linewidth=1, label="one step")
    if len(seeds) > 1:
        means = mean_band(samples)
        interval = ", 95% interval" if len(seeds) >= ENOUGH else ""
        panel.fill_between(
            steps, np.maximum(means.low, 0.0), means.high, color="black", alpha=0.12, linewidth=0
        )
        panel.plot(steps, means.mean, color="black", label=f"mean{interval}")
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=3)
    if samples.max() > _FAR:
        panel.set_yscale("symlog", linthresh=1.0)
    panel.set_ylim(bottom=0)
    panel.set_title(f"{name}: τ(⟨0, 0⟩) to its nearest neighbour", loc="left")
    panel.set_xlabel("environment steps")
    thousands(panel.xaxis)
    panel.set_ylabel("Manhattan distance")


def _draw_trajectories(panel: Axes, seeds: Sequence[Mapping[str, Any]], name: str) -> None:
    from matplotlib.patches import Rectangle

    panel.grid(visible=False)
    panel.add_patch(
        Rectangle((-0.5, -0.5), SIZE, SIZE, facecolor="#f2f2f2", edgecolor="black", zorder=0)
    )
    farthest = SIZE
    for number, (seed, colour) in enumerate(zip(seeds, COLOURS * len(seeds), strict=False)):
        # Lines of several seeds that lie on each other stay visible.
        shift = 0.08 * (number - (len(seeds) - 1) / 2)
        path = np.array(seed["trajectory"])
        farthest = max(farthest, int(np.abs(path).max()) + 1)
        panel.plot(path[:, 1] + shift, path[:, 0] + shift, ".-", color=colour, linewidth=1)
    panel.text(0, -1.1, "S", ha="center", va="center", weight="bold")
    panel.text(SIZE - 1, SIZE, "G", ha="center", va="center", weight="bold")
    high = min(farthest, 2 * SIZE) + 0.5
    low = -2.0 if high < SIZE + 1 else -SIZE / 2
    panel.set_xlim(low, high)
    panel.set_ylim(high, low)
    panel.set_aspect("equal")
    panel.set_title(f"{name}: trajectories that τ imagines", loc="left")
    panel.set_xlabel("column")
    panel.set_ylabel("row")
