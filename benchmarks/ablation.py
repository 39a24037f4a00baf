"""What each departure of the default preset from the paper is worth: one taken away at a time.

    python -m benchmarks.ablation [--env InvertedPendulum] [--seeds 10,11,12,13]

Trains the default preset and, for each switch, the default preset with that switch at the paper's
value, on one recording of random behaviour that was not used to choose the settings. Each variant
is a run folder that resumes, so the command can be stopped and started again. Sizes of networks
and batches stay the default's throughout. Results: every return of every evaluation.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from qss_offline.data.build import build_dataset
from qss_offline.data.environments import resolve_env_id
from qss_offline.data.specs import DatasetSpec
from qss_offline.files import write_json
from qss_offline.machine import machine
from qss_offline.offline_run import RunSettings, run
from qss_offline.presets import PRESETS, Preset
from qss_offline.progress import progress
from qss_offline.runs import RunFolder, parse_seeds

ALGORITHM_SWITCHES = (
    "cycle_coef",
    "polyak_step_size",
    "gamma",
    "normalize_observations",
    "clamp_targets",
    "proposal_average_step_size",
    "learning_rate",
    "learning_rate_decay",
)
INVERSE_SWITCHES = ("step_inputs", "average_step_size")


def variants() -> dict[str, Preset]:
    """The default preset, and the default with one switch at the paper's value."""
    default, paper = PRESETS["default"], PRESETS["paper"]
    found = {"default": default}
    for name in ALGORITHM_SWITCHES:
        algorithm = replace(default.algorithm, **{name: getattr(paper.algorithm, name)})
        found[f"{name} = {getattr(paper.algorithm, name)}"] = replace(default, algorithm=algorithm)
    for name in INVERSE_SWITCHES:
        value = getattr(paper.inverse.model, name)
        model = replace(default.inverse.model, **{name: value})
        inverse = replace(default.inverse, model=model)
        found[f"inverse {name} = {value}"] = replace(default, inverse=inverse)
    return found


def main() -> None:
    """Run every variant, writing the results after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="InvertedPendulum")
    parser.add_argument("--seeds", default="10,11,12,13")
    parser.add_argument("--updates", type=int, default=None)
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    env_id, seeds = resolve_env_id(arguments.env), parse_seeds(arguments.seeds)
    out = arguments.out or Path(f"benchmarks/results/ablation_{env_id}.json")
    dataset = build_dataset(DatasetSpec(env_id, seed=1), progress=progress).obs_id
    rows: list[dict[str, Any]] = []
    for number, (name, preset) in enumerate(variants().items()):
        folder = RunFolder(arguments.runs / f"{env_id}-{number}")
        settings = RunSettings(
            env_id, dataset, seeds, name, preset.spend(arguments.updates, None, None)
        )
        print(f"variant {number + 1} of {len(variants())}: {name}")
        # A finished run resumes to its own results, after its settings were compared.
        results = run(settings, folder, resume=folder.started, show_progress=progress)
        rows.append({"variant": name, **results})
        write_json(out, {"machine": machine(), "rows": rows})
    table = Table("variant", "last, each seed", "best of evaluations", "updates")
    for row in rows:
        table.add_row(
            row["variant"],
            ", ".join(f"{seed['last']['mean']:.0f}" for seed in row["seeds"]),
            ", ".join(f"{seed['best']['mean']:.0f}" for seed in row["seeds"]),
            f"{row['updates']:,}",
        )
    Console().print(table)
    print(f"written: {out}")


if __name__ == "__main__":
    main()
