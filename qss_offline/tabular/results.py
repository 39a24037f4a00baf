"""What the experiments return: raw arrays, the tables to save, and the findings to quote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qss_offline.statistics import mean_band
from qss_offline.tabular.lockstep import Curves
from qss_offline.tabular.mdp import BoolArray, FloatArray, IntArray

Columns = Mapping[str, NDArray[Any]]
"""A table to save: equally long columns by name."""


@dataclass(frozen=True)
class EquivalenceResult:
    """Figure 2: learned values of K seeds in P evaluations, and the exact ones.

    Attributes:
        seeds: K of them.
        steps: `(P,)`.
        qsa_values: `(P, K, S)`, max_a Q(s, a).
        qss_values: `(P, K, S)`, max_{s'∈N(s)} Q(s, s').
        exact_qsa_values: `(S,)`, by value iteration.
        exact_qss_values: `(S,)`, by value iteration.
        terminal: `(S,)`; the value of a terminal state is 0.
    """

    seeds: tuple[int, ...]
    steps: IntArray
    qsa_values: FloatArray
    qss_values: FloatArray
    exact_qsa_values: FloatArray
    exact_qss_values: FloatArray
    terminal: BoolArray

    @property
    def fractional_difference(self) -> FloatArray:
        """Return |max Q(s, s') − max Q(s, a)| / |max Q(s, a)| `(P, K, S)`, 0 at the goal."""
        scale = np.where(self.terminal, 1.0, np.abs(self.qsa_values))
        return np.abs(self.qss_values - self.qsa_values) / scale

    @property
    def theorem_gap(self) -> float:
        """Return the largest difference of the exact values; by Theorem 2.2.1 there is none."""
        return float(np.abs(self.exact_qss_values - self.exact_qsa_values).max())

    def tables(self) -> dict[str, Columns]:
        """Return the last learned values, and the fractional difference over time."""
        difference = self.fractional_difference
        return {
            "values": {
                **_axes(seed=self.seeds, state=np.arange(len(self.terminal))),
                "qsa": self.qsa_values[-1].ravel(),
                "qss": self.qss_values[-1].ravel(),
                "exact": np.tile(self.exact_qsa_values, len(self.seeds)),
            },
            "difference": {
                **_axes(step=self.steps, seed=self.seeds),
                "mean": difference.mean(axis=2).ravel(),
                "largest": difference.max(axis=2).ravel(),
            },
        }

    def findings(self) -> dict[str, Any]:
        """Return how far the two are apart, learned and exactly."""
        errors = {"QSA": self.qsa_values[-1], "QSS": self.qss_values[-1]}
        return {
            "theorem_gap_by_value_iteration": self.theorem_gap,
            "largest_error_of_learned_values": {
                name: float(np.abs(values - self.exact_qsa_values).max())
                for name, values in errors.items()
            },
            "largest_fractional_difference": {
                str(step): float(difference.max())
                for step, difference in zip(self.steps, self.fractional_difference, strict=True)
            },
        }


@dataclass(frozen=True)
class StochasticResult:
    """Figure 3: learned values of K seeds at each of W slips, and exact ones at E slips.

    Attributes:
        seeds: K of them.
        slips: `(W,)`.
        qsa_values: `(W, K, S)`.
        qss_values: `(W, K, S)`.
        qsa_returns: `(W, K)`, mean return of the last evaluation's greedy episodes.
        qss_returns: `(W, K)`.
        exact_slips: `(E,)`.
        exact_distances: `(E,)`, between the values by value iteration.
    """

    seeds: tuple[int, ...]
    slips: FloatArray
    qsa_values: FloatArray
    qss_values: FloatArray
    qsa_returns: FloatArray
    qss_returns: FloatArray
    exact_slips: FloatArray
    exact_distances: FloatArray

    @property
    def distances(self) -> FloatArray:
        """Return the Euclidean distance over all states `(W, K)` between the learned values."""
        return np.asarray(np.linalg.norm(self.qss_values - self.qsa_values, axis=2))

    def tables(self) -> dict[str, Columns]:
        """Return distances and returns, the drawn values, and the exact distances."""
        drawn = [0, len(self.slips) - 1]
        states = np.arange(self.qsa_values.shape[2])
        return {
            "distance": {
                **_axes(slip=self.slips, seed=self.seeds),
                "distance": self.distances.ravel(),
                "qsa_return": self.qsa_returns.ravel(),
                "qss_return": self.qss_returns.ravel(),
            },
            "exact": {"slip": self.exact_slips, "distance": self.exact_distances},
            "values": {
                **_axes(slip=self.slips[drawn], seed=self.seeds, state=states),
                "qsa": self.qsa_values[drawn].ravel(),
                "qss": self.qss_values[drawn].ravel(),
            },
        }

    def findings(self) -> dict[str, Any]:
        """Return distances, values of the start and returns at each slip."""
        exact = np.interp(self.slips, self.exact_slips, self.exact_distances)
        return {
            f"slip {slip:.0%}": {
                "distance": _quoted(self.distances[world]),
                "exact_distance": float(exact[world]),
                "qsa_value_of_start": _quoted(self.qsa_values[world, :, 0]),
                "qss_value_of_start": _quoted(self.qss_values[world, :, 0]),
                "qsa_return": _quoted(self.qsa_returns[world]),
                "qss_return": _quoted(self.qss_returns[world]),
                # The goal, which is the last state, is worth 0 to both.
                "smallest_overestimation": float(
                    (self.qss_values[world] - self.qsa_values[world])[:, :-1].min()
                ),
            }
            for world, slip in enumerate(self.slips.tolist())
        }


@dataclass(frozen=True)
class RedundantResult:
    """Figure 4 a to c: for each learner, curves whose W worlds have more and more copies.

    Attributes:
        seeds: K of them.
        copies: `(W,)`.
        curves: by learner.
    """

    seeds: tuple[int, ...]
    copies: IntArray
    curves: Mapping[str, Curves]

    def tables(self) -> dict[str, Columns]:
        """Return every return of every seed."""
        names = list(self.curves)
        steps = self.curves[names[0]].steps
        return {
            "curves": {
                **_axes(learner=names, step=steps, copies=self.copies, seed=self.seeds),
                **_raw(self.curves),
            }
        }

    def findings(self) -> dict[str, Any]:
        """Return what each learner made of each number of copies."""
        return {
            name: {
                f"{copies} copies": _quoted_curve(curves, world)
                for world, copies in enumerate(self.copies.tolist())
            }
            for name, curves in self.curves.items()
        }


@dataclass(frozen=True)
class PermutedResult:
    """Figure 4 d: curves in the one permuted world (W = 1).

    Attributes:
        seeds: K of them.
        curves: by learner and what it begins with.
    """

    seeds: tuple[int, ...]
    curves: Mapping[str, Curves]

    def tables(self) -> dict[str, Columns]:
        """Return every return of every seed."""
        return {"curves": _single_world(self.curves, self.seeds)}

    def findings(self) -> dict[str, Any]:
        """Return what each of them made of the new world."""
        return {name: _quoted_curve(curves, 0) for name, curves in self.curves.items()}


@dataclass(frozen=True)
class CliffResult:
    """The windy cliff: curves (W = 1), and what the learners believe at the end.

    Attributes:
        seeds: K of them.
        size: columns of the world, which has one row more: the abyss.
        curves: by learner.
        final_returns: by learner, `(K,)`, the exact expected return of the last greedy policy.
        believed_values: by learner, `(K,)`, the learned value of the start.
        exact_values: by learner, the value of the start by value iteration.
        routes: by learner and seed, the states that the greedy policy means to pass through.
    """

    seeds: tuple[int, ...]
    size: int
    curves: Mapping[str, Curves]
    final_returns: Mapping[str, FloatArray]
    believed_values: Mapping[str, FloatArray]
    exact_values: Mapping[str, float]
    routes: Mapping[str, tuple[tuple[int, ...], ...]]

    def tables(self) -> dict[str, Columns]:
        """Return every return of every seed, and each seed's last policy."""
        names = list(self.curves)
        return {
            "curves": _single_world(self.curves, self.seeds),
            "policies": {
                **_axes(learner=names, seed=self.seeds),
                "expected_return": np.concatenate([self.final_returns[name] for name in names]),
                "believed_value": np.concatenate([self.believed_values[name] for name in names]),
                "route": np.array(
                    [" ".join(map(str, route)) for name in names for route in self.routes[name]]
                ),
            },
        }

    def findings(self) -> dict[str, Any]:
        """Return what each learner believes, and what it gets."""
        return {
            name: {
                "return_averaged_over_the_run": _quoted(curves.returns[:, 0].mean(axis=0)),
                "episodes": _quoted(curves.episodes[-1, 0].astype(np.float64)),
                "expected_return_of_last_policy": _quoted(self.final_returns[name]),
                "learned_value_of_start": _quoted(self.believed_values[name]),
                "exact_value_of_start": self.exact_values[name],
            }
            for name, curves in self.curves.items()
        }


Result = EquivalenceResult | StochasticResult | RedundantResult | PermutedResult | CliffResult


def _axes(**axes: ArrayLike) -> dict[str, NDArray[Any]]:
    """Return a column for each axis of an array, as long as the array would be when flattened."""
    grids = np.meshgrid(*(np.asarray(axis) for axis in axes.values()), indexing="ij")
    return {name: grid.ravel() for name, grid in zip(axes, grids, strict=True)}


def _raw(curves: Mapping[str, Curves]) -> dict[str, NDArray[Any]]:
    """Return episodes and returns, flattened from `(curves, P, W, K)`."""
    return {
        "episodes": np.stack([curve.episodes for curve in curves.values()]).ravel(),
        "return": np.stack([curve.returns for curve in curves.values()]).ravel(),
    }


def _single_world(curves: Mapping[str, Curves], seeds: Sequence[int]) -> Columns:
    """Return the raw results of curves with W = 1."""
    names = list(curves)
    return {**_axes(learner=names, step=curves[names[0]].steps, seed=seeds), **_raw(curves)}


def _quoted(samples: FloatArray) -> dict[str, float | None]:
    """Return the mean of `(K,)` and 95% bootstrap interval for JSON; null of few seeds."""
    means = mean_band(samples)
    low, high = (None if np.isnan(end) else float(end) for end in (means.low, means.high))
    return {"mean": float(means.mean), "low": low, "high": high}


def _quoted_curve(curves: Curves, world: int) -> dict[str, Any]:
    """Return averages of one world's curve, and since when its seeds' mean stays at its best.

    That is null if it has left its best by more than half a step's reward at the end.
    """
    returns = curves.returns[:, world]
    means = returns.mean(axis=1)
    away = np.flatnonzero(means < means.max() - 0.5)
    since = int(away[-1]) + 1 if len(away) else 0
    return {
        "return_at_the_end": _quoted(returns[-1]),
        "return_averaged_over_the_run": _quoted(returns.mean(axis=0)),
        "seeds": returns.shape[1],
        "at_its_best_from_step": int(curves.steps[since]) if since < len(means) else None,
        "episodes": _quoted(curves.episodes[-1, world].astype(np.float64)),
    }
