"""What the two terms of Eq. 12 weigh at the end of training, in trained runs.

    python -m benchmarks.balance runs/beyond/*/*/d3g

τ moves down −Q(s, s'_f) + β ‖s'_τ − s'_f‖². For every trained seed, on recorded transitions: the
gap that the first term has to gain, mean |Q(s, s'_f) − Q(s, s')|; the cycle error that is left,
mean ‖s'_τ − s'_f‖²; the size of a recorded step in the same unit, mean ‖s' − s‖²; and from them
the weight of an error as large as a step against the gap, β ‖s' − s‖² / gap, which has no unit.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from qss_offline.algorithms.observational_d3g import cycle
from qss_offline.algorithms.qss import propose_next_obs, step_error, transition_value
from qss_offline.errors import UserError
from qss_offline.files import write_json
from qss_offline.machine import machine
from qss_offline.offline_training import step_scale
from qss_offline.runs import RunFolder, read_json
from qss_offline.trained_run import TrainedRun

TRANSITIONS = 4_000


@torch.no_grad()
def balance(run: TrainedRun, seed: int) -> dict[str, float]:
    """Measure one seed, in the units that its networks see."""
    planner = run.planner(seed)
    transitions, scale = run.dataset.transitions, planner.scale
    chosen = np.sort(np.random.default_rng(0).permutation(len(transitions))[:TRANSITIONS])
    obs, next_obs = (
        scale.apply(torch.from_numpy(np.array(column[chosen], np.float32))).unsqueeze(0)
        for column in (transitions.observations, transitions.next_observations)
    )
    spread = step_scale(run.algorithm, [scale])
    critic = planner.critic.members[0]
    proposed = propose_next_obs(planner.proposal, obs)
    reached = cycle(critic, planner.q_forward_model, obs, proposed)
    seen = transition_value(critic, obs, next_obs)
    gap = float((transition_value(critic, obs, reached) - seen).abs().mean())
    step = float(step_error(next_obs, obs, spread))
    return {
        "value": float(seen.mean()),
        "gap": gap,
        "cycle_error": float(step_error(proposed, reached, spread)),
        "step": step,
        "weight": run.algorithm.cycle_coef * step / gap,
    }


def main() -> None:
    """Measure every seed that is trained and evaluated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders of offline D3G")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/balance.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for path in arguments.runs:
        folder = RunFolder(path)
        if not folder.started:
            raise UserError(f"{path} holds no run (no config.json)")
        config = read_json(path / "config.json")
        results = {
            seed: read_json(path / "seeds" / str(seed) / "result.json")
            for seed in sorted(int(p.parent.name) for p in path.glob("seeds/*/result.json"))
        }
        run = TrainedRun(folder, config, {"seeds": [{"seed": seed} for seed in results]})
        rows += [
            {
                "dataset": run.dataset_id,
                "seed": seed,
                "beta": run.algorithm.cycle_coef,
                "gamma": run.algorithm.gamma,
                **balance(run, seed),
                "last_return": float(np.mean(result["evaluations"][-1]["returns"])),
            }
            for seed, result in results.items()
        ]
    write_json(arguments.out, {"machine": machine(), "rows": rows})
    table = Table("recording", "γ", "β", "seeds", "Q", "gap", "cycle error", "step", "β·step / gap")
    for dataset, gamma, beta in dict.fromkeys((r["dataset"], r["gamma"], r["beta"]) for r in rows):
        mine = [r for r in rows if (r["dataset"], r["gamma"], r["beta"]) == (dataset, gamma, beta)]
        means = {
            name: np.mean([row[name] for row in mine])
            for name in ("value", "gap", "cycle_error", "step", "weight")
        }
        table.add_row(
            dataset.rpartition("/")[2],
            f"{gamma:g}",
            f"{beta:g}",
            str(len(mine)),
            *(f"{mean:.3g}" for mean in means.values()),
        )
    Console().print(table)
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
