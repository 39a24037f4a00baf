"""The five experiments of sections 2 and 3 and of the appendix, as arrays of raw results.

Deviations from the authors' toy problems, beside those of `learners` and `lockstep`:
- Runs are counted in environment steps, not in 50,000 episodes, and are as long as a laptop walks
  in two minutes. Exploration (ε from 1 to 0.1 over 100,000 steps), γ, the initial values, the
  time limit of 500 steps and the cliff's α are the authors'.
- α is 0.1 for the equivalence and 0.5 for redundant and permuted actions, not 0.01. These worlds
  are deterministic: what is learned towards doesn't fluctuate, so a larger α only shortens the
  time axis.
- Under slip α is 0.05 and sixteen walkers teach each table: with one, the values near 100% slip
  would need tens of millions of steps.
- Actions come in 1, 2, 5 and 10 copies; the authors' code plots 1, 10 and 100.
- Evaluations come every few thousand steps, not before every episode.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from qss_offline.progress import Reporter, silent
from qss_offline.tabular.gridworld import cliffworld, gridworld
from qss_offline.tabular.inverse import InverseDynamics
from qss_offline.tabular.learners import QSA, QSS, Settings
from qss_offline.tabular.lockstep import Curves, Learner, Schedule, learn
from qss_offline.tabular.mdp import BoolArray, FloatArray, IntArray, TabularMDP
from qss_offline.tabular.value_iteration import expected_return, solve_qsa, solve_qss
from qss_offline.tabular.worlds import Worlds

COPIES = (1, 2, 5, 10)
"""How many actions each direction has in the redundant experiment."""

SLIPS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
"""The probabilities of slipping at which the stochastic experiment learns."""

EXACT_SLIPS = tuple(np.linspace(0.0, 1.0, 41).tolist())
"""Those at which it is also solved by value iteration, for a smooth line."""

PERMUTATION = (3, 2, 1, 0)
"""What the actions 0, 1, 2 and 3 mean after the transfer, as in the authors' code."""


@dataclass(frozen=True)
class Plan:
    """How an experiment is run.

    Attributes:
        schedule: seeds, steps and exploration of every run in it.
        settings: γ, α and the initial value.
        size: rows and columns of the grid.
        pretraining_steps: how long to learn before the transfer (`permuted` only).
    """

    schedule: Schedule
    settings: Settings
    size: int = 11
    pretraining_steps: int = 0


@dataclass(frozen=True)
class EquivalenceResult:
    """Figure 2: learned values of K seeds in P evaluations, and the exact ones.

    Attributes:
        steps: `(P,)`.
        qsa_values: `(P, K, S)`, max_a Q(s, a).
        qss_values: `(P, K, S)`, max_s' Q(s, s').
        exact_qsa_values: `(S,)`, by value iteration.
        exact_qss_values: `(S,)`, by value iteration.
        terminal: `(S,)`; values of terminal states are 0.
    """

    steps: IntArray
    qsa_values: FloatArray
    qss_values: FloatArray
    exact_qsa_values: FloatArray
    exact_qss_values: FloatArray
    terminal: BoolArray

    @property
    def fractional_difference(self) -> FloatArray:
        """Return |max Q(s, s') − max Q(s, a)| / |max Q(s, a)| `(P, K, S)`; 0 in the goal."""
        scale = np.where(self.terminal, 1.0, np.abs(self.qsa_values))
        return np.abs(self.qss_values - self.qsa_values) / scale

    @property
    def theorem_gap(self) -> float:
        """Return the largest difference between the two exact values: Theorem 2.2.1 says none."""
        return float(np.abs(self.exact_qss_values - self.exact_qsa_values).max())


@dataclass(frozen=True)
class StochasticResult:
    """Figure 3: learned values of K seeds at each of W slips, and exact ones at E slips.

    Attributes:
        slips: `(W,)`.
        qsa_values: `(W, K, S)`.
        qss_values: `(W, K, S)`.
        qsa_returns: `(W, K)`, mean return of ten greedy episodes at the end.
        qss_returns: `(W, K)`.
        exact_slips: `(E,)`.
        exact_distances: `(E,)`, between the two exact values.
    """

    slips: FloatArray
    qsa_values: FloatArray
    qss_values: FloatArray
    qsa_returns: FloatArray
    qss_returns: FloatArray
    exact_slips: FloatArray
    exact_distances: FloatArray

    @property
    def distances(self) -> FloatArray:
        """Return the Euclidean distance over all states `(W, K)` between the learned values."""
        return np.asarray(np.linalg.norm(self.qss_values - self.qsa_values, axis=2))


@dataclass(frozen=True)
class RedundantResult:
    """Figure 4 a to c: for each learner, curves whose W worlds have more and more copies.

    Attributes:
        copies: `(W,)`.
        curves: by learner: QSA, QSS, QSS with learned I.
    """

    copies: IntArray
    curves: Mapping[str, Curves]


@dataclass(frozen=True)
class PermutedResult:
    """Figure 4 d: curves in the one permuted world (W = 1), by learner and beginning."""

    curves: Mapping[str, Curves]


@dataclass(frozen=True)
class CliffResult:
    """The windy cliff: curves (W = 1), and what the learners believe at the end.

    Attributes:
        size: columns of the world, whose last row is the abyss.
        curves: by learner: QSA, QSS.
        final_returns: by learner, `(K,)`: exact expected return of the last greedy policy.
        believed_values: by learner, `(K,)`: the learned value of the start.
        promised_values: by learner: the exact value of the start, by value iteration.
        routes: by learner and seed, the states that the greedy policy means to pass.
    """

    size: int
    curves: Mapping[str, Curves]
    final_returns: Mapping[str, FloatArray]
    believed_values: Mapping[str, FloatArray]
    promised_values: Mapping[str, float]
    routes: Mapping[str, tuple[tuple[int, ...], ...]]


class _Stages:
    """Runs that follow each other report as one."""

    def __init__(self, report: Reporter) -> None:
        self._report = report
        self._before = 0

    def learn(
        self, learner: QSA | QSS, worlds: Worlds, schedule: Schedule, note: str
    ) -> tuple[Curves, FloatArray]:
        """Return the curves and, for every evaluation, the values `(P, W, K, S)`."""
        values: list[FloatArray] = []

        def heard(completed: int, unused: str = "") -> None:
            self._report(self._before + completed, note)

        shape = (worlds.count, len(schedule.seeds), worlds.num_states)
        curves = learn(
            learner,
            worlds,
            schedule,
            heard,
            watch=lambda: values.append(learner.values().reshape(shape)),
        )
        self._before += schedule.steps
        return curves, np.stack(values)
