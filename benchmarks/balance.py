"""What trained runs have in common: true values or not, and what the two terms of Eq. 12 weigh.

    python -m benchmarks.balance runs/beyond/*/*/d3g

Values: Q over training, how far apart the twins are at the end, and what Q promises beside what the
policy then gets.

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
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from qss_offline.algorithms.observational_d3g import cycle
from qss_offline.algorithms.qss import propose_next_obs, step_error, transition_value
from qss_offline.files import write_bytes, write_json
from qss_offline.machine import machine
from qss_offline.measuring import value_against_return
from qss_offline.offline_training import step_scale
from qss_offline.report.figures import COLOURS, DASHES, png, styled
from qss_offline.runs import read_json
from qss_offline.trained_run import TrainedRun, load_cell

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
    twins = transition_value(planner.critic, obs, next_obs)
    promised = value_against_return(planner, run.policy(seed), run.env_id, run.algorithm.gamma)
    proposed = propose_next_obs(planner.proposal, obs)
    reached = cycle(critic, planner.q_forward_model, obs, proposed, bound=planner.bound)
    seen = transition_value(critic, obs, next_obs)
    gap = float((transition_value(critic, obs, reached) - seen).abs().mean())
    step = float(step_error(next_obs, obs, spread))
    return {
        "value": float(seen.mean()),
        "gap": gap,
        "cycle_error": float(step_error(proposed, reached, spread)),
        "step": step,
        "weight": run.algorithm.cycle_coef * step / gap,
        "twin_distance": float((twins[:, 0] - twins[:, 1]).abs().mean()),
        "promised": float(promised.promised.mean()),
        "overestimation": promised.overestimation,
    }


def curve(run: TrainedRun, seed: int) -> dict[str, list[float]]:
    """Return mean Q of the batches over training, 40 points."""
    metrics = run.metrics(seed)
    every = max(1, len(metrics["update"]) // 40)
    return {name: metrics[name][every - 1 :: every].tolist() for name in ("update", "q")}


def last_return(run: TrainedRun, seed: int) -> float:
    """Return the mean return of the last evaluation."""
    result = read_json(run.seed_folder(seed).result)
    return float(np.mean(result["evaluations"][-1]["returns"]))


@styled
def figure(rows: list[dict[str, Any]]) -> Figure:
    """Draw Q over training, a panel for each recording, a line for each seed."""
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    columns = min(len(datasets), 5)
    lines = -(-len(datasets) // columns)
    drawn = Figure(figsize=(4.8 * columns, 3.4 * lines), layout="constrained")
    kinds = list(dict.fromkeys((row["pessimism"], row["gamma"]) for row in rows))
    for axis, dataset in zip(
        drawn.subplots(lines, columns, squeeze=False).flat, datasets, strict=False
    ):
        mine = [row for row in rows if row["dataset"] == dataset]
        labelled = set()
        for row in mine:
            kind = row["pessimism"], row["gamma"]
            number = kinds.index(kind)
            axis.plot(
                row["curve"]["update"],
                row["curve"]["q"],
                color=COLOURS[number % len(COLOURS)],
                linestyle=DASHES[number % len(DASHES)],
                label=None if kind in labelled else f"pessimism {kind[0]:g}, γ = {kind[1]:g}",
            )
            labelled.add(kind)
        # "qss/Reacher/v5-random-100-n100000-s1-obs-v0" is "Reacher/v5-random-100" here.
        title = "-".join(dataset.split("/", 1)[1].split("-")[:3])
        axis.set(title=title, xlabel="updates", ylabel="mean Q of a batch")
        axis.legend()
    return drawn


def main() -> None:
    """Measure every seed that is trained and evaluated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders of offline D3G")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/balance.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for path in arguments.runs:
        run = load_cell(path)
        rows += [
            {
                "dataset": run.dataset_id,
                "seed": seed,
                "beta": run.algorithm.cycle_coef,
                "gamma": run.algorithm.gamma,
                "pessimism": run.algorithm.twin_pessimism,
                **balance(run, seed),
                "last_return": last_return(run, seed),
                "curve": curve(run, seed),
            }
            for seed in run.seeds
        ]
    write_json(arguments.out, {"machine": machine(), "rows": rows})
    write_bytes(arguments.out.with_suffix(".png"), png(figure(rows)))
    columns = {
        "value": "Q",
        "twin_distance": "twins apart",
        "overestimation": "promised - true",
        "gap": "gap",
        "cycle_error": "cycle error",
        "step": "step",
        "weight": "β·step / gap",
        "last_return": "return",
    }
    kinds = ("dataset", "gamma", "pessimism")
    table = Table("recording", "γ", "pessimism", "seeds", *columns.values())
    for kind in dict.fromkeys(tuple(row[name] for name in kinds) for row in rows):
        mine = [row for row in rows if tuple(row[name] for name in kinds) == kind]
        means = (float(np.mean([row[name] for row in mine])) for name in columns)
        dataset, gamma, pessimism = kind
        short = dataset.rpartition("/")[2].removesuffix("-obs-v0")
        table.add_row(
            short,
            f"{gamma:g}",
            f"{pessimism:g}",
            str(len(mine)),
            *(f"{mean:.3g}" for mean in means),
        )
    Console().print(table)
    print(f"written: {arguments.out} and .png")


if __name__ == "__main__":
    main()
