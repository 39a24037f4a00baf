"""Method auto, and what each of its members would have returned: how much choosing costs.

    python -m benchmarks.auto reacher:100 hopper:25 half_cheetah_medium:0 --seed 210

records 100,000 steps of each family of `datasets/` at a percentage of random actions, trains with
method auto, and lets the last policy of every member act in the same fresh episodes. All members
share one IDM and its 3,000 online steps; those that left the race early learned no more from
labels. Rows that the results hold already, with the same seeds, are left out: run it again to go
on.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import qss_offline as qss
from qss_offline.data.build import build_dataset
from qss_offline.data.families import family_path
from qss_offline.data.specs import read_family
from qss_offline.errors import UserError
from qss_offline.evaluation.acting import let_act
from qss_offline.files import write_json
from qss_offline.runs.provenance import machine

RESULTS = Path("benchmarks/results/auto.json")
TRANSITIONS, EPISODES, EPISODE_SEED = 100_000, 10, 12_345


def measure(family: str, percent: float, recording_seed: int, seed: int, runs: Path) -> Any:
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


def main() -> None:
    """Measure what isn't there yet, and print all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", help="FAMILY:PERCENT of random actions")
    parser.add_argument("--recording-seed", type=int, default=21)
    parser.add_argument("--seed", type=int, default=200)
    parser.add_argument("--runs", type=Path, default=Path("runs/auto-benchmark"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if arguments.out.exists():
        rows = json.loads(arguments.out.read_text())["rows"]
    for asked in arguments.rows:
        family, _, percent = asked.partition(":")
        wanted = family, float(percent) / 100, arguments.recording_seed, arguments.seed
        names = "family", "random_action_prob", "recording_seed", "seed"
        if any(tuple(row[name] for name in names) == wanted for row in rows):
            continue
        try:
            rows.append(measure(family, float(percent), *wanted[2:], arguments.runs))
        except UserError as error:
            print(f"{asked}: {error}")
            continue
        write_json(arguments.out, {"rows": rows})
    for row in rows:
        members = {name: fmean(returns) for name, returns in row["members"].items()}
        best = max(members, key=members.__getitem__)
        won = row["race"][-1][0]["member"]
        print(
            f"{row['family']} {100 * row['random_action_prob']:g}%, seed {row['seed']}: last "
            f"{row['last']['mean']:.1f} ({won}); on other episodes {members[won]:.1f}, the best "
            f"member {members[best]:.1f} ({best}); {row['wall_seconds']:.0f} s"
        )


if __name__ == "__main__":
    main()
