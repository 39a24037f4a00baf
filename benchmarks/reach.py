"""How far proposals lie from what the body can reach, and what I costs: trained runs, simulator.

    python -m benchmarks.reach runs/beyond/*/*/d3g

For every trained seed, at recorded states: the distance between its proposal s'_τ and the nearest
next state that any action leads to, the same for the cycle's s'_f, and for no step at all, s, as a
measure; each the root mean square over dimensions, in units of the spread of recorded steps. And
the return of the policy that takes the action leading nearest to the proposal, which needs no I,
beside that of the policy that was fitted online, on the same episodes: what is missing from the
first is the proposals', the difference is I's.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from qss_offline.data.environments import make_env
from qss_offline.evaluation import evaluate
from qss_offline.files import write_json
from qss_offline.machine import machine
from qss_offline.reachable import Simulator
from qss_offline.trained_run import TrainedRun, load_cell

STATES = 200


def reach(run: TrainedRun, seed: int, episodes: int) -> dict[str, Any]:
    """Measure one seed."""
    planner, policy = run.planner(seed), run.policy(seed)
    step_std = planner.scale.step_std
    assert step_std is not None
    unit = (planner.scale.std * step_std).numpy()
    simulator = Simulator(run.env_id)
    transitions = run.dataset.transitions
    chosen = np.sort(np.random.default_rng(0).permutation(len(transitions))[:STATES])
    obs = np.array(transitions.observations[chosen], np.float32)
    wanted = {"proposed": planner.propose(obs), "cycle": planner.reach(obs), "still": obs}
    distances = {
        f"{name}_distance": float(simulator.nearest(obs, next_obs, unit)[1].mean())
        for name, next_obs in wanted.items()
    }
    true_inverse, fitted = (
        evaluate(one, run.env_id, episodes, make=make_env).returns
        for one in (simulator.policy(planner.propose, unit), policy)
    )
    simulator.close()
    return {
        **distances,
        "true_inverse_returns": list(true_inverse),
        "fitted_returns": list(fitted),
    }


def main() -> None:
    """Measure every seed that is trained and evaluated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders of offline D3G")
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/reach.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for path in arguments.runs:
        run = load_cell(path)
        rows += [
            {"dataset": run.dataset_id, "seed": seed, **reach(run, seed, arguments.episodes)}
            for seed in run.seeds
        ]
        write_json(arguments.out, {"machine": machine(), "rows": rows})
    columns = {
        "proposed_distance": "proposal",
        "cycle_distance": "cycle",
        "still_distance": "no step",
        "true_inverse_returns": "return, true inverse",
        "fitted_returns": "return, I",
    }
    table = Table("recording", "seeds", *columns.values())
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        mine = [row for row in rows if row["dataset"] == dataset]
        means = (float(np.mean([row[name] for row in mine])) for name in columns)
        short = dataset.split("/", 1)[1].removesuffix("-obs-v0")
        table.add_row(short, str(len(mine)), *(f"{mean:.3g}" for mean in means))
    Console().print(table)
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
