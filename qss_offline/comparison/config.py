"""What a comparison is made of: environments, levels of randomness, methods, seeds, budgets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qss_offline.algorithms.bco import CloningConfig
from qss_offline.errors import UserError, nearest
from qss_offline.runs.config import Preset

METHODS = ("d3g", "bco", "pseudo-td3+bc", "pseudo-iql", "bc", "td3+bc", "iql", "cql")
"""Ours and BCO get no actions and may take online steps; `pseudo-` methods are given the labels
of BCO's IDM, so that they have the same online steps; the rest are given the actions."""


@dataclass(frozen=True)
class Restriction:
    """Where a method is run, if not everywhere.

    Attributes:
        seeds: how many seeds.
        random_action_probs: levels.
    """

    seeds: int
    random_action_probs: tuple[float, ...]


@dataclass(frozen=True)
class KnownActions:
    """Another recording in each environment, with actions, that the IDM learns from first.

    Attributes:
        random_action_prob: its level of randomness.
        data_seed: of the recording.
    """

    random_action_prob: float
    data_seed: int

    def __post_init__(self) -> None:
        """Refuse a level that is no probability."""
        if not 0 <= self.random_action_prob <= 1:
            raise UserError(
                f"random actions of known steps must be from 0 to 100%, not "
                f"{100 * self.random_action_prob:g}%"
            )


@dataclass(frozen=True)
class ComparisonConfig:
    """Everything that settles what a comparison runs.

    Attributes:
        name: goes with every figure.
        families: names of dataset families, or their TOML files.
        random_action_probs: levels of randomness.
        methods: some of `METHODS`.
        seeds: how many seeds of each cell, from `first_seed` on.
        d3g: offline D3G and the online budget of all methods that have one.
        cloning: BCO's policy.
        cloning_updates: its updates in a round.
        baseline_updates: updates of d3rlpy's methods, where `updates_of` says nothing else.
        baseline_hidden_dims: sizes of the hidden layers of d3rlpy's networks.
        baseline_batch_size: transitions per update of d3rlpy's methods.
        baseline_learning_rate: Adam's step size of d3rlpy's methods; None is each one's default.
        baseline_evaluations: evaluations of d3rlpy's methods, evenly spaced over the updates.
        updates_of: other numbers of updates, by method.
        only: methods that are not run everywhere.
        episodes: episodes of each evaluation.
        first_seed: the least seed.
        data_seed: of the recordings, instead of the families' own.
        transitions: size of the recordings, likewise.
        known: what the IDM of D3G and BCO learns from before its online steps, if anything.
        device: "cpu" or "cuda", where D3G and BCO are trained; d3rlpy's methods take the CPU.
        tf32: matrix products on a GPU in TF32.
    """

    name: str
    families: tuple[str, ...]
    random_action_probs: tuple[float, ...]
    methods: tuple[str, ...]
    seeds: int
    d3g: Preset
    cloning: CloningConfig
    cloning_updates: int
    baseline_updates: int
    baseline_hidden_dims: tuple[int, ...]
    baseline_batch_size: int
    baseline_learning_rate: float | None
    baseline_evaluations: int
    updates_of: Mapping[str, int] = field(default_factory=dict)
    only: Mapping[str, Restriction] = field(default_factory=dict)
    episodes: int = 10
    first_seed: int = 0
    data_seed: int | None = None
    transitions: int | None = None
    known: KnownActions | None = None
    device: str = "cpu"
    tf32: bool = False

    def __post_init__(self) -> None:
        """Refuse methods that don't exist and pseudo-labels without their labeller."""
        for method in (*self.methods, *self.updates_of, *self.only):
            if method not in METHODS:
                raise UserError(
                    f"unknown method {method!r}: there are {', '.join(METHODS)}"
                    f"{nearest(method, METHODS)}"
                )
        if self.seeds <= 0:
            raise UserError(f"seeds must be above 0, not {self.seeds}")

    def updates(self, method: str) -> int:
        """Return the gradient steps of a method's policy (of all Q and τ of a seed, for D3G)."""
        if method == "d3g":
            return self.d3g.offline_updates
        if method == "bco":
            return self.d3g.inverse.rounds * self.cloning_updates
        return self.updates_of.get(method, self.baseline_updates)

    def online_steps(self, method: str) -> int:
        """Return the environment steps that a method was allowed before its last evaluation."""
        has_budget = method in ("d3g", "bco") or method.startswith("pseudo-")
        return self.d3g.inverse.online_steps if has_budget else 0

    def seeds_of(self, method: str, random_action_prob: float) -> tuple[int, ...]:
        """Return the seeds of a method at a level, none where it isn't run."""
        restriction = self.only.get(method)
        count = self.seeds
        if restriction is not None:
            allowed = random_action_prob in restriction.random_action_probs
            count = min(restriction.seeds, count) if allowed else 0
        return tuple(range(self.first_seed, self.first_seed + count))
