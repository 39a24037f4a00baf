"""Numbers about a dataset, and a picture of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qss_offline.data.load import load_transitions
from qss_offline.data.stochasticity import behaviour_stochasticity
from qss_offline.data.transitions import BoolArray, Float64Array, Transitions
from qss_offline.errors import UserError
from qss_offline.files import atomic_path
from qss_offline.parallel.reporting import Notice, print_notice
from qss_offline.statistics import mean_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PLOTTED_POINTS = 20_000


@dataclass(frozen=True)
class Statistics:
    """Numbers about a dataset. Intervals are 95% bootstrap intervals over episodes.

    Attributes:
        dataset_id: Minari id.
        transitions: rows.
        episodes: episodes.
        terminated: share of the episodes that terminated.
        return_mean: mean undiscounted return over all episodes, cut ones included.
        return_interval: lower and upper end of its interval; None where there are fewer than
            five episodes.
        return_min: lowest return.
        return_max: highest return.
        length_mean: mean steps of an episode.
        length_interval: its interval, likewise.
        coverage: share of the cells that are visited, of a 50 by 50 grid over the first two
            principal components of the observations, each from its 0.5% to its 99.5% quantile.
        stochasticity: see `behaviour_stochasticity`; None where a recording is too small to tell.
    """

    dataset_id: str
    transitions: int
    episodes: int
    terminated: float
    return_mean: float
    return_interval: tuple[float, float] | None
    return_min: float
    return_max: float
    length_mean: float
    length_interval: tuple[float, float] | None
    coverage: float
    stochasticity: float | None


def interval_of_mean(values: Float64Array) -> tuple[float, float] | None:
    """Return the 95% interval of the mean of `values`, `(n,)`; of fewer than five there is none."""
    interval = mean_interval(values, np.random.default_rng(0))
    return (interval.low, interval.high) if interval.known else None


def dataset_statistics(
    dataset_id: str,
    picture: Path | None = None,
    *,
    overwrite: bool = False,
    notice: Notice = print_notice,
) -> Statistics:
    """Return numbers about a dataset and draw its returns, lengths and state coverage.

    Args:
        dataset_id: Minari id.
        picture: where to put a PNG; None draws nothing.
        overwrite: replace a picture that exists.
        notice: called with a line about whatever is out of the ordinary.

    Raises:
        UserError: the dataset can't be loaded, or the picture can't be written.
    """
    if picture is not None:
        if picture.suffix != ".png":
            raise UserError(f"{picture}: expected a file that ends in .png")
        if picture.exists() and not overwrite:
            raise UserError(f"{picture} exists; overwrite it or choose another name")
    transitions = load_transitions(dataset_id, notice=notice).transitions
    returns = transitions.episode_returns()
    lengths = transitions.episode_lengths()
    ends = np.append(transitions.episode_starts()[1:], len(transitions)) - 1
    _, grid = _grid(_principal_plane(transitions)[0])
    if picture is not None:
        figure = dataset_figure(dataset_id, transitions)
        with atomic_path(picture) as temporary:
            figure.savefig(temporary, format="png", dpi=120)
    return Statistics(
        dataset_id=dataset_id,
        transitions=len(transitions),
        episodes=len(returns),
        terminated=float(transitions.terminations[ends].mean()),
        return_mean=float(returns.mean()),
        return_interval=interval_of_mean(returns),
        return_min=float(returns.min()),
        return_max=float(returns.max()),
        length_mean=float(lengths.mean()),
        length_interval=interval_of_mean(lengths.astype(np.float64)),
        coverage=float((grid > 0).mean()),
        stochasticity=behaviour_stochasticity(transitions),
    )


def _principal_plane(transitions: Transitions) -> tuple[Float64Array, Float64Array]:
    """Return some observations in their first two principal components, and the variance held.

    Observations are standardised first. A single number in an observation gets a second one, 0.
    """
    step = max(1, len(transitions) // _PLOTTED_POINTS)
    sample = transitions.observations[::step].astype(np.float64)
    std = sample.std(axis=0)
    scaled = (sample - sample.mean(axis=0)) / np.where(std > 1e-9, std, 1.0)
    if scaled.shape[1] == 1:
        scaled = np.column_stack([scaled, np.zeros(len(scaled))])
    _, values, vectors = np.linalg.svd(scaled, full_matrices=False)
    if len(vectors) < 2:
        return scaled[:, :2], np.array([1.0, 0.0])
    share = values**2 / max(float((values**2).sum()), 1e-30)
    return scaled @ vectors[:2].T, share[:2]


def _grid(plane: Float64Array) -> tuple[BoolArray, Float64Array]:
    low, high = np.quantile(plane, (0.005, 0.995), axis=0)
    inside: BoolArray = ((plane >= low) & (plane <= high)).all(axis=1)
    spread = np.where(high > low, high, low + 1.0)
    bounds = [(float(low[i]), float(spread[i])) for i in range(2)]
    counts, _, _ = np.histogram2d(plane[:, 0], plane[:, 1], bins=50, range=bounds)
    return inside, counts


def dataset_figure(dataset_id: str, transitions: Transitions) -> Figure:
    """Draw the returns, lengths and state coverage of a dataset.

    Args:
        dataset_id: the title.
        transitions: its rows.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    returns, lengths = transitions.episode_returns(), transitions.episode_lengths()
    plane, explained = _principal_plane(transitions)
    plane = plane[_grid(plane)[0]]
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(dataset_id)
    axes = figure.subplots(1, 3)
    panels: list[tuple[Any, str]] = [
        (returns, "return of an episode"),
        (lengths, "steps of an episode"),
    ]
    for axis, (values, label) in zip(axes[:2], panels, strict=True):
        middle = float(np.median(values))
        # Nearly equal values, however large, are one bar.
        room = max(0.5, 1e-3 * abs(middle))
        span = min(values.min(), middle - room), max(values.max(), middle + room)
        bins = min(60, max(5, len(np.unique(values))))
        axis.hist(values, bins, range=span, color="#3b6ea5")
        axis.set(xlabel=label, ylabel="episodes")
    if len(plane):
        axes[2].hexbin(plane[:, 0], plane[:, 1], gridsize=40, bins="log", mincnt=1, cmap="viridis")
    axes[2].set(
        xlabel=f"component 1 ({explained[0]:.0%} of the variance)",
        ylabel=f"component 2 ({explained[1]:.0%})",
        title="observations",
    )
    return figure
