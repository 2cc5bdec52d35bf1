"""The catalog of a home, answered by the index where it can be, and by the disk where it cannot.

The index never decides what exists. Before it answers, the disk is looked at; what it answers is held against the disk;
what it does not know is looked for there. While it is not complete, or cannot be used, the plain scan answers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from clew.clock import Clock
from clew.errors import Owner, ThreadNotFound
from clew.index.catalog import ThreadTable
from clew.index.database import IndexUnavailable
from clew.index.rows import FoundRow
from clew.rollout import FailPoints, Home, ThreadFiles, canonical_id
from clew.store.catalog import HomeCatalog, MarksSource
from clew.store.filters import Filter
from clew.store.indexing import Indexing
from clew.store.kin import inherits, is_spawned
from clew.store.known_files import is_mentioned, known_files
from clew.store.moves import Moved
from clew.store.order import Order
from clew.store.queries import (
    ListQuery,
    Look,
    Page,
    SearchHit,
    SearchPage,
    SearchQuery,
    ShowProgress,
    Stop,
    ThreadSummary,
)
from clew.store.row_queries import row_query
from clew.store.summaries import marked
from clew.store.thread_rows import glimpse_of, summary_of, whole

if TYPE_CHECKING:
    from clew.store.search import Scan

__all__ = ["IndexedCatalog"]

ROUNDS = 4
"""How often an answer is made anew because the disk changed under it, before the disk itself is asked."""
SOME = 50


class IndexedCatalog(HomeCatalog):
    """`HomeCatalog` with an index. `wake` is called after answers that may leave something to do in the background."""

    def __init__(
        self,
        home: Home,
        clew_home: Path,
        indexing: Indexing,
        *,
        owner: Owner,
        clock: Clock,
        fail: FailPoints,
        shelf: MarksSource | None = None,
        scan: Callable[[], Scan] | None = None,
        wake: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(home, clew_home, owner=owner, clock=clock, fail=fail, shelf=shelf, scan=scan)
        self._indexing = indexing
        self._wake = wake or _nothing

    @contextmanager
    def steady(self, look: Look | None = None) -> Generator[None]:
        with self._indexing.steady(look):
            yield

    def _on_move(self) -> Callable[[Moved], None] | None:
        return lambda moved: self._indexing.note(moved)

    # -- one of them

    def find(self, thread_id: str, *, absent: bool = False) -> ThreadFiles | None:
        wanted = canonical_id(thread_id)
        if wanted is not None:
            with suppress(IndexUnavailable), self._indexing.answering() as table:
                if table is not None:
                    if (files := known_files(table, self._home, wanted)) is not None:
                        return files
                    if absent and not is_mentioned(table, wanted):
                        return None
        return super().find(thread_id, absent=absent)

    def get(self, thread_id: str) -> ThreadSummary:
        wanted = canonical_id(thread_id)
        if wanted is None:
            raise ThreadNotFound(thread_id)
        with suppress(IndexUnavailable):
            for _ in range(ROUNDS):
                with self._indexing.answering() as table:
                    if table is None or (content := table.content(wanted)) is None:
                        break
                    found = summary_of(content)
                    if self._indexing.recheck(table, {wanted: found}) and found is not None:
                        return marked(found, self._marks().get(wanted))
        return super().get(thread_id)

    def _beginning_with(self, prefix: str) -> list[str]:
        if len(prefix.replace("-", "")) < 8 or not set(prefix) <= set("0123456789abcdef-"):
            return super()._beginning_with(prefix)
        with suppress(IndexUnavailable), self._indexing.answering() as table:
            if table is not None:
                found = table.beginning_with(prefix, SOME)
                told = {thread_id: summary_of(table.content(thread_id)) for thread_id in found}
                if found and self._indexing.recheck(table, told):
                    return found
        return super()._beginning_with(prefix)

    # -- many of them

    def list(self, query: ListQuery) -> Page:
        wanted, order = Filter(query), Order(query)
        try:
            for _ in range(ROUNDS):
                with self._indexing.answering() as table:
                    if table is None:
                        break
                    page, unread = self._page(table, wanted, order)
                    told = {thread.id: thread for thread in page.threads}
                    if self._indexing.recheck(table, {**dict.fromkeys(unread), **told}):
                        return page
        except IndexUnavailable:
            pass
        finally:
            self._wake()
        return super().list(query)

    def _page(self, table: ThreadTable, wanted: Filter, order: Order) -> tuple[Page, Sequence[str]]:
        found: list[ThreadSummary] = []
        unread: list[str] = []
        last: FoundRow | None = None
        for row, summary in self._fitting(table, wanted, order, unread):
            if last is not None and len(found) == wanted.query.limit:
                return Page(threads=tuple(found), next_cursor=order.cursor((last.key, last.thread_id))), unread
            found.append(summary)
            last = row
        return Page(threads=tuple(found)), unread

    def _fitting(
        self, table: ThreadTable, wanted: Filter, order: Order, unread: list[str]
    ) -> Iterator[tuple[FoundRow, ThreadSummary]]:
        """The threads that are wanted, in order; those whose rows say nothing come to the `unread` ones."""
        descendants = frozenset[str]()
        if wanted.ancestor is not None:
            descendants = frozenset(table.descendants(wanted.ancestor))
        marks = self._marks()
        for row in table.select(row_query(wanted, order, marks, descendants)):
            summary = glimpse_of(row.content)
            if summary is None or summary.id != row.thread_id:
                unread.append(row.thread_id)
                continue
            if (put := marks.get(row.thread_id)) is not None:
                summary = marked(summary, put)
            if wanted.fits(summary, descendants):
                yield row, whole(summary)

    def search(
        self, query: SearchQuery, *, stop: Stop | None = None, progress: ShowProgress | None = None
    ) -> SearchPage:
        from clew.store.title_answers import answers_titles
        from clew.store.word_answers import Stale, WordAnswers, answers_words

        if answers_titles(query):
            try:
                page = self._titled(query, stop)
            finally:
                self._wake()
            return page or super().search(query, stop=stop, progress=progress)
        if not answers_words(query):
            return super().search(query, stop=stop, progress=progress)

        def one(thread_id: str) -> SearchHit | None:
            alone = msgspec.structs.replace(query, cursor=None, limit=1)
            return next(iter(self._scanned(alone, (thread_id,), stop).hits), None)

        try:
            for _ in range(ROUNDS):
                with self._indexing.answering() as table:
                    if table is None or not self._indexing.take_words(table.sql):
                        break
                    page, shown = WordAnswers(self._home, table, self._marks(), query).page(one)
                    if self._indexing.recheck(table, {thread.id: thread for thread in shown}):
                        return page
        except (IndexUnavailable, OSError, Stale):
            pass
        finally:
            self._wake()
        # A cursor of the index means nothing to the scan, which says so.
        return super().search(query, stop=stop, progress=progress)

    def _titled(self, query: SearchQuery, stop: Stop | None) -> SearchPage | None:
        """What a scan finds in titles; None where the index does not tell."""
        from clew.store.search.scan import Key, read_cursor
        from clew.store.title_answers import longest_word, title_page

        within = msgspec.structs.replace(query.within, sort="updated", ascending=False, limit=1, cursor=None)
        rest, order = Filter(within), Order(within)
        if within.text is None:
            rest = Filter(msgspec.structs.replace(within, text=longest_word(query)))
        order.after = read_cursor(query.cursor, Key)
        with suppress(IndexUnavailable):
            for _ in range(ROUNDS):
                with self._indexing.answering() as table:
                    if table is None:
                        break
                    unread: list[str] = []
                    page = title_page(query, self._fitting(table, rest, order, unread), stop)
                    told = {hit.thread.id: hit.thread for hit in page.hits}
                    if self._indexing.recheck(table, {**dict.fromkeys(unread), **told}):
                        return page
        return None

    def descendants(self, thread_id: str) -> Sequence[str]:
        wanted = canonical_id(thread_id)
        with suppress(IndexUnavailable), self._indexing.answering() as table:
            if table is not None and wanted is not None:
                found = table.descendants(wanted)
                if self._hold(table, found, lambda files, above: is_spawned(self._home, files, above), wanted):
                    return tuple(found)
        return super().descendants(thread_id)

    def heirs(self, rollout_ids: Collection[str]) -> Sequence[str]:
        with suppress(IndexUnavailable), self._indexing.answering() as table:
            if table is not None:
                bases = {one for text in rollout_ids if (one := canonical_id(text)) is not None}
                found = table.heirs(bases)
                if self._hold(table, found, lambda files, _: inherits(self._home, files, bases)):
                    return tuple(found)
        return super().heirs(rollout_ids)

    def _hold(
        self,
        table: ThreadTable,
        proposed: Sequence[str],
        is_so: Callable[[ThreadFiles, Collection[str]], bool],
        *above: str,
    ) -> bool:
        """Whether what the index says of these threads is what their files say. `is_so` is told their files, and the
        threads before them. Where it is not, their rows are made anew."""
        passed = dict.fromkeys(above)
        for one in proposed:
            files = known_files(table, self._home, one)
            if files is None or not is_so(files, passed):
                with table.sql.writing():
                    table.make_stale(proposed)
                return False
            passed[one] = None
        return True


def _nothing() -> None:
    """Woken where nobody sleeps."""
