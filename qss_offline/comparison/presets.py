"""The comparisons that are measured, by name."""

from __future__ import annotations

from dataclasses import replace

from qss_offline.comparison.config import METHODS, WITH_ACTIONS, ComparisonConfig, Recorded
from qss_offline.errors import by_name

_QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)
_SMALL = ("inverted_pendulum", "reacher")
_LEGGED = ("inverted_double_pendulum", "hopper", "walker2d", "half_cheetah")

# On seeds and recordings that no setting was chosen with.
_TABLE1 = ComparisonConfig(
    name="table1",
    recorded=(
        *(Recorded(family, _QUARTERS) for family in (*_SMALL, *_LEGGED)),
        *(Recorded(f"{family}_medium", (0.0, 0.25)) for family in _LEGGED),
    ),
    methods=("auto", "d3g", "bco", "bco-mean", "bc", "td3+bc", "iql"),
    seeds=6,
    first_seed=310,
    first_recording=31,
)

BUDGETS = "rival-budgets"
"""How many updates serve d3rlpy's methods: on recordings and seeds that no table reports."""

QUICK = "table1-quick"
"""Minutes, to see how a comparison goes."""

COMPARISONS = {
    "table1": _TABLE1,
    QUICK: replace(
        _TABLE1,
        name=QUICK,
        recorded=(Recorded("inverted_pendulum", (0.0, 1.0)),),
        methods=("d3g", "bco"),
        seeds=1,
        updates=5_000,
        transitions=20_000,
    ),
    BUDGETS: replace(
        _TABLE1,
        name=BUDGETS,
        recorded=tuple(Recorded(family, (0.25, 0.75)) for family in (*_SMALL, *_LEGGED)),
        methods=WITH_ACTIONS,
        seeds=1,
        rival_updates=100_000,
        first_seed=41,
        first_recording=41,
    ),
    # As the paper has it, with 100 evaluations of each seed.
    "paper": ComparisonConfig(
        name="paper",
        recorded=tuple(Recorded(family, _QUARTERS) for family in _SMALL),
        methods=tuple(method for method in METHODS if method not in ("auto", "bco-mean")),
        seeds=10,
        preset="paper",
        rival_updates=1_000_000,
        rival_evaluations=100,
        transitions=1_000_000,
    ),
}


def comparison(name: str) -> ComparisonConfig:
    """Return a comparison by name.

    Raises:
        UserError: there is none of that name.
    """
    return by_name("preset", name, COMPARISONS)
