"""Steps with the actions that made them: taken online, by an earlier run, or recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any, ClassVar
from zlib import crc32

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qss_offline.data.environments import env_id_of_spec, make_env, same_environment
from qss_offline.data.load import DatasetInfo, load_transitions
from qss_offline.data.local import local_dataset_ids, twin_id
from qss_offline.engine.checkpoint import load_checkpoint
from qss_offline.errors import UserError, nearest
from qss_offline.evaluation.actions import (
    ActionBox,
    Actions,
    OneHotActions,
    finite_or_middle,
)
from qss_offline.evaluation.policies import DiscretePolicy
from qss_offline.evaluation.policy_files import load_policy
from qss_offline.runs.folder import RunFolder, SeedFolder, read_json

# Of a bound, as float32 numbers and recorders round it.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class ActionSteps:
    """Transitions with actions, oldest first.

    Attributes:
        obs: `(N, obs_dim)` float32, in the environment's units.
        next_obs: `(N, obs_dim)` float32.
        actions: `(N, action_dim)` float32, in units of the action box, or one-hot.
        taken_online: whether they are online steps of an earlier run.
        units: what actions are vectors of, for steps that are known from elsewhere.
    """

    obs: NDArray[np.float32]
    next_obs: NDArray[np.float32]
    actions: NDArray[np.float32]
    taken_online: bool = False
    units: Actions | None = None

    columns: ClassVar[tuple[str, ...]] = ("obs", "next_obs", "actions")

    def __len__(self) -> int:
        return len(self.obs)

    @staticmethod
    def none(obs_dim: int, action_dim: int) -> ActionSteps:
        """Return no steps."""
        obs = np.empty((0, obs_dim), np.float32)
        return ActionSteps(obs, obs, np.empty((0, action_dim), np.float32))

    def split(self, share: float) -> tuple[ActionSteps, ActionSteps]:
        """Return the earlier steps, a share of them all, and the later ones."""
        cut = max(1, round(share * len(self)))
        return self.at(slice(cut)), self.at(slice(cut, None))

    def at(self, rows: slice | NDArray[np.int64]) -> ActionSteps:
        """Return some of the steps."""
        return replace(self, **{name: getattr(self, name)[rows] for name in self.columns})

    def extend(self, later: ActionSteps) -> ActionSteps:
        """Append later steps."""
        return ActionSteps(
            np.concatenate((self.obs, later.obs)),
            np.concatenate((self.next_obs, later.next_obs)),
            np.concatenate((self.actions, later.actions)),
        )

    def named_tensors(self) -> dict[str, Tensor]:
        """Return them as checkpoints hold them."""
        return {f"steps.{name}": torch.from_numpy(getattr(self, name)) for name in self.columns}

    @staticmethod
    def from_named(tensors: Mapping[str, Tensor]) -> ActionSteps:
        """Undo `named_tensors`; other tensors may be among them.

        Raises:
            KeyError: a column is missing.
            UserError: they are no steps.
        """
        obs, next_obs, actions = (tensors[f"steps.{name}"].numpy() for name in ActionSteps.columns)
        fits = all(
            column.dtype == np.float32 and column.ndim == 2 and np.isfinite(column).all()
            for column in (obs, next_obs, actions)
        )
        if not fits or obs.shape != next_obs.shape or len(obs) != len(actions):
            raise UserError("a checkpoint's online steps are no rows of finite float32")
        return ActionSteps(obs, next_obs, actions)

    @property
    def digest(self) -> int:
        """A number that other steps hardly share."""
        columns = (np.ascontiguousarray(getattr(self, name)) for name in self.columns)
        return reduce(lambda found, column: crc32(column.data, found), columns, 0)


def take_steps(
    env: gym.Env[Any, Any],
    steps: int,
    actions: Actions,
    policy: Callable[[NDArray[Any]], NDArray[Any]] | None,
    noise: float,
    rng: np.random.Generator,
    seen: Callable[[float, bool, bool], None] | None = None,
) -> ActionSteps:
    """Take exactly `steps` environment steps.

    Args:
        env: reset here, with a seed from `rng`.
        steps: how many.
        actions: of the environment.
        policy: maps `(obs_dim,)` to an action; None acts uniformly at random.
        noise: standard deviation of the noise on the policy's actions, in units of the box;
            discrete ones explore by their own ε.
        rng: source of everything random here.
        seen: called with each step's reward, and whether it terminated or truncated the episode.
    """
    choose: _Choose
    if isinstance(actions, OneHotActions):
        choose = _one_hot(actions, steps, policy, rng)
    else:
        choose = _in_a_box(actions, steps, policy, noise, rng)
    obs, _ = env.reset(seed=int(rng.integers(2**31)))
    before = np.empty((steps, len(obs)), np.float32)
    after = np.empty((steps, len(obs)), np.float32)
    taken = np.empty((steps, actions.dim), np.float32)
    for step in range(steps):
        before[step] = obs
        taken[step], action = choose(step, obs)
        obs, reward, terminated, truncated, _ = env.step(action)
        after[step] = obs
        if seen is not None:
            seen(float(reward), bool(terminated), bool(truncated))
        if terminated or truncated:
            obs, _ = env.reset()
    return ActionSteps(before, after, taken)


_Choose = Callable[[int, NDArray[Any]], tuple[NDArray[Any], Any]]
"""From a step and an observation to an action's vector, and what the environment takes for it."""


