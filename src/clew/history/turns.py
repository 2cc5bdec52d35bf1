"""Turns and their items as people see them, from either dialect of the log.

*Legacy* logs tell turns by a stream of events, read forward with a state: explicit turns between their markers,
implicit ones (old versions wrote no markers) from user message to user message, rollbacks that take turns away again.
*Paginated* logs name the turn on every line that matters, so that each line counts by itself and pages can be read
from the end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import msgspec

from clew.events import TurnError
from clew.history.contextual import is_contextual
from clew.history.payload import integer, object_from, part_texts, text
from clew.history.shown_items import Shown, agent_message, event_item, reasoning, shown_item, user_message
from clew.rollout.envelope import Record, Skipped, payload_kind

__all__ = ["Place", "Turn", "TurnPlace", "TurnStatus", "TurnsSlice", "turn_places", "turns", "turns_page"]

TurnStatus = Literal["completed", "interrupted", "failed", "inProgress"]

_STARTS = ("task_started", "turn_started")
_COMPLETES = ("task_complete", "turn_complete")
_ENDS = (*_COMPLETES, "turn_aborted")
_EVENT_ITEMS = frozenset(
    {
        "context_compacted",
        "entered_review_mode",
        "exec_command_end",
        "exited_review_mode",
        "image_generation_end",
        "mcp_tool_call_end",
        "patch_apply_end",
        "sub_agent_activity",
        "view_image_tool_call",
        "web_search_end",
    }
)
_LEGACY_EVENTS = _EVENT_ITEMS | {
    *_STARTS,
    *_ENDS,
    "agent_message",
    "agent_reasoning",
    "agent_reasoning_raw_content",
    "error",
    "item_completed",
    "thread_rolled_back",
    "user_message",
}
_PAGINATED_EVENTS = frozenset({*_STARTS, *_ENDS, "item_completed"})
# These have events of their own in a legacy log.
_TWICE_TOLD = frozenset(
    {
        "AgentMessage",
        "ContextCompaction",
        "FileChange",
        "ImageGeneration",
        "ImageView",
        "McpToolCall",
        "Reasoning",
        "UserMessage",
        "WebSearch",
    }
)
_HARMLESS_ERRORS = ("thread_rollback_failed", "active_turn_not_steerable")
_HOOK_PROMPT = re.compile(r'<hook_prompt(?:\s+hook_run_id="([^"]*)")?\s*>(.*?)</hook_prompt>', re.DOTALL)


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded turn. Times in seconds since 1970; `items` are JSON objects with camelCase keys."""

    id: str
    status: TurnStatus
    items: tuple[Shown, ...] = ()
    started_at: int | None = None
    completed_at: int | None = None
    duration_ms: int | None = None
    error: TurnError | None = None


class TurnsSlice(msgspec.Struct, frozen=True):
    """Some turns, newest first; `more`: there are older ones."""

    turns: tuple[Turn, ...]
    more: bool


class Place(msgspec.Struct, frozen=True):
    """A place between two lines: how many lines of the thread stand before it, and the ordinal and byte offset (in its
    own file) of the line behind it."""

    lines: int
    ordinal: int | None
    offset: int


class TurnPlace(msgspec.Struct, frozen=True):
    """Where a turn begins; `ended` False: it is still open at the end of the log."""

    id: str
    start: Place
    ended: bool


@dataclass(slots=True)
class _Draft:
    """A turn while it is read; `line` is the one that opened it."""

    id: str
    line: int = 0
    explicit: bool = False
    compacted: bool = False
    status: TurnStatus = "completed"
    items: list[Shown] = field(default_factory=list[Shown])
    started_at: int | None = None
    completed_at: int | None = None
    duration_ms: int | None = None
    error: TurnError | None = None

    def put(self, item: Shown) -> None:
        """Add an item, in the place of an earlier version of it."""
        for place, old in enumerate(self.items):
            if old["id"] == item["id"]:
                self.items[place] = item
                return
        self.items.append(item)

    def started(self, event: dict[str, Any]) -> None:
        self.started_at = integer(event.get("started_at")) or self.started_at

    def ended(self, event: dict[str, Any]) -> None:
        """The marks of an end. What failed or was interrupted stays so when it is completed afterwards."""
        self.started_at = self.started_at or integer(event.get("started_at"))
        self.completed_at = integer(event.get("completed_at")) or self.completed_at
        self.duration_ms = integer(event.get("duration_ms")) or self.duration_ms
        if event.get("type") == "turn_aborted":
            self.status = "interrupted"
        elif (error := _error(event.get("error"))) is not None:
            self.status, self.error = "failed", error
        elif self.status == "inProgress":
            self.status = "completed"

    def turn(self, live: str | None) -> Turn:
        status = self.status
        if status == "inProgress" and self.id != live:
            status = "interrupted"
        return Turn(
            id=self.id,
            status=status,
            items=tuple(self.items),
            started_at=self.started_at,
            completed_at=self.completed_at,
            duration_ms=self.duration_ms,
            error=self.error,
        )


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
        projection = _Projection(subagent_start)
        for record in _of_interest(records, _PAGINATED_EVENTS):
            projection.read(record)
        return [draft.turn(live) for draft in projection.ordered()]
    builder = _LegacyBuilder()
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
    for record in _of_interest(newest_first, _PAGINATED_EVENTS):
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
    builder, projection = _LegacyBuilder(), _Projection(subagent_start)
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
            if record.type == "event_msg" and payload_kind(record.payload) in _PAGINATED_EVENTS:
                known = projection.known()
                projection.read(record)
                starts.update((turn_id, here) for turn_id in projection.known() - known)
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


