"""A few online steps that fit I(s, s') and turn a proposal τ into a policy (Section 5.3).

Each round takes a stated number of environment steps, then trains I on all steps so far. The
first round acts at random, so that an untrained I is never asked; later rounds act with
π(s) = I(s, s + τ(s)) and noise, so that I sees the states and steps that τ proposes. Where there is
another recording of the same body that does have actions, I learns from it first, and acts from
the first round on.

Departures from the authors' script: it acts with an untrained I in the first round and evaluates
it, knows no recordings with actions, has one I (here `inverse_models`), and has it learn from steps
with actions alone (here `recorded_coef` lets it learn from the recording, too).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qss_offline.acting import ActionBox, ObservationScale, Policy
from qss_offline.action_steps import ActionSteps, take_steps
from qss_offline.algorithms.bilinear_inverse import MOST_INPUTS, bilinear_shape, solve_bilinear
from qss_offline.algorithms.ensemble import mean_network, member_seeds
from qss_offline.algorithms.inverse_dynamics import (
    ActionBatch,
    InverseDynamics,
    InverseDynamicsConfig,
    inverse_action,
)
from qss_offline.algorithms.networks import Network
from qss_offline.algorithms.semi_supervised_inverse import (
    SemiSupervisedBatch,
    SemiSupervisedInverseDynamics,
)
from qss_offline.checks import check_positive
from qss_offline.data.transitions import Transitions
from qss_offline.engine.checkpoint import Checkpoint, seed_checkpoint, stack_checkpoints
from qss_offline.engine.fit import fit
from qss_offline.engine.sampler import (
    Columns,
    JointSampler,
    Sampler,
    UniformSampler,
    tuple_of,
    without_copy,
)
from qss_offline.engine.state import TrainState, initial_state
from qss_offline.errors import UserError

Item = TypeVar("Item")


@dataclass(frozen=True)
class InverseFitConfig:
    """How the online budget is spent; `rounds * steps_per_round` environment steps in all.

    Attributes:
        rounds: rounds of acting and fitting; the policy is evaluated after each.
        steps_per_round: environment steps of a round.
        updates_per_round: gradient steps of each I in a round; the bilinear form needs none, and
            counts all.
        exploration_noise: standard deviation of the noise of rounds that a policy acts in, in units
            of half the action box.
        known_updates: gradient steps of each I on steps whose actions are known already, before
            the first round; without such steps there are none.
        inverse_models: a departure: how many I a seed has, trained apart from each other on the
            same steps; where the policy acts on networks, it acts on the mean of what they say
            before it is squashed.
        member_exploration: a departure: each online step is taken with the I of one of them, drawn
            anew, so that actions differ where I is unsure. BCO, whose policy asks no I, takes none.
        model: the inverse dynamics model.
    """

    rounds: int = 3
    steps_per_round: int = 1000
    updates_per_round: int = 3000
    exploration_noise: float = 0.1
    known_updates: int = 10_000
    inverse_models: int = 1
    member_exploration: bool = False
    model: InverseDynamicsConfig = field(default_factory=InverseDynamicsConfig)

    def __post_init__(self) -> None:
        """Refuse a budget that can't be spent."""
        check_positive(self, "rounds", "steps_per_round", "updates_per_round", "known_updates")
        check_positive(self, "inverse_models")
        if self.exploration_noise < 0:
            raise UserError(f"exploration_noise must be at least 0, not {self.exploration_noise}")
        if self.inverse_models > 1 and self.model.form == "bilinear":
            raise UserError(
                "the bilinear form of I is solved, which gives the same every time: choose "
                "form=network, or inverse_models=1"
            )
        if self.member_exploration and self.inverse_models == 1:
            raise UserError("member_exploration needs several I: choose inverse_models=3, say")
        if self.member_exploration and self.model.form != "network":
            raise UserError(
                f"member_exploration is for networks: choose form=network, not {self.model.form}"
            )

    @property
    def online_steps(self) -> int:
        """Environment steps in all."""
        return self.rounds * self.steps_per_round

    def updates(self, known: bool) -> int:
        """Return the gradient steps of each I in all, with or without known steps."""
        return self.rounds * self.updates_per_round + (self.known_updates if known else 0)


