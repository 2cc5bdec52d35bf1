"""Measure forks of big threads: by reference and as a copy, at the end, near it and far from it, beside the disk's own
limit.

    python benchmarks/branches.py                      # threads of 123 MB built for it
    python benchmarks/branches.py --home DIR           # the biggest thread of a home, which is copied first
    python benchmarks/branches.py --megabytes 500

Each figure is the median of several forks in a warm cache, sync included; each fork is removed again. Memory is what a
process of its own takes at most above what it takes before.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
from figures import machine
from rollouts import build

from clew.clock import SystemClock
from clew.errors import Owner
from clew.ids import SystemIds
from clew.rollout import Home, RealFileSystem
from clew.store import LocalStore

REFERENCE, COPY = 10.0, 150.0
"""Milliseconds that are asked for: by reference, and as a copy of 123 MB."""
CUTS: tuple[tuple[str, dict[str, str]], ...] = (
    ("at its end", {}),
    ("before its last turn", {"before_turn": "-1"}),
    ("before the 20th turn from its end", {"before_turn": "-20"}),
    ("before its 3rd turn", {"before_turn": "3"}),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, help="a home with a big thread (it is not changed)")
    parser.add_argument("--megabytes", type=int, default=123)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a process that forks once and tells what memory it took
    options = parser.parse_args()
    if options.one is not None:
        return _one(options.home, options.one)
    rows: list[tuple[str, str, str]] = []
    with TemporaryDirectory(prefix="clew-bench-") as folder:
        for mode in ("paginated", "legacy"):
            home = Path(folder, mode)
            if options.home is not None:
                shutil.copytree(options.home / "sessions", home / "sessions")
            else:
                build(home, megabytes=options.megabytes, paginated=mode == "paginated")
            rows += _measured(home, mode if options.home is None else "", options.runs)
            if options.home is not None:
                break
    print("| | clew | target |\n| --- | --- | --- |")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(f"\n{machine()}")
    return 0


def _measured(home: Path, mode: str, runs: int) -> list[tuple[str, str, str]]:
    store, source, path = _opened(home)
    rows: list[tuple[str, str, str]] = []
    with closing(store):
        size = path.stat().st_size
        base = f"fork of {size / 1e6:.0f} MB {mode}".strip()
        reference = b'"history_mode":"paginated"' in path.read_bytes()[:1_000_000].split(b"\n", 1)[0]
        disk = _median(lambda: _written(path, home / "probe"), runs)
        for copy in (False, True) if reference else (False,):
            copied = copy or not reference
            for where, cut in CUTS:
                took = _median(lambda cut=cut, copy=copy: _forked(store, source, copy=copy, **cut), runs)
                most = COPY if copied else REFERENCE
                target = f"≤ {most:g} {'met' if took <= most else 'MISSED'}" if not cut or not copied else ""
                rows.append((f"{base} {'as a copy' if copied else 'by reference'}, {where} (ms)", f"{took:.1f}", target))
            memory = _memory(home, "copy" if copied else "reference")
            rows.append((f"… memory above idle (MB)", f"{memory:.1f}", ""))
        rows.append((f"the same bytes read, written and synced by `shutil` (ms)", f"{disk:.1f}", ""))
    return rows


def _opened(home: Path) -> tuple[LocalStore, str, Path]:
    fs = RealFileSystem()
    biggest = max(Home(fs, home).files(), key=lambda file: file.size)
    store = LocalStore(
        fs, home, home / "clew", clock=SystemClock(), ids=SystemIds(), owner=Owner("bench", os.getpid())
    )
    return store, biggest.thread_id, biggest.path


def _forked(store: LocalStore, source: str, *, copy: bool, **cut: str) -> float:
    new = SystemIds().uuid7()
    began = time.perf_counter()
    anyio.run(lambda: store.fork(source, new, copy=copy, **cut))
    took = time.perf_counter() - began
    Path(store.catalog.get(new).path).unlink()
    return took


def _written(source: Path, target: Path) -> float:
    began = time.perf_counter()
    with source.open("rb") as read, target.open("wb") as write:
        shutil.copyfileobj(read, write, 1 << 20)
        write.flush()
        os.fdatasync(write.fileno())
    took = time.perf_counter() - began
    target.unlink()
    return took


def _median(run: Callable[[], float], runs: int) -> float:
    run()
    return statistics.median(run() for _ in range(runs)) * 1000


def _memory(home: Path, how: str) -> float:
    command = [sys.executable, __file__, "--home", str(home), "--one", how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def _one(home: Path, how: str) -> int:
    store, source, _ = _opened(home)
    with closing(store):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        _forked(store, source, copy=how == "copy")
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
    return 0


if __name__ == "__main__":
    sys.exit(main())
