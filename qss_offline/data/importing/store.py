"""Transitions become a pair of datasets, or the observation-only one alone.

Their ids are `BASE-obs-v0` and `BASE-act-v0`. What is written is read again and compared before it
is visible; what was there before stays until then. Actions are stripped by writing new files
without them.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from gymnasium import spaces
from minari.serialization import serialize_space

from qss_offline.data.environments import make_env, resolve_env_id
from qss_offline.data.local import check_base_id
from qss_offline.data.minari_format import Description, env_metadata, returns_of
from qss_offline.data.spaces import is_vector
from qss_offline.data.transitions import Float32Array, Transitions
from qss_offline.data.verify import first_outside
from qss_offline.data.write import StoredDatasets, write_datasets
from qss_offline.errors import UserError
from qss_offline.parallel.reporting import ProgressFactory, no_progress, print_notice


@dataclass(frozen=True)
class About:
    """What the importer says about a recording; all of it is optional.

    Attributes:
        env_id: Gymnasium id or short name; its spaces are taken, and must fit. Where observations
            leave theirs, one without bounds is.
        text: a sentence: what this is.
        algorithm_name: who acted.
        author: names.
        license: SPDX identifier, such as "cc-by-4.0".

    Raises:
        UserError: the environment is unknown.
    """

    env_id: str | None = None
    text: str | None = None
    algorithm_name: str | None = None
    author: tuple[str, ...] = ()
    license: str | None = None

    def __post_init__(self) -> None:
        if self.env_id is not None:
            object.__setattr__(self, "env_id", resolve_env_id(self.env_id))

    def metadata(self) -> dict[str, Any]:
        """Return what goes into a dataset's metadata."""
        known: dict[str, Any] = {}
        if self.env_id is not None:
            known |= env_metadata(self.env_id)
        if self.author:
            known["author"] = list(self.author)
        if self.license is not None:
            known["license"] = self.license
        return known


NOTHING_KNOWN = About()


@dataclass(frozen=True, eq=False)
class Fitted:
    """What is stored, and the spaces in which it lies.

    Attributes:
        transitions: with the actions that are kept.
        observation_space: of (obs_dim,).
        action_space: of (act_dim,); None where there are no actions.
    """

    transitions: Transitions
    observation_space: spaces.Box
    action_space: spaces.Box | None

    @property
    def kinds(self) -> tuple[str, ...]:
        """What becomes of it: "obs", or "obs" and "act"."""
        return ("obs",) if self.action_space is None else ("obs", "act")


def fit(
    transitions: Transitions,
    about: About,
    observation_space: spaces.Box | None = None,
    action_space: spaces.Box | None = None,
) -> Fitted:
    """Find the spaces of transitions, and say what can't be stored as it is.

    Args:
        transitions: the recording.
        about: where it names an environment, the environment's spaces count.
        observation_space: else this one, or one without bounds.
        action_space: likewise.

    Raises:
        UserError: observations or actions hold more or fewer numbers than their space, or an
            action lies outside of it.
    """
    whose = "their space"
    if about.env_id is not None:
        whose = f"the space of {about.env_id}"
        env = make_env(about.env_id)
        env.close()
        assert isinstance(env.observation_space, spaces.Box)
        observation_space, action_space = env.observation_space, None
        if isinstance(env.action_space, spaces.Box):
            action_space = env.action_space
        elif transitions.actions is not None:
            print_notice(f"the actions of {about.env_id} are discrete, no vectors; left out")
            transitions = transitions.without_actions()
    actions = transitions.actions
    _check_size("observations", transitions.obs_dim, observation_space, whose)
    box = _storable(observation_space, transitions.obs_dim)
    for values in (transitions.observations, transitions.next_observations):
        found = first_outside(values, box)
        if found is not None:
            # A sensor's noise may lead out of it; before training ranges are checked anyway.
            outside = _outside(values, found, box, whose)
            print_notice(f"observations: {outside}; stored in a space without bounds")
            box = spaces.Box(-np.inf, np.inf, box.shape, box.dtype)
    if actions is None:
        return Fitted(transitions, box, None)
    _check_size("actions", actions.shape[1], action_space, whose)
    acted = _storable_actions(action_space, actions)
    found = first_outside(actions, acted)
    if found is not None:
        raise UserError(
            f"actions: {_outside(actions, found, acted, whose)}; store them as they were executed, "
            "clipped if need be, or leave them out with --observation-only"
        )
    return Fitted(transitions, box, acted)


