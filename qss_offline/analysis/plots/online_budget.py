"""Return against online steps, or against variants of one budget; a panel for each environment."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qss_offline.analysis.plots.style import COLOURS, DASHES, styled
from qss_offline.comparison.online_budget import BudgetRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@styled
def budget_figure(rows: Sequence[BudgetRow]) -> Figure:
    """Draw means over seeds as lines, seeds as dots; colours are recordings, dashes variants.

    Where all rows are of one budget, variants stand side by side instead.

    Args:
        rows: every measured point.
    """
    from matplotlib.figure import Figure

    env_ids = list(dict.fromkeys(row.env_id for row in rows))
    variants = list(dict.fromkeys(row.variant for row in rows))
    budgets = {row.online_steps for row in rows}
    figure = Figure(figsize=(5.2 * len(env_ids), 4.4), layout="constrained")
    for axis, env_id in zip(
        figure.subplots(1, len(env_ids), squeeze=False)[0], env_ids, strict=True
    ):
        mine = [row for row in rows if row.env_id == env_id]
        shown = list(dict.fromkeys(row.variant for row in mine))
        for number, dataset in enumerate(dict.fromkeys(row.dataset_id for row in mine)):
            here = [row for row in mine if row.dataset_id == dataset]
            colour = COLOURS[number % len(COLOURS)]
            name = dataset.rpartition("/")[2].removesuffix("-obs-v0")
            if len(budgets) == 1:
                places = [shown.index(row.variant) for row in here]
                _line(axis, places, here, colour, "-", name)
                continue
            for variant in dict.fromkeys(row.variant for row in here):
                points = [row for row in here if row.variant == variant]
                dashes = DASHES[variants.index(variant) % len(DASHES)]
                label = name + ("" if len(variants) == 1 else f", {variant}")
                _line(axis, [row.online_steps for row in points], points, colour, dashes, label)
        axis.set(title=env_id, ylabel="mean return")
        if len(budgets) == 1:
            labels = [textwrap.fill(variant, 14) for variant in shown]
            axis.set_xticks(range(len(labels)), labels, fontsize=8)
            axis.set_xlim(-0.5, len(labels) - 0.5)
            axis.set_xlabel(f"after {next(iter(budgets)):,} online steps")
        else:
            axis.set_xscale("log")
            axis.set_xlabel("online steps")
        axis.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.22))
    return figure


def _line(
    axis: Axes,
    places: Sequence[int],
    rows: Sequence[BudgetRow],
    colour: str,
    dashes: Any,
    label: str,
) -> None:
    """Draw seeds as dots and their means as a line."""
    returns = np.array([row.mean_return for row in rows])
    along = np.array(places)
    where = np.unique(along)
    means = [returns[along == place].mean() for place in where]
    axis.plot(where, means, color=colour, linestyle=dashes, label=label)
    axis.plot(along, returns, ".", color=colour, alpha=0.5)
