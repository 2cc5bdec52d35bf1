"""Bars and short numbers say what they stand for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.cli.plots import amount, bar, size, sparkline


@pytest.mark.parametrize(
    ("share", "drawn", "plain"),
    [
        (0, "", ""),
        (1, "████", "####"),
        (0.5, "██", "##"),
        (0.53125, "██▏", "##"),
        (0.001, "▏", "#"),
        (7, "████", "####"),
    ],
)
def test_a_bar_is_as_long_as_its_share(share: float, drawn: str, plain: str) -> None:
    assert (bar(share, 4, unicode=True), bar(share, 4, unicode=False)) == (drawn, plain)


def test_a_line_of_bars_has_one_for_each_value() -> None:
    assert sparkline([0, 1, 4, 8], 10, unicode=True) == " ▂▅█"
    assert sparkline([0, 1, 4, 8], 10, unicode=False) == " :+@"
    assert sparkline([], 10, unicode=True) == ""
    assert sparkline([0, 0], 10, unicode=True) == "  "


def test_a_long_line_puts_values_together_the_newest_ones_in_full() -> None:
    assert sparkline([5, 5, 5, 5, 5], 3, unicode=True) == "▅██"
    assert sparkline([1], 0, unicode=True) == ""


@given(st.lists(st.integers(0, 1 << 60), min_size=1, max_size=300), st.integers(1, 80), st.booleans())
def test_a_line_of_bars_fits_whatever_the_values(values: list[int], width: int, unicode: bool) -> None:
    drawn = sparkline(values, width, unicode=unicode)

    assert 0 < len(drawn) <= width
    assert (drawn.strip() == "") == (sum(values) == 0)


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (0, "0"),
        (9999, "9999"),
        (10_000, "10.0k"),
        (99_960, "100k"),
        (999_499, "999k"),
        (999_999, "1.00M"),
        (1_234_567, "1.23M"),
        (496_000_000, "496M"),
        (12_300_000_000_000, "12.3T"),
    ],
)
def test_numbers_are_short(number: float, told: str) -> None:
    assert amount(number) == told


@pytest.mark.parametrize(
    ("number", "told"), [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (1_536_000, "1.54 MB"), (10**16, "10.0 PB")]
)
def test_bytes_are_short(number: float, told: str) -> None:
    assert size(number) == told
