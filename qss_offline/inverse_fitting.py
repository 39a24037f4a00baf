"""A few online steps that fit I(s, s') and turn a proposal τ into a policy (Section 5.3).

Each round takes a stated number of environment steps, then trains I on all steps so far. The
first round acts at random, so that an untrained I is never asked; later rounds act with
π(s) = I(s, s + τ(s)) and noise, so that I sees the states and steps that τ proposes.

Departure from the authors' script, which acts with an untrained I in the first round and
evaluates it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qss_offline.acting import ActionBox, ObservationScale, Policy
from qss_offline.algorithms.bilinear_inverse import MOST_INPUTS, bilinear_shape, solve_bilinear
from qss_offline.algorithms.inverse_dynamics import (
    ActionBatch,
    InverseDynamics,
    InverseDynamicsConfig,
    inverse_action,
)
from qss_offline.algorithms.networks import Network
from qss_offline.engine.checkpoint import Checkpoint, seed_checkpoint, stack_checkpoints
from qss_offline.engine.fit import fit
from qss_offline.engine.sampler import Columns, UniformSampler
from qss_offline.engine.state import TrainState, initial_state
from qss_offline.errors import UserError


@dataclass(frozen=True)
class InverseFitConfig:
    """How the online budget is spent; `rounds * steps_per_round` environment steps in all.

    Attributes:
        rounds: rounds of acting and fitting; the policy is evaluated after each.
        steps_per_round: environment steps of a round.
        updates_per_round: gradient steps of a round; the bilinear form needs none, and counts all.
        exploration_noise: standard deviation of the noise of later rounds, in units of half the
            action box.
        model: the inverse dynamics model.
    """

    rounds: int = 3
    steps_per_round: int = 1000
    updates_per_round: int = 3000
    exploration_noise: float = 0.1
    model: InverseDynamicsConfig = field(default_factory=InverseDynamicsConfig)

    def __post_init__(self) -> None:
        """Refuse a budget that can't be spent."""
        for name in ("rounds", "steps_per_round", "updates_per_round"):
            if getattr(self, name) <= 0:
                raise UserError(f"{name} must be above 0, not {getattr(self, name)}")
        if self.exploration_noise < 0:
            raise UserError(f"exploration_noise must be at least 0, not {self.exploration_noise}")

    @property
    def online_steps(self) -> int:
        """Environment steps in all."""
        return self.rounds * self.steps_per_round


@dataclass(frozen=True)
class OnlineSteps:
    """Transitions seen online by one seed, oldest first.

    Attributes:
        obs: `(N, obs_dim)` float32, in the environment's units.
        next_obs: `(N, obs_dim)` float32.
        actions: `(N, action_dim)` float32, in units of the action box.
    """

    obs: NDArray[np.float32]
    next_obs: NDArray[np.float32]
    actions: NDArray[np.float32]

    columns: ClassVar[tuple[str, ...]] = ("obs", "next_obs", "actions")

    def __len__(self) -> int:
        return len(self.obs)

    def extend(self, later: OnlineSteps) -> OnlineSteps:
        """Append later steps."""
        return OnlineSteps(
            np.concatenate((self.obs, later.obs)),
            np.concatenate((self.next_obs, later.next_obs)),
            np.concatenate((self.actions, later.actions)),
        )


def take_steps(
    env: gym.Env[Any, Any],
    steps: int,
    action_box: ActionBox,
    policy: Callable[[NDArray[Any]], NDArray[np.float32]] | None,
    noise: float,
    rng: np.random.Generator,
) -> OnlineSteps:
    """Take exactly `steps` environment steps.

    Args:
        env: reset here, with a seed from `rng`.
        steps: how many.
        action_box: bounds of the actions.
        policy: maps `(obs_dim,)` to `(action_dim,)`; None acts uniformly at random.
        noise: standard deviation of the noise on the policy's actions, in units of the box.
        rng: source of everything random here.
    """
    shape = (steps, len(action_box.low))
    drawn = rng.uniform(-1, 1, shape) if policy is None else rng.normal(0, noise, shape)
    obs, _ = env.reset(seed=int(rng.integers(2**31)))
    before = np.empty((steps, len(obs)), np.float32)
    after = np.empty((steps, len(obs)), np.float32)
    actions = np.empty(shape, np.float32)
    for step in range(steps):
        unit = drawn[step]
        if policy is not None:
            unit = np.clip(action_box.to_unit(policy(obs)) + unit, -1, 1)
        before[step], actions[step] = obs, unit
        obs, _, terminated, truncated, _ = env.step(action_box.from_unit(unit))
        after[step] = obs
        if terminated or truncated:
            obs, _ = env.reset()
    return OnlineSteps(before, after, actions)


