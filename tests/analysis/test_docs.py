"""docs/seeing.md: its commands exist, its adapter works, its numbers are the file's."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from qss_offline.analysis.diagnostics import diagnose
from qss_offline.runs.folder import RunFolder
from qss_offline.runs.reader import FinishedRun

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "seeing.md"
IMAGES = ROOT / "docs" / "images" / "seeing"


def test_its_commands_exist() -> None:
    text = PAGE.read_text()
    assert {"render", "report", "doctor"} <= set(re.findall(r"qss (\w+)", text))


def test_its_adapter_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[Any] = []

    def init(**options: Any) -> SimpleNamespace:
        logged.append(options["name"])
        return SimpleNamespace(log=logged.append, finish=lambda: logged.append("finished"))

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE):
        exec(compile(block, str(PAGE), "exec"), names)
    folder = RunFolder(tmp_path)
    folder.seed(4).append_metrics({"update": 1000, "q": 2.0})
    with names["follow"](folder, (4,))("training", 1, "updates") as report:
        report(1)
    assert logged == ["seed-4", {"step": 1000, "q": 2.0}, "finished"]


def test_every_check_is_explained(trained: FinishedRun) -> None:
    text = PAGE.read_text()
    for found in diagnose(trained, 0):
        assert f"| {found.name} |" in text


def test_its_pictures_are_there_and_small_and_its_numbers_are_those_measured() -> None:
    text = PAGE.read_text()
    pictures = re.findall(r"!\[(.+?)\]\((images/.+?)\)", text)
    assert len(pictures) == 6
    for alt, path in pictures:
        assert len(alt) > 40
        assert (ROOT / "docs" / path).stat().st_size < 300_000
        Image.open(ROOT / "docs" / path).verify()
    for name in ("inverted_pendulum", "reacher"):
        measured = json.loads((IMAGES / f"{name}_distances.json").read_text())
        cells = [measured["env_id"]]
        for step in (10, 25, 50):
            low, high = measured["low"][step], measured["high"][step]
            cells.append(f"{measured['mean'][step]:.2f} [{low:.2f}, {high:.2f}]")
        cells += [f"{measured['still'][50]:.2f}"]
        assert "| " + " | ".join(cells) + " |" in text
        assert f"{measured['episodes']} first states of each of {measured['seeds']} seeds" in text
