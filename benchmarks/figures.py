"""Figures, and the table they make."""

from __future__ import annotations

import os
import platform
import re
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

__all__ = ["Figure", "Report", "machine"]


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table: several runs of clew and, where it was measured beside it, of the peer. `target` is the
    most that clew's median may be."""

    name: str
    unit: str
    runs: tuple[float, ...]
    peer_runs: tuple[float, ...] = ()
    target: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.runs)

    @property
    def met(self) -> bool | None:
        return None if self.target is None else self.median <= self.target

    def row(self) -> list[str]:
        target = "" if self.target is None else f"≤ {self.target:g} {'met' if self.met else 'MISSED'}"
        return [f"{self.name} ({self.unit})", _spread(self.runs), target, _spread(self.peer_runs)]


class Report(msgspec.Struct, kw_only=True):
    """A whole run."""

    machine: str
    peer: str
    figures: list[Figure]

    def markdown(self) -> str:
        """A table with median (min..max)."""
        head = ["", "clew", "target", self.peer or "no peer here"]
        rows = [head, ["---"] * 4, *(figure.row() for figure in self.figures)]
        table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
        return f"{table}\n\nMedian (min..max). {self.machine}\n"


def machine() -> str:
    """The machine in one line, with how busy it was and how long a fixed loop took (its best is the quiet machine)."""
    cpu = re.search(r"model name\s*: (.*)", _read("/proc/cpuinfo"))
    memory = re.search(r"MemTotal:\s+(\d+)", _read("/proc/meminfo"))
    load = os.getloadavg()[0]
    loops = [_loop() for _ in range(9)]
    return (
        f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores, "
        f"{int(memory[1]) / 1e6 if memory else 0:.0f} GB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}; load {load:.1f}, "
        f"fixed loop {_spread(loops)} ms."
    )


def _loop() -> float:
    begin = time.perf_counter()
    total = 0
    for number in range(100_000):
        total += number & 7
    return (time.perf_counter() - begin) * 1000


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    return f"{_short(statistics.median(values))} ({_short(min(values))}..{_short(max(values))})"


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