def _check_size(role: str, size: int, space: spaces.Box | None, whose: str) -> None:
    if space is not None and space.shape != (size,):
        raise UserError(
            f"{role}: they hold {size} numbers, but {whose} is of shape {space.shape}; take its "
            f"columns with --{role}, or another --env"
        )


def _outside(values: Float32Array, found: tuple[int, int], space: spaces.Box, whose: str) -> str:
    row, place = found
    low, high = float(space.low[place]), float(space.high[place])
    number = float(values[row, place])
    return f"number {place} of row {row} is {number}, but {whose} reaches from {low} to {high}"


def store(
    transitions: Transitions,
    dataset_id: str,
    about: About,
    made: dict[str, Any],
    *,
    observation_space: spaces.Box | None = None,
    action_space: spaces.Box | None = None,
    extra: dict[str, Any] | None = None,
    overwrite: bool = False,
    progress: ProgressFactory = no_progress,
) -> StoredDatasets:
    """Write transitions under `dataset_id`, and read them again before they are visible.

    Args:
        transitions: the recording, with or without actions; its episodes count from 0 without gaps.
        dataset_id: `namespace/.../name`.
        about: what else is known.
        made: where it comes from; kept in the metadata as `made_from`.
        observation_space: see `fit`.
        action_space: likewise.
        extra: more metadata, of plain JSON types.
        overwrite: replace datasets that exist.
        progress: makes a reporter.

    Raises:
        UserError: something doesn't fit, or the datasets can't be written.
    """
    check_base_id(dataset_id)
    fitted = fit(transitions, about, observation_space, action_space)
    description = Description(
        base_id=dataset_id,
        observation_space=fitted.observation_space,
        action_space=fitted.action_space,
        text=(about.text or f"Imported from {made['kind']}").rstrip("."),
        algorithm_name=about.algorithm_name or "unknown",
        behaviour_return=returns_of(fitted.transitions.episode_returns()),
        metadata=about.metadata() | {"made_from": made} | (extra or {}),
    )

    return write_datasets(fitted.transitions, description, overwrite=overwrite, progress=progress)


def _storable(space: spaces.Box | None, obs_dim: int) -> spaces.Box:
    """Return a space in which float32 values can be stored as Minari would find them."""
    if space is None or space.dtype not in (np.float32, np.float64):
        return spaces.Box(-np.inf, np.inf, (obs_dim,), np.float32)
    return space


def _storable_actions(space: spaces.Box | None, actions: Float32Array) -> spaces.Box:
    """Return a space that contains float32 actions, as Gymnasium's `contains` asks for."""
    if space is None:
        return spaces.Box(-np.inf, np.inf, actions.shape[1:], np.float32)
    if space.dtype == np.float32 or (space.dtype == np.float64 and _rounds_exactly(space)):
        return space
    low, high = space.low.astype(np.float32), space.high.astype(np.float32)
    return spaces.Box(low, high, dtype=np.float32)


def _rounds_exactly(space: spaces.Box) -> bool:
    """Whether no bound moves inwards as float32, so that no action lies outside by rounding."""
    bounds = (space.low, space.high)
    return all((bound.astype(np.float32) == bound).all() for bound in bounds)


def flattening(space: spaces.Space[Any]) -> dict[str, Any]:
    """Return how observations of a space became vectors, as metadata; empty if they were."""
    if is_vector(space):
        return {}
    return {
        "observations_flattened": {
            "by": "gymnasium.spaces.flatten, as gymnasium.wrappers.FlattenObservation does",
            "gymnasium": version("gymnasium"),
            "space": serialize_space(space),
        }
    }
