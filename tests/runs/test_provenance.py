"""What a measurement was made on, and how."""

import shlex
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace

import pytest

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
