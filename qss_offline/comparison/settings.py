"""What a comparison is made of: environments, levels of randomness, methods, seeds, budgets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from qss_offline.algorithms.bco import CloningConfig
from qss_offline.errors import UserError, nearest
from qss_offline.presets import PRESETS
from qss_offline.runs.config import Preset

METHODS = ("d3g", "bco", "pseudo-td3+bc", "pseudo-iql", "bc", "td3+bc", "iql", "cql")
"""Ours and BCO see no actions and may take online steps; `pseudo-` methods are given the labels
of BCO's inverse model, so that they have seen the same online steps; the rest see the actions."""


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
    """Another recording of each body, one with actions, that inverse models learn from first.

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
class ComparisonSettings:
    """Everything that a comparison needs to know.

    Attributes:
        name: goes with every figure.
        families: TOML files of dataset families, without folder and suffix.
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
        known: what the inverse models of D3G and BCO learn from before their online steps, if
            anything.
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
    known: KnownActions | None = None

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


_ONE_SEED = Restriction(seeds=1, random_action_probs=(0.0, 0.5, 1.0))

# Hours on two cores: every method gets two hidden layers of 128 and batches of 128.
_QUICK = ComparisonSettings(
    name="quick",
    families=("inverted_pendulum", "reacher"),
    random_action_probs=(0.0, 0.25, 0.5, 0.75, 1.0),
    methods=("d3g", "bco", "bc", "td3+bc", "pseudo-td3+bc", "iql", "cql"),
    seeds=3,
    d3g=PRESETS["short-horizon"],
    cloning=CloningConfig(hidden_dims=(128, 128), batch_size=128, learning_rate=1e-3),
    cloning_updates=5_000,
    baseline_updates=10_000,
    baseline_hidden_dims=(128, 128),
    baseline_batch_size=128,
    baseline_learning_rate=1e-3,
    baseline_evaluations=3,
    updates_of={"cql": 5_000},
    only={"iql": _ONE_SEED, "cql": _ONE_SEED},
)

_BODIES = replace(
    _QUICK,
    name="bodies",
    families=("inverted_double_pendulum", "hopper", "walker2d"),
    random_action_probs=(0.25, 0.5, 0.75),
    methods=("d3g", "bco", "pseudo-td3+bc", "td3+bc", "iql"),
    d3g=PRESETS["bodies"],
    # In ten rounds as many of BCO's updates as quick has in three.
    cloning_updates=1_500,
    first_seed=110,
    data_seed=11,
    only={},
    updates_of={},
)

_MEDIUM = ("inverted_double_pendulum_medium", "hopper_medium", "walker2d_medium")

_NO_CHANCE = replace(
    _BODIES, name="no_chance", random_action_probs=(0.0,), first_seed=120, data_seed=12
)

_RUNNERS = replace(
    _BODIES,
    name="runners",
    families=("half_cheetah",),
    random_action_probs=(0.0, 0.25, 0.5, 0.75),
    d3g=PRESETS["runners"],
    cloning_updates=5_000,
    first_seed=90,
    data_seed=10,
)

COMPARISONS = {
    "quick": _QUICK,
    # One observation-only setting for every level, on seeds and recordings that no setting was
    # chosen with, beside the methods that have seen as little.
    "beyond": replace(
        _QUICK,
        name="beyond",
        random_action_probs=(0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0),
        methods=("d3g", "bco", "pseudo-td3+bc"),
        seeds=5,
        d3g=PRESETS["default"],
        first_seed=60,
        data_seed=6,
    ),
    # Bodies that are harder to hold upright, and one that runs and can't fall, beside methods with
    # and without actions.
    "bodies": _BODIES,
    "runners": _RUNNERS,
    # Recorded with experts that were half trained.
    "medium": replace(_BODIES, name="medium", families=_MEDIUM, random_action_probs=(0.25,)),
    # The bodies that fall without any chance, on seeds and recordings of their own: that the preset
    # tells such recordings from others was settled after those of `bodies` had been looked at.
    "no_chance": _NO_CHANCE,
    "no_chance_medium": replace(_NO_CHANCE, name="no_chance_medium", families=_MEDIUM),
    "runners_medium": replace(
        _RUNNERS,
        name="runners_medium",
        families=("half_cheetah_medium",),
        random_action_probs=(0.0, 0.25),
    ),
    # As the paper has it, with 100 evaluations of each seed.
    "paper": ComparisonSettings(
        name="paper",
        families=("inverted_pendulum", "reacher"),
        random_action_probs=(0.0, 0.25, 0.5, 0.75, 1.0),
        methods=METHODS,
        seeds=10,
        d3g=PRESETS["paper"],
        cloning=CloningConfig(),
        cloning_updates=10_000,
        baseline_updates=1_000_000,
        baseline_hidden_dims=(256, 256),
        baseline_batch_size=256,
        baseline_learning_rate=None,
        baseline_evaluations=100,
    ),
}


def comparison(name: str) -> ComparisonSettings:
    """Return a comparison by name.

    Raises:
        UserError: there is none of that name.
    """
    if name not in COMPARISONS:
        known = ", ".join(COMPARISONS)
        raise UserError(f"unknown preset {name!r}: there are {known}{nearest(name, COMPARISONS)}")
    return COMPARISONS[name]
