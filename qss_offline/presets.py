"""Named settings of offline D3G and of the inverse fit that follows it."""

from __future__ import annotations

from dataclasses import replace

from qss_offline.algorithms.inverse_dynamics import InverseDynamicsConfig
from qss_offline.algorithms.observational_d3g import ObservationalD3GConfig
from qss_offline.errors import by_name
from qss_offline.runs.config import Preset
from qss_offline.runs.inverse_config import InverseFitConfig

_DEFAULT = Preset(
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

_BODIES = replace(
    _DEFAULT,
    algorithm=replace(
        _DEFAULT.algorithm,
        gap_units=True,
        behaviour_coef=1000.0,
        behaviour_weights="plain",
        behaviour_power=None,
    ),
    inverse=replace(
        _DEFAULT.inverse,
        rounds=10,
        steps_per_round=300,
        updates_per_round=1_800,
        model=replace(_DEFAULT.inverse.model, form="network", recorded_coef=1.0),
    ),
    ensemble=1,
)

_AUTO = replace(
    _DEFAULT,
    inverse=replace(_BODIES.inverse, rounds=5, steps_per_round=600, updates_per_round=3_600),
)

PRESETS = {
    # Several methods, and those of them that return most on the online steps.
    "auto": _AUTO,
    # The authors' setting; nothing is added but a random first round of online steps.
    "paper": Preset(
        ObservationalD3GConfig(),
        InverseFitConfig(rounds=100, updates_per_round=10_000),
        updates=1_000_000,
    ),
    # What two cores do in minutes. Each departure is named in the two configurations.
    "default": _DEFAULT,
    # One training with γ short beside the paper's 0.99. Table 1 is measured with it.
    "short-horizon": replace(
        _DEFAULT,
        algorithm=replace(
            _DEFAULT.algorithm, gamma=0.95, twin_pessimism=1.0, learning_rate_decay=0.0
        ),
        inverse=replace(_DEFAULT.inverse, model=replace(_DEFAULT.inverse.model, form="network")),
        updates=40_000,
        ensemble=1,
    ),
    # For environments where the robot falls when a step is a little wrong. Values are large beside
    # what there is to gain, so both terms of Eq. 12 are weighed by the gap. Values of a few steps
    # ahead choose badly among recorded steps, so proposals are held close to all of them alike:
    # where behaviour is stochastic towards their mode, so that random actions don't pull; where all
    # actions are random there is no use in that. The inverse dynamics model learns from the
    # recording, too, for the few online steps end where the robot falls, and in many short rounds,
    # each of which gets a little further.
    "bodies": _BODIES,
    # For environments without early termination. There values choose well among recorded steps, so
    # proposals are held less close to them, to their mean, and to the better ones first.
    "runners": replace(
        _BODIES,
        algorithm=replace(
            _BODIES.algorithm,
            behaviour_coef=10.0,
            behaviour_weights="advantage",
            behaviour_power=2.0,
        ),
        inverse=replace(_BODIES.inverse, rounds=3, steps_per_round=1_000, updates_per_round=6_000),
    ),
}


def preset(name: str) -> Preset:
    """Return a preset by name.

    Raises:
        UserError: there is none of that name.
    """
    return by_name("preset", name, PRESETS)
