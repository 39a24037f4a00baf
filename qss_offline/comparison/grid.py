"""A whole comparison: build the recordings, run what is missing, cell by cell."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from qss_offline.comparison.cells import Cell, Job, Run, run_job
from qss_offline.comparison.config import ComparisonConfig
from qss_offline.data.build import build_datasets
from qss_offline.data.environments import known_in_workers, workers_for
from qss_offline.data.families import family_path
from qss_offline.data.specs import DatasetSpec, load_family
from qss_offline.errors import UserError
from qss_offline.parallel.processes import available_cores, run_jobs
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
    workers: int | None = None,
    show_progress: ProgressFactory = no_progress,
    notice: Notice = print_notice,
    *,
    with_actions: Sequence[DatasetSpec] = (),
) -> list[str]:
    """Build recordings and run what is missing; return a line for each cell that failed.

    D3G's and BCO's seeds of a cell run as one stack. Methods on pseudo-labels wait for BCO,
    whose inverse model labels.

    Args:
        cells: of the comparison.
        specs: their recordings.
        known: runs that needn't be made, since their returns are at hand.
        workers: processes; None takes one a core.
        show_progress: makes a progress display.
        notice: gets a line for what is there already, and for what failed.
        with_actions: recordings whose actions are known.
    """
    wanted = {cell.key: (cell, cell.missing(known)) for cell in cells}
    for cell, seeds in list(wanted.values()):
        labeller = cell.labeller
        if labeller is not None and seeds:
            _, asked = wanted.get(labeller.key, (labeller, ()))
            unlabelled = {s for s in seeds if not labeller.folder.seed(s).result.exists()}
            wanted[labeller.key] = labeller, tuple(sorted({*asked, *unlabelled}))
    needed = {cell.obs_id for cell, seeds in wanted.values() if seeds}
    actions = {cell.actions_from for cell, seeds in wanted.values() if seeds}
    build_datasets(
        [spec for spec in specs if spec.obs_id in needed]
        + [spec for spec in with_actions if spec.act_id in actions],
        workers,
        notice=lambda _: None,
        progress=show_progress,
    )
    failures: list[str] = []
    for pseudo in (False, True):
        jobs = [
            job
            for cell, seeds in wanted.values()
            if (cell.labeller is not None) == pseudo
            for job in _jobs(cell, seeds)
        ]
        jobs = [replace(job, number=number) for number, job in enumerate(jobs)]
        if not jobs:
            continue
        title = f"{len(jobs)} cells" + (" on pseudo-labels" if pseudo else "")
        sizes = [job.cell.units * len(job.seeds) for job in jobs]
        with show_progress(title, round(sum(sizes)), "updates") as report:
            env_ids = [job.cell.env_id for job in jobs]
            count = workers_for(env_ids, workers or available_cores(), len(jobs), notice)
            run = known_in_workers(run_job, env_ids)
            for index, failure in run_jobs(run, jobs, count, report, sizes):
                if failure is not None:
                    failures.append(f"{jobs[index].cell.folder.path}: {failure}")
                    notice(f"failed: {failures[-1]}")
    return failures


def _jobs(cell: Cell, seeds: tuple[int, ...]) -> list[Job]:
    if cell.method in ("d3g", "bco"):
        return [Job(cell, seeds)] if seeds else []
    return [Job(cell, (seed,)) for seed in seeds]
