"""Online D3G for several seeds: environments stepped in turn, one stacked update a step; resumable.

Every seed has its environment, its replay table and its random streams; networks and updates are
stacked. On a CPU a seed gives the same bits alone, in any company and after any interruption.

**Where an episode stands.** An environment's inner state can't be saved in general. Each episode
begins with a reset to a seed of its own, and the actions since then are in the replay: a resumed
run resets to the same seed and takes them again. That gives the same state wherever resets and
steps are deterministic, as in Gymnasium's environments; where the observation comes out different,
a new episode begins, and a notice says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qss_offline.acting import DiscretePolicy, ObservationScale, Policy, save_policy
from qss_offline.algorithms.d3g import D3G, D3GBatch, D3GConfig, D3GParameters
from qss_offline.algorithms.networks import Network
from qss_offline.data.environments import make_env
from qss_offline.data.transitions import Transitions
from qss_offline.engine.checkpoint import (
    Checkpoint,
    load_checkpoint,
    merge_states,
    save_checkpoint,
    seed_checkpoint,
    stack_checkpoints,
)
from qss_offline.engine.compiled import compiled_gradients, eager_gradient
from qss_offline.engine.denormals import denormals_as_zero
from qss_offline.engine.replay import ReplaySampler, ReplayTable
from qss_offline.engine.state import TrainState, initial_state
from qss_offline.engine.update import GradientFunction, MetricSums, apply_update
from qss_offline.errors import UserError
from qss_offline.evaluation import evaluate
from qss_offline.offline_training import observation_scale
from qss_offline.online_actions import BoxActions, Explorer, OneHotActions, actions_of
from qss_offline.reporting import print_notice
from qss_offline.runs import SeedFolder

_LOG_INTERVAL = 1_000


@dataclass(frozen=True)
class OnlineConfig:
    """Settings of online D3G; the defaults are the authors'.

    Attributes:
        algorithm: the losses.
        steps: environment steps of a seed.
        warm_up: environment steps taken at random, before the first update.
        exploration_noise: standard deviation of the noise on actions in a Box, in units of half
            the box.
        epsilon: probability of a random action where actions are discrete.
        updates_per_step: updates after each environment step.
        replay_capacity: transitions kept; the oldest make way.
        normalize_observations: departure 1: observations are shifted and scaled by their mean and
            standard deviation over the warm-up, which stay as they are from then on.
        model_updates: departure 2: updates of I and f alone at the end of the warm-up, so that the
            first targets don't go through untrained models.
    """

    algorithm: D3GConfig = field(default_factory=D3GConfig)
    steps: int = 1_000_000
    warm_up: int = 10_000
    exploration_noise: float = 0.1
    epsilon: float = 0.1
    updates_per_step: int = 1
    replay_capacity: int = 1_000_000
    normalize_observations: bool = False
    model_updates: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that can't be trained with."""
        for name in ("steps", "warm_up", "updates_per_step", "replay_capacity"):
            if getattr(self, name) <= 0:
                raise UserError(f"{name} must be above 0, not {getattr(self, name)}")
        if self.replay_capacity < min(self.warm_up, self.steps):
            raise UserError(
                f"replay_capacity {self.replay_capacity} can't hold the warm-up of {self.warm_up}"
            )
        if self.exploration_noise < 0 or self.model_updates < 0:
            raise UserError("exploration_noise and model_updates must be at least 0")
        if not 0 <= self.epsilon <= 1:
            raise UserError(f"epsilon must be a probability, not {self.epsilon}")


@dataclass(frozen=True)
class Start:
    """What a seed brings with it from an offline run.

    Attributes:
        tensors: networks and moments by their names in a checkpoint.
        scale: what its observations go through.
    """

    tensors: Mapping[str, Tensor]
    scale: ObservationScale


@dataclass(frozen=True)
class OnlineTask:
    """One seed to train.

    Attributes:
        seed: of everything random.
        folder: where its files go.
        start: where it begins; None begins with random networks and random actions.
    """

    seed: int
    folder: SeedFolder
    start: Start | None = None


