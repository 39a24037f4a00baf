"""The benchmark of choosing: what is measured once, and how it is shown."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import auto


def row(family: str, percent: float, recording_seed: int, seed: int) -> dict[str, Any]:
    return {
        "family": family, "env_id": "Hopper-v5", "random_action_prob": percent / 100,
        "recording_seed": recording_seed, "seed": seed, "behaviour_return": 100.0,
        "last": {"mean": 300.0}, "machine": {},
        "race": [[{"member": "d3g"}, {"member": "bco"}], [{"member": "d3g"}]],
        "members": {"d3g": [290.0, 310.0], "bco": [500.0, 300.0]},
    }  # fmt: skip


def test_rows_are_measured_once_and_shown_beside_the_best_member(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, float]] = []

    def measure(
        family: str, percent: float, recording_seed: int, seed: int, *rest: object
    ) -> dict[str, Any]:
        asked.append((family, percent))
        return row(family, percent, recording_seed, seed)

    monkeypatch.setattr(auto, "measure", measure)
    out, picture = tmp_path / "auto.json", tmp_path / "auto.png"
    for rows in (["hopper_medium:0"], ["hopper:25", "hopper_medium:0"], []):
        options = ["--out", str(out), "--draw", str(picture)]
        monkeypatch.setattr(sys, "argv", ["auto", *rows, *options])
        auto.main()
    assert asked == [("hopper_medium", 0.0), ("hopper", 25.0)]
    assert len(json.loads(out.read_text())["rows"]) == 2
    *shown, line = capsys.readouterr().out.splitlines()[-3:]
    # Of 400 above random actions' 16 it has 300.
    assert line.startswith("of 2 rows") and line.endswith("in 0, at least 75% in 0; median 74%")
    assert shown == [
        "| Hopper, 25% | 100 | 300 | d3g | 300 | bco 400 |",
        "| Hopper, half-trained, 0% | 100 | 300 | d3g | 300 | bco 400 |",
    ]
    assert picture.read_bytes().startswith(b"\x89PNG")
