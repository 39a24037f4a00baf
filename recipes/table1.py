"""The paper's Table 1, extended: D3G, BCO and d3rlpy's baselines from expert to random.

    python -m recipes.table1

builds the recordings, runs what is missing cell by cell (stop it and start it again as often as
you like), and writes every return, a table with intervals and a figure to results/table1/. Runs
whose returns are in results/table1/returns.csv already are not made again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
from rich.console import Console
from rich.markdown import Markdown
from typer import Option

from qss_offline.baselines import require_d3rlpy
from qss_offline.command_line import main
from qss_offline.comparison.plots import png
from qss_offline.comparison.run import known_recordings, make_cells, recordings, run_cells
from qss_offline.comparison.settings import COMPARISONS, KnownActions, comparison
from qss_offline.comparison.table import markdown, read_csv, rows, with_earlier, write_csv
from qss_offline.data.collect import complete_returns
from qss_offline.data.load import load_transitions
from qss_offline.data.minari_store import local_dataset_ids
from qss_offline.data.specs import DatasetSpec
from qss_offline.files import write_bytes, write_json
from qss_offline.machine import machine
from qss_offline.progress import progress
from qss_offline.runs import read_json
from qss_offline.statistics import Interval, bootstrap_interval, mean


def table1(
    preset: Annotated[str, Option(help=f"one of {', '.join(COMPARISONS)}")] = "quick",
    methods: Annotated[str | None, Option(help="only these, such as d3g,bco")] = None,
    levels: Annotated[str | None, Option(help="only these percentages, such as 0,100")] = None,
    families: Annotated[str | None, Option(help="only these, such as reacher")] = None,
    seeds: Annotated[int | None, Option(help="seeds of each cell")] = None,
    updates: Annotated[int | None, Option(help="of D3G, instead of the preset's")] = None,
    baseline_updates: Annotated[
        int | None, Option(help="of d3rlpy's methods, instead of the preset's")
    ] = None,
    transitions: Annotated[int | None, Option(help="size of the recordings")] = None,
    actions_level: Annotated[
        float | None,
        Option(help="I learns first from a recording of this percentage that has actions"),
    ] = None,
    actions_seed: Annotated[int, Option(help="seed of that recording")] = 1,
    cloning_power: Annotated[
        float | None,
        Option(
            help="of the error by which BCO repeats labels: 2 is their mean, 0.5 near their mode"
        ),
    ] = None,
    datasets: Annotated[Path, Option(help="folder of the families")] = Path("datasets"),
    runs: Annotated[Path | None, Option(help="folder of the runs (runs/table1-…)")] = None,
    out: Annotated[Path, Option(help="folder of the table")] = Path("results/table1"),
    workers: Annotated[int | None, Option(help="processes (one a core)")] = None,
    show_only: Annotated[bool, Option("--show", help="run nothing; show what is done")] = False,
) -> None:
    """Run a comparison and write its table."""
    begun = time.monotonic()
    settings = comparison(preset)
    if methods is not None:
        settings = replace(settings, methods=tuple(methods.split(",")))
    if levels is not None:
        chosen = tuple(float(level) / 100 for level in levels.split(","))
        settings = replace(settings, random_action_probs=chosen)
    if families is not None:
        chosen_families = tuple(families.split(","))
        if not set(chosen_families) <= set(settings.families):
            # Rows tell recordings apart by body and level alone, and by the comparison's name.
            settings = replace(settings, name="-".join((preset, *chosen_families)))
        settings = replace(settings, families=chosen_families)
    if seeds is not None:
        settings = replace(settings, seeds=seeds)
    if updates is not None:
        settings = replace(settings, d3g=settings.d3g.spend(updates, None, None))
    if baseline_updates is not None:
        settings = replace(settings, baseline_updates=baseline_updates, updates_of={})
    if actions_level is not None:
        settings = replace(settings, known=KnownActions(actions_level / 100, actions_seed))
    if cloning_power is not None:
        settings = replace(
            settings,
            name=f"{settings.name}-cloning-power-{cloning_power:g}",
            cloning=replace(settings.cloning, error_power=cloning_power),
        )
    specs = recordings(settings, datasets, transitions)
    known = known_recordings(settings, datasets, transitions)
    cells = make_cells(settings, specs, runs or Path("runs") / f"table1-{settings.name}", known)
    returns = out / "returns.csv"
    kept = read_csv(returns) if returns.exists() else []
    failures: list[str] = []
    if not show_only:
        if set(settings.methods) - {"d3g", "bco"}:
            require_d3rlpy()
        failures = run_cells(
            cells, specs, {row.run for row in kept}, workers, progress, with_actions=known
        )
    behaviour = _recorded_returns(specs, out / "provenance.json")
    table = with_earlier(rows(cells), kept)
    write_csv(returns, table)
    done = {row.run for row in table}
    missing = [
        f"{cell.env_id} {100 * cell.random_action_prob:g}% {cell.method} seed {seed}"
        for cell in cells
        for seed in cell.seeds
        if cell.run(seed) not in done
    ]
    # The file keeps seeds of earlier commands, which may have had other settings.
    asked = {cell.run(seed) for cell in cells for seed in cell.seeds}
    shown = [row for row in table if row.run in asked]
    text = markdown(cells, shown, behaviour)
    write_bytes(out / "table.md", text.encode())
    write_bytes(out / "table.png", png(cells, shown, behaviour))
    write_json(
        out / "provenance.json",
        {
            **machine(),
            "preset": settings.name,
            "recordings": {name: vars(interval) for name, interval in behaviour.items()},
            "missing": missing,
            "failures": failures,
            "seconds": round(sum(row.seconds for row in shown if row.metric == "last"), 1),
        },
    )
    Console().print(Markdown(text))
    print(
        f"{time.monotonic() - begun:.0f} s. {len(missing)} runs missing, {len(failures)} cells "
        f"failed. Made: {out}/returns.csv (all returns), table.md, table.png, provenance.json.\n"
        "Next: the same command runs what is missing; --seeds 10 adds seeds."
    )


def _recorded_returns(specs: Sequence[DatasetSpec], provenance: Path) -> dict[str, Interval]:
    """Mean return of the complete recorded episodes by id; of one gone since, as was written."""
    written = read_json(provenance)["recordings"] if provenance.exists() else {}
    here = set(local_dataset_ids())
    returns = {}
    for spec in specs:
        name = spec.obs_id
        if name in here:
            episodes = complete_returns(load_transitions(name).transitions, spec)
            generator = np.random.default_rng(0)
            returns[name] = bootstrap_interval(episodes, generator, mean, resamples=1000)
        elif name in written:
            returns[name] = Interval(**written[name])
    return returns


if __name__ == "__main__":
    main(table1, "the same command continues")
