"""A d3rlpy replay buffer over flat columns.

d3rlpy draws a batch transition by transition, 3 to 6 ms for 256 of them, often longer than the
update itself. Here a batch is one gather from each column.

Imports d3rlpy at its top: import it inside the function that needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from d3rlpy.constants import ActionSpace
from d3rlpy.dataset import (
    BasicTransitionPicker,
    DatasetInfo,
    ReplayBufferBase,
    Signature,
    Transition,
    TransitionMiniBatch,
)
from numpy.typing import NDArray


class ColumnReplayBuffer(ReplayBufferBase):  # type: ignore[misc]
    """Transitions in preallocated columns, drawn uniformly with replacement.

    Takes what d3rlpy's `fit` and `fit_online` ask of a buffer; what only they of the trajectory
    algorithms ask (slices of episodes) is refused. A transition that ends by a time limit is
    dropped when it is appended online, since d3rlpy doesn't hand its next observation over.

    Args:
        obs_dim: size of an observation.
        action_dim: size of an action.
        capacity: how many transitions it can hold.
        rng: source of the indices of batches.
    """

    def __init__(
        self, obs_dim: int, action_dim: int, capacity: int, rng: np.random.Generator
    ) -> None:
        self._rng = rng
        self._count = 0
        self._pending = False
        self.obs = np.zeros((capacity, obs_dim), np.float32)
        self.actions = np.zeros((capacity, action_dim), np.float32)
        self.rewards = np.zeros((capacity, 1), np.float32)
        self.next_obs = np.zeros((capacity, obs_dim), np.float32)
        self.next_actions = np.zeros((capacity, action_dim), np.float32)
        self.terminals = np.zeros((capacity, 1), np.float32)

    @classmethod
    def of_columns(
        cls,
        obs: NDArray[np.float32],
        actions: NDArray[np.float32],
        rewards: NDArray[np.float32],
        next_obs: NDArray[np.float32],
        next_actions: NDArray[np.float32],
        terminals: NDArray[np.float32],
        rng: np.random.Generator,
    ) -> ColumnReplayBuffer:
        """Return a full buffer over columns that exist; they are shared and never written to.

        Args:
            obs: `(N, obs_dim)`, memory-mapped if need be.
            actions: `(N, action_dim)`.
            rewards: `(N, 1)`.
            next_obs: `(N, obs_dim)`.
            next_actions: `(N, action_dim)`.
            terminals: `(N, 1)`, 1.0 at a termination.
            rng: source of the indices of batches.
        """
        buffer = cls(obs.shape[1], actions.shape[1], 0, rng)
        buffer.obs, buffer.actions, buffer.rewards = obs, actions, rewards
        buffer.next_obs, buffer.next_actions, buffer.terminals = next_obs, next_actions, terminals
        buffer._count = len(obs)
        return buffer

    def append(self, observation: Any, action: Any, reward: Any) -> None:
        """Add a step; the step before it learns its next observation and becomes drawable."""
        row = self._count
        if self._pending:
            self.next_obs[row] = observation
            self.next_actions[row] = action
            self._count = row = row + 1
        if row == len(self.obs):
            raise IndexError(f"the buffer is full ({row} transitions)")
        self.obs[row], self.actions[row], self.rewards[row] = observation, action, reward
        self.terminals[row] = 0.0
        self._pending = True

    def clip_episode(self, terminated: bool) -> None:
        """End the episode: a terminal step is kept, one at a time limit is dropped."""
        if self._pending and terminated:
            self.next_obs[self._count] = 0.0
            self.next_actions[self._count] = 0.0
            self.terminals[self._count] = 1.0
            self._count += 1
        self._pending = False

    def _batch(self, rows: NDArray[np.int64]) -> TransitionMiniBatch:
        return TransitionMiniBatch(
            observations=self.obs[rows],
            actions=self.actions[rows],
            rewards=self.rewards[rows],
            next_observations=self.next_obs[rows],
            next_actions=self.next_actions[rows],
            terminals=self.terminals[rows],
            intervals=np.ones((len(rows), 1), np.float32),
            transitions=[],
        )

    def sample_transition_batch(self, batch_size: int) -> TransitionMiniBatch:
        """Draw a batch."""
        return self._batch(self._rng.integers(self._count, size=batch_size))

    def sample_transition(self) -> Transition:
        """Draw one transition; d3rlpy looks at its shapes."""
        row = int(self._rng.integers(self._count))
        return Transition(
            observation=self.obs[row],
            action=self.actions[row],
            reward=self.rewards[row],
            next_observation=self.next_obs[row],
            next_action=self.next_actions[row],
            terminal=float(self.terminals[row, 0]),
            interval=1,
            rewards_to_go=self.rewards[row : row + 1],
        )

    @property
    def transition_count(self) -> int:
        """Transitions that can be drawn."""
        return self._count

    @property
    def dataset_info(self) -> DatasetInfo:
        """Shapes and kind of actions."""
        return DatasetInfo(
            observation_signature=Signature([self.obs.dtype], [self.obs.shape[1:]]),
            action_signature=Signature([self.actions.dtype], [self.actions.shape[1:]]),
            reward_signature=Signature([self.rewards.dtype], [self.rewards.shape[1:]]),
            action_space=ActionSpace.CONTINUOUS,
            action_size=self.actions.shape[1],
        )

    @property
    def transition_picker(self) -> BasicTransitionPicker:
        """d3rlpy's default; only scalers that are not yet built would use it."""
        return BasicTransitionPicker()

    @property
    def episodes(self) -> Sequence[Any]:
        """None are kept: columns know no episodes."""
        return ()

    def size(self) -> int:
        """Return the number of episodes kept, none."""
        return 0

    def _refuse(*arguments: Any, **named: Any) -> NoReturn:
        raise NotImplementedError("a buffer of columns keeps transitions, no episodes")

    append_episode = sample_trajectory = sample_trajectory_batch = dump = _refuse
    from_episode_generator = load = _refuse
    buffer = trajectory_slicer = property(_refuse)
