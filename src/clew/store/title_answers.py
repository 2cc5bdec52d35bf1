"""Searches in titles alone, answered by the rows of threads: no file is read."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import cast

from clew.errors import BadRequest, SearchStopped
from clew.index.rows import FoundRow
from clew.store.order import title_of
from clew.store.queries import SearchHit, SearchPage, SearchQuery, Stop, ThreadSummary
from clew.store.search.matching import matcher_for, snippet
from clew.store.search.scan import write_cursor

__all__ = ["answers_titles", "longest_word", "title_page"]

_LITERAL = re.compile(r"[A-HJ-Za-hj-z0-9]{3,}")
"""Without `i`: when case does not count, letters are the same as it that are not when texts are folded."""


def answers_titles(query: SearchQuery) -> bool:
    """Whether a search is one for the rows: in titles, which have neither times nor tools nor files."""
    return (
        tuple(query.roles) == ("title",)
        and query.thread_id is None
        and (query.tool, query.file, query.since, query.until) == (None, None, None, None)
    )


def longest_word(query: SearchQuery) -> str | None:
    """What each title that fits holds for certain, in any case; None where nothing is."""
    return None if query.mode == "regex" else max(_LITERAL.findall(query.text), key=len, default=None)


def title_page(query: SearchQuery, rows: Iterator[tuple[FoundRow, ThreadSummary]], stop: Stop | None) -> SearchPage:
    """A page out of the threads that meet all else, those written last first. Raises `BadRequest`, `SearchStopped`."""
    if query.limit < 1:
        raise BadRequest("limit", "give a number from 1 up")
    hits: list[SearchHit] = []
    last: FoundRow | None = None
    with contextlib.closing(matcher_for(query, stop or (lambda: False))) as matcher:
        for row, summary in rows:
            if stop is not None and stop():
                raise SearchStopped
            spans = matcher.spans(title_of(summary))
            if spans is None:
                continue
            if last is not None and len(hits) == query.limit:
                # As the cursor of a scan, which can go on from there.
                return SearchPage(hits=tuple(hits), next_cursor=write_cursor((cast("int", last.key), last.thread_id)))
            shown, marks = snippet(title_of(summary), spans)
            hits.append(SearchHit(thread=summary, where="title", snippet=shown, marks=marks))
            last = row
    return SearchPage(hits=tuple(hits))