class InverseModels:
    """The inverse dynamics models of S seeds, each fitted on its own online steps.

    Where steps are known from elsewhere, every model learns from them before its first round, and
    goes on learning from them beside its own.

    Args:
        seeds: the S seeds.
        scales: what each seed's observations go through.
        make_env: makes the environment.
        config: the budget.
        known: steps of the same body whose actions are known.
        recordings: what each seed learned from, for models that learn from it, too
            (`recorded_coef`); actions, where it has any, are not looked at.

    Raises:
        UserError: the form of I doesn't suit the environment, or it needs recordings.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        scales: Sequence[ObservationScale],
        make_env: Callable[[], gym.Env[Any, Any]],
        config: InverseFitConfig,
        known: ActionSteps | None = None,
        recordings: Sequence[Transitions] | None = None,
    ) -> None:
        self.seeds, self.scales = tuple(seeds), scales
        self.make_env, self.config = make_env, config
        env = make_env()
        self.action_box = ActionBox.of(env.action_space)
        env.close()
        obs_dim, action_dim = len(scales[0].mean), len(self.action_box.low)
        self._form = config.model.form
        if self._form != "network" and bilinear_shape(obs_dim, action_dim).dims[0] > MOST_INPUTS:
            if self._form == "bilinear":
                raise UserError(
                    f"the bilinear form of I has too many inputs with {obs_dim} numbers in an "
                    "observation; choose form=network"
                )
            self._form = "network"
        self._recordings = recordings
        if recordings is not None and (
            len(recordings) != len(self.seeds) or any(r.obs_dim != obs_dim for r in recordings)
        ):
            raise UserError(f"each seed needs a recording with {obs_dim} numbers in an observation")
        self._algorithm = self._make_algorithm(obs_dim, action_dim)
        # Seed by seed, the members of each together.
        members = [m for seed in self.seeds for m in member_seeds(seed, config.inverse_models)]
        self.state: TrainState = initial_state(self._algorithm, members)
        self.steps: list[ActionSteps | None] = [None] * len(self.seeds)
        self._known = known
        self._solved: list[Network | None] = [None] * len(self.seeds)
        # Squared errors on steps not fitted on yet: of the bilinear form, of the network.
        self._unseen_errors = torch.zeros(len(self.seeds), 2, dtype=torch.float64)

    def _make_algorithm(self, obs_dim: int, action_dim: int) -> InverseDynamics:
        model, spread = self.config.model, self._step_scale()
        if not model.recorded_coef:
            return InverseDynamics(model, obs_dim, action_dim, spread)
        if self._recordings is None:
            raise UserError("recorded_coef needs the recording: set it to 0 where there is none")
        assert spread is not None, "recorded_coef is refused without step_inputs"
        return SemiSupervisedInverseDynamics(model, obs_dim, action_dim, spread)

    def _step_scale(self) -> Tensor | None:
        if not self.config.model.step_inputs:
            return None
        spreads = [scale.step_std for scale in self.scales if scale.step_std is not None]
        return torch.stack(self._each_member(spreads)).unsqueeze(1)

    @property
    def rounds_done(self) -> int:
        """Rounds that have been fitted."""
        of_rounds = self.state.update - self._updates_before
        return max(0, of_rounds) // self.config.updates_per_round

    @property
    def _updates_before(self) -> int:
        return 0 if self._known is None else self.config.known_updates

    def fit_round(
        self,
        policy: Callable[[int], Callable[[NDArray[Any]], NDArray[np.float32]] | None],
        report: Callable[[int], None] = lambda updates: None,
    ) -> None:
        """Take one round of steps with every seed, and train every I on all its steps so far.

        Args:
            policy: gives the policy of the seed at an index, which maps `(obs_dim,)` to
                `(action_dim,)`, or None where it has none yet and acts at random. It is asked once
                I is fitted: in all rounds but the first, with known steps in all.
            report: told the updates done so far.
        """
        done = self.rounds_done
        if self._known is not None and self.state.update < self._updates_before:
            self._learn(self._updates_before, report)
        fitted = self.state.update > 0
        for index, seed in enumerate(self.seeds):
            stream = [seed, *b"online", done]
            if self._known is not None and self._known.taken_online:
                # An earlier run of this seed may have drawn from the stream without this.
                stream.append(self._known.digest)
            rng = np.random.default_rng(np.random.SeedSequence(stream))
            env = self.make_env()
            try:
                taken = take_steps(
                    env,
                    self.config.steps_per_round,
                    self.action_box,
                    policy(index) if fitted else None,
                    self.config.exploration_noise,
                    rng,
                )
            finally:
                env.close()
            earlier = self.steps[index]
            self.steps[index] = taken if earlier is None else earlier.extend(taken)
            if fitted and self._form == "either":
                self._unseen_errors[index] += self._errors(index, taken)
        self._learn(self._updates_before + (done + 1) * self.config.updates_per_round, report)

    def _learn(self, updates: int, report: Callable[[int], None]) -> None:
        """Train every I on all that it has seen so far, until it has had so many updates."""
        if self._form != "network":
            self._solve()
        if self._form == "bilinear":
            self.state.update = updates
            report(updates)
            return
        fit(
            self._algorithm,
            self.state,
            self._sampler(),
            updates,
            self.config.model.learning_rate,
            lambda state, _: report(state.update),
            mode="compiled",
        )

    def _sampler(self) -> Sampler:
        """Batches of steps whose actions are known, and of recorded ones where I learns of them."""
        batch_size = self.config.model.batch_size
        with_actions = self._each_member(
            [self._columns(self._seen(index), index) for index in range(len(self.seeds))]
        )
        recordings = self._recordings if self.config.model.recorded_coef else None
        if recordings is None:
            return UniformSampler(with_actions, batch_size, ActionBatch, noise=self._noise())
        action_dim = len(self.action_box.low)
        tables = self._each_member(
            [
                (
                    without_copy(recording.observations),
                    without_copy(recording.next_observations),
                    torch.zeros(1, 1).expand(len(recording), action_dim),
                )
                for recording in recordings
            ]
        )
        recorded = UniformSampler(
            tables,
            batch_size,
            tuple_of,
            self._each_member([_scale_observations(scale) for scale in self.scales]),
            [(None, None, torch.full((action_dim,), self.config.model.code_noise))] * len(tables),
        )
        online = UniformSampler(with_actions, batch_size, tuple_of, noise=self._noise())
        return JointSampler((online, recorded), SemiSupervisedBatch)

    def _each_member(self, of_seeds: Sequence[Item]) -> list[Item]:
        """Repeat what each seed has for each of its I."""
        return [item for item in of_seeds for _ in range(self.config.inverse_models)]

    def _solve(self) -> None:
        """Fit the bilinear form of each seed's I on all that it has seen so far."""
        for index, scale in enumerate(self.scales):
            assert scale.step_std is not None
            obs, next_obs, actions = self._columns(self._seen(index), index)
            ridge = self.config.model.ridge
            solved = solve_bilinear(obs, (next_obs - obs) / scale.step_std, actions, ridge)
            self._solved[index] = solved
            if self._form == "bilinear":
                for name in ("inverse_dynamics", "inverse_average"):
                    self.state.networks[name].flat[index] = solved.flat[0]

    def _seen(self, index: int) -> ActionSteps:
        """Known steps and those that the seed at `index` has taken."""
        taken = self.steps[index]
        if self._known is None:
            assert taken is not None
            return taken
        return self._known if taken is None else self._known.extend(taken)

    def _noise(self) -> list[tuple[Tensor | None, ...]] | None:
        """Standard deviations of the noise on each seed's columns: on s' alone."""
        size = self.config.model.step_noise
        if size == 0:
            return None
        spreads = [scale.step_std for scale in self.scales if scale.step_std is not None]
        return self._each_member([(None, size * spread, None) for spread in spreads])

    @torch.no_grad()
    def _errors(self, index: int, taken: ActionSteps) -> Tensor:
        """Squared errors of the bilinear form and of the network, over steps. `(2,)`."""
        solved, spread = self._solved[index], self.scales[index].step_std
        assert solved is not None
        assert spread is not None
        obs, next_obs, actions = (c.unsqueeze(0) for c in self._columns(taken, index))
        return torch.stack(
            [
                (inverse_action(model, obs, next_obs, spread) - actions).double().square().sum()
                for model in (solved, self._network(index))
            ]
        )

    def _columns(self, steps: ActionSteps, index: int) -> Columns:
        scale = self.scales[index]
        return (
            scale.apply(torch.from_numpy(steps.obs)),
            scale.apply(torch.from_numpy(steps.next_obs)),
            torch.from_numpy(steps.actions),
        )

    def checkpoint(self, index: int, metadata: Mapping[str, Any]) -> Checkpoint:
        """Take the seed at `index` out: its models, moments, random streams and steps."""
        steps, checkpoint = self.steps[index], seed_checkpoint(self.state, self._members(index)[0])
        assert steps is not None
        others = {
            f"members.{number}.{name}": tensor
            for number, member in enumerate(self._members(index)[1:], 1)
            for name, tensor in seed_checkpoint(self.state, member).tensors.items()
        }
        errors = {"unseen_errors": self._unseen_errors[index].clone()}
        tensors = {**checkpoint.tensors, **others, **steps.named_tensors(), **errors}
        return Checkpoint(tensors, {**checkpoint.metadata, **metadata})

    def restore(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Continue from checkpoints of all seeds, taken after the same round."""
        members = [
            member for one in checkpoints for member in _member_checkpoints(one, self.config)
        ]
        self.state = stack_checkpoints(self._algorithm, members)
        self.steps = [ActionSteps.from_named(one.tensors) for one in checkpoints]
        if self._form == "either":
            kept = [checkpoint.tensors["unseen_errors"] for checkpoint in checkpoints]
            self._unseen_errors = torch.stack(kept)
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
        """Copy the averaged network of the seed at `index`, of several the mean, `(1, P)`."""
        return mean_network(self.member_averages(index))

    def member_averages(self, index: int) -> list[Network]:
        """Copy the averaged network of each I of the seed at `index`, each `(1, P)`."""
        average = self.state.networks["inverse_average"]
        return [
            Network(average.shape, average.flat[member : member + 1].clone())
            for member in self._members(index)
        ]

    def _members(self, index: int) -> range:
        """Rows of the stack that are those of the seed at `index`."""
        count = self.config.inverse_models
        return range(index * count, (index + 1) * count)


def _member_checkpoints(checkpoint: Checkpoint, config: InverseFitConfig) -> list[Checkpoint]:
    """Undo what `InverseModels.checkpoint` does with several I."""
    first, seed = checkpoint.metadata, int(checkpoint.metadata["seed"])
    members = [checkpoint]
    for number, member in enumerate(member_seeds(seed, config.inverse_models)[1:], 1):
        prefix = f"members.{number}."
        tensors = {
            name.removeprefix(prefix): tensor
            for name, tensor in checkpoint.tensors.items()
            if name.startswith(prefix)
        }
        members.append(Checkpoint(tensors, {**first, "seed": member}))
    return members


def _scale_observations(scale: ObservationScale) -> Callable[[Columns], Columns]:
    def prepare(columns: Columns) -> Columns:
        obs, next_obs, code_noise = columns
        return scale.apply(obs), scale.apply(next_obs), code_noise

    return prepare


class InverseFitter(InverseModels):
    """Turns the proposals of S seeds into policies (Eq. 9).

    Args:
        seeds: the S seeds.
        proposals: τ of each seed, each `(1, P)`.
        scales: what each seed's observations go through.
        make_env: makes the environment.
        config: the budget.
        known: steps of the same body whose actions are known.
        recordings: what each seed learned from, for models that learn from it, too.

    Raises:
        UserError: as for `InverseModels`.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        proposals: Sequence[Network],
        scales: Sequence[ObservationScale],
        make_env: Callable[[], gym.Env[Any, Any]],
        config: InverseFitConfig,
        known: ActionSteps | None = None,
        recordings: Sequence[Transitions] | None = None,
    ) -> None:
        super().__init__(seeds, scales, make_env, config, known, recordings)
        self.proposals = proposals

    def run_round(self, report: Callable[[int], None] = lambda updates: None) -> None:
        """Take one round of steps with every seed, and train every I on all its steps so far.

        Args:
            report: told the updates done so far.
        """
        exploring = self._drawn_member if self.config.member_exploration else self.policy
        self.fit_round(exploring, report)

    def policy(self, index: int) -> Policy:
        """Return the policy of the seed at `index`, on a copy of the model as it is now."""
        return self._policy_of(index, self.average(index))

    def _policy_of(self, index: int, inverse_dynamics: Network) -> Policy:
        return Policy(
            self.proposals[index],
            inverse_dynamics,
            self.scales[index],
            self.config.model.step_inputs,
            self.action_box,
        )

    def _drawn_member(self, index: int) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
        """Return the policy of one I of the seed at `index`, drawn anew at every step."""
        policies = [self._policy_of(index, one) for one in self.member_averages(index)]
        stream = np.random.SeedSequence([self.seeds[index], *b"members", self.rounds_done])
        rng = np.random.default_rng(stream)
        return lambda obs: policies[rng.integers(len(policies))](obs)
