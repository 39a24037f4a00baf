"""Experts and rivals from d3rlpy, which is imported only by the modules in here."""

from __future__ import annotations

from contextlib import redirect_stderr
from importlib import import_module
from importlib.util import find_spec
from io import StringIO

from qss_offline.errors import UserError


def require_d3rlpy() -> None:
    """Refuse to go on where d3rlpy isn't installed.

    Raises:
        UserError: it isn't.
    """
    if find_spec("d3rlpy") is None:
        raise UserError(
            "this needs d3rlpy, which isn't installed: pip install 'qss-offline[baselines]' "
            "(it pins gymnasium 1.0.0)"
        )
    # d3rlpy imports gym, which prints a notice about itself when it is first imported.
    with redirect_stderr(StringIO()):
        import_module("gym")
