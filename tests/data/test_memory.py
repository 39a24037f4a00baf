"""Memory doesn't grow with the dataset: all of it runs with far less than the columns hold."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, resource, sys
from pathlib import Path
import gymnasium
import numpy as np
from qss_offline.data import DatasetSpec
from qss_offline.data import build_dataset
from qss_offline.data import load_transitions
from qss_offline.data import verify_dataset


class Wide(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (400,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, render_mode=None):
        self.drawn = np.random.default_rng(0).uniform(-1, 1, (1000, 400)).astype(np.float32)
        self.at = 0

    def reset(self, seed=None, options=None):
        self.at = seed % 1000 if seed is not None else self.at + 1
        return self.drawn[self.at % 1000], {}

    def step(self, action):
        self.at += 1
        return self.drawn[self.at % 1000], 0.5, False, self.at % 200 == 0, {}


gymnasium.register("test/Wide-v0", Wide)
spec = DatasetSpec("test/Wide", transitions=int(sys.argv[1]))
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
limit = (int(status["VmData"].split()[0]) << 10) + (int(sys.argv[2]) << 20)
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
pair = build_dataset(spec, 1)
assert verify_dataset(pair.obs_id).ok
Path(sys.argv[3], pair.obs_id, "data", "columns.arrow").unlink()
transitions = load_transitions(pair.obs_id).transitions
print(json.dumps({"rows": len(transitions), "column_bytes": transitions.observations.nbytes}))
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux's /proc")
def test_build_verify_and_load_within_bounded_memory(tmp_path: Path, minari_root: Path) -> None:
    limit_mib = 56
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py", "20000", str(limit_mib), minari_root],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    # There are two such columns in each of two datasets.
    assert said["rows"] == 20_000
    assert 4 * said["column_bytes"] > 2 * limit_mib << 20
