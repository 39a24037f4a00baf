"""Tables on the terminal, whole, and lines of tabs or JSON where another program reads."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from rich.cells import cell_len

from qss_offline.errors import printable
from qss_offline.files import json_text

_GAP = "  "
_LEAST_PROSE = 30


def print_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None
) -> None:
    """Print a table; on a terminal aligned, into a file or a pipe as tab-separated lines.

    There numbers have no separators of thousands. Nothing is cut. Where a table is wider than the
    terminal, a last column of prose is wrapped; if that isn't enough, each row's first cell has a
    line of its own, or every cell.

    Args:
        header: names of the columns.
        rows: text. Columns of numbers stand right.
        title: a line above it; after a # where another program reads.
    """
    whole = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        lines = [] if title is None else [printable(title)]
        width = shutil.get_terminal_size().columns
        lines += [line.rstrip() for line in _laid_out(header, whole, width)]
    else:
        lines = [] if title is None else [f"# {printable(title)}"]
        lines += ["\t".join(map(_plain, row)) for row in (header, *whole)]
    print("\n".join(lines))


def print_json(content: Any) -> None:
    """Print JSON, as files hold it: what is no number is null."""
    print(json_text(content))


def _laid_out(header: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Return a table for a terminal of a width: a line a row, or two, or a card."""
    whole = _columns(header, rows, width)
    if whole is not None:
        return [line for lines in whole for line in lines]
    below = _columns(header[1:], [row[1:] for row in rows], width - len(_GAP))
    if below is not None:
        pairs = zip((header, *rows), below, strict=True)
        return [line for row, rest in pairs for line in (row[0], *(_GAP + one for one in rest))]
    return [
        line
        for row in rows
        for line in (row[0], *(f"{_GAP}{n}: {c}" for n, c in zip(header[1:], row[1:], strict=True)))
    ]


def _columns(
    header: Sequence[str], rows: Sequence[Sequence[str]], width: int
) -> list[list[str]] | None:
    """Return the lines of the header and of each row; None where they don't fit into a width."""
    if not header:
        return None
    widths = [max(map(cell_len, column)) for column in zip(header, *rows, strict=True)]
    if _total(widths) > width and any(" " in row[-1] for row in rows):
        widths[-1] = max(_LEAST_PROSE, width - _total([*widths[:-1], 0]))
    if _total(widths) > width:
        return None
    right = [_numeric([row[column] for row in rows]) for column in range(len(header))]
    rule = _GAP.join("─" * size for size in widths)
    return [[*_row(header, widths, right), rule], *(_row(row, widths, right) for row in rows)]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _row(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    """Return a row as lines: its last cell may need several."""
    last = textwrap.wrap(cells[-1], widths[-1], break_long_words=False) or [""]
    lines = []
    for index, part in enumerate(last):
        shown = [*cells[:-1], part] if index == 0 else [*[""] * (len(cells) - 1), part]
        padded = []
        for cell, size, number in zip(shown, widths, right, strict=True):
            space = " " * (size - cell_len(cell))
            padded.append(space + cell if number else cell + space)
        lines.append(_GAP.join(padded))
    return lines


def _numeric(cells: Sequence[str]) -> bool:
    return any(cells) and all(not cell or cell == "-" or _number(cell) for cell in cells)


def _plain(cell: str) -> str:
    """Return a number as programs read it, without separators; other text as it is."""
    return cell.replace(",", "") if _number(cell) else cell


def _number(cell: str) -> bool:
    return cell.lstrip("+-").replace(",", "").replace(".", "").rstrip("%").isdigit()
