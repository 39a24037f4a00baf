"""What a measurement was made on, and how."""

import shlex
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace

import pytest

from qss_offline.runs import provenance
from qss_offline.runs.provenance import machine

ARGUMENTS = ["reproduce", "table1", "--families", "my logs/a.toml", "--set", "a='$b'", ""]


@pytest.mark.parametrize(
    ("module", "program"),
    [
        (None, ["qss"]),
        ("benchmarks.updates", ["python", "-m", "benchmarks.updates"]),
        ("qss_offline.__main__", ["python", "-m", "qss_offline"]),
    ],
)
def test_a_shell_takes_the_command_that_is_kept(
    module: str | None, program: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = None if module is None else ModuleSpec(module, None)
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__spec__=spec))
    monkeypatch.setattr(sys, "argv", [str(Path("/usr/bin") / program[-1]), *ARGUMENTS])
    assert shlex.split(machine()["command"]) == [*program, *ARGUMENTS]


@pytest.mark.parametrize(
    ("changed", "marked"), [("package/code.py", True), ("results/table.json", False)]
)
def test_a_commit_is_marked_where_code_was_changed_not_where_results_were_written(
    changed: str, marked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "package" / "runs" / "code.py"))
    assert machine()["commit"] is None
    for name in ("package/code.py", "results/table.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")

    def git(*arguments: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.check_output(["git", *who, *arguments], cwd=tmp_path, text=True)

    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    commit = git("rev-parse", "--short=12", "HEAD").strip()
    assert machine()["commit"] == commit
    (tmp_path / changed).write_text("2")
    assert machine()["commit"] == (f"{commit}-dirty" if marked else commit)
