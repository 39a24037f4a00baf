"""What runs there are: from their folders, finished or not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qss_offline.errors import UserError, nearest, shown
from qss_offline.runs.folder import read_json
from qss_offline.runs.results import seeds_of_file

_FOLDERS_DEEP = 4


@dataclass(frozen=True)
class ListedRun:
    """A run in a line.

    Attributes:
        path: its folder.
        method: what learns.
        source: the recording, or of an online run the environment.
        state: "finished", "not finished", or what is wrong with it.
        scores: last mean return of each seed; empty where there are none.
        begun: when its folder was made, in seconds since 1970.
    """

    path: str
    method: str
    source: str
    state: str
    scores: str
    begun: float


def list_runs(folder: Path) -> list[ListedRun]:
    """Return the runs in a folder and in its folders, those begun last first.

    A run's own folder is that run.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.exists():
        beside = [str(path) for path in folder.parent.glob("*") if path.is_dir()]
        raise UserError(f"there is no folder {folder}{nearest(str(folder), beside)}")
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder of runs")
    found = [
        path
        for depth in range(_FOLDERS_DEEP + 1)
        for path in folder.glob("/".join([*["*"] * depth, "config.json"]))
    ]
    listed = [_listed(path) for path in found]
    return sorted(listed, key=lambda run: -run.begun)


def _listed(config_path: Path) -> ListedRun:
    path, begun = config_path.parent, config_path.stat().st_mtime
    try:
        config = read_json(config_path)
        method = shown(config.get("method", "unknown")).strip("'\"")
        source = str(config.get("dataset_id") or config.get("env_id") or "unknown")
        results = path / "results.json"
        if not results.exists():
            return ListedRun(str(path), method, source, "not finished", "", begun)
        seeds = seeds_of_file(read_json(results), results)
    except UserError as error:
        return ListedRun(str(path), "unknown", "unknown", f"can't be read: {error}", "", begun)
    scores = ", ".join(f"{seed['last']['mean']:.1f}" for seed in seeds if seed["evaluations"])
    return ListedRun(str(path), method, source, "finished", scores, begun)
