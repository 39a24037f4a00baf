"""How cost grows: time against seeds, batch and width; memory against the size of a recording.

    python -m benchmarks.scaling

writes `benchmarks/results/scaling.json` and draws `docs/images/scaling.png`. Memory is that of
`benchmarks/mapped_training.py` in a process of its own, without a limit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.updates import OBS_DIM, table
from qss_offline.algorithms.observational_d3g import (
    ObservationalD3G,
    ObservationalD3GConfig,
    ObservationBatch,
)
from qss_offline.analysis.plots.style import styled
from qss_offline.engine.loop import fit
from qss_offline.engine.sampler import UniformSampler
from qss_offline.engine.state import initial_state
from qss_offline.engine.update import CHUNK
from qss_offline.files import write_json
from qss_offline.runs.provenance import machine

AXES: dict[str, tuple[int, ...]] = {
    "seeds": (1, 2, 4, 8, 16),
    "batch": (32, 64, 128, 256, 512),
    "width": (32, 64, 128, 256, 512),
}
PICTURE = Path("docs/images/scaling.png")
BASE = {"seeds": 1, "batch": 128, "width": 128}
ROWS = (100_000, 1_000_000, 10_000_000)


def milliseconds(device: str, seeds: int, batch: int, width: int, seconds: float) -> float:
    """Median time of one update of a stack."""
    config = ObservationalD3GConfig((width, width), batch)
    algorithm = ObservationalD3G(config, OBS_DIM)
    state = initial_state(algorithm, range(seeds), device)
    sampler = UniformSampler([table(device)] * seeds, batch, ObservationBatch)
    mode: Any = "captured" if device == "cuda" else "recorded"
    step = CHUNK if device == "cuda" else 5
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 4:
        begin = time.perf_counter()
        fit(algorithm, state, sampler, state.update + step, 3e-4, mode=mode)
        if device == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - begin) / step * 1e3)
    return statistics.median(times[1:])


@styled
def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw a panel for each axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3), layout="constrained")
    axes = figure.subplots(1, 4)
    axes[1].sharey(axes[0])
    axes[2].sharey(axes[0])
    for axis, name in zip(axes, (*AXES, "rows"), strict=True):
        for device in dict.fromkeys(row["device"] for row in rows):
            points = [row for row in rows if row["axis"] == name and row["device"] == device]
            values = [row["value"] for row in points]
            label = "training" if name == "rows" else device
            axis.plot(values, [row["cost"] for row in points], "o-", label=label)
            if name == "rows" and points:
                axis.plot(values, [row["file_mib"] for row in points], "--", label="the recording")
        if name == "rows":
            axis.set(xscale="log", ylim=(0, None), ylabel="memory, MiB")
            axis.set_xlabel("transitions in the recording")
        else:
            axis.set_xscale("log", base=2)
            axis.set_yscale("log", base=2)
            axis.set(xlabel=name, ylabel="milliseconds an update")
            for ticks in (axis.xaxis, axis.yaxis):
                ticks.set_major_formatter("{x:g}")
    if len({row["device"] for row in rows}) > 1:
        axes[0].legend()
    axes[-1].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def main() -> None:
    """Measure, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/scaling.json"))
    parser.add_argument("--seconds", type=float, default=3.0, help="for each point")
    parser.add_argument("--draw", action="store_true", help="draw from the results only")
    arguments = parser.parse_args()
    if arguments.draw:
        draw(json.loads(arguments.out.read_text())["rows"], PICTURE)
        return
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for device in ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]:
        for name, values in AXES.items():
            for value in values:
                cost = milliseconds(device, **{**BASE, name: value}, seconds=arguments.seconds)
                rows.append({"device": device, "axis": name, "value": value, "cost": cost})
                print(f"{device}, {name} {value}: {cost:.2f} ms an update", flush=True)
    for value in ROWS:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.mapped_training", "--rows", str(value)],
            capture_output=True,
            text=True,
            check=True,
        )
        report = json.loads(done.stdout)
        cost = report["own_mib_for_training"]
        rows.append({"device": "cpu", "axis": "rows", "value": value, "cost": cost, **report})
        print(f"{value:,} transitions ({report['file_mib']:.0f} MiB): {cost:.0f} MiB", flush=True)
    write_json(arguments.out, {"machine": machine(), "base": BASE, "rows": rows})
    draw(rows, PICTURE)
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
