"""Recording behaviour at the speed of the plain loop, one process a core.

Each shard of a spec has its own environment, its own seed and a fixed number of steps, so the
result is the same, byte for byte, whatever the number of workers. Shards are written to disk
piece by piece (`column_files`): a longer recording takes no more memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from numpy.random import SeedSequence

from qss_offline.data.column_files import ColumnTypes, ColumnWriter, column_types, map_columns
from qss_offline.data.environments import (
    Env,
    discrete_refused,
    env_spec,
    known_in_workers,
    make_env,
    workers_for,
)
from qss_offline.data.policies import Behaviour, Plan, load_expert
from qss_offline.data.sandbox import check_disk
from qss_offline.data.scratch import scratch_folder
from qss_offline.data.specs import DatasetSpec
from qss_offline.data.transitions import BoolArray, Float64Array, Transitions, row_chunks
from qss_offline.errors import UserError
from qss_offline.parallel.processes import Tick, available_cores, run_jobs
from qss_offline.parallel.progress import Reporter, silent

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
    assert isinstance(action_space, spaces.Box | spaces.Discrete)  # make_env has checked it
    if spec.behaviour_expert is None:
        return Behaviour(action_space)
    if isinstance(action_space, spaces.Discrete):
        raise UserError(discrete_refused("an expert", spec.env_id))
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
    return Behaviour(action_space, expert, spec.random_action_prob)


def default_workers(transitions: int) -> int:
    """Return one worker for each available core, fewer where that isn't worth the start."""
    return max(1, min(available_cores(), transitions // _WORTH_A_WORKER))


def collect(
    spec: DatasetSpec,
    workers: int | None = None,
    report: Reporter = silent,
    folder: Path | None = None,
) -> Transitions:
    """Record `spec.transitions` steps, with their actions, or without where these are discrete.

    A shard's last episode is cut where the shard is full: its last row is a truncation.

    Args:
        spec: what to record.
        workers: processes; by default one for each core, fewer for short recordings. One where
            the environment is a function or class of the running script, which no other
            process can see.
        report: called with the number of transitions so far.
        folder: where the columns lie while they are in use, in files without a name; by default
            where the system puts temporary files.

    Raises:
        UserError: the environment or the expert doesn't fit, an observation or reward isn't
            finite, a worker died, or the disk is full.
    """
    return collect_all([spec], workers, report, folder)[0]


def collect_all(
    specs: Sequence[DatasetSpec],
    workers: int | None = None,
    report: Reporter = silent,
    folder: Path | None = None,
) -> list[Transitions]:
    """Record several specs side by side; see `collect`.

    The shards of all of them share the workers, so that no core waits for the last shard of one.
    """
    if workers is not None and workers < 1:
        raise UserError(f"workers: {workers} is not at least 1")
    # Everything that can be wrong is wrong here already, before a worker is started.
    types = [_checked_types(spec) for spec in specs]
    total = sum(spec.transitions for spec in specs)
    env_ids = [spec.env_id for spec in specs]
    shards = sum(len(spec.shard_sizes) for spec in specs)
    workers = workers_for(env_ids, workers or default_workers(total), shards)
    collect_shard = known_in_workers(_collect_shard, env_ids)
    try:
        with scratch_folder(folder) as scratch:
            _check_room(specs, types, scratch)
            jobs = []
            for index, spec in enumerate(specs):
                columns = scratch / str(index)
                columns.mkdir()
                first_rows = itertools.accumulate(spec.shard_sizes, initial=0)
                for shard, (row, steps) in enumerate(
                    zip(first_rows, spec.shard_sizes, strict=False)
                ):
                    jobs.append(_Shard(spec, shard, steps, row, str(columns)))
            for _ in run_jobs(collect_shard, jobs, workers, report):
                pass
            return [
                _whole(scratch / str(index), types[index], spec.transitions)
                for index, spec in enumerate(specs)
            ]
    except OSError as error:
        raise UserError(f"cannot keep the recording: {error.strerror or error}") from error


def _checked_types(spec: DatasetSpec) -> ColumnTypes:
    """Return what a recording of a spec holds, after a check that it can be made."""
    env = make_env(spec.env_id)
    try:
        make_behaviour(spec, env)
    finally:
        env.close()
    return _types(env)


def _types(env: Env) -> ColumnTypes:
    """Return what a recording holds; discrete actions, which are no vectors, aren't kept."""
    assert env.observation_space.shape is not None
    box = env.action_space if isinstance(env.action_space, spaces.Box) else None
    return column_types(env.observation_space.shape[0], None if box is None else box.shape[0])


def _check_room(specs: Sequence[DatasetSpec], types: list[ColumnTypes], folder: Path) -> None:
    needed = sum(
        spec.transitions * sum(column.row_bytes for column in columns.values())
        for spec, columns in zip(specs, types, strict=True)
    )
    check_disk(needed, folder, "a recording of so many transitions")


def _whole(folder: Path, types: ColumnTypes, rows: int) -> Transitions:
    """Count the episodes of all shards together, and map the columns."""
    counted = {"episodes": types["episodes"]}
    recorded = {name: kind for name, kind in types.items() if name not in counted}
    columns = map_columns(folder, recorded, rows)
    ended = 0
    with ColumnWriter(folder, counted) as writer:
        for chunk in row_chunks(rows):
            ends = columns["terminations"][chunk] | columns["truncations"][chunk]
            counts = np.cumsum(ends, dtype=np.int64)
            writer.append({"episodes": ended + counts - ends})
            ended += int(counts[-1])
    return Transitions(**columns, **map_columns(folder, counted, rows))


@dataclass(frozen=True)
class _Shard:
    spec: DatasetSpec
    index: int
    steps: int
    first_row: int
    folder: str


def _collect_shard(job: _Shard, tick: Tick) -> None:
    """Collect one shard into its rows of the column files."""
    spec, index, steps = job.spec, job.index, job.steps
    env_seed, behaviour_seed = SeedSequence(spec.seed).spawn(index + 1)[index].spawn(2)
    env = make_env(spec.env_id)
    try:
        behaviour = make_behaviour(spec, env)
        types = _types(env)
        del types["episodes"]  # counted over all shards afterwards
        observation, _ = env.reset(seed=int(env_seed.generate_state(1)[0]))
        done = 0
        with ColumnWriter(Path(job.folder), types, job.first_row) as writer:
            for plan in behaviour.plans(behaviour_seed, steps):
                columns = {name: kind.empty(len(plan.random)) for name, kind in types.items()}
                columns["actions"] = plan.actions
                observation = _fill(env, behaviour, plan, observation, columns, tick, done)
                done += len(plan.random)
                if done == steps and not columns["terminations"][-1]:
                    columns["truncations"][-1] = True
                writer.append(columns)
    finally:
        env.close()
    tick(steps)


def _fill(
    env: Env,
    behaviour: Behaviour,
    plan: Plan,
    observation: npt.NDArray[Any],
    columns: Columns,
    tick: Tick,
    done: int,
) -> npt.NDArray[Any]:
    """Step through the environment, and return the last observation.

    The loop is bare: each line costs on every transition.
    """
    observations, next_observations = columns["observations"], columns["next_observations"]
    rewards, actions, random = columns["rewards"], columns["actions"], plan.random
    terminations, truncations = columns["terminations"], columns["truncations"]
    step = env.step
    all_random = bool(random.all())
    action_dtype = env.action_space.dtype
    # Environments of another precision get the very numbers that are stored.
    executed = actions if action_dtype == np.float32 else actions.astype(action_dtype)
    for row in range(len(rewards)):
        observations[row] = observation
        if not all_random and not random[row]:
            actions[row] = behaviour.act(observation)
            executed[row] = actions[row]
        observation, rewards[row], terminated, truncated, _ = step(executed[row])
        next_observations[row] = observation
        terminations[row] = terminated
        truncations[row] = truncated
        if terminated or truncated:
            observation, _ = env.reset()
        if row % _STEPS_PER_TICK == 0:
            tick(done + row)
    return observation


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


def complete_returns(transitions: Transitions, spec: DatasetSpec) -> Float64Array:
    """Return the undiscounted returns of the episodes that weren't cut, of all if all were."""
    complete = complete_episodes(transitions, spec)
    returns = transitions.episode_returns()
    return returns[complete] if complete.any() else returns
