"""What a GPU does, in under four minutes of one.

    python -m benchmarks.gpu [--quick] [--out FILE]

Measures, and writes the file after every row: captured updates against eager ones; updates a second
of 1, 10 and 50 seeds, in float32 and TF32, with the time that capturing took apart; the kernels of
an update; the inverse fit and cloning of 50 seeds; a whole default run of ten seeds; the tests
marked `gpu`; d3rlpy's TD3+BC on the same card; last the same of compiled updates, for which
compiling takes most of the time. `--quick` is for trying the script itself, on a CPU too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.updates import CONFIG, OBS_DIM, d3rlpy_runner, table
from qss_offline.algorithms.bco import BehaviouralCloning, CloningConfig, LabelledBatch
from qss_offline.algorithms.inverse_dynamics import (
    ActionBatch,
    InverseDynamics,
    InverseDynamicsConfig,
)
from qss_offline.algorithms.observational_d3g import ObservationalD3G, ObservationBatch
from qss_offline.algorithms.protocol import Algorithm
from qss_offline.engine.device import training_with
from qss_offline.engine.graph_device import GRAPH_DEVICES
from qss_offline.engine.loop import Mode, fit
from qss_offline.engine.sampler import Columns, UniformSampler
from qss_offline.engine.state import TrainState, initial_state
from qss_offline.engine.update import CHUNK
from qss_offline.files import write_json
from qss_offline.runs.provenance import machine

OUT = Path("benchmarks/results/gpu.json")
SEEDS = (1, 10, 50)
TESTS_S, RUN_S, D3RLPY_S = 60, 75, 10
"""Limits of the parts that run programs of their own."""
TIMED_S = 1.5
"""For each row of updates."""
ACTION_DIM = 2

Rows = Iterator[dict[str, Any]]


class Trained:
    """A stack of seeds in training, as far as it is timed here."""

    def __init__(
        self,
        algorithm: Algorithm,
        columns: Columns,
        batch_size: int,
        make_batch: Callable[..., Any],
        seeds: int,
        mode: Mode = "captured",
        fused: bool = False,
    ) -> None:
        self.state: TrainState = initial_state(algorithm, range(seeds), columns[0].device)
        self._algorithm, self._mode, self._fused = algorithm, mode, fused
        self._sampler = UniformSampler([columns] * seeds, batch_size, make_batch)

    def train(self, chunks: int) -> None:
        """Train for so many chunks of updates, without waiting for them."""
        until = self.state.update + chunks * CHUNK
        fit(
            self._algorithm,
            self.state,
            self._sampler,
            until,
            1e-4,
            mode=self._mode,
            fused=self._fused,
        )


def d3g(device: str, seeds: int, **how: Any) -> Trained:
    """Offline D3G at the paper's sizes."""
    algorithm = ObservationalD3G(CONFIG, OBS_DIM)
    return Trained(algorithm, table(device), CONFIG.batch_size, ObservationBatch, seeds, **how)


def seconds(device: str, work: Callable[[], None]) -> float:
    """Return the seconds that work takes on a device, from launch to end."""
    wait = GRAPH_DEVICES[device].synchronize
    wait()
    if device != "cuda":
        begun = time.perf_counter()
        work()
        wait()
        return time.perf_counter() - begun
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    work()
    end.record()
    wait()
    return float(start.elapsed_time(end)) / 1e3


def speed(device: str, trained: Trained, timed_s: float = TIMED_S) -> dict[str, float]:
    """Return updates a second, and what came before the first of them."""
    prepared = seconds(device, lambda: trained.train(1))
    one = seconds(device, lambda: trained.train(1))
    chunks = max(2, round(timed_s / one))
    took = seconds(device, lambda: trained.train(chunks))
    rate, seeds = chunks * CHUNK / took, len(trained.state.seeds)
    found = {"capture_s": prepared - one, "updates_per_s": rate, "seed_updates_per_s": rate * seeds}
    if device == "cuda":
        found["peak_mib"] = torch.cuda.max_memory_allocated() / 2**20
    return {name: round(value, 2) for name, value in found.items()}


def agreement(device: str, chunks: int, fused: bool) -> Rows:
    """Measure how far captured updates end up from eager ones, relative to the parameters."""
    ends = []
    for mode in ("captured", "eager"):
        trained = d3g(device, 1, mode=mode, fused=fused)
        trained.train(chunks)
        networks = trained.state.networks.values()
        ends.append(torch.cat([network.flat.flatten() for network in networks]))
    captured, eager = ends
    difference = torch.linalg.vector_norm(captured - eager) / torch.linalg.vector_norm(eager)
    yield {"updates": chunks * CHUNK, "difference": float(difference)}


def rates(device: str, seed_counts: tuple[int, ...], timed_s: float, fused: bool) -> Rows:
    """Measure updates a second."""
    for seeds in seed_counts:
        for tf32 in (False, True):
            with training_with(tf32), memory(device):
                found = speed(device, d3g(device, seeds, fused=fused), timed_s)
            yield {"seeds": seeds, "tf32": tf32, **found}


