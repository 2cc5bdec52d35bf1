"""Turns while they are read: how the lines of either dialect begin, fill and end them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import msgspec

from clew.events import TurnError
from clew.history.contextual import is_contextual
from clew.history.payload import integer, object_from, part_texts, text
from clew.history.shown_items import Shown, agent_message, event_item, reasoning, shown_item, user_message
from clew.rollout.envelope import Record, payload_kind

__all__ = [
    "COMPLETES",
    "ENDS",
    "EVENT_ITEMS",
    "HOOK_PROMPT",
    "LEGACY_EVENTS",
    "PAGINATED_EVENTS",
    "STARTS",
    "TWICE_TOLD",
    "Draft",
    "LegacyBuilder",
    "Projection",
    "Turn",
    "TurnStatus",
    "completed_item",
]

TurnStatus = Literal["completed", "interrupted", "failed", "inProgress"]

STARTS = ("task_started", "turn_started")
COMPLETES = ("task_complete", "turn_complete")
ENDS = (*COMPLETES, "turn_aborted")
EVENT_ITEMS = frozenset(
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
LEGACY_EVENTS = EVENT_ITEMS | {
    *STARTS,
    *ENDS,
    "agent_message",
    "agent_reasoning",
    "agent_reasoning_raw_content",
    "error",
    "item_completed",
    "thread_rolled_back",
    "user_message",
}
PAGINATED_EVENTS = frozenset({*STARTS, *ENDS, "item_completed"})
# These have events of their own in a legacy log.
TWICE_TOLD = frozenset(
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
HOOK_PROMPT = re.compile(r'<hook_prompt(?:\s+hook_run_id="([^"]*)")?\s*>(.*?)</hook_prompt>', re.DOTALL)


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded turn. Times in seconds since 1970; `items` are JSON objects with camelCase keys."""

    id: str
    status: TurnStatus
    items: tuple[Shown, ...] = ()
    started_at: int | None = None
    completed_at: int | None = None
    duration_ms: int | None = None
    error: TurnError | None = None


@dataclass(slots=True, eq=False)
class Draft:
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
    places: dict[str, int] = field(default_factory=dict[str, int])  # where items are, as far as looked
    looked: int = 0
    earlier: Draft | None = None  # the closed turn with the same id before this one
    count: int = 0  # how many items there were when it was closed and since
    # For reading it again: the counters before its first line, and whether its own lines are all it takes.
    before: tuple[int, int] = (0, 0)
    whole: bool = True
    emptied: bool = False

    def put(self, item: Shown) -> None:
        """Add an item, in the place of an earlier version of it."""
        for place in range(self.looked, len(self.items)):
            self.places.setdefault(self.items[place]["id"], place)
        self.looked = len(self.items)
        place = self.places.get(item["id"])
        if place is None:
            self.items.append(item)
        else:
            self.items[place] = item

    def empty(self) -> None:
        """Let the items go: they can be read again."""
        self.items, self.places, self.looked, self.emptied = [], {}, 0, True

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


def _error(value: Any) -> TurnError | None:
    if isinstance(value, str):
        return TurnError(value)
    if not isinstance(value, dict):
        return None
    members = cast("dict[str, Any]", value)
    info: Any = members.get("codex_error_info")
    kind = text(info) or next(iter(cast("dict[str, Any]", info)), None) if isinstance(info, dict | str) else None
    return TurnError(text(members.get("message")) or "the turn failed", kind or "other")


def completed_item(event: dict[str, Any]) -> Shown | None:
    item: Any = event.get("item")
    if not isinstance(item, dict):
        return None
    completed = integer(event.get("completed_at_ms")) or None  # old lines say 0 for unknown
    return shown_item(cast("dict[str, Any]", item), integer(event.get("started_at_ms")), completed)


class Projection:
    """Paginated, oldest first: each line names its turn."""

    def __init__(self, start: int | None) -> None:
        self._start = start
        self._drafts: dict[str, Draft] = {}
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
        draft = self._drafts.setdefault(turn_id, Draft(turn_id, self._lines, status="inProgress"))
        kind = event.get("type")
        if kind == "item_completed":
            if (item := completed_item(event)) is not None:
                draft.put(item)
            return
        self._order.setdefault(turn_id, self._lines)
        if kind in STARTS:
            draft.started(event)
        else:
            if kind in COMPLETES and not event.get("error"):
                draft.status, draft.error = "completed", None
            draft.ended(event)

    def newest(self, known: int) -> str | None:
        """The turn that has got its first marker, if there are more of them than were `known`."""
        return next(reversed(self._order)) if len(self._order) > known else None

    def __len__(self) -> int:
        """How many turns have a marker."""
        return len(self._order)

    def ordered(self) -> list[Draft]:
        """By first marker; items whose turn has none are no turn."""
        return [self._drafts[turn_id] for turn_id in sorted(self._order, key=lambda name: self._order[name])]


