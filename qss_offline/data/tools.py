"""What one does with datasets: list, describe, split, merge, sample, and look at them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from qss_offline.data import importing, minari_format
from qss_offline.data.importing import About
from qss_offline.data.load import load_transitions
from qss_offline.data.metadata import env_id_of
from qss_offline.data.minari_format import StoredDatasets
from qss_offline.data.stochasticity import behaviour_stochasticity
from qss_offline.data.transitions import BoolArray, Float64Array, Int64Array, Transitions
from qss_offline.errors import UserError
from qss_offline.files import atomic_path
from qss_offline.parallel.reporting import Notice, ProgressFactory, no_progress, print_notice
from qss_offline.statistics import mean_interval

_PLOTTED_POINTS = 20_000
# Describing a dataset to a person needs none of this.
_BULKY = ("observation_space", "action_space", "env_spec", "eval_env_spec")


@dataclass(frozen=True)
class Summary:
    """One line about a local dataset.

    Attributes:
        dataset_id: Minari id.
        env_id: Gymnasium id, None where unknown.
        observation_only: whether it holds no actions; None where that can't be told.
        total_steps: rows.
        total_episodes: episodes.
        problem: why it can't be used, None where it looks sound. Only metadata are read.
    """

    dataset_id: str
    env_id: str | None
    observation_only: bool | None
    total_steps: int
    total_episodes: int
    problem: str | None = None


def list_datasets() -> list[Summary]:
    """Return one line for each local dataset, read from its metadata alone.

    Raises:
        UserError: the Minari root can't be used.
    """
    root = minari_format.minari_root()
    # Many datasets share a few spaces, and to make one takes longer than all the rest.
    without_actions: dict[str, bool] = {}
    summaries = []
    for dataset_id in minari_format.local_dataset_ids():
        try:
            metadata = minari_format.read_metadata(dataset_id, root)
            described = metadata["action_space"]
            if described not in without_actions:
                space = minari_format.read_space(metadata, "action_space")
                without_actions[described] = minari_format.is_placeholder(space)
        except UserError as error:
            summaries.append(Summary(dataset_id, None, None, 0, 0, str(error)))
            continue
        summaries.append(
            Summary(
                dataset_id,
                env_id_of(metadata),
                without_actions[described],
                metadata["total_steps"],
                metadata["total_episodes"],
            )
        )
    return summaries


def describe(dataset_id: str) -> dict[str, Any]:
    """Return what is known about a dataset, as plain JSON values; no bound is None.

    Raises:
        UserError: it can't be loaded.
    """
    info = asdict(load_transitions(dataset_id).info)
    for name in ("action_low", "action_high"):
        if info[name] is not None:
            info[name] = [bound if math.isfinite(bound) else None for bound in info[name].tolist()]
    metadata = minari_format.read_metadata(dataset_id)
    more = {key: value for key, value in metadata.items() if key not in info.keys() | set(_BULKY)}
    return info | {"metadata": more}


# --- new datasets out of old ones -----------------------------------------------------------


def _load(dataset_id: str, notice: Notice) -> tuple[Transitions, dict[str, Any]]:
    loaded = load_transitions(dataset_id, notice=notice)
    return loaded.transitions, minari_format.read_metadata(dataset_id)


def _derive(
    transitions: Transitions,
    dataset_id: str,
    sources: Sequence[dict[str, Any]],
    made: dict[str, Any],
    overwrite: bool,
    progress: ProgressFactory,
) -> StoredDatasets:
    """Store transitions that come from other datasets, with what their metadata agree on."""
    first = sources[0]
    kept: dict[str, Any] = {}
    for key in (
        "env_id",
        "env_spec",
        "author",
        "author_email",
        "license",
        "random_action_prob",
        "algorithm_name",
        "observations_flattened",
        "code_permalink",
    ):
        if key in first and all(source.get(key) == first[key] for source in sources):
            kept[key] = first[key]
    observation_space = minari_format.read_space(first, "observation_space")
    action_space = minari_format.read_space(first, "action_space")
    assert isinstance(observation_space, spaces.Box)
    about = About(
        text=f"{made['kind'].capitalize()} of {', '.join(s['dataset_id'] for s in sources)}",
        algorithm_name=kept.pop("algorithm_name", None),
    )
    of = [{key: source.get(key) for key in ("dataset_id", "digest")} for source in sources]
    return importing.store(
        transitions,
        dataset_id,
        about,
        made | {"of": of},
        observation_space=observation_space,
        action_space=action_space if isinstance(action_space, spaces.Box) else None,
        extra=kept,
        overwrite=overwrite,
        progress=progress,
    )


def _take(transitions: Transitions, chosen: Int64Array) -> Transitions:
    """Return whole episodes, by their place, in that order; counted anew from 0."""
    starts, lengths = transitions.episode_starts(), transitions.episode_lengths()
    total = int(lengths[chosen].sum())
    first_rows = np.repeat(starts[chosen], lengths[chosen])
    before = np.repeat(np.cumsum(lengths[chosen]) - lengths[chosen], lengths[chosen])
    rows = first_rows + np.arange(total) - before
    columns = {name: column[rows] for name, column in transitions.columns().items()}
    columns["episodes"] = np.repeat(np.arange(len(chosen), dtype=np.int64), lengths[chosen])
    return Transitions(**columns)


def split_dataset(
    dataset_id: str,
    parts: Mapping[str, float],
    *,
    seed: int = 0,
    overwrite: bool = False,
    notice: Notice = print_notice,
    progress: ProgressFactory = no_progress,
) -> list[StoredDatasets]:
    """Deal a dataset's episodes out to several new ones, at random.

    Args:
        dataset_id: Minari id.
        parts: from `namespace/.../name` to a share of the episodes; the shares add up to 1 at
            most. Every part gets an episode at least.
        seed: of the dealing.
        overwrite: replace datasets that exist.
        notice: told of whatever is out of the ordinary.
        progress: makes reporters.

    Raises:
        UserError: the shares make no sense, there are too few episodes, or a dataset can't be
            read or written.
    """
    if not parts or any(share <= 0 for share in parts.values()) or sum(parts.values()) > 1 + 1e-9:
        raise UserError(
            f"parts: expected shares above 0 that add up to 1 at most, got {dict(parts)}"
        )
    for name in parts:
        minari_format.check_base_id(name)
    transitions, metadata = _load(dataset_id, notice)
    total = len(transitions.episode_starts())
    bounds = np.round(np.cumsum([0.0, *parts.values()]) * total).astype(int)
    if (np.diff(bounds) < 1).any():
        raise UserError(f"parts: {total} episodes are too few for {dict(parts)}")
    order = np.random.default_rng(seed).permutation(total)
    written = []
    for index, (name, share) in enumerate(parts.items()):
        chosen = np.sort(order[bounds[index] : bounds[index + 1]])
        made = {"kind": "part", "share": float(share), "seed": seed, "part": index}
        part = _take(transitions, chosen)
        written.append(_derive(part, name, [metadata], made, overwrite, progress))
    return written


def merge_datasets(
    dataset_ids: Sequence[str],
    into: str,
    *,
    overwrite: bool = False,
    notice: Notice = print_notice,
    progress: ProgressFactory = no_progress,
) -> StoredDatasets:
    """Put several datasets one behind the other.

    Args:
        dataset_ids: two or more Minari ids; all with actions or all without.
        into: `namespace/.../name` of what is made.
        overwrite: replace datasets that exist.
        notice: told of whatever is out of the ordinary.
        progress: makes reporters.

    Raises:
        UserError: observation-only datasets would be mixed with ones that hold actions,
            observations, actions or environments differ, an id occurs twice, or a dataset
            can't be read or written.
    """
    if len(dataset_ids) < 2:
        raise UserError("merge: expected two datasets or more")
    if len(set(dataset_ids)) < len(dataset_ids):
        raise UserError("merge: a dataset occurs twice; its episodes would count twice")
    minari_format.check_base_id(into)
    loaded = [_load(dataset_id, notice) for dataset_id in dataset_ids]
    without = [
        name for name, (part, _) in zip(dataset_ids, loaded, strict=True) if part.actions is None
    ]
    if without and len(without) < len(loaded):
        others = [name for name in dataset_ids if name not in without]
        raise UserError(
            f"merge: {without[0]!r} is observation-only, but {others[0]!r} holds actions; "
            "merge datasets of one kind"
        )
    for what, values in (
        ("observation spaces", [source["observation_space"] for _, source in loaded]),
        ("action spaces", [source["action_space"] for _, source in loaded]),
        ("environments", [env_id_of(source) for _, source in loaded]),
    ):
        for name, value in zip(dataset_ids, values, strict=True):
            if value != values[0]:
                raise UserError(f"merge: the {what} of {dataset_ids[0]!r} and {name!r} differ")
    joined: dict[str, Any] = {
        name: np.concatenate([part.columns()[name] for part, _ in loaded])
        for name in loaded[0][0].columns()
    }
    lengths = np.concatenate([part.episode_lengths() for part, _ in loaded])
    joined["episodes"] = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
    sources = [source for _, source in loaded]
    return _derive(Transitions(**joined), into, sources, {"kind": "merger"}, overwrite, progress)


def sample_dataset(
    dataset_id: str,
    into: str,
    *,
    episodes: int | None = None,
    transitions: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
    notice: Notice = print_notice,
    progress: ProgressFactory = no_progress,
) -> StoredDatasets:
    """Draw whole episodes at random, without replacement.

    Args:
        dataset_id: Minari id.
        into: `namespace/.../name` of what is made.
        episodes: how many; or
        transitions: how many steps: episodes are drawn until there are as many, and the last
            is cut there, as a truncation.
        seed: of the draw.
        overwrite: replace datasets that exist.
        notice: told of whatever is out of the ordinary.
        progress: makes reporters.

    Raises:
        UserError: neither or both are given, there are fewer, or a dataset can't be read or
            written.
    """
    if (episodes is None) == (transitions is None):
        raise UserError("sample: give a number of episodes or of transitions")
    wanted, what = (episodes, "episodes") if episodes is not None else (transitions, "transitions")
    assert wanted is not None
    minari_format.check_base_id(into)
    source, metadata = _load(dataset_id, notice)
    lengths = source.episode_lengths()
    there = len(lengths) if what == "episodes" else len(source)
    if not 1 <= wanted <= there:
        raise UserError(f"{what}: {wanted} is not between 1 and the {there} of {dataset_id!r}")
    order = np.random.default_rng(seed).permutation(len(lengths))
    if what == "episodes":
        drawn = _take(source, np.sort(order[:wanted]))
    else:
        enough = int(np.searchsorted(np.cumsum(lengths[order]), wanted)) + 1
        drawn = _cut(_take(source, order[:enough]), wanted)
    made = {"kind": "sample", what: wanted, "seed": seed}
    return _derive(drawn, into, [metadata], made, overwrite, progress)


def _cut(transitions: Transitions, rows: int) -> Transitions:
    columns: dict[str, Any] = {
        name: column[:rows].copy() for name, column in transitions.columns().items()
    }
    if not columns["terminations"][-1]:
        columns["truncations"][-1] = True
    return Transitions(**columns)


# --- numbers and pictures -------------------------------------------------------------------


@dataclass(frozen=True)
class Statistics:
    """Numbers about a dataset. Intervals are 95% bootstrap intervals over episodes.

    Attributes:
        dataset_id: Minari id.
        transitions: rows.
        episodes: episodes.
        terminated: share of the episodes that terminated.
        return_mean: mean undiscounted return over all episodes, cut ones included.
        return_interval: lower and upper end of its interval; None where there is only one episode.
        return_min: lowest return.
        return_max: highest return.
        length_mean: mean steps of an episode.
        length_interval: its interval, likewise.
        coverage: share of the cells that are visited, of a 50 by 50 grid over the first two
            principal components of the observations, each from its 0.5% to its 99.5% quantile.
        stochasticity: see `behaviour_stochasticity`; None where a recording is too small to tell.
        picture: where the picture is, None where none was drawn.
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
    picture: Path | None = None


