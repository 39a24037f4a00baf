"""What is measured of a recording, once, before training.

Every worker and every resumed run reads these numbers from the run's `config.json`, so that all
train on the same loss, whatever a later version would measure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qss_offline.data.load import observation_statistics
from qss_offline.data.stochasticity import STOCHASTIC_FROM, behaviour_stochasticity
from qss_offline.data.transitions import Transitions
from qss_offline.errors import UserError
from qss_offline.settings_json import from_plain

Float32Array: TypeAlias = NDArray[np.float32]

MEAN_POWER, MODE_POWER = 2.0, 0.5

_SCAN_ROWS = 1 << 18


@dataclass(frozen=True)
class RecordingFacts:
    """Numbers about a recording that training depends on.

    Attributes:
        observation_mean: `(obs_dim,)`, what observations are shifted by; 0 where they are taken as
            they are.
        observation_std: `(obs_dim,)`, what they are scaled by; 1 likewise.
        step_std: `(obs_dim,)`, spread of s' − s in scaled units; 1 where a dimension never moves.
        reward_low: the least reward.
        reward_high: the greatest reward.
        behaviour_stochasticity: see `data/stochasticity.py`; None where a recording is too small.
        error_power: the power of errors against recorded behaviour that the recording asks for, see
            `power_of`.
    """

    observation_mean: tuple[float, ...]
    observation_std: tuple[float, ...]
    step_std: tuple[float, ...]
    reward_low: float
    reward_high: float
    behaviour_stochasticity: float | None
    error_power: float

    def __post_init__(self) -> None:
        """Refuse numbers of different sizes, and spreads that nothing can be divided by.

        Raises:
            UserError: they are.
        """
        names = ("observation_mean", "observation_std", "step_std")
        sizes = {name: len(getattr(self, name)) for name in names}
        if len(set(sizes.values())) != 1 or not sizes["step_std"]:
            raise UserError(f"a recording's facts are of different sizes: {sizes}")
        if min(*self.observation_std, *self.step_std) <= 0:
            raise UserError("a recording's spreads must be above 0")

    @property
    def deterministic(self) -> bool:
        """Whether behaviour was a function of the state, as was decided when it was measured."""
        return self.error_power == MEAN_POWER

    @property
    def recorded_coef(self) -> float:
        """What an IDM's learning from recorded steps weighs beside that from its own.

        Where the next state follows from the state, recorded steps say nothing of actions, and
        codes in their place are arbitrary (`algorithms/semi_supervised_inverse.py`): it learns from
        its own steps alone.
        """
        return 0.0 if self.deterministic else 1.0

    def eased(self) -> RecordingFacts:
        """Return the same in the units of `eased_spread`, for what repeats a recording.

        Where some actions are random, or may be, no dimension is held still: nothing changes.
        """
        if not self.deterministic:
            return self
        std = np.array(self.observation_std, np.float32)
        eased = eased_spread(std)
        step = np.array(self.step_std, np.float32) * std / eased
        return replace(self, observation_std=tuple(eased.tolist()), step_std=tuple(step.tolist()))

    def value_limits(self, gamma: float) -> tuple[float, float]:
        """Return the least and greatest discounted return that the recorded rewards allow."""
        return min(self.reward_low, 0.0) / (1 - gamma), max(self.reward_high, 0.0) / (1 - gamma)


def eased_spread(std: Float32Array) -> Float32Array:
    """Return what observations are divided by where their spreads are evened out by half.

    Where a controller holds a dimension still, what is left of it is small and follows from the
    rest; stretched to the size of others it is noise that a regression answers. So in terms of
    logarithms each spread stays half of what it is: the square root of it and of their mean, which
    leaves the mean square over all dimensions at 1, in whatever unit.

    Args:
        std: `(obs_dim,)` spreads; 1 where a dimension never moves, or none is scaled.
    """
    moving = std != 1
    if not moving.any():
        return std
    return np.where(moving, np.sqrt(std * std[moving].mean()), std).astype(np.float32)


def power_of(share: float | None) -> float:
    """Return the power of errors against recorded behaviour at a behaviour stochasticity.

    Where some actions are random, the mean that a squared error asks for lies beside what the
    controller does, and a low power asks for the mode (`algorithms/bco.py`). Where none is, there
    is nothing to leave out, and a low power weights the worst fitted states least, which are those
    in which a robot falls. Where it is unknown, random actions aren't ruled out.
    """
    return MEAN_POWER if share is not None and share < STOCHASTIC_FROM else MODE_POWER


def recording_facts(transitions: Transitions, normalize: bool) -> RecordingFacts:
    """Measure a recording.

    Args:
        transitions: the recording.
        normalize: whether networks see observations in units of their spread.
    """
    share = behaviour_stochasticity(transitions)
    mean, std, step_std = observation_spread(transitions, normalize)
    return RecordingFacts(
        tuple(mean.tolist()),
        tuple(std.tolist()),
        tuple(step_std.tolist()),
        float(transitions.rewards.min()),
        float(transitions.rewards.max()),
        share,
        power_of(share),
    )


def facts_of_config(config: Mapping[str, Any], where: str) -> RecordingFacts:
    """Read what a run measured of its recording from its `config.json`.

    Args:
        config: what the file holds.
        where: the run, for a refusal.

    Raises:
        UserError: it is of another version, or damaged.
    """
    if "recording" not in config:
        raise UserError(
            f"{where} is of another version: it lacks what was measured of its recording"
        )
    return from_plain(RecordingFacts, config["recording"], f"{where}: recording")


def observation_spread(
    transitions: Transitions, normalize: bool
) -> tuple[Float32Array, Float32Array, Float32Array]:
    """Measure what observations are shifted and scaled by, and the spread of a step.

    Args:
        transitions: a dataset.
        normalize: off leaves observations as they are; the step's spread is measured all the same.

    Returns:
        Mean and standard deviation of observations, and that of s' − s in scaled units,
        `(obs_dim,)` each.
    """
    dim = transitions.obs_dim
    mean, std = np.zeros(dim, np.float32), np.ones(dim, np.float32)
    if normalize:
        mean, std = observation_statistics(transitions)
    total, squares = np.zeros(dim), np.zeros(dim)
    for start in range(0, len(transitions), _SCAN_ROWS):
        rows = slice(start, start + _SCAN_ROWS)
        step = (transitions.next_observations[rows] - transitions.observations[rows]) / std
        total += step.sum(0, dtype=np.float64)
        squares += np.square(step, dtype=np.float64).sum(0)
    variance = squares / len(transitions) - (total / len(transitions)) ** 2
    # A dimension that never moves (Reacher's target) gets the scale 1: its step is 0 anyway.
    step_std = np.sqrt(np.maximum(variance, 0.0))
    step_std[step_std < 1e-6] = 1.0
    return mean, std, step_std.astype(np.float32)


def stochasticity_line(facts: RecordingFacts, power: float) -> str:
    """Return a recording's behaviour stochasticity, and what BCO learns from it, as a line.

    Args:
        facts: what was measured of the recording.
        power: of errors against labels.
    """
    share = facts.behaviour_stochasticity
    measured = "can't be measured" if share is None else f"{share:.1%} of the variance of its steps"
    which = {MEAN_POWER: "the mean", MODE_POWER: "the mode"}.get(power, f"the power {power:g}")
    return f"behaviour stochasticity: {measured}; the policy held to {which} of what was done"
