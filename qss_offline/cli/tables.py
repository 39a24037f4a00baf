"""Tables."""

from __future__ import annotations

from collections.abc import Sequence


def print_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None
) -> None:
    """Print a table."""
    print("\t".join(header))
    for row in rows:
        print("\t".join(row))
