"""Text from a file, shown."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qss_offline.cli import command as command_line
from qss_offline.errors import UserError, printable
from qss_offline.parallel.reporting import print_notice

ESCAPES = "\x1b[31mred\x1b]0;title\x07\x9b2J\r\n\x00\x7f\u202eturned\u2028\u200b\ud800"


@given(st.text(st.characters(categories=None)))
def test_any_text_becomes_one_line_that_no_terminal_obeys(text: str) -> None:
    shown = printable(text)
    assert not any(unicodedata.category(one)[0] == "C" for one in shown)
    assert len(shown.splitlines()) <= 1
    shown.encode()


@given(st.text(st.characters(whitelist_categories=["L", "N", "P", "S"], whitelist_characters=" ")))
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_refusals_and_notices_are_escaped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise UserError(f"dataset {ESCAPES}")

    monkeypatch.setattr("sys.argv", ["qss-offline"])
    with pytest.raises(SystemExit) as ended:
        command_line.main(refuse)
    assert ended.value.code == 2
    print_notice(ESCAPES)
    written = capsys.readouterr()
    assert written.out == ""
    assert all(one.isprintable() for one in written.err.replace("\n", ""))
    assert len(written.err.splitlines()) == 2
