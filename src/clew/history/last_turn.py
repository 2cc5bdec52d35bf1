"""When the last turn of a log began, and with which model: what a list sorts by and shows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, cast

from clew.history.payload import object_from, text
from clew.history.turn_drafts import STARTS
from clew.rollout.envelope import Record, Skipped, payload_kind

__all__ = ["LastTurn", "not_of_last_turn", "read_last_turn", "stamp_milliseconds"]

_HEAD = rb'\{"timestamp":"[^"\\]*",(?:"ordinal":\d+,)?"type":"'
_KINDS = rb"(?:task_started|turn_started|user_message|thread_settings_applied)"

not_of_last_turn = re.compile(
    _HEAD + rb'(?:(?!event_msg"|turn_context")\w+"|event_msg","payload":\{"type":"(?!' + _KINDS + rb'")\w+")'
).match
"""Tells lines that `LastTurn` learns nothing from, by their bytes."""


class LastTurn:
    """Told the lines of ONE file, oldest first, as they come.

    `began` is the time of the line that began the last turn, `said` of the last user message, `recency` what counts:
    the first where the log marks its turns, else the second; in milliseconds since 1970. `model` is the last recorded
    one.
    """

    __slots__ = ("began", "model", "said")

    def __init__(self, began: int | None = None, said: int | None = None, model: str | None = None) -> None:
        self.began = began
        self.said = said
        self.model = model

    @property
    def recency(self) -> int | None:
        return self.began if self.began is not None else self.said

    def read(self, record: Record) -> None:
        if record.type == "turn_context":
            self.model = _model(object_from(record.payload)) or self.model
        elif record.type == "event_msg":
            kind = payload_kind(record.payload)
            if kind in STARTS:
                self.began = stamp_milliseconds(record.timestamp) or self.began
            elif kind == "user_message":
                self.said = stamp_milliseconds(record.timestamp) or self.said
            elif kind == "thread_settings_applied":
                settings = (object_from(record.payload) or {}).get("thread_settings")
                self.model = _model(settings) or self.model


def read_last_turn(back: Iterable[Record | Skipped]) -> LastTurn:
    """The same from lines newest first, reading no more of them than it takes."""
    found = LastTurn()
    for record in back:
        if isinstance(record, Skipped):
            continue
        one = LastTurn()
        one.read(record)
        found = LastTurn(
            found.began if found.began is not None else one.began,
            found.said if found.said is not None else one.said,
            found.model or one.model,
        )
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
