"""Return against online steps, a panel for each environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from qss_offline.online_budget import BudgetRow
from qss_offline.report.figures import COLOURS, DASHES, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def budget_figure(rows: Sequence[BudgetRow]) -> Figure:
    """Draw means over seeds as lines, seeds as dots; colours are recordings, dashes variants.

    Args:
        rows: every measured point.
    """
    from matplotlib.figure import Figure

    env_ids = list(dict.fromkeys(row.env_id for row in rows))
    variants = list(dict.fromkeys(row.variant for row in rows))
    figure = Figure(figsize=(5.2 * len(env_ids), 3.8), layout="constrained")
    for axis, env_id in zip(
        figure.subplots(1, len(env_ids), squeeze=False)[0], env_ids, strict=True
    ):
        mine = [row for row in rows if row.env_id == env_id]
        for number, dataset in enumerate(dict.fromkeys(row.dataset_id for row in mine)):
            for variant in variants:
                points = [r for r in mine if (r.dataset_id, r.variant) == (dataset, variant)]
                if not points:
                    continue
                budgets = sorted({row.online_steps for row in points})
                means = [
                    np.mean([r.mean_return for r in points if r.online_steps == budget])
                    for budget in budgets
                ]
                colour = COLOURS[number % len(COLOURS)]
                dashes = DASHES[variants.index(variant) % len(DASHES)]
                name = dataset.rpartition("/")[2].removesuffix("-obs-v0")
                label = name + ("" if len(variants) == 1 else f", {variant}")
                axis.plot(budgets, means, color=colour, linestyle=dashes, label=label)
                axis.plot(
                    [row.online_steps for row in points],
                    [row.mean_return for row in points],
                    ".",
                    color=colour,
                    alpha=0.5,
                )
        axis.set_xscale("log")
        axis.set(title=env_id, xlabel="online steps", ylabel="mean return")
        axis.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.18))
    return figure
