"""Training reads a recording through the memory map: it need not fit into memory."""

import json
import subprocess
import sys
from pathlib import Path

from tests.patience import PATIENCE_S


def test_a_recording_larger_than_the_memory_allowed_is_trained_from() -> None:
    limit_mib = 60
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.mapped_training",
            "--rows",
            "1000000",
            "--obs-dim",
            "10",
            "--limit-mib",
            str(limit_mib),
            "--updates",
            "20",
        ],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["file_mib"] > limit_mib + 20
    assert report["own_mib_for_training"] < limit_mib
    assert report["updates"] == 20
    assert report["finite"]
