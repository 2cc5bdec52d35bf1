"""Searches for words, answered by the index: which texts fit is asked there, what they say is read from the files.

Nothing is shown that was not read and found to fit. Threads of several segments are left to the scan, one by one: what
a revert took back is in their files still.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence

import msgspec

from clew.clock import utc_stamp
from clew.errors import BadRequest
from clew.index.catalog import ThreadTable
from clew.index.places import said_at
from clew.index.reconcile import files_of_all
from clew.index.word_search import WordHit, WordPage, WordQuery, find_words
from clew.rollout import Home, RolloutFile, open_source
from clew.store.filters import Filter
from clew.store.order import Order
from clew.store.queries import ListQuery, Marks, Role, SearchHit, SearchPage, SearchQuery, ThreadSummary
from clew.store.row_queries import row_query
from clew.store.search.matching import Matcher, Spans, matcher_for, snippet, words_of
from clew.store.search.run import moment_of
from clew.store.summaries import marked
from clew.store.thread_rows import glimpse_of, whole

__all__ = ["Stale", "WordAnswers", "answers_words"]

_OURS = "words:"
"""How cursors begin that lead on in the index."""

OneThread = Callable[[str], SearchHit | None]
"""Searches one thread by reading it."""


class Stale(Exception):
    """A text does not stand where the index has it."""


def answers_words(query: SearchQuery) -> bool:
    """Whether a search is one for the index: of words, over threads, and not the continuation of a scan."""
    return (
        query.mode == "words"
        and query.thread_id is None
        and "output" not in query.roles
        and (query.cursor is None or query.cursor.startswith(_OURS))
    )


class WordAnswers:
    """One search for words. `one` is asked for threads that the index alone cannot tell about.

    Raises `BadRequest`, `Stale`."""

    def __init__(self, home: Home, table: ThreadTable, marks: Mapping[str, Marks], query: SearchQuery) -> None:
        if query.limit < 1:
            raise BadRequest("limit", "give a number from 1 up")
        self._home = home
        self._table = table
        self._marks = marks
        self._query = query
        self._within = Filter(query.within)
        ancestor = self._within.ancestor
        self._descendants = frozenset(table.descendants(ancestor)) if ancestor is not None else frozenset[str]()
        self._rows = row_query(self._within, Order(_in_any_order(query.within)), marks, self._descendants)
        self._may_fit = table.may_fit(self._rows)
        self._summaries: dict[str, ThreadSummary] = {}

    def page(self, one: OneThread) -> tuple[SearchPage, Sequence[ThreadSummary]]:
        """A page, and the threads in it as their rows say, to be held against the disk."""
        query = self._query
        asked = WordQuery(
            words=words_of(query.text),
            roles=tuple(query.roles),
            tool=query.tool,
            file=query.file,
            since=moment_of(query.since),
            until=moment_of(query.until),
            sort=query.sort,
            limit=query.limit,
            cursor=None if query.cursor is None else query.cursor.removeprefix(_OURS),
        )
        found = self._found(asked)
        hits: list[SearchHit] = []
        shown: list[ThreadSummary] = []
        files_of = files_of_all(self._table.sql, self._home, {hit.thread for hit in found.hits})
        with contextlib.closing(matcher_for(query, lambda: False)) as matcher:
            for hit in found.hits:
                summary = self._summaries[hit.thread]
                shown.append(summary)
                files = files_of.get(hit.thread)
                if files is None:
                    raise Stale
                told = one(hit.thread) if len(files.segments) > 1 else self._told(hit, summary, files.current, matcher)
                if told is not None:
                    hits.append(told)
        cursor = None if found.next_cursor is None else _OURS + found.next_cursor
        return SearchPage(hits=tuple(hits), next_cursor=cursor), shown

    def _found(self, asked: WordQuery) -> WordPage:
        connection = self._table.sql.connection
        if not self._within.narrows:
            found = find_words(connection, asked)
            if self._read_all([hit.thread for hit in found.hits]):
                return found
            # Some of them are gone, and their words go when there is time.
        return find_words(connection, asked, self._fits, self._table.among(self._rows))

    def _fits(self, thread_id: str) -> bool:
        if not self._may_fit(thread_id):
            return False
        content = self._table.content(thread_id)
        if content is None:
            return False
        self._read(thread_id, content)
        return self._within.fits(self._summaries[thread_id], self._descendants)

    def _read_all(self, thread_ids: Sequence[str]) -> bool:
        contents = self._table.contents(thread_ids)
        for thread_id, content in contents.items():
            self._read(thread_id, content)
        return len(contents) == len(thread_ids)

    def _read(self, thread_id: str, content: bytes) -> None:
        summary = glimpse_of(content)
        if summary is None or summary.id != thread_id:
            raise Stale
        self._summaries[thread_id] = marked(whole(summary), self._marks.get(thread_id))

    def _told(self, hit: WordHit, summary: ThreadSummary, file: RolloutFile, matcher: Matcher) -> SearchHit:
        role, text, spans = self._text(hit, summary, file, matcher)
        shown, marks = snippet(text, spans)
        return SearchHit(
            thread=summary,
            where=role,
            snippet=shown,
            marks=marks,
            at=None if hit.at is None else utc_stamp(hit.at / 1000),
            turn_id=hit.turn_id,
            count=hit.count,
        )

    def _text(
        self, hit: WordHit, summary: ThreadSummary, file: RolloutFile, matcher: Matcher
    ) -> tuple[Role, str, Spans]:
        if hit.role == "title":
            title = summary.name or ""
            if (spans := matcher.spans(title)) is None:
                raise Stale
            return "title", title, spans
        if str(file.path).removesuffix(".zst") != f"{self._home.path}/{hit.path}":
            raise Stale
        with contextlib.closing(open_source(self._home.fs, file)) as source:
            for said in said_at(source, hit.offset):
                if said.role == hit.role and (spans := matcher.spans(said.text)) is not None:
                    return said.role, said.text, spans
        raise Stale


def _in_any_order(query: ListQuery) -> ListQuery:
    return msgspec.structs.replace(query, cursor=None)
