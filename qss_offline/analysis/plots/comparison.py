"""The figure of a comparison. Matplotlib is imported when it is drawn, not before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
from qss_offline.comparison.table import Row, summarise
from qss_offline.statistics import Interval

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
_LABELS = {
    "d3g": "D3G",
    "bco": "BCO",
    "pseudo-td3+bc": "pseudo-labelled TD3+BC",
    "pseudo-iql": "pseudo-labelled IQL",
    "bc": "BC, with actions",
    "td3+bc": "TD3+BC, with actions",
    "iql": "IQL, with actions",
    "cql": "CQL, with actions",
}


@styled
def png(
    cells: Sequence[Cell],
    table: Sequence[Row],
    behaviour: Mapping[str, Interval],
    metric: str = "last",
) -> bytes:
    """Draw mean return against randomness, a panel for each environment, as a PNG file.

    Bars are 95% bootstrap intervals over seeds; hollow rings are the paper's D3G.

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
        for place, method in enumerate(methods):
            # Shifted sideways, so that bars of equal height stay apart.
            shift = 2.0 * (place - (len(methods) - 1) / 2)
            done = [c for c in here if (env_id, c.random_action_prob, c.method) in summaries]
            done = [c for c in done if c.method == method]
            if not done:
                continue
            levels = np.array([100 * c.random_action_prob for c in done])
            intervals = [summaries[env_id, c.random_action_prob, method].mean for c in done]
            values = np.array([i.estimate for i in intervals])
            low = np.nan_to_num(values - np.array([i.low for i in intervals]))
            high = np.nan_to_num(np.array([i.high for i in intervals]) - values)
            colour, marker = _STYLES[method]
            handles[_LABELS[method]] = axes.errorbar(
                levels + shift,
                values,
                yerr=np.maximum([low, high], 0.0),
                color=colour,
                marker=marker,
                linewidth=1.0,
                markersize=6,
                capsize=2,
            )
        recordings = dict.fromkeys((c.random_action_prob, c.obs_id) for c in here)
        recorded = [
            (100 * p, behaviour[name].estimate) for p, name in recordings if name in behaviour
        ]
        if len(recorded) == 1:
            # A single point makes no line: as wide as what stands beside it.
            ((level, height),) = recorded
            recorded = [(level - len(methods), height), (level + len(methods), height)]
        handles["recorded behaviour"] = axes.plot(
            *np.array(recorded).reshape(-1, 2).T, color=GREY, linestyle=":"
        )[0]
        axes.set_xticks([100 * level for level, _ in recordings])
        paper = [(level, reported(env_id, "d3g", level)) for level, _ in recordings]
        known = [(100 * level, figure_.mean) for level, figure_ in paper if figure_ is not None]
        if known:
            handles["D3G in the paper (best)"] = axes.scatter(
                *zip(*known, strict=True), s=110, facecolors="none", edgecolors=ORANGE
            )
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
