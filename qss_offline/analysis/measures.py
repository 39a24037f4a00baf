"""What a trained run's own networks and recording say about it; no training, few episodes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from qss_offline.algorithms.inverse_dynamics import inverse_action, inverse_logits
from qss_offline.analysis.models import InverseModel
from qss_offline.analysis.planning import Planner
from qss_offline.analysis.rollouts import roll_out
from qss_offline.data.load import observation_statistics
from qss_offline.data.transitions import Transitions
from qss_offline.errors import UserError
from qss_offline.evaluation.policies import Policy
from qss_offline.runs.folder import SeedFolder
from qss_offline.training.interaction import online_steps_of

FloatArray = NDArray[np.float64]

_REFERENCE_ROWS, _QUERY_ROWS = 20_000, 2_000
_NEAR_QUANTILE = 0.99
_TAIL = 0.01
_MOST_STEPS = 600
_VALUED_STEPS = 100


@dataclass(frozen=True, eq=False)
class ValueAgainstReturn:
    """Values that a seed's Q promises, beside what the policy then got.

    Attributes:
        promised: `(n,)` min_i Q_i(s, C(s, s + τ(s))) at states that the policy came through.
        true: `(n,)` the discounted return that followed, past the time limit, until all that is
            left weighs less than 1%.
    """

    promised: FloatArray
    true: FloatArray

    @property
    def overestimation(self) -> float:
        """Mean of promised minus true."""
        return float(np.mean(self.promised - self.true))


def value_against_return(
    planner: Planner, policy: Policy, env_id: str, gamma: float, episodes: int = 10, seed: int = 0
) -> ValueAgainstReturn:
    """Compare Q with the returns of fresh episodes, at the first 100 states of each.

    Args:
        planner: holds Q, τ and f of a seed.
        policy: of the same seed.
        env_id: where it acts.
        gamma: discount of Q.
        episodes: how many.
        seed: of the episodes.

    Raises:
        UserError: the environment itself cuts episodes so early that nothing can be compared.
    """
    horizon = min(math.ceil(math.log(_TAIL) / math.log(gamma)) if gamma > 0 else 1, _MOST_STEPS)
    rollouts = roll_out(policy, env_id, episodes, _VALUED_STEPS + horizon, seed)
    returns = rollouts.returns_to_go(gamma)
    # What would have followed where the environment itself cut an episode isn't known.
    followed = rollouts.lengths - horizon * rollouts.cut
    chosen = np.arange(_VALUED_STEPS)[None] < followed[:, None]
    if not chosen.any():
        raise UserError(
            f"{env_id} cuts its episodes itself, before the {horizon} steps that values at γ = "
            f"{gamma:g} look ahead: returns can't be compared with them"
        )
    obs = rollouts.observations[:, :_VALUED_STEPS][chosen]
    return ValueAgainstReturn(
        planner.value(obs, planner.cycle(obs)), returns[:, :_VALUED_STEPS][chosen]
    )


@dataclass(frozen=True, eq=False)
class Coverage:
    """Where the recording has been and where the proposals lead.

    Distances are Euclidean in units of each dimension's standard deviation. A proposal is outside
    the recording when it is farther from its nearest recorded state than 99% of the recording's
    own states are from theirs.

    Attributes:
        recorded: `(n, 2)` recorded next states, on their first two principal axes.
        proposed: `(m, 2)` proposals s + τ(s) at recorded states.
        cycled_next_obs: `(m, 2)` C(s, s + τ(s)) at the same states.
        explained: share of the recording's variance on each of the two axes.
        proposed_outside: share of the proposals that are outside; of the recording itself 1% is.
    """

    recorded: FloatArray
    proposed: FloatArray
    cycled_next_obs: FloatArray
    explained: tuple[float, float]
    proposed_outside: float


def coverage(planner: Planner, transitions: Transitions) -> Coverage:
    """Compare what is proposed at recorded states with what was recorded.

    Args:
        planner: holds τ, Q and f of a seed.
        transitions: the recording.

    Raises:
        UserError: the training diverged.
    """
    rows = len(transitions)
    _, std = observation_statistics(transitions)
    rng = np.random.default_rng(0)
    queried = min(_QUERY_ROWS, rows // 2)
    drawn = rng.permutation(rows)[: queried + min(_REFERENCE_ROWS, rows - queried)]
    ask, known = np.sort(drawn[:queried]), np.sort(drawn[queried:])
    obs = transitions.observations[ask]
    own = transitions.next_observations[ask]
    proposed, cycled_next_obs = planner.propose(obs), planner.cycle(obs)
    if not (np.isfinite(proposed).all() and np.isfinite(cycled_next_obs).all()):
        raise UserError("proposals are no longer finite: the training diverged")
    recorded = np.asarray(transitions.next_observations[known] / std, np.float64)
    tree = cKDTree(recorded)

    def away(states: NDArray[Any]) -> FloatArray:
        found, _ = tree.query(states / std)
        return np.asarray(found, np.float64)

    limit = float(np.quantile(away(own), _NEAR_QUANTILE))
    center = recorded.mean(axis=0)
    _, sizes, axes = np.linalg.svd(recorded - center, full_matrices=False)
    axes = axes[:2] if len(axes) > 1 else np.vstack((axes, np.zeros_like(axes)))
    shares = np.append(np.square(sizes) / max(float(np.square(sizes).sum()), 1e-30), 0.0)

    def plane(states: NDArray[Any]) -> FloatArray:
        return np.asarray((states / std - center) @ axes.T, np.float64)

    return Coverage(
        (recorded - center) @ axes.T,
        plane(proposed),
        plane(cycled_next_obs),
        (float(shares[0]), float(shares[1])),
        float((away(proposed) > limit).mean()),
    )


@dataclass(frozen=True)
class Gain:
    """What there is to gain by a step, beside the values themselves (docs/method.md).

    Attributes:
        value: mean of |min_i Q_i(s, s')| at recorded steps.
        gap: mean of |min_i Q_i(s, s'_f) − min_i Q_i(s, s')| there, s'_f = C(s, s + τ(s)).
    """

    value: float
    gap: float

    @property
    def ratio(self) -> float:
        """How many times the gap the values are."""
        return self.value / max(self.gap, 1e-12)


def gain(planner: Planner, transitions: Transitions) -> Gain:
    """Compare the values of recorded steps with what proposals change them by.

    Args:
        planner: holds τ, Q and f of a seed.
        transitions: the recording.
    """
    drawn = np.random.default_rng(0).permutation(len(transitions))[:_QUERY_ROWS]
    rows = np.sort(drawn)
    obs, next_obs = transitions.observations[rows], transitions.next_observations[rows]
    values = planner.value(obs, next_obs)
    gaps = np.abs(planner.value(obs, planner.cycle(obs)) - values)
    return Gain(float(np.abs(values).mean()), float(gaps.mean()))


@torch.no_grad()
def inverse_fit(model: InverseModel, folder: SeedFolder) -> float:
    """Return R² of an inverse model's actions on the online steps that its seed took.

    Of discrete actions it is that of their probabilities.

    Raises:
        UserError: the checkpoint of the inverse fit can't be read.
    """
    steps, scale = online_steps_of(folder), model.scale
    obs, next_obs, actions = map(torch.from_numpy, (steps.obs, steps.next_obs, steps.actions))
    arguments = (
        model.network,
        scale.apply(obs).unsqueeze(0),
        scale.apply(next_obs).unsqueeze(0),
        scale.step_std if model.step_inputs else None,
    )
    said = inverse_logits(*arguments).softmax(-1) if model.discrete else inverse_action(*arguments)
    said = said.squeeze(0)
    error_sum = (said - actions).square().sum()
    spread = (actions - actions.mean(dim=0)).square().sum()
    return float(1.0 - error_sum / spread.clamp_min(1e-12))
