"""The quickstart's figures: the default recipe, from nothing, for five seeds of each environment.

    python -m benchmarks.front_door

runs `python -m recipes.random_obs --env ENV` as a user would, in a fresh Minari root: first for
one seed alone, whose wall time is the recipe's, then for the other four together. Nothing is
chosen afterwards: every seed and every evaluation is kept. `--draw` only draws the picture from
the results.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from qss_offline.files import write_json
from qss_offline.runs.provenance import machine
from qss_offline.statistics import counted, number_text

ENVIRONMENTS = ("InvertedPendulum", "Reacher")
RESULTS = Path("benchmarks/results/front_door.json")
PICTURE = Path("docs/images/front_door.png")


def measure(env: str, seeds: str) -> dict[str, Any]:
    """Run the recipe in a fresh Minari root and return its `results.json`."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "minari").mkdir()
        begin = time.monotonic()
        subprocess.run(
            [
                sys.executable,
                "-m",
                "recipes.random_obs",
                "--env",
                env,
                "--seeds",
                seeds,
                "--out",
                str(root / "run"),
            ],
            env={**os.environ, "MINARI_DATASETS_PATH": str(root / "minari")},
            check=True,
        )
        results: dict[str, Any] = json.loads((root / "run" / "results.json").read_text())
        return {**results, "process_seconds": round(time.monotonic() - begin, 1)}


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw what was recorded beside what was learned from it."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(ENVIRONMENTS), figsize=(8, 3.2), layout="constrained")
    for axis, env in zip(axes, ENVIRONMENTS, strict=True):
        runs = [row for row in rows if row["env_id"].startswith(env)]
        last = [seed["last"]["mean"] for run in runs for seed in run["seeds"]]
        heights = [runs[0]["behaviour_return"], sum(last) / len(last)]
        bars = axis.bar([0, 1], heights, color=["#bbbbbb", "#0072b2"], width=0.6)
        axis.bar_label(bars, [number_text(height) for height in heights], padding=2)
        axis.set_xlim(-0.5, 1.9)
        axis.margins(y=0.14)
        # Beside the bar, so that they hide neither it nor its number; side by side, since seeds
        # that return the same would hide each other.
        places = [1.4 + 0.09 * index for index in range(len(last))]
        axis.plot(places, last, "o", color="#d55e00", label="one seed")
        axis.set_xticks([0, 1], ["recorded:\nrandom, no actions", "learned from it"])
        axis.set_title(runs[0]["env_id"])
        axis.set_ylabel("return of an episode")
        axis.axhline(0, color="black", linewidth=0.8)
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, write the results, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--draw", action="store_true", help="draw from the results only")
    arguments = parser.parse_args()
    if not arguments.draw:
        rows: list[dict[str, Any]] = []
        for seeds in ("0,", "1,2,3,4"):
            for env in ENVIRONMENTS:
                rows.append(measure(env, seeds))
                write_json(arguments.out, {"machine": machine(), "rows": rows})
    rows = json.loads(arguments.out.read_text())["rows"]
    draw(rows, PICTURE)
    for row in rows:
        for seed in row["seeds"]:
            print(
                f"{row['env_id']} seed {seed['seed']}: last {seed['last']['mean']:.1f}, best "
                f"{seed['best']['mean']:.1f}, {seed['online_steps']} online steps; "
                f"{row['process_seconds']:.0f} s for {counted(len(row['seeds']), 'seed')} together"
            )


if __name__ == "__main__":
    main()
