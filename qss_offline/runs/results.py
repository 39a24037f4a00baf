"""Evaluations of a seed: one schema for every kind of run, checked when it is read.

`seeds/<seed>/result.json` holds the returns of each evaluation as they were measured;
`results.json` holds for each seed what `seed_results` makes of them. JSON has no NaN: a return that
was no number is null in files, and NaN again once it is read. Scores are computed from the returns
on reading, too, whatever a file says they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qss_offline.errors import UserError, shown
from qss_offline.files import write_json
from qss_offline.runs.folder import read_json
from qss_offline.runs.race import Race
from qss_offline.runs.values import MISSING, number, whole

FINAL_EVALUATIONS = 3
"""How many evaluations at the end make a score of Figure 7."""


class EvaluationPoint(NamedTuple):
    """One evaluation on the way.

    Attributes:
        online_steps: environment steps before it.
        returns: undiscounted return of each of its episodes.
        updates: gradient steps of the policy before it, where the run's settings don't say.
        value: what the method took the first steps of these episodes to be worth, on average, where
            it values them.
        discounted: what they were worth: mean discounted return of the episodes.
    """

    online_steps: int
    returns: Sequence[float]
    updates: int | None = None
    value: float | None = None
    discounted: float | None = None

    @property
    def mean(self) -> float:
        """Mean return of its episodes."""
        return float(np.mean(self.returns))


def write_evaluations(
    path: Path, seed: int, evaluations: Sequence[EvaluationPoint], race: Race | None = None
) -> None:
    """Write a seed's `result.json`.

    Args:
        path: the file.
        seed: which.
        evaluations: in the order in which they were made.
        race: how the policy was chosen, with method auto.
    """
    result = {"seed": seed, "evaluations": [_plain(point) for point in evaluations]}
    write_json(path, result if race is None else {**result, "race": race.plain()})


def _plain(point: EvaluationPoint) -> dict[str, Any]:
    plain = {**point._asdict(), "returns": list(point.returns)}
    return {name: value for name, value in plain.items() if value is not None}


def read_evaluations(path: Path) -> list[EvaluationPoint]:
    """Read a seed's evaluations from its `result.json`.

    Raises:
        UserError: the file can't be read or holds something else.
    """
    return evaluations_of(read_json(path), path)


def read_race(path: Path) -> Race | None:
    """Read from a seed's `result.json` how its policy was chosen, None where it wasn't.

    Raises:
        UserError: the file can't be read or holds something else.
    """
    return _race(read_json(path), path)


def _race(result: Mapping[str, Any], where: object) -> Race | None:
    return Race.of_file(result["race"], where) if "race" in result else None


def seed_results(
    seed: int, evaluations: Sequence[EvaluationPoint], race: Race | None = None
) -> dict[str, Any]:
    """Return a seed's scores: its last policy, and the best of its evaluations beside it.

    Args:
        seed: which.
        evaluations: in the order in which they were made; none where there was no environment, and
            then there are no scores.
        race: how the policy was chosen, with method auto.
    """
    raced = {} if race is None else {"race": race.plain()}
    if not evaluations:
        return {"seed": seed, "online_steps": 0, "evaluations": [], **raced}
    last = evaluations[-1]
    best = _best_of([point.mean for point in evaluations])
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
                **_judged(point),
            }
            for point in evaluations
        ],
        **raced,
    }


def _judged(point: EvaluationPoint) -> dict[str, float]:
    """Return what a policy's first steps were taken to be worth, and were, where that is known."""
    if point.value is None or point.discounted is None:
        return {}
    return {"value": point.value, "discounted": point.discounted}


def _best_of(means: Sequence[float]) -> int:
    """Return the number of the greatest mean; any number is greater than NaN."""
    return int(np.argmax(np.nan_to_num(means, nan=-math.inf, posinf=math.inf, neginf=-math.inf)))


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


def value_curve(
    seeds: Sequence[Mapping[str, Any]],
) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
    """Return online steps `(evaluations,)` and what values were too high by, likewise.

    The first evaluation is left out: nothing is learned by then.

    Returns:
        None where no value is known; NaN where one was no number.
    """
    judged = [seed["evaluations"][1:] for seed in seeds]
    errors = [
        [one["value"] - one["discounted"] if "value" in one else math.nan for one in some]
        for some in judged
    ]
    if np.isnan(errors).all():
        return None
    return learning_curve(seeds)[0][1:], np.array(errors, np.float64).T


