"""What a list asks of the rows in the index."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from clew.index.rows import RowQuery
from clew.store.filters import Filter, below
from clew.store.order import Order
from clew.store.queries import Marks

__all__ = ["row_query"]


def row_query(wanted: Filter, order: Order, marks: Mapping[str, Marks], descendants: Collection[str]) -> RowQuery:
    """`descendants` are those of the ancestor that is asked for, if one is."""
    query = wanted.query
    only: Collection[str] | None = descendants if wanted.ancestor is not None else None
    if query.pinned or query.tags:
        tags = frozenset(query.tags)
        only = {
            thread_id
            for thread_id, put in marks.items()
            if (put.pinned or not query.pinned) and tags <= put.tags and (only is None or thread_id in only)
        }
    folders = () if wanted.cwd is None else (wanted.cwd, *wanted.cwd_also)
    return RowQuery(
        order=order.sort,
        ascending=order.ascending,
        after=order.after,
        archived=query.archived,
        cwd=(lambda cwd: any(below(cwd, folder) for folder in folders)) if folders else None,
        sources=query.sources,
        providers=query.providers,
        models=query.models,
        branch=query.branch,
        repository=query.repository,
        parent=wanted.parent,
        only=only,
        since=None if wanted.since is None else _nanoseconds(wanted.since),
        until=None if wanted.until is None else _nanoseconds(wanted.until + 1) - 1,
        text=wanted.text,
    )


def _nanoseconds(milliseconds: int) -> int:
    return min(max(milliseconds * 1_000_000, -(1 << 63)), (1 << 63) - 1)
