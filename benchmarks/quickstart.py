"""How long the quickstart takes, from nothing to a policy.

    python -m benchmarks.quickstart

runs `python -m recipes.random_obs --env ENV` as a user would, in a fresh Minari root, with all
cores. What it returns is measured on more seeds in `results/table1`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from qss_offline.files import write_json
from qss_offline.runs.folder import read_json
from qss_offline.runs.provenance import machine

ENVIRONMENTS = ("InvertedPendulum", "Reacher", "Hopper")
RESULTS = Path("benchmarks/results/quickstart.json")


def measure(env: str) -> dict[str, Any]:
    """Run the recipe in a fresh Minari root; return seconds and returns."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "minari").mkdir()
        command = [sys.executable, "-m", "recipes.random_obs", "--env", env]
        begin = time.monotonic()
        subprocess.run(
            [*command, "--out", str(root / "run")],
            env={**os.environ, "MINARI_DATASETS_PATH": str(root / "minari")},
            check=True,
        )
        seconds = round(time.monotonic() - begin, 1)
        results = read_json(root / "run" / "results.json")
    (seed,) = results["seeds"]
    return {
        "env_id": results["env_id"],
        "seconds": seconds,
        "recorded": results["behaviour_return"],
        "last": seed["last"]["mean"],
        "online_steps": seed["online_steps"],
    }


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for env in ENVIRONMENTS:
        rows.append(measure(env))
        write_json(arguments.out, {"machine": machine(), "rows": rows})
        print(f"{env}: {rows[-1]['seconds']:.0f} s, return {rows[-1]['last']:.1f}")


if __name__ == "__main__":
    main()
