"""Measure what is done to threads of a big home as a whole: names, marks, the archive, the trash; sync included.

    python benchmarks/keeping.py --home DIR            # a home, which is copied first
    python benchmarks/keeping.py                       # 1,000 small threads built for it

Each figure is the median over threads spread over the home of one call of the library, in a warm process, with a
complete index; `least` and `slowest` are the quickest and the slowest of them, `processor` the median of its time,
`syncs` how often a call waited for the disk. Between two calls a moment passes, as between two that a person makes;
with `--at-once` none does. Beside them stands what the disk itself needs for one write that is synced.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
from figures import machine

from clew.clock import SystemClock
from clew.errors import Owner
from clew.ids import SystemIds
from clew.library import Library
from clew.rollout import File, Home, RealFileSystem
from clew.store import LocalStore
from clew.store.index_worker import IndexWorker
from clew.testing import ThreadBuilder
from clew.testing.builders import BEGINNING

TARGET = 5.0
"""Milliseconds that are asked for, each."""
PAUSE = 0.05
"""Seconds between two calls."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, help="a home (it is not changed)")
    parser.add_argument("--runs", type=int, default=15, help="threads that are tried")
    parser.add_argument("--at-once", action="store_true", help="without a moment between two calls")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="clew-bench-") as folder:
        home = Home(RealFileSystem(), Path(folder, "codex"))
        if options.home is not None:
            home.path.mkdir()
            for name in ("sessions", "archived_sessions", "session_index.jsonl"):
                source = options.home / name
                if source.is_dir():
                    shutil.copytree(source, home.path / name)
                elif source.is_file():
                    shutil.copy2(source, home.path / name)
        else:
            for number in range(1000):
                ThreadBuilder(start=BEGINNING + number * 600, seed=number).turn("First?", "One.").write(home)
        pause = 0.0 if options.at_once else PAUSE
        rows = anyio.run(_measured, home, Path(folder, "clew"), options.runs, pause)
        print(
            "| | median | least | slowest | processor | syncs | target |\n| --- | --- | --- | --- | --- | --- | --- |"
        )
        for name, times in rows:
            clock, processor, syncs = zip(*times, strict=True)
            figures = statistics.median(clock), min(clock), max(clock), statistics.median(processor)
            shown = " | ".join(f"{one:.1f} ms" for one in figures)
            print(f"| {name} | {shown} | {statistics.mean(syncs):.1f} | {TARGET:.0f} ms |")
        print(f"\nOne write and sync: {_sync(Path(folder)):.1f} ms. {machine()}")
    return 0


class _Counting(RealFileSystem):
    """Counts how often the disk is waited for."""

    def __init__(self) -> None:
        self.syncs = 0

    def sync_folder(self, folder: Path) -> None:
        self.syncs += 1
        super().sync_folder(folder)

    def open_append(self, path: Path, *, create: bool = True, exclusive: bool = False) -> File:
        return self._counted(super().open_append(path, create=create, exclusive=exclusive))

    def _counted(self, file: File) -> File:
        sync = file.sync

        def counted() -> None:
            self.syncs += 1
            sync()

        file.sync = counted
        return file


Took = tuple[float, float, int]
"""Milliseconds by the clock and of the processor, and syncs."""


async def _measured(home: Home, clew_home: Path, runs: int, pause: float) -> list[tuple[str, list[Took]]]:
    clock, fs = SystemClock(), _Counting()
    owner, ids = Owner("clew bench", os.getpid()), SystemIds(clock)
    assert IndexWorker(home, clew_home).run().complete
    with closing(LocalStore(fs, home.path, clew_home, clock=clock, ids=ids, owner=owner, index="use")) as store:
        library = Library(store, store.catalog, owner=owner, clock=clock, ids=ids, version="bench", keeper=store.keeper)
        threads = sorted(thread.thread_id for thread in home.threads() if not thread.archived)
        print(f"{len(threads):,} active threads.\n")
        wanted = [threads[round(number * (len(threads) - 1) / max(1, runs - 1))] for number in range(runs)]
        trashed: list[str] = []

        async def delete(one: str) -> None:
            trashed.append((await library.delete(one)).id)

        steps: tuple[tuple[str, Callable[[str], Awaitable[object]]], ...] = (
            ("rename", lambda one: library.rename(one, f"name {one}")),
            ("save", lambda one: library.save(f"saved {one}", one)),
            ("tag", lambda one: library.tag(one, "red")),
            ("archive", library.archive),
            ("unarchive", library.unarchive),
            ("archive --only", lambda one: library.archive(one, only=True)),
            ("unarchive --only", lambda one: library.unarchive(one, only=True)),
            ("delete", delete),
            ("restore", lambda _: library.undelete(trashed.pop(0))),
        )
        await library.summary(threads[0])
        rows: list[tuple[str, list[Took]]] = []
        for name, step in steps:
            times: list[Took] = []
            for one in dict.fromkeys(wanted):
                await anyio.sleep(pause)
                began, busy, syncs = time.perf_counter(), time.process_time(), fs.syncs
                await step(one)
                took = (time.perf_counter() - began) * 1000, (time.process_time() - busy) * 1000
                times.append((*took, fs.syncs - syncs))
            rows.append((name, times))
        return rows


def _sync(folder: Path) -> float:
    times: list[float] = []
    with closing(RealFileSystem().open_append(folder / "probe")) as file:
        for _ in range(20):
            begin = time.perf_counter()
            file.write(b"x" * 150)
            file.sync()
            times.append((time.perf_counter() - begin) * 1000)
    return statistics.median(times)


if __name__ == "__main__":
    raise SystemExit(main())
