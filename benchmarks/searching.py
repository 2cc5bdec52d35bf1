"""Measure searching by looking at the files, beside the real Codex where it is installed.

    python benchmarks/searching.py DIR [DIR ...]      # homes with many threads; they are only read
    python benchmarks/searching.py DIR --peer         # and Codex on a copy of each, in turns with clew

Each search begins with an empty cache of clew's own and with the files in the system's cache. `rare` and `common` are
texts that few and most threads hold. Processor time counts clew's own process and what it started.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from figures import Figure, Report, machine

from clew.clock import SystemClock
from clew.errors import Owner
from clew.ids import SystemIds
from clew.rollout import Home, RealFileSystem
from clew.store import LocalStore
from clew.store.queries import SearchQuery
from clew.store.search import find_ripgrep
from drivers import find_peer
from drivers.peer import AppServer
from drivers.world import World

VERSION = "0.169.0"
SOURCES = ["cli", "vscode", "exec", "appServer", "subAgent", "unknown"]
ONCE = 300.0
"""Milliseconds that one search of a gigabyte of plain files may take."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("homes", type=Path, nargs="+")
    parser.add_argument("--rare", default="zyxquartz")
    parser.add_argument("--common", default="refactor")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--peer", action="store_true")
    options = parser.parse_args()
    report = Report(machine="", peer=f"Codex {VERSION}" if options.peer else "", figures=[])
    for home in options.homes:
        print(f"{home.name} …", file=sys.stderr, flush=True)
        with ExitStack() as stack:
            app = stack.enter_context(peer_over(home)) if options.peer else None
            for figure in _measured(home, options, app):
                print(" | ".join(figure.row()), file=sys.stderr, flush=True)
                report.figures.append(figure)
    report.machine = machine()
    print(report.markdown())
    return 1 if any(figure.met is False for figure in report.figures) else 0


def _measured(home: Path, options: argparse.Namespace, app: AppServer | None) -> Iterator[Figure]:
    size = sum(file.size for file in Home(RealFileSystem(), home).files())
    plain = not any(home.rglob("*.zst"))
    target = ONCE if plain and size < 1.2e9 else None
    rare = SearchQuery(text=options.rare, mode="text")
    common = SearchQuery(text=options.common, mode="text")
    expression = SearchQuery(text=rf"{options.rare[:4]}\w*{options.rare[-2:]}\b", mode="regex")
    _search(home, rare, 1)  # the files come into the system's cache
    for name, query, most, term in (
        ("rare text", rare, target, options.rare),
        ("common text", common, target, options.common),
        ("rare expression", expression, target, None),
    ):
        walls: list[float] = []
        cpus: list[float] = []
        peer: list[float] = []
        for _ in range(options.runs):
            wall, cpu = _search(home, query, 1)
            walls.append(wall)
            cpus.append(cpu)
            if app is not None and term is not None:
                peer.append(_peer_search(app, term))
        label = f"{home.name}, {size / 1e6:.0f} MB, {name}"
        yield Figure(name=label, unit="ms", runs=tuple(walls), peer_runs=tuple(peer), target=most)
        yield Figure(name=f"{label}, processor time", unit="ms", runs=tuple(cpus))
    for name, again in (("the same process", False), ("another process", True)):
        runs = tuple(_search(home, common, 2, again=again)[0] for _ in range(options.runs))
        yield Figure(name=f"{home.name}, next page of the common text, {name}", unit="ms", runs=runs)


def _search(home: Path, query: SearchQuery, pages: int, *, again: bool = False) -> tuple[float, float]:
    """Milliseconds by the clock and by the processor that the last of some pages took; `again`: each page is asked for
    by another store, as by another process."""
    wall = cpu = 0.0
    with TemporaryDirectory(prefix="clew-bench-") as folder, ExitStack() as stack:
        store = _store(home, Path(folder), stack)
        for number in range(pages):
            if number and again:
                store = _store(home, Path(folder), stack)
            begin, spent = time.perf_counter(), _spent()
            page = store.catalog.search(query)
            wall, cpu = (time.perf_counter() - begin) * 1000, (_spent() - spent) * 1000
            assert page.hits, query.text
            query = msgspec.structs.replace(query, cursor=page.next_cursor)
    return wall, cpu


def _store(home: Path, clew_home: Path, stack: ExitStack) -> LocalStore:
    clock = SystemClock()
    store = LocalStore(
        RealFileSystem(),
        home,
        clew_home,
        clock=clock,
        ids=SystemIds(clock),
        owner=Owner("search benchmark"),
        ripgrep=lambda: find_ripgrep(os.environ),
    )
    stack.callback(store.close)
    return store


def _spent() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@contextmanager
def peer_over(home: Path) -> Generator[AppServer]:
    """Codex over a copy of a home, once it knows all threads."""
    with TemporaryDirectory(prefix="clew-bench-") as folder:
        world = World(Path(folder), "http://127.0.0.1:9/v1")
        shutil.copytree(home, world.home, dirs_exist_ok=True)
        with _Patient((find_peer(VERSION).binary, "app-server"), world) as app:
            yield app


class _Patient(AppServer):
    """It answers once it has imported all threads, which takes long."""

    def call(self, method: str, params: dict[str, Any], *, seconds: float = 600) -> dict[str, Any]:
        return super().call(method, params, seconds=seconds)


def _peer_search(app: AppServer, term: str) -> float:
    params = {"searchTerm": term, "limit": 25, "sourceKinds": SOURCES}
    return within(lambda: app.call("thread/search", params))


def within(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return (time.perf_counter() - begin) * 1000


if __name__ == "__main__":
    sys.exit(main())
