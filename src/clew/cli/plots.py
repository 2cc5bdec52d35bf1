"""Small pictures of numbers for a terminal: bars, lines of bars, and numbers short enough to stand beside them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TextIO

__all__ = ["amount", "bar", "blocks", "size", "sparkline"]

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_HEIGHTS = "▁▂▃▄▅▆▇█"
_ASCII = ".:-=+*#@"
_UNITS = ("", "k", "M", "G", "T", "P")
_BYTES = ("B", "kB", "MB", "GB", "TB", "PB")


def blocks(stream: TextIO | None = None) -> bool:
    """Whether a stream can take block characters."""
    encoding = getattr(stream or sys.stdout, "encoding", None) or "ascii"
    try:
        (_EIGHTHS + _HEIGHTS).encode(encoding)
    except (LookupError, UnicodeEncodeError):
        return False
    return True


def bar(share: float, width: int, *, unicode: bool) -> str:
    """A bar of at most `width` columns for a share from 0 to 1; what is not nothing shows at least a sliver."""
    share = min(max(share, 0.0), 1.0)
    if not unicode:
        return "#" * max(round(share * width), 1 if share else 0)
    eighths = max(round(share * width * 8), 1 if share else 0)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def sparkline(values: Sequence[int], width: int, *, unicode: bool) -> str:
    """One character per value, or per several of them where they are more than `width`; nothing shows as a space."""
    if width <= 0 or not values:
        return ""
    per = -(-len(values) // width)
    # The newest values fill a whole column; what is left over stands in the oldest one.
    first = len(values) % per or per
    sums = [sum(values[:first]), *(sum(values[at : at + per]) for at in range(first, len(values), per))]
    most = max(sums)
    steps = _HEIGHTS if unicode else _ASCII
    return "".join(steps[min(len(steps) - 1, value * len(steps) // most)] if value else " " for value in sums)


def amount(number: float) -> str:
    """1234567 as `1.23M`; whole numbers below ten thousand as they are."""
    return f"{number:.0f}" if number < 10_000 else _short(number, _UNITS)


def size(number: float) -> str:
    """Bytes as people say them, in steps of a thousand: `1.23 MB`."""
    return f"{number:.0f} B" if number < 1000 else _short(number, _BYTES, " ")


def _short(number: float, units: Sequence[str], space: str = "") -> str:
    step = 0
    # Rounding must not make four digits of three.
    while number >= 999.5 and step < len(units) - 1:
        number /= 1000
        step += 1
    digits = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:.{digits}f}{space}{units[step]}"
