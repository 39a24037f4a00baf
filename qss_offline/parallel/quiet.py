"""Whether this process shows progress and notices: `--quiet` turns both off."""

from __future__ import annotations

_quiet = False


def set_quiet(quiet: bool) -> None:
    """Show no progress and no notices from now on, or show them again."""
    global _quiet
    _quiet = quiet


def is_quiet() -> bool:
    """Return whether progress and notices are off."""
    return _quiet
