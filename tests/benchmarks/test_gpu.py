"""The script for a GPU, tried without one: every part runs, and what it found is written."""

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from benchmarks import gpu, updates
from qss_offline.engine.graph_device import GRAPH_DEVICES
from qss_offline.engine.update import apply_update
from tests.engine.emulated import Emulated


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(updates.CONFIG, hidden_dims=(8, 8), batch_size=32)
    for module in (gpu, updates):
        monkeypatch.setattr(module, "CONFIG", config)
    monkeypatch.setattr(updates, "ROWS", 1_000)
    monkeypatch.setattr(gpu, "CHUNK", 4)
    monkeypatch.setattr("qss_offline.engine.loop.CHUNK", 4)
    monkeypatch.setattr("qss_offline.engine.fused.BACKEND", "eager")
    monkeypatch.setitem(GRAPH_DEVICES, "cpu", Emulated())


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_part_runs(
    compiled: bool, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(
            "qss_offline.engine.cuda_graph.FusedUpdate",
            lambda algorithm, state: partial(apply_update, algorithm, state),
        )
    out = tmp_path / "gpu.json"
    monkeypatch.setattr(sys, "argv", ["gpu", "--quick", "--device", "cpu", "--out", str(out)])
    gpu.main()
    found = json.loads(out.read_text())
    parts = {name: part for name, part in found.items() if isinstance(part, list)}
    assert [row for rows in parts.values() for row in rows if "failed" in row] == []
    assert {"command", "commit", "date"} <= found["machine"].keys()
    for name in ("updates", "compiled updates"):
        assert len({(row["seeds"], row["tf32"]) for row in found[name]}) == 4
        assert all(row["updates_per_s"] > 0 for row in found[name])
    for name in ("captured against eager", "compiled against eager"):
        assert all(row["difference"] < 1e-3 for row in found[name])
    assert [row["what"] for row in found["beside D3G"]] == ["inverse fit", "cloning"]


def test_a_program_that_takes_too_long_is_stopped() -> None:
    found = gpu.program([sys.executable, "-c", "import time; time.sleep(60)"], 0.5)
    assert found["code"] is None and found["said"] == ["stopped after 0 s"]
