"""What datasets cost from 10^5 to 10^7 transitions: seconds and memory, beside stock Minari.

    python -m benchmarks.data                 # about an hour, 10 GB of disk
    python -m benchmarks.data --envs InvertedPendulum --sizes 10000000 --out /tmp/data.json
    python -m benchmarks.data --quick --out /tmp/data.json

By default Reacher is taken to ten million; InvertedPendulum, whose random episodes last six steps,
to one million (165,000 episodes).

Everything is done in a temporary Minari root that is removed afterwards, each step in a process of
its own, whose memory is watched (`memory.py`). Training runs under a memory limit (`RLIMIT_DATA`;
mapped files don't count). Stock Minari is measured at one size only, as it takes milliseconds an
episode.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np
from minari.data_collector import EpisodeBuffer
from rich.console import Console
from rich.table import Table

from benchmarks.memory import Measured, measured
from qss_offline.data import (
    DatasetSpec,
    Transitions,
    build_dataset,
    load_transitions,
    verify_dataset,
)
from qss_offline.data.local import minari_root
from qss_offline.data.minari_format import EPISODES_FILE
from qss_offline.files import write_json
from qss_offline.parallel.reporting import no_tick
from qss_offline.runs.provenance import machine

SIZES = {"InvertedPendulum": (100_000, 1_000_000), "Reacher": (100_000, 1_000_000, 10_000_000)}
QUICK_SIZES = (2_000, 20_000)
STOCK, QUICK_STOCK = 100_000, 2_000
STOCK_COLLECTOR = 5_000
UPDATES, LIMIT_MIB = 300, 300
DEFAULT_OUT = Path(__file__).parent / "results" / "data.json"

Row = dict[str, Any]
Record = Callable[..., None]


# --- what is measured, each in a process of its own -----------------------------------------


def build(env_id: str, transitions: int) -> Row:
    """Record and write both datasets."""
    spec = DatasetSpec(env_id, transitions=transitions)
    pair = build_dataset(spec, notice=lambda message: None)
    root = minari_root()
    sizes = {
        path.name: path.stat().st_size / 2**20 for path in (root / pair.obs_id / "data").iterdir()
    }
    return {
        "episodes": pair.episodes,
        "body_mib": sizes[EPISODES_FILE],
        "sidecar_mib": sizes["columns.arrow"],
    }


def verify(dataset_id: str) -> Row:
    """Check everything, every episode and the twin's actions included."""
    verification = verify_dataset(dataset_id)
    assert verification.ok, verification.faults
    return {"checks": len(verification.checks)}


def load(dataset_id: str) -> Row:
    """Map the columns and check their digest."""
    return {"rows": len(load_transitions(dataset_id).transitions)}


def train(dataset_id: str, updates: int, limit_mib: int) -> Row:
    """Load a dataset and train from it under a memory limit beyond what imports take."""
    import torch

    from benchmarks.mapped_training import memory_mib
    from qss_offline.algorithms.observational_d3g import ObservationalD3GConfig
    from qss_offline.data.facts import recording_facts
    from qss_offline.runs.folder import RunFolder
    from qss_offline.training.offline import OfflineTrainer, SeedTask

    torch.set_num_threads(1)
    before = memory_mib()
    limit = int((before["limited"] + limit_mib) * 2**20)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    transitions = load_transitions(dataset_id).transitions
    config = ObservationalD3GConfig((64, 64), 256, normalize_observations=True)
    with tempfile.TemporaryDirectory() as folder:
        task = SeedTask(0, RunFolder(Path(folder)).seed(0))
        trainer = OfflineTrainer(
            [task],
            transitions,
            config,
            recording_facts(transitions, config.normalize_observations),
        )
        begin = time.perf_counter()
        state = trainer.run(updates, no_tick)
        seconds = time.perf_counter() - begin
    assert torch.isfinite(state.networks["critic"].flat).all()
    return {
        "updates": state.update,
        "updates_per_s": state.update / seconds,
        "limit_mib": limit_mib,
        "own_mib_for_training": memory_mib()["own"] - before["own"],
    }


