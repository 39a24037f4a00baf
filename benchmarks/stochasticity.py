"""Behaviour stochasticity of recordings of each environment, at every level of random actions.

    python -m benchmarks.stochasticity

Every family of `datasets/` is recorded anew at several levels, in memory, and its stochasticity is
measured without its actions. Below `STOCHASTIC_FROM` behaviour counts as deterministic.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from qss_offline.data.collect import collect
from qss_offline.data.families import family_names, family_path
from qss_offline.data.specs import read_family
from qss_offline.data.stochasticity import behaviour_stochasticity
from qss_offline.files import write_json
from qss_offline.runs.provenance import machine

LEVELS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)


def main() -> None:
    """Record and measure every family at every level."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", type=Path, nargs="*", help="TOML files (datasets/*.toml)")
    parser.add_argument("--transitions", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/chance.json"))
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    table = Table("family", *(f"{100 * level:g}%" for level in LEVELS))
    for family in arguments.families or map(family_path, family_names()):
        any_spec = next(spec for spec in read_family(family).specs if spec.expert is not None)
        for level in LEVELS:
            recording = collect(
                replace(
                    any_spec,
                    random_action_prob=level,
                    transitions=arguments.transitions,
                    seed=arguments.seed,
                )
            )
            begun = time.process_time()
            share = behaviour_stochasticity(recording)
            rows.append(
                {
                    "family": family.stem,
                    "random_action_prob": level,
                    "transitions": arguments.transitions,
                    "share": share,
                    "cpu_seconds": round(time.process_time() - begun, 2),
                }
            )
            write_json(arguments.out, {"machine": machine(), "rows": rows})
        own = [row["share"] for row in rows if row["family"] == family.stem]
        table.add_row(family.stem, *("-" if share is None else f"{share:.4f}" for share in own))
    Console().print(table)
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
