"""A whole comparison: build the recordings, run what is missing, cell by cell."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from qss_offline.comparison.cells import Cell, Job, Run
from qss_offline.comparison.config import ComparisonConfig
from qss_offline.comparison.estimate import seconds_of_cells
from qss_offline.data.build import build_datasets
from qss_offline.data.families import family_path
from qss_offline.data.load import load_transitions
from qss_offline.data.specs import DatasetSpec, load_family
from qss_offline.errors import UserError
from qss_offline.launch import cell as launch
from qss_offline.launch.cell import Launcher, shared_out
from qss_offline.launch.driver import run_shown
from qss_offline.launch.local import LocalLauncher
from qss_offline.parallel.reporting import Notice, ProgressFactory, no_progress, print_notice


def recordings(settings: ComparisonConfig, transitions: int | None = None) -> list[DatasetSpec]:
    """Return the recordings that a comparison needs.

    Args:
        settings: which families and levels.
        transitions: another size than the families'; None keeps theirs.

    Raises:
        UserError: a family or a level is missing.
    """
    return [
        _recording(family_path(family), level, settings.data_seed, transitions)
        for family in settings.families
        for level in settings.random_action_probs
    ]


def known_recordings(
    settings: ComparisonConfig, transitions: int | None = None
) -> list[DatasetSpec]:
    """Return the recordings whose actions are known, one for each family, if there are any.

    Arguments and errors are those of `recordings`.
    """
    known = settings.known
    if known is None:
        return []
    return [
        _recording(family_path(family), known.random_action_prob, known.data_seed, transitions)
        for family in settings.families
    ]


def _recording(path: Path, level: float, seed: int | None, transitions: int | None) -> DatasetSpec:
    by_level = {spec.random_action_prob: spec for spec in load_family(path)}
    if level not in by_level:
        there = ", ".join(f"{level:g}" for level in sorted(by_level))
        raise UserError(f"{path} has no random_action_prob {level:g}: it has {there}")
    spec = by_level[level]
    if transitions is not None:
        spec = replace(spec, transitions=transitions)
    return spec if seed is None else replace(spec, seed=seed)


def make_cells(
    settings: ComparisonConfig,
    specs: Sequence[DatasetSpec],
    root: Path,
    known: Sequence[DatasetSpec] = (),
) -> list[Cell]:
    """Return every cell, also those that no seed is asked for.

    Args:
        settings: the comparison.
        specs: its recordings.
        root: folder of its runs.
        known: recordings whose actions are known, from `known_recordings`.

    Raises:
        UserError: a recording whose actions are known is one of the comparison's own; two
            recordings are of one environment and level, or the folder has runs on others.
    """
    by_level: dict[tuple[str, float], DatasetSpec] = {}
    for spec in specs:
        other = by_level.setdefault((spec.env_id, spec.random_action_prob), spec)
        if other != spec:
            raise UserError(
                f"{other.obs_id} and {spec.obs_id} are of one environment and level, by which "
                "results are told apart: compare one family at a time, each with its own --runs "
                "and --out"
            )
    own = {spec.act_id for spec in specs}
    for spec in known:
        if spec.act_id in own:
            raise UserError(
                f"{spec.act_id} is one of the recordings to learn from: its actions can't be "
                "known; choose another level, or another seed of the recording"
            )
    actions_of = {spec.env_id: spec.act_id for spec in known}
    cells = [
        Cell(
            method,
            spec.env_id,
            spec.random_action_prob,
            spec.obs_id,
            spec.act_id,
            root,
            settings,
            actions_of.get(spec.env_id),
        )
        for method in settings.methods
        for spec in specs
    ]
    for cell in cells:
        cell.check_recording()
    return cells


def run_cells(
    cells: Sequence[Cell],
    specs: Sequence[DatasetSpec],
    known: Collection[Run] = (),
    launcher: Launcher | None = None,
    show_progress: ProgressFactory = no_progress,
    notice: Notice = print_notice,
    *,
    with_actions: Sequence[DatasetSpec] = (),
) -> list[str]:
    """Build recordings and run what is missing; return a line for each job that failed.

    Methods on pseudo-labels wait for BCO, whose inverse model labels.

    Args:
        cells: of the comparison.
        specs: their recordings.
        known: runs that needn't be made, since their returns are at hand.
        launcher: where; None takes processes of one thread each here. D3G's and BCO's seeds of a
            cell are one stack there, and apart on a cluster.
        show_progress: makes a progress display.
        notice: gets a line for what is there already, and for what failed.
        with_actions: recordings whose actions are known.
    """
    launcher = launcher or LocalLauncher()
    jobs = missing_jobs(cells, known, launcher.apart)
    if launcher.dry:
        timed = [
            replace(cell, seconds=seconds_of_cells([(job.cell, len(job.seeds))], 1))
            for job, cell in zip(jobs, launched_cells(jobs, {}), strict=True)
        ]
        return [failure for _, failure in launcher.run(timed, lambda *_: None) if failure]
    opened = {name for job in jobs for name in job.opened}
    build_datasets(
        [spec for spec in specs if {spec.obs_id, spec.act_id} & opened]
        + [spec for spec in with_actions if spec.act_id in opened],
        launcher.workers,
        notice=lambda _: None,
        progress=show_progress,
    )
    digests = {name: load_transitions(name).info.digest for name in sorted(opened)}
    launched = launched_cells(jobs, digests)
    failures: list[str] = []
    title = f"{len(jobs)} cells"
    for index, failure in run_shown(launched, launcher, show_progress, title, table=True):
        if failure is not None:
            failures.append(f"{jobs[index].cell.folder.path}: {failure}")
            notice(f"failed: {failures[-1]}")
    return failures


def missing_jobs(cells: Sequence[Cell], known: Collection[Run], apart: bool) -> list[Job]:
    """Return what isn't done, in the order in which it begins: labellers before those they label.

    Args:
        cells: of the comparison.
        known: runs that needn't be made.
        apart: whether each seed is a job of its own, which those of d3rlpy's methods are anyway.
    """
    wanted = {cell.key: (cell, cell.missing(known)) for cell in cells}
    for cell, seeds in list(wanted.values()):
        labeller = cell.labeller
        if labeller is not None and seeds:
            _, asked = wanted.get(labeller.key, (labeller, ()))
            unlabelled = {seed for seed in seeds if not labeller.done(seed)}
            wanted[labeller.key] = labeller, tuple(sorted({*asked, *unlabelled}))
    jobs = [
        Job(cell, some)
        for cell, seeds in wanted.values()
        for some in shared_out(seeds, 1 if cell.method in ("d3g", "bco") and not apart else None)
    ]
    return sorted(jobs, key=lambda job: job.cell.labeller is not None)


def launched_cells(jobs: Sequence[Job], digests: Mapping[str, str]) -> list[launch.Cell]:
    """Return jobs as what is launched; those on pseudo-labels wait for their labellers."""
    labellers = [job for job in jobs if job.cell.method == "bco"]

    def after(job: Job) -> list[str]:
        labeller = job.cell.labeller
        if labeller is None:
            return []
        return [
            other.name
            for other in labellers
            if other.cell.key == labeller.key and set(other.seeds) & set(job.seeds)
        ]

    return [job.launched(digests, after(job)) for job in jobs]
