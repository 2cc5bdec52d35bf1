"""Turns and their items as people see them, from either dialect of the log.

*Legacy* logs tell turns by a stream of events, read forward with a state: explicit turns between their markers,
implicit ones (old versions wrote no markers) from user message to user message, rollbacks that take turns away again.
*Paginated* logs name the turn on every line that matters, so that each line counts by itself and pages can be read
from the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from clew.history.payload import integer, object_from, text
from clew.history.shown_items import Shown
from clew.history.turn_drafts import (
    COMPLETES,
    PAGINATED_EVENTS,
    STARTS,
    Draft,
    LegacyBuilder,
    Projection,
    Turn,
    TurnStatus,
    completed_item,
)
from clew.rollout.envelope import Record, Skipped, payload_kind

__all__ = ["Place", "Turn", "TurnPlace", "TurnStatus", "TurnsSlice", "turn_places", "turns", "turns_page"]


class TurnsSlice(msgspec.Struct, frozen=True):
    """Some turns, newest first; `more`: there are older ones."""

    turns: tuple[Turn, ...]
    more: bool


class Place(msgspec.Struct, frozen=True):
    """A place between two lines: how many lines of the thread stand before it (None: nobody counted), and the ordinal
    and byte offset (in its own file) of the line behind it."""

    lines: int | None
    ordinal: int | None
    offset: int


class TurnPlace(msgspec.Struct, frozen=True):
    """Where a turn begins; `ended` False: it is still open at the end of the log."""

    id: str
    start: Place
    ended: bool


def turns(
    records: Iterable[Record | Skipped],
    history_mode: str,
    *,
    subagent_start: int | None = None,
    live: str | None = None,
) -> list[Turn]:
    """All turns, oldest first, from all lines of a thread, oldest first.

    `history_mode` is `legacy` or `paginated`. Lines with an ordinal below `subagent_start` are what a sub-agent
    inherited, not its turns. A turn that never ended is interrupted, unless it is the one that runs now (`live`).
    """
    if history_mode == "paginated":
        projection = Projection(subagent_start)
        for record in _of_interest(records, PAGINATED_EVENTS):
            projection.read(record)
        return [draft.turn(live) for draft in projection.ordered()]
    builder = LegacyBuilder()
    for record in records:
        if isinstance(record, Record):
            builder.read(record)
    return [draft.turn(live) for draft in builder.finish()]


def turns_page(
    newest_first: Iterable[Record | Skipped],
    *,
    limit: int,
    before: str | None = None,
    subagent_start: int | None = None,
    live: str | None = None,
) -> TurnsSlice:
    """The newest `limit` turns of a paginated thread (older than the turn `before`, if given), reading no further back
    than they reach. An unknown `before` gives an empty slice.

    A turn is whole once the start of an older one is reached, since an item may stand before its turn's start. A turn
    whose end was met and whose start was not (an end that came late, or one without a start) keeps the reading going.
    A turn is taken to start once, before it ends, and its items to stand behind the start of the turn before it.
    """
    backward = _Backward(subagent_start)
    for record in _of_interest(newest_first, PAGINATED_EVENTS):
        backward.read(record)
        if backward.settled(limit, before):
            break
    drafts = backward.ordered()
    if before is not None:
        place = next((n for n, draft in enumerate(drafts) if draft.id == before), None)
        drafts = [] if place is None else drafts[place + 1 :]
    return TurnsSlice(tuple(draft.turn(live) for draft in drafts[:limit]), more=len(drafts) > limit)


def turn_places(
    records: Iterable[Record | Skipped], history_mode: str, *, subagent_start: int | None = None
) -> tuple[list[TurnPlace], Place]:
    """Where each turn begins, oldest first, and the end of the log. `records` are all lines, oldest first.

    A turn without a start marker begins with its user's message as the model sees it, and with the messages about the
    surroundings directly before that.
    """
    builder, projection = LegacyBuilder(), Projection(subagent_start)
    paginated = history_mode == "paginated"
    starts: dict[int | str, Place] = {}
    lead: Place | None = None
    inferred: Place | None = None  # where the turn that the last item opened begins, until its event says so itself
    ordinal, end = None, 0
    count = -1
    for count, record in enumerate(records):
        if isinstance(record, Skipped):
            continue
        if record.ordinal is not None:
            ordinal = record.ordinal
        elif ordinal is not None:
            ordinal += 1
        here = Place(count, ordinal if paginated else None, record.start)
        end = record.end
        if paginated:
            if record.type == "event_msg" and payload_kind(record.payload) in PAGINATED_EVENTS:
                known = len(projection)
                projection.read(record)
                if (turn_id := projection.newest(known)) is not None:
                    starts[turn_id] = here
            continue
        if record.type == "response_item":
            item = object_from(record.payload) or {}
            told = item.get("type") == "message" and item.get("role") in ("user", "developer")
            lead, inferred = (lead or here) if told else None, None
        before = builder.open
        builder.read(record)
        if builder.open is not None and builder.open is not before:
            starts[builder.open.line] = here if builder.open.explicit else lead or inferred or here
            lead, inferred = None, lead if record.type == "response_item" else None
    drafts = projection.ordered() if paginated else builder.finish()
    places = [
        TurnPlace(draft.id, starts[draft.id if paginated else draft.line], draft.status != "inProgress")
        for draft in drafts
    ]
    after = ordinal + 1 if paginated and ordinal is not None else None
    return places, Place(count + 1, after, end)


def _of_interest(records: Iterable[Record | Skipped], kinds: frozenset[str]) -> Iterator[Record]:
    for record in records:
        if isinstance(record, Record) and record.type == "event_msg" and payload_kind(record.payload) in kinds:
            yield record


class _Backward:
    """Paginated, newest first: the newest version of an item counts, its oldest place decides where it stands."""

    def __init__(self, start: int | None) -> None:
        self._start = start
        self._drafts: dict[str, Draft] = {}
        self._items: dict[str, dict[str, Shown]] = {}
        self._ended: set[str] = set()
        self._first: dict[str, int] = {}  # where the first marker of a turn stands, counted from the end
        self._started: dict[str, int] = {}  # how many had started before, counted from the end
        self._waiting: set[str] = set()  # turns whose end was met and whose start was not
        self._lines = 0

    def read(self, record: Record) -> None:
        if self._start is not None and record.ordinal is not None and record.ordinal < self._start:
            return
        event = object_from(record.payload)
        turn_id = text(event.get("turn_id")) if event else None
        if event is None or turn_id is None:
            return
        self._lines += 1
        draft = self._drafts.setdefault(turn_id, Draft(turn_id, self._lines, status="inProgress"))
        kind = event.get("type")
        if kind == "item_completed":
            if (item := completed_item(event)) is not None:
                items = self._items.setdefault(turn_id, {})
                newest = items.pop(item["id"], item)
                items[item["id"]] = newest
            return
        self._first[turn_id] = self._lines
        if kind in STARTS:
            self._started.setdefault(turn_id, len(self._started))
            self._waiting.discard(turn_id)
            draft.started_at = integer(event.get("started_at")) or draft.started_at
        elif turn_id not in self._ended:
            self._ended.add(turn_id)
            if turn_id not in self._started:
                self._waiting.add(turn_id)
            if kind in COMPLETES and not event.get("error"):
                draft.status = "completed"
            draft.ended(event)

    def settled(self, limit: int, before: str | None) -> bool:
        """Whether the page is whole: one turn more than it needs has started, and no end waits for its start."""
        older = len(self._started)
        if before is not None:
            if before not in self._started:
                return False
            older -= self._started[before] + 1
        return older > limit and not self._waiting

    def ordered(self) -> list[Draft]:
        """Newest first."""
        for turn_id, items in self._items.items():
            self._drafts[turn_id].items = list(reversed(items.values()))
        return [self._drafts[turn_id] for turn_id in sorted(self._first, key=lambda name: self._first[name])]
