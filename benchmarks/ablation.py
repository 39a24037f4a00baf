"""What the default preset's choices are worth: each taken away in turn, and curves over β and γ.

    python -m benchmarks.ablation --family inverted_pendulum --level 50 --seeds 40,41,42

Trains the default preset on a recording that no setting was chosen with; then, one at a time, with
each switch at the paper's value (sizes of networks and batches stay), with other weights of the
cycle, and with other discounts. `--ensemble 1` starts from single trainings, where a switch shows
what it does to one training, at a third of the time; the ensemble is a variant then. Each variant
is a run folder of its own that resumes, so the command can be stopped and started again; a value
that two parts share is run once, and variants of the inverse fit start from the default's trained
proposals. Results hold every return of every evaluation, and are drawn after every variant.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from qss_offline.analysis.plots.style import BLUE, ORANGE, styled, to_png
from qss_offline.data.build import build_dataset
from qss_offline.data.families import family_path
from qss_offline.data.specs import read_family
from qss_offline.errors import UserError
from qss_offline.files import write_bytes, write_json
from qss_offline.launch.local import LocalLauncher
from qss_offline.overrides import changed, differences
from qss_offline.parallel.progress import progress
from qss_offline.presets import preset
from qss_offline.runs.config import Preset, RunConfig
from qss_offline.runs.folder import RunFolder, parse_seeds
from qss_offline.runs.provenance import machine
from qss_offline.training.runner import run

SWITCHES = (
    "algorithm.cycle_coef",
    "algorithm.gamma",
    "algorithm.polyak_step_size",
    "algorithm.learning_rate",
    "algorithm.learning_rate_decay",
    "algorithm.normalize_observations",
    "algorithm.clamp_targets",
    "algorithm.proposal_average_step_size",
    "algorithm.twin_pessimism",
    "inverse.model.form",
    "inverse.model.average_step_size",
    "ensemble",
)
PARTS = ("switches", "beta", "gamma")
BETAS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
GAMMAS = (0.9, 0.95, 0.97, 0.99)


@dataclass(frozen=True)
class Variant:
    """The default preset with one setting changed.

    Attributes:
        change: `name=value`, or "default".
        parts: where it is shown, of `PARTS`.
        preset: all settings.
    """

    change: str
    parts: tuple[str, ...]
    preset: Preset


def variants(ensemble: int | None = None) -> list[Variant]:
    """Everything that can be run, the default first.

    Args:
        ensemble: trainings of each seed in every variant but the one that changes them; None
            takes the default's.
    """
    paper, default = preset("paper", "d3g"), preset("default", "d3g")
    many = default.ensemble
    if ensemble is not None:
        default = replace(default, ensemble=ensemble)
    parts: dict[str, list[str]] = {"default": list(PARTS)}
    known = dict(change.split("=", 1) for change in differences(default, paper))
    if default.ensemble == paper.ensemble:
        known["ensemble"] = str(many)
    for name in SWITCHES:
        parts.setdefault(f"{name}={known[name]}", []).append("switches")
    for field, part, values in (
        ("cycle_coef", "beta", BETAS),
        ("gamma", "gamma", GAMMAS),
    ):
        for value in values:
            if value != getattr(default.algorithm, field):
                parts.setdefault(f"algorithm.{field}={value}", []).append(part)
    return [
        Variant(
            _short(change),
            tuple(shown),
            default if change == "default" else changed(default, [change]),
        )
        for change, shown in parts.items()
    ]


def _short(change: str) -> str:
    """Name a change without the parts of the preset: "gamma=0.9", "inverse form=network"."""
    for before, short in (("inverse.model.", "inverse "), ("algorithm.", "")):
        if change.startswith(before):
            return short + change.removeprefix(before)
    return change


def share_training(
    source: RunFolder, target: RunFolder, seeds: Sequence[int], ensemble: int
) -> None:
    """Give a run the trained seeds of another, whose offline training has the same settings."""
    for seed, number in itertools.product(seeds, range(ensemble)):
        there, here = source.seed(seed).member(number), target.seed(seed).member(number)
        if there.training.exists() and not here.training.exists():
            here.path.mkdir(parents=True, exist_ok=True)
            if there.metrics.exists():
                shutil.copy2(there.metrics, here.metrics)
            shutil.copy2(there.training, here.training)


def _returns(row: dict[str, Any]) -> list[float]:
    return [seed["last"]["mean"] for seed in row["seeds"]]


def _switches(axis: Axes, rows: Sequence[dict[str, Any]]) -> None:
    for height, row in enumerate(reversed(rows)):
        returns = _returns(row)
        axis.plot(returns, [height] * len(returns), "o", color=BLUE, alpha=0.5)
        axis.plot([np.mean(returns)], [height], "|", color=ORANGE, markersize=16, markeredgewidth=2)
    axis.set_yticks(range(len(rows)), [row["variant"] for row in reversed(rows)], fontsize=7)
    axis.set(xlabel="last return, each seed and mean", title="one switch changed")


def _curve(
    axis: Axes, rows: Sequence[dict[str, Any]], field: str, label: str, horizon: bool
) -> None:
    points = sorted((row["algorithm"][field], _returns(row)) for row in rows)
    places = [1 / (1 - value) if horizon else value for value, _ in points]
    for place, (_, returns) in zip(places, points, strict=True):
        axis.plot([place] * len(returns), returns, "o", color=BLUE, alpha=0.5)
    axis.plot(places, [np.mean(returns) for _, returns in points], color=ORANGE)
    axis.set_xscale("log")
    axis.set_xticks(places, [f"{value:g}" for value, _ in points])
    axis.minorticks_off()
    axis.set(xlabel=label, ylabel="last return", title=f"return against {label.split(',')[0]}")


@styled
def figure(rows: Sequence[dict[str, Any]], title: str, parts: Sequence[str] = PARTS) -> Figure:
    """Draw the last return of every seed: switches, the curve over β, the curve over γ.

    Args:
        rows: of the variants.
        title: above all.
        parts: which of these are drawn, in this order.
    """
    # The title needs the width of two.
    drawn = Figure(figsize=(4.2 * max(2, len(parts)), 3.8), layout="constrained")
    for part, axis in zip(parts, drawn.subplots(1, len(parts), squeeze=False)[0], strict=True):
        shown = [row for row in rows if part in row["parts"]]
        if part == "switches":
            _switches(axis, shown)
        elif part == "beta":
            _curve(axis, shown, "cycle_coef", "β, weight of the cycle", horizon=False)
        else:
            _curve(axis, shown, "gamma", "γ, discount", horizon=True)
    drawn.suptitle(title)
    return drawn


def main() -> None:
    """Run every variant that was asked for, writing the results after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", default="inverted_pendulum")
    parser.add_argument("--level", type=int, default=50, help="percent of random actions")
    parser.add_argument("--data-seed", type=int, default=4)
    parser.add_argument("--seeds", default="40,41,42")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--updates", type=int, default=None)
    parser.add_argument("--ensemble", type=int, default=None, help="trainings of each seed")
    parser.add_argument("--workers", type=int, default=None, help="processes (one a core)")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/ablation"))
    arguments = parser.parse_args()
    asked = set(arguments.parts.split(","))
    if not asked <= set(PARTS):
        raise UserError(f"--parts takes some of {','.join(PARTS)}, not {arguments.parts!r}")
    family = read_family(family_path(arguments.family)).specs
    specs = {round(100 * spec.random_action_prob): spec for spec in family}
    spec = replace(specs[arguments.level], seed=arguments.data_seed)
    name = f"{spec.env_id}-random-{arguments.level}"
    if arguments.ensemble is not None:
        name += f"-ensemble-{arguments.ensemble}"
    dataset = build_dataset(spec, progress=progress).obs_id
    chosen = [variant for variant in variants(arguments.ensemble) if asked & set(variant.parts)]
    seeds = parse_seeds(arguments.seeds)
    rows: list[dict[str, Any]] = []
    for number, variant in enumerate(chosen):
        folder = RunFolder(arguments.runs / name / variant.change.replace(" ", "-"))
        if variant.preset.algorithm == preset("default", "d3g").algorithm:
            default = RunFolder(arguments.runs / name / "default")
            share_training(default, folder, seeds, variant.preset.ensemble)
        settings = RunConfig(
            "d3g",
            spec.env_id,
            dataset,
            seeds,
            variant.change,
            variant.preset.spend(arguments.updates, None, None),
        )
        print(f"{name}, variant {number + 1} of {len(chosen)}: {variant.change}", flush=True)
        # A finished run resumes to its own results, after its settings were compared.
        results = run(
            settings,
            folder,
            resume=folder.started,
            show_progress=progress,
            launcher=LocalLauncher(arguments.workers),
        )
        rows.append(
            {
                "variant": variant.change,
                "parts": variant.parts,
                "algorithm": {
                    "cycle_coef": variant.preset.algorithm.cycle_coef,
                    "gamma": variant.preset.algorithm.gamma,
                },
                **results,
            }
        )
        write_json(arguments.out / f"{name}.json", {"machine": machine(), "rows": rows})
        title = f"{spec.env_id}, {arguments.level}% random actions"
        if arguments.ensemble is not None:
            title += f", trainings of each seed unless said: {arguments.ensemble}"
        drawn = figure(rows, title, [part for part in PARTS if part in asked])
        write_bytes(arguments.out / f"{name}.png", to_png(drawn))
    table = Table("variant", "last, each seed", "best of evaluations", "updates")
    for row in rows:
        table.add_row(
            row["variant"],
            ", ".join(f"{value:.1f}" for value in _returns(row)),
            ", ".join(f"{seed['best']['mean']:.1f}" for seed in row["seeds"]),
            f"{row['updates']:,}",
        )
    Console().print(table)
    print(f"written: {arguments.out / name}.json and .png")


if __name__ == "__main__":
    main()
