"""The history as the model sees it, rebuilt from the log and kept while a thread is live.

**What the lines mean** (forward, oldest first). Response items are appended. A `compacted` line replaces all items by
its `replacement_history` (or, in old files, by the kept user messages and the summary) and clears the baseline and the
world state. A `thread_rolled_back` line cuts the items before the N-th user turn from the end; what the cut turns had
said about the surroundings is forgotten with them. A `turn_context` line is the newest record of the settings and,
while the items tell the model about its surroundings, the baseline.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Any, Literal, cast

import msgspec

from clew.events import Usage
from clew.history.compaction import kept_messages, summary_message
from clew.history.contextual import is_contextual, is_mixed_developer, is_user_boundary
from clew.history.metadata import ThreadMeta, read_meta
from clew.history.payload import encode, integer, object_from, objects, text
from clew.history.recorded import RecordedSettings
from clew.history.response_items import ContextItem, estimated_tokens, is_from_model, normalised, open_calls
from clew.history.truncation import DEFAULT_POLICY, TruncationPolicy
from clew.history.world_state import advance
from clew.rollout.envelope import Record, Skipped, payload_kind

__all__ = ["ENDS", "EVENTS", "STARTS", "Context", "Window", "rebuild_forward"]

STARTS = ("task_started", "turn_started")
ENDS = ("task_complete", "turn_complete", "turn_aborted")
EVENTS = frozenset((*STARTS, *ENDS, "token_count", "thread_rolled_back", "thread_settings_applied"))
_NEVER_ITEMS = ("ghost_snapshot", "compaction_trigger")


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """The stretch between two compactions: its number (0 before the first), its id and those of the first window and
    of the one before, where recorded."""

    number: int = 0
    id: str | None = None
    first_id: str | None = None
    previous_id: str | None = None


class _Told(msgspec.Struct, frozen=True):
    """What the model knows about its surroundings from some place in the items on, and in which turn it was told."""

    at: int
    turn: int
    baseline: dict[str, Any] | None
    world_state: dict[str, Any] | None
    told: bool


class Context:
    """The history of one thread as the model sees it. Mutable while a session lives.

    items: response items, oldest first.
    baseline: the newest `turn_context` payload whose surroundings the items tell; None: tell everything again.
    world_state: what the model was last told about the world; None: tell everything again.
    window: the current window.
    usage, last_usage: tokens of the thread and of its last response.
    last_turn_id, open_turn_id: the turn that started last; the same when it never ended.
    skipped: lines in what was read that could not be used.
    """

    def __init__(self, meta: ThreadMeta | None = None) -> None:
        meta = meta or ThreadMeta()
        self.meta = meta
        self.session_id: str | None = meta.session_id
        self.history_mode: Literal["legacy", "paginated"] = meta.history_mode
        self.items: list[ContextItem] = []
        self.window: Window = Window(id=meta.window_id, first_id=meta.window_id)
        self.usage: Usage = Usage()
        self.last_usage: Usage | None = None
        self.last_turn_id: str | None = None
        self.open_turn_id: str | None = None
        self.skipped: int = 0
        self._baseline: dict[str, Any] | None = None
        self._world_state: dict[str, Any] | None = None
        self._told = True
        self._marks: list[_Told] = []
        self._floor = _Told(0, 0, None, None, told=True)
        self._turns: list[int] = []  # where each turn started since the last compaction, as a place in the items
        self._measured: int | None = None  # how many items there were when `last_usage` was recorded
        self._turn: bytes | None = None
        self._applied: dict[str, Any] | None = None
        self._applied_last = False
        self._applied_stale = False

    # -- what it says -------------------------------------------------------------------------------------------

    @property
    def baseline(self) -> dict[str, Any] | None:
        return self._baseline

    @baseline.setter
    def baseline(self, value: dict[str, Any] | None) -> None:
        self._baseline = value
        self._mark()

    @property
    def world_state(self) -> dict[str, Any] | None:
        return self._world_state

    @world_state.setter
    def world_state(self, value: dict[str, Any] | None) -> None:
        self._world_state = value
        self._mark()

    @property
    def base_instructions(self) -> str | None:
        return self.recorded.base_instructions

    @property
    def recorded(self) -> RecordedSettings:
        """The settings the thread last recorded, whether or not the turn that did was rolled back."""
        return RecordedSettings.read(self.meta, object_from(self._turn), self._applied, applied_last=self._applied_last)

    def request_items(
        self,
        *,
        openai: bool,
        images: bool = True,
        audio: bool = True,
        policy: TruncationPolicy = DEFAULT_POLICY,
    ) -> list[dict[str, Any]]:
        """The items as a request carries them; see `normalised`."""
        return normalised(self.items, openai=openai, images=images, audio=audio, policy=policy)

    def open_calls(self) -> list[ContextItem]:
        """The calls without output, in their order."""
        return open_calls(self.items)

    def estimate_tokens(self, *, reasoning_included: bool = False) -> int:
        """About how many tokens the context takes.

        The count of the last response, and an estimate of everything recorded since; an estimate of all items when
        there is no count or the items were cut since. `reasoning_included`: the endpoint counts earlier reasoning too.
        """
        measured = self._measured
        if measured is None or self.last_usage is None or measured > len(self.items):
            instructions = self.base_instructions or ""
            return sum(map(estimated_tokens, self.items)) + len(instructions.encode("utf-8", "replace")) // 4
        start = measured
        while start > 0 and not is_from_model(self.items[start - 1]):
            start -= 1
        if start == 0:
            start = measured  # counted after a compaction: the count is of all items there were
        total = self.last_usage.total_tokens + sum(map(estimated_tokens, self.items[start:]))
        if not reasoning_included:
            last_user = next((place for place in range(start - 1, -1, -1) if self.items[place].role == "user"), 0)
            total += sum(estimated_tokens(item) for item in self.items[:last_user] if item.type == "reasoning")
        return total

    # -- while a session lives ----------------------------------------------------------------------------------

    def add(self, item: bytes | dict[str, Any]) -> None:
        """An item that was just recorded. Raises `ValueError` for what is no response item."""
        self._append(ContextItem.of(item))

    def replace(self, items: Iterable[bytes | dict[str, Any]]) -> None:
        """The items of a new window, after a compaction. Baseline and world state are cleared."""
        self._reset([ContextItem.of(item) for item in items])

    def add_usage(self, last: Usage) -> None:
        """The token counts of a response that was just recorded."""
        self.last_usage = last
        self.usage = self.usage.plus(last)
        self._measured = len(self.items)

    def turn_started(self, turn_id: str) -> None:
        self.last_turn_id = self.open_turn_id = turn_id
        self._turns.append(len(self.items))

    def turn_ended(self) -> None:
        self.open_turn_id = None

    # -- from the log -------------------------------------------------------------------------------------------

    def apply(self, record: Record | Skipped) -> None:
        """The next line of the log. What cannot be used is counted."""
        if isinstance(record, Skipped):
            self.skipped += 1
            return
        if record.ordinal is not None and self.meta.id is None:
            self.history_mode = "paginated"
        match record.type:
            case "response_item":
                self.apply_item(ContextItem.read(bytes(record.payload)))
            case "event_msg":
                if payload_kind(record.payload) in EVENTS:
                    self._event(object_from(record.payload) or {})
            case "turn_context":
                self._turn_context(bytes(record.payload))
            case "compacted" | "world_state" | "inter_agent_communication" | "token_usage_record":
                payload = object_from(record.payload)
                if payload is None:
                    self.skipped += 1
                elif record.type == "compacted":
                    self._compacted(payload)
                elif record.type == "world_state":
                    self.world_state = advance(self._world_state, payload)
                elif record.type == "token_usage_record":
                    self._counted(payload.get("usage"), payload.get("thread_token_usage"))
                else:
                    self._append(ContextItem.of(_agent_message(payload)))
            case _:
                pass

    def apply_item(self, item: ContextItem | None) -> None:
        """The next line of the log, a response item that was read already; None if it could not be."""
        if item is None:
            self.skipped += 1
        elif item.type not in _NEVER_ITEMS and item.role != "system":
            self._append(item)

    def _append(self, item: ContextItem) -> None:
        self.items.append(item)
        if not self._told and item.type == "message" and item.role in ("user", "developer"):
            self._told = is_contextual(item.value())

    def _event(self, payload: dict[str, Any]) -> None:
        kind, turn_id = payload.get("type"), text(payload.get("turn_id"))
        if kind in STARTS:
            self.last_turn_id = self.open_turn_id = turn_id
            self._turns.append(len(self.items))
        elif kind in ENDS:
            if turn_id is None or turn_id == self.open_turn_id:
                self.open_turn_id = None
            self._forget_stale()
        elif kind == "token_count":
            info: Any = payload.get("info")
            if isinstance(info, dict):
                info = cast("dict[str, Any]", info)
                self._counted(info.get("last_token_usage"), info.get("total_token_usage"))
            self._forget_stale()
        elif kind == "thread_rolled_back":
            self._roll_back(integer(payload.get("num_turns")) or 0)
        elif isinstance(applied := payload.get("thread_settings"), dict):
            self._applied = cast("dict[str, Any]", applied)
            self._applied_last, self._applied_stale = True, False

    def _forget_stale(self) -> None:
        if self._applied_stale:
            self._applied, self._applied_last, self._applied_stale = None, False, False

    def _counted(self, last: Any, total: Any) -> None:
        if isinstance(last, dict):
            self.last_usage = _usage(cast("dict[str, Any]", last))
            self._measured = len(self.items)
        if isinstance(total, dict):
            self.usage = _usage(cast("dict[str, Any]", total))

    def _turn_context(self, raw: bytes) -> None:
        payload = object_from(raw)
        if payload is None:
            self.skipped += 1
            return
        self._turn, self._applied_last = raw, False
        if self._told:
            self.baseline = payload

    def _compacted(self, payload: dict[str, Any]) -> None:
        replacement: Any = payload.get("replacement_history")
        number = integer(payload.get("window_number"))
        id_or_number: Any = payload.get("window_id")
        if number is None:
            number = integer(id_or_number)
        if isinstance(replacement, list):
            found = [ContextItem.read(encode(item)) for item in objects(replacement)]  # pyright: ignore[reportUnknownArgumentType] - a JSON list
            items = [item for item in found if item and item.type not in _NEVER_ITEMS and item.role != "system"]
            counted = 1
            self._applied_stale = self._applied is not None
        else:
            messages = [item.value() for item in self.items if item.type == "message" and item.role == "user"]
            kept = [*kept_messages(messages), summary_message(text(payload.get("message")) or "")]
            items = [ContextItem.of(item) for item in kept]
            counted = self.window.number + 1
        self._reset(items)
        self.window = Window(
            number=counted if number is None else number,
            id=text(id_or_number),
            first_id=text(payload.get("first_window_id")),
            previous_id=text(payload.get("previous_window_id")),
        )

    def _reset(self, items: list[ContextItem]) -> None:
        self.items = items
        self._told = any(
            item.type == "message" and item.role in ("user", "developer") and is_contextual(item.value())
            for item in items
        )
        self._baseline = self._world_state = None
        self._marks, self._turns, self._measured = [], [], None
        self._floor = _Told(0, 0, None, None, self._told)

    def _mark(self) -> None:
        self._marks.append(_Told(len(self.items), len(self._turns), self._baseline, self._world_state, self._told))

    def _roll_back(self, turns: int) -> None:
        if turns <= 0:
            return
        cut: int | None = None
        for place in range(len(self.items) - 1, -1, -1):
            if _may_begin(self.items[place]) and is_user_boundary(self.items[place].value()):
                cut, turns = place, turns - 1
                if turns == 0:
                    break
        if cut is None:
            return
        first = next(
            place for place, item in enumerate(self.items) if _may_begin(item) and is_user_boundary(item.value())
        )
        turn = bisect_right(self._turns, cut)
        self._marks = [
            mark for mark in self._marks if (mark.turn < turn if turn else mark.turn == 0 and mark.at <= cut)
        ]
        self._turns = self._turns[: max(turn - 1, 0)]
        last = self._marks[-1] if self._marks else self._floor
        self._baseline, self._world_state, self._told = last.baseline, last.world_state, last.told
        while cut > first and is_contextual(above := self.items[cut - 1].value()):
            if is_mixed_developer(above):
                self._baseline = None
            cut -= 1
        del self.items[cut:]
        self._measured = None


def _may_begin(item: ContextItem) -> bool:
    return item.type == "agent_message" or (item.type == "message" and item.role in ("user", "assistant"))


def _usage(value: dict[str, Any]) -> Usage:
    return Usage(**{name: max(integer(value.get(name)) or 0, 0) for name in Usage.__struct_fields__})


def _agent_message(payload: dict[str, Any]) -> dict[str, Any]:
    """A message between agents as old versions recorded it, in the form the model sees."""
    content: list[dict[str, Any]] = []
    if said := text(payload.get("content")):
        content.append({"type": "input_text", "text": said})
    if hidden := text(payload.get("encrypted_content")):
        content.append({"type": "encrypted_content", "encrypted_content": hidden})
    message: dict[str, Any] = {"type": "agent_message"}
    if item_id := text(payload.get("id")):
        message["id"] = item_id
    return {
        **message,
        "author": text(payload.get("author")) or "",
        "recipient": text(payload.get("recipient")) or "",
        "content": content,
    }


def rebuild_forward(records: Iterable[Record | Skipped], head: Record | None = None) -> Context:
    """The context from all lines, oldest first. The plain definition: `rebuilding` gives the same from less."""
    context = Context(read_meta(head))
    for record in records:
        context.apply(record)
    return context
