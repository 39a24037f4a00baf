"""A whole comparison: record, and run what is missing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from qss_offline.comparison.config import ComparisonConfig
from qss_offline.comparison.entry import Entry, Key
from qss_offline.comparison.rivals import RivalRun
from qss_offline.data.build import build_datasets
from qss_offline.data.families import family_path
from qss_offline.data.specs import DatasetSpec, read_family
from qss_offline.errors import UserError
from qss_offline.launch.cell import Launcher
from qss_offline.launch.driver import launch
from qss_offline.parallel.reporting import Notice, ProgressFactory, no_progress, print_notice
from qss_offline.statistics import counted
from qss_offline.training.runner import TrainingRun


def entries(settings: ComparisonConfig, root: Path) -> list[Entry]:
    """Return every run of a comparison: seeds in the outermost order, so that each adds a whole.

    Args:
        settings: the comparison.
        root: folder of its runs.

    Raises:
        UserError: a family or a level is missing, or the folder has runs on other recordings.
    """
    found = [
        Entry(settings, recorded.family, method, settings.first_seed + number, spec, root)
        for number in range(settings.seeds)
        for recorded in settings.recorded
        for spec in _recordings(settings, recorded.family, recorded.levels, number)
        for method in settings.methods
    ]
    keys = [entry.key for entry in found]
    if len(set(keys)) < len(keys):
        raise UserError("two families have one name, by which results are told apart: rename one")
    for entry in found:
        entry.check_recording()
    return found


def _recordings(
    settings: ComparisonConfig, family: str, levels: Sequence[float], number: int
) -> list[DatasetSpec]:
    """Return the recordings of a seed, by its number."""
    path = family_path(family)
    by_level = {spec.random_action_prob: spec for spec in read_family(path).specs}
    specs = []
    for level in levels:
        if level not in by_level:
            there = ", ".join(f"{level:g}" for level in sorted(by_level))
            raise UserError(f"{path} has no random_action_prob {level:g}: it has {there}")
        spec = by_level[level]
        size = spec.transitions if settings.transitions is None else settings.transitions
        specs.append(replace(spec, transitions=size, seed=settings.first_recording + number))
    return specs


def missing(all_of_it: Sequence[Entry], known: Collection[Key] = ()) -> list[Entry]:
    """Return what is neither known nor done, those that label before those that they label."""
    wanted: dict[Key, Entry] = {}
    for entry in all_of_it:
        if entry.key in known or entry.done:
            continue
        for one in (entry.labeller, entry):
            if one is not None and not one.done:
                wanted.setdefault(one.key, one)
    return list(wanted.values())


def seconds(left: Sequence[Entry], launcher: Launcher) -> float:
    """Return the wall time of some runs, roughly."""
    cells = [cell for entry in left for cell in entry.planned()]
    if not cells:
        return 0.0
    taken = [cell.seconds for cell in cells]
    return max(max(taken), sum(taken) / launcher.width(cells))


def run_missing(
    left: Sequence[Entry],
    launcher: Launcher,
    show_progress: ProgressFactory = no_progress,
    notice: Notice = print_notice,
) -> list[str]:
    """Record, and run what `missing` returned; return a line for each run that failed.

    Args:
        left: the runs.
        launcher: where.
        show_progress: makes a progress display.
        notice: gets a line for what failed.
    """
    if launcher.dry:
        list(launcher.run([cell for one in left for cell in one.planned()], lambda *_: None))
        return []
    specs = {entry.spec.obs_id: entry.spec for entry in left}
    build_datasets(
        list(specs.values()), launcher.workers, notice=lambda _: None, progress=show_progress
    )
    failures: list[str] = []

    def fail(entry: Entry, reason: object) -> None:
        failures.append(f"{entry.folder.path}: {reason}")
        notice(f"failed: {failures[-1]}")

    begun: list[tuple[Entry, TrainingRun | RivalRun]] = []
    for entry in left:
        try:
            begun.append((entry, entry.begun()))
        except UserError as error:
            fail(entry, error)
    title = counted(len(begun), "run")
    ends = launch([run for _, run in begun], launcher, show_progress, title)
    for (entry, _), ended in zip(begun, ends, strict=True):
        for reason in ended.failures:
            fail(entry, reason)
    return failures
