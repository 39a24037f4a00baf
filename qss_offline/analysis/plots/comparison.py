"""The figure of a comparison. Matplotlib is imported when it is drawn, not before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qss_offline.analysis.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    WIDE_DPI,
    YELLOW,
    styled,
    to_png,
)
from qss_offline.comparison.cells import Cell
from qss_offline.comparison.paper_results import reported
from qss_offline.comparison.table import Row, Summary, summarise
from qss_offline.runs.reader import LABELS
from qss_offline.statistics import ENOUGH, Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import ErrorbarContainer

_STYLES = {
    "d3g": (ORANGE, "o"),
    "bco": (BLUE, "s"),
    "pseudo-td3+bc": (GREEN, "^"),
    "pseudo-iql": (SKY, "v"),
    "bc": (PURPLE, "D"),
    "td3+bc": (YELLOW, "P"),
    "iql": (GREY, "X"),
    "cql": (BLACK, "*"),
}
_WIDTH = 0.84
"""Of the space of a level that methods are spread over."""


@styled
def png(
    cells: Sequence[Cell],
    table: Sequence[Row],
    behaviour: Mapping[str, Interval],
    metric: str = "last",
) -> bytes:
    """Draw mean return at each level of randomness, a panel for each environment, as a PNG file.

    Levels are categories, methods side by side in each. Bars are 95% bootstrap intervals over
    seeds; where there are too few seeds for one, small dots are the seeds. Hollow rings are the
    paper's D3G.

    Args:
        cells: what was asked for.
        table: rows of what is done.
        behaviour: mean return of the recorded episodes, by id of the recording, where known.
        metric: "last" or "best".
    """
    from matplotlib.figure import Figure

    summaries = summarise(table, metric)
    env_ids = list(dict.fromkeys(cell.env_id for cell in cells))
    figure = Figure(figsize=(5.2 * len(env_ids), 4.6), layout="constrained")
    handles: dict[str, Any] = {}
    for axes, env_id in zip(
        figure.subplots(1, len(env_ids), squeeze=False)[0], env_ids, strict=True
    ):
        here = [cell for cell in cells if cell.env_id == env_id]
        methods = list(dict.fromkeys(cell.method for cell in here))
        recordings = dict.fromkeys((c.random_action_prob, c.obs_id) for c in here)
        levels = list(dict.fromkeys(level for level, _ in recordings))
        for place, method in enumerate(methods):
            shift = _WIDTH * ((place + 0.5) / len(methods) - 0.5)
            done = [
                (levels.index(level) + shift, summaries[env_id, level, method])
                for level in levels
                if (env_id, level, method) in summaries
            ]
            if done:
                handles[LABELS[method]] = _draw(axes, done, *_STYLES[method])
        for level, obs_id in recordings:
            if obs_id in behaviour:
                at = levels.index(level)
                handles["recorded behaviour"] = axes.plot(
                    [at - 0.42, at + 0.42], [behaviour[obs_id].estimate] * 2, color=GREY, ls=":"
                )[0]
            paper = reported(env_id, "d3g", level)
            if paper is not None:
                handles["D3G in the paper (best of 100)"] = axes.scatter(
                    levels.index(level), paper.mean, s=110, facecolors="none", edgecolors=ORANGE
                )
        for boundary in range(1, len(levels)):
            axes.axvline(boundary - 0.5, color="#d8d8d4", linewidth=0.8)
        axes.grid(axis="x", visible=False)
        axes.set_xticks(range(len(levels)), [f"{100 * level:g}" for level in levels])
        axes.set_xlim(-0.5, len(levels) - 0.5)
        axes.set_title(env_id)
        axes.set_xlabel("random actions in the recording (%)")
        axes.set_ylabel(f"mean return ({metric} evaluation)")
    # As many columns as the panels are wide: what doesn't fit would be cut off.
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=2 * len(env_ids),
    )
    return to_png(figure, WIDE_DPI)


def _draw(
    axes: Axes, done: Sequence[tuple[float, Summary]], colour: str, marker: str
) -> ErrorbarContainer:
    """Draw a method's means at their places, with intervals or, of few seeds, the seeds."""
    places = np.array([place for place, _ in done])
    means = [summary.mean for _, summary in done]
    for place, summary in done:
        if 1 < len(summary.scores) < ENOUGH:
            axes.plot([place] * len(summary.scores), summary.scores, ".", color=colour, ms=4,
                      alpha=0.6)  # fmt: skip
    return axes.errorbar(
        places,
        [one.estimate for one in means],
        yerr=np.nan_to_num(
            [[one.estimate - one.low for one in means], [one.high - one.estimate for one in means]]
        ),
        color=colour,
        marker=marker,
        linestyle="none",
        markersize=5.5,
        capsize=2,
    )
