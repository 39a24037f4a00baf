"""The program `qss` in the process of the tests: starting a new one takes seconds."""

import io
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from qss_offline.cli.program import main


class Said(NamedTuple):
    """What a command printed."""

    out: str
    err: str

    @property
    def error(self) -> str:
        """The last line, if it says what was wrong."""
        last = self.err.strip().splitlines()[-1:]
        return last[0] if last and last[0].startswith("error: ") else ""


class Qss:
    """Runs commands as a user types them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys
        # Nothing wraps.
        monkeypatch.setenv("COLUMNS", "200")

    def __call__(self, line: str, *more: str | Path, code: int | None = 0) -> Said:
        """Run a line, split as shells do, with more arguments as they are.

        The exit code must be this one; None stands for 2 with an error, and 0 without.
        """
        arguments = ["qss", *shlex.split(line, comments=True), *map(str, more)]
        self._monkeypatch.setattr(sys, "argv", arguments)
        self._capsys.readouterr()
        ended: object = 0
        try:
            main()
        except SystemExit as end:
            ended = end.code or 0
        said = Said(*self._capsys.readouterr())
        expected = (2 if said.error else 0) if code is None else code
        assert ended == expected and "Traceback" not in said.err, (arguments, said.err)
        return said

    def refused(self, line: str, *more: str | Path) -> str:
        """Return all that is said of a command that is refused: one line."""
        said = self(line, *more, code=2)
        assert "".join(said) == f"{said.error}\n"
        return said.error


class Terminal(io.StringIO):
    """Where somebody types, or reads."""

    def isatty(self) -> bool:
        return True
