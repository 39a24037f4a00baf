"""What is stored of a seed's evaluations: one schema for every kind of run.

`seeds/<seed>/result.json` holds the returns of each evaluation as they were measured;
`results.json` holds for each seed what `seed_results` makes of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qss_offline.errors import UserError
from qss_offline.files import write_json
from qss_offline.runs.folder import read_json

FINAL_EVALUATIONS = 3
"""How many evaluations at the end make a score of Figure 7."""


class EvaluationPoint(NamedTuple):
    """One evaluation on the way.

    Attributes:
        online_steps: environment steps before it.
        returns: undiscounted return of each of its episodes.
        updates: gradient steps of the policy before it, where the run's settings don't say.
    """

    online_steps: int
    returns: Sequence[float]
    updates: int | None = None

    @property
    def mean(self) -> float:
        """Mean return of its episodes."""
        return float(np.mean(self.returns))


def write_evaluations(path: Path, seed: int, evaluations: Sequence[EvaluationPoint]) -> None:
    """Write a seed's `result.json`.

    Args:
        path: the file.
        seed: which.
        evaluations: in the order in which they were made.
    """
    write_json(path, {"seed": seed, "evaluations": [_plain(point) for point in evaluations]})


def _plain(point: EvaluationPoint) -> dict[str, Any]:
    plain = {**point._asdict(), "returns": list(point.returns)}
    return {name: value for name, value in plain.items() if value is not None}


def read_evaluations(path: Path) -> list[EvaluationPoint]:
    """Read a seed's evaluations from its `result.json`.

    Raises:
        UserError: the file can't be read or holds something else.
    """
    try:
        return [
            EvaluationPoint(
                int(row["online_steps"]), [float(x) for x in row["returns"]], row.get("updates")
            )
            for row in read_json(path)["evaluations"]
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} holds no evaluations of a seed: {error} is wrong") from error


def seed_results(seed: int, evaluations: Sequence[EvaluationPoint]) -> dict[str, Any]:
    """Return a seed's scores: its last policy, and the best of its evaluations beside it.

    Args:
        seed: which.
        evaluations: in the order in which they were made, one at least.
    """
    last = evaluations[-1]
    best = int(np.argmax([point.mean for point in evaluations]))
    return {
        "seed": seed,
        "online_steps": last.online_steps,
        "last": {"mean": last.mean, "returns": list(last.returns)},
        "best": {
            "mean": evaluations[best].mean,
            "evaluation": best + 1,
            "online_steps": evaluations[best].online_steps,
        },
        "evaluations": [
            {
                "online_steps": point.online_steps,
                "mean": point.mean,
                "returns": list(point.returns),
            }
            for point in evaluations
        ],
    }


def evaluation_means(seed: Mapping[str, Any]) -> list[float]:
    """Return the mean return of each of a seed's evaluations, from what `seed_results` made."""
    return [evaluation["mean"] for evaluation in seed["evaluations"]]


def learning_curve(
    seeds: Sequence[Mapping[str, Any]],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return online steps `(evaluations,)` and mean returns `(evaluations, seeds)`, likewise."""
    steps = [evaluation["online_steps"] for evaluation in seeds[0]["evaluations"]]
    means = np.array([evaluation_means(seed) for seed in seeds], np.float64)
    return np.array(steps, np.int64), means.T


def final_mean(seed: Mapping[str, Any]) -> float:
    """Return the mean of a seed's last three evaluations, likewise."""
    return float(np.mean(evaluation_means(seed)[-FINAL_EVALUATIONS:]))
