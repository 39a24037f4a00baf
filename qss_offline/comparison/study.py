"""One comparison from its options to its files: what is asked for, run, kept and written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from qss_offline.baselines import require_d3rlpy
from qss_offline.comparison.cells import Cell
from qss_offline.comparison.config import ComparisonConfig, KnownActions
from qss_offline.comparison.estimate import seconds_of_cells
from qss_offline.comparison.grid import (
    known_recordings,
    launched_cells,
    make_cells,
    missing_jobs,
    recordings,
    run_cells,
)
from qss_offline.comparison.presets import comparison
from qss_offline.comparison.table import (
    Row,
    Section,
    markdown,
    read_csv,
    rows,
    sections,
    with_earlier,
    write_csv,
)
from qss_offline.data.collect import complete_returns
from qss_offline.data.environments import check_acting, plain_name
from qss_offline.data.families import family_path
from qss_offline.data.load import load_transitions
from qss_offline.data.local import local_dataset_ids
from qss_offline.data.specs import DatasetSpec
from qss_offline.engine.device import choose_device
from qss_offline.errors import UserError
from qss_offline.files import write_bytes, write_json
from qss_offline.launch.cell import Launcher
from qss_offline.parallel.reporting import ProgressFactory, no_progress
from qss_offline.runs.folder import read_json
from qss_offline.runs.provenance import machine
from qss_offline.statistics import Interval, bootstrap_interval, mean


@dataclass(frozen=True)
class ComparisonOptions:
    """What to compare: a comparison by name, and what is other than there; None keeps it.

    Attributes:
        preset: name of the comparison.
        methods: comma-separated.
        levels: percentages of random actions, comma-separated.
        families: names of dataset families, or their TOML files, comma-separated.
        seeds: of each cell.
        updates: of D3G.
        baseline_updates: of d3rlpy's methods.
        transitions: size of the recordings.
        actions_level: percentage of random actions of a recording with actions that the IDM
            learns from first.
        actions_seed: of that recording.
        cloning_power: of the errors of BCO's policy.
        device: "auto", "cpu" or "cuda", where D3G and BCO are trained.
        tf32: faster, coarser matrix products on a GPU.
    """

    preset: str
    methods: str | None = None
    levels: str | None = None
    families: str | None = None
    seeds: int | None = None
    updates: int | None = None
    baseline_updates: int | None = None
    transitions: int | None = None
    actions_level: float | None = None
    actions_seed: int = 1
    cloning_power: float | None = None
    device: str = "cpu"
    tf32: bool = False

    def config(self) -> ComparisonConfig:
        """Return the comparison; its name tells it from others whose rows would look alike.

        Raises:
            UserError: an option can't be used.
        """
        config = replace(comparison(self.preset), device=choose_device(self.device), tf32=self.tf32)
        if self.methods is not None:
            config = replace(config, methods=tuple(self.methods.split(",")))
        if self.levels is not None:
            config = replace(config, random_action_probs=_levels(self.levels))
        if self.families is not None:
            config = self._of_families(config, tuple(self.families.split(",")))
        if self.seeds is not None:
            config = replace(config, seeds=self.seeds)
        if self.updates is not None:
            config = replace(config, d3g=config.d3g.spend(self.updates, None, None))
        if self.baseline_updates is not None:
            if self.baseline_updates <= 0:
                raise UserError(f"--baseline-updates must be above 0, not {self.baseline_updates}")
            config = replace(config, baseline_updates=self.baseline_updates, updates_of={})
        if self.actions_level is not None:
            name = f"{config.name}-actions-{self.actions_level:g}-{self.actions_seed}"
            known = KnownActions(self.actions_level / 100, self.actions_seed)
            config = replace(config, name=name, known=known)
        if self.cloning_power is not None:
            name = f"{config.name}-cloning-power-{self.cloning_power:g}"
            cloning = replace(config.cloning, error_power=self.cloning_power)
            config = replace(config, name=name, cloning=cloning)
        return config

    def _of_families(self, config: ComparisonConfig, families: tuple[str, ...]) -> ComparisonConfig:
        known = {family_path(family): family for family in config.families}
        families = tuple(known.get(family_path(family), family) for family in families)
        name = config.name
        if not set(families) <= set(config.families):
            # Rows tell recordings apart by environment and level, and by the comparison's name.
            name = "-".join((self.preset, *(Path(family).stem for family in families)))
        return replace(config, name=name, families=families)


def _levels(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(level) / 100 for level in text.split(","))
    except ValueError as error:
        raise UserError(f"--levels takes percentages such as 0,25,100, not {text!r}") from error
    if not all(0 <= level <= 1 for level in found):
        raise UserError(f"--levels takes percentages from 0 to 100, not {text!r}")
    return found


def _folder_name(name: str) -> str:
    return name if name.startswith("table1") else f"table1-{name}"


class Study:
    """A comparison, the folder of its runs, and the folder of its table.

    Args:
        options: what to compare.
        runs: folder of the runs; None takes `runs/table1`, or of other comparisons
            `runs/table1-<name>`.
        out: folder of the table; None takes that of the runs.
        show_only: whether, where nothing was run, what was published is meant.

    Raises:
        UserError: an option can't be used, or a folder holds another comparison.
    """

    def __init__(
        self,
        options: ComparisonOptions,
        runs: Path | None = None,
        out: Path | None = None,
        show_only: bool = False,
    ) -> None:
        config = self.config = options.config()
        transitions = options.transitions or config.transitions
        self._specs = recordings(config, transitions)
        self._known = known_recordings(config, transitions)
        runs = runs or Path("runs") / _folder_name(config.name)
        self.cells = make_cells(config, self._specs, runs, self._known)
        self.out = out or (self._published(runs) if show_only else None) or runs
        self.returns = self.out / "returns.csv"
        self._provenance = self.out / "provenance.json"
        self._earlier = read_csv(self.returns) if self.returns.exists() else []
        _check_same_comparison(config, self._earlier, self.out)

    def _published(self, runs: Path) -> Path | None:
        """Return the folder of what was published, where nothing was run here."""
        env_ids = {plain_name(spec.env_id) for spec in self._specs}
        if any((runs / name).exists() for name in ("returns.csv", *env_ids)):
            return None
        return Path("results") / self.config.name

    def run(
        self, launcher: Launcher | None = None, show_progress: ProgressFactory = no_progress
    ) -> list[str]:
        """Run what is missing; return a line for each cell that failed."""
        if set(self.config.methods) - {"d3g", "bco"}:
            require_d3rlpy()
        self._check_environments()
        done = {row.run for row in self._earlier}
        return run_cells(
            self.cells, self._specs, done, launcher, show_progress, with_actions=self._known
        )

    def _check_environments(self) -> None:
        """Refuse environments that a method can't act in, before anything is recorded.

        Raises:
            UserError: there is one.
        """
        in_a_box = [name for name in self.config.methods if name != "d3g"]
        if self._known:
            in_a_box.append("a recording with actions")
        for env_id in {spec.env_id for spec in self._specs}:
            check_acting(env_id, in_a_box[0] if in_a_box else None)

    def seconds(self, launcher: Launcher) -> float:
        """Estimate how long what is missing takes; see `comparison/estimate.py`."""
        jobs = missing_jobs(self.cells, {row.run for row in self._earlier}, launcher.apart)
        width = launcher.width(launched_cells(jobs, {}))
        return seconds_of_cells([(job.cell, len(job.seeds)) for job in jobs], width)

    def summary(self) -> Summary:
        """Return what is done by now, and what isn't."""
        table = with_earlier(rows(self.cells), self._earlier)
        done, earlier = {row.run for row in table}, {row.run for row in self._earlier}
        # The file keeps seeds of earlier commands, which may have had other settings.
        asked = {cell.run(seed): (cell, seed) for cell in self.cells for seed in cell.seeds}
        missing = tuple(
            f"{cell.env_id} {100 * cell.random_action_prob:g}% {cell.method} seed {seed}"
            for run, (cell, seed) in asked.items()
            if run not in done
        )
        return Summary(
            tuple(self.cells),
            tuple(table),
            tuple(row for row in table if row.run in asked),
            _behaviour_returns(self._specs, self._provenance),
            missing,
            bool(done & asked.keys() - earlier),
        )

    def write(self, summary: Summary, picture: bytes, failures: Sequence[str]) -> None:
        """Write every return, the table, its picture, and where they come from."""
        write_csv(self.returns, summary.rows)
        write_bytes(self.out / "table.md", summary.markdown().encode())
        write_bytes(self.out / "table.png", picture)
        # Where nothing was run, figures stay those of the machine and command that made them.
        fresh = summary.ran or not self._provenance.exists()
        write_json(
            self._provenance,
            {
                **(machine() if fresh else read_json(self._provenance)),
                "preset": self.config.name,
                "recordings": {name: vars(found) for name, found in summary.behaviour.items()},
                "missing": summary.missing,
                "failures": failures,
                "seconds": round(sum(r.seconds for r in summary.shown if r.metric == "last"), 1),
            },
        )


