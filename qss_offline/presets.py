"""Named settings of offline D3G and of the inverse fit that follows it."""

from __future__ import annotations

from dataclasses import dataclass

from qss_offline.algorithms.inverse_dynamics import InverseDynamicsConfig
from qss_offline.algorithms.observational_d3g import ObservationalD3GConfig
from qss_offline.errors import UserError, nearest
from qss_offline.inverse_fitting import InverseFitConfig


@dataclass(frozen=True)
class Preset:
    """Settings of a whole run.

    Attributes:
        algorithm: offline D3G.
        inverse: the inverse fit.
        updates: updates of offline D3G.
    """

    algorithm: ObservationalD3GConfig
    inverse: InverseFitConfig
    updates: int


PRESETS = {
    # The authors' setting; nothing is added but a random first round of online steps.
    "paper": Preset(
        ObservationalD3GConfig(),
        InverseFitConfig(rounds=100, updates_per_round=10_000),
        updates=1_000_000,
    ),
    # What two cores do in minutes. Each departure is named in the two configurations.
    "default": Preset(
        ObservationalD3GConfig(
            hidden_dims=(128, 128),
            batch_size=128,
            gamma=0.95,
            cycle_coef=30.0,
            normalize_observations=True,
            clamp_targets=True,
            proposal_average_step_size=1e-3,
        ),
        InverseFitConfig(
            model=InverseDynamicsConfig(
                hidden_dims=(128, 128),
                batch_size=128,
                learning_rate=1e-3,
                step_inputs=True,
                average_step_size=1e-2,
            ),
        ),
        updates=50_000,
    ),
}


def preset(name: str) -> Preset:
    """Return a preset by name.

    Raises:
        UserError: there is none of that name.
    """
    if name not in PRESETS:
        known = ", ".join(PRESETS)
        raise UserError(f"unknown preset {name!r}: there are {known}{nearest(name, PRESETS)}")
    return PRESETS[name]