def episode_buffers(transitions: Transitions) -> list[EpisodeBuffer]:
    """Return the episodes as stock Minari takes them."""
    assert transitions.actions is not None
    starts = transitions.episode_starts()
    buffers = []
    for start, end in zip(starts, [*starts[1:], len(transitions)], strict=True):
        obs = np.concatenate(
            [transitions.observations[start:end], transitions.next_observations[end - 1 : end]]
        )
        buffers.append(
            EpisodeBuffer(
                observations=obs.astype(np.float64),
                actions=transitions.actions[start:end],
                rewards=transitions.rewards[start:end].tolist(),
                terminations=transitions.terminations[start:end].tolist(),
                truncations=transitions.truncations[start:end].tolist(),
                infos={},
            )
        )
    return buffers


def stock_write(env_id: str, transitions: int) -> Row:
    """Write one dataset with stock Minari, from the recording of ours."""
    warnings.simplefilter("ignore", UserWarning)  # stock Minari asks for an author
    spec = DatasetSpec(env_id, transitions=transitions)
    recording = load_transitions(spec.act_id).transitions
    minari.create_dataset_from_buffers(
        "stock/benchmark/buffers-v0", episode_buffers(recording), env=spec.env_id
    )
    return {}


def stock_read(dataset_id: str) -> Row:
    """Read every episode of one of our datasets with stock Minari."""
    dataset = minari.load_dataset(dataset_id)
    return {"rows": sum(len(episode) for episode in dataset.iterate_episodes())}


def stock_collector(env_id: str, steps: int) -> Row:
    """Record with Minari's own DataCollector and write the dataset."""
    warnings.simplefilter("ignore", UserWarning)
    env = minari.DataCollector(
        gymnasium.make(DatasetSpec(env_id).env_id), record_infos=False, data_format="hdf5"
    )
    env.action_space.seed(0)
    env.reset(seed=0)
    for _ in range(steps):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            env.reset()
    env.create_dataset("stock/benchmark/collector-v0")
    env.close()
    return {}


# --- the whole ------------------------------------------------------------------------------


def measure(
    env_id: str, transitions: int, updates: int, limit_mib: int, stock: bool, record: Record
) -> None:
    """Build, verify, load and train at one size; where asked, stock Minari too."""
    spec = DatasetSpec(env_id, transitions=transitions)
    size = (spec.env_id, transitions)
    record("build both datasets", *size, measured(build, env_id, transitions))
    record("verify the one without actions", *size, measured(verify, spec.obs_id))
    record("load, digest checked: first time", *size, measured(load, spec.obs_id))
    record("load, digest checked: again", *size, measured(load, spec.obs_id))
    taken = measured(train, spec.obs_id, updates, limit_mib)
    record(f"load and train {updates} updates", *size, taken)
    if stock:
        record("stock: read", *size, measured(stock_read, spec.obs_id))
        record("stock: write one dataset", *size, measured(stock_write, env_id, transitions))
        if find_spec("jax") is None:
            print('stock DataCollector: not measured, it needs `pip install "minari[create]"`')
        else:
            taken = measured(stock_collector, env_id, STOCK_COLLECTOR)
            record("stock: DataCollector", spec.env_id, STOCK_COLLECTOR, taken)


def row(measure: str, env_id: str, transitions: int, taken: Measured) -> Row:
    """Return one measurement."""
    return {
        "measure": measure,
        "env_id": env_id,
        "transitions": transitions,
        "seconds": taken.seconds,
        "us_per_transition": 1e6 * taken.seconds / transitions,
        "cpu_us_per_transition": 1e6 * taken.cpu_seconds / transitions,
        "peak_own_mib": taken.own_mib,
        "peak_resident_mib": taken.resident_mib,
        "load_average": os.getloadavg()[0],
        **taken.result,
    }


