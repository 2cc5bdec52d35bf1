"""A home that several programs and a foreign one change, and what the index must say of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import msgspec

from clew.clock import SystemClock
from clew.errors import Owner
from clew.ids import SystemIds
from clew.rollout import FailPoints, Home, RealFileSystem
from clew.store import LocalStore
from clew.store.catalog import HomeCatalog
from clew.store.index_worker import IndexWorker
from clew.store.local import IndexUse
from clew.store.queries import ListQuery, SearchQuery, SortKey, ThreadSummary
from clew.store.shelf import Shelf
from clew.testing import ThreadBuilder

BEGINNING = 1_782_907_200.0
SORTS: tuple[SortKey, ...] = get_args(SortKey)


class IndexBench:
    """One home and its index. `told` is what people were told."""

    def __init__(self, folder: Path) -> None:
        self.clew_home = folder / "clew"
        self.home = Home(RealFileSystem(), folder / "codex")
        self.told: list[str] = []
        self.clock = SystemClock()
        self.plain = HomeCatalog(
            self.home,
            self.clew_home,
            owner=Owner("scan"),
            clock=self.clock,
            fail=FailPoints(),
            shelf=Shelf(self.home.fs, self.clew_home, clock=self.clock),
        )
        self._opened: list[LocalStore] = []

    def open(self, index: IndexUse = "use") -> LocalStore:
        """The home as another process opens it."""
        store = LocalStore(
            self.home.fs,
            self.home.path,
            self.clew_home,
            clock=self.clock,
            ids=SystemIds(self.clock),
            owner=Owner("clew test"),
            index=index,
            notify=self.told.append,
        )
        self._opened.append(store)
        return store

    def close(self) -> None:
        for store in self._opened:
            store.close()

    def keep(self) -> None:
        assert IndexWorker(self.home, self.clew_home, notify=self.told.append).run().complete

    def thread(self, number: int, **shape: object) -> ThreadBuilder:
        return ThreadBuilder("0.169", start=BEGINNING + 3600 * number, seed=number, **shape).turn(  # pyright: ignore[reportArgumentType] - as it takes them
            f"Question {number}?", f"Answer {number}."
        )

    @property
    def index(self) -> Path:
        return self.clew_home / "index.sqlite3"


def listed(catalog: HomeCatalog, query: ListQuery) -> list[ThreadSummary]:
    """All pages, without what only the index knows."""
    found: list[ThreadSummary] = []
    while True:
        page = catalog.list(query)
        found += [msgspec.structs.replace(one, turns=None) for one in page.threads]
        if page.next_cursor is None:
            return found
        query = msgspec.structs.replace(query, cursor=page.next_cursor)


def searched(catalog: HomeCatalog, query: SearchQuery) -> list[str]:
    """The threads of all pages, whatever their order: what is best depends on what counts it."""
    found: list[str] = []
    while True:
        page = catalog.search(query)
        found += [hit.thread.id for hit in page.hits]
        if page.next_cursor is None:
            return sorted(found)
        query = msgspec.structs.replace(query, cursor=page.next_cursor)


def answers(catalog: HomeCatalog) -> list[tuple[str, list[Any]]]:
    """What a catalog says to many questions, as JSON would hold it."""
    lists = (
        *(ListQuery(archived=None, sort=sort, limit=2) for sort in SORTS),
        *(ListQuery(sort=sort, ascending=True, limit=3) for sort in ("updated", "created")),
        ListQuery(archived=True),
        ListQuery(archived=None, text="question 1"),
        ListQuery(archived=None, cwd="/tmp/demo/a"),
        ListQuery(archived=None, sources=("mcp",), sort="created"),
    )
    searches = (
        SearchQuery(text="question 1", limit=2, sort="recency"),
        SearchQuery(text="minotaur"),
        SearchQuery(text="yes", roles=("agent",)),
        SearchQuery(text="answer", within=ListQuery(archived=True)),
        SearchQuery(text="question", limit=1, within=ListQuery(archived=None, cwd="/tmp/demo/a")),
    )
    found: list[tuple[str, list[Any]]] = [(str(query), listed(catalog, query)) for query in lists]
    found += [(str(search), searched(catalog, search)) for search in searches]
    ids = [one.id for one in listed(catalog, ListQuery(archived=None))]
    found.append(("get", [msgspec.structs.replace(catalog.get(one), turns=None) for one in ids]))
    return msgspec.json.decode(msgspec.json.encode(found))


def agree(catalogs: Sequence[HomeCatalog], plain: HomeCatalog) -> None:
    """Every one of them says what a plain look at the disk says."""
    expected = answers(plain)
    for catalog in catalogs:
        differ(answers(catalog), expected)


def differ(found: list[tuple[str, list[Any]]], expected: list[tuple[str, list[Any]]]) -> None:
    """The first question that is answered otherwise, if there is one, is an error."""
    for mine, theirs in zip(found, expected, strict=True):
        assert mine == theirs
