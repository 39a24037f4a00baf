"""The figure of a comparison. Matplotlib is imported when it is drawn, not before."""

from __future__ import annotations

from collections.abc import Sequence
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
from qss_offline.comparison.rows import BEHAVIOUR, Row, recording_text
from qss_offline.comparison.table import last_returns, normalised_scores
from qss_offline.evaluation.normalization import reference
from qss_offline.runs.reader import LABELS

_STYLES = {
    BEHAVIOUR: (GREY, "|"),
    "auto": (ORANGE, "o"),
    "d3g": (YELLOW, "P"),
    "bco": (BLUE, "s"),
    "bco-mean": (SKY, "v"),
    "pseudo-iql": (SKY, "<"),
    "bc": (PURPLE, "D"),
    "td3+bc": (GREEN, "^"),
    "iql": (BLACK, "x"),
    "cql": (BLACK, "*"),
}
_HEIGHT = 0.7
"""Of the space of a recording that methods are spread over."""


@styled
def png(table: Sequence[Row]) -> bytes:
    """Draw normalised returns of the last policies, a line for each recording, as a PNG file.

    Each seed is a small mark, their mean a large one. Environments without a scale are left out.

    Args:
        table: rows of what is done; recordings are drawn in their order.
    """
    from matplotlib.figure import Figure

    scores = last_returns(table)
    found = dict.fromkeys(recording for recording, _ in scores)
    recordings = [one for one in found if reference(one[1]) is not None]
    methods = [method for method in _STYLES if any(key[1] == method for key in scores)]
    figure = Figure(figsize=(9.2, 0.42 * max(1, len(recordings)) + 1.3), layout="constrained")
    axes = figure.subplots()
    handles: dict[str, Any] = {}
    for place, recording in enumerate(recordings):
        for number, method in enumerate(methods):
            known = normalised_scores(scores.get((recording, method), {}).values(), recording)
            if known is None:
                continue
            at = place + _HEIGHT * ((number + 0.5) / len(methods) - 0.5)
            colour, marker = _STYLES[method]
            if len(known) > 1:
                axes.plot(known, [at] * len(known), marker, color=colour, ms=3, alpha=0.5)
            handles[LABELS[method]] = axes.plot(
                [np.mean(known)], [at], marker, color=colour, ms=6, ls="none"
            )[0]
        if place:
            same = recordings[place - 1][0] == recording[0]
            axes.axhline(place - 0.5, color="#d8d8d4" if same else BLACK, linewidth=0.8)
    axes.set_yticks(range(len(recordings)), [recording_text(one) for one in recordings])
    axes.set_ylim(max(1, len(recordings)) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("normalised return of the last policy: 0 random actions, 1 expert")
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=6)
    return to_png(figure, WIDE_DPI)
