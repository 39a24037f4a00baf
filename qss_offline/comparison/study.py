"""One comparison from its options to its files: what is asked for, run, kept and written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qss_offline.baselines import require_d3rlpy
from qss_offline.comparison import grid
from qss_offline.comparison.config import RIVALS, ComparisonConfig, Recorded
from qss_offline.comparison.entry import Entry
from qss_offline.comparison.presets import comparison
from qss_offline.comparison.rows import (
    BEHAVIOUR,
    MemberRow,
    PointRow,
    Row,
    member_rows,
    points,
    read_rows,
    rows,
    with_earlier,
    write_rows,
)
from qss_offline.comparison.table import Section, markdown, sections
from qss_offline.data.environments import check_acting
from qss_offline.data.families import family_path
from qss_offline.engine.device import choose_device
from qss_offline.errors import UserError
from qss_offline.files import write_bytes, write_json
from qss_offline.launch.cell import Launcher
from qss_offline.parallel.reporting import ProgressFactory, no_progress
from qss_offline.runs.folder import read_json
from qss_offline.runs.provenance import machine


@dataclass(frozen=True)
class ComparisonOptions:
    """What to compare: a comparison by name, and what is other than there; None keeps it.

    Attributes:
        preset: name of the comparison.
        methods: comma-separated.
        levels: percentages of random actions, comma-separated.
        families: names of dataset families, or their TOML files, comma-separated.
        seeds: of each method on each recording's family and level.
        updates: of methods that aren't d3rlpy's.
        rival_updates: of d3rlpy's methods.
        transitions: size of the recordings.
        device: "auto", "cpu" or "cuda", where methods that aren't d3rlpy's are trained.
        tf32: faster, coarser matrix products on a GPU.
    """

    preset: str
    methods: str | None = None
    levels: str | None = None
    families: str | None = None
    seeds: int | None = None
    updates: int | None = None
    rival_updates: int | None = None
    transitions: int | None = None
    device: str = "cpu"
    tf32: bool = False

    def config(self) -> ComparisonConfig:
        """Return the comparison; its name tells it from others whose rows would look alike.

        Raises:
            UserError: an option can't be used.
        """
        config = comparison(self.preset)
        recorded = config.recorded
        if self.families is not None:
            recorded = _of_families(config, tuple(self.families.split(",")), self.levels is None)
        if self.levels is not None:
            levels = _levels(self.levels)
            recorded = tuple(replace(one, levels=levels) for one in recorded)
        asked = {
            "methods": None if self.methods is None else tuple(self.methods.split(",")),
            "seeds": self.seeds,
            "updates": self.updates,
            "rival_updates": self.rival_updates,
            "transitions": self.transitions,
        }
        given: dict[str, Any] = {k: v for k, v in asked.items() if v is not None}
        device = choose_device(self.device)
        return replace(config, recorded=recorded, device=device, tf32=self.tf32, **given)


def _of_families(
    config: ComparisonConfig, families: tuple[str, ...], own_levels: bool
) -> tuple[Recorded, ...]:
    known = {family_path(one.family): one for one in config.recorded}
    strange = [family for family in families if family_path(family) not in known]
    if strange and own_levels:
        raise UserError(f"{strange[0]} isn't of {config.name}: say its --levels, too")
    return tuple(known.get(family_path(family), Recorded(family, ())) for family in families)


def _levels(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(level) / 100 for level in text.split(","))
    except ValueError as error:
        raise UserError(f"--levels takes percentages such as 0,25,100, not {text!r}") from error
    if not all(0 <= level <= 1 for level in found):
        raise UserError(f"--levels takes percentages from 0 to 100, not {text!r}")
    return found


class Study:
    """A comparison, the folder of its runs, and the folder of its tables.

    Args:
        options: what to compare.
        runs: folder of the runs; None takes `runs/<name>`.
        out: folder of the tables; None takes that of the runs.
        show_only: whether, where nothing was run, what was published is meant.

    Raises:
        UserError: an option can't be used, a folder holds another comparison, or there is nothing
            to show.
    """

    def __init__(
        self,
        options: ComparisonOptions,
        runs: Path | None = None,
        out: Path | None = None,
        show_only: bool = False,
    ) -> None:
        config = self.config = options.config()
        self.runs = runs = runs or Path("runs") / config.name
        self.entries = grid.entries(config, runs)
        begun = (runs / "returns.csv").exists() or any(one.folder.started for one in self.entries)
        published = Path("results") / config.name
        self.out = out or (published if show_only and not begun else runs)
        self.returns = self.out / "returns.csv"
        if show_only and not begun and not self.returns.exists():
            raise UserError(
                f"there is nothing of {config.name} to show: nothing was run in {runs}, and there "
                f"is no {self.returns}; start it in the repository's folder, which has published "
                "results, or without --show to run it"
            )
        self._members, self._curves = self.out / "members.csv", self.out / "curves.csv"
        self._provenance = self.out / "provenance.json"
        self._earlier = read_rows(self.returns, Row)
        self._check_same()

    def _check_same(self) -> None:
        """Refuse a folder that holds another comparison, or this one with other updates.

        Raises:
            UserError: it does.
        """
        config, asked = self.config, {entry.key: entry for entry in self.entries}
        for row in self._earlier:
            if row.preset != config.name:
                raise UserError(
                    f"{self.out} holds the comparison {row.preset!r}, not {config.name!r}; choose "
                    "another --out"
                )
            entry = asked.get(row.key)
            if entry is not None and row.dataset_id != entry.spec.obs_id:
                raise UserError(
                    f"{self.out} holds returns on {row.dataset_id}, not on {entry.spec.obs_id}; "
                    "choose another --out"
                )
            if entry is not None and row.metric == "last" and row.updates != entry.updates:
                raise UserError(
                    f"{self.out} holds returns of {row.method} after {row.updates:,} updates, not "
                    f"{entry.updates:,}; choose another --out"
                )

    def missing(self) -> list[Entry]:
        """Return the runs that are neither done nor known from earlier commands."""
        return grid.missing(self.entries, {row.key for row in self._earlier})

    def run(self, launcher: Launcher, show_progress: ProgressFactory = no_progress) -> list[str]:
        """Run what is missing; return a line for each run that failed."""
        left = self.missing()
        if any(entry.method in RIVALS for entry in left):
            require_d3rlpy()
        in_a_box = [name for name in self.config.methods if name not in ("auto", "d3g")]
        for env_id in {entry.spec.env_id for entry in self.entries}:
            check_acting(env_id, in_a_box[0] if in_a_box else None)
        return grid.run_missing(left, launcher, show_progress)

    def summary(self) -> Summary:
        """Return what is done by now, and what isn't."""
        table = with_earlier(rows(self.entries), self._earlier)
        members = with_earlier(member_rows(self.entries), read_rows(self._members, MemberRow))
        curves = with_earlier(points(self.entries), read_rows(self._curves, PointRow))
        done = {row.key for row in table}
        asked = {entry.key for entry in self.entries}
        asked |= {(key[0], key[1], BEHAVIOUR, key[3]) for key in asked}
        order = {key[:2]: place for place, key in enumerate(e.key for e in self.entries)}
        shown = [row for row in table if row.key in asked]
        return Summary(
            tuple(self.entries),
            tuple(table),
            tuple(sorted(shown, key=lambda row: order[row.key[:2]])),
            tuple(members),
            tuple(curves),
            tuple(entry.name for entry in self.entries if entry.key not in done),
            bool(done & asked - {row.key for row in self._earlier}),
        )

    def write(self, summary: Summary, picture: bytes, failures: Sequence[str]) -> None:
        """Write every return, the tables, their picture, and where they come from."""
        write_rows(self.returns, Row, summary.rows)
        write_rows(self._members, MemberRow, summary.members)
        write_rows(self._curves, PointRow, summary.curves)
        write_bytes(self.out / "table.md", markdown(summary.sections()).encode())
        write_bytes(self.out / "table.png", picture)
        # Where nothing was run, figures stay those of the machine and command that made them.
        fresh = summary.ran or not self._provenance.exists()
        write_json(
            self._provenance,
            {
                **(machine() if fresh else read_json(self._provenance)),
                "preset": self.config.name,
                "missing": summary.missing,
                "failures": failures,
                "seconds": round(sum(r.seconds for r in summary.shown if r.metric == "last"), 1),
            },
        )


@dataclass(frozen=True)
class Summary:
    """What is done of a comparison.

    Attributes:
        entries: all that was asked for.
        rows: all that is known, of earlier commands too.
        shown: those of the runs that were asked for, and of their recordings, in their order.
        members: what the members of races returned.
        curves: every evaluation.
        missing: the name of each run that isn't done.
        ran: whether this command made any of the rows.
    """

    entries: tuple[Entry, ...]
    rows: tuple[Row, ...]
    shown: tuple[Row, ...]
    members: tuple[MemberRow, ...]
    curves: tuple[PointRow, ...]
    missing: tuple[str, ...]
    ran: bool

    def sections(self) -> list[Section]:
        """Return the tables."""
        asked = {entry.key for entry in self.entries}
        members = [row for row in self.members if row.key in asked]
        curves = [row for row in self.curves if row.key in asked]
        return sections(self.entries, self.shown, members, curves)
