"""What a comparison is made of: recordings, methods, seeds, budgets."""

from __future__ import annotations

from dataclasses import dataclass

from qss_offline.data.environments import env_spec
from qss_offline.errors import UserError, nearest

WITHOUT_ACTIONS = ("auto", "d3g", "bco", "bco-mean", "pseudo-iql")
"""Methods that get no recorded actions and may take online steps: ours; BCO near the mode of its
labels where the recording asks for that, and near their mean, as it was published; and IQL on the
labels of BCO's IDM."""

WITH_ACTIONS = ("bc", "td3+bc", "iql", "cql")
"""Methods that are given the actions."""

METHODS = (*WITHOUT_ACTIONS, *WITH_ACTIONS)

RIVALS = ("pseudo-iql", *WITH_ACTIONS)
"""Those of d3rlpy."""

PSEUDO = "pseudo-"
"""Begins the names of methods that are given the labels of BCO's IDM in place of the actions."""

_EPISODES, _STEPS = 10, 5_000


def evaluation_episodes(env_id: str) -> int:
    """Return how many episodes an evaluation takes: ten, or more where they are short.

    In Reacher, whose episodes have 50 steps, the goals of ten of them move the mean by more than
    methods differ.
    """
    limit = env_spec(env_id).max_episode_steps
    return max(_EPISODES, _STEPS // limit) if limit else _EPISODES


@dataclass(frozen=True)
class Recorded:
    """Recordings of a family.

    Attributes:
        family: name of a dataset family, or its TOML file.
        levels: their probabilities of random actions.
    """

    family: str
    levels: tuple[float, ...]


@dataclass(frozen=True)
class ComparisonConfig:
    """Everything that settles what a comparison runs.

    Attributes:
        name: goes with every figure.
        recorded: what methods learn from; each seed has a recording of its own.
        methods: some of `METHODS`.
        seeds: of each method on each family and level.
        preset: of methods that aren't d3rlpy's.
        updates: of these, instead of the preset's.
        rival_updates: updates of d3rlpy's methods.
        rival_evaluations: evaluations of d3rlpy's methods, evenly spaced over the updates.
        first_seed: the least seed of methods.
        first_recording: the seed of its recording; the next seed has the next recording.
        transitions: size of the recordings, instead of the families'.
        device: "cpu" or "cuda", where methods that aren't d3rlpy's are trained.
        tf32: matrix products on a GPU in TF32.
    """

    name: str
    recorded: tuple[Recorded, ...]
    methods: tuple[str, ...]
    seeds: int
    preset: str = "default"
    updates: int | None = None
    rival_updates: int = 50_000
    rival_evaluations: int = 10
    first_seed: int = 0
    first_recording: int = 0
    transitions: int | None = None
    device: str = "cpu"
    tf32: bool = False

    def __post_init__(self) -> None:
        """Refuse methods that don't exist, and comparisons of nothing."""
        for method in self.methods:
            if method not in METHODS:
                raise UserError(
                    f"unknown method {method!r}: there are {', '.join(METHODS)}"
                    f"{nearest(method, METHODS)}"
                )
        for what, count in (
            ("seeds", self.seeds),
            ("updates", self.updates),
            ("updates of d3rlpy's methods", self.rival_updates),
            ("transitions", self.transitions),
        ):
            if count is not None and count <= 0:
                raise UserError(f"{what} must be above 0, not {count}")
