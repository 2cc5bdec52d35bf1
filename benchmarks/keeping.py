"""Measure what is done to threads of a big home as a whole: names, marks, the archive, the trash; sync included.

    python benchmarks/keeping.py --home DIR            # a home, which is copied first
    python benchmarks/keeping.py                       # 1,000 small threads built for it

Each figure is the median over threads spread over the home, in a warm process, with a complete index; `slowest` is the
slowest of them. Beside them stands what the disk itself needs for one write that is synced.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from figures import machine

from clew.clock import SystemClock
from clew.errors import Owner
from clew.ids import SystemIds
from clew.rollout import Home, RealFileSystem
from clew.store import LocalStore
from clew.store.indexing import IndexWorker
from clew.testing import ThreadBuilder
from clew.testing.builders import BEGINNING

TARGET = 5.0
"""Milliseconds that are asked for, each."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, help="a home (it is not changed)")
    parser.add_argument("--runs", type=int, default=9, help="threads that are tried")
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
        rows = _measured(home, Path(folder, "clew"), options.runs)
        print("| | median | slowest | target |\n| --- | --- | --- | --- |")
        for name, times in rows:
            print(f"| {name} | {statistics.median(times):.1f} ms | {max(times):.1f} ms | {TARGET:.0f} ms |")
        print(f"\nOne write and sync: {_sync(Path(folder)):.1f} ms. {machine()}")
    return 0


def _measured(home: Home, clew_home: Path, runs: int) -> list[tuple[str, list[float]]]:
    clock = SystemClock()
    owner = Owner("clew bench", os.getpid())
    assert IndexWorker(home, clew_home).run().complete
    store = LocalStore(home.fs, home.path, clew_home, clock=clock, ids=SystemIds(clock), owner=owner, index="use")
    with closing(store):
        keeper = store.keeper
        threads = sorted(thread.thread_id for thread in home.threads() if not thread.archived)
        print(f"{len(threads):,} active threads.\n")
        wanted = [threads[round(number * (len(threads) - 1) / max(1, runs - 1))] for number in range(runs)]
        trashed: list[str] = []
        steps: tuple[tuple[str, Callable[[str], object]], ...] = (
            ("rename", lambda one: store.catalog.rename(one, f"name {one}")),
            ("save", lambda one: keeper.save(one, f"saved {one}")),
            ("tag", lambda one: keeper.shelf.tag(one, ["red"])),
            ("archive", lambda one: keeper.archive(one)),
            ("unarchive", lambda one: keeper.unarchive(one)),
            ("archive --only", lambda one: keeper.archive(one, only=True)),
            ("unarchive --only", lambda one: keeper.unarchive(one, only=True)),
            ("delete", lambda one: trashed.append(keeper.delete([one]).id)),
            ("restore", lambda one: keeper.restore(trashed.pop(0))),
        )
        store.catalog.get(threads[0])
        return [(name, [_timed(step, one) for one in dict.fromkeys(wanted)]) for name, step in steps]


def _timed(step: Callable[[str], object], thread_id: str) -> float:
    begin = time.perf_counter()
    step(thread_id)
    return (time.perf_counter() - begin) * 1000


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