@contextmanager
def memory(device: str) -> Iterator[None]:
    """Count a part's memory from nothing."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    yield


def beside(device: str, seeds: int, timed_s: float) -> Rows:
    """Measure what follows D3G on the GPU: the inverse fit and cloning."""
    obs, next_obs, *_ = table(device)
    action = obs.new_zeros(len(obs), ACTION_DIM)
    kinds: list[tuple[str, Algorithm, Columns, Any]] = [
        (
            "inverse fit",
            InverseDynamics(InverseDynamicsConfig(), OBS_DIM, ACTION_DIM),
            (obs, next_obs, action),
            ActionBatch,
        ),
        (
            "cloning",
            BehaviouralCloning(replace(CloningConfig(), error_power=2.0), OBS_DIM, ACTION_DIM),
            (obs, action),
            LabelledBatch,
        ),
    ]
    for name, algorithm, columns, batch in kinds:
        trained = Trained(algorithm, columns, CONFIG.batch_size, batch, seeds)
        yield {"what": name, "seeds": seeds, **speed(device, trained, timed_s)}


def kernels(device: str, fused: bool) -> Rows:
    """Count the kernels of an update as the GPU's own profiler sees them."""
    if device != "cuda":
        return
    trained = d3g(device, 1, fused=fused)
    trained.train(1)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        trained.train(1)
        torch.cuda.synchronize()
    counts = {event.key: event.count for event in profile.key_averages()}
    often = sorted(counts.items(), key=lambda one: -one[1])[:12]
    yield {
        "kernels_per_update": round(sum(counts.values()) / CHUNK, 1),
        "most": {name[:80]: count / CHUNK for name, count in often},
    }


def against_d3rlpy(device: str, limit_s: float) -> Rows:
    """Time d3rlpy's TD3+BC at the same sizes, where it is installed."""
    runner = d3rlpy_runner(device)
    if runner is None:
        yield {"installed": False}
        return
    compiling = seconds(device, lambda: runner(20))
    one = seconds(device, lambda: runner(20)) / 20
    count = max(20, round(limit_s / one))
    took = seconds(device, lambda: runner(count))
    yield {"updates_per_s": round(count / took, 1), "compile_s": round(compiling, 1)}


def run_of_tests(limit_s: float) -> Rows:
    """Run the tests that need a GPU."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-m", "gpu", "tests"]
    yield program(command, limit_s)


def default_run(device: str, limit_s: float) -> Rows:
    """Run the default of ten seeds, from recording to evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "minari").mkdir()
        command = [
            *(sys.executable, "-m", "recipes.random_obs", "--env", "InvertedPendulum"),
            *("--seeds", "10", "--device", device, "--out", f"{folder}/run"),
        ]
        found = program(command, limit_s, {"MINARI_DATASETS_PATH": f"{folder}/minari"})
        results = Path(folder) / "run" / "results.json"
        if results.exists():
            seeds = json.loads(results.read_text())["seeds"]
            found["last"] = [seed["last"]["mean"] for seed in seeds]
        yield found


def program(
    command: list[str], limit_s: float, env: dict[str, str] | None = None
) -> dict[str, Any]:
    """Run a program; what it says last, and whether it ended well in time."""
    begun = time.monotonic()
    try:
        done = subprocess.run(
            command, env=os.environ | (env or {}), capture_output=True, text=True, timeout=limit_s
        )
        code, said = done.returncode, (done.stdout + done.stderr).splitlines()
    except subprocess.TimeoutExpired:
        code, said = None, [f"stopped after {limit_s:.0f} s"]
    return {
        "command": " ".join(["python", *command[1:]]),
        "code": code,
        "seconds": round(time.monotonic() - begun, 1),
        "said": said[-3:],
    }


def main() -> None:
    """Measure every part, and write what is there after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--device", default="cuda", help="cuda")
    parser.add_argument("--quick", action="store_true", help="next to no time for each part")
    arguments = parser.parse_args()
    device, quick = arguments.device, arguments.quick
    timed_s, seed_counts = (0.01, (1, 2)) if quick else (TIMED_S, SEEDS)
    chunks = 1 if quick else 4
    found: dict[str, Any] = {"machine": machine(), "chunk": CHUNK}
    parts = {
        "captured against eager": agreement(device, chunks, False),
        "updates": rates(device, seed_counts, timed_s, False),
        "kernels": kernels(device, False),
        "beside D3G": beside(device, seed_counts[-1], timed_s),
        "default run of ten seeds": iter(()) if quick else default_run(device, RUN_S),
        "tests": iter(()) if quick else run_of_tests(TESTS_S),
        "d3rlpy's TD3+BC": against_d3rlpy(device, 0.01 if quick else D3RLPY_S),
        "compiled against eager": agreement(device, chunks, True),
        "compiled updates": rates(device, (seed_counts[0], seed_counts[-1]), timed_s, True),
        "compiled kernels": kernels(device, True),
    }
    begun = time.monotonic()
    for name, rows in parts.items():
        found[name] = []
        try:
            for row in rows:
                found[name].append(row)
                _write(arguments.out, found, begun, f"{name}: {json.dumps(row)}")
        except Exception as error:  # What follows is still worth its time.
            found[name].append({"failed": f"{type(error).__name__}: {error}"})
            _write(arguments.out, found, begun, f"{name} failed: {error}")


def _write(out: Path, found: dict[str, Any], begun: float, said: str) -> None:
    found["seconds"] = round(time.monotonic() - begun, 1)
    write_json(out, found)
    print(f"{found['seconds']:.0f} s, {said}", flush=True)


if __name__ == "__main__":
    main()
