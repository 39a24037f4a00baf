"""What is trained side by side and raced where the method is chosen by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

from qss_offline.algorithms.bco import CloningConfig
from qss_offline.algorithms.observational_d3g import ObservationalD3GConfig
from qss_offline.algorithms.td3_bc import TD3BCConfig
from qss_offline.algorithms.validation import check_positive
from qss_offline.runs.work import CLONING_UPDATE, VALUED_UPDATE

D3G, NEAR, BETTER = "d3g", "d3g-near", "d3g-better"
VALUES, CLONING = "td3+bc-labels", "bco"

PROPOSING = (D3G, NEAR, BETTER)
"""Members that learn offline which next states to aim for."""

MEMBERS = (*PROPOSING, VALUES, CLONING)
"""All members; of equals the earlier one wins."""

_CLONING_UPDATES, _VALUES_UPDATES = 3_000, 8_000
"""In each round."""


@dataclass(frozen=True)
class PortfolioConfig:
    """Settings of the members beside D3G, whose are the preset's.

    Attributes:
        near: D3G held near all recorded next states.
        better: D3G held near the better ones of them.
        cloning: BCO's policy.
        cloning_updates: its updates in a round.
        values: TD3+BC on the IDM's labels.
        values_updates: its updates in a round.
    """

    near: ObservationalD3GConfig
    better: ObservationalD3GConfig
    cloning: CloningConfig
    cloning_updates: int
    values: TD3BCConfig
    values_updates: int

    def __post_init__(self) -> None:
        """Refuse a round without updates."""
        check_positive(self, "cloning_updates", "values_updates")

    def with_power(self, power: float) -> PortfolioConfig:
        """Return the settings with a power of errors where the recording is to decide it."""
        near, cloning = self.near, self.cloning
        if near.behaviour_power is None:
            near = replace(near, behaviour_power=power)
        if cloning.error_power is None:
            cloning = replace(cloning, error_power=power)
        return replace(self, near=near, cloning=cloning)

    def without_power(self, measured: float) -> PortfolioConfig:
        """Undo `with_power`."""
        near, cloning = self.near, self.cloning
        if near.behaviour_power == measured:
            near = replace(near, behaviour_power=None)
        if cloning.error_power == measured:
            cloning = replace(cloning, error_power=None)
        return replace(self, near=near, cloning=cloning)

    @property
    def round_work(self) -> float:
        """Work of the members that learn from labels, in a round (`runs/work.py`)."""
        return self.cloning_updates * CLONING_UPDATE + self.values_updates * VALUED_UPDATE


def portfolio_beside(d3g: ObservationalD3GConfig, share: float = 1.0) -> PortfolioConfig:
    """Return the members that are raced beside D3G, with networks of its sizes.

    Args:
        d3g: settings of D3G.
        share: of the usual updates of those that learn from labels.
    """
    # Both keep to what was recorded, and weigh values by what there is to gain.
    near = replace(
        d3g, gap_units=True, behaviour_coef=1000.0, behaviour_weights="plain", behaviour_power=None
    )
    better = replace(near, behaviour_coef=10.0, behaviour_weights="advantage", behaviour_power=2.0)
    sizes = d3g.hidden_dims, d3g.batch_size, d3g.learning_rate
    return PortfolioConfig(
        near,
        better,
        CloningConfig(*sizes, error_power=None),
        max(1, round(share * _CLONING_UPDATES)),
        TD3BCConfig(*sizes),
        max(1, round(share * _VALUES_UPDATES)),
    )