def interval_of_mean(values: Float64Array) -> tuple[float, float] | None:
    """Return the 95% interval of the mean of `values`, `(n,)`; of a single one there is none."""
    interval = mean_interval(values, np.random.default_rng(0))
    return (interval.low, interval.high) if len(values) > 1 else None


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
        notice: told of whatever is out of the ordinary.

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
    plane, explained = _principal_plane(transitions)
    inside, grid = _grid(plane)
    if picture is not None:
        _draw(picture, dataset_id, returns, lengths, plane[inside], explained)
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
        picture=picture,
    )


def _principal_plane(transitions: Transitions) -> tuple[Float64Array, Float64Array]:
    """Return some observations in their first two principal components, and the variance held.

    Observations are standardised first. A single number in an observation gets a second one, 0.
    """
    step = max(1, len(transitions) // _PLOTTED_POINTS)
    seen = transitions.observations[::step].astype(np.float64)
    std = seen.std(axis=0)
    scaled = (seen - seen.mean(axis=0)) / np.where(std > 1e-9, std, 1.0)
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


def _draw(
    path: Path,
    dataset_id: str,
    returns: Float64Array,
    lengths: Int64Array,
    plane: Float64Array,
    explained: Float64Array,
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(dataset_id)
    axes = figure.subplots(1, 3)
    panels: list[tuple[Any, str]] = [
        (returns, "return of an episode"),
        (lengths, "steps of an episode"),
    ]
    for axis, (values, label) in zip(axes[:2], panels, strict=True):
        axis.hist(values, bins=min(60, max(5, len(np.unique(values)))), color="#3b6ea5")
        axis.set(xlabel=f"{label} of an episode", ylabel="episodes")
    if len(plane):
        axes[2].hexbin(plane[:, 0], plane[:, 1], gridsize=40, bins="log", mincnt=1, cmap="viridis")
    axes[2].set(
        xlabel=f"component 1 ({explained[0]:.0%} of the variance)",
        ylabel=f"component 2 ({explained[1]:.0%})",
        title="observations",
    )
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
