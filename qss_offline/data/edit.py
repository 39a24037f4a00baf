"""New datasets out of old ones: split, merge, sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from qss_offline.data.importing.store import About, store
from qss_offline.data.load import load_transitions
from qss_offline.data.local import check_base_id, pair_id, read_metadata
from qss_offline.data.metadata import env_id_of
from qss_offline.data.spaces import read_space
from qss_offline.data.transitions import Int64Array, Transitions
from qss_offline.data.write import StoredDatasets, check_free
from qss_offline.errors import UserError
from qss_offline.parallel.reporting import ProgressFactory, no_progress


def split_dataset(
    dataset_id: str,
    parts: Mapping[str, float],
    *,
    seed: int = 0,
    overwrite: bool = False,
    progress: ProgressFactory = no_progress,
) -> list[StoredDatasets]:
    """Deal a dataset's episodes out to several new ones, at random.

    Args:
        dataset_id: Minari id.
        parts: from `namespace/.../name` to a share of the episodes; the shares add up to 1 at
            most. Every part gets an episode at least.
        seed: of the dealing.
        overwrite: replace datasets that exist.
        progress: makes reporters.

    Raises:
        UserError: the shares make no sense, there are too few episodes, or a dataset can't be
            read or written.
    """
    shares = list(parts.values())
    if not parts or not all(share > 0 for share in shares) or not sum(shares) <= 1 + 1e-9:
        raise UserError(
            f"parts: expected shares above 0 that add up to 1 at most, got {dict(parts)}"
        )
    for name in parts:
        check_base_id(name)
    transitions, metadata = _load(dataset_id)
    total = len(transitions.episode_starts())
    bounds = np.round(np.cumsum([0.0, *parts.values()]) * total).astype(int)
    if (np.diff(bounds) < 1).any():
        raise UserError(f"parts: {total} episodes are too few for {dict(parts)}")
    kinds = ("obs",) if transitions.actions is None else ("obs", "act")
    check_free([pair_id(name, kind) for name in parts for kind in kinds], overwrite)
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
    progress: ProgressFactory = no_progress,
) -> StoredDatasets:
    """Put several datasets one behind the other.

    Args:
        dataset_ids: two or more Minari ids; all with actions or all without.
        into: `namespace/.../name` of what is made.
        overwrite: replace datasets that exist.
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
    check_base_id(into)
    loaded = [_load(dataset_id) for dataset_id in dataset_ids]
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
        ("offsets", [source.get("observation_offsets") for _, source in loaded]),
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
        progress: makes reporters.

    Raises:
        UserError: neither or both are given, there are fewer, or a dataset can't be read or
            written.
    """
    if (episodes is None) == (transitions is None):
        raise UserError("sample: give a number of episodes or of transitions")
    wanted, what = (episodes, "episodes") if episodes is not None else (transitions, "transitions")
    assert wanted is not None
    check_base_id(into)
    source, metadata = _load(dataset_id)
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


def _load(dataset_id: str) -> tuple[Transitions, dict[str, Any]]:
    loaded = load_transitions(dataset_id)
    return loaded.transitions, read_metadata(dataset_id)


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
    shared: dict[str, Any] = {}
    for key in (
        "env_id",
        "env_spec",
        "author",
        "author_email",
        "license",
        "random_action_prob",
        "algorithm_name",
        "observations_flattened",
        "observation_offsets",
        "code_permalink",
    ):
        if key in first and all(source.get(key) == first[key] for source in sources):
            shared[key] = first[key]
    if any(source.get("rewards_missing") for source in sources):
        shared["rewards_missing"] = True
    observation_space = read_space(first, "observation_space")
    action_space = read_space(first, "action_space")
    assert isinstance(observation_space, spaces.Box)
    about = About(
        text=f"{made['kind'].capitalize()} of {', '.join(s['dataset_id'] for s in sources)}",
        algorithm_name=shared.pop("algorithm_name", None),
    )
    of = [{key: source.get(key) for key in ("dataset_id", "digest")} for source in sources]
    return store(
        transitions,
        dataset_id,
        about,
        made | {"of": of},
        observation_space=observation_space,
        action_space=action_space if isinstance(action_space, spaces.Box) else None,
        extra=shared,
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


def _cut(transitions: Transitions, rows: int) -> Transitions:
    columns: dict[str, Any] = {
        name: column[:rows].copy() for name, column in transitions.columns().items()
    }
    if not columns["terminations"][-1]:
        columns["truncations"][-1] = True
    return Transitions(**columns)
