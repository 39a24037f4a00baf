"""Every example of docs/data.md runs, in order, and prints what it says."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "data.md"


def blocks() -> list[tuple[str, str]]:
    return re.findall(
        r"^```(python|console)\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE
    )


@pytest.mark.usefixtures("in_process")
def test_the_page_runs(
    minari_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from qss_offline.cli import program as cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    names: dict[str, Any] = {"__name__": "page"}
    commands = 0
    for language, text in blocks():
        if language == "python":
            exec(compile(text, str(PAGE), "exec"), names)
            continue
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            line, _, expected = part.partition("\n")
            if "# not run here" in line:
                continue
            capsys.readouterr()
            monkeypatch.setattr(sys, "argv", shlex.split(line))
            try:
                cli.main()
            except SystemExit as end:
                assert not end.code, (line, capsys.readouterr().err)
            assert expected in capsys.readouterr().out, line
            commands += 1
    assert commands >= 12
    for tool in ("import", "list", "show", "verify", "stats", "split", "merge", "sample", "export",
                 "card", "push", "pull"):  # fmt: skip
        assert f"qss data {tool} " in PAGE.read_text().replace("\n", " "), tool
