"""What `results.json` says of a seed: one schema for every kind of run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class EvaluationPoint(NamedTuple):
    """One evaluation on the way.

    Attributes:
        online_steps: environment steps before it.
        returns: undiscounted return of each of its episodes.
    """

    online_steps: int
    returns: Sequence[float]


def seed_results(seed: int, evaluations: Sequence[EvaluationPoint]) -> dict[str, Any]:
    """Return a seed's scores: its last policy, and the best of its evaluations beside it.

    Args:
        seed: which.
        evaluations: in the order in which they were made, one at least.
    """
    means = [float(np.mean(point.returns)) for point in evaluations]
    best = int(np.argmax(means))
    return {
        "seed": seed,
        "online_steps": evaluations[-1].online_steps,
        "last": {"mean": means[-1], "returns": list(evaluations[-1].returns)},
        "best": {
            "mean": means[best],
            "evaluation": best + 1,
            "online_steps": evaluations[best].online_steps,
        },
        "evaluations": [
            {"online_steps": point.online_steps, "mean": mean, "returns": list(point.returns)}
            for point, mean in zip(evaluations, means, strict=True)
        ],
    }


def evaluation_means(seed: dict[str, Any]) -> list[float]:
    """Return the mean return of each of a seed's evaluations, from what `seed_results` made."""
    return [evaluation["mean"] for evaluation in seed["evaluations"]]
