"""Learning curves of online runs, read from their results files and drawn (Figure 7)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qss_offline.analysis.plots.style import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    WIDE_DPI,
    YELLOW,
    styled,
    to_png,
)
from qss_offline.errors import UserError
from qss_offline.runs.folder import read_json
from qss_offline.runs.results import FINAL_EVALUATIONS, final_mean, learning_curve
from qss_offline.statistics import bootstrap_interval, mean

_LOOKS = {
    "d3g": ("D3G", BLUE, "-"),
    "d3g-no-cycle": ("D3G⁻", ORANGE, "--"),
    "td3": ("TD3", GREEN, "-."),
    "ddpg": ("DDPG", PURPLE, ":"),
}

# Each point's interval is one of many in a picture.
_RESAMPLES = 1_000


def load_curves(folder: Path) -> list[dict[str, Any]]:
    """Read the results files of online runs in a folder, in the order of their names.

    Raises:
        UserError: one can't be read, or is of another version of this package.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        result = read_json(path)
        if not {"algorithm", "seeds", "wall_seconds"} <= result.keys():
            continue
        try:
            curve(result)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path} holds no results of an online run: {error} is missing or wrong; it is of "
                "another version of this package"
            ) from error
        found.append(result)
    return found


def curve(result: dict[str, Any]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the steps `(points,)` and mean returns `(points, seeds)` of a results file.

    A run that started offline begins with the online steps that the offline run took.
    """
    steps, means = learning_curve(result["seeds"])
    return steps + int(result.get("steps_before", 0)), means


@styled
def png(results: Sequence[dict[str, Any]]) -> bytes:
    """Draw a panel for each environment: the mean over seeds in its 95% bootstrap interval."""
    from matplotlib.figure import Figure

    env_ids = list(dict.fromkeys(result["env_id"] for result in results))
    columns = min(4, len(env_ids))
    rows = math.ceil(len(env_ids) / columns)
    figure = Figure(figsize=(max(4.2 * columns, 5), 3.4 * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel, env_id in zip(axes, env_ids, strict=False):
        for result in results:
            if result["env_id"] != env_id:
                continue
            steps, samples = curve(result)
            name, colour, dashes = _LOOKS[result["algorithm"]]
            if result.get("start_run") is not None:
                name, colour = f"{name}, started offline", YELLOW
            count = samples.shape[1]
            label = f"{name} ({count} seed{'s' if count > 1 else ''})"
            panel.plot(steps, samples.mean(axis=1), color=colour, ls=dashes, label=label)
            if count > 1:
                # Bounds that Student's interval gives a few seeds go far beyond any return.
                rng = np.random.default_rng(0)
                bands = [
                    bootstrap_interval(point, rng, mean, resamples=_RESAMPLES) for point in samples
                ]
                low, high = ([getattr(band, end) for band in bands] for end in ("low", "high"))
                panel.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
        panel.set_title(env_id)
        panel.set_xlabel("environment steps")
        panel.set_ylabel("return of an episode")
        panel.legend()
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
            f"{result['env_id']} {result['algorithm']}, {result['steps']:,} steps, mean of the "
            f"last {FINAL_EVALUATIONS} evaluations of each seed: {listed}"
        )
    return lines