class InverseModels:
    """The inverse dynamics models of S seeds, each fitted on its own online steps.

    Args:
        seeds: the S seeds.
        scales: what each seed's observations go through.
        make_env: makes the environment.
        config: the budget.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        scales: Sequence[ObservationScale],
        make_env: Callable[[], gym.Env[Any, Any]],
        config: InverseFitConfig,
    ) -> None:
        self.seeds, self.scales = tuple(seeds), scales
        self.make_env, self.config = make_env, config
        env = make_env()
        space = env.action_space
        assert isinstance(space, gym.spaces.Box)
        self.action_box = ActionBox(space.low.astype(np.float32), space.high.astype(np.float32))
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
        self._algorithm = InverseDynamics(config.model, obs_dim, action_dim, self._step_scale())
        self.state: TrainState = initial_state(self._algorithm, self.seeds)
        self.steps: list[OnlineSteps | None] = [None] * len(self.seeds)
        self._solved: list[Network | None] = [None] * len(self.seeds)
        # Squared errors on steps not fitted on yet: of the bilinear form, of the network.
        self._unseen_errors = torch.zeros(len(self.seeds), 2, dtype=torch.float64)

    def _step_scale(self) -> Tensor | None:
        if not self.config.model.step_inputs:
            return None
        spreads = [scale.step_std for scale in self.scales if scale.step_std is not None]
        return torch.stack(spreads).unsqueeze(1)

    @property
    def rounds_done(self) -> int:
        """Rounds that have been fitted."""
        return self.state.update // self.config.updates_per_round

    def fit_round(
        self,
        policy: Callable[[int], Callable[[NDArray[Any]], NDArray[np.float32]]],
        report: Callable[[int], None] = lambda updates: None,
    ) -> None:
        """Take one round of steps with every seed, and train every I on all its steps so far.

        Args:
            policy: gives the policy of the seed at an index, which acts in all rounds but the
                first; it maps `(obs_dim,)` to `(action_dim,)`.
            report: told the updates done since the first round.
        """
        done = self.rounds_done
        for index, seed in enumerate(self.seeds):
            rng = np.random.default_rng(np.random.SeedSequence([seed, *b"online", done]))
            env = self.make_env()
            try:
                taken = take_steps(
                    env,
                    self.config.steps_per_round,
                    self.action_box,
                    policy(index) if done else None,
                    self.config.exploration_noise,
                    rng,
                )
            finally:
                env.close()
            earlier = self.steps[index]
            self.steps[index] = taken if earlier is None else earlier.extend(taken)
            if done and self._form == "either":
                self._unseen_errors[index] += self._errors(index, taken)
        updates = (done + 1) * self.config.updates_per_round
        if self._form != "network":
            self._solve()
        if self._form == "bilinear":
            self.state.update = updates
            report(updates)
            return
        sampler = UniformSampler(
            [self._columns(s, index) for index, s in enumerate(self.steps) if s is not None],
            self.config.model.batch_size,
            ActionBatch,
        )
        fit(
            self._algorithm,
            self.state,
            sampler,
            updates,
            self.config.model.learning_rate,
            lambda state, _: report(state.update),
            mode="compiled",
        )

    def _solve(self) -> None:
        """Fit the bilinear form of each seed's I on all its steps so far."""
        for index, scale in enumerate(self.scales):
            steps = self.steps[index]
            assert steps is not None
            assert scale.step_std is not None
            obs, next_obs, actions = self._columns(steps, index)
            ridge = self.config.model.ridge
            solved = solve_bilinear(obs, (next_obs - obs) / scale.step_std, actions, ridge)
            self._solved[index] = solved
            if self._form == "bilinear":
                for name in ("inverse_dynamics", "inverse_average"):
                    self.state.networks[name].flat[index] = solved.flat[0]

    @torch.no_grad()
    def _errors(self, index: int, taken: OnlineSteps) -> Tensor:
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

    def _columns(self, steps: OnlineSteps, index: int) -> Columns:
        scale = self.scales[index]
        return (
            scale.apply(torch.from_numpy(steps.obs)),
            scale.apply(torch.from_numpy(steps.next_obs)),
            torch.from_numpy(steps.actions),
        )

    def checkpoint(self, index: int, metadata: Mapping[str, Any]) -> Checkpoint:
        """Take the seed at `index` out: its model, moments, random stream and steps."""
        steps, checkpoint = self.steps[index], seed_checkpoint(self.state, index)
        assert steps is not None
        seen = {f"steps.{n}": torch.from_numpy(getattr(steps, n)) for n in OnlineSteps.columns}
        errors = {"unseen_errors": self._unseen_errors[index].clone()}
        tensors = {**checkpoint.tensors, **seen, **errors}
        return Checkpoint(tensors, {**checkpoint.metadata, **metadata})

    def restore(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Continue from checkpoints of all seeds, taken after the same round."""
        self.state = stack_checkpoints(self._algorithm, checkpoints)
        self.steps = [
            OnlineSteps(
                *(checkpoint.tensors[f"steps.{name}"].numpy() for name in OnlineSteps.columns)
            )
            for checkpoint in checkpoints
        ]
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
        """Copy the averaged network of the seed at `index`, `(1, P)`."""
        average = self.state.networks["inverse_average"]
        return Network(average.shape, average.flat[index : index + 1].clone())


class InverseFitter(InverseModels):
    """Turns the proposals of S seeds into policies (Eq. 9).

    Args:
        seeds: the S seeds.
        proposals: τ of each seed, each `(1, P)`.
        scales: what each seed's observations go through.
        make_env: makes the environment.
        config: the budget.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        proposals: Sequence[Network],
        scales: Sequence[ObservationScale],
        make_env: Callable[[], gym.Env[Any, Any]],
        config: InverseFitConfig,
    ) -> None:
        super().__init__(seeds, scales, make_env, config)
        self.proposals = proposals

    def run_round(self, report: Callable[[int], None] = lambda updates: None) -> None:
        """Take one round of steps with every seed, and train every I on all its steps so far.

        Args:
            report: told the updates done since the first round.
        """
        self.fit_round(self.policy, report)

    def policy(self, index: int) -> Policy:
        """Return the policy of the seed at `index`, on a copy of the model as it is now."""
        return Policy(
            self.proposals[index],
            self.average(index),
            self.scales[index],
            self.config.model.step_inputs,
            self.action_box,
        )
