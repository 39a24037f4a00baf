"""Learning curves of online runs, read from their results files and drawn (Figure 7)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    band,
    styled,
    thousands,
    to_png,
)
from qss_offline.errors import printable
from qss_offline.runs.folder import read_json
from qss_offline.runs.reader import LABELS, load_online_run
from qss_offline.runs.results import (
    FINAL_EVALUATIONS,
    final_mean,
    learning_curve,
    value_curve,
)
from qss_offline.statistics import counted

_LOOKS: dict[str, tuple[str, Any]] = {
    "d3g": (BLUE, "-"),
    "d3g-no-cycle": (ORANGE, "--"),
    "nfq": (PURPLE, ":"),
    "dqn": (ORANGE, "--"),
    "double-dqn": (GREEN, "-."),
    "ddpg": (PURPLE, ":"),
    "td3": (GREEN, "-."),
    "sac": (SKY, (0, (5, 1))),
}


def load_curves(folder: Path) -> list[dict[str, Any]]:
    """Read the results files of online runs in a folder, in the order of their names.

    Raises:
        UserError: one can't be read, or is of another version of this package.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        if {"algorithm", "seeds", "wall_seconds"} <= read_json(path).keys():
            found.append(load_online_run(path).results)
    return found


def curve(result: dict[str, Any]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the steps `(points,)` and mean returns `(points, seeds)` of a results file.

    A run that started offline begins with the online steps that the offline run took.
    """
    steps, means = learning_curve(result["seeds"])
    return steps + int(result.get("steps_before", 0)), means


def png(results: Sequence[dict[str, Any]]) -> bytes:
    """Draw returns, a panel for each environment: means over seeds in 95% bootstrap intervals.

    Of too few seeds for an interval each is a thin line. Where untrained policies, or D3G⁻, return
    far less than the others learn to, that is cut off.
    """
    return _png(results, curve, "return of an episode")


def values_png(results: Sequence[dict[str, Any]]) -> bytes:
    """Draw what values were too high by, likewise: 0 is true. What has no values is left out."""

    def errors(result: dict[str, Any]) -> Curve:
        found = value_curve(result["seeds"])
        assert found is not None
        return found

    known = [result for result in results if value_curve(result["seeds"]) is not None]
    return _png(known, errors, "overestimation: value less return", line=0.0)


Curve = tuple[NDArray[np.int64], NDArray[np.float64]]

_BOUNDLESS = 5_000
"""Beyond this the scale is logarithmic: values without a cycle grow without bound."""

_FAR_BELOW = 3.0
"""Returns reach so many times further down than those of policies that learned: cut off."""


@styled
def _png(
    results: Sequence[dict[str, Any]],
    drawn: Callable[[dict[str, Any]], Curve],
    label_y: str,
    line: float | None = None,
) -> bytes:
    from matplotlib.figure import Figure

    env_ids = list(dict.fromkeys(result["env_id"] for result in results))
    columns = min(4, len(env_ids))
    rows = math.ceil(len(env_ids) / columns)
    figure = Figure(figsize=(max(4.2 * columns, 5), 3.8 * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel, env_id in zip(axes, env_ids, strict=False):
        largest, reached = 0.0, []
        for result in results:
            if result["env_id"] != env_id:
                continue
            steps, samples = drawn(result)
            largest = max(largest, float(np.abs(samples).max()))
            algorithm = printable(result["algorithm"])
            learned = samples[1:] if algorithm != "d3g-no-cycle" else samples[:0]
            reached.append((samples.min(), learned.min(initial=math.inf), samples.max()))
            name = LABELS.get(algorithm, algorithm)
            colour, dashes = _LOOKS.get(algorithm, (BLACK, "-"))
            if result.get("start_run") is not None:
                name, colour = f"{name}, started offline", YELLOW
            label = f"{name} ({counted(samples.shape[1], 'seed')})"
            band(panel, steps, samples, label, colour, dashes)
        (lowest, least), most = np.min(reached, axis=0)[:2], np.max(reached, axis=0)[2]
        cut = line is None and most - lowest > _FAR_BELOW * (most - least) > 0
        if cut:
            panel.set_ylim(bottom=least - 0.1 * (most - least))
        panel.set_title(printable(env_id) + (", lower returns cut off" if cut else ""))
        panel.set_xlabel("environment steps")
        thousands(panel.xaxis)
        panel.set_ylabel(label_y)
        if line is not None:
            panel.axhline(line, color=GREY, linewidth=0.8)
            if largest > _BOUNDLESS:
                panel.set_yscale("symlog", linthresh=100)
                panel.set_ymargin(0.0)
        # Below: inside it would lie on lines.
        panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, fontsize=8)
    for panel in axes[len(env_ids) :]:
        panel.set_visible(False)
    return to_png(figure, WIDE_DPI)


def return_lines(result: dict[str, Any]) -> list[str]:
    """Return a line for each evaluation: online steps, the mean over seeds, and each seed's."""
    begun = "from nothing" if result.get("start_run") is None else "from an offline run"
    lines = [f"{result['env_id']} {result['algorithm']}, {begun}:"]
    for step, means in zip(*curve(result), strict=True):
        listed = ", ".join(f"{mean:.1f}" for mean in means)
        lines.append(f"  {step:>9,} online steps: {means.mean():8.1f}  ({listed})")
    return lines


def score_lines(results: Sequence[dict[str, Any]]) -> list[str]:
    """Return a line for each run: the mean of the last evaluations of every seed."""
    lines = []
    for result in results:
        listed = ", ".join(f"{final_mean(seed):.1f}" for seed in result["seeds"])
        lines.append(
            f"{printable(result['env_id'])} {printable(result['algorithm'])}, "
            f"{result['steps']:,} steps, mean of the last {FINAL_EVALUATIONS} evaluations of each "
            f"seed: {listed}"
        )
    return lines