def _error(value: Any) -> TurnError | None:
    if isinstance(value, str):
        return TurnError(value)
    if not isinstance(value, dict):
        return None
    members = cast("dict[str, Any]", value)
    info: Any = members.get("codex_error_info")
    kind = text(info) or next(iter(cast("dict[str, Any]", info)), None) if isinstance(info, dict | str) else None
    return TurnError(text(members.get("message")) or "the turn failed", kind or "other")


def _completed_item(event: dict[str, Any]) -> Shown | None:
    item: Any = event.get("item")
    if not isinstance(item, dict):
        return None
    completed = integer(event.get("completed_at_ms")) or None  # old lines say 0 for unknown
    return shown_item(cast("dict[str, Any]", item), integer(event.get("started_at_ms")), completed)


class _Projection:
    """Paginated, oldest first: each line names its turn."""

    def __init__(self, start: int | None) -> None:
        self._start = start
        self._drafts: dict[str, _Draft] = {}
        self._order: dict[str, int] = {}
        self._lines = 0

    def read(self, record: Record) -> None:
        if self._start is not None and record.ordinal is not None and record.ordinal < self._start:
            return
        event = object_from(record.payload)
        turn_id = text(event.get("turn_id")) if event else None
        if event is None or turn_id is None:
            return
        self._lines += 1
        draft = self._drafts.setdefault(turn_id, _Draft(turn_id, self._lines, status="inProgress"))
        kind = event.get("type")
        if kind == "item_completed":
            if (item := _completed_item(event)) is not None:
                draft.put(item)
            return
        self._order.setdefault(turn_id, self._lines)
        if kind in _STARTS:
            draft.started(event)
        else:
            if kind in _COMPLETES and not event.get("error"):
                draft.status, draft.error = "completed", None
            draft.ended(event)

    def known(self) -> set[str]:
        """The turns that have a marker."""
        return set(self._order)

    def ordered(self) -> list[_Draft]:
        """By first marker; items whose turn has none are no turn."""
        return [self._drafts[turn_id] for turn_id in sorted(self._order, key=lambda name: self._order[name])]


class _Backward:
    """Paginated, newest first: the newest version of an item counts, its oldest place decides where it stands."""

    def __init__(self, start: int | None) -> None:
        self._start = start
        self._drafts: dict[str, _Draft] = {}
        self._items: dict[str, dict[str, Shown]] = {}
        self._ended: set[str] = set()
        self._first: dict[str, int] = {}  # where the first marker of a turn stands, counted from the end
        self._started: list[str] = []
        self._lines = 0

    def read(self, record: Record) -> None:
        if self._start is not None and record.ordinal is not None and record.ordinal < self._start:
            return
        event = object_from(record.payload)
        turn_id = text(event.get("turn_id")) if event else None
        if event is None or turn_id is None:
            return
        self._lines += 1
        draft = self._drafts.setdefault(turn_id, _Draft(turn_id, self._lines, status="inProgress"))
        kind = event.get("type")
        if kind == "item_completed":
            if (item := _completed_item(event)) is not None:
                items = self._items.setdefault(turn_id, {})
                newest = items.pop(item["id"], item)
                items[item["id"]] = newest
            return
        self._first[turn_id] = self._lines
        if kind in _STARTS:
            if turn_id not in self._started:
                self._started.append(turn_id)
            draft.started_at = integer(event.get("started_at")) or draft.started_at
        elif turn_id not in self._ended:
            self._ended.add(turn_id)
            if kind in _COMPLETES and not event.get("error"):
                draft.status = "completed"
            draft.ended(event)

    def settled(self, limit: int, before: str | None) -> bool:
        """Whether the page is whole: one turn more than it needs has started, and no end waits for its start."""
        started = self._started
        if before is not None:
            if before not in started:
                return False
            started = started[started.index(before) + 1 :]
        return len(started) > limit and self._ended <= set(self._started)

    def ordered(self) -> list[_Draft]:
        """Newest first."""
        for turn_id, items in self._items.items():
            self._drafts[turn_id].items = list(reversed(items.values()))
        return [self._drafts[turn_id] for turn_id in sorted(self._first, key=lambda name: self._first[name])]


