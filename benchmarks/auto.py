"""Method auto, and what each of its members would have returned: how much choosing costs.

    python -m benchmarks.auto reacher:100 hopper:25 half_cheetah_medium:0 --seed 210

records 100,000 steps of each family of `datasets/` at a percentage of random actions, trains with
method auto, and lets the last policy of every member act in the same fresh episodes. All members
share one IDM and its 3,000 online steps; those that left the race early learned no more from
labels. Rows that the results hold already, with the same seeds, are left out: run it again to go
on, or a second one beside it with other rows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

import qss_offline as qss
from qss_offline.analysis.plots.style import BLUE, GREY, ORANGE, WIDE_DPI, styled
from qss_offline.data.build import build_dataset
from qss_offline.data.families import family_path
from qss_offline.data.specs import read_family
from qss_offline.errors import UserError
from qss_offline.evaluation.acting import let_act
from qss_offline.evaluation.normalization import environment_name, normalised
from qss_offline.files import write_json
from qss_offline.runs.provenance import machine
from qss_offline.statistics import number_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = dict[str, Any]

RESULTS = Path("benchmarks/results/auto.json")
TRANSITIONS, EPISODES, EPISODE_SEED = 100_000, 10, 12_345


def measure(
    family: str, percent: float, recording_seed: int, seed: int, runs: Path, workers: int | None
) -> Row:
    """Train on a recording of its own, and let every member act."""
    specs = read_family(family_path(family)).specs
    spec = replace(
        next((one for one in specs if one.expert is not None), specs[0]),
        random_action_prob=percent / 100,
        transitions=TRANSITIONS,
        seed=recording_seed,
    )
    pair = build_dataset(spec)
    run = qss.train(
        pair.obs_id,
        method="auto",
        workers=workers,
        seeds=[seed],
        out=runs / f"{family}-{percent:g}-{recording_seed}-{seed}",
        if_exists="resume",
    )
    (result,) = run.results["seeds"]
    folder = run.folder.seed(seed)
    acted = {
        heat["member"]: let_act(
            folder.member(heat["member"]).policy, EPISODES, EPISODE_SEED, spec.env_id
        )["returns"]
        for heat in result["race"][0]
    }
    return {
        "family": family,
        "env_id": spec.env_id,
        "random_action_prob": percent / 100,
        "recording_seed": recording_seed,
        "seed": seed,
        "behaviour_return": run.results["behaviour_return"],
        "behaviour_stochasticity": run.results["behaviour_stochasticity"],
        "wall_seconds": run.results["wall_seconds"],
        "online_steps": result["online_steps"],
        "last": result["last"],
        "evaluations": [one["mean"] for one in result["evaluations"]],
        "race": result["race"],
        "members": acted,
        "machine": machine(),
    }


def named(row: Row) -> str:
    """Return what a row is of, as tables and figures have it."""
    name = environment_name(row["env_id"])
    half = ", half-trained" if row["family"].endswith("_medium") else ""
    return f"{name}{half}, {100 * row['random_action_prob']:g}%"


def choice(row: Row) -> tuple[str, float, str, float]:
    """Return who won with its mean return, and the best member with its, on the same episodes."""
    members = {name: fmean(returns) for name, returns in row["members"].items()}
    won = row["race"][-1][0]["member"]
    best = max(members, key=members.__getitem__)
    return won, members[won], best, members[best]


def share(row: Row) -> float:
    """Return how much of the best member's normalised return the winner has, on its episodes."""
    _, its, _, most = choice(row)
    return _score(its, row) / _score(most, row)


def summary(rows: Sequence[Row]) -> str:
    """Return in how many rows choosing cost little."""
    shares = [share(row) for row in rows]
    near, fair = (sum(one >= least for one in shares) for least in (0.9, 0.75))
    return (
        f"of {len(rows)} rows the winner has at least 90% of the best member's normalised return "
        f"in {near}, at least 75% in {fair}; median {median(shares):.0%}"
    )


def table(rows: Sequence[Row]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| recording | recorded | auto, last | of | on the same episodes | best member there |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        won, its, best, most = choice(row)
        cells = (
            named(row), number_text(row["behaviour_return"]), number_text(row["last"]["mean"]),
            won, number_text(its), f"{best} {number_text(most)}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _score(value: float, row: Row) -> float:
    found = normalised(value, row["env_id"])
    return value if found is None else found


@styled
def figure_of(rows: Sequence[Row]) -> Figure:
    """Draw what was recorded, every member, and auto's policy, normalised."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 0.26 * len(rows) + 1.1), layout="constrained")
    axis = figure.subplots()
    places = range(len(rows), 0, -1)
    members = [
        (_score(fmean(returns), row), place)
        for row, place in zip(rows, places, strict=True)
        for returns in row["members"].values()
    ]
    recorded = [_score(row["behaviour_return"], row) for row in rows]
    chosen = [_score(choice(row)[1], row) for row in rows]
    axis.plot(*zip(*members, strict=True), "|", color=GREY, label="a member of the race")
    axis.plot(recorded, places, "o", color=ORANGE, fillstyle="none", label="recorded behaviour")
    axis.plot(chosen, places, "o", color=BLUE, label="auto")
    axis.set_yticks(places, [named(row) for row in rows])
    axis.set_xlabel("normalised return of the last policy: 0 random actions, 1 expert")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def stored(path: Path) -> list[Row]:
    """Return the rows that are there, in order."""
    rows: list[Row] = json.loads(path.read_text())["rows"] if path.exists() else []
    return sorted(rows, key=lambda row: (row["family"], row["random_action_prob"], row["seed"]))


def main() -> None:
    """Measure what isn't there yet, and print and draw all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", help="FAMILY:PERCENT of random actions")
    parser.add_argument("--recording-seed", type=int, default=21)
    parser.add_argument("--seed", type=int, default=200)
    parser.add_argument("--workers", type=int, help="processes (one a core)")
    parser.add_argument("--runs", type=Path, default=Path("runs/auto-benchmark"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--draw", type=Path, help="draw what is there to this PNG")
    arguments = parser.parse_args()
    for asked in arguments.rows:
        family, _, percent = asked.partition(":")
        wanted = family, float(percent) / 100, arguments.recording_seed, arguments.seed
        names = "family", "random_action_prob", "recording_seed", "seed"
        there = [tuple(row[name] for name in names) for row in stored(arguments.out)]
        if wanted in there:
            continue
        try:
            row = measure(family, float(percent), *wanted[2:], arguments.runs, arguments.workers)
        except UserError as error:
            print(f"{asked}: {error}")
            continue
        # Another process may have added rows of its own meanwhile.
        write_json(arguments.out, {"rows": [*stored(arguments.out), row]})
    rows = stored(arguments.out)
    print(table(rows))
    if rows:
        print(summary(rows))
    if arguments.draw is not None:
        figure_of(rows).savefig(arguments.draw, dpi=WIDE_DPI)


if __name__ == "__main__":
    main()
