"""Named settings of offline D3G and of the inverse fit that follows it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from qss_offline.algorithms.inverse_dynamics import InverseDynamicsConfig
from qss_offline.algorithms.observational_d3g import ObservationalD3GConfig
from qss_offline.algorithms.validation import check_positive
from qss_offline.errors import UserError, nearest
from qss_offline.runs.inverse_config import InverseFitConfig


@dataclass(frozen=True)
class Preset:
    """Settings of a whole run.

    Attributes:
        algorithm: offline D3G.
        inverse: the inverse fit.
        updates: updates of offline D3G, of each of an ensemble.
        ensemble: a departure: how many times Q, τ and f of a seed are trained, apart from each
            other; the policy heads for the mean of what the τ propose.
    """

    algorithm: ObservationalD3GConfig
    inverse: InverseFitConfig
    updates: int
    ensemble: int = 1

    def __post_init__(self) -> None:
        """Refuse a run without updates."""
        check_positive(self, "updates", "ensemble")

    @property
    def offline_updates(self) -> int:
        """Updates of a seed's whole ensemble."""
        return self.updates * self.ensemble

    def spend(
        self, updates: int | None, online_steps: int | None, online_rounds: int | None
    ) -> Preset:
        """Return the preset with other budgets; None keeps the preset's.

        Args:
            updates: of offline D3G.
            online_steps: environment steps in all, a multiple of the rounds.
            online_rounds: rounds of the inverse fit.

        Raises:
            UserError: a budget is not above 0, or the steps can't be spread over the rounds.
        """
        inverse = self.inverse
        if online_rounds is not None:
            # Refuses rounds that are not above 0 before anything is divided by them.
            inverse = replace(inverse, rounds=online_rounds)
        if online_steps is not None:
            if online_steps % inverse.rounds:
                raise UserError(
                    f"{online_steps} online steps can't be spread evenly over {inverse.rounds} "
                    "rounds; choose a multiple, or other --online-rounds"
                )
            inverse = replace(inverse, steps_per_round=online_steps // inverse.rounds)
        return replace(self, inverse=inverse, updates=self.updates if updates is None else updates)


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

PRESETS = {
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
    # For bodies that fall when a step is a little wrong: values are large beside what there is to
    # gain, so both terms of Eq. 12 are weighed by the gap, and proposals are held close to recorded
    # steps, all alike, for values of a few steps ahead choose among them badly; where the recording
    # holds chance not to their mean but towards their mode, so that chance doesn't pull. Where
    # behaviour is all chance there is no use in that. I learns from the recording, too, for the few
    # online steps end where a body falls, and in many short rounds, each of which gets a little
    # further.
    "bodies": _BODIES,
    # For bodies that run and can't fall for good: there values choose well among recorded steps, so
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
    if name not in PRESETS:
        known = ", ".join(PRESETS)
        raise UserError(f"unknown preset {name!r}: there are {known}{nearest(name, PRESETS)}")
    return PRESETS[name]
