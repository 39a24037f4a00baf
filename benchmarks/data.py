"""How fast datasets are recorded, written and loaded, against stock Minari in the same run.

    python -m benchmarks.data                 # one million transitions, about 15 minutes
    python -m benchmarks.data --quick --out /tmp/data.json

Everything is measured in a temporary Minari root that is removed afterwards.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import gymnasium
import minari
import numpy as np
from minari.data_collector import EpisodeBuffer
from rich.console import Console
from rich.table import Table

from qss_offline.data import (
    DatasetSpec,
    Transitions,
    build_dataset,
    collect,
    load_transitions,
    write_pair,
)
from qss_offline.files import write_json
from qss_offline.jobs import available_cores

FULL, QUICK = 1_000_000, 20_000
# Stock writing takes milliseconds an episode: measured on a part, and the part is stated.
STOCK_BUFFERS, STOCK_COLLECTOR = 50_000, 5_000
DEFAULT_OUT = Path(__file__).parent / "results" / "data.json"

T = TypeVar("T")
Row = dict[str, Any]


def cpu_model() -> str:
    """Return the processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def timed(function: Callable[[], T]) -> tuple[T, float]:
    """Return a function's result and the seconds it took."""
    begin = time.perf_counter()
    result = function()
    return result, time.perf_counter() - begin


def row(measure: str, transitions: int, seconds: float, **more: Any) -> Row:
    """Return one measurement."""
    rate = transitions / seconds
    print(f"{measure}: {transitions:,} transitions in {seconds:.3f} s ({rate:,.0f}/s)", flush=True)
    return {
        "measure": measure,
        "transitions": transitions,
        "seconds": seconds,
        "transitions_per_s": rate,
        **more,
    }


def episode_buffers(transitions: Transitions) -> list[EpisodeBuffer]:
    """Return the episodes as stock Minari takes them."""
    assert transitions.actions is not None
    starts = transitions.episode_starts()
    buffers = []
    for start, end in zip(starts, [*starts[1:], len(transitions)], strict=True):
        seen = np.concatenate(
            [transitions.observations[start:end], transitions.next_observations[end - 1 : end]]
        )
        buffers.append(
            EpisodeBuffer(
                observations=seen.astype(np.float64),
                actions=transitions.actions[start:end],
                rewards=transitions.rewards[start:end].tolist(),
                terminations=transitions.terminations[start:end].tolist(),
                truncations=transitions.truncations[start:end].tolist(),
                infos={},
            )
        )
    return buffers


def stock_collector(env_id: str, steps: int) -> None:
    """Record with Minari's own DataCollector and write the dataset."""
    env = minari.DataCollector(gymnasium.make(env_id), record_infos=False)
    env.action_space.seed(0)
    env.reset(seed=0)
    for _ in range(steps):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            env.reset()
    env.create_dataset("stock/benchmark/collector-v0")
    env.close()


def stock_iteration(dataset_id: str) -> int:
    """Read a whole dataset with stock Minari; return its steps."""
    return sum(len(episode) for episode in minari.load_dataset(dataset_id).iterate_episodes())


def measure(env_id: str, transitions: int, stock_buffers: int, stock_steps: int) -> list[Row]:
    """Measure everything and return the rows."""
    spec = DatasetSpec(env_id, transitions=transitions)
    rows = []
    for workers in (1, 2):
        recording, seconds = timed(partial(collect, spec, workers))
        rows.append(row(f"collect, workers={workers}", transitions, seconds, workers=workers))
    pair, seconds = timed(lambda: write_pair(recording, spec))
    rows.append(row("write both datasets", transitions, seconds, episodes=pair.episodes))
    _, seconds = timed(lambda: build_dataset(spec, overwrite=True))
    rows.append(row("build: collect and write both", transitions, seconds))
    loads = [timed(lambda: load_transitions(pair.obs_id))[1] for _ in range(7)]
    for label, seconds in (("first", loads[0]), ("median of 7", float(np.median(loads)))):
        rows.append(row(f"load from sidecar, digest checked ({label})", transitions, seconds))
    steps, seconds = timed(lambda: stock_iteration(pair.obs_id))
    assert steps == transitions
    rows.append(row("stock Minari iterate_episodes", transitions, seconds))
    part = DatasetSpec(env_id, transitions=stock_buffers, shards=1)
    buffers = episode_buffers(collect(part))
    _, seconds = timed(
        lambda: minari.create_dataset_from_buffers(
            "stock/benchmark/buffers-v0", buffers, env=spec.env_id
        )
    )
    rows.append(
        row("stock Minari create_dataset_from_buffers (one dataset)", stock_buffers, seconds)
    )
    if find_spec("jax") is None:
        print('stock Minari DataCollector: not measured, it needs `pip install "minari[create]"`')
    else:
        _, seconds = timed(lambda: stock_collector(spec.env_id, stock_steps))
        rows.append(row("stock Minari DataCollector (collect and write)", stock_steps, seconds))
    return rows


def show(rows: list[Row]) -> None:
    """Print a table."""
    table = Table(title="data layer")
    for heading in ("what", "transitions", "seconds", "transitions/s"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for one in rows:
        table.add_row(
            one["measure"],
            f"{one['transitions']:,}",
            f"{one['seconds']:.3f}",
            f"{one['transitions_per_s']:,.0f}",
        )
    Console().print(table)


@contextmanager
def temporary_root() -> Any:
    """Let Minari use a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="qss-benchmark-") as folder:
        before = os.environ.get("MINARI_DATASETS_PATH")
        os.environ["MINARI_DATASETS_PATH"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["MINARI_DATASETS_PATH"]
            else:
                os.environ["MINARI_DATASETS_PATH"] = before


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--env", default="InvertedPendulum", help="environment")
    parser.add_argument("--transitions", type=int, help=f"default {FULL:,}, quick {QUICK:,}")
    parser.add_argument("--quick", action="store_true", help="a small run, to see that it works")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="where the JSON goes")
    arguments = parser.parse_args()
    transitions = arguments.transitions or (QUICK if arguments.quick else FULL)
    scale = 10 if arguments.quick else 1
    warnings.filterwarnings("ignore", category=UserWarning)  # stock Minari asks for an author
    with temporary_root():
        rows = measure(arguments.env, transitions, STOCK_BUFFERS // scale, STOCK_COLLECTOR // scale)
    packages = ("numpy", "gymnasium", "mujoco", "minari", "h5py", "pyarrow", "qss-offline")
    result = {
        "command": shlex.join(["python", "-m", "benchmarks.data", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "cpu": cpu_model(),
            "cores": available_cores(),
            "load_average_at_end": os.getloadavg()[0],
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in packages},
        "env_id": DatasetSpec(arguments.env).env_id,
        "rows": rows,
    }
    write_json(arguments.out, result)
    show(rows)
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
