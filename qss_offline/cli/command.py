"""What every command shares: options, one-line errors, exit codes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import Any

import typer
from typer.core import TyperCommand

from qss_offline.errors import UserError, printable
from qss_offline.parallel.processes import end_workers

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


_given: ContextVar[frozenset[str] | None] = ContextVar("given", default=None)


class _Command(TyperCommand):
    """A command that knows which of its options were given."""

    def invoke(self, ctx: Any) -> Any:
        sources = {name: ctx.get_parameter_source(name) for name in ctx.params}
        given = frozenset(n for n, source in sources.items() if source.name == "COMMANDLINE")
        token = _given.set(given)
        try:
            return super().invoke(ctx)
        finally:
            _given.reset(token)


def given_options() -> frozenset[str] | None:
    """Return the names of the parameters that the command line gave; None outside a command."""
    return _given.get()


def main(command: Callable[..., Any], after_interrupt: str = "") -> None:
    """Run a typer command or application; turn what the user can mend into one line and code 2.

    Args:
        command: a function with typer's annotations, or a `typer.Typer`.
        after_interrupt: what to say after Ctrl-C.
    """
    if isinstance(command, typer.Typer):
        app = command
    else:
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command(cls=_Command)(command)
    _make_current_folder_importable()
    interrupted = f"\ninterrupted{after_interrupt and '; ' + after_interrupt}"
    # A job in the background of a script is started with Ctrl-C ignored.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _ask_then_insist)
    try:
        # Typer answers Ctrl-C, and `typer.Exit`, by returning the exit code.
        code = app(standalone_mode=False)
    except UserError as error:
        print(f"error: {printable(error)}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        # Typer's own complaints about the command line know how to show themselves.
        if hasattr(error, "exit_code") and hasattr(error, "format_message"):
            message = error.format_message()
            # Without a command typer has shown its help, and has nothing to say.
            if message:
                print(f"error: {printable(message)}", file=sys.stderr)
            sys.exit(2)
        raise
    if code == INTERRUPTED:
        # Whoever was interrupted between two results of its workers hasn't ended them.
        end_workers(multiprocessing.active_children())
        print(interrupted, file=sys.stderr)
    if isinstance(code, int):
        sys.exit(code)


def _make_current_folder_importable() -> None:
    """Let modules of the current folder be found, after all others: none takes the place of those.

    A console script doesn't have it, `python -m` does. Workers get the path of their parent.
    """
    here = str(Path.cwd())
    if "" not in sys.path and here not in sys.path:
        sys.path.append(here)


def _ask_then_insist(signum: int, frame: FrameType | None) -> None:
    """Let the first Ctrl-C interrupt, so that the program ends cleanly; end at once at the second.

    Workers ignore Ctrl-C, and a program that waits for them would not end before their work is
    done. What they write is whole at any time, and goes on with --resume.
    """
    signal.signal(signal.SIGINT, _end_at_once)
    # The system's own write: a print may be interrupted in the middle of another.
    os.write(2, b"\nending at the next safe point; Ctrl-C again ends at once\n")
    raise KeyboardInterrupt


def _end_at_once(signum: int, frame: FrameType | None) -> None:
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(INTERRUPTED)
