"""What a report is made of: finished runs and tables of returns, as tasks, methods and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from qss_offline.analysis.report.comparison import ONLINE, Scores, Task
from qss_offline.data.families import own_family
from qss_offline.errors import UserError, printable
from qss_offline.presets import preset_of
from qss_offline.runs.reader import LABELS, FinishedRun, OnlineRun, load_any_run
from qss_offline.runs.results import final_mean
from qss_offline.runs.tables import read_table
from qss_offline.settings_json import still_known, to_plain
from qss_offline.statistics import mean_of

AnyRun = FinishedRun | OnlineRun

_BEHAVIOUR = "behaviour"
_MOST_DIFFERENCES = 3


@dataclass(frozen=True)
class ReturnRow:
    """What is needed of a line of a `returns.csv`.

    Attributes:
        env_id: the environment.
        random_action_prob: of the recording, None where unknown.
        method: what learned.
        seed: of the method.
        metric: "last" or another.
        mean_return: over the episodes of one evaluation.
        preset: name of the comparison, if the table has one.
        family: of the recording, likewise.
    """

    env_id: str
    random_action_prob: float | None
    method: str
    seed: int
    metric: str
    mean_return: float
    preset: str | None = None
    family: str | None = None


@dataclass
class Returns:
    """Scores and what stands beside them in a table.

    Attributes:
        scores: of all methods.
        recorded: mean return of the recorded behaviour, where known.
        papers: what the paper calls a method, by its label here.
        presets: of the methods, by their labels, where known.
    """

    scores: Scores = field(default_factory=dict)
    recorded: dict[Task, float] = field(default_factory=dict)
    papers: dict[str, str] = field(default_factory=dict)
    presets: dict[str, str] = field(default_factory=dict)


def read_returns(path: Path, alone: bool = False) -> Returns:
    """Read the last evaluations of a `returns.csv`.

    Tasks are environments at a level of randomness, those of half-trained experts apart.

    Args:
        path: the file.
        alone: whether nothing else is compared: methods then say their presets only where these
            differ.

    Raises:
        UserError: the file can't be read, lacks a column or holds something else than numbers.
    """
    found = Returns()
    behaviour: dict[Task, list[float]] = {}
    rows = read_table(path, ReturnRow, others=True)
    told_apart = not alone or len({row.preset for row in rows}) > 1
    for row in rows:
        if row.metric != "last":
            continue
        task = Task(printable(row.env_id), row.random_action_prob, note=_family_note(row))
        if row.method == _BEHAVIOUR:
            behaviour.setdefault(task, []).append(row.mean_return)
            continue
        label = LABELS.get(row.method, printable(row.method))
        if row.preset:
            preset = printable(row.preset)
            label = f"{label} ({preset})" if told_apart else label
            found.presets[label] = preset
        found.scores.setdefault(task, {}).setdefault(label, {})[row.seed] = row.mean_return
        found.papers[label] = row.method
    if not found.scores:
        raise UserError(f"{path} holds no rows whose metric is last")
    found.recorded |= {task: mean_of(values).estimate for task, values in behaviour.items()}
    return found


def _family_note(row: ReturnRow) -> str:
    """Return what tells a recording's family from the environment's own."""
    if row.family in (None, "", own_family(row.env_id)):
        return ""
    family = printable(row.family)
    return "half-trained" if family == f"{own_family(row.env_id)}_medium" else family


def load_sources(paths: Sequence[Path]) -> tuple[list[AnyRun], dict[str, Returns]]:
    """Read every source: tables, by their paths, and runs.

    Raises:
        UserError: one can't be read.
    """
    alone = len(paths) == 1
    tables = {printable(path): read_returns(path, alone) for path in paths if path.suffix == ".csv"}
    return [load_any_run(path) for path in paths if path.suffix != ".csv"], tables


def task_of(run: AnyRun) -> Task:
    """Return what a run learned from."""
    if isinstance(run, OnlineRun):
        return Task(printable(run.env_id), note=ONLINE)
    known = run.results.get("random_action_prob")
    return Task(run.config.env_id or "no environment", known, run.dataset_id)


def scores_of(run: AnyRun) -> list[float]:
    """Return the score of every seed: of the last evaluation, of an online run of the last three.

    A run without evaluations has none.
    """
    if isinstance(run, OnlineRun):
        return [final_mean(seed) for seed in run.results["seeds"]]
    return run.last.tolist() if run.evaluated else []


def run_names(runs: Sequence[AnyRun]) -> list[str]:
    """Return the names of the folders, told apart by numbers where they are alike."""
    names: list[str] = []
    for run in runs:
        own, count = printable(run.name), 1
        name = own
        while name in names:
            count += 1
            name = f"{own} ({count})"
        names.append(name)
    return names


def run_methods(runs: Sequence[AnyRun], names: Sequence[str]) -> list[str]:
    """Return the method of every run: its label, and whatever else tells it from others.

    Runs of one recording and the same settings but other seeds are of one method. What has the same
    label and other settings is told apart by these; what has the same seeds, too, by its name.
    """
    settings = [_settings(run) for run in runs]
    methods = [
        run.label + _apart(number, [s for other, s in zip(runs, settings, strict=True)
                                    if other.label == run.label])
        for run, number in zip(runs, settings, strict=True)
    ]  # fmt: skip
    taken: set[tuple[Task, str, int]] = set()
    for index, run in enumerate(runs):
        keys = {(task_of(run), methods[index], seed) for seed in run.seeds}
        if keys & taken:
            methods[index] += f" ({names[index]})"
        taken |= keys
    return methods


def returns_of_runs(runs: Sequence[AnyRun], methods: Sequence[str]) -> Returns:
    """Return the scores of runs that were evaluated."""
    found = Returns()
    for run, method in zip(runs, methods, strict=True):
        task = task_of(run)
        if isinstance(run, FinishedRun):
            found.recorded[task] = run.behaviour[0]
            found.papers[method] = run.method
            found.presets[method] = run.config.preset_name
        scores = dict(zip(run.seeds, scores_of(run), strict=False))
        if scores:
            found.scores.setdefault(task, {}).setdefault(method, {}).update(scores)
    return found


def _settings(run: AnyRun) -> dict[str, Any]:
    """Return everything that settles what a run does but seeds, recording and environment."""
    if isinstance(run, OnlineRun):
        return _flat({name: run.results.get(name) for name in ("config", "start_run")})
    config = replace(run.config, seeds=(), dataset_id="", recording=None, device="cpu", tf32=False)
    measured = run.facts.error_power
    # What was measured is the recording's; the settings say only that it is measured.
    named = preset_of(config.preset_name, run.method)
    if named is not None:
        decided, inverse = named.with_recording(run.facts), config.preset.inverse
        if inverse.model.recorded_coef == decided.inverse.model.recorded_coef:
            coef = named.inverse.model.recorded_coef
            inverse = replace(inverse, model=replace(inverse.model, recorded_coef=coef))
        config = replace(config, preset=replace(config.preset, inverse=inverse))
    if config.cloning is not None and config.cloning.error_power == measured:
        config = replace(config, cloning=replace(config.cloning, error_power=None))
    if config.portfolio is not None:
        config = replace(config, portfolio=config.portfolio.without_power(measured))
    return {k: v for k, v in _flat(to_plain(config)).items() if k not in ("env_id", "preset_name")}


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Return the leaves of dictionaries in dictionaries, by dotted names."""
    if not isinstance(value, dict):
        return {name: value}
    found: dict[str, Any] = {}
    for key, inner in still_known(value).items():
        found |= _flat(inner, f"{name}.{key}" if name else str(key))
    return found


def _apart(own: Mapping[str, Any], alike: Sequence[Mapping[str, Any]]) -> str:
    """Return in words what tells settings from others of the same label; nothing where none do."""
    kinds = [one for index, one in enumerate(alike) if one not in alike[:index]]
    if len(kinds) == 1:
        return ""
    names = dict.fromkeys(name for one in kinds for name in one)
    differing = [n for n in names if any(one.get(n) != own.get(n) for one in kinds)]
    if len(differing) > _MOST_DIFFERENCES:
        return f", settings {kinds.index(own) + 1} of {len(kinds)}"
    said = (f"{n.rpartition('.')[2]}={printable(own.get(n))}" for n in differing)
    return ", " + ", ".join(said)