@dataclass(frozen=True)
class EvaluationPlan:
    """When and how policies are evaluated.

    Attributes:
        interval: environment steps between evaluations; there is one before the first step and one
            after the last too. Checkpoints are written with them.
        episodes: episodes of each.
        keep_policies: keep the policy of each, `policies/<step>.safetensors`.
    """

    interval: int = 5_000
    episodes: int = 10
    keep_policies: bool = False

    def __post_init__(self) -> None:
        """Refuse a plan without evaluations."""
        if self.interval <= 0 or self.episodes <= 0:
            raise UserError("the interval and the episodes of evaluations must be above 0")


@dataclass(frozen=True)
class Columns:
    """Where the columns of a step lie in a row of the replay.

    Attributes:
        obs_dim: size of an observation.
        action_dim: size of an action vector.
    """

    obs_dim: int
    action_dim: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of s, a, s', r, terminated, truncated."""
        return (self.obs_dim, self.action_dim, self.obs_dim, 1, 1, 1)

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return sum(self.sizes)

    def split(self, rows: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Split rows `(n, width)` into columns `(n, size)`."""
        return np.split(rows, np.cumsum(self.sizes)[:-1], axis=1)

    def transitions(self, rows: NDArray[np.float32]) -> Transitions:
        """Return rows `(n, width)` as transitions; an episode that was cut counts as truncated."""
        obs, action, next_obs, reward, terminated, truncated = self.split(rows)
        terminations = terminated[:, 0] > 0
        # A step that does both is the environment's own end.
        truncations = (truncated[:, 0] > 0) & ~terminations
        if not (terminations[-1] or truncations[-1]):
            truncations[-1] = True
        ends = terminations | truncations
        return Transitions(
            observations=np.ascontiguousarray(obs),
            next_observations=np.ascontiguousarray(next_obs),
            rewards=np.ascontiguousarray(reward[:, 0]),
            terminations=terminations,
            truncations=truncations,
            episodes=np.cumsum(np.append(0, ends[:-1])).astype(np.int64),
            actions=np.ascontiguousarray(action),
        )


class SeedLoop:
    """One seed's environment, replay and random streams.

    Args:
        task: the seed.
        env_id: a Gymnasium id.
        config: settings.
        device: where the replay lives.
    """

    def __init__(
        self, task: OnlineTask, env_id: str, config: OnlineConfig, device: torch.device
    ) -> None:
        self.task = task
        self._env = make_env(env_id, discrete_actions=True)
        self.actions = actions_of(self._env.action_space, config.exploration_noise, config.epsilon)
        shape = self._env.observation_space.shape
        assert shape is not None
        self.columns = Columns(shape[0], self.actions.dim)
        capacity = min(config.replay_capacity, config.steps)
        self.table = ReplayTable(capacity, self.columns.width, device)
        self.scale: ObservationScale | None = None if task.start is None else task.start.scale
        self.evaluations: list[tuple[int, tuple[float, ...]]] = []
        self.reward_low = self.reward_high = 0.0
        self.ended_returns: list[float] = []
        self.rows_written = 0
        self._explorer = Explorer(task.seed, self.actions)
        self._episode = -1
        self._begin_episode()

    def _begin_episode(self) -> None:
        self._episode += 1
        self._reset()

    def _reset(self) -> None:
        stream = np.random.SeedSequence([self.task.seed, *b"episode", self._episode])
        obs, _ = self._env.reset(seed=int(stream.generate_state(1)[0]))
        self.obs = np.asarray(obs, np.float32)
        self._length, self._return = 0, 0.0

    def step(self, greedy: NDArray[np.float32] | None) -> None:
        """Take one environment step and store it.

        Args:
            greedy: the policy's action vector `(action_dim,)`; None acts at random.
        """
        vector = self._explorer.choose(self.table.added, greedy)
        next_obs, reward, terminated, truncated, _ = self._env.step(self.actions.to_env(vector))
        after = np.asarray(next_obs, np.float32)
        reward = float(reward)
        row = np.concatenate((self.obs, vector, after, (reward, terminated, truncated)))
        self.table.append(row.astype(np.float32)[None])
        self.obs = after
        self.reward_low = min(self.reward_low, reward)
        self.reward_high = max(self.reward_high, reward)
        self._length += 1
        self._return += reward
        if terminated or truncated:
            self.ended_returns.append(self._return)
            self._begin_episode()

    def checkpoint(self) -> Checkpoint:
        """Everything but the replay's rows."""
        tensors = {}
        if self.scale is not None:
            tensors = {"scale.mean": self.scale.mean, "scale.std": self.scale.std}
            if self.scale.step_std is not None:
                tensors["scale.step_std"] = self.scale.step_std
        return Checkpoint(
            tensors,
            {
                "step": self.table.added,
                "episode": self._episode,
                "episode_length": self._length,
                "reward_limits": [self.reward_low, self.reward_high],
                "evaluations": [[step, list(returns)] for step, returns in self.evaluations],
            },
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint; the replay holds its rows already."""
        metadata, tensors = checkpoint.metadata, checkpoint.tensors
        if "scale.mean" in tensors:
            self.scale = ObservationScale(
                tensors["scale.mean"], tensors["scale.std"], tensors.get("scale.step_std")
            )
        self.rows_written = self.table.added
        self.reward_low, self.reward_high = metadata["reward_limits"]
        self.evaluations = [
            (int(step), tuple(returns)) for step, returns in metadata["evaluations"]
        ]
        self._episode = int(metadata["episode"])
        self._retrace(int(metadata["episode_length"]))

    def _retrace(self, length: int) -> None:
        """Take the actions of the unfinished episode again."""
        self._reset()
        if length == 0:
            return
        kept = min(length, len(self.table))
        rows = self.table.read(self.table.added - kept, self.table.added)
        _, vectors, next_obs, *_ = self.columns.split(rows)
        for vector in vectors:
            obs, reward, *_ = self._env.step(self.actions.to_env(vector))
            self.obs = np.asarray(obs, np.float32)
            self._length += 1
            self._return += float(reward)
        if kept < length or not np.array_equal(self.obs, next_obs[-1]):
            print_notice(
                f"seed {self.task.seed}: the environment did not come back to where it stood; a "
                "new episode begins, and the run is not what it would have been uninterrupted"
            )
            self._begin_episode()

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


class OnlineTrainer:
    """Trains several seeds in one stack, in this process.

    Args:
        tasks: the seeds.
        env_id: a Gymnasium id.
        config: settings.
        plan: when to evaluate.
        device: where to train.
        compiled: record the updates (`engine/compiled.py`), which takes seconds and pays over
            thousands of them; None does so on a CPU.
    """

    def __init__(
        self,
        tasks: Sequence[OnlineTask],
        env_id: str,
        config: OnlineConfig,
        plan: EvaluationPlan,
        device: torch.device | str = "cpu",
        compiled: bool | None = None,
    ) -> None:
        self.tasks, self.env_id, self.config = tuple(tasks), env_id, config
        self.plan, self.device = plan, torch.device(device)
        self.compiled = self.device.type == "cpu" if compiled is None else compiled
        # A resumed run logs the same means, as logs fall on checkpoints.
        self._log_interval = math.gcd(_LOG_INTERVAL, plan.interval)

    def run(self, tick: Callable[[int], None]) -> TrainState:
        """Train every seed to the end, from its checkpoint where it has one.

        Seeds that stand further back, as after a kill between two files, catch up first.

        Args:
            tick: told the number of environment steps done, over all seeds.

        Returns:
            The networks of all seeds, in the order of `state.seeds`.
        """
        stands = [_stand(task.folder) for task in self.tasks]
        stacked: _Stack | None = None
        try:
            for stand in sorted(set(stands)):
                joining = [t for t, s in zip(self.tasks, stands, strict=True) if s == stand]
                waiting = sum(s for s in stands if s >= stand)
                if stacked is not None:
                    stacked.advance(stand, lambda n, w=waiting: tick(n + w))  # type: ignore[misc]
                stacked = _Stack(self, joining, stacked)
            assert stacked is not None
            stacked.advance(self.config.steps, tick)
            return stacked.state
        finally:
            if stacked is not None:
                for loop in stacked.loops:
                    loop.close()

    def log_due(self, step: int) -> bool:
        """Whether metrics are written after `step`."""
        return step % self._log_interval == 0 or step == self.config.steps

    def evaluation_due(self, step: int) -> bool:
        """Whether policies are evaluated, and checkpoints written, after `step`."""
        return step % self.plan.interval == 0 or step == self.config.steps


class _Stack:
    """Seeds that stand at the same step, and their networks.

    Args:
        trainer: settings.
        tasks: seeds that join, loaded from their checkpoints.
        others: seeds that stand there already.
    """

    def __init__(
        self, trainer: OnlineTrainer, tasks: Sequence[OnlineTask], others: _Stack | None
    ) -> None:
        self._trainer, self._config = trainer, trainer.config
        loops = [SeedLoop(t, trainer.env_id, self._config, trainer.device) for t in tasks]
        state = self._load(loops)
        if others is None:
            self.loops, self.state = loops, state
        else:
            self.loops = [*others.loops, *loops]
            self.state = merge_states([others.state, state])
        self._metrics = MetricSums()
        self._prepare()

    @property
    def step(self) -> int:
        """Environment steps that each seed has taken."""
        return self.loops[0].table.added

    def _load(self, loops: Sequence[SeedLoop]) -> TrainState:
        """Restore the seeds that join, and return their networks."""
        device, first = self._trainer.device, loops[0]
        algorithm = D3G(
            self._config.algorithm,
            first.columns.obs_dim,
            first.actions.dim,
            first.actions.discrete,
        )
        if _stand(first.task.folder) == 0:
            for loop in loops:
                loop.task.folder.cut_metrics(-1)
                _drop_rows(loop.task.folder, 0)
            state = initial_state(algorithm, [loop.task.seed for loop in loops], device)
            for index, loop in enumerate(loops):
                if loop.task.start is not None:
                    _carry_over(loop.task.start, state, index)
            return state
        checkpoints = []
        for loop in loops:
            checkpoint = load_checkpoint(loop.task.folder.training)
            loop.task.folder.cut_metrics(int(checkpoint.metadata["update"]))
            step = int(checkpoint.metadata["step"])
            _drop_rows(loop.task.folder, step)
            _read_rows(loop.task.folder, loop.table, step)
            loop.restore(checkpoint)
            checkpoints.append(checkpoint)
        return stack_checkpoints(algorithm, checkpoints, device)

    def _prepare(self) -> None:
        """Build what depends on the seeds of the stack and on their scales."""
        first, device = self.loops[0], self._trainer.device
        scales = [loop.scale or _identity(first.columns.obs_dim) for loop in self.loops]
        self._mean = torch.stack([scale.mean for scale in scales]).unsqueeze(1).to(device)
        self._std = torch.stack([scale.std for scale in scales]).unsqueeze(1).to(device)
        self._scaled = bool((self._mean != 0).any() or (self._std != 1).any())
        step_scale: Tensor | None = None
        if self._config.algorithm.step_inputs:
            spreads = [s.step_std for s in scales if s.step_std is not None]
            step_scale = torch.stack(spreads).unsqueeze(1).to(device)
        arguments = (
            self._config.algorithm,
            first.columns.obs_dim,
            first.actions.dim,
            first.actions.discrete,
            step_scale,
        )
        self._algorithm, self._dynamics = D3G(*arguments), D3G(*arguments, only_dynamics=True)
        self._parameters = D3GParameters(**self.state.networks)
        self._sampler = ReplaySampler(
            [loop.table for loop in self.loops],
            self._config.algorithm.batch_size,
            self._make_batch,
        )

    def _make_batch(self, rows: Tensor) -> D3GBatch:
        """Split rows `(updates, S, B, width)` into the columns of batches."""
        obs, action, next_obs, reward, terminated, _ = rows.split(
            self.loops[0].columns.sizes, dim=-1
        )
        if self._scaled:
            obs, next_obs = (obs - self._mean) / self._std, (next_obs - self._mean) / self._std
        horizon = 1.0 - self._config.algorithm.gamma
        limits = torch.tensor(
            [[loop.reward_low / horizon, loop.reward_high / horizon] for loop in self.loops],
            device=rows.device,
        ).expand(len(rows), -1, -1)
        return D3GBatch(
            obs,
            action,
            next_obs,
            reward.squeeze(-1),
            terminated.squeeze(-1),
            limits[..., :1],
            limits[..., 1:],
        )

    def advance(self, step: int, tick: Callable[[int], None]) -> None:
        """Act and train until every seed has taken `step` environment steps."""
        if self.step == 0 and step > 0:
            self._evaluate()
        while self.step < step:
            greedy = self._act()
            for index, loop in enumerate(self.loops):
                loop.step(None if greedy is None else greedy[index])
            now = self.step
            if now == self._config.warm_up:
                self._end_warm_up()
            elif now > self._config.warm_up:
                self._update(self._algorithm, self._config.updates_per_step)
            if self._trainer.log_due(now):
                self._log()
            if self._trainer.evaluation_due(now):
                self._evaluate()
                self._save()
            tick(now * len(self.loops))

    @torch.no_grad()
    def _act(self) -> NDArray[np.float32] | None:
        """Return the action vectors of the policies, `(S, action_dim)`; None to act at random."""
        random = self.step < self._config.warm_up
        if random and self.loops[0].task.start is None:
            return None
        obs = torch.from_numpy(np.stack([loop.obs for loop in self.loops])).unsqueeze(1)
        obs = obs.to(self._trainer.device)
        if self._scaled:
            obs = (obs - self._mean) / self._std
        action = self._algorithm.policy_action(self._parameters, obs)
        return np.asarray(action.squeeze(1).cpu().numpy(), np.float32)

    def _end_warm_up(self) -> None:
        """Measure the observations, and train the dynamics models if asked to."""
        config = self._config
        for loop in self.loops:
            if loop.scale is None:
                rows = loop.table.read(loop.table.oldest, loop.table.added)
                loop.scale = observation_scale(
                    loop.columns.transitions(rows), config.normalize_observations
                )
        self._prepare()
        self._update(self._dynamics, config.model_updates)

    def _update(self, algorithm: D3G, updates: int) -> None:
        """Apply updates of all seeds, each on batches of its own replay."""
        with denormals_as_zero():
            for _ in range(updates):
                block = self._sampler.draw(self.state.generators, 1)
                batch = D3GBatch(*(column[0] for column in block))
                self.state.update += 1
                gradient_of: GradientFunction = eager_gradient
                if self._trainer.compiled:
                    gradient_of = compiled_gradients(algorithm, self.state, batch)
                    batch = gradient_of.place(batch)
                self._metrics.add(
                    apply_update(
                        algorithm,
                        self.state,
                        batch,
                        self.state.update,
                        algorithm.config.learning_rate,
                        gradient_of,
                    )
                )

    def _log(self) -> None:
        means = self._metrics.read()
        for index, loop in enumerate(self.loops):
            row: dict[str, Any] = {"update": self.state.update, "step": self.step}
            row |= {name: values[index] for name, values in means.items()}
            row["episodes"] = len(loop.ended_returns)
            if loop.ended_returns:
                row["episode_return"] = float(np.mean(loop.ended_returns))
            loop.ended_returns.clear()
            if self.state.update > 0:
                loop.task.folder.append_metrics(row)

    def _evaluate(self) -> None:
        """Let every policy act, and keep the returns."""
        plan, step = self._trainer.plan, self.step
        for index, loop in enumerate(self.loops):
            policy = self.policy(index)
            stream = np.random.SeedSequence([loop.task.seed, *b"evaluation", step])
            evaluation = evaluate(
                policy,
                self._trainer.env_id,
                plan.episodes,
                int(stream.generate_state(1)[0]),
                lambda env_id: make_env(env_id, discrete_actions=True),
            )
            loop.evaluations.append((step, evaluation.returns))
            if plan.keep_policies:
                save_policy(policy_path(loop.task.folder, step), policy, self._trainer.env_id)

    def _save(self) -> None:
        """Write the replay's new rows, then the checkpoint that counts on them."""
        for index, loop in enumerate(self.loops):
            folder = loop.task.folder
            _write_rows(folder, loop)
            seed, mine = seed_checkpoint(self.state, index), loop.checkpoint()
            save_checkpoint(
                folder.training,
                Checkpoint({**seed.tensors, **mine.tensors}, {**seed.metadata, **mine.metadata}),
            )
            save_policy(folder.policy, self.policy(index), self._trainer.env_id)

    def policy(self, index: int) -> Policy:
        """Return the policy of the seed at `index`, on a copy of its networks as they are now."""
        proposal, inverse = (
            Network(network.shape, network.flat[index : index + 1].cpu().clone())
            for network in (self._parameters.proposal_average, self._parameters.inverse_average)
        )
        loop = self.loops[index]
        scale = loop.scale or _identity(loop.columns.obs_dim)
        step_inputs = self._config.algorithm.step_inputs
        if isinstance(loop.actions, OneHotActions):
            return DiscretePolicy(proposal, inverse, scale, step_inputs, loop.actions.start)
        assert isinstance(loop.actions, BoxActions)
        return Policy(proposal, inverse, scale, step_inputs, loop.actions.box)


def policy_path(folder: SeedFolder, step: int) -> Path:
    """Where the policy of an evaluation is kept."""
    return folder.path / "policies" / f"{step:09d}.safetensors"


def _identity(obs_dim: int) -> ObservationScale:
    # Three tensors: files refuse tensors that share memory.
    return ObservationScale(torch.zeros(obs_dim), torch.ones(obs_dim), torch.ones(obs_dim))


def _stand(folder: SeedFolder) -> int:
    """Environment steps at a seed's checkpoint; 0 without one."""
    if not folder.training.exists():
        return 0
    return int(load_checkpoint(folder.training).metadata["step"])


def _carry_over(start: Start, state: TrainState, index: int) -> None:
    """Write what a seed brings with it into its rows of a fresh state."""
    for key, tensor in start.tensors.items():
        kind, _, name = key.partition(".")
        if kind == "network":
            target = state.networks[name].flat[index]
        elif kind == "steps":
            target = state.moments[name].steps
        else:
            target = getattr(state.moments[name], kind)[index]
        target.copy_(tensor)


def replay_files(folder: SeedFolder) -> list[Path]:
    """Return the files of a seed's replay, oldest rows first."""
    return sorted((folder.path / "replay").glob("[0-9]*.safetensors"))


def _write_rows(folder: SeedFolder, loop: SeedLoop) -> None:
    """Write the rows that no file holds yet, as a file named after the number of the first."""
    begin = max(loop.rows_written, loop.table.oldest)
    if begin < loop.table.added:
        rows = torch.from_numpy(loop.table.read(begin, loop.table.added))
        path = folder.path / "replay" / f"{begin:09d}.safetensors"
        save_checkpoint(path, Checkpoint({"rows": rows}))
        loop.rows_written = loop.table.added


def _drop_rows(folder: SeedFolder, step: int) -> None:
    """Delete the files that a kill left behind the checkpoint; their rows come again."""
    for path in replay_files(folder):
        if int(path.stem) >= step:
            path.unlink()


def _read_rows(folder: SeedFolder, table: ReplayTable, step: int) -> None:
    """Fill a table with the last rows before `step`, as many as it holds."""
    begin = max(0, step - table.capacity)
    table.added = begin
    for path in replay_files(folder):
        first = int(path.stem)
        rows = load_checkpoint(path).tensors["rows"].numpy()[max(0, begin - first) :]
        if len(rows) > 0:
            table.append(rows)
    if table.added != step:
        raise UserError(
            f"{folder.path / 'replay'} holds {table.added} of {step} steps; delete "
            f"{folder.path} to start that seed anew"
        )
