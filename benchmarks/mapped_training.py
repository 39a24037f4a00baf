"""Train a few updates from a recording on disk, and report how much memory that took.

    python -m benchmarks.mapped_training --rows 10000000 --limit-mib 300

writes a synthetic recording to a temporary file (in pieces), maps it into memory as any dataset is
mapped, and trains with the process's own memory limited (`RLIMIT_DATA`; mapped files don't count).
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
from pathlib import Path

import numpy as np
import torch

from qss_offline.algorithms.observational_d3g import ObservationalD3GConfig
from qss_offline.data.facts import recording_facts
from qss_offline.data.sidecar import SidecarInfo, digest, read_sidecar, write_sidecar
from qss_offline.data.transitions import Transitions
from qss_offline.parallel.reporting import no_tick
from qss_offline.runs.folder import RunFolder
from qss_offline.training.offline import OfflineTrainer, SeedTask


def write_recording(folder: Path, rows: int, obs_dim: int) -> Path:
    """Write a recording of normal noise, through arrays that live on disk."""
    rng = np.random.default_rng(0)
    columns = {
        name: np.memmap(folder / name, np.float32, "w+", shape=shape)
        for name, shape in (
            ("observations", (rows, obs_dim)),
            ("next_observations", (rows, obs_dim)),
            ("rewards", (rows,)),
        )
    }
    for start in range(0, rows, 1 << 18):
        for column in columns.values():
            piece = column[start : start + (1 << 18)]
            piece[...] = rng.standard_normal(piece.shape, np.float32)
    truncations = np.zeros(rows, bool)
    truncations[-1] = True
    transitions = Transitions(
        **columns,
        terminations=np.zeros(rows, bool),
        truncations=truncations,
        episodes=np.zeros(rows, np.int64),
    )
    path = folder / "columns.arrow"
    write_sidecar(path, transitions, SidecarInfo(rows, 1, "synthetic-v0", digest(transitions)))
    return path


def memory_mib() -> dict[str, float]:
    """Memory of this process in MiB: resident and its own; and what `RLIMIT_DATA` counts."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "own": int(status["RssAnon"].split()[0]) / 1024,
        "limited": int(status["VmData"].split()[0]) / 1024,
    }


def main() -> None:
    """Write, map, limit, train; print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--obs-dim", type=int, default=4)
    parser.add_argument("--updates", type=int, default=100)
    parser.add_argument("--limit-mib", type=int, default=None, help="beyond what imports take")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write_recording(folder, arguments.rows, arguments.obs_dim)
        transitions = read_sidecar(path, arguments.rows, 1).transitions
        config = ObservationalD3GConfig((64, 64), 256, normalize_observations=True)
        # What is measured takes memory of its own, which doesn't grow with the recording.
        facts = recording_facts(transitions, config.normalize_observations)
        before = memory_mib()
        if arguments.limit_mib is not None:
            limit = int((before["limited"] + arguments.limit_mib) * 2**20)
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        task = SeedTask(0, RunFolder(folder / "run").seed(0))
        trainer = OfflineTrainer([task], transitions, config, facts)
        state = trainer.run(arguments.updates, no_tick)
        print(
            json.dumps(
                {
                    "rows": arguments.rows,
                    "file_mib": path.stat().st_size / 2**20,
                    "limit_mib": arguments.limit_mib,
                    "own_mib_for_training": memory_mib()["own"] - before["own"],
                    "updates": state.update,
                    "finite": bool(torch.isfinite(state.networks["critic"].flat).all()),
                }
            )
        )


if __name__ == "__main__":
    main()
