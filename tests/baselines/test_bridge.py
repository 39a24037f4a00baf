"""Our columns as d3rlpy's buffers, and back: every transition as it happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from qss_offline.baselines.bridge import to_column_buffer, to_replay_buffer
from qss_offline.data import Transitions, load_transitions, plan_replay_buffer
from qss_offline.errors import UserError

from ..data.conftest import make_transitions

d3rlpy = pytest.importorskip("d3rlpy")

LENGTHS = [4, 6, 1, 2, 3, 9]  # even ones terminate


def drawable(buffer: Any) -> list[tuple[Any, Any]]:
    """Every (episode, transition) that d3rlpy could draw, in order."""
    pairs = [buffer.buffer[i] for i in range(buffer.transition_count)]
    return [(episode, buffer.transition_picker(episode, index)) for episode, index in pairs]


def rows_by_content(transitions: Transitions) -> dict[bytes, int]:
    assert transitions.actions is not None
    pairs = zip(transitions.observations, transitions.actions, strict=True)
    rows = {obs.tobytes() + action.tobytes(): row for row, (obs, action) in enumerate(pairs)}
    assert len(rows) == len(transitions)
    return rows


@pytest.mark.parametrize("name", ["made up", "recording"])
def test_each_episode_of_a_replay_buffer_is_aligned(name: str, recording: Transitions) -> None:
    transitions = make_transitions(LENGTHS) if name == "made up" else recording
    assert transitions.actions is not None
    buffer = to_replay_buffer(transitions)
    transitions_of: dict[int, list[Any]] = {}
    for episode, transition in drawable(buffer):
        transitions_of.setdefault(id(episode), []).append(transition)
    starts, lengths = transitions.episode_starts(), transitions.episode_lengths()
    drawn = iter(transitions_of.values())
    episodes = 0
    for start, length in zip(starts, lengths, strict=True):
        terminated = bool(transitions.terminations[start + length - 1])
        expected = length if terminated else length - 1
        if not expected:
            continue
        episodes += 1
        episode = next(drawn)
        assert len(episode) == expected
        for row, one in enumerate(episode, start):
            np.testing.assert_array_equal(one.observation, transitions.observations[row])
            np.testing.assert_array_equal(one.action, transitions.actions[row])
            assert one.reward.tolist() == [transitions.rewards[row]]
            assert one.terminal == float(transitions.terminations[row])
            if one.terminal:
                assert not one.next_observation.any()  # d3rlpy's own doing
            else:
                np.testing.assert_array_equal(
                    one.next_observation, transitions.next_observations[row]
                )
    assert next(drawn, None) is None
    assert buffer.size() == episodes


def test_column_buffers_draw_every_transition_as_it_happened(recording: Transitions) -> None:
    for transitions in (make_transitions(LENGTHS), recording):
        rows = rows_by_content(transitions)
        buffer = to_column_buffer(transitions, np.random.default_rng(0))
        assert buffer.transition_count == len(transitions)
        batch = buffer.sample_transition_batch(12 * len(transitions))
        drawn = set()
        for obs, action, reward, next_obs, next_action, terminal in zip(
            batch.observations,
            batch.actions,
            batch.rewards,
            batch.next_observations,
            batch.next_actions,
            batch.terminals,
            strict=True,
        ):
            row = rows[obs.tobytes() + action.tobytes()]
            drawn.add(row)
            np.testing.assert_array_equal(next_obs, transitions.next_observations[row])
            assert reward.tolist() == [transitions.rewards[row]]
            assert terminal.tolist() == [float(transitions.terminations[row])]
            assert transitions.actions is not None
            ends = transitions.terminations[row] or transitions.truncations[row]
            following = np.zeros_like(action) if ends else transitions.actions[row + 1]
            np.testing.assert_array_equal(next_action, following)
        # Truncated episodes' last rows, and one-step episodes, among them.
        assert drawn == set(range(len(transitions)))


def replay_error(env: gym.Env[Any, Any], obs: Any, action: Any, next_obs: Any) -> float:
    """Put the pendulum where `obs` says and act."""
    pendulum: Any = env.unwrapped
    pendulum.set_state(obs[:2].astype(np.float64), obs[2:].astype(np.float64))
    return float(np.abs(pendulum.step(action)[0] - next_obs).max())


def test_the_environment_itself_goes_from_obs_to_next_obs(recording: Transitions) -> None:
    env = gym.make("InvertedPendulum-v5")
    env.reset(seed=0)
    columns = to_column_buffer(recording, np.random.default_rng(0))
    batch = columns.sample_transition_batch(300)
    triples = list(zip(batch.observations, batch.actions, batch.next_observations, strict=True))
    triples += [
        (one.observation, one.action, one.next_observation)
        for _, one in drawable(to_replay_buffer(recording))
        if not one.terminal
    ]
    errors = [replay_error(env, *triple) for triple in triples]
    assert max(errors) < 1e-3
    # The same with the action of the next row, which is what get_minari does, is far off.
    obs, actions, next_obs = zip(*triples, strict=True)
    shifted = zip(obs, actions[1:], next_obs, strict=False)
    assert np.median([replay_error(env, *triple) for triple in shifted]) > 0.05
    env.close()


@pytest.mark.usefixtures("in_process")
def test_the_zeros_of_terminal_transitions_never_reach_a_recording(
    recording: Transitions, minari_root: Path
) -> None:
    buffer = to_replay_buffer(recording)
    zeros = [one for _, one in drawable(buffer) if not one.next_observation.any()]
    assert len(zeros) == recording.terminations.sum() > 50  # the trap is there
    stored = plan_replay_buffer(buffer).store("mine/pendulum")
    for dataset_id in stored.ids:
        back = load_transitions(dataset_id).transitions
        pairs = zip(recording.observations, recording.next_observations, strict=True)
        steps = {obs.tobytes() + next_obs.tobytes() for obs, next_obs in pairs}
        for obs, next_obs in zip(back.observations, back.next_observations, strict=True):
            assert next_obs.any()
            assert obs.tobytes() + next_obs.tobytes() in steps
        assert len(back) == len(recording) - len(recording.episode_starts())


def test_a_column_buffer_takes_no_more_steps(recording: Transitions) -> None:
    buffer = to_column_buffer(recording, np.random.default_rng(0))
    with pytest.raises(IndexError, match="full"):
        buffer.append(np.zeros(4), np.zeros(1), 0.0)


def test_d3rlpys_own_tools_take_both_buffers(recording: Transitions) -> None:
    algo = d3rlpy.algos.BCConfig(batch_size=16).create(device="cpu:0")
    silent: dict[str, Any] = {
        "n_steps": 4,
        "n_steps_per_epoch": 2,
        "show_progress": False,
        "logger_adapter": d3rlpy.logging.NoopAdapterFactory(),
    }
    episodes = to_replay_buffer(recording)
    assert len(algo.fit(to_column_buffer(recording, np.random.default_rng(0)), **silent)) == 2
    assert len(algo.fit(episodes, **silent)) == 2
    assert np.isfinite(d3rlpy.metrics.ContinuousActionDiffEvaluator()(algo, episodes))


def test_what_d3rlpy_cannot_learn_from_is_refused() -> None:
    without = make_transitions([3], act_dim=None)
    with pytest.raises(UserError, match=r"holds no actions.*act-v0"):
        to_replay_buffer(without)
    with pytest.raises(UserError, match=r"holds no actions.*act-v0"):
        to_column_buffer(without, np.random.default_rng(0))
    only_cut = make_transitions([1, 1])
    one_step = Transitions(
        **only_cut.columns()
        | {"terminations": np.zeros(2, np.bool_), "truncations": np.ones(2, np.bool_)}
    )
    with pytest.raises(UserError, match="truncated after one step"):
        to_replay_buffer(one_step)
