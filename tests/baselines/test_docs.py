"""Every example of docs/baselines.md runs, in order."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("d3rlpy")

PAGE = Path(__file__).parents[2] / "docs" / "baselines.md"


def test_the_page_runs(minari_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 7
    names: dict[str, Any] = {"__name__": "page"}
    for text in blocks:
        exec(compile(text, str(PAGE), "exec"), names)
