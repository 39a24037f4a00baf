"""The inverse dynamics models of several seeds, and the online steps that they learn from.

The rounds are those of Section 5.3; what acts in them is given: in `fitting.py` τ proposes, in
`training/bco.py` a cloned policy acts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qss_offline.algorithms.bilinear_inverse import MOST_INPUTS, bilinear_shape, solve_bilinear
from qss_offline.algorithms.inverse_dynamics import (
    ActionBatch,
    InverseDynamics,
    inverse_action,
)
from qss_offline.algorithms.kernel_correction import (
    KernelCorrection,
    solve_correction,
    taken_steps,
)
from qss_offline.algorithms.networks import Network
from qss_offline.algorithms.semi_supervised_inverse import (
    CODE_NOISE,
    SemiSupervisedBatch,
    SemiSupervisedInverseDynamics,
)
from qss_offline.data.transitions import Transitions
from qss_offline.engine.checkpoint import Checkpoint, seed_checkpoint, stack_checkpoints
from qss_offline.engine.device import send
from qss_offline.engine.loop import best_mode, fit
from qss_offline.engine.sampler import Columns, JointSampler, Sampler, UniformSampler, tuple_of
from qss_offline.engine.state import TrainState, initial_state
from qss_offline.engine.streams import stream
from qss_offline.errors import UserError
from qss_offline.evaluation.actions import ActionBox, Actions, OneHotActions
from qss_offline.evaluation.policies import DiscretePolicy, ObservationScale, Policy
from qss_offline.parallel.processes import Tick
from qss_offline.parallel.reporting import no_tick
from qss_offline.runs.inverse_config import InverseFitConfig
from qss_offline.runs.race import Race
from qss_offline.runs.work import STEP, inverse_update
from qss_offline.training.interaction import ActionSteps, take_steps
from qss_offline.training.recorded import RecordedColumns, batch_transform, recorded_through

_FITTED_SHARE = 0.9
"""Of known steps, before the rest decides between two forms of the IDM."""
_ROWS = 1 << 15
"""Of more at once the memory would hold what a model makes of each."""


class InverseModels:
    """The inverse dynamics models of S seeds, each fitted on its own online steps.

    Where steps are known from elsewhere, every model learns from them before its first round, and
    goes on learning from them beside its own.

    Args:
        seeds: the S seeds.
        scales: what each seed's observations go through.
        make_env: makes the environment; None where there is none, and no steps are taken.
        config: the budget.
        known: steps of the same environment whose actions are known.
        recordings: what each seed learned from, for models that learn from it, too
            (`recorded_coef`); actions, where it has any, are not looked at.
        device: where models are trained; policies act on a CPU.

    Raises:
        UserError: the form of the IDM doesn't suit the environment, or it needs recordings.

    Attributes:
        race: how the policy was chosen, where several act.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        scales: Sequence[ObservationScale],
        make_env: Callable[[], gym.Env[Any, Any]] | None,
        config: InverseFitConfig,
        known: ActionSteps | None = None,
        recordings: Sequence[Transitions] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.seeds, self.scales, self.device = tuple(seeds), scales, torch.device(device)
        self.race: Race | None = None
        self.make_env, self.config = make_env, config
        self.actions = _actions(make_env, known, config.exploration_noise)
        obs_dim, action_dim = len(scales[0].mean), self.actions.dim
        self._model = config.model
        if isinstance(self.actions, OneHotActions):
            # The other forms are of forces, which such actions aren't (`inverse_dynamics.py`).
            self._model = replace(self._model, form="network", recorded_coef=0.0)
        self._form = self._model.form
        if self._form != "network" and bilinear_shape(obs_dim, action_dim).dims[0] > MOST_INPUTS:
            if self._form == "bilinear":
                raise UserError(
                    f"the bilinear form of the IDM has too many inputs with {obs_dim} numbers in "
                    "an observation; choose form=network"
                )
            self._form = "network"
        self._recorded: Sequence[RecordedColumns] = ()
        if recordings is not None:
            if len(recordings) != len(seeds) or any(r.obs_dim != obs_dim for r in recordings):
                raise UserError(
                    f"each seed needs a recording with {obs_dim} numbers in an observation"
                )
            self._recorded = recorded_through(recordings, scales, self.device)
        self._algorithm = self._make_algorithm(obs_dim, action_dim)
        self.state: TrainState = initial_state(self._algorithm, self.seeds, self.device)
        self._on_cpu = self.state.on_cpu()
        self.steps: list[ActionSteps | None] = [None] * len(self.seeds)
        self._known = self._fitted_known = known
        self._held_out: ActionSteps | None = None
        if known is not None and known.obs.shape[1] != obs_dim:
            raise UserError(
                f"steps whose actions are known hold {known.obs.shape[1]} numbers in an "
                f"observation, the recording {obs_dim}"
            )
        if known is not None and not config.steps_per_round:
            # No new steps will tell which form of the IDM errs less.
            self._fitted_known, self._held_out = known.split(_FITTED_SHARE)
        self._solved: list[Network | None] = [None] * len(self.seeds)
        # Squared errors on steps not fitted on yet: of the bilinear form, of the network.
        self._unseen_errors = torch.zeros(len(self.seeds), 2, dtype=torch.float64)

    @property
    def action_box(self) -> ActionBox:
        """The bounds of the actions.

        Raises:
            UserError: they are discrete.
        """
        if not isinstance(self.actions, ActionBox):
            raise UserError("continuous actions are needed; these are discrete: take method d3g")
        return self.actions

    def seen_through(self, scales: Sequence[ObservationScale]) -> Sequence[RecordedColumns]:
        """Return the recordings' columns in scales of their own; the same where these are."""
        pairs = zip(scales, self.scales, strict=True)
        if all(a.mean.equal(b.mean) and a.std.equal(b.std) for a, b in pairs):
            return self._recorded
        recordings = [one.recording for one in self._recorded]
        return recorded_through(recordings, scales, self.device)

    def _make_algorithm(self, obs_dim: int, action_dim: int) -> InverseDynamics:
        model, spread = self._model, self._step_scale()
        if model.recorded_coef is None:
            raise UserError("recorded_coef must be a number here: no recording decides it")
        if not model.recorded_coef:
            discrete = isinstance(self.actions, OneHotActions)
            return InverseDynamics(model, obs_dim, action_dim, spread, discrete)
        if not self._recorded:
            raise UserError("recorded_coef needs the recording: set it to 0 where there is none")
        assert spread is not None, "recorded_coef is refused without step_inputs"
        return SemiSupervisedInverseDynamics(model, obs_dim, action_dim, spread)

    def _step_scale(self) -> Tensor | None:
        if not self.config.model.step_inputs:
            return None
        return ObservationScale.of_stack(self.scales).on(self.device).step_std

    @property
    def rounds_done(self) -> int:
        """Rounds that have been fitted."""
        of_rounds = self.state.update - self._updates_before
        return max(0, of_rounds) // self.config.updates_per_round

    def _work(self, steps: float) -> float:
        """Work of one seed's updates so far and of so many steps, as `InverseFitConfig.work`."""
        return self.state.update * inverse_update(self.config.model) + steps * STEP

    @property
    def _updates_before(self) -> int:
        return 0 if self._known is None else self.config.known_updates

    def fit_round(
        self,
        policy: Callable[[int], Callable[[NDArray[Any]], NDArray[np.float32]] | None],
        tick: Tick = no_tick,
    ) -> None:
        """Take one round of steps with every seed, and train every IDM on its steps so far.

        Args:
            policy: gives the policy of the seed at an index, which maps `(obs_dim,)` to
                `(action_dim,)`, or None where it has none yet and acts at random. It is asked once
                the IDM is fitted: in all rounds but the first, with known steps in all.
            tick: called with the work of one seed so far, as `InverseFitConfig.work` counts it.
        """
        done = self.rounds_done
        steps = self.config.steps_per_round
        if self._known is not None and self.state.update < self._updates_before:
            self._learn(self._updates_before, lambda: tick(self._work(0), "known actions"))
        fitted = self.state.update > 0
        if not steps:
            self._take_no_steps()
        for index, seed in enumerate(self.seeds if steps else ()):
            assert self.make_env is not None
            tick(self._work(steps * (done + index / len(self.seeds))), "inverse")
            known: tuple[int, ...] = ()
            if self._known is not None and self._known.taken_online:
                # An earlier run of this seed may have drawn from the stream without this.
                known = (self._known.digest,)
            rng = np.random.default_rng(stream(seed, "online", done, *known))
            env = self.make_env()
            try:
                taken = self._act(env, policy(index) if fitted else None, rng)
            finally:
                env.close()
            earlier = self.steps[index]
            self.steps[index] = taken if earlier is None else earlier.extend(taken)
            if fitted and self._form == "either":
                self._unseen_errors[index] += self._errors(index, taken)
        self._learn(
            self._updates_before + (done + 1) * self.config.updates_per_round,
            lambda: tick(self._work(steps * (done + 1)), "inverse"),
        )

    def _act(
        self,
        env: gym.Env[Any, Any],
        policy: Callable[[NDArray[Any]], NDArray[Any]] | None,
        rng: np.random.Generator,
    ) -> ActionSteps:
        """Take one round's steps of a seed."""
        config = self.config
        return take_steps(
            env, config.steps_per_round, self.actions, policy, config.exploration_noise, rng
        )

    def _take_no_steps(self) -> None:
        """Judge the forms of the IDM by the known steps held out, then learn from all of them."""
        for index in range(len(self.seeds)):
            self.steps[index] = ActionSteps.none(len(self.scales[0].mean), self.actions.dim)
            if self._held_out is not None and self._form == "either":
                self._unseen_errors[index] += self._errors(index, self._held_out)
        self._fitted_known = self._known

    def _learn(self, updates: int, tell: Callable[[], None]) -> None:
        """Train every IDM on the steps so far, until it has had so many updates."""
        if self._form != "network":
            self._solve()
        if self._form == "bilinear":
            self.state.update = updates
            self._on_cpu = self.state.on_cpu()
            tell()
            return
        fit(
            self._algorithm,
            self.state,
            self._sampler(),
            updates,
            self.config.model.learning_rate,
            lambda *_: tell(),
            mode=best_mode(self.device),
        )
        self._on_cpu = self.state.on_cpu()

    def _sampler(self) -> Sampler:
        """Batches of steps with known actions, and of recorded ones where the IDM takes them."""
        batch_size = self.config.model.batch_size
        with_actions = [
            tuple(send(c, self.device) for c in self._columns(self._learned_from(index), index))
            for index in range(len(self.seeds))
        ]
        if not self._model.recorded_coef:
            return UniformSampler(with_actions, batch_size, ActionBatch)
        names = "observations", "next_observations"
        longest = max(map(len, self._recorded))
        zeros = torch.zeros(1, 1, device=self.device).expand(longest, self.actions.dim)
        recorded = UniformSampler(
            [(*map(one.column, names), zeros) for one in self._recorded],
            batch_size,
            tuple_of,
            batch_transform(self._recorded, (*names, None)),
            (None, None, torch.full((self.actions.dim,), CODE_NOISE, device=self.device)),
        )
        online = UniformSampler(with_actions, batch_size, tuple_of)
        return JointSampler((online, recorded), SemiSupervisedBatch)

    def _solve(self) -> None:
        """Fit the bilinear form of each seed's IDM on all that it learns from."""
        for index, scale in enumerate(self.scales):
            assert scale.step_std is not None
            obs, next_obs, actions = self._columns(self._learned_from(index), index)
            solved = solve_bilinear(obs, (next_obs - obs) / scale.step_std, actions)
            self._solved[index] = solved
            if self._form == "bilinear":
                for name in ("inverse_dynamics", "inverse_average"):
                    self.state.networks[name].flat[index] = solved.flat[0]

    def _learned_from(self, index: int) -> ActionSteps:
        """Known steps and those that the seed at `index` has taken."""
        taken = self.steps[index]
        if self._known is None:
            assert taken is not None
            return taken
        assert self._fitted_known is not None
        return self._fitted_known if taken is None else self._fitted_known.extend(taken)

    @torch.no_grad()
    def _errors(self, index: int, taken: ActionSteps) -> Tensor:
        """Squared errors of the bilinear form and of the network, over steps. `(2,)`."""
        solved, spread = self._solved[index], self.scales[index].step_std
        assert solved is not None
        assert spread is not None
        models, errors = (solved, self._network(index)), torch.zeros(2, dtype=torch.float64)
        for start in range(0, len(taken), _ROWS):
            some = taken.at(slice(start, start + _ROWS))
            obs, next_obs, actions = (c.unsqueeze(0) for c in self._columns(some, index))
            for form, model in enumerate(models):
                missed = inverse_action(model, obs, next_obs, spread) - actions
                errors[form] += missed.double().square().sum()
        return errors

    def _columns(self, steps: ActionSteps, index: int) -> Columns:
        scale = self.scales[index]
        return (
            scale.apply(torch.from_numpy(steps.obs)),
            scale.apply(torch.from_numpy(steps.next_obs)),
            torch.from_numpy(steps.actions),
        )

    def heading_for(self, proposal: Network, index: int) -> Policy:
        """Return π(s) = I(s, s + τ(s)) of a seed's IDM as it is now, on a copy of it (Eq. 9).

        Args:
            proposal: τ, `(1, P)`.
            index: of the seed.
        """
        parts = proposal, self.average(index), self.scales[index], self.config.model.step_inputs
        if isinstance(self.actions, OneHotActions):
            return DiscretePolicy(*parts, self.actions.start)
        return Policy(*parts, self.actions)

    @torch.no_grad()
    def labels(self, index: int, tell: Callable[[], None] = lambda: None) -> Tensor:
        """Return I(s, s') for every recorded transition, `(N, action_dim)`, in box units.

        Args:
            index: of the seed.
            tell: called now and then; recordings may be long.
        """
        recorded, scale = self._recorded[index], self.scales[index].on(self.device)
        step_scale = scale.step_std if self.config.model.step_inputs else None
        model = self.average(index)
        model = Network(model.shape, send(model.flat, self.device))
        corrected = self._model.corrected_labels and not self._model.recorded_coef
        correction = self._correction(index, model) if corrected else None
        labels = torch.empty(len(recorded), len(self.action_box.low), device=self.device)
        for start in range(0, len(recorded), _ROWS):
            tell()
            rows = slice(start, start + _ROWS)
            obs, next_obs = (
                recorded.rows(name, rows).unsqueeze(0)
                for name in ("observations", "next_observations")
            )
            labels[rows] = inverse_action(model, obs, next_obs, step_scale).squeeze(0)
            if correction is not None:
                assert step_scale is not None, "corrected_labels is refused without step_inputs"
                step = (next_obs - obs) / step_scale
                labels[rows] += correction(obs.squeeze(0), step.squeeze(0))
                labels[rows].clamp_(-1, 1)
        return labels

    def _correction(self, index: int, model: Network) -> KernelCorrection:
        """Return what a model misses of the steps that the seed at `index` learns from."""
        steps = self._learned_from(index)
        columns = self._columns(steps.at(taken_steps(len(steps)).numpy()), index)
        obs, next_obs, actions = (send(column, self.device) for column in columns)
        spread = self.scales[index].on(self.device).step_std
        assert spread is not None
        inferred = inverse_action(model, obs.unsqueeze(0), next_obs.unsqueeze(0), spread)
        return solve_correction(obs, (next_obs - obs) / spread, actions - inferred.squeeze(0))

    def checkpoint(self, index: int, metadata: Mapping[str, Any]) -> Checkpoint:
        """Take the seed at `index` out: its models, moments, random streams and steps."""
        steps, checkpoint = self.steps[index], seed_checkpoint(self._on_cpu, index)
        assert steps is not None
        errors = {"unseen_errors": self._unseen_errors[index].clone()}
        tensors = {**checkpoint.tensors, **steps.named_tensors(), **errors}
        return Checkpoint(tensors, {**checkpoint.metadata, **metadata})

    def restore(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Continue from checkpoints of all seeds, taken after the same round."""
        self.state = stack_checkpoints(self._algorithm, checkpoints, self.device)
        self._on_cpu = self.state.on_cpu()
        self.steps = [ActionSteps.from_named(one.tensors) for one in checkpoints]
        self._fitted_known = self._known
        if self._form == "either":
            stored = [checkpoint.tensors["unseen_errors"] for checkpoint in checkpoints]
            self._unseen_errors = torch.stack(stored)
        if self._form != "network" and self.rounds_done:
            self._solve()

    def average(self, index: int) -> Network:
        """Return the model that the seed at `index` acts on, `(1, P)`, as it is now."""
        bilinear, network = self._unseen_errors[index]
        solved = self._solved[index]
        if self._form == "either" and solved is not None and not network < bilinear:
            return solved
        return self._network(index)

    def _network(self, index: int) -> Network:
        """Copy the averaged network of the seed at `index`, `(1, P)`."""
        average = self._on_cpu.networks["inverse_average"]
        return Network(average.shape, average.flat[index : index + 1].clone())


def _actions(
    make_env: Callable[[], gym.Env[Any, Any]] | None, known: ActionSteps | None, epsilon: float
) -> Actions:
    """Return the environment's actions, or without one those of known steps."""
    if make_env is None:
        assert known is not None, "without an environment actions are known from elsewhere"
        assert known.units is not None
        return known.units
    env = make_env()
    try:
        if isinstance(env.action_space, gym.spaces.Discrete):
            return OneHotActions.of(env.action_space, epsilon)
        return ActionBox.of(env.action_space)
    finally:
        env.close()
