"""What is trained side by side and raced where the method is chosen by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

from qss_offline.algorithms.bco import CloningConfig
from qss_offline.algorithms.observational_d3g import ObservationalD3GConfig
from qss_offline.algorithms.td3_bc import TD3BCConfig
from qss_offline.algorithms.validation import check_positive
from qss_offline.runs.work import CLONING_UPDATE, VALUED_UPDATE

D3G, VALUES, CLONING = "d3g", "td3+bc-labels", "bco"

MEMBERS = (D3G, VALUES, CLONING)
"""All members; the last acts first, and of equals the first wins."""

LEAST_ROUNDS = len(MEMBERS) + 2
"""One at random, one of each member, one of whoever leads."""

_CLONING_UPDATES, _VALUES_UPDATES = 1_500, 4_000
"""In each round."""


@dataclass(frozen=True)
class PortfolioConfig:
    """Settings of the members beside D3G, whose are the preset's.

    Attributes:
        cloning: BCO's policy.
        cloning_updates: its updates in a round.
        values: TD3+BC on the IDM's labels.
        values_updates: its updates in a round.
    """

    cloning: CloningConfig
    cloning_updates: int
    values: TD3BCConfig
    values_updates: int

    def __post_init__(self) -> None:
        """Refuse a round without updates."""
        check_positive(self, "cloning_updates", "values_updates")

    def with_power(self, power: float) -> PortfolioConfig:
        """Return the settings with a power of errors where the recording is to decide it."""
        if self.cloning.error_power is not None:
            return self
        return replace(self, cloning=replace(self.cloning, error_power=power))

    def without_power(self, measured: float) -> PortfolioConfig:
        """Undo `with_power`."""
        if self.cloning.error_power != measured:
            return self
        return replace(self, cloning=replace(self.cloning, error_power=None))

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
    sizes = d3g.hidden_dims, d3g.batch_size, d3g.learning_rate
    return PortfolioConfig(
        CloningConfig(*sizes, error_power=None),
        max(1, round(share * _CLONING_UPDATES)),
        TD3BCConfig(*sizes),
        max(1, round(share * _VALUES_UPDATES)),
    )
