"""Every example of docs/data.md and docs/importing.md runs, in order, and prints what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.program import Qss

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {
    "data": ("import", "list", "show", "verify", "stats", "split", "merge", "sample", "export",
             "card", "push", "pull", "rm"),
    "importing": ("import", "check"),
}  # fmt: skip


def blocks(page: str) -> list[tuple[str, str]]:
    return re.findall(r"^```(python|console)\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("name", PAGES)
def test_the_page_runs(
    name: str, minari_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qss: Qss
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (DOCS / f"{name}.md").read_text()
    names: dict[str, Any] = {"__name__": "page"}
    commands = 0
    for language, text in blocks(page):
        if language == "python":
            exec(compile(text, name, "exec"), names)
            continue
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            line, _, expected = part.partition("\n")
            if "# not run here" in line:
                continue
            assert expected in qss(line.removeprefix("qss ")).out, line
            commands += 1
    assert commands >= len(PAGES[name])
    for tool in PAGES[name]:
        assert f"qss data {tool} " in page.replace("\n", " "), tool
