"""The context from a log read backward, newest line first, and from as little of it as it takes.

A `compacted` line with a replacement history is a horizon: items,
baseline, world state and window all start anew there, whatever follows and whatever was before, so nothing older can
change them. That also holds when later rollback markers reach over it: they only cut the rebuilt list. What does
outlive a horizon is looked for until its newest record is found:

* the settings: the newest `turn_context`;
* the turn that may be open: the newest `task_started` (its end, if any, is newer still);
* the newest `thread_settings_applied`, which alone repeats the provider. Programs that write it do so after every
  compaction, before the next token count. So an older one counts only until a `token_count` or the end of a turn
  follows the horizon: the writer of those did not know it, and the thread's metadata name the provider.

Reading stops when the horizon and these three are settled. The usage comes from the newest token record in what was
read. A compaction with replacement but without number (before 0.142) starts the numbers at 1, since the count of the
older ones is beyond the horizon; without a replacement history nothing is beyond it, and they are counted.

Nearly all bytes of a log that was never compacted are items. So a line that looks as programs write them is not
decoded as a line first: its payload is taken as it stands, and decoding the item's head is what shows it to be valid.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, cast

import msgspec

from clew.history.context import ENDS, EVENTS, STARTS, Context
from clew.history.metadata import read_meta
from clew.history.payload import object_from
from clew.history.response_items import ContextItem
from clew.rollout.envelope import Record, Skipped, payload_at, payload_kind
from clew.rollout.scan import Passes

__all__ = ["rebuild", "rebuild_from"]

_SHORT = re.compile(
    rb'\{"timestamp":"[0-9A-Z:.+-]*",(?:"ordinal":(?:0|[1-9]\d{0,17}),)?"type":"'
    rb'(?:(?P<item>response_item","payload":)'
    rb'|event_msg","payload":\{"type":"(?:(?P<count>token_count)|(?P<unused>(?!(?:%s)")\w+))")'
    % "|".join(sorted(EVENTS)).encode()
).match
"""The beginnings of lines that need no record to be made of them."""


class _CompactedHead(msgspec.Struct):
    replacement_history: msgspec.Raw = msgspec.Raw(b"")


_compacted_decoder = msgspec.json.Decoder(_CompactedHead)


def rebuild(newest_first: Iterable[Record | Skipped], head: Record | None) -> Context:
    """The context from the lines, newest first, taking no more of them than it needs (see the module's docstring).

    `head` is the thread's canonical `session_meta`, which need not be reached. Raises `UnsupportedHistory`.
    """
    return _Gathering(head).context(newest_first)


def rebuild_from(read_back: Callable[[Passes | None], Iterable[Record | Skipped]], head: Record | None) -> Context:
    """The same, from a reader of the lines that can be told which ones to pass over. Several times as quick: most
    items are taken out of their lines on the way. Events that say nothing about the context are not checked, so that
    damaged ones among them are not counted."""
    gathering = _Gathering(head)
    return gathering.context(read_back(None if head is None else gathering.passes))


class _Gathering:
    """What the context is made of, newest first, while it is met."""

    def __init__(self, head: Record | None) -> None:
        self._context = Context(read_meta(head))
        self._search = _Search()
        self._needed: list[Record | Skipped | ContextItem | None] = []

    def passes(self, data: bytes, start: int, end: int) -> object:
        """Takes an item out of its line; tells this one and what is not needed."""
        match = _SHORT(data, start, end)
        if match is None or match.lastgroup == "unused":
            return match
        if match.lastgroup == "count":
            return None if self._search.wants_counts else match
        if not self._search.wants_items:
            return match
        payload = payload_at(data, match.end(), end)
        item = None if payload is None else ContextItem.read(payload)
        if item is not None:
            self._needed.append(item)
        return item

    def context(self, newest_first: Iterable[Record | Skipped]) -> Context:
        context, search, needed = self._context, self._search, self._needed
        for record in newest_first:
            if search.wants(record):
                # An item is taken over while its bytes are at hand, and the line let go.
                if isinstance(record, Record) and record.type == "response_item":
                    needed.append(ContextItem.read(bytes(record.payload)))
                else:
                    needed.append(record)
            if context.meta.id is None and isinstance(record, Record) and record.ordinal is not None:
                context.history_mode = "paginated"
            if search.done:
                break
        while needed:
            line = needed.pop()
            if line is None or isinstance(line, ContextItem):
                context.apply_item(line)
            else:
                context.apply(line)
        return context


class _Search:
    """What a backward reading has found. Behind the horizon only the newest of what outlives it is wanted."""

    def __init__(self) -> None:
        self._horizon = self._settings = self._started = False
        self._applied = False  # the newest applied settings were met, or are known not to count
        self._went_on = False  # a token count or the end of a turn was met
        self._counted: set[str] = set()  # what the newest token records told

    @property
    def done(self) -> bool:
        return self._horizon and self._settings and self._started and self._applied

    @property
    def wants_items(self) -> bool:
        return not self._horizon

    @property
    def wants_counts(self) -> bool:
        """Whether a `token_count` can tell anything new."""
        return not self._went_on or len(self._counted) < 2

    def wants(self, record: Record | Skipped) -> bool:
        if isinstance(record, Skipped):
            return True
        match record.type:
            case "event_msg":
                return self._wants_event(record)
            case "turn_context":
                if self._horizon and self._settings:
                    return False
                self._settings = self._settings or object_from(record.payload) is not None
                return True
            case "compacted":
                behind = self._horizon
                if _has_replacement(record):
                    self._horizon = True
                    # Who wrote on behind a compaction without repeating older settings did not know them.
                    self._applied = self._applied or self._went_on
                return not behind
            case "response_item" | "world_state" | "inter_agent_communication":
                return not self._horizon
            case "token_usage_record":
                payload = object_from(record.payload)
                return payload is None or self._counts(payload.get("usage"), payload.get("thread_token_usage"))
            case _:
                return False

    def _counts(self, last: Any, total: Any) -> bool:
        """Whether a token record tells something that no newer one does."""
        if len(self._counted) == 2:
            return False
        told = {name for name, value in (("last", last), ("total", total)) if isinstance(value, dict)}
        new = not told <= self._counted
        self._counted |= told
        return new

    def _wants_event(self, record: Record) -> bool:
        kind = payload_kind(record.payload)
        if kind in STARTS:
            found, self._started = self._started, True
            return not (self._horizon and found)
        if kind == "thread_settings_applied":
            if self._applied:
                return False
            self._applied = isinstance((object_from(record.payload) or {}).get("thread_settings"), dict)
            return self._applied
        if kind == "token_count":
            first, self._went_on = not self._went_on, True
            if len(self._counted) == 2:
                return first
            info: Any = (object_from(record.payload) or {}).get("info")
            info = cast("dict[str, Any]", info) if isinstance(info, dict) else {}
            return self._counts(info.get("last_token_usage"), info.get("total_token_usage")) or first
        self._went_on = self._went_on or kind in ENDS
        return kind in EVENTS


def _has_replacement(record: Record) -> bool:
    try:
        raw = _compacted_decoder.decode(record.payload).replacement_history
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return bytes(raw)[:1] == b"["
