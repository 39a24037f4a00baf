"""The comparisons that are measured, by name."""

from __future__ import annotations

from dataclasses import replace

from qss_offline.algorithms.bco import CloningConfig
from qss_offline.comparison.config import METHODS, ComparisonConfig, Restriction
from qss_offline.errors import by_name
from qss_offline.presets import preset
from qss_offline.runs.portfolio_config import portfolio_beside

_DEFAULT, _BCO = preset("default", "d3g"), preset("default", "bco")
_BESIDE = portfolio_beside(_DEFAULT.algorithm)
_NEAR = replace(_BCO, algorithm=_BESIDE.near, updates=_DEFAULT.updates)
_BETTER = replace(
    _NEAR,
    algorithm=_BESIDE.better,
    inverse=replace(_NEAR.inverse, rounds=3, steps_per_round=1_000, updates_per_round=6_000),
)

# One training with γ short beside the paper's 0.99.
_SHORT_HORIZON = replace(
    _DEFAULT,
    algorithm=replace(_DEFAULT.algorithm, gamma=0.95, twin_pessimism=1.0, learning_rate_decay=0.0),
    inverse=replace(_DEFAULT.inverse, model=replace(_DEFAULT.inverse.model, form="network")),
    updates=40_000,
    ensemble=1,
)

_ONE_SEED = Restriction(seeds=1, random_action_probs=(0.0, 0.5, 1.0))

# Hours on two cores: every method gets two hidden layers of 128 and batches of 128.
_TABLE1 = ComparisonConfig(
    name="table1",
    families=("inverted_pendulum", "reacher"),
    random_action_probs=(0.0, 0.25, 0.5, 0.75, 1.0),
    methods=("d3g", "bco", "bc", "td3+bc", "pseudo-td3+bc", "iql", "cql"),
    seeds=3,
    d3g=_SHORT_HORIZON,
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
    _TABLE1,
    name="bodies",
    families=("inverted_double_pendulum", "hopper", "walker2d"),
    random_action_probs=(0.25, 0.5, 0.75),
    methods=("d3g", "bco", "pseudo-td3+bc", "td3+bc", "iql"),
    d3g=_NEAR,
    # In ten rounds as many of BCO's updates as table1 has in three.
    cloning_updates=1_500,
    first_seed=110,
    data_seed=11,
    only={},
    updates_of={},
)

_MEDIUM = ("inverted_double_pendulum_medium", "hopper_medium", "walker2d_medium")

_NO_RANDOM_ACTIONS = replace(
    _BODIES, name="no_chance", random_action_probs=(0.0,), first_seed=120, data_seed=12
)

_RUNNERS = replace(
    _BODIES,
    name="runners",
    families=("half_cheetah",),
    random_action_probs=(0.0, 0.25, 0.5, 0.75),
    d3g=_BETTER,
    cloning_updates=5_000,
    first_seed=90,
    data_seed=10,
)

QUICK = "table1-quick"
"""Minutes, to see how a comparison goes."""

COMPARISONS = {
    "table1": _TABLE1,
    QUICK: replace(
        _TABLE1,
        name=QUICK,
        families=("inverted_pendulum",),
        random_action_probs=(0.0, 1.0),
        methods=("d3g", "bco"),
        seeds=1,
        d3g=_SHORT_HORIZON.spend(10_000, None, None),
        cloning_updates=1_000,
        transitions=20_000,
    ),
    # One observation-only setting for every level, on seeds and recordings that no setting was
    # chosen with, beside the other methods without actions.
    "beyond": replace(
        _TABLE1,
        name="beyond",
        random_action_probs=(0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0),
        methods=("d3g", "bco", "pseudo-td3+bc"),
        seeds=5,
        d3g=_DEFAULT,
        first_seed=60,
        data_seed=6,
    ),
    # Environments where the robot falls easily, and one without early termination, beside methods
    # with and without actions.
    "bodies": _BODIES,
    "runners": _RUNNERS,
    # Recorded with half-trained experts.
    "medium": replace(_BODIES, name="medium", families=_MEDIUM, random_action_probs=(0.25,)),
    # The environments of `bodies` without random actions, on seeds and recordings of their own: the
    # settings were made to tell such recordings from others after those of `bodies` had been run.
    "no_chance": _NO_RANDOM_ACTIONS,
    "no_chance_medium": replace(_NO_RANDOM_ACTIONS, name="no_chance_medium", families=_MEDIUM),
    "runners_medium": replace(
        _RUNNERS,
        name="runners_medium",
        families=("half_cheetah_medium",),
        random_action_probs=(0.0, 0.25),
    ),
    # As the paper has it, with 100 evaluations of each seed.
    "paper": ComparisonConfig(
        name="paper",
        families=("inverted_pendulum", "reacher"),
        random_action_probs=(0.0, 0.25, 0.5, 0.75, 1.0),
        methods=METHODS,
        seeds=10,
        d3g=preset("paper", "d3g"),
        cloning=CloningConfig(),
        cloning_updates=10_000,
        baseline_updates=1_000_000,
        baseline_hidden_dims=(256, 256),
        baseline_batch_size=256,
        baseline_learning_rate=None,
        baseline_evaluations=100,
    ),
}


def comparison(name: str) -> ComparisonConfig:
    """Return a comparison by name.

    Raises:
        UserError: there is none of that name.
    """
    return by_name("preset", name, COMPARISONS)
