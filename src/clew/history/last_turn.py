"""When the last turn of a log began, and with which model: what a list sorts by and shows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, cast

from clew.history.contextual import is_contextual
from clew.history.payload import object_from, text
from clew.history.turn_drafts import STARTS
from clew.rollout.envelope import Record, Skipped, payload_kind

__all__ = ["LastTurn", "not_of_last_turn", "read_last_turn", "stamp_milliseconds"]

_HEAD = rb'\{"timestamp":"[^"\\]*",(?:"ordinal":\d+,)?"type":"'
_KINDS = rb"(?:task_started|turn_started|user_message|item_completed|thread_settings_applied)"
_MESSAGE = rb'message",(?:"id":"[^"\\]*",)?"role":"user"'

not_of_last_turn = re.compile(
    _HEAD
    + rb'(?:(?!event_msg"|turn_context"|response_item")\w+"|event_msg","payload":\{"type":"(?!'
    + _KINDS
    + rb'")\w+"|response_item","payload":\{"type":"(?!'
    + _MESSAGE
    + rb')\w+")'
).match
"""Tells lines that `LastTurn` learns nothing from, by their bytes."""


class LastTurn:
    """Told the lines of ONE file, oldest first, as they come.

    `began` is the time of the line that began the last turn, `said` of the last event that tells what a user said,
    `asked` of the last such item; `recency` is the first of them that there is: not every era marks its turns. In
    milliseconds since 1970. `model` is the last recorded one.
    """

    __slots__ = ("asked", "began", "model", "said")

    def __init__(self) -> None:
        self.began: int | None = None
        self.said: int | None = None
        self.asked: int | None = None
        self.model: str | None = None

    @property
    def recency(self) -> int | None:
        return next((moment for moment in (self.began, self.said, self.asked) if moment is not None), None)

    def read(self, record: Record) -> None:
        if record.type == "turn_context":
            self.model = _model(object_from(record.payload)) or self.model
        elif record.type == "event_msg":
            kind = payload_kind(record.payload)
            if kind in STARTS:
                self.began = stamp_milliseconds(record.timestamp) or self.began
            elif kind == "user_message" or (kind == "item_completed" and b'"UserMessage"' in bytes(record.payload)):
                self.said = stamp_milliseconds(record.timestamp) or self.said
            elif kind == "thread_settings_applied":
                settings = (object_from(record.payload) or {}).get("thread_settings")
                self.model = _model(settings) or self.model
        elif record.type == "response_item" and b'"user"' in bytes(record.payload):
            item = object_from(record.payload) or {}
            if item.get("type") == "message" and item.get("role") == "user" and not is_contextual(item):
                self.asked = stamp_milliseconds(record.timestamp) or self.asked


def read_last_turn(back: Iterable[Record | Skipped]) -> LastTurn:
    """The same from lines newest first, reading no more of them than it takes."""
    found = LastTurn()
    for record in back:
        if isinstance(record, Skipped):
            continue
        one = LastTurn()
        one.read(record)
        for name in LastTurn.__slots__:
            if getattr(found, name) is None:
                setattr(found, name, getattr(one, name))
        if found.began is not None and found.model is not None:
            break
    return found


def stamp_milliseconds(stamp: str | None) -> int | None:
    """An RFC 3339 time as milliseconds since 1970; None for what is none. Without a zone it counts as UTC."""
    try:
        moment = datetime.fromisoformat(stamp or "")
        return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def _model(settings: Any) -> str | None:
    return text(cast("dict[str, Any]", settings).get("model")) if isinstance(settings, dict) else None