class _LegacyBuilder:
    """Legacy, oldest first: events open, fill and close turns."""

    def __init__(self) -> None:
        self._turns: list[_Draft] = []
        self.open: _Draft | None = None
        self._lines = -1
        self._items = 0
        self._events = False

    def read(self, record: Record) -> None:
        self._lines += 1
        if record.type == "compacted":
            self._told_by_events()
            self._current().compacted = True
        elif record.type == "event_msg":
            if payload_kind(record.payload) in _LEGACY_EVENTS and (event := object_from(record.payload)):
                self._told_by_events()
                self._event(event)
        elif record.type == "response_item" and (not self._events or b"<hook_prompt" in bytes(record.payload)):
            self._response_item(object_from(record.payload) or {})

    def _told_by_events(self) -> None:
        """Until here turns were inferred from the items; from now on events tell them."""
        if not self._events:
            self._turns, self.open, self._items, self._events = [], None, 0, True

    def finish(self) -> list[_Draft]:
        self._close()
        return self._turns

    def _close(self) -> None:
        draft, self.open = self.open, None
        if draft is not None and (draft.items or draft.explicit or draft.compacted):
            self._turns.append(draft)

    def _current(self) -> _Draft:
        if self.open is None:
            self.open = _Draft(f"rollout-{self._lines}", self._lines)
        return self.open

    def _find(self, turn_id: str | None) -> _Draft | None:
        if self.open is not None and self.open.id == turn_id:
            return self.open
        return next((draft for draft in reversed(self._turns) if draft.id == turn_id), None)

    def _next_id(self) -> str:
        self._items += 1
        return f"item-{self._items}"

    def _event(self, event: dict[str, Any]) -> None:
        kind, turn_id = event.get("type"), text(event.get("turn_id"))
        if kind in _STARTS:
            self._close()
            self.open = _Draft(turn_id or f"rollout-{self._lines}", self._lines, explicit=True, status="inProgress")
            self.open.started(event)
        elif kind in _ENDS:
            draft = self._find(turn_id) or self.open
            if draft is not None:
                draft.ended(event)
                if draft is self.open and kind in _COMPLETES:
                    self._close()
        elif kind == "user_message":
            self._user_message(event)
        elif kind == "agent_message":
            if said := text(event.get("message")):
                self._current().items.append(agent_message(self._next_id(), said, event))
        elif kind in ("agent_reasoning", "agent_reasoning_raw_content"):
            self._reasoning("summary" if kind == "agent_reasoning" else "content", text(event.get("text")) or "")
        elif kind == "thread_rolled_back":
            self._roll_back(integer(event.get("num_turns")) or 0)
        elif kind == "error":
            if (error := _error(event)) is not None and error.kind not in _HARMLESS_ERRORS and self.open is not None:
                self.open.status, self.open.error = "failed", error
        elif kind == "item_completed":
            item: Any = event.get("item")
            if isinstance(item, dict) and cast("dict[str, Any]", item).get("type") not in _TWICE_TOLD:
                self._put(turn_id, _completed_item(event))
        elif kind in ("context_compacted", "entered_review_mode", "exited_review_mode"):
            self._put(None, event_item(event, self._next_id()))
        else:
            self._put(turn_id, event_item(event, f"item-{self._items + 1}"))

    def _put(self, turn_id: str | None, item: Shown | None) -> None:
        """An item of a named turn that is not there is dropped; without a name it belongs to the open one."""
        draft = self._find(turn_id) if turn_id else self._current()
        if item is not None and draft is not None:
            if item["id"] == f"item-{self._items + 1}":
                self._items += 1
            draft.put(item)

    def _user_message(self, event: dict[str, Any]) -> None:
        draft = self.open
        if draft is not None and not draft.explicit and not (draft.compacted and not draft.items):
            self._close()
        self._current().items.append(user_message(self._next_id(), event))

    def _reasoning(self, part: str, said: str) -> None:
        if not said:
            return
        items = self._current().items
        if not items or items[-1]["type"] != "reasoning":
            items.append(reasoning(self._next_id()))
        items[-1][part].append(said)

    def _roll_back(self, count: int) -> None:
        self._close()
        if count > 0:
            del self._turns[max(len(self._turns) - count, 0) :]
        self._items = sum(len(draft.items) for draft in self._turns)

    def _response_item(self, item: dict[str, Any]) -> None:
        said = "\n".join(part_texts(item.get("content")))
        if item.get("type") == "message" and item.get("role") == "user" and (hooks := _HOOK_PROMPT.findall(said)):
            fragments = [{"text": body, "hookRunId": run} for run, body in hooks]
            shown = shown_item({"type": "HookPrompt", "id": text(item.get("id")) or self._next_id()})
            if shown is not None:
                self._current().put({**shown, "fragments": fragments})
            return
        if self._events:
            return
        # The oldest files hold no events at all: there the messages themselves tell the turns.
        match item.get("type"), item.get("role"):
            case "message", "user":
                if not is_contextual(item):
                    self._user_message({"message": said})
            case "message", "assistant":
                if said:
                    self._current().items.append(agent_message(self._next_id(), said, item))
            case "reasoning", _:
                for part in part_texts(item.get("summary")):
                    self._reasoning("summary", part)
            case _:
                pass