class LegacyBuilder:
    """Legacy, oldest first: events open, fill and close turns."""

    def __init__(self, counted: tuple[int, int] = (-1, 0), *, events: bool = False) -> None:
        """`counted` and `events`: the counters and the dialect as they were `before` a draft that is read again."""
        self._turns: list[Draft] = []
        self._ids: dict[str, Draft] = {}
        self._closed_items = 0
        self.open: Draft | None = None
        self._lines, self._items = counted
        self._events = events
        self.touched: Draft | None = None
        """The turn that the last line said something about."""

    @classmethod
    def resumed(
        cls, closed: Sequence[Draft], open_: Draft | None, counted: tuple[int, int], *, events: bool
    ) -> LegacyBuilder:
        """One that goes on where another one stood: with its `closed` turns and its `open` one."""
        builder = cls(counted, events=events)
        for draft in closed:
            draft.earlier = builder._ids.get(draft.id)
            builder._ids[draft.id] = draft
            builder._turns.append(draft)
            builder._closed_items += draft.count
        builder.open = open_
        return builder

    @property
    def closed(self) -> Sequence[Draft]:
        """The turns that are over, oldest first."""
        return self._turns

    @property
    def counted(self) -> tuple[int, int]:
        """Lines (less one) and items so far."""
        return self._lines, self._items

    @property
    def told_by_events(self) -> bool:
        """Whether events tell the turns; else they are inferred from the items."""
        return self._events

    def drafts(self) -> list[Draft]:
        """The turns there are now, oldest first."""
        return [*self._turns, self.open] if self.open is not None and _counts(self.open) else list(self._turns)

    def read(self, record: Record) -> None:
        self._lines += 1
        self.touched = None
        if record.type == "compacted":
            self._told_by_events()
            self._current().compacted = True
        elif record.type == "event_msg":
            if payload_kind(record.payload) in LEGACY_EVENTS and (event := object_from(record.payload)):
                self._told_by_events()
                self._event(event)
        elif record.type == "response_item" and (not self._events or b"<hook_prompt" in bytes(record.payload)):
            self._response_item(object_from(record.payload) or {})

    def _told_by_events(self) -> None:
        """Until here turns were inferred from the items; from now on events tell them."""
        if not self._events:
            self._turns, self._ids, self._closed_items = [], {}, 0
            self.open, self._items, self._events = None, 0, True

    def finish(self) -> list[Draft]:
        self._close()
        return self._turns

    def _close(self) -> None:
        draft, self.open = self.open, None
        if draft is not None and _counts(draft):
            draft.count, draft.earlier = len(draft.items), self._ids.get(draft.id)
            self._closed_items += draft.count
            self._turns.append(draft)
            self._ids[draft.id] = draft

    def _current(self) -> Draft:
        if self.open is None:
            self.open = Draft(f"rollout-{self._lines}", self._lines)
        self.touched = self.open
        return self.open

    def _find(self, turn_id: str | None) -> Draft | None:
        if self.open is not None and self.open.id == turn_id:
            return self.open
        return self._ids.get(turn_id) if turn_id is not None else None

    def _next_id(self) -> str:
        self._items += 1
        return f"item-{self._items}"

    def _event(self, event: dict[str, Any]) -> None:
        kind, turn_id = event.get("type"), text(event.get("turn_id"))
        if kind in STARTS:
            self._close()
            self.open = Draft(turn_id or f"rollout-{self._lines}", self._lines, explicit=True, status="inProgress")
            self.open.started(event)
            self.touched = self.open
        elif kind in ENDS:
            draft = self.touched = self._find(turn_id) or self.open
            if draft is not None:
                draft.ended(event)
                if draft is self.open and kind in COMPLETES:
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
                self.touched = self.open
        elif kind == "item_completed":
            item: Any = event.get("item")
            if isinstance(item, dict) and cast("dict[str, Any]", item).get("type") not in TWICE_TOLD:
                self._put(turn_id, completed_item(event))
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
            self.touched, before = draft, len(draft.items)
            draft.put(item)
            if draft is not self.open:
                draft.count += len(draft.items) - before
                self._closed_items += len(draft.items) - before

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
            for _ in range(min(count, len(self._turns))):
                gone = self._turns.pop()
                self._closed_items -= gone.count
                if gone.earlier is not None:
                    self._ids[gone.id] = gone.earlier
                else:
                    del self._ids[gone.id]
        self._items = self._closed_items

    def _response_item(self, item: dict[str, Any]) -> None:
        said = "\n".join(part_texts(item.get("content")))
        if item.get("type") == "message" and item.get("role") == "user" and (hooks := HOOK_PROMPT.findall(said)):
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


def _counts(draft: Draft) -> bool:
    """Whether a turn is one: opened by a marker, or with something in it."""
    return bool(draft.items) or draft.explicit or draft.compacted
