"""The five experiments of sections 2 and 3 and of the authors' appendix.

Deviations from the authors' toy problems, beside those of `learners` and `lockstep`:
- A run has a number of environment steps, not 50,000 episodes, so that a figure takes a laptop at
  most two minutes. What isn't named here is theirs: γ, the initial value, ε from 1 to 0.1 over
  100,000 steps, the time limit, the number of seeds.
- α is 0.1 for the equivalence and 0.5 for redundant and permuted actions, theirs is 0.01. These
  worlds are deterministic, so targets don't fluctuate and a larger α only shortens the time axis.
- Under slip and on the cliff α is 0.05 and sixteen walkers teach each table. With a single one,
  values close to 100% slip would take tens of millions of steps to settle. On the cliff, QSS that
  hasn't settled holds several routes for equally good, and which of them it walks is an accident.
- Actions come in 1, 2, 5 and 10 copies; the authors plot 1, 10 and 100.
- The number of seeds of Figure 2 isn't given in the paper; here it is 10.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from qss_offline.errors import UserError
from qss_offline.parallel.progress import Reporter, silent
from qss_offline.tabular.gridworld import cliffworld, gridworld
from qss_offline.tabular.inverse import InverseDynamics
from qss_offline.tabular.learners import QSA, QSS, Settings
from qss_offline.tabular.lockstep import Curves, Learner, Schedule, learn
from qss_offline.tabular.mdp import FloatArray, TabularMDP
from qss_offline.tabular.results import (
    CliffResult,
    EquivalenceResult,
    PermutedResult,
    RedundantResult,
    Result,
    StochasticResult,
)
from qss_offline.tabular.value_iteration import expected_return, solve_qsa, solve_qss
from qss_offline.tabular.worlds import Worlds

COPIES = (1, 2, 5, 10)
"""How many actions each direction has, in the redundant experiment."""

SLIPS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
"""The chances of slipping at which the stochastic experiment learns."""

EXACT_SLIPS = tuple(percent / 100 for percent in range(0, 101, 5))
"""Those at which value iteration solves it as well."""

PERMUTATION = (3, 2, 1, 0)
"""What the actions 0, 1, 2 and 3 mean after the transfer, as in the authors' code."""


@dataclass(frozen=True)
class Plan:
    """How an experiment is run.

    Attributes:
        schedule: seeds, steps and exploration of each run in it.
        settings: γ, α and the initial value.
        size: rows and columns of the grid.
        pretraining_steps: how long to learn before a transfer, where there is one.
    """

    schedule: Schedule
    settings: Settings
    size: int = 11
    pretraining_steps: int = 0

    @property
    def num_seeds(self) -> int:
        """K."""
        return len(self.schedule.seeds)

    def spend(
        self, seeds: int | None, steps: int | None, alpha: float | None, walkers: int | None
    ) -> Plan:
        """Return the plan with other budgets; None keeps the plan's.

        Args:
            seeds: how many.
            steps: environment steps of each run.
            alpha: step size α.
            walkers: of each table.

        Raises:
            UserError: one of them is out of range.
        """
        schedule, settings = self.schedule, self.settings
        if seeds is not None:
            if seeds < 2:
                raise UserError(f"--seeds must be at least 2 for an interval, not {seeds}")
            schedule = replace(schedule, seeds=tuple(range(seeds)))
        if steps is not None:
            if steps < 1:
                raise UserError(f"--steps must be at least 1, not {steps}")
            schedule = replace(schedule, steps=steps)
        if walkers is not None:
            if walkers < 1:
                raise UserError(f"--walkers must be at least 1, not {walkers}")
            schedule = replace(schedule, walkers=walkers)
        if alpha is not None:
            if not 0.0 < alpha <= 1.0:
                raise UserError(f"--alpha must be above 0 and at most 1, not {alpha}")
            settings = replace(settings, alpha=alpha)
        return replace(self, schedule=schedule, settings=settings)

    def qsa(self, worlds: Worlds) -> QSA:
        """Return a QSA learner that knows nothing yet."""
        return QSA(worlds, self.num_seeds, self.settings)

    def qss(self, worlds: Worlds) -> QSS:
        """Return a QSS learner that knows nothing yet but the inverse dynamics."""
        inverse_dynamics = InverseDynamics.given(worlds, self.num_seeds)
        return QSS(worlds, self.num_seeds, self.settings, inverse_dynamics)

    def qss_learning_inverse(self, worlds: Worlds) -> QSS:
        """Return a QSS learner that knows nothing yet and learns the inverse dynamics."""
        inverse_dynamics = InverseDynamics.learned(worlds, self.num_seeds)
        return QSS(worlds, self.num_seeds, self.settings, inverse_dynamics)