def _in_a_box(
    box: ActionBox,
    steps: int,
    policy: Callable[[NDArray[Any]], NDArray[Any]] | None,
    noise: float,
    rng: np.random.Generator,
) -> _Choose:
    """Draw uniformly random actions, or a policy's noise."""
    shape = (steps, box.dim)
    drawn = rng.uniform(-1, 1, shape) if policy is None else rng.normal(0, noise, shape)
    drawn[:, box.locked] = 0.0

    def choose(step: int, obs: NDArray[Any]) -> tuple[NDArray[Any], Any]:
        unit = drawn[step]
        if policy is not None:
            unit = np.clip(finite_or_middle(box.to_unit(policy(obs))) + unit, -1, 1)
        return unit, box.from_unit(unit)

    return choose


def _one_hot(
    actions: OneHotActions,
    steps: int,
    policy: Callable[[NDArray[Any]], NDArray[Any]] | None,
    rng: np.random.Generator,
) -> _Choose:
    """Draw uniformly random actions, or which of a policy's are."""
    if policy is None:
        drawn = actions.random(rng, steps)
        return lambda step, obs: (drawn[step], actions.to_env(drawn[step]))
    explore = actions.explore(rng, steps)

    def choose(step: int, obs: NDArray[Any]) -> tuple[NDArray[Any], Any]:
        vector = explore(step, actions.from_env(policy(obs)))
        return vector, actions.to_env(vector)

    return choose


def known_steps(source: str | None, env_id: str | None) -> ActionSteps | None:
    """Read steps whose actions are known, if there are any, for an environment by name.

    Args:
        source: folder of an earlier run, or Minari id of a recording with actions; None has none.
        env_id: the environment; None where there is no simulator.

    Raises:
        UserError: there is nothing of that name, or as `steps_of_run` and `recorded_steps`.
    """
    if source is None:
        return None
    is_run = RunFolder(Path(source)).started
    there = local_dataset_ids()
    if not is_run and source not in there:
        raise UserError(
            f"actions from {source!r}: that is neither the folder of a run nor a local dataset"
            f"{nearest(source, there)}"
        )
    env = None if env_id is None else make_env(env_id)
    try:
        return steps_of_run(Path(source), env) if is_run else recorded_steps(source, env)
    finally:
        if env is not None:
            env.close()


def steps_of_run(path: Path, env: gym.Env[Any, Any] | None) -> ActionSteps:
    """Read the online steps that all seeds of an earlier run took, in the order of the seeds.

    Args:
        path: folder of a run of offline D3G, or of BCO; what it learned from doesn't matter.
        env: the environment; None takes any.

    Raises:
        UserError: a seed isn't done, a checkpoint can't be read, there are no such steps, or they
            are of another environment.
    """
    config = read_json(path / "config.json")
    # A cell of a comparison doesn't say which seeds are asked for: those that have begun count.
    begun = [folder.name for folder in (path / "seeds").glob("*") if folder.name.isdigit()]
    numbers = config.get("seeds") or sorted(begun, key=int)
    seeds = [SeedFolder(path / "seeds" / str(number)) for number in numbers]
    if not seeds or not all(seed.result.exists() for seed in seeds):
        raise UserError(f"{path} isn't done: its online steps can be used when every seed is")
    steps = reduce(ActionSteps.extend, map(online_steps_of, seeds))
    of_shapes = steps.obs.shape[1:], steps.actions.shape[1:]
    _check_environment_of(f"run {path}", config.get("env_id"), of_shapes, env)
    # All seeds acted in one environment.
    policy, units = load_policy(seeds[0].policy), None
    if isinstance(policy, DiscretePolicy):
        units = OneHotActions(policy.count, policy.first_action)
    return replace(steps, taken_online=True, units=units or policy.action_box)


