"""Texts for terminals and pipes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.cli.terminal import ago, clean, one_line

_NOW = datetime(2026, 7, 15, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("stamp", "said"),
    [
        ("2026-07-15T12:00:00.000Z", "now"),
        ("2026-07-15T12:00:09.000Z", "now"),
        ("2026-07-15T11:59:18.000Z", "42 s ago"),
        ("2026-07-15T11:30:00", "30 min ago"),
        ("2026-07-15T11:00:00+02:00", "3 h ago"),
        ("2026-07-10T11:00:00Z", "5 d ago"),
        ("2026-05-10T12:00:00Z", "2026-05-10"),
        ("no time", "no time"),
    ],
)
def test_times_are_said_as_people_do(stamp: str, said: str) -> None:
    assert ago(stamp, _NOW) == said


def test_escape_sequences_vanish_and_broken_ones_show() -> None:
    assert clean("a\x1b[1;31mb\x1b[0mc\x1b]8;;http://x\x1b\\d\x1b]0;t\x07e\x1bMf\x1b[") == "abcdef�["


@given(st.text())
def test_nothing_that_steers_a_terminal_is_left(text: str) -> None:
    cleaned = clean(text)
    assert not any((ord(char) < 32 and char not in "\n\t") or 127 <= ord(char) < 160 for char in cleaned)
    assert clean(cleaned) == cleaned


def test_a_text_fits_on_a_line() -> None:
    assert one_line(" a\n\tb  c ") == "a b c"
    assert one_line("abcdef", 4) == "abc…"
    assert one_line(None) == ""