class _Runs:
    """Runs learners one after the other and counts their steps as one piece of work."""

    def __init__(self, report: Reporter) -> None:
        self._report = report
        self._steps_before = 0

    def __call__(self, learner: Learner, worlds: Worlds, schedule: Schedule, name: str) -> Curves:
        before = self._steps_before

        def report(completed: int, note: str = "") -> None:
            self._report(before + completed, note or name)

        self._steps_before += schedule.steps
        return learn(learner, worlds, schedule, report)


def equivalence(plan: Plan, report: Reporter = silent) -> EquivalenceResult:
    """Learn Q(s, a) and Q(s, s') in the deterministic grid, and solve for both."""
    mdp = gridworld(plan.size)
    worlds, run = Worlds([mdp]), _Runs(report)
    qsa = run(plan.qsa(worlds), worlds, plan.schedule, "QSA")
    qss = run(plan.qss(worlds), worlds, plan.schedule, "QSS")
    return EquivalenceResult(
        seeds=plan.schedule.seeds,
        steps=qsa.steps,
        qsa_values=qsa.values[:, 0],
        qss_values=qss.values[:, 0],
        exact_qsa_values=solve_qsa(mdp, plan.settings.gamma).values,
        exact_qss_values=solve_qss(mdp, plan.settings.gamma).values,
        terminal=mdp.terminal,
    )


def stochastic(plan: Plan, report: Reporter = silent) -> StochasticResult:
    """Learn Q(s, a) and Q(s, s') at several slips, given the IDM; solve for both."""
    worlds, run = Worlds([gridworld(plan.size, slip) for slip in SLIPS]), _Runs(report)
    qsa = run(plan.qsa(worlds), worlds, plan.schedule, "QSA")
    qss = run(plan.qss(worlds), worlds, plan.schedule, "QSS")
    exact = [
        solve_qss(mdp, plan.settings.gamma).values - solve_qsa(mdp, plan.settings.gamma).values
        for mdp in (gridworld(plan.size, slip) for slip in EXACT_SLIPS)
    ]
    return StochasticResult(
        seeds=plan.schedule.seeds,
        slips=np.array(SLIPS),
        qsa_values=qsa.values[-1],
        qss_values=qss.values[-1],
        qsa_returns=qsa.returns[-1],
        qss_returns=qss.returns[-1],
        exact_slips=np.array(EXACT_SLIPS),
        exact_distances=np.linalg.norm(exact, axis=1),
    )


def redundant(plan: Plan, report: Reporter = silent) -> RedundantResult:
    """Learn where directions have several actions: QSA, QSS given the IDM, QSS that learns it."""
    worlds = Worlds([gridworld(plan.size, copies=copies) for copies in COPIES])
    run = _Runs(report)
    learners: dict[str, Learner] = {
        "QSA": plan.qsa(worlds),
        "QSS": plan.qss(worlds),
        "QSS with learned I": plan.qss_learning_inverse(worlds),
    }
    return RedundantResult(
        seeds=plan.schedule.seeds,
        copies=np.array(COPIES),
        curves={
            name: run(learner, worlds, plan.schedule, name) for name, learner in learners.items()
        },
    )


def permuted(plan: Plan, report: Reporter = silent) -> PermutedResult:
    """Learn, permute the actions, and learn on; beside that, learn the permuted from scratch.

    What the transfer takes along is the table. QSS learns the IDM in both worlds, anew in the
    second.
    """
    before = Worlds([gridworld(plan.size)])
    after = Worlds([gridworld(plan.size, permutation=PERMUTATION)])
    run = _Runs(report)
    pretraining = replace(
        plan.schedule, steps=plan.pretraining_steps, evaluate_every=plan.pretraining_steps
    )
    transfer = replace(plan.schedule, phase=1)
    qsa, qss = plan.qsa(before), plan.qss_learning_inverse(before)
    run(qsa, before, pretraining, "QSA before the transfer")
    run(qss, before, pretraining, "QSS before the transfer")
    qss.inverse_dynamics = InverseDynamics.learned(after, plan.num_seeds)
    learners: dict[str, Learner] = {
        "QSA transfer": qsa,
        "QSS transfer": qss,
        "QSA from scratch": plan.qsa(after),
        "QSS from scratch": plan.qss_learning_inverse(after),
    }
    return PermutedResult(
        seeds=plan.schedule.seeds,
        curves={name: run(learner, after, transfer, name) for name, learner in learners.items()},
    )


