"""Measure lists of a home: without an index, while one is made, and with it; beside the real Codex if asked for.

    python benchmarks/library.py DIR [DIR ...]        # homes with many threads; they are only read
    python benchmarks/library.py DIR --peer           # and Codex on a copy of each, in turns with clew

Lists in one process are medians of many, warm; each includes the look at the disk before it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from figures import Figure, Report, machine
from searching import SOURCES, VERSION, peer_over, within

from clew.clock import SystemClock
from clew.errors import Owner
from clew.ids import SystemIds
from clew.rollout import Home, RealFileSystem
from clew.store import LocalStore
from clew.store.index_status import index_status
from clew.store.index_worker import IndexWorker
from clew.store.intake import WorkReport
from clew.store.local import IndexUse
from clew.store.queries import ListQuery, SearchQuery, SortKey, ThreadSummary
from drivers.peer import AppServer

SORTS: tuple[SortKey, ...] = get_args(SortKey)
PAGE, FIRST, TITLE, PROCESS = 3.0, 150.0, 5.0, 200.0
BUILD = {10_000: 3.0, 100_000: 30.0}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("homes", type=Path, nargs="+")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--word", action="append", default=[], help="look for these words, too")
    parser.add_argument("--peer", action="store_true")
    options = parser.parse_args()
    report = Report(machine="", peer=f"Codex {VERSION}" if options.peer else "", figures=[])
    for home in options.homes:
        print(f"{home.name} …", file=sys.stderr, flush=True)
        with ExitStack() as stack:
            app = stack.enter_context(peer_over(home)) if options.peer else None
            clew_home = Path(stack.enter_context(TemporaryDirectory(prefix="clew-bench-")))
            for figure in _measured(home, clew_home, options.runs, options.word, app):
                print(" | ".join(figure.row()), file=sys.stderr, flush=True)
                report.figures.append(figure)
    report.machine = machine()
    print(report.markdown())
    return 1 if any(figure.met is False for figure in report.figures) else 0


def _measured(home: Path, clew_home: Path, runs: int, asked: list[str], app: AppServer | None) -> Iterator[Figure]:
    count = sum(1 for _ in Home(RealFileSystem(), home).threads())
    label = f"{home.name}, {count} threads"
    for sort in ("created", "updated"):
        times = tuple(_without_index(home, ListQuery(sort=sort)) for _ in range(runs))
        target = FIRST if sort == "created" else None
        yield Figure(name=f"{label}, no index, first page by {sort}", unit="ms", runs=times, target=target)
    complete, done = _built(home, clew_home)
    yield Figure(name=f"{label}, index complete", unit="s", runs=(complete,), target=_most(BUILD, count))
    yield Figure(name=f"{label}, … and its pieces put together", unit="s", runs=(done,))
    status = index_status(Home(RealFileSystem(), home), clew_home)
    assert (status.complete, status.threads) == (True, count)
    yield Figure(name=f"{label}, index on disk", unit="MB", runs=(status.bytes / 1e6,), target=400.0)
    with closing(_store(home, clew_home)) as store:
        yield from _lists(store, label, runs, app)
        yield from _titles(store, label, runs)
        yield from _words(store, label, runs, asked)
        yield _paged(store, label)
    yield from _processes(home, clew_home, label, runs)


def _lists(store: LocalStore, label: str, runs: int, app: AppServer | None) -> Iterator[Figure]:
    def measured(name: str, query: ListQuery, peer: dict[str, Any] | None = None) -> Figure:
        times = tuple(within(lambda: store.catalog.list(query)) for _ in range(runs))
        theirs: tuple[float, ...] = ()
        if app is not None and peer is not None:
            asked = {"limit": 25, "sourceKinds": SOURCES, **peer}
            theirs = tuple(_peer_list(app, asked) for _ in range(runs))
        return Figure(name=f"{label}, {name}", unit="ms", runs=times, peer_runs=theirs, target=PAGE)

    store.catalog.list(ListQuery())
    keys = {"created": "created_at", "updated": "updated_at", "recency": "recency_at"}
    for sort in SORTS:
        for ascending in (False, True):
            query = ListQuery(sort=sort, ascending=ascending)
            theirs = {"sortKey": keys[sort], "sortDirection": "asc" if ascending else "desc"} if sort in keys else None
            yield measured(f"by {sort}{', the other way' if ascending else ''}", query, theirs)
    deep = _deep(store)
    one = deep.threads[0]
    yield measured("far behind", ListQuery(cursor=deep.next_cursor))
    for name, filters in _filters(one).items():
        yield measured(name, ListQuery(**filters))
        yield measured(f"{name}, oldest first", ListQuery(**filters, sort="created", ascending=True))


def _peer_list(app: AppServer, asked: dict[str, Any]) -> float:
    return within(lambda: app.call("thread/list", asked))


def _filters(one: ThreadSummary) -> dict[str, dict[str, Any]]:
    return {
        "one folder": {"cwd": one.cwd},
        "all folders below one": {"cwd": str(Path(one.cwd or "/x").parent)},
        "one source": {"sources": (one.source or "",)},
        "one model": {"models": (one.model or "",)},
        "no such model": {"models": ("nobody",)},
        "one repository": {"repository": one.repository},
        "archived": {"archived": True},
        "archived or not": {"archived": None},
        "a month": {"since": "2026-05-01T00:00:00Z", "until": "2026-06-01T00:00:00Z"},
        "folder, source and model": {"cwd": one.cwd, "sources": (one.source or "",), "models": (one.model or "",)},
    }


def _titles(store: LocalStore, label: str, runs: int) -> Iterator[Figure]:
    preview = next(thread.preview for thread in store.catalog.list(ListQuery()).threads if thread.preview)
    for name, text in (("a rare phrase", preview[30:60]), ("a word", preview.split()[3]), ("nothing", "xqzwvk")):
        times = tuple(within(lambda text=text: store.catalog.list(ListQuery(text=text))) for _ in range(runs))
        yield Figure(name=f"{label}, titles with {name}", unit="ms", runs=times, target=TITLE)


def _words(store: LocalStore, label: str, runs: int, asked: list[str]) -> Iterator[Figure]:
    preview = next(thread.preview for thread in store.catalog.list(ListQuery()).threads if thread.preview)
    first, second = preview.split()[2:4]
    for text in (first, f"{first} {second}", f'"{first} {second}"', f"{first[:3]}*", "xqzwvk", *asked):
        query = SearchQuery(text=text)
        store.catalog.search(query)
        times = tuple(within(lambda query=query: store.catalog.search(query)) for _ in range(runs))
        yield Figure(name=f"{label}, words {text}", unit="ms", runs=times, target=TITLE)


def _paged(store: LocalStore, label: str) -> Figure:
    """All active threads, page by page; each once, and in order."""
    seen: list[tuple[str, str]] = []
    query = ListQuery(limit=100)
    begin = time.perf_counter()
    while True:
        page = store.catalog.list(query)
        seen += [(thread.updated_at, thread.id) for thread in page.threads]
        if page.next_cursor is None:
            break
        query = msgspec.structs.replace(query, cursor=page.next_cursor)
    took = time.perf_counter() - begin
    assert [stamp for stamp, _ in seen] == sorted((stamp for stamp, _ in seen), reverse=True)
    assert len({thread_id for _, thread_id in seen}) == len(seen)
    return Figure(name=f"{label}, paging through {len(seen)}", unit="s", runs=(took,))


def _deep(store: LocalStore) -> Any:
    query = ListQuery(limit=1000)
    page = store.catalog.list(query)
    for _ in range(60):
        if page.next_cursor is None:
            break
        before, page = page, store.catalog.list(msgspec.structs.replace(query, cursor=page.next_cursor))
        if page.next_cursor is None:
            return before
    return page


def _processes(home: Path, clew_home: Path, label: str, runs: int) -> Iterator[Figure]:
    # The peak that the system tells of a process is never less than that of the one that started it.
    small = [sys.executable, "-S", "-c", _SMALL]
    command = [sys.executable, "-m", "clew", "list", "--codex-home", str(home), "--clew-home", str(clew_home)]
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    times: list[float] = []
    peaks: list[float] = []
    for _ in range(runs):
        told = subprocess.run([*small, *command], env=env, check=True, capture_output=True, text=True).stdout
        took, peak = told.split()[-2:]
        times.append(float(took) * 1000)
        peaks.append(float(peak) / (1024 if sys.platform == "linux" else 1e6))
    yield Figure(name=f"{label}, `clew list`, the whole process", unit="ms", runs=tuple(times), target=PROCESS)
    yield Figure(name=f"{label}, `clew list`, memory", unit="MB", runs=tuple(peaks), target=60.0)


_SMALL = """
import resource, subprocess, sys, time
begin = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def _without_index(home: Path, query: ListQuery) -> float:
    with TemporaryDirectory(prefix="clew-bench-") as folder, closing(_store(home, Path(folder), "off")) as store:
        return within(lambda: store.catalog.list(query))


def _built(home: Path, clew_home: Path) -> tuple[float, float]:
    """Seconds until the index answers, and until its pieces are put together, too."""
    complete: list[float] = []

    def told(report: WorkReport) -> None:
        if report.complete:
            complete.append(time.perf_counter())

    began = time.perf_counter()
    IndexWorker(Home(RealFileSystem(), home), clew_home).run(progress=told)
    return complete[0] - began, time.perf_counter() - began


def _store(home: Path, clew_home: Path, index: IndexUse = "use") -> LocalStore:
    clock = SystemClock()
    owner = Owner("library benchmark")
    return LocalStore(RealFileSystem(), home, clew_home, clock=clock, ids=SystemIds(clock), owner=owner, index=index)


def _most(targets: dict[int, float], count: int) -> float | None:
    return targets.get(round(count, -4) if count >= 10_000 else count)


if __name__ == "__main__":
    sys.exit(main())
