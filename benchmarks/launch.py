"""What launching costs: cells on Ray against processes here, two workers against one, many cells.

    python -m benchmarks.launch

writes `benchmarks/results/launch.json`. A trivial cell holds its folder and notes that it ran. Ray
runs on this machine alone, its workers as nice as those of the local launcher. Measured are

- `trivial`: milliseconds a cell of many trivial ones, from the first that ends to the last, so that
  the start of processes isn't in it;
- `start_s`: seconds until the first of them ends, with the start of everything;
- `scaling`: seconds of the same cells of training with one worker and with two, which together
  take a core each, from when the first began (processes that are started, and what they import,
  aside); cores that others use, too, lessen the ratio;
- `waiting`: the same of cells that wait a while and take no core: what the launcher itself allows;
- `cell_peak_mib`: the most memory that a process of these had resident.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from qss_offline.data.build import build_dataset
from qss_offline.data.specs import DatasetSpec
from qss_offline.files import write_json
from qss_offline.launch.cell import Cell, Launcher
from qss_offline.launch.choice import launcher_of
from qss_offline.launch.driver import run_shown
from qss_offline.parallel.processes import Tick
from qss_offline.parallel.reporting import no_progress
from qss_offline.presets import preset
from qss_offline.runs.config import RunConfig
from qss_offline.runs.folder import RunFolder
from qss_offline.runs.provenance import machine
from qss_offline.training.runner import TrainingRun

_TURNS = 3


def nothing(settings: Mapping[str, Any], tick: Tick) -> None:
    """Note that it ran."""
    Path(settings["folder"], "ran").touch()


def waiting(settings: Mapping[str, Any], tick: Tick) -> None:
    """Take time, but no core."""
    time.sleep(settings["seconds"])
    nothing(settings, tick)


def trivial(folder: Path, count: int, task: str = "nothing", **settings: float) -> list[Cell]:
    """Return cells that do nothing, of as many units that processes are worth it."""
    return [
        Cell(
            f"{n}",
            f"benchmarks.launch:{task}",
            {"folder": str(path), **settings},
            (str(path),),
            1e4,
        )
        for n, path in ((n, folder / str(n)) for n in range(count))
    ]


def training(folder: Path, dataset: str, seeds: int, updates: int) -> list[Cell]:
    """Return cells of offline D3G without an inverse fit, one a seed."""
    chosen = replace(preset("default").spend(updates, None, None), ensemble=1)
    config = RunConfig(
        "d3g", None, dataset, tuple(range(seeds)), "default", chosen, offline_only=True
    )
    run = TrainingRun(config, RunFolder(folder), resume=False)
    run.start()
    return run.cells(None)


def timed(launcher: Launcher, cells: Sequence[Cell]) -> list[float]:
    """Return the seconds after which each cell had ended.

    Raises:
        RuntimeError: one failed.
    """
    begun, times = time.perf_counter(), []
    for _, failure in run_shown(cells, launcher, no_progress, "cells", table=False):
        if failure is not None:
            raise RuntimeError(failure)
        times.append(time.perf_counter() - begun)
    return times


def overhead(launcher: Launcher, folder: Path, count: int) -> dict[str, float]:
    """Return what trivial cells cost."""
    times = timed(launcher, trivial(folder, count))
    return {
        "cells": count,
        "start_s": round(times[0], 2),
        "ms_a_cell": round(1e3 * (times[-1] - times[0]) / (count - 1), 2),
    }


def scaling(
    make: Callable[[int], Launcher], folder: Path, cells: Callable[[Path], list[Cell]], turns: int
) -> dict[str, Any]:
    """Return how long cells take with one worker and with two, in turn."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for turn in range(turns):
        for workers in (1, 2):
            place = folder / f"{turn}-{workers}"
            timed(make(workers), cells(place))
            # A cell's lock is made when it begins; what it writes last is there when it ends.
            begun = min(path.stat().st_mtime for path in place.rglob("lock"))
            last = (*place.rglob("result.json"), *place.rglob("ran"))
            ended = max(path.stat().st_mtime for path in last)
            seconds[workers].append(round(ended - begun, 2))
    ratios = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
    return {
        "seconds_with_1": seconds[1],
        "seconds_with_2": seconds[2],
        "times_faster": round(statistics.median(ratios), 2),
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/launch.json"))
    parser.add_argument("--cells", type=int, default=6, help="of training")
    parser.add_argument("--updates", type=int, default=1_000, help="of each of them")
    parser.add_argument("--many", type=int, default=1_000, help="trivial cells")
    arguments = parser.parse_args()
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    found: dict[str, Any] = {
        "machine": machine(),
        "cells_of_training": {"cells": arguments.cells, "updates_each": arguments.updates},
        "load_average_before": [round(one, 2) for one in os.getloadavg()],
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["MINARI_DATASETS_PATH"] = str(folder / "minari")
        (folder / "minari").mkdir()
        dataset = build_dataset(DatasetSpec("InvertedPendulum", transitions=10_000)).obs_id
        for kind in ("local", "ray"):
            make = partial(launcher_of, kind)
            place = folder / kind
            found[kind] = {
                "trivial": overhead(make(2), place / "trivial", arguments.many),
                "waiting": scaling(
                    make,
                    place / "waiting",
                    lambda folder: trivial(folder, 10, "waiting", seconds=2.0),
                    1,
                ),
                "scaling": scaling(
                    make,
                    place / "training",
                    lambda folder: training(folder, dataset, arguments.cells, arguments.updates),
                    _TURNS,
                ),
            }
            print(f"{kind}: {found[kind]}", flush=True)
            if kind == "local":
                peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
                found["cell_peak_mib"] = round(peak / 1024)
    found["load_average_after"] = [round(one, 2) for one in os.getloadavg()]
    write_json(arguments.out, found)
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