def cliff(plan: Plan, report: Reporter = silent) -> CliffResult:
    """Learn beside an abyss into which the wind blows; the IDM is given."""
    mdp = cliffworld(plan.size)
    worlds, run = Worlds([mdp]), _Runs(report)
    qsa, qss = plan.qsa(worlds), plan.qss(worlds)
    curves = {
        "QSA": run(qsa, worlds, plan.schedule, "QSA"),
        "QSS": run(qss, worlds, plan.schedule, "QSS"),
    }
    policies = {
        "QSA": np.eye(mdp.num_actions)[qsa.table.argmax(axis=2)],
        "QSS": _spread(mdp, qss.table),
    }
    gamma, start = plan.settings.gamma, mdp.start
    return CliffResult(
        seeds=plan.schedule.seeds,
        size=plan.size,
        curves=curves,
        final_returns={
            name: np.array([expected_return(mdp, policy) for policy in of_seeds])
            for name, of_seeds in policies.items()
        },
        believed_values={name: curve.values[-1, 0, :, start] for name, curve in curves.items()},
        exact_values={
            "QSA": float(solve_qsa(mdp, gamma).values[start]),
            "QSS": float(solve_qss(mdp, gamma).values[start]),
        },
        routes={
            name: tuple(_route(mdp, policy) for policy in of_seeds)
            for name, of_seeds in policies.items()
        },
    )


def _spread(mdp: TabularMDP, table: FloatArray) -> FloatArray:
    """Return I(s, τ(s)) for tables `(K, S, N)` as chances `(K, S, A)`."""
    actions = mdp.inverse_dynamics()[np.arange(mdp.num_states), table.argmax(axis=2)]
    chances: FloatArray = actions / actions.sum(axis=2, keepdims=True)
    return chances


def _route(mdp: TabularMDP, policy: FloatArray) -> tuple[int, ...]:
    """Return the states that `policy` `(S, A)` passes through if every step goes as it is meant."""
    meant_slot = mdp.inverse_dynamics().argmax(axis=1)
    route = [mdp.start]
    while not mdp.terminal[route[-1]]:
        state = route[-1]
        following = int(mdp.neighbours[state, meant_slot[state, policy[state].argmax()]])
        if following in route:
            break
        route.append(following)
    return tuple(route)


@dataclass(frozen=True)
class Experiment:
    """An experiment and the size at which it answers the paper's figure.

    Attributes:
        run: does it.
        plan: how.
        runs: how many times it goes through the plan's schedule.
        pretrained: how many of these have a pretraining.
        title: what it shows.
    """

    run: Callable[[Plan, Reporter], Result]
    plan: Plan
    runs: int
    title: str
    pretrained: int = 0

    def total_steps(self, plan: Plan) -> int:
        """Return the environment steps that running `plan` takes, one seed's."""
        return self.runs * plan.schedule.steps + self.pretrained * plan.pretraining_steps


def _seeds(count: int) -> tuple[int, ...]:
    return tuple(range(count))


EXPERIMENTS: Mapping[str, Experiment] = MappingProxyType(
    {
        "equivalence": Experiment(
            equivalence,
            Plan(Schedule(_seeds(10), 300_000, 10_000), Settings(alpha=0.1)),
            runs=2,
            title="Q(s, a) and Q(s, s') learn the same values (Figure 2)",
        ),
        "stochastic": Experiment(
            stochastic,
            Plan(
                Schedule(_seeds(10), 200_000, 100_000, trials=10, walkers=16),
                Settings(alpha=0.05),
            ),
            runs=2,
            title="under slip Q(s, s') takes the best case for granted (Figure 3)",
        ),
        "redundant": Experiment(
            redundant,
            Plan(Schedule(_seeds(50), 250_000, 5_000), Settings(alpha=0.5)),
            runs=3,
            title="copies of actions slow Q(s, a) down, not Q(s, s') (Figure 4 a-c)",
        ),
        "permuted": Experiment(
            permuted,
            Plan(
                Schedule(_seeds(50), 40_000, 1_000),
                Settings(alpha=0.5),
                pretraining_steps=100_000,
            ),
            runs=4,
            title="Q(s, s') carries over to permuted actions (Figure 4 d)",
            pretrained=2,
        ),
        "cliff": Experiment(
            cliff,
            Plan(
                Schedule(_seeds(10), 200_000, 5_000, trials=10, walkers=16),
                Settings(alpha=0.05),
            ),
            runs=2,
            title="beside a windy cliff the best case is the wrong case (appendix)",
        ),
    }
)
"""The experiments by name, with the paper's numbers of seeds."""
