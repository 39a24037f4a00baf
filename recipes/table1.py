"""The paper's Table 1, extended: D3G, BCO and d3rlpy's baselines from expert to random.

    python -m recipes.table1

builds the recordings, runs what is missing cell by cell (stop it and start it again as often as
you like), and writes every return, a table with intervals and a figure beside the runs, to
runs/table1-quick/. Runs whose returns are in its returns.csv already are not made again. `--show`
runs and writes nothing: it shows what is there, or what was published where nothing is.
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

from qss_offline.analysis.plots.comparison import png
from qss_offline.baselines import require_d3rlpy
from qss_offline.cli.command import main
from qss_offline.comparison.grid import known_recordings, make_cells, recordings, run_cells
from qss_offline.comparison.settings import (
    COMPARISONS,
    ComparisonSettings,
    KnownActions,
    comparison,
)
from qss_offline.comparison.table import Row, markdown, read_csv, rows, with_earlier, write_csv
from qss_offline.data.collect import complete_returns
from qss_offline.data.load import load_transitions
from qss_offline.data.local import local_dataset_ids
from qss_offline.data.specs import DatasetSpec
from qss_offline.errors import UserError, nearest
from qss_offline.files import write_bytes, write_json
from qss_offline.parallel.progress import progress
from qss_offline.runs.folder import read_json
from qss_offline.runs.provenance import machine
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
    out: Annotated[Path | None, Option(help="folder of the table (that of the runs)")] = None,
    workers: Annotated[int | None, Option(min=1, help="processes (one a core)")] = None,
    show_only: Annotated[
        bool, Option("--show", help="run and write nothing; show what is done, or was published")
    ] = False,
) -> None:
    """Run a comparison and write its table."""
    begun = time.monotonic()
    settings = comparison(preset)
    if methods is not None:
        settings = replace(settings, methods=tuple(methods.split(",")))
    if levels is not None:
        settings = replace(settings, random_action_probs=_levels(levels))
    if families is not None:
        chosen_families = tuple(families.split(","))
        known_families = sorted(path.stem for path in datasets.glob("*.toml"))
        for name in chosen_families:
            if name not in known_families:
                hint = nearest(name, known_families) or f"; there are {', '.join(known_families)}"
                raise UserError(f"no family {name!r} in {datasets}{hint}")
        if not set(chosen_families) <= set(settings.families):
            # Rows tell recordings apart by body and level alone, and by the comparison's name.
            settings = replace(settings, name="-".join((preset, *chosen_families)))
        settings = replace(settings, families=chosen_families)
    if seeds is not None:
        settings = replace(settings, seeds=seeds)
    if updates is not None:
        settings = replace(settings, d3g=settings.d3g.spend(updates, None, None))
    if baseline_updates is not None:
        if baseline_updates <= 0:
            raise UserError(f"--baseline-updates must be above 0, not {baseline_updates}")
        settings = replace(settings, baseline_updates=baseline_updates, updates_of={})
    if actions_level is not None:
        # Rows are told apart by the comparison's name, and these have other inverse models.
        name = f"{settings.name}-actions-{actions_level:g}-{actions_seed}"
        known_actions = KnownActions(actions_level / 100, actions_seed)
        settings = replace(settings, name=name, known=known_actions)
    if cloning_power is not None:
        settings = replace(
            settings,
            name=f"{settings.name}-cloning-power-{cloning_power:g}",
            cloning=replace(settings.cloning, error_power=cloning_power),
        )
    specs = recordings(settings, datasets, transitions)
    known = known_recordings(settings, datasets, transitions)
    runs = runs or Path("runs") / f"table1-{settings.name}"
    cells = make_cells(settings, specs, runs, known)
    if out is None:
        published = Path("results") / ("table1" if settings.name == "quick" else settings.name)
        env_ids = {spec.env_id for spec in specs}
        nothing_here = not any((runs / name).exists() for name in ("returns.csv", *env_ids))
        out = published if show_only and nothing_here else runs
    returns = out / "returns.csv"
    kept = read_csv(returns) if returns.exists() else []
    _check_same_comparison(settings, kept, out)
    failures: list[str] = []
    if not show_only:
        if set(settings.methods) - {"d3g", "bco"}:
            require_d3rlpy()
        failures = run_cells(
            cells, specs, {row.run for row in kept}, workers, progress, with_actions=known
        )
    provenance = out / "provenance.json"
    behaviour = _recorded_returns(specs, provenance)
    table = with_earlier(rows(cells), kept)
    done = {row.run for row in table}
    missing = [
        f"{cell.env_id} {100 * cell.random_action_prob:g}% {cell.method} seed {seed}"
        for cell in cells
        for seed in cell.seeds
        if cell.run(seed) not in done
    ]
    # The file keeps seeds of earlier commands, which may have had other settings.
    asked = {cell.run(seed) for cell in cells for seed in cell.seeds}
    ran = bool(done & asked - {row.run for row in kept})
    shown = [row for row in table if row.run in asked]
    text = markdown(cells, shown, behaviour)
    Console().print(Markdown(text))
    if show_only:
        print(f"{len(missing)} runs missing; returns of {returns}. Nothing was run or written.")
        return
    write_csv(returns, table)
    write_bytes(out / "table.md", text.encode())
    write_bytes(out / "table.png", png(cells, shown, behaviour))
    write_json(
        provenance,
        {
            # Where nothing was run, figures stay those of the machine and command that made them.
            **(machine() if ran or not provenance.exists() else read_json(provenance)),
            "preset": settings.name,
            "recordings": {name: vars(interval) for name, interval in behaviour.items()},
            "missing": missing,
            "failures": failures,
            "seconds": round(sum(row.seconds for row in shown if row.metric == "last"), 1),
        },
    )
    if not ran and not missing:
        print(f"Nothing was run: {returns} holds all of these returns already.")
    print(
        f"{time.monotonic() - begun:.0f} s. {len(missing)} runs missing, {len(failures)} cells "
        f"failed. Made: {out}/returns.csv (all returns), table.md, table.png, provenance.json.\n"
        "Next: the same command runs what is missing; --seeds 10 adds seeds."
    )
    if failures:
        raise UserError(f"{len(failures)} cells failed, the first with: {failures[0]}")


def _levels(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(level) / 100 for level in text.split(","))
    except ValueError as error:
        raise UserError(f"--levels takes percentages such as 0,25,100, not {text!r}") from error
    if not all(0 <= level <= 1 for level in found):
        raise UserError(f"--levels takes percentages from 0 to 100, not {text!r}")
    return found


def _check_same_comparison(settings: ComparisonSettings, kept: Sequence[Row], out: Path) -> None:
    """Refuse a folder that holds another comparison, or this one with other updates.

    Raises:
        UserError: it does.
    """
    others = sorted({row.preset for row in kept} - {settings.name})
    if others and settings.name not in {row.preset for row in kept}:
        raise UserError(
            f"{out} holds the comparison {others[0]!r}, not {settings.name!r}; choose another --out"
        )
    for row in kept:
        asked = row.method in settings.methods and row.preset == settings.name
        updates = settings.updates(row.method) if asked else row.updates
        if row.metric == "last" and row.updates != updates:
            raise UserError(
                f"{out} holds returns of {row.method} after {row.updates:,} updates, not "
                f"{updates:,}; choose another --out"
            )


def _recorded_returns(specs: Sequence[DatasetSpec], provenance: Path) -> dict[str, Interval]:
    """Mean return of the complete recorded episodes by id; of one gone since, as was written."""
    written = read_json(provenance).get("recordings", {}) if provenance.exists() else {}
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
