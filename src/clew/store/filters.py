"""Which threads a query wants, told from their summaries."""

from __future__ import annotations

import os
from collections.abc import Collection
from datetime import datetime
from pathlib import PurePosixPath

from clew.errors import BadRequest
from clew.rollout import canonical_id
from clew.store.order import milliseconds_stamp, title_of
from clew.store.queries import ListQuery, ThreadSummary

__all__ = ["MOST", "Filter", "below"]

MOST = 1000
"""Threads of a page."""


class Filter:
    """A query, checked. `since` and `until` are milliseconds since 1970, both within; `cwd` and `text` are normalised,
    `parent` and `ancestor` ids as they are written everywhere.

    Raises `BadRequest`.
    """

    def __init__(self, query: ListQuery) -> None:
        if not 1 <= query.limit <= MOST:
            raise BadRequest("limit", f"give a number from 1 to {MOST}")
        if query.parent is not None and query.ancestor is not None:
            raise BadRequest("ancestor", "give either a parent or an ancestor")
        self.query = query
        self.cwd = None if query.cwd is None else os.path.normpath(query.cwd)
        self.cwd_also = tuple(map(os.path.normpath, query.cwd_also))
        self.text = query.text.casefold() if query.text else None
        self.parent = _id("parent", query.parent)
        self.ancestor = _id("ancestor", query.ancestor)
        self.since = None if query.since is None else _milliseconds(query.since, up=True)
        self.until = None if query.until is None else _milliseconds(query.until, up=False)
        self._since = None if self.since is None else milliseconds_stamp(self.since)
        self._until = None if self.until is None else milliseconds_stamp(self.until)

    @property
    def narrows(self) -> bool:
        """Whether there are threads that are not wanted."""
        query = self.query
        everything = ListQuery(
            archived=None, sort=query.sort, ascending=query.ascending, limit=query.limit, cursor=query.cursor
        )
        return query != everything

    def fits(self, summary: ThreadSummary, descendants: Collection[str] = ()) -> bool:
        """Whether a thread is wanted. `descendants` are those of the ancestor that the query names."""
        query = self.query
        if query.archived is not None and summary.archived != query.archived:
            return False
        if self.cwd is not None and not any(below(summary.cwd, folder) for folder in (self.cwd, *self.cwd_also)):
            return False
        if query.sources and summary.source not in query.sources:
            return False
        if query.providers and summary.provider not in query.providers:
            return False
        if query.models and summary.model not in query.models:
            return False
        if query.branch is not None and summary.branch != query.branch:
            return False
        if query.repository is not None and summary.repository != query.repository:
            return False
        if self.parent is not None and _same(summary.parent_id) != self.parent:
            return False
        if self.ancestor is not None and summary.id not in descendants:
            return False
        if query.pinned is not None and summary.pinned != query.pinned:
            return False
        if not set(query.tags).issubset(summary.tags):
            return False
        if self._since is not None and summary.updated_at < self._since:
            return False
        if self._until is not None and summary.updated_at > self._until:
            return False
        return self.text is None or self.text in title_of(summary).casefold()


def below(cwd: str | None, folder: str) -> bool:
    """Whether a recorded folder is this one, which is normalised, or lies below it."""
    if cwd is None:
        return False
    normal = os.path.normpath(cwd)
    if folder.startswith("/") and normal.startswith("/") and not normal.startswith("//"):
        return normal == folder or normal.startswith(f"{folder.rstrip('/')}/")
    return PurePosixPath(normal).is_relative_to(folder)


def _same(thread_id: str | None) -> str | None:
    return None if thread_id is None else canonical_id(thread_id) or thread_id


def _id(field: str, text: str | None) -> str | None:
    if text is None:
        return None
    found = canonical_id(text)
    if found is None:
        raise BadRequest(field, f"{text!r} is no thread id")
    return found


def _milliseconds(text: str, *, up: bool) -> int:
    """The first whole millisecond not before the moment (`up`), or the last one not after it."""
    try:
        moment = datetime.fromisoformat(text).astimezone()
        second = int(moment.replace(microsecond=0).timestamp())
    except (ValueError, OverflowError) as error:
        raise BadRequest("since/until", f"{text!r} is no RFC 3339 time") from error
    rest = moment.microsecond
    return second * 1000 + (-(-rest // 1000) if up else rest // 1000)
