"""Minari's public MuJoCo datasets, which others publish results on, learned from without actions.

https://minari.farama.org/datasets/mujoco: Gymnasium's version 5, about a million steps each.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qss_offline.api.sweeping import Sweep, run_sweep
from qss_offline.cli.cells import refuse_failed
from qss_offline.cli.tables import print_table
from qss_offline.data.hub import pull_dataset
from qss_offline.data.load import load_transitions, recorded_behaviour
from qss_offline.data.local import local_dataset_ids
from qss_offline.data.stochasticity import STOCHASTIC_FROM, behaviour_stochasticity
from qss_offline.errors import UserError, by_name
from qss_offline.launch.cell import Launcher
from qss_offline.parallel.progress import progress
from qss_offline.presets import named_method
from qss_offline.runs.folder import parse_seeds
from qss_offline.statistics import counted, number_text

_ALL, _PAIR = ("simple", "medium", "expert"), ("medium", "expert")
DATASETS = {
    "hopper": _ALL,
    "halfcheetah": _ALL,
    "walker2d": _ALL,
    "invertedpendulum": _PAIR,
    "inverteddoublependulum": _PAIR,
    "reacher": _PAIR,
}
"""Levels of each environment."""
_MEGABYTES = "135 to 210 MB"


def dataset_ids(envs: Sequence[str], levels: Sequence[str]) -> list[str]:
    """Return the ids of the datasets of some environments and levels.

    Raises:
        UserError: one is unknown.
    """
    for level in levels:
        by_name("level", level, dict.fromkeys(_ALL))
    return [
        f"mujoco/{env}/{level}-v0"
        for env in envs
        for level in by_name("environment of Minari's MuJoCo datasets", env, DATASETS)
        if level in levels
    ]


def learn_from_minari(
    *,
    envs: Sequence[str],
    levels: Sequence[str],
    source: str,
    methods: Sequence[str],
    seeds: str,
    out: Path,
    list_only: bool,
    launcher: Launcher,
) -> None:
    """Pull what is missing, say what it is, train on it, and report on all.

    Args:
        envs: some of `DATASETS`.
        levels: of these.
        source: where the datasets are pulled from.
        methods: that are trained.
        seeds: of each.
        out: folder of the runs.
        list_only: only say what would be pulled.
        launcher: where runs are trained.

    Raises:
        UserError: a name is unknown, a dataset can't be pulled, or a run failed.
    """
    ids = dataset_ids(envs, levels)
    if not ids:
        raise UserError(f"Minari has no {','.join(levels)} dataset of {', '.join(envs)}")
    for method in methods:
        named_method(method)
    parse_seeds(seeds)
    here = set(local_dataset_ids())
    if list_only:
        rows = [(one, "here" if one in here else f"to pull, {_MEGABYTES}") for one in ids]
        print_table(("dataset", "where"), rows)
        left = counted(sum(one not in here for one in ids), "dataset")
        print(f"{left} to pull from {source}. Nothing was pulled or run.")
        return
    for one in ids:
        if one not in here:
            pull_dataset(one, source, progress=progress)
            print(f"pulled {one}", flush=True)
    measured = []
    for one in ids:
        dataset = load_transitions(one)
        recorded = dataset.transitions
        share = behaviour_stochasticity(recorded)
        random = "unknown" if share is None else f"{share:.2g}"
        if share is not None and share < STOCHASTIC_FROM:
            random += ", as good as none"
        mean = number_text(recorded_behaviour(dataset).mean)
        measured.append((one, f"{len(recorded):,}", mean, random))
    print_table(("dataset", "steps", "return recorded", "behaviour stochasticity"), measured)
    print("Their actions are not looked at.", flush=True)
    sweep = Sweep(tuple(ids), methods=tuple(methods), seeds=seeds)
    compared, failures = run_sweep(sweep, out, launcher=launcher)
    if compared is not None:
        print_table(*compared.table())
        print(f"made {compared.report(out / 'report', video=False)}")
    refuse_failed(failures)
