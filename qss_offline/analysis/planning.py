"""Imagined plans (Figure 8): s → C(s, τ(s)) → C(s', τ(s')) → …, without acting.

C sends a proposal through its value to a state that the data have shown to be reachable
(Algorithm 2). τ is the one that the policy acts on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qss_offline.algorithms.networks import Network
from qss_offline.algorithms.observational_d3g import cycle
from qss_offline.algorithms.qss import propose_next_obs, transition_value
from qss_offline.analysis.rollouts import roll_out
from qss_offline.evaluation.episodes import BatchPolicy
from qss_offline.evaluation.policies import ObservationScale
from qss_offline.statistics import bootstrap_interval, mean

Float32Array = NDArray[np.float32]
Settle = Callable[[Float32Array, Float32Array], NDArray[Any]]

# Each step's interval is one of many in a picture.
_RESAMPLES = 1_000


class Planner:
    """What offline D3G learned, for one seed, on NumPy arrays in the environment's units.

    Args:
        proposal: τ, one seed, `(1, P)`.
        critic: the pair of Q, one seed, `(1, 2, P)`.
        q_forward_model: f, one seed, `(1, P)`.
        scale: what observations go through.
    """

    def __init__(
        self,
        proposal: Network,
        critic: Network,
        q_forward_model: Network,
        scale: ObservationScale,
    ) -> None:
        self.proposal, self.critic, self.q_forward_model = proposal, critic, q_forward_model
        self.scale = scale

    @torch.no_grad()
    def propose(self, obs: NDArray[Any]) -> Float32Array:
        """s'_τ = s + τ(s): `(n, obs_dim)` to `(n, obs_dim)`."""
        return self._out(propose_next_obs(self.proposal, self._in(obs)))

    @torch.no_grad()
    def cycle(self, obs: NDArray[Any]) -> Float32Array:
        """s'_f = C(s, s + τ(s)): `(n, obs_dim)` to `(n, obs_dim)`."""
        scaled = self._in(obs)
        proposed = propose_next_obs(self.proposal, scaled)
        critic = self.critic.members[0]
        return self._out(cycle(critic, self.q_forward_model, scaled, proposed))

    @torch.no_grad()
    def value(self, obs: NDArray[Any], next_obs: NDArray[Any]) -> NDArray[np.float64]:
        """min_i Q_i(s, s'): two arrays `(n, obs_dim)` to `(n,)`."""
        values = transition_value(self.critic, self._in(obs), self._in(next_obs))
        return values.amin(dim=1).squeeze(0).numpy().astype(np.float64)

    def imagine(
        self, first: NDArray[Any], steps: int, settle: Settle | None = None
    ) -> Float32Array:
        """Imagine trajectories from real first observations.

        Args:
            first: `(n, obs_dim)`.
            steps: how far.
            settle: makes imagined observations agree with themselves (see `poses.py`).

        Returns:
            `(n, steps + 1, obs_dim)`, beginning with `first`.
        """
        trajectory = [np.asarray(first, np.float32)]
        for _ in range(steps):
            imagined = self.cycle(trajectory[-1])
            if settle is not None:
                imagined = np.asarray(settle(imagined, trajectory[0]), np.float32)
            trajectory.append(imagined)
        return np.stack(trajectory, axis=1)

    def _in(self, obs: NDArray[Any]) -> torch.Tensor:
        return self.scale.apply(torch.as_tensor(np.asarray(obs, np.float32))).unsqueeze(0)

    def _out(self, obs: torch.Tensor) -> Float32Array:
        return np.asarray(self.scale.invert(obs.squeeze(0)).numpy(), np.float32)


@dataclass(frozen=True)
class PlanDistances:
    """How far imagined trajectories are from what the simulator does under the policy.

    A distance is the root mean square over the dimensions of an observation, each in units of
    its standard deviation in the dataset. After an episode's end its last state stays.

    Attributes:
        mean: `(steps + 1,)`, over first states and seeds.
        low: `(steps + 1,)` bounds of 95% intervals over first states, stratified by seed.
        high: `(steps + 1,)` likewise.
        still: `(steps + 1,)` the same distance of a plan that stays in its first state.
        episodes: first states of each seed.
        seeds: how many.
    """

    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    still: tuple[float, ...]
    episodes: int
    seeds: int


def distances(left: NDArray[Any], right: NDArray[Any], std: NDArray[Any]) -> NDArray[np.float64]:
    """Root mean square over dimensions in units of `std`: two `(…, obs_dim)` to `(…)`."""
    scaled = (np.asarray(left, np.float64) - np.asarray(right, np.float64)) / std
    return np.asarray(np.sqrt(np.square(scaled).mean(axis=-1)), np.float64)


def plan_distances(
    seeds: list[tuple[Planner, BatchPolicy]],
    env_id: str,
    std: NDArray[Any],
    *,
    steps: int,
    episodes: int,
    settle: Settle | None = None,
) -> PlanDistances:
    """Compare imagined trajectories with the policy's, from the same fresh first states.

    Args:
        seeds: planner and policy of each seed.
        env_id: where the policies act.
        std: `(obs_dim,)` standard deviations of the dataset's observations.
        steps: of each trajectory.
        episodes: first states of each seed.
        settle: see `Planner.imagine`.
    """
    imagined_columns, still_columns = [], []
    for index, (planner, policy) in enumerate(seeds):
        real = roll_out(policy, env_id, episodes, steps, seed=index).observations
        imagined = planner.imagine(real[:, 0], steps, settle)
        imagined_columns.append(distances(imagined, real, std))
        still_columns.append(distances(real[:, :1], real, std))
    scores = np.stack(imagined_columns, axis=-1)  # (episodes, steps + 1, seeds)
    rng = np.random.default_rng(0)
    intervals = [
        bootstrap_interval(scores[:, step], rng, mean, resamples=_RESAMPLES)
        for step in range(steps + 1)
    ]
    return PlanDistances(
        tuple(one.estimate for one in intervals),
        tuple(one.low for one in intervals),
        tuple(one.high for one in intervals),
        tuple(np.mean(still_columns, axis=(0, 1)).tolist()),
        episodes,
        len(seeds),
    )
