"""The page on Python, and the examples of docstrings, run."""

import doctest
import re
from pathlib import Path

import pytest

import qss_offline as qss
from qss_offline.api import recording

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def test_the_page_runs(minari_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("qss_offline.runs.config.MOST_UPDATES_EACH", 1)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    made = {path.name for path in (tmp_path / "runs").iterdir()}
    assert made == {"first", "offline", "offline-inverse", "offline-inverse-2", "bco"}
    assert len(names["rows"]) == 6  # type: ignore[arg-type]


def test_every_public_name_is_on_the_page_or_an_error() -> None:
    text = PAGE.read_text()
    beside = {"UserError", "ColumnNames", "ImportRules", "Run", "OnlineRun"}
    assert [name for name in qss.__all__ if name not in text and name not in beside] == []
    assert all(hasattr(qss, name) for name in qss.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        qss.nonsense  # noqa: B018


def test_examples_of_docstrings_run(minari_root: Path) -> None:
    found = doctest.testmod(recording, extraglobs={"Recording": qss.Recording})
    assert found.attempted >= 2
    assert found.failed == 0
