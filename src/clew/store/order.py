"""The orders a list can have, and the cursors that lead from page to page."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime

import msgspec

from clew.errors import BadRequest
from clew.rollout import ThreadFiles
from clew.store.queries import ListQuery, SortKey, ThreadSummary

__all__ = ["LONGEST_NAME_KEY", "Order", "Place", "milliseconds", "milliseconds_stamp", "name_key", "title_of"]

LONGEST_NAME_KEY = 40
"""Characters of a title that its place among the others depends on."""

_LAST_MOMENT = 253_402_300_799_999

Place = tuple[int | str, str]
"""Where a thread stands in an order: what is sorted by, then its id."""


class _Cursor(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    sort: SortKey
    ascending: bool
    key: int | str
    id: str


class Order:
    """The order a query asks for, and where its page begins: behind `after`, None for the first page.

    Raises `BadRequest` for a cursor that is none, or one of another order.
    """

    def __init__(self, query: ListQuery) -> None:
        self.sort: SortKey = query.sort
        self.ascending = query.ascending
        self.after: Place | None = None if query.cursor is None else self._read(query.cursor)

    def _read(self, cursor: str) -> Place:
        try:
            found = msgspec.json.decode(base64.urlsafe_b64decode(cursor.encode()), type=_Cursor)
        except (ValueError, binascii.Error, msgspec.DecodeError) as error:
            raise BadRequest("cursor", "this is no cursor of an earlier page") from error
        if (found.sort, found.ascending) != (self.sort, self.ascending):
            raise BadRequest("cursor", "it belongs to a list in another order")
        if isinstance(found.key, str) != (self.sort in ("created", "name")) or (
            isinstance(found.key, int) and not -(1 << 63) <= found.key < 1 << 63
        ):
            raise BadRequest("cursor", "this is no cursor of an earlier page")
        return found.key, found.id

    def cursor(self, place: Place) -> str:
        """What leads to the page behind this place."""
        data = msgspec.json.encode(_Cursor(self.sort, self.ascending, *place))
        return base64.urlsafe_b64encode(data).decode()

    def passed(self, place: Place) -> bool:
        """Whether a place lies before the page."""
        if self.after is None:
            return False
        return not (place > self.after if self.ascending else place < self.after)

    def place(self, files: ThreadFiles, summary: ThreadSummary | None = None) -> Place:
        """Where a thread stands. Only recency and name need the summary."""
        return self._key(files, summary), files.thread_id

    def _key(self, files: ThreadFiles, summary: ThreadSummary | None) -> int | str:
        match self.sort:
            case "created":
                return files.segments[0].name.stamp
            case "updated":
                return files.current.mtime_ns
            case "size":
                return files.current.size
            case "recency":
                assert summary is not None
                return milliseconds(summary.recency_at) or 0
            case "name":
                assert summary is not None
                return name_key(summary)


def title_of(summary: ThreadSummary) -> str:
    """What a thread is called in a list: its name, else what it began with."""
    return summary.name or summary.preview or ""


def name_key(summary: ThreadSummary) -> str:
    """What `name` sorts by."""
    return title_of(summary)[:LONGEST_NAME_KEY].casefold()


def milliseconds(stamp: str | None) -> int | None:
    """A time of a summary as milliseconds since 1970."""
    if stamp is None:
        return None
    moment = datetime.fromisoformat(stamp)
    return int(moment.replace(microsecond=0).timestamp()) * 1000 + moment.microsecond // 1000


def milliseconds_stamp(number: int) -> str:
    """Milliseconds since 1970 as `2026-07-01T12:00:00.123Z`; times that no calendar has become the nearest it has."""
    number = min(max(number, 0), _LAST_MOMENT)
    moment = datetime.fromtimestamp(number // 1000, UTC).replace(tzinfo=None)
    return f"{moment.isoformat()}.{number % 1000:03d}Z"
