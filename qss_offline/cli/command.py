"""What every command shares: options, one-line errors, exit codes."""

from __future__ import annotations

import inspect
import io
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, get_type_hints

import typer
from typer import Option

from qss_offline.errors import UserError, printable
from qss_offline.parallel.processes import end_workers
from qss_offline.parallel.quiet import set_quiet

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


Quiet = Annotated[bool, Option("--quiet", "-q", help="show no progress and no notices")]


def _with_quiet(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command that can be told to be quiet."""

    @wraps(command)
    def run(*arguments: Any, quiet: bool = False, **options: Any) -> Any:
        set_quiet(quiet)
        return command(*arguments, **options)

    hints = get_type_hints(command, include_extras=True)
    own = inspect.signature(command)
    parameters = [one.replace(annotation=hints[name]) for name, one in own.parameters.items()]
    quiet = inspect.Parameter(
        "quiet", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Quiet
    )
    run.__signature__ = inspect.Signature([*parameters, quiet])  # type: ignore[attr-defined]
    run.__annotations__ = {**hints, "quiet": Quiet}
    return run


def make_app(help_text: str, completion: bool = False) -> typer.Typer:
    """Return an application whose commands are added with `add`."""
    return typer.Typer(
        add_completion=completion,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        # Rich's tables leave help texts a fifth of 80 columns.
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        help=help_text,
    )


def add(app: typer.Typer, command: Callable[..., Any], name: str | None = None) -> None:
    """Add a command, called as its function is, with dashes for underscores.

    Args:
        app: what it is added to.
        command: a function with typer's annotations.
        name: another name.
    """
    named = name or command.__name__.rstrip("_").replace("_", "-")
    app.command(named)(_with_quiet(command))


def main(command: Callable[..., Any]) -> None:
    """Run a typer command or application; turn what the user can mend into one line and code 2.

    Args:
        command: a function with typer's annotations, or a `typer.Typer`: the program `qss`.
    """
    if isinstance(command, typer.Typer):
        app, named = command, "qss"
    else:
        app, named = make_app(""), None
        add(app, command)
    _make_current_folder_importable()
    _print_whatever_is_said()
    interrupted = (
        "\ninterrupted; qss resume goes on with a run of training (in an environment of your own "
        "with --env, too), and the same command with what runs many"
    )
    # A job in the background of a script is started with Ctrl-C ignored.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _ask_then_insist)
    try:
        # Typer answers Ctrl-C, and `typer.Exit`, by returning the exit code.
        code = app(prog_name=named, standalone_mode=False)
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


def _print_whatever_is_said() -> None:
    """Let characters that a terminal or a pipe doesn't have be question marks there."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


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
    done. What they write is whole at any time.
    """
    signal.signal(signal.SIGINT, _end_at_once)
    # The system's own write: a print may be interrupted in the middle of another.
    os.write(2, b"\nending at the next safe point; Ctrl-C again ends at once\n")
    raise KeyboardInterrupt


def _end_at_once(signum: int, frame: FrameType | None) -> None:
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(INTERRUPTED)
