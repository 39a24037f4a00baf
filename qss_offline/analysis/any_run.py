"""Finished runs of any method on a recording, told apart by what their `config.json` says."""

from __future__ import annotations

from pathlib import Path

from qss_offline.analysis import cloned_run, trained_run
from qss_offline.analysis.cloned_run import ClonedRun
from qss_offline.analysis.trained_run import TrainedRun
from qss_offline.runs.finished_run import FinishedRun, check_complete, read_run_files


def load_any_run(path: Path) -> FinishedRun:
    """Read the folder of a run of offline D3G or of BCO.

    Raises:
        UserError: it doesn't exist, holds no run, one that isn't finished, or another method's.
    """
    files = read_run_files(path)
    run: FinishedRun
    if files.config.get("method") == "bco":
        run, what = ClonedRun(*files), cloned_run.METHOD
    else:
        run, what = TrainedRun(*files), trained_run.METHOD
    check_complete(run, what)
    return run
