"""Updates a second of offline D3G, against the plain version and the machine's own ceiling.

    python -m benchmarks.updates [--quick] [--out FILE]

Measures in one run, for each device: the float32 GEMM ceiling; a plain `nn.Module` + Adam version
of the same update (`benchmarks/plain_d3g.py`); ours eager, recorded and captured for 1, 10 and 50
seeds; d3rlpy's TD3+BC with the same sizes where it is installed. The variants take turns, several
rounds each, and the median of the rounds counts, so that a machine whose speed drifts treats them
alike. One thread a process.
"""

from __future__ import annotations

import argparse
import itertools
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.plain_d3g import PlainD3G
from qss_offline.algorithms.observational_d3g import (
    ObservationalD3G,
    ObservationalD3GConfig,
    ObservationBatch,
)
from qss_offline.engine.loop import Mode, fit
from qss_offline.engine.sampler import Columns, UniformSampler
from qss_offline.engine.state import initial_state
from qss_offline.engine.update import CHUNK
from qss_offline.files import write_json
from qss_offline.runs.provenance import machine

OBS_DIM, ROWS = 4, 100_000
CONFIG = ObservationalD3GConfig()
"""The paper's sizes: width 256, batch 256."""

Runner = Callable[[int], None]
"""Runs so many updates."""


def table(device: str) -> Columns:
    """Transitions of the right sizes; their values don't change the work."""
    generator = torch.Generator().manual_seed(0)
    columns = (
        torch.randn(ROWS, OBS_DIM, generator=generator),
        torch.randn(ROWS, OBS_DIM, generator=generator),
        torch.rand(ROWS, generator=generator),
        (torch.rand(ROWS, generator=generator) < 0.1).float(),
    )
    return tuple(column.to(device) for column in columns)


def flop_per_update(config: ObservationalD3GConfig, obs_dim: int) -> float:
    """Floating point operations in the matrix products of one update of one seed."""

    def layers(in_dim: int, out_dim: int) -> list[float]:
        dims = (in_dim, *config.hidden_dims, out_dim)
        return [2.0 * config.batch_size * i * o for i, o in itertools.pairwise(dims)]

    critic, proposal = layers(2 * obs_dim, 1), layers(obs_dim, obs_dim)
    forward = layers(obs_dim + 1, obs_dim)

    def trained(network: list[float]) -> float:
        """Forward, gradients of weights, gradients of inputs but the first layer's."""
        return 3 * sum(network) - network[0]

    target = sum(proposal) + 3 * sum(critic) + sum(forward)
    proposal_step = trained(proposal) + 2 * (2 * sum(critic)) + 2 * sum(forward)
    return (
        target
        + 2 * trained(critic)
        + sum(critic)
        + trained(forward)
        + proposal_step / config.proposal_update_interval
    )


