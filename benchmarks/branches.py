"""Measure forks of big threads: by reference and as a copy, at the end, near it and far from it, beside the disk's own
limit.

    python benchmarks/branches.py                      # threads of 123 MB built for it
    python benchmarks/branches.py --home DIR           # the biggest thread of a home, which is copied first
    python benchmarks/branches.py --megabytes 500

Each figure is the median of several forks in a warm process and cache, sync included, with the quickest and what the
processor took; each fork is removed again. Beside forks by reference stands what the disk takes for the same: a small
file that is written and synced with its name. Memory is what a process of its own takes at most above what it takes
before.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
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
                built = build(home, home / "work", megabytes=options.megabytes)
                if mode == "paginated":
                    _number(built.path)
            rows += _measured(home, mode if options.home is None else "", options.runs)
            if options.home is not None:
                break
    print("| | clew | target |\n| --- | --- | --- |")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(f"\n{machine()}")
    return 0


def _number(path: Path) -> None:
    """Make a paginated thread of a legacy one, as far as forks can tell."""
    lines = path.read_bytes().split(b"\n")
    with path.open("wb") as file:
        for number, line in enumerate(filter(None, lines)):
            head, kind, rest = line.partition(b',"type":')
            if not number:
                rest = rest.replace(b'"payload":{', b'"payload":{"history_mode":"paginated",', 1)
            file.write(b'%s,"ordinal":%d%s%s\n' % (head, number, kind, rest))


def _measured(home: Path, mode: str, runs: int) -> list[tuple[str, str, str]]:
    store, source, path = _opened(home)
    rows: list[tuple[str, str, str]] = []
    with closing(store):
        size = path.stat().st_size
        base = f"fork of {size / 1e6:.0f} MB {mode}".strip()
        with path.open("rb") as file:
            reference = b'"history_mode":"paginated"' in file.readline()
        disk, least, busy = _middle([_written(path, home / "probe") for _ in range(runs + 1)])
        shown = f"{disk:.1f} (least {least:.1f}, processor {busy:.1f})"
        name, name_least, _ = _middle([_named(path.parent / "probe") for _ in range(runs + 1)])
        for copy in (False, True) if reference else (False,):
            copied = copy or not reference
            for where, cut in CUTS:
                times = anyio.run(partial(_forked, store, source, runs, copy=copy, **cut))
                took, least, busy = _middle(times)
                most = COPY if copied else REFERENCE
                target = f"≤ {most:g} {'met' if took <= most else 'MISSED'}" if not cut or not copied else ""
                rows.append(
                    (
                        f"{base} {'as a copy' if copied else 'by reference'}, {where} (ms)",
                        f"{took:.1f} (least {least:.1f}, processor {busy:.1f})",
                        target,
                    )
                )
            memory = _memory(home, "copy" if copied else "reference")
            rows.append(("… memory above idle (MB)", f"{memory:.1f}", ""))
        rows.append(("the same bytes read, written and synced by `shutil` (ms)", shown, ""))
        rows.append(("one small file, synced with its name (ms)", f"{name:.1f} (least {name_least:.1f})", ""))
    return rows


def _opened(home: Path) -> tuple[LocalStore, str, Path]:
    fs = RealFileSystem()
    biggest = max(Home(fs, home).files(), key=lambda file: file.size)
    store = LocalStore(fs, home, home / "clew", clock=SystemClock(), ids=SystemIds(), owner=Owner("bench", os.getpid()))
    return store, biggest.thread_id, biggest.path


Took = tuple[float, float]
"""Seconds by the clock, and of the processor."""


async def _forked(store: LocalStore, source: str, runs: int, *, copy: bool, **cut: str) -> list[Took]:
    """The first is not warm."""
    times: list[Took] = []
    for _ in range(runs + 1):
        new = SystemIds().uuid7()
        began = time.perf_counter(), time.process_time()
        await store.fork(source, new, copy=copy, **cut)
        times.append((time.perf_counter() - began[0], time.process_time() - began[1]))
        Path(store.catalog.get(new).path).unlink()
    return times


def _named(target: Path) -> Took:
    began = time.perf_counter(), time.process_time()
    with target.open("wb") as write:
        write.write(b"x" * 1500)
        write.flush()
        os.fdatasync(write.fileno())
    RealFileSystem().sync_folder(target.parent)
    took = time.perf_counter() - began[0], time.process_time() - began[1]
    target.unlink()
    return took


def _written(source: Path, target: Path) -> Took:
    began = time.perf_counter(), time.process_time()
    with source.open("rb") as read, target.open("wb") as write:
        shutil.copyfileobj(read, write, 1 << 20)
        write.flush()
        os.fdatasync(write.fileno())
    took = time.perf_counter() - began[0], time.process_time() - began[1]
    target.unlink()
    return took


def _middle(times: Sequence[Took]) -> tuple[float, float, float]:
    """Without the first: the median and the least by the clock, the median of the processor; in milliseconds."""
    clock, processor = zip(*times[1:], strict=True)
    return statistics.median(clock) * 1000, min(clock) * 1000, statistics.median(processor) * 1000


def _memory(home: Path, how: str) -> float:
    command = [sys.executable, __file__, "--home", str(home), "--one", how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def _one(home: Path, how: str) -> int:
    store, source, _ = _opened(home)
    with closing(store):
        # What a process takes at most is handed on by the one that started it: it is counted anew.
        Path("/proc/self/clear_refs").write_text("5")
        before = _most()
        anyio.run(partial(_forked, store, source, 0, copy=how == "copy"))
        print(_most() - before)
    return 0


def _most() -> float:
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


if __name__ == "__main__":
    sys.exit(main())
