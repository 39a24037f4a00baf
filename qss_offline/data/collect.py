"""Recording behaviour at the speed of the plain loop, one process a core.

Each shard of a spec has its own environment, its own seed and a fixed number of steps, so the
result is the same, byte for byte, whatever the number of workers.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec, registry
from numpy.random import SeedSequence

from qss_offline.data.behaviour import Behaviour, MixtureBehaviour, RandomBehaviour, load_expert
from qss_offline.data.environments import Env, env_spec, importable, make_env
from qss_offline.data.specs import DatasetSpec
from qss_offline.data.transitions import BoolArray, Transitions
from qss_offline.errors import UserError
from qss_offline.jobs import Tick, available_cores, run_jobs
from qss_offline.progress import Reporter, silent

# Starting a worker takes about as long as collecting this many transitions.
_WORTH_A_WORKER = 20_000
_STEPS_PER_TICK = 1_000

Columns = dict[str, npt.NDArray[Any]]


def make_behaviour(spec: DatasetSpec, env: Env) -> Behaviour:
    """Return who acts in `env` according to `spec`.

    Raises:
        UserError: the action box isn't finite, or the expert can't be read or doesn't fit.
    """
    action_space = env.action_space
    assert isinstance(action_space, spaces.Box)  # make_env has checked it
    if spec.behaviour_expert is None:
        return RandomBehaviour(action_space)
    expert = load_expert(spec.behaviour_expert)
    observation_space = env.observation_space
    assert observation_space.shape is not None
    if (expert.obs_dim,) != observation_space.shape or (
        expert.action_low.shape != action_space.shape
    ):
        raise UserError(
            f"expert: {spec.behaviour_expert} was made for {expert.env_id} and maps "
            f"{expert.obs_dim} numbers to {len(expert.action_low)}, but {spec.env_id} needs "
            f"{observation_space.shape[0]} to {action_space.shape[0]}"
        )
    return MixtureBehaviour(action_space, expert, spec.random_action_prob)


def default_workers(transitions: int) -> int:
    """Return one worker for each available core, fewer where that isn't worth the start."""
    return max(1, min(available_cores(), transitions // _WORTH_A_WORKER))


def collect(
    spec: DatasetSpec, workers: int | None = None, report: Reporter = silent
) -> Transitions:
    """Record `spec.transitions` steps, with actions.

    A shard's last episode is cut where the shard is full: its last row is a truncation.

    Args:
        spec: what to record.
        workers: processes; by default one for each core, fewer for short recordings. One where
            the environment is a function or class of the running script, which no other
            process can see.
        report: told the number of transitions so far.

    Raises:
        UserError: the environment or the expert doesn't fit, an observation or reward isn't
            finite, or a worker died.
    """
    if workers is not None and workers < 1:
        raise UserError(f"workers: {workers} is not at least 1")
    # Everything that can be wrong is wrong here already, before a worker is started.
    env = make_env(spec.env_id)
    try:
        make_behaviour(spec, env)
        columns = _allocate(env, spec.transitions)
    finally:
        env.close()
    sizes = spec.shard_sizes
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    registered = env_spec(spec.env_id)
    if not importable(registered):
        workers = 1
    jobs = [_Shard(spec, registered, index, size) for index, size in enumerate(sizes)]
    for index, part in run_jobs(
        _collect_shard, jobs, workers or default_workers(spec.transitions), report
    ):
        for name, column in columns.items():
            column[offsets[index] : offsets[index + 1]] = part[name]
    episodes = columns["episodes"]
    for begin, end in itertools.pairwise(offsets[1:]):
        episodes[begin:end] += episodes[begin - 1] + 1
    return Transitions(**columns)


def _allocate(env: Env, rows: int) -> Columns:
    observation_shape, action_shape = env.observation_space.shape, env.action_space.shape
    assert observation_shape is not None and action_shape is not None
    try:
        return {
            "observations": np.empty((rows, *observation_shape), dtype=np.float32),
            "next_observations": np.empty((rows, *observation_shape), dtype=np.float32),
            "rewards": np.empty(rows, dtype=np.float32),
            "terminations": np.empty(rows, dtype=np.bool_),
            "truncations": np.empty(rows, dtype=np.bool_),
            "episodes": np.empty(rows, dtype=np.int64),
            "actions": np.empty((rows, *action_shape), dtype=np.float32),
        }
    except MemoryError as error:
        raise UserError(f"transitions: {rows} don't fit into memory") from error


@dataclass(frozen=True)
class _Shard:
    spec: DatasetSpec
    registered: EnvSpec
    index: int
    steps: int


def _collect_shard(job: _Shard, tick: Tick) -> Columns:
    """Collect one shard; its episodes are counted from 0."""
    # What the caller registered with Gymnasium isn't registered in a fresh process.
    registry.setdefault(job.registered.id, job.registered)
    spec, index, steps = job.spec, job.index, job.steps
    env_seed, behaviour_seed = SeedSequence(spec.seed).spawn(index + 1)[index].spawn(2)
    env = make_env(spec.env_id)
    try:
        behaviour = make_behaviour(spec, env)
        plan = behaviour.plan(behaviour_seed, steps)
        columns = _allocate(env, steps)
        columns["actions"][:] = plan.actions
        _fill(env, behaviour, plan.random, int(env_seed.generate_state(1)[0]), columns, tick)
    finally:
        env.close()
    return columns


def _fill(
    env: Env, behaviour: Behaviour, random: BoolArray, seed: int, columns: Columns, tick: Tick
) -> None:
    """Step through the environment. The loop is bare: each line costs on every transition."""
    observations, next_observations = columns["observations"], columns["next_observations"]
    rewards, actions, episodes = columns["rewards"], columns["actions"], columns["episodes"]
    terminations, truncations = columns["terminations"], columns["truncations"]
    step, steps = env.step, len(rewards)
    all_random = bool(random.all())
    action_dtype = env.action_space.dtype
    # Environments of another precision get the very numbers that are stored.
    executed = actions if action_dtype == np.float32 else actions.astype(action_dtype)
    episode = 0
    observation, _ = env.reset(seed=seed)
    for row in range(steps):
        observations[row] = observation
        if not all_random and not random[row]:
            actions[row] = behaviour.act(observation)
            executed[row] = actions[row]
        observation, rewards[row], terminated, truncated, _ = step(executed[row])
        next_observations[row] = observation
        terminations[row] = terminated
        truncations[row] = truncated
        episodes[row] = episode
        if terminated or truncated:
            episode += 1
            observation, _ = env.reset()
        if row % _STEPS_PER_TICK == 0:
            tick(row)
    if not terminations[-1]:
        truncations[-1] = True
    tick(steps)


def complete_episodes(transitions: Transitions, spec: DatasetSpec) -> BoolArray:
    """Return which episodes ended by themselves, (number of episodes,) bool.

    The last episode of a shard is usually cut; its return says nothing about the behaviour.
    One that is exactly as long as the environment's own limit counts as complete.
    """
    starts = transitions.episode_starts()
    last_rows = np.append(starts[1:], len(transitions)) - 1
    shard_ends = np.cumsum(spec.shard_sizes) - 1
    limit = env_spec(spec.env_id).max_episode_steps
    cut = np.isin(last_rows, shard_ends) & ~transitions.terminations[last_rows]
    if limit is not None:
        cut &= transitions.episode_lengths() != limit
    complete: BoolArray = ~cut
    return complete
