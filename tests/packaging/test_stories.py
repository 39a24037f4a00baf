"""The three ways in, as docs/stories.md writes them."""

import os
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

import qss_offline as qss
from tests.patience import PATIENCE_S
from tests.stories import commands_and_files, follow, section

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "stories.md").read_text()
NOTEBOOK = ROOT / "docs" / "notebooks" / "from_arrays_to_a_policy.ipynb"


@pytest.fixture
def shell(tmp_path: Path, minari_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, with `qss` of this package and this Python on the path."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, words in {"qss": "-m qss_offline.cli.program", "python": ""}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


@pytest.mark.slow
def test_a_csv_of_an_own_environment_becomes_a_film_and_a_file(shell: Path) -> None:
    heading = "From a CSV of an environment of your own"
    small = {"--updates 10000": "--updates 200 --set updates_per_round=50"}
    said = follow(section(PAGE, heading), shell, small)
    assert "10,000 transitions" in said
    run = qss.load(shell / "runs" / "cart", env=f"{shell}/cart_env.py:Cart")
    assert isinstance(run, qss.Run)
    assert len(run.returns()) == 3
    assert list((shell / "runs/cart/render").glob("*.gif"))
    assert (shell / "cart.pt").stat().st_size > 1000


@pytest.mark.slow
def test_the_papers_table_becomes_a_page(shell: Path) -> None:
    small = {"--preset table1-quick": "--preset table1-quick --transitions 2000 --updates 60"}
    said = follow(section(PAGE, "From the paper"), shell, small)
    assert "This takes about " in said
    page = (shell / "paper" / "report.html").read_text()
    assert "InvertedPendulum-v5" in page and "1000" in page.replace(",", "")


@pytest.mark.slow
def test_the_notebook_runs_and_its_figure_shows(
    tmp_path: Path, minari_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(NOTEBOOK, 4)
    for cell in notebook.cells:
        cell.source = cell.source.replace("updates=10_000", "updates=200")
    here = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=PATIENCE_S, kernel_name="python3", resources=here).execute()
    shown = [one for cell in notebook.cells for one in cell.get("outputs", [])]
    assert any("image/png" in one.get("data", {}) for one in shown)
    texts = [one.get("data", {}).get("text/plain", "") for one in shown]
    assert any("Policy(env_id='callable/Cart'" in text for text in texts)
    assert list((tmp_path / "shared-folder").rglob("*.arrow"))


def test_the_notebooks_own_outputs_are_of_a_run_that_learned() -> None:
    notebook = nbformat.read(NOTEBOOK, 4)
    texts = [o.get("text", "") for c in notebook.cells for o in c.get("outputs", [])]
    (line,) = [text for text in texts if "recorded behaviour" in text]
    recorded = float(line.split("recorded behaviour ")[1].split(",")[0])
    last = float(line.split("last ")[1].split(",")[0])
    assert last > recorded / 2, line


def test_commands_and_files_are_found() -> None:
    lines, files = commands_and_files(section(PAGE, "From a CSV of an environment of your own"))
    assert set(files) == {"cart_env.py", "make_log.py"}
    assert len(lines) == 6
    assert np.all([line.startswith(("qss ", "python ")) for line in lines])
