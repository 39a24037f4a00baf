"""What every command shares: options, one-line errors, exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from qss_offline.errors import UserError, printable

Register = Annotated[
    list[str] | None,
    typer.Option(
        "--env",
        help="module:Env-v0 of your own environment: the module is imported; those that files "
        "name never are; repeatable",
    ),
]
"""An option of commands that read runs, whose environments may be the user's own."""

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
    interrupted = f"\ninterrupted{after_interrupt and '; ' + after_interrupt}"
    try:
        # Typer answers Ctrl-C, and `typer.Exit`, by returning the exit code.
        code = app(standalone_mode=False)
    except UserError as error:
        print(f"error: {printable(error)}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        print(interrupted, file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception as error:
        # Typer's own complaints about the command line know how to show themselves.
        if hasattr(error, "exit_code") and hasattr(error, "format_message"):
            message = error.format_message()
            # Without a command typer has shown its help, and has nothing to say.
            if message:
                print(f"error: {message}", file=sys.stderr)
            sys.exit(2)
        raise
    if code == INTERRUPTED:
        print(interrupted, file=sys.stderr)
    if isinstance(code, int):
        sys.exit(code)