def gemm_ceiling(device: str, seeds: int) -> float:
    """FLOP/s of batched float32 products of the hidden layers' size; the best of several rounds."""
    size = CONFIG.batch_size
    left, right = torch.randn(2, seeds, size, size, device=device)
    out = torch.empty_like(left)
    count = 200 if device == "cuda" else max(1, 60 // seeds)
    best = 0.0
    for _ in range(5):
        _synchronize(device)
        begin = time.perf_counter()
        for _ in range(count):
            torch.bmm(left, right, out=out)
        _synchronize(device)
        best = max(best, count * seeds * 2 * size**3 / (time.perf_counter() - begin))
    return best


def _synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def plain_runner(device: str) -> Runner:
    """The ordinary way: sample, three losses, three optimisers."""
    columns = table(device)
    plain = PlainD3G(OBS_DIM, CONFIG.hidden_dims, device=device)

    def run(updates: int) -> None:
        for _ in range(updates):
            rows = torch.randint(ROWS, (CONFIG.batch_size,), device=device)
            obs, next_obs, reward, terminated = (column[rows] for column in columns)
            plain.update(obs, next_obs, reward.unsqueeze(-1), terminated.unsqueeze(-1))

    return run


def our_runner(device: str, seeds: int, mode: Mode) -> Runner:
    """Ours, for a stack of seeds."""
    algorithm = ObservationalD3G(CONFIG, OBS_DIM)
    state = initial_state(algorithm, range(seeds), device)
    sampler = UniformSampler([table(device)] * seeds, CONFIG.batch_size, ObservationBatch)

    def run(updates: int) -> None:
        fit(algorithm, state, sampler, state.update + updates, CONFIG.learning_rate, mode=mode)

    return run


def d3rlpy_runner(device: str) -> Runner | None:
    """d3rlpy's TD3+BC with the same sizes, or None where it isn't installed."""
    try:
        import d3rlpy
    except ImportError:
        return None
    import numpy as np

    rng = np.random.default_rng(0)
    terminals = np.zeros(ROWS, np.float32)
    terminals[99::100] = 1
    dataset = d3rlpy.dataset.MDPDataset(
        rng.normal(size=(ROWS, OBS_DIM)).astype(np.float32),
        rng.uniform(-1, 1, (ROWS, 1)).astype(np.float32),
        rng.uniform(size=ROWS).astype(np.float32),
        terminals,
    )
    encoder = d3rlpy.models.VectorEncoderFactory(list(CONFIG.hidden_dims))
    td3 = d3rlpy.algos.TD3PlusBCConfig(
        batch_size=CONFIG.batch_size,
        actor_encoder_factory=encoder,
        critic_encoder_factory=encoder,
        compile_graph=device == "cuda",
    ).create(device="cuda:0" if device == "cuda" else "cpu:0")
    td3.build_with_dataset(dataset)

    def run(updates: int) -> None:
        for _ in range(updates):
            td3.update(dataset.sample_transition_batch(CONFIG.batch_size))

    return run


def _timed(runner: Runner, updates: int, device: str) -> float:
    _synchronize(device)
    begin = time.perf_counter()
    runner(updates)
    _synchronize(device)
    return updates / (time.perf_counter() - begin)


def measure_device(device: str, seed_counts: list[int], seconds: float, rounds: int) -> list[Any]:
    """Measure every variant on one device, in turns."""
    torch.set_num_threads(1)
    variants: list[tuple[str, int, Runner]] = [("plain", 1, plain_runner(device))]
    modes: list[Mode] = ["eager", "recorded"]
    if device == "cuda":
        modes.append("captured")
    for seeds in seed_counts:
        variants += [(f"ours {mode}", seeds, our_runner(device, seeds, mode)) for mode in modes]
    rival = d3rlpy_runner(device)
    if rival is not None:
        variants.append(("d3rlpy TD3+BC", 1, rival))
    peaks: dict[tuple[str, int], int | None] = {}
    sizes: dict[tuple[str, int], int] = {}
    for name, seeds, runner in variants:
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        _timed(runner, CHUNK if device == "cuda" else 4, device)
        speed = _timed(runner, CHUNK if device == "cuda" else 4, device)
        # Whole chunks, so that a captured graph is used for every update.
        step = CHUNK if device == "cuda" else 2
        sizes[name, seeds] = max(1, math.ceil(seconds * speed / step)) * step
        peaks[name, seeds] = torch.cuda.max_memory_allocated() if device == "cuda" else None
    speeds: dict[tuple[str, int], list[float]] = {key: [] for key in sizes}
    ceilings: list[float] = []
    for _ in range(rounds):
        ceilings.append(gemm_ceiling(device, 1 if device == "cpu" else 50))
        for name, seeds, runner in variants:
            speeds[name, seeds].append(_timed(runner, sizes[name, seeds], device))
    ceiling = statistics.median(ceilings)
    flop = flop_per_update(CONFIG, OBS_DIM)
    rows: list[Any] = [
        {
            "device": device,
            "implementation": "float32 GEMM ceiling",
            "seeds": 1,
            "updates_per_s": ceiling / flop,
            "seed_updates_per_s": ceiling / flop,
            "share_of_gemm_ceiling": 1.0,
            "peak_bytes": None,
            "gflop_per_s": ceiling / 1e9,
        }
    ]
    for (name, seeds), measured in speeds.items():
        speed = statistics.median(measured)
        ours = name != "d3rlpy TD3+BC"
        rows.append(
            {
                "device": device,
                "implementation": name,
                "seeds": seeds,
                "updates_per_s": speed,
                "seed_updates_per_s": speed * seeds,
                "share_of_gemm_ceiling": speed * seeds * flop / ceiling if ours else None,
                "peak_bytes": peaks[name, seeds],
                "rounds": measured,
            }
        )
    return rows


def _compete(seconds: float, queue: Any, barrier: Any) -> None:
    torch.set_num_threads(1)
    runner = our_runner("cpu", 1, "recorded")
    runner(4)
    barrier.wait()
    begin, updates = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        runner(2)
        updates += 2
    queue.put(updates / (time.perf_counter() - begin))


def two_processes(seconds: float, rounds: int) -> list[Any]:
    """One process with one seed against two with one seed each, in turns."""
    context = multiprocessing.get_context("spawn")
    speeds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        for count in (1, 2):
            queue, barrier = context.Queue(), context.Barrier(count)
            workers = [
                context.Process(target=_compete, args=(seconds, queue, barrier))
                for _ in range(count)
            ]
            for worker in workers:
                worker.start()
            speeds[count].append(sum(queue.get() for _ in workers))
            for worker in workers:
                worker.join()
    return [
        {
            "device": "cpu",
            "implementation": f"ours recorded, {count} process{'es' if count > 1 else ''}",
            "seeds": count,
            "updates_per_s": statistics.median(measured) / count,
            "seed_updates_per_s": statistics.median(measured),
            "share_of_gemm_ceiling": None,
            "peak_bytes": None,
            "rounds": measured,
        }
        for count, measured in speeds.items()
    ]


def main() -> None:
    """Measure, print a table, write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/updates.json"))
    parser.add_argument("--quick", action="store_true", help="within a minute, and rough")
    arguments = parser.parse_args()
    seconds, rounds = (0.5, 3) if arguments.quick else (4.0, 7)
    rows = measure_device("cpu", [1, 10] if arguments.quick else [1, 10, 50], seconds, rounds)
    rows += two_processes(1.0 if arguments.quick else 6.0, 1 if arguments.quick else 5)
    if torch.cuda.is_available():
        rows += measure_device("cuda", [1, 10, 50], seconds, rounds)
    write_json(arguments.out, {"machine": machine(), "rows": rows})
    shown = Table(
        "device", "implementation", "seeds", "updates/s", "seed-updates/s", "of ceiling", "MiB"
    )
    for row in rows:
        share, peak = row["share_of_gemm_ceiling"], row["peak_bytes"]
        shown.add_row(
            row["device"],
            row["implementation"],
            str(row["seeds"]),
            f"{row['updates_per_s']:,.1f}",
            f"{row['seed_updates_per_s']:,.1f}",
            "" if share is None else f"{100 * share:.0f}%",
            "" if peak is None else f"{peak / 2**20:,.0f}",
        )
    Console().print(shown)
    if not torch.cuda.is_available():
        print("No CUDA device here: the GPU's rows are not measured.")
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
