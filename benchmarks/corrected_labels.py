"""What correcting labels by the nearest online steps is worth to BCO.

    python -m benchmarks.corrected_labels

BCO at the default's settings learns from recordings without random actions, with corrected labels
(`algorithms/kernel_correction.py`) and without: one seed for each recording.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import qss_offline as qss
from qss_offline.data.families import family_path
from qss_offline.data.specs import read_family
from qss_offline.files import write_json
from qss_offline.runs.provenance import machine

RESULTS = Path("benchmarks/results/corrected_labels.json")
ROBOTS = "hopper", "half_cheetah", "walker2d", "inverted_double_pendulum"
FAMILIES = *ROBOTS, *(f"{robot}_medium" for robot in ROBOTS)
TRANSITIONS, RECORDING_SEEDS = 100_000, (42, 43)


def measure(family: str, data_seed: int, runs: Path) -> dict[str, Any]:
    """Train BCO twice; return the mean return of each evaluation, one a round."""
    spec = read_family(family_path(family)).specs[0]
    recording = qss.Recording.from_env(
        spec.env_id, steps=TRANSITIONS, randomness=0.0, expert=spec.expert, seed=data_seed
    )
    seed = 10 * data_seed
    found: dict[str, Any] = {"dataset_id": recording.dataset_id, "seed": seed}
    for corrected in (False, True):
        name = "corrected" if corrected else "as inferred"
        run = qss.train(
            recording,
            method="bco",
            seeds=[seed],
            changes={"corrected_labels": corrected},
            out=runs / f"{family}-{data_seed}-{name.replace(' ', '-')}",
            if_exists="resume",
        )
        found[name] = [evaluation["mean_return"] for evaluation in run.returns()]
    return found


def main() -> None:
    """Measure on every recording, and print the last returns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/corrected-labels"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    rows = []
    for data_seed in RECORDING_SEEDS:
        for family in FAMILIES:
            rows.append(measure(family, data_seed, arguments.runs))
            means = (f"{name} {rows[-1][name][-1]:.1f}" for name in ("as inferred", "corrected"))
            print(family, data_seed, *means, flush=True)
    write_json(arguments.out, {"machine": machine(), "rows": rows})


if __name__ == "__main__":
    main()
