"""Figures of the tabular experiments, sections 2 and 3 of the paper."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from functools import singledispatch
from typing import TYPE_CHECKING

import numpy as np

from qss_offline.analysis.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    WIDE_DPI,
    band,
    styled,
    thousands,
    to_png,
)
from qss_offline.statistics import mean_band
from qss_offline.tabular.mdp import FloatArray
from qss_offline.tabular.results import (
    CliffResult,
    EquivalenceResult,
    PermutedResult,
    RedundantResult,
    Result,
    StochasticResult,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

HEATMAP = "cividis"


@styled
def png(result: Result) -> bytes:
    """Return the figure of `result` as a PNG file."""
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    draw(result, figure)
    return to_png(figure, WIDE_DPI)


@singledispatch
def draw(result: object, figure: Figure) -> None:
    """Draw `result` into an empty figure."""
    raise TypeError(f"no figure is known for {type(result).__name__}")


@draw.register(EquivalenceResult)
def _(result: EquivalenceResult, figure: Figure) -> None:
    from matplotlib.colors import LogNorm, Normalize

    figure.set_size_inches(15, 3.4)
    axes = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.15))
    size = _side(len(result.terminal))
    qsa, qss = result.qsa_values[-1].mean(axis=0), result.qss_values[-1].mean(axis=0)
    common = Normalize(min(qsa.min(), qss.min()), max(qsa.max(), qss.max()))
    for panel, values, title in (
        (axes[0], qsa, "QSA: maxₐ Q(s, a)"),
        (axes[1], qss, "QSS: maxₛ′ Q(s, s′)"),
    ):
        _heatmap(figure, panel, values.reshape(size, size), title, "learned value", common)
    difference = result.fractional_difference
    # What is below the precision of a float is drawn as that.
    visible = np.maximum(difference, np.finfo(np.float64).eps)
    _heatmap(
        figure,
        axes[2],
        visible[-1].mean(axis=0).reshape(size, size),
        f"Difference at {result.steps[-1] / 1000:,.0f}k steps",
        "|QSS − QSA| / |QSA|",
        norm=LogNorm(float(visible.min()), 1.0),
    )
    for samples, label, colour, dashes in (
        (visible.max(axis=2), "largest over states", ORANGE, "-"),
        (visible.mean(axis=2), "mean over states", BLUE, "--"),
    ):
        # The interval is taken of the logarithm, in which these shrink in a straight line.
        logarithm = np.log10(samples[1:])
        band(axes[3], result.steps[1:], logarithm, label, colour, dashes, lambda value: 10.0**value)
    axes[3].set_yscale("log")
    axes[3].set_title("The difference vanishes")
    axes[3].set_box_aspect(0.9)
    axes[3].set_ylabel("fractional difference")
    _steps_axis(axes[3])
    axes[3].legend()


@draw.register(StochasticResult)
def _(result: StochasticResult, figure: Figure) -> None:
    from matplotlib.colors import Normalize

    figure.set_size_inches(15, 3.4)
    axes = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.15))
    size = _side(result.qsa_values.shape[2])
    slippery = result.qsa_values[-1].mean(axis=0)
    optimist = result.qss_values[-1].mean(axis=0)
    firm = result.qss_values[0].mean(axis=0)
    worst, best = f"{result.slips[-1]:.0%} slip", f"{result.slips[0]:.0%} slip"
    _heatmap(figure, axes[0], slippery.reshape(size, size), f"QSA at {worst}", "learned value")
    common = Normalize(min(optimist.min(), firm.min()), max(optimist.max(), firm.max()))
    for panel, values, title in (
        (axes[1], optimist, f"QSS at {worst}"),
        (axes[2], firm, f"QSS at {best}"),
    ):
        _heatmap(figure, panel, values.reshape(size, size), title, "learned value", common)
    panel = axes[3]
    panel.plot(
        100 * result.exact_slips,
        result.exact_distances,
        color=BLACK,
        linestyle="--",
        linewidth=1.2,
        label="value iteration",
    )
    learned = mean_band(result.distances)
    panel.errorbar(
        100 * result.slips,
        learned.mean,
        yerr=learned.errors,
        color=ORANGE,
        fmt="o",
        capsize=4,
        label="learned",
    )
    panel.set_title("Distance between QSS and QSA")
    panel.set_box_aspect(0.9)
    panel.set_xlabel("probability of slipping (%)")
    panel.set_ylabel("Euclidean distance of the values")
    panel.legend()


@draw.register(RedundantResult)
def _(result: RedundantResult, figure: Figure) -> None:
    figure.set_size_inches(13.5, 4)
    axes = figure.subplots(1, len(result.curves), sharey=True)
    looks = ((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), (PURPLE, ":"))
    for panel, (name, curves) in zip(axes, result.curves.items(), strict=True):
        for world, copies in enumerate(result.copies):
            label = f"{4 * copies} actions ({copies} {'copy' if copies == 1 else 'copies'} each)"
            band(panel, curves.steps, curves.returns[:, world], label, *looks[world])
        panel.set_title(name)
        _steps_axis(panel)
    axes[0].set_ylabel("return of the greedy policy")
    axes[-1].legend(loc="lower right")


@draw.register(PermutedResult)
def _(result: PermutedResult, figure: Figure) -> None:
    figure.set_size_inches(8, 4.4)
    panel = figure.subplots()
    looks = ((BLUE, "-"), (ORANGE, "-"), (GREEN, "--"), (PURPLE, ":"))
    for (name, curves), look in zip(result.curves.items(), looks, strict=True):
        band(panel, curves.steps, curves.returns[:, 0], name, *look)
    panel.set_title("After the actions were permuted")
    panel.set_ylabel("return of the greedy policy")
    panel.set_xlabel("environment steps after the permutation")
    thousands(panel.xaxis)
    panel.legend(loc="lower right")


@draw.register(CliffResult)
def _(result: CliffResult, figure: Figure) -> None:
    figure.set_size_inches(12, 4.2)
    panels = figure.subplot_mosaic(
        [["curve", "belief", "QSA"], ["curve", "belief", "QSS"]], width_ratios=(1.15, 1, 0.85)
    )
    curve, belief = panels["curve"], panels["belief"]
    looks: Mapping[str, tuple[str, str]] = {"QSA": (BLUE, "-"), "QSS": (ORANGE, "--")}
    for name, curves in result.curves.items():
        band(curve, curves.steps, curves.returns[:, 0], name, *looks[name])
    curve.set_title("How often the goal is reached")
    curve.set_ylabel("share of episodes")
    curve.set_ylim(bottom=-0.02)
    _steps_axis(curve)
    curve.legend(loc="center right", bbox_to_anchor=(1.0, 0.2))

    names = list(result.curves)
    for offset, samples, label, colour in (
        (-0.2, result.believed_values, "learned value of the start", PURPLE),
        (0.2, result.final_returns, "expected return", GREEN),
    ):
        means = [mean_band(samples[name]) for name in names]
        heights = np.array([float(mean.mean) for mean in means])
        errors = np.stack([mean.errors for mean in means], axis=1)
        bars = belief.bar(
            np.arange(len(names)) + offset,
            heights,
            width=0.36,
            yerr=errors,
            capsize=3,
            color=colour,
            label=label,
        )
        belief.bar_label(bars, fmt="%.3f", padding=2)
    belief.set_xticks(range(len(names)), names)
    belief.grid(axis="x", visible=False)
    belief.set_title("Value promised, return obtained")
    belief.set_ylim(0, 1.25)
    belief.legend(loc="upper left")
    for name in names:
        _routes(panels[name], result.routes[name], result.size, looks[name][0])
        panels[name].set_title(f"Route of {name}")


def _routes(panel: Axes, routes: Sequence[Sequence[int]], size: int, colour: str) -> None:
    """Draw where policies mean to go on the cliff, the wider the more seeds agree on a step."""
    panel.set_facecolor("#f7f7f7")
    panel.axhspan(size - 0.5, size + 0.5, color="#404040")
    panel.text((size - 1) / 2, size, "abyss", color="white", ha="center", va="center")
    panel.axhspan(size - 1.5, size - 0.5, color="#cfe3f1")
    edges: dict[tuple[int, int], int] = {}
    for route in routes:
        for edge in itertools.pairwise(route):
            edges[edge] = edges.get(edge, 0) + 1
    for (state, following), count in edges.items():
        rows, columns = zip(divmod(state, size), divmod(following, size), strict=True)
        panel.plot(
            columns,
            rows,
            color=colour,
            linewidth=0.8 + 5.2 * count / len(routes),
            solid_capstyle="round",
        )
    _mark(panel, 0, size - 1, "S")
    _mark(panel, size - 1, size - 1, "G")
    panel.set_xlim(-0.5, size - 0.5)
    panel.set_ylim(size + 0.5, size - 6.5)  # nothing happens above
    panel.set_aspect("equal")
    panel.grid(visible=False)
    panel.set_xticks(range(0, size, 2))
    panel.set_yticks(range(size - 1, size - 7, -2))
    panel.set_xlabel("column")
    panel.set_ylabel("row")


def _side(num_states: int) -> int:
    return math.isqrt(num_states)


def _heatmap(
    figure: Figure,
    panel: Axes,
    values: FloatArray,
    title: str,
    label: str,
    norm: Normalize | None = None,
) -> None:
    """Draw `values` `(rows, columns)` with start, goal and a colour bar of their own."""
    image = panel.imshow(values, cmap=HEATMAP, norm=norm)
    figure.colorbar(image, ax=panel, label=label, shrink=0.85)
    last = len(values) - 1
    _mark(panel, 0, 0, "S")
    _mark(panel, last, last, "G")
    panel.set_xticks(range(0, last + 1, 2))
    panel.set_yticks(range(0, last + 1, 2))
    panel.grid(visible=False)
    panel.set_title(title)
    panel.set_xlabel("column")
    panel.set_ylabel("row")


def _mark(panel: Axes, column: int, row: int, letter: str) -> None:
    panel.text(
        column,
        row,
        letter,
        ha="center",
        va="center",
        weight="bold",
        zorder=5,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.2, "alpha": 0.85},
    )


def _steps_axis(panel: Axes) -> None:
    panel.set_xlabel("environment steps")
    thousands(panel.xaxis)