def final_mean(seed: Mapping[str, Any]) -> float:
    """Return the mean of a seed's last three evaluations, likewise."""
    return float(np.mean(evaluation_means(seed)[-FINAL_EVALUATIONS:]))


def evaluations_of(result: Mapping[str, Any], where: object) -> list[EvaluationPoint]:
    """Return a seed's evaluations, as its `result.json` or `results.json` hold them.

    Args:
        result: what the file holds.
        where: the file, for a refusal.

    Raises:
        UserError: they are none.
    """
    rows = result.get("evaluations")
    if not isinstance(rows, list):
        raise UserError(f"{where}: evaluations is {shown(rows)}, expected a list")
    points = []
    for index, row in enumerate(rows):
        name = f"{where}: evaluations[{index}]"
        if not isinstance(row, dict):
            raise UserError(f"{name} is {shown(row)}, expected an object")
        steps = whole(row.get("online_steps"), f"{name}.online_steps")
        updates = row.get("updates")
        if updates is not None:
            updates = whole(updates, f"{name}.updates")
        returns = _returns_of_file(row.get("returns"), name)
        value, discounted = (
            None if row.get(one) is None else number(row[one], f"{name}.{one}")
            for one in ("value", "discounted")
        )
        points.append(EvaluationPoint(steps, returns, updates, value, discounted))
    return points


def _returns_of_file(values: object, where: object) -> tuple[float, ...]:
    """Return the returns of an evaluation's episodes, one at least.

    Raises:
        UserError: they are no numbers.
    """
    name = f"{where}: returns"
    return tuple(number(value, name) for value in _some(values, name))


def results_of_file(results: Mapping[str, Any], where: object) -> dict[str, Any]:
    """Return what a run's `results.json` holds, every number of it checked.

    Args:
        results: what the file holds.
        where: the file, for a refusal.

    Raises:
        UserError: something is missing or of another type or range.
    """
    held = dict(results)
    for name in ("behaviour_return", "behaviour_return_std", "wall_seconds"):
        held[name] = number(results.get(name, MISSING), f"{where}: {name}")
    held["known_steps"] = whole(results.get("known_steps", 0), f"{where}: known_steps")
    share = results.get("random_action_prob")
    if share is not None and not 0 <= number(share, f"{where}: random_action_prob") <= 1:
        raise UserError(f"{where}: random_action_prob is {shown(share)}, not from 0 to 1")
    versions = results.get("versions", {})
    if not isinstance(versions, dict) or not all(isinstance(v, str) for v in versions.values()):
        raise UserError(f"{where}: versions is {shown(versions)}")
    held["seeds"] = seeds_of_file(results, where)
    return held


def seeds_of_file(results: Mapping[str, Any], where: object) -> list[dict[str, Any]]:
    """Return the seeds of a run's results, their scores computed from their returns.

    Args:
        results: what the file holds.
        where: the file, for a refusal.

    Raises:
        UserError: something is missing or wrong, a seed is there twice, or seeds were evaluated at
            different steps.
    """
    seeds = [
        _seed(seed, f"{where}: seeds[{index}]")
        for index, seed in enumerate(_some(results.get("seeds"), f"{where}: seeds"))
    ]
    numbers = [seed["seed"] for seed in seeds]
    if len(set(numbers)) < len(numbers):
        raise UserError(f"{where}: a seed is there twice")
    if len({tuple(e["online_steps"] for e in seed["evaluations"]) for seed in seeds}) > 1:
        raise UserError(f"{where}: seeds were evaluated at different steps")
    return seeds


def _seed(seed: object, where: str) -> dict[str, Any]:
    if not isinstance(seed, dict):
        raise UserError(f"{where} is {shown(seed)}, expected an object")
    number_of_seed = whole(seed.get("seed"), f"{where}.seed")
    return seed_results(number_of_seed, evaluations_of(seed, where), _race(seed, where))


def _some(values: object, where: str) -> list[Any]:
    if not isinstance(values, list) or not values:
        raise UserError(f"{where} is {shown(values)}, expected a list that holds something")
    return values


def best_seed(results: Mapping[str, Any]) -> int:
    """Return the seed whose last return is highest; without evaluations, the first.

    Args:
        results: what `results.json` holds.
    """
    last = {
        int(seed["seed"]): seed["last"]["mean"]
        for seed in results["seeds"]
        if seed["evaluations"] and math.isfinite(seed["last"]["mean"])
    }
    return max(last, key=lambda seed: last[seed], default=int(results["seeds"][0]["seed"]))
