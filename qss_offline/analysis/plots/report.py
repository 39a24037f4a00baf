"""The figures of a report, one panel each."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qss_offline.analysis.measures import Coverage, ValueAgainstReturn
from qss_offline.analysis.plots.style import (
    BLUE,
    COLOURS,
    DASHES,
    GREY,
    ORANGE,
    PANEL_SIZE,
    band,
    styled,
    thousands,
)
from qss_offline.runs.portfolio_config import MEMBERS
from qss_offline.runs.race import Race
from qss_offline.statistics import Interval, Profile, number_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MANY_DIMENSIONS = 12
_SCATTERED, _PLOTTED = 1_500, 500
_LABEL_CHARACTERS = 22
_SHORT_LABEL = 24
_LEGEND_ROW = 0.2

Curve = tuple[NDArray[Any], NDArray[Any]]
"""Steps `(evaluations,)` and returns `(evaluations, seeds)`."""


def _figure(width: float = PANEL_SIZE[0], height: float = PANEL_SIZE[1]) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _legend(figure: Figure, **options: Any) -> None:
    """Put the legend below the axes, which keep their height: inside it would lie on lines."""
    labels = [
        label for axis in figure.axes for label in axis.get_legend_handles_labels()[1]
    ]  # fmt: skip
    if not labels:
        return
    columns = 2 if max(map(len, labels)) <= _SHORT_LABEL else 1
    rows = -(-len(labels) // columns)
    figure.set_figheight(figure.get_figheight() + _LEGEND_ROW * rows)
    figure.legend(loc="outside lower center", ncols=columns, **options)


def _look(index: int) -> tuple[str, Any]:
    """Return the colour and dashes of a line."""
    return COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)]


@styled
def learning_figure(curves: Mapping[str, Curve], behaviour: float | None, title: str) -> Figure:
    """Draw returns over online steps.

    Args:
        curves: for each run, online steps `(evaluations,)` and returns `(evaluations, seeds)`.
        behaviour: mean return of the recording.
        title: what is drawn.
    """
    figure = _figure()
    axis = figure.subplots()
    for index, (label, (steps, returns)) in enumerate(curves.items()):
        band(axis, steps, returns, label, *_look(index), each=True)
        axis.plot(steps, returns.mean(axis=-1), "o", color=COLOURS[index % len(COLOURS)], ms=4)
    if behaviour is not None:
        axis.axhline(behaviour, color=GREY, linestyle=":", label="recorded behaviour")
    axis.set(xlabel="online steps (environment steps)", ylabel="return of an episode", title=title)
    axis.set_xlim(left=0)
    thousands(axis.xaxis)
    _legend(figure)
    return figure


@styled
def race_figure(races: Sequence[Race], title: str) -> Figure:
    """Draw what each member of a portfolio returned in the rounds in which it acted.

    Args:
        races: of each seed.
        title: what is drawn.
    """
    figure = _figure()
    axis = figure.subplots()
    for index, member in enumerate(MEMBERS):
        style: dict[str, Any] = {
            "color": COLOURS[index % len(COLOURS)],
            "linestyle": DASHES[index % len(DASHES)],
            "label": member,
        }
        for race in races:
            means = [
                (number, heat.mean)
                for number, heat in enumerate(race.rounds, 2)
                if heat.member == member
            ]
            axis.plot(*zip(*means, strict=True), marker="o", markersize=4, **style)
            style["label"] = "_"
    axis.set(xlabel="round", ylabel="return of an episode, estimated", title=title)
    axis.set_xticks(range(2, len(races[0].rounds) + 2))
    _legend(figure)
    return figure


@styled
def training_figure(
    updates: NDArray[Any],
    lines: Mapping[str, NDArray[Any]],
    ylabel: str,
    title: str,
    *,
    limits: tuple[float, float] | None = None,
    log: bool = False,
) -> Figure:
    """Draw metrics of offline training over its updates.

    Args:
        updates: `(rows,)`.
        lines: `(rows, seeds)` of each metric.
        ylabel: with its unit.
        title: what is drawn.
        limits: least and greatest possible value, drawn where they are near.
        log: whether the axis is logarithmic.
    """
    figure = _figure()
    axis = figure.subplots()
    for index, (label, rows) in enumerate(lines.items()):
        band(axis, updates, rows, label, *_look(index), each=True)
    if limits is not None:
        low, high = min(map(np.min, lines.values())), max(map(np.max, lines.values()))
        reach = 0.5 * max(limits[1] - limits[0], 1e-9)
        for limit in set(limits):
            if low - reach <= limit <= high + reach:
                axis.axhline(limit, color=GREY, linestyle=":")
                axis.annotate(
                    "possible limit",
                    (0.99, limit),
                    xycoords=("axes fraction", "data"),
                    ha="right",
                    va="bottom",
                    fontsize=8,
                    color=GREY,
                )
    if log:
        axis.set_yscale("log")
    axis.set(xlabel="updates of offline training", ylabel=ylabel, title=title)
    thousands(axis.xaxis)
    if len(lines) > 1:
        _legend(figure)
    return figure


@styled
def last_against_best_figure(
    rows: Sequence[tuple[str, float, float]], behaviour: float | None
) -> Figure:
    """Draw each seed's last evaluation beside its best.

    Args:
        rows: label, last and best of each seed.
        behaviour: mean return of the recording.
    """
    figure = _figure(height=max(2.0, 1.1 + 0.3 * len(rows)))
    axis = figure.subplots()
    for place, (_, last, best) in enumerate(rows):
        axis.plot([last, best], [place, place], color="#bbbbbb", linewidth=2, zorder=1)
        # The numbers stand beside the axes: marks that lie on each other are told apart there.
        text = f"{number_text(last)}, best {number_text(best)}" if last != best else (
            f"{number_text(last)} is its best"
        )  # fmt: skip
        axis.annotate(text, (1.02, place), xycoords=("axes fraction", "data"), va="center",
                      fontsize=8)  # fmt: skip
    places = range(len(rows))
    # A ring around the dot, so that both show where the last is the best.
    axis.plot([row[2] for row in rows], places, "o", mfc="none", mew=1.8, color=ORANGE, ms=11,
              label="best")  # fmt: skip
    axis.plot([row[1] for row in rows], places, "o", color=BLUE, ms=5, label="last")
    if behaviour is not None:
        axis.axvline(behaviour, color=GREY, linestyle=":", label="recorded")
    axis.set_yticks(list(places), [row[0] for row in rows])
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set(xlabel="mean return of an evaluation", title="Last policy against best evaluation")
    axis.margins(x=0.08)
    _legend(figure)
    return figure


@styled
def value_figure(values: Sequence[tuple[str, ValueAgainstReturn]]) -> Figure:
    """Draw promised values against the discounted returns that followed."""
    figure = _figure()
    axis = figure.subplots()
    rng = np.random.default_rng(0)
    spans = []
    for index, (label, one) in enumerate(values):
        chosen = rng.permutation(len(one.true))[:_SCATTERED]
        axis.plot(
            one.true[chosen],
            one.promised[chosen],
            ".",
            ms=3,
            alpha=0.35,
            color=COLOURS[index % len(COLOURS)],
            label=label,
            rasterized=True,
        )
        spans += [one.true.min(), one.true.max(), one.promised.min(), one.promised.max()]
    low, high = min(spans), max(spans)
    margin = 0.05 * max(high - low, 1.0)
    ends = (low - margin, high + margin)
    axis.plot(ends, ends, color="black", linewidth=1, label="exact")
    axis.set(
        xlabel="true discounted return that followed",
        ylabel="promised: Q(s, C(s, τ(s)))",
        title="Above the line: overestimated",
        xlim=ends,
        ylim=ends,
    )
    _legend(figure, markerscale=3)
    return figure


@styled
def coverage_figure(found: Coverage, label: str) -> Figure:
    """Draw where the recording has been and where proposals lead, on two principal axes."""
    figure = _figure(height=3.6)
    axis = figure.subplots()
    every = np.concatenate((found.recorded, found.proposed))
    low, high = np.quantile(every, (0.002, 0.998), axis=0)
    shown = found.recorded[((found.recorded >= low) & (found.recorded <= high)).all(axis=1)]
    if len(shown):
        cells = axis.hexbin(
            shown[:, 0], shown[:, 1], gridsize=40, bins="log", mincnt=1, cmap="Greys", linewidths=0
        )
        figure.colorbar(cells, ax=axis, label="recorded states", shrink=0.85)
    for states, colour, mark, size, name in (
        (found.proposed, ORANGE, "o", 3, "proposals s + τ(s)"),
        (found.cycled_next_obs, BLUE, "+", 4.5, "cycled C(s, τ(s))"),
    ):
        axis.plot(
            *states[:_PLOTTED].T,
            mark,
            ms=size,
            alpha=0.7,
            color=colour,
            label=name,
            markeredgewidth=0.8,
            rasterized=True,
        )
    margin = 0.05 * np.maximum(high - low, 1e-9)
    axis.set(
        xlabel=f"first principal axis ({found.explained[0]:.0%} of the variance)",
        ylabel=f"second ({found.explained[1]:.0%})",
        title=f"{label}: {found.proposed_outside:.0%} of proposals outside the data",
        xlim=(low[0] - margin[0], high[0] + margin[0]),
        ylim=(low[1] - margin[1], high[1] + margin[1]),
    )
    _legend(figure, markerscale=2)
    return figure


@styled
def distance_figure(measured: Mapping[str, Any], far: float) -> Figure:
    """Draw how far plans are from the simulator.

    Args:
        measured: `mean`, `low`, `high` and `still`, each `(steps + 1,)`.
        far: the greatest distance that is drawn.
    """
    figure = _figure()
    axis = figure.subplots()
    steps = np.arange(len(measured["mean"]))
    mean, low, high, still = (
        np.asarray(measured[name], np.float64) for name in ("mean", "low", "high", "still")
    )
    axis.fill_between(steps, low, np.minimum(high, far), color=BLUE, alpha=0.2, linewidth=0)
    axis.plot(steps, np.where(mean <= far, mean, np.nan), color=BLUE, label="imagined plan")
    axis.plot(steps, still, color=GREY, linestyle="--", label="staying where it began")
    lost = np.flatnonzero(~(mean <= far))
    if len(lost):
        axis.axvline(lost[0], color=ORANGE, linestyle=":",
                     label=f"more than {number_text(far)} from here on")  # fmt: skip
        # Else the first steps would lie on the axis.
        axis.set_yscale("symlog", linthresh=1.0)
        axis.yaxis.set_major_formatter(lambda value, _: number_text(value))
    axis.set(
        xlabel="step",
        ylabel="distance (standard deviations\nof the recording)",
        title="Plan against the simulator under the policy",
    )
    axis.set_ylim(bottom=0)
    _legend(figure)
    return figure


@styled
def dimensions_figure(strips: Sequence[tuple[str, NDArray[Any]]]) -> Figure:
    """Draw the dimensions of trajectories over their steps.

    Args:
        strips: title and observations `(T + 1, obs_dim)` of each.
    """
    dims = strips[0][1].shape[1]
    shown = min(dims, _MANY_DIMENSIONS)
    columns = 2 if shown <= 4 else 3
    rows = -(-shown // columns)
    figure = _figure(2.4 * columns + 0.4, 1.6 * rows + 0.7)
    axes = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    for dim, axis in enumerate(axes):
        if dim >= shown:
            axis.set_axis_off()
            continue
        for index, (title, observations) in enumerate(strips):
            axis.plot(
                observations[:, dim],
                color=COLOURS[index],
                linestyle=DASHES[index],
                linewidth=1.4,
                label=title if dim == 0 else None,
            )
        axis.set_title(f"dimension {dim}", fontsize=9)
        if dim >= shown - columns:
            axis.set_xlabel("step")
    if shown < dims:
        figure.suptitle(f"the first {shown} of {dims} dimensions", fontsize=10)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@styled
def profile_figure(profiles: Mapping[str, Profile]) -> Figure:
    """Draw the share of runs above each normalised score."""
    figure = _figure()
    axis = figure.subplots()
    for index, (label, profile) in enumerate(profiles.items()):
        colour, dashes = COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)]
        axis.plot(
            profile.thresholds,
            profile.fractions,
            color=colour,
            linestyle=dashes,
            label=label,
            drawstyle="steps-post",
        )
        axis.fill_between(
            profile.thresholds,
            profile.low,
            profile.high,
            step="post",
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
    axis.set(
        xlabel="normalised score x (0 random, 1 expert)",
        ylabel="share of runs above x",
        title="Performance profiles",
        ylim=(-0.02, 1.02),
    )
    _legend(figure)
    return figure


@styled
def improvement_figure(pairs: Sequence[tuple[str, Interval]]) -> Figure:
    """Draw probabilities of improvement with their intervals.

    Args:
        pairs: "X over Y" and P(X > Y) of each pair.
    """
    # Long names would leave no room for the axis.
    labels = [textwrap.fill(label, _LABEL_CHARACTERS) for label, _ in pairs]
    lines = sum(1 + label.count("\n") for label in labels)
    figure = _figure(height=1.4 + 0.17 * (len(pairs) + lines))
    axis = figure.subplots()
    for place, (_, found) in enumerate(pairs):
        axis.plot([found.low, found.high], [place, place], color=BLUE, linewidth=5, alpha=0.35)
        axis.plot(found.estimate, place, "o", color=BLUE)
        axis.annotate(str(found), (1.03, place), xycoords=("axes fraction", "data"), va="center",
                      fontsize=8)  # fmt: skip
    axis.axvline(0.5, color=GREY, linestyle=":")
    axis.set_yticks(range(len(pairs)), labels)
    axis.set_ylim(len(pairs) - 0.5, -0.5)
    interval = ", 95% interval" if any(found.known for _, found in pairs) else ""
    axis.set(xlabel=f"P(X > Y){interval}", title="Probability of improvement", xlim=(-0.02, 1.02))
    return figure
