"""Tables of commands: whole on any terminal, and lines of tabs for other programs."""

import sys

import pytest

from qss_offline.cli.tables import print_table
from tests.program import Terminal

ID = "qss/InvertedDoublePendulum/v5-random-25-inverted_double_pendulum_medium-n100000-s11-obs-v0"
HEADER = ("dataset", "environment", "transitions")
ROWS = [(ID, "InvertedDoublePendulum-v5", "100,000"), ("me/x-obs-v0", "", "7")]


def on_terminal(
    monkeypatch: pytest.MonkeyPatch,
    width: int,
    header: tuple[str, ...],
    rows: list[tuple[str, ...]],
    title: str | None = None,
) -> list[str]:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(width))
    print_table(header, rows, title)
    return terminal.getvalue().splitlines()


def test_a_wide_terminal_has_a_line_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    title, header, rule, first, second = on_terminal(monkeypatch, 200, HEADER, ROWS, "title")
    assert title == "title" and set(rule) == {"─", " "}
    assert header.endswith("  environment                transitions")
    assert first == f"{ID}  InvertedDoublePendulum-v5      100,000"
    # Numbers stand right, each under the other.
    assert len(second) == len(first) and second.endswith("      7")


@pytest.mark.parametrize("width", [80, 40, 20, 1])
def test_ids_are_whole_on_any_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    lines = on_terminal(monkeypatch, width, HEADER, ROWS)
    assert ID in lines and "me/x-obs-v0" in lines
    below = lines[lines.index(ID) + 1 :]
    assert "InvertedDoublePendulum-v5" in below[0] and "100,000" in "".join(below[:2])
    assert "…" not in "".join(lines)


def test_prose_at_the_end_is_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    words = "a million transitions take about 0.2 GB, and more than that is never needed here"
    lines = on_terminal(monkeypatch, 60, ("what", "found"), [("disk", words), ("cores", "2")])
    assert max(map(len, lines)) <= 60
    assert " ".join(line[4:].strip() for line in lines[2:-1]) == words
    assert lines[-1] == "cores  2"


def test_other_programs_read_tabs(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(HEADER, [*ROWS, ("a\tb\x1b[2J", "c\nd", "-1,234.5")], "returns")
    title, *lines = capsys.readouterr().out.splitlines()
    assert title == "# returns"
    assert [line.split("\t") for line in lines] == [
        list(HEADER),
        [ID, "InvertedDoublePendulum-v5", "100000"],
        ["me/x-obs-v0", "", "7"],
        # What a file brings along breaks no line and no column.
        ["a\\tb\\x1b[2J", "c\\nd", "-1234.5"],
    ]
    print_table(("only",), [])
    assert capsys.readouterr().out == "only\n"


def test_a_table_without_rows_is_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    assert on_terminal(monkeypatch, 80, ("a", "b"), [])[0] == "a  b"
