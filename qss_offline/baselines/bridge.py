"""From our columns to d3rlpy's replay buffers. The way back is `data.plan_replay_buffer`.

`d3rlpy.datasets.get_minari` must not be used: it pairs observations with the actions of other
steps (docs/upstream/d3rlpy-get-minari-misaligned.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from qss_offline.baselines import require_d3rlpy
from qss_offline.data.transitions import Float32Array, Transitions
from qss_offline.errors import UserError

if TYPE_CHECKING:
    from qss_offline.baselines.replay import ColumnReplayBuffer


def to_column_buffer(transitions: Transitions, rng: np.random.Generator) -> ColumnReplayBuffer:
    """Return every transition as a buffer for `fit` and `update`, fast to draw from.

    Next observations are the true ones throughout, also where an episode ends, and `terminal`
    marks terminations alone: a time limit bootstraps. The next action is zero where the episode
    ends; of d3rlpy's offline algorithms only ReBRAC asks for it.

    Args:
        transitions: with actions; observations and rewards are shared, not copied.
        rng: draws the batches.

    Raises:
        UserError: there are no actions, or d3rlpy isn't installed.
    """
    require_d3rlpy()
    from qss_offline.baselines.replay import ColumnReplayBuffer

    actions = require_actions(transitions)
    next_actions = np.zeros_like(actions)
    inside = transitions.episodes[1:] == transitions.episodes[:-1]
    next_actions[:-1][inside] = actions[1:][inside]
    return ColumnReplayBuffer.of_columns(
        obs=transitions.observations,
        actions=actions,
        rewards=transitions.rewards[:, None],
        next_obs=transitions.next_observations,
        next_actions=next_actions,
        terminals=transitions.terminations[:, None].astype(np.float32),
        rng=rng,
    )


def to_replay_buffer(transitions: Transitions) -> Any:
    """Return the episodes as a `d3rlpy.dataset.ReplayBuffer`, action i beside observation i.

    For what needs whole episodes: d3rlpy's evaluators, its trajectory algorithms, its files.
    d3rlpy itself keeps T observations for T steps: it gives zeros for the observation after a
    termination, and it doesn't draw the last step of a truncated episode. A truncated episode of
    one step holds nothing that d3rlpy could draw, so d3rlpy leaves it out. Batches are drawn
    transition by transition, slowly; `to_column_buffer` has none of these faults.

    Raises:
        UserError: there are no actions, no episode has a step that d3rlpy could draw, or d3rlpy
            isn't installed.
    """
    require_d3rlpy()
    from d3rlpy.constants import ActionSpace
    from d3rlpy.dataset import Episode, InfiniteBuffer, ReplayBuffer, Signature

    actions = require_actions(transitions)
    starts = transitions.episode_starts()
    stops = starts + transitions.episode_lengths()
    episodes = [
        Episode(
            transitions.observations[start:stop],
            actions[start:stop],
            transitions.rewards[start:stop, None],
            bool(transitions.terminations[stop - 1]),
        )
        for start, stop in zip(starts, stops, strict=True)
    ]
    if not any(episode.transition_count for episode in episodes):
        raise UserError("every episode is truncated after one step: d3rlpy can draw none of them")
    float32 = np.dtype(np.float32)
    # Said outright, since d3rlpy prints what it has to find out.
    return ReplayBuffer(
        InfiniteBuffer(),
        episodes=episodes,
        observation_signature=Signature([float32], [(transitions.obs_dim,)]),
        action_signature=Signature([float32], [actions.shape[1:]]),
        reward_signature=Signature([float32], [(1,)]),
        action_space=ActionSpace.CONTINUOUS,
        action_size=actions.shape[1],
    )


def require_actions(transitions: Transitions) -> Float32Array:
    """Return the actions, `(N, act_dim)`.

    Raises:
        UserError: there are none.
    """
    if transitions.actions is None:
        raise UserError(
            "the recording holds no actions, which d3rlpy needs; load its twin, …-act-v0"
        )
    return transitions.actions