def show(rows: list[Row]) -> None:
    """Print a table."""
    table = Table(title="data layer")
    for heading in (
        "what",
        "environment",
        "transitions",
        "s",
        "µs each",
        "CPU µs",
        "own MiB",
        "resident",
    ):
        table.add_column(heading)
    for one in rows:
        table.add_row(
            one["measure"],
            one["env_id"],
            f"{one['transitions']:,}",
            f"{one['seconds']:.2f}",
            f"{one['us_per_transition']:.2f}",
            f"{one['cpu_us_per_transition']:.2f}",
            f"{one['peak_own_mib']:,.0f}",
            f"{one['peak_resident_mib']:,.0f}",
        )
    Console(width=150).print(table)


def markdown(rows: list[Row]) -> str:
    """Return the table of docs/performance.md: a line for each size, a column for each step."""
    steps = (
        ("build", "build both datasets"),
        ("verify", "verify the one without actions"),
        ("load", "load, digest checked: again"),
        ("train", "load and train"),
    )
    lines = [
        "| environment | transitions | episodes | build | verify | load | train |",
        "|---|---|---|---|---|---|---|",
    ]
    for env_id, transitions in sorted({(r["env_id"], r["transitions"]) for r in rows}):
        cells = [env_id, f"{transitions:,}"]
        mine = [r for r in rows if (r["env_id"], r["transitions"]) == (env_id, transitions)]
        cells.append(next((f"{r['episodes']:,}" for r in mine if "episodes" in r), ""))
        for name, measure in steps:
            found = [r for r in mine if r["measure"].startswith(measure)]
            cell = "".join(
                f"{r['seconds']:,.1f} s, "
                + (f"{r['cpu_us_per_transition']:.1f} µs, " if name != "train" else "")
                + f"{r['peak_own_mib']:,.0f} MiB"
                for r in found
            )
            cells.append(cell)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--envs", nargs="+", default=list(SIZES))
    parser.add_argument("--sizes", nargs="+", type=int, help="the same for all environments")
    parser.add_argument("--stock", type=int, help=f"the size with stock Minari, default {STOCK:,}")
    parser.add_argument("--updates", type=int, default=UPDATES)
    parser.add_argument("--limit-mib", type=int, default=LIMIT_MIB, help="of training")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="where the JSON goes")
    parser.add_argument(
        "--table", action="store_true", help="print what --out holds as Markdown, measure nothing"
    )
    arguments = parser.parse_args()
    if arguments.table:
        print(markdown(json.loads(arguments.out.read_text())["rows"]))
        return
    sizes = {env_id: SIZES.get(env_id, SIZES["Reacher"]) for env_id in arguments.envs}
    if arguments.sizes or arguments.quick:
        sizes = dict.fromkeys(arguments.envs, tuple(arguments.sizes or QUICK_SIZES))
    stock = arguments.stock or (QUICK_STOCK if arguments.quick else STOCK)
    rows: list[Row] = []

    def record(*given: Any) -> None:
        rows.append(row(*given))
        one = rows[-1]
        print(
            f"{one['env_id']}, {one['transitions']:,}: {one['measure']}: {one['seconds']:.2f} s, "
            f"{one['peak_own_mib']:.0f} MiB of its own",
            flush=True,
        )
        write_json(arguments.out, {"machine": machine(), "rows": rows})

    with tempfile.TemporaryDirectory(prefix="qss-benchmark-") as folder:
        os.environ["MINARI_DATASETS_PATH"], root = folder, Path(folder)
        # The small ones of all environments first: who stops it keeps something of each.
        cases = [(size, env_id) for env_id in arguments.envs for size in sizes[env_id]]
        for size, env_id in sorted(cases):
            with_stock = size == stock
            measure(env_id, size, arguments.updates, arguments.limit_mib, with_stock, record)
            for there in root.iterdir():
                shutil.rmtree(there)
    show(rows)
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
