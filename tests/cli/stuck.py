"""A command whose work reaches no safe point: `python -m tests.cli.stuck HOW FOLDER`."""

import os
import time
from pathlib import Path
from typing import Annotated

from typer import Argument

from qss_offline.cli.command import main
from qss_offline.parallel import processes
from qss_offline.parallel.processes import Tick, run_jobs

LONG_S = 600.0


def work(job: tuple[str, float], tick: Tick) -> None:
    folder, seconds = job
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(seconds)


def stuck(
    how: Annotated[str, Argument()],
    folder: Annotated[str, Argument()],
    grace: Annotated[float, Argument()] = processes.GRACE_S,
) -> None:
    """Work for ten minutes; workers that are to end have `grace` seconds for it."""
    processes.GRACE_S = grace
    # Workers import it by its own name, not by that of the running script.
    from tests.cli.stuck import work

    if how == "alone":
        list(run_jobs(work, [(folder, LONG_S)], 1))
    elif how == "workers":
        list(run_jobs(work, [(folder, LONG_S)] * 2, 2))
    elif how == "between":
        for _ in run_jobs(work, [(folder, 0.0), (folder, LONG_S)], 2):
            # One of the workers is still at it, while the caller does something with a result.
            work((folder, LONG_S), lambda units: None)
    else:
        work((folder, 0.0), lambda units: None)
        while True:
            try:
                time.sleep(LONG_S)
            except KeyboardInterrupt:
                continue


if __name__ == "__main__":
    main(stuck)
