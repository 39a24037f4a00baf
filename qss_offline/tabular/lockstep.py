"""All seeds in all worlds take each step together: the only Python loop is over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from qss_offline.parallel.progress import Reporter, silent
from qss_offline.tabular.mdp import BoolArray, FloatArray, IntArray
from qss_offline.tabular.streams import Purpose, Streams
from qss_offline.tabular.worlds import Worlds


@dataclass(frozen=True)
class Schedule:
    """How long to learn, how to explore and when to look.

    Deviation from the authors, who run 50,000 episodes and evaluate before each: runs and the
    gaps between evaluations are counted in environment steps here. Seeds then stay in step, and a
    learner whose episodes are long doesn't get more experience for that.

    Attributes:
        seeds: K of them; each has a learner of its own in every world.
        steps: environment steps of every walker.
        evaluate_every: steps between evaluations; the first and the last step have one anyway.
        trials: greedy episodes in each evaluation (the authors' 10 where transitions are random).
        epsilon_start: the probability of a random action at first.
        epsilon_end: that probability from step `epsilon_steps` on.
        epsilon_steps: how long it takes to fall, in a straight line.
        walkers: agents that walk apart and teach one table (1: the plain algorithm). Where two of
            them update one entry in the same step, one of the updates is lost.
        phase: tells apart the random numbers of runs that follow each other.
    """

    seeds: tuple[int, ...]
    steps: int
    evaluate_every: int
    trials: int = 1
    epsilon_start: float = 1.0
    epsilon_end: float = 0.1
    epsilon_steps: int = 100_000
    walkers: int = 1
    phase: int = 0

    def epsilon(self, steps: IntArray) -> FloatArray:
        """Return ε at each of `steps`."""
        gone = np.minimum(steps / self.epsilon_steps, 1.0)
        return self.epsilon_start + gone * (self.epsilon_end - self.epsilon_start)


class Transitions(NamedTuple):
    """One step of every walker, each field `(rows,)`.

    A cell is table · S + state: an index into the states of all tables laid end to end.
    """

    cell: IntArray
    action: IntArray
    slot: IntArray
    reward: FloatArray
    next_cell: IntArray
    terminated: BoolArray


class Learner(Protocol):
    """What `learn` asks of QSA and QSS alike."""

    def values(self) -> FloatArray:
        """Return the learned value of every state `(W · K, S)`."""

    def act(self, cell: IntArray, uniform: FloatArray) -> IntArray:
        """Return the greedy action `(rows,)` in each cell, at liberty to use one draw a row."""

    def update(self, transitions: Transitions) -> None:
        """Learn from one step of every walker."""


@dataclass(frozen=True)
class Curves:
    """What a run showed in P evaluations of W worlds and K seeds.

    Attributes:
        steps: `(P,)`, environment steps taken before each evaluation.
        episodes: `(P, W, K)`, episodes ended by then.
        returns: `(P, W, K)`, undiscounted return of the greedy policy, averaged over the trials.
        values: `(P, W, K, S)`, the learned value of each state, 0 in terminal ones.
    """

    steps: IntArray
    episodes: IntArray
    returns: FloatArray
    values: FloatArray


def learn(
    learner: Learner, worlds: Worlds, schedule: Schedule, report: Reporter = silent
) -> Curves:
    """Let `learner`, with a table for every world and seed, explore `worlds` ε-greedily.

    An episode that ends at the goal doesn't bootstrap; one cut off by the time limit does. Either
    way the walker goes back to the start at once.

    Args:
        learner: learns in place.
        worlds: where.
        schedule: how long, and with which seeds.
        report: hears how many steps are done, at every evaluation.
    """
    walk = _Walk(learner, worlds, schedule)
    steps = np.append(np.arange(0, schedule.steps, schedule.evaluate_every), schedule.steps)
    shape = (len(steps), worlds.count, len(schedule.seeds))
    returns, values = np.zeros(shape), np.zeros((*shape, worlds.num_states))
    episodes = np.zeros((*shape, schedule.walkers), dtype=np.int64)
    evaluation = Streams(schedule.seeds, Purpose.EVALUATING, schedule.phase)
    for point, step in enumerate(steps.tolist()):
        if point:
            walk.advance(step)
        episodes[point] = walk.episodes.reshape(episodes.shape[1:])
        returns[point] = evaluate(learner, worlds, evaluation, schedule.trials)
        learned = learner.values().reshape(values.shape[1:])
        values[point] = np.where(worlds.terminal[:, None], 0.0, learned)
        report(step)
    return Curves(steps, episodes.sum(axis=-1), returns, values)


class _Walk:
    """Where every walker of `learn` stands. Row = (world · K + seed) · walkers + walker."""

    _DRAWS_AT_ONCE = 500_000

    def __init__(self, learner: Learner, worlds: Worlds, schedule: Schedule) -> None:
        self._learner, self._worlds, self._schedule = learner, worlds, schedule
        self._streams = Streams(schedule.seeds, Purpose.LEARNING, schedule.phase)
        self._rows = _Rows(worlds, len(schedule.seeds), schedule.walkers)
        self._state = self._rows.start.copy()
        self._elapsed = np.zeros_like(self._state)
        self._done_steps = 0
        self.episodes = np.zeros_like(self._state)

    def advance(self, until: int) -> None:
        """Take every walker to step `until`."""
        rows, schedule = self._rows, self._schedule
        most = max(1, self._DRAWS_AT_ONCE // len(self._state))
        while self._done_steps < until:
            count = min(most, until - self._done_steps)
            uniform = self._streams.draw(count, 4, schedule.walkers, self._worlds.count)
            times = np.arange(self._done_steps, self._done_steps + count)
            explore = uniform[:, 0] < schedule.epsilon(times)[:, None]
            random_action = (uniform[:, 1] * rows.num_actions).astype(np.int64)
            for time in range(count):
                self._step(explore[time], random_action[time], uniform[time, 2:])
            self._done_steps += count

    def _step(self, explore: BoolArray, random_action: IntArray, uniform: FloatArray) -> None:
        rows = self._rows
        cell = rows.first_cell + self._state
        action = self._learner.act(cell, uniform[0])
        np.copyto(action, random_action, where=explore)
        slot, next_state, reward, terminated = self._worlds.step(
            rows.first_place + self._state, action, uniform[1]
        )
        next_cell = rows.first_cell + next_state
        self._learner.update(Transitions(cell, action, slot, reward, next_cell, terminated))
        self._elapsed += 1
        ended = terminated | (self._elapsed == rows.max_episode_steps)
        self.episodes += ended
        self._elapsed[ended] = 0
        np.copyto(next_state, rows.start, where=ended)
        self._state = next_state


class _Rows:
    """What stays the same about every row of a step, each attribute `(rows,)`."""

    def __init__(self, worlds: Worlds, seeds: int, walkers: int) -> None:
        world = np.repeat(np.arange(worlds.count), seeds * walkers)
        table = np.repeat(np.arange(worlds.count * seeds), walkers)
        self.first_place = world * worlds.num_states
        self.first_cell = table * worlds.num_states
        self.start = worlds.start[world]
        self.max_episode_steps = worlds.max_episode_steps[world]
        self.num_actions = worlds.num_actions[world]


def evaluate(learner: Learner, worlds: Worlds, streams: Streams, trials: int) -> FloatArray:
    """Return the mean undiscounted return `(W, K)` of `trials` greedy episodes, no learning."""
    rows = _Rows(worlds, streams.seeds, trials)
    horizon = int(worlds.max_episode_steps.max())
    # All draws are made before the first step: how soon others finish must not matter to a seed.
    uniform = streams.draw(horizon, 2, trials, worlds.count)
    state, running = rows.start, np.ones(len(rows.start), dtype=np.bool_)
    returns = np.zeros(len(state))
    for time in range(horizon):
        running = running & (time < rows.max_episode_steps)
        if not running.any():
            break
        action = learner.act(rows.first_cell + state, uniform[time, 0])
        _, state, reward, terminated = worlds.step(
            rows.first_place + state, action, uniform[time, 1]
        )
        returns += running * reward
        running &= ~terminated
    means: FloatArray = returns.reshape(worlds.count, streams.seeds, trials).mean(axis=2)
    return means
