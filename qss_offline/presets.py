"""Named settings of offline D3G and of the inverse fit that follows it, for each method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from qss_offline.algorithms.inverse_dynamics import InverseDynamicsConfig
from qss_offline.algorithms.observational_d3g import ObservationalD3GConfig
from qss_offline.data.facts import MEAN_POWER
from qss_offline.errors import UserError, by_name
from qss_offline.runs.config import METHODS, Method, Preset
from qss_offline.runs.inverse_config import InverseFitConfig

_D3G = Preset(
    ObservationalD3GConfig(
        hidden_dims=(128, 128),
        batch_size=128,
        learning_rate=1e-3,
        gamma=0.97,
        polyak_step_size=0.01,
        cycle_coef=30.0,
        normalize_observations=True,
        clamp_targets=True,
        proposal_average_step_size=1e-3,
        learning_rate_decay=0.5,
        twin_pessimism=0.5,
    ),
    InverseFitConfig(
        model=InverseDynamicsConfig(
            hidden_dims=(128, 128),
            batch_size=128,
            learning_rate=1e-3,
            step_inputs=True,
            average_step_size=1e-2,
            form="either",
        ),
    ),
    updates=30_000,
    ensemble=3,
)

# The IDM learns from the recording, too, where it says something of actions: a few online steps end
# where a robot falls, which isn't where policies lead. In many short rounds each gets a little
# further. Labels are as exact as the steps near them allow.
_BCO = replace(
    _D3G,
    inverse=replace(
        _D3G.inverse,
        rounds=10,
        steps_per_round=300,
        updates_per_round=1_800,
        model=replace(
            _D3G.inverse.model, form="network", recorded_coef=None, corrected_labels=True
        ),
    ),
    updates=15_000,
    ensemble=1,
)

_AUTO = replace(_D3G, inverse=_BCO.inverse)

# The authors' settings; nothing is added but a random first round of online steps.
_PAPER = Preset(
    ObservationalD3GConfig(),
    InverseFitConfig(rounds=100, updates_per_round=10_000),
    updates=1_000_000,
)

PRESETS: Mapping[str, Mapping[Method, Preset]] = {
    # What two cores do in minutes. Each departure is named in the two configurations.
    "default": {"auto": _AUTO, "d3g": _D3G, "bco": _BCO},
    # One training of D3G, to see how things go.
    "quick": {"d3g": replace(_D3G, ensemble=1)},
    "paper": {"d3g": _PAPER, "bco": _PAPER},
}
"""Presets by name, each for some methods, its own first."""


def own_power(name: str) -> float | None:
    """Return the power of BCO's errors in a preset; None lets the recording decide.

    Args:
        name: of the preset.
    """
    # As published, whatever was recorded.
    return MEAN_POWER if name == "paper" else None


def preset(name: str, method: Method | None = None) -> Preset:
    """Return a preset.

    Args:
        name: of the preset.
        method: whose settings; None is the preset's own method.

    Raises:
        UserError: there is none of that name, or not for the method.
    """
    found = by_name("preset", name, PRESETS)
    chosen = own_method(name) if method is None else method
    if chosen not in found:
        raise UserError(
            f"preset {name} doesn't apply to method {chosen}, but to {' and '.join(found)}"
        )
    return found[chosen]


def named_method(name: str) -> Method:
    """Return a method by name.

    Raises:
        UserError: there is none of that name.
    """
    return by_name("method", name, {method: method for method in METHODS})


def own_method(name: str) -> Method:
    """Return the method that a preset is for where none is asked for.

    Raises:
        UserError: there is no preset of that name.
    """
    return next(iter(by_name("preset", name, PRESETS)))


def preset_of(preset_name: str, method: Method) -> Preset | None:
    """Return the preset that a run began with, None where it is unknown here.

    Args:
        preset_name: as results have it, with what was changed.
        method: of the run.
    """
    return PRESETS.get(preset_name.partition(" with ")[0], {}).get(method)