def online_steps_of(seed: SeedFolder) -> ActionSteps:
    """Read the online steps that a seed of offline D3G or BCO took.

    Raises:
        UserError: it took none, or the checkpoint of its inverse fit can't be read.
    """
    if not seed.online.exists():
        raise UserError(
            f"{seed.path} took no online steps to fit an inverse model; what qss train-online "
            "gathers can be used as a dataset: qss data import RUN"
        )
    try:
        return ActionSteps.from_named(load_checkpoint(seed.online).tensors)
    except KeyError as error:
        raise UserError(f"{seed.online} holds no online steps: {error} is missing") from error


def recorded_steps(dataset_id: str, env: gym.Env[Any, Any] | None) -> ActionSteps:
    """Read the steps of a recording that does have actions.

    Args:
        dataset_id: Minari id, such as the twin `…-act-v0` of another recording of the same
            environment.
        env: the environment, whose bounds of the actions are taken; None takes the recording's,
            or, where it states none, what was recorded.

    Raises:
        UserError: the recording can't be read, has no actions, or is of another environment; or
            the environment's actions are discrete.
    """
    if env is not None and isinstance(env.action_space, gym.spaces.Discrete):
        raise UserError(
            f"dataset {dataset_id!r} holds no discrete actions, from which the IDM could learn: "
            "take those of an earlier run's online steps, and give its folder"
        )
    dataset = load_transitions(dataset_id)
    transitions = dataset.transitions
    if transitions.actions is None:
        twin = twin_id(dataset_id)
        raise UserError(
            f"dataset {dataset_id!r} holds no actions, from which the IDM could learn"
            + ("" if twin is None else f"; its twin is {twin!r}")
        )
    of_shapes = (transitions.obs_dim,), transitions.actions.shape[1:]
    _check_environment_of(f"dataset {dataset_id!r}", dataset.info.env_id, of_shapes, env)
    actions = np.array(transitions.actions, np.float32)
    if env is None:
        box = _bounds(dataset.info, actions)
    else:
        box = ActionBox.of(env.action_space)
        _check_inside(box, actions, f"dataset {dataset_id!r}", env)
    return ActionSteps(
        np.array(transitions.observations, np.float32),
        np.array(transitions.next_observations, np.float32),
        np.clip(box.to_unit(actions), -1, 1),
        units=box,
    )


def _bounds(info: DatasetInfo, actions: NDArray[np.float32]) -> ActionBox:
    """Return what a recording says that its actions are bounded by, else what was recorded."""
    low, high = info.action_low, info.action_high
    stated = low is not None and high is not None and np.isfinite([low, high]).all()
    if low is None or high is None or not stated:
        low, high = actions.min(axis=0), actions.max(axis=0)
    if not (low < high).all():
        still = int(np.argmin(low < high))
        raise UserError(
            f"dataset {info.dataset_id!r}: action {still} never changes, so that nothing can be "
            "learned of what it does; leave it out of the recording"
        )
    return ActionBox(low, high)


def _check_inside(
    box: ActionBox, actions: NDArray[np.float32], source: str, env: gym.Env[Any, Any]
) -> None:
    """Refuse actions that the environment doesn't know: what it does with them isn't known here."""
    outside = np.abs(box.to_unit(actions)) > 1 + _ROUNDING
    # Of a locked action nothing is learned.
    outside |= box.locked & (np.abs(actions - box.low) > _ROUNDING * (1 + np.abs(box.low)))
    if outside.any():
        worst = int(outside.mean(axis=0).argmax())
        name = "the environment" if env.spec is None else env.spec.id
        raise UserError(
            f"{source}: action {worst} reaches from {actions[:, worst].min():.3g} to "
            f"{actions[:, worst].max():.3g}, {name} takes {box.low[worst]:.3g} to "
            f"{box.high[worst]:.3g}, which {outside.any(axis=1).mean():.1%} of the steps leave; if "
            "it clips actions, import them clipped"
        )


def _check_environment_of(
    source: str,
    env_id: str | None,
    of_shapes: tuple[tuple[int, ...], tuple[int, ...]],
    env: gym.Env[Any, Any] | None,
) -> None:
    """Refuse steps of another environment: by its name and arguments, if known, and its sizes."""
    if env is None:
        return
    asked = None if env.spec is None else env_id_of_spec(env.spec)
    if env_id is not None and asked is not None and not same_environment(str(env_id), asked):
        raise UserError(f"{source} is of another environment: {env_id}, not {asked}")
    # Discrete actions are one-hot.
    observed, acted = env.observation_space.shape, (gym.spaces.flatdim(env.action_space),)
    if of_shapes != (observed, acted):
        raise UserError(
            f"{source} is of another environment: observations {of_shapes[0]} and actions "
            f"{of_shapes[1]}, where the environment has {observed} and {acted}"
        )
