"""One seed's part of an online run: its environment, its replay and its random actions.

**Where an episode stands.** An environment's inner state can't be saved in general. Each episode
begins with a reset to a seed of its own, and the actions since then are in the replay: a resumed
run resets to the same seed and takes them again. That gives the same state wherever resets and
steps are deterministic, as in Gymnasium's environments; where the observation comes out different,
a new episode begins, and a notice says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qss_offline.data.environments import make_env
from qss_offline.data.facts import observation_spread
from qss_offline.engine.checkpoint import Checkpoint
from qss_offline.engine.replay import ReplayTable
from qss_offline.engine.streams import seed_of
from qss_offline.evaluation.policies import ObservationScale
from qss_offline.online.columns import Columns
from qss_offline.online.config import OnlineConfig
from qss_offline.online.exploration import Explorer, actions_of
from qss_offline.online.warm_start import Start
from qss_offline.parallel.reporting import print_notice
from qss_offline.runs.folder import SeedFolder
from qss_offline.runs.results import EvaluationPoint


def judged_evaluations(stored: Iterable[Sequence[Any]]) -> list[EvaluationPoint]:
    """Return evaluations as a seed's checkpoint holds them."""
    return [
        EvaluationPoint(int(step), tuple(returns), None, value, worth)
        for step, returns, value, worth in stored
    ]


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


class SeedLoop:
    """One seed's environment, replay and random streams.

    Args:
        task: the seed.
        env_id: a Gymnasium id.
        config: settings.
    """

    def __init__(self, task: OnlineTask, env_id: str, config: OnlineConfig) -> None:
        self.task = task
        self._env = make_env(env_id)
        self.actions = actions_of(self._env.action_space, config.exploration_noise, config.epsilon)
        shape = self._env.observation_space.shape
        assert shape is not None
        self.columns = Columns(shape[0], self.actions.dim)
        capacity = min(config.replay_capacity, config.steps)
        self.table = ReplayTable(capacity, self.columns.width)
        self.scale: ObservationScale | None = None if task.start is None else task.start.scale
        self.evaluations: list[EvaluationPoint] = []
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
        obs, _ = self._env.reset(seed=seed_of(self.task.seed, "episode", self._episode))
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

    def measure_scale(self, normalize: bool) -> None:
        """Fix what observations go through by what the replay holds, if nothing has yet."""
        if self.scale is None:
            rows = self.table.read(self.table.oldest, self.table.added)
            spread = observation_spread(self.columns.transitions(rows), normalize)
            self.scale = ObservationScale.of(*spread)

    def checkpoint(self) -> Checkpoint:
        """Everything but the replay's rows."""
        return Checkpoint(
            {} if self.scale is None else self.scale.named_tensors(),
            {
                "step": self.table.added,
                "episode": self._episode,
                "episode_length": self._length,
                "reward_limits": [self.reward_low, self.reward_high],
                "evaluations": [
                    [point.online_steps, list(point.returns), point.value, point.discounted]
                    for point in self.evaluations
                ],
            },
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint; the replay holds its rows already."""
        metadata, tensors = checkpoint.metadata, checkpoint.tensors
        if "scale.mean" in tensors:
            self.scale = ObservationScale.from_named(tensors)
        self.rows_written = self.table.added
        self.reward_low, self.reward_high = metadata["reward_limits"]
        self.evaluations = judged_evaluations(metadata["evaluations"])
        self._episode = int(metadata["episode"])
        self._retrace(int(metadata["episode_length"]))

    def _retrace(self, length: int) -> None:
        """Take the actions of the unfinished episode again."""
        self._reset()
        if length == 0:
            return
        held = min(length, len(self.table))
        rows = self.table.read(self.table.added - held, self.table.added)
        _, vectors, next_obs, *_ = self.columns.split(rows)
        for vector in vectors:
            obs, reward, *_ = self._env.step(self.actions.to_env(vector))
            self.obs = np.asarray(obs, np.float32)
            self._length += 1
            self._return += float(reward)
        if held < length or not np.array_equal(self.obs, next_obs[-1]):
            print_notice(
                f"seed {self.task.seed}: the environment did not come back to where it stood; a "
                "new episode begins, and the run is not what it would have been uninterrupted"
            )
            self._begin_episode()

    def close(self) -> None:
        """Close the environment."""
        self._env.close()