@dataclass(frozen=True)
class Summary:
    """What is done of a comparison.

    Attributes:
        cells: all that was asked for.
        rows: all that is known, of earlier commands too.
        shown: those of the seeds that were asked for.
        behaviour: mean return of the recorded episodes, by id of the recording, where known.
        missing: a line for each run that isn't done.
        ran: whether this command made any of the rows.
    """

    cells: tuple[Cell, ...]
    rows: tuple[Row, ...]
    shown: tuple[Row, ...]
    behaviour: dict[str, Interval]
    missing: tuple[str, ...]
    ran: bool

    def sections(self) -> list[Section]:
        """Return the tables."""
        return sections(self.cells, self.shown, self.behaviour)

    def markdown(self) -> str:
        """Return the tables as Markdown."""
        return markdown(self.cells, self.shown, self.behaviour)


def _check_same_comparison(config: ComparisonConfig, earlier: Sequence[Row], out: Path) -> None:
    """Refuse a folder that holds another comparison, or this one with other updates.

    Raises:
        UserError: it does.
    """
    others = sorted({row.preset for row in earlier} - {config.name})
    if others and config.name not in {row.preset for row in earlier}:
        raise UserError(
            f"{out} holds the comparison {others[0]!r}, not {config.name!r}; choose another --out"
        )
    for row in earlier:
        asked = row.method in config.methods and row.preset == config.name
        updates = config.updates(row.method) if asked else row.updates
        if row.metric == "last" and row.updates != updates:
            raise UserError(
                f"{out} holds returns of {row.method} after {row.updates:,} updates, not "
                f"{updates:,}; choose another --out"
            )


def _behaviour_returns(specs: Sequence[DatasetSpec], provenance: Path) -> dict[str, Interval]:
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
