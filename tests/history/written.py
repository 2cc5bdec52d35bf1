"""Lines as programs write them, for the tests of this room: `written(...)` gives the records of a log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

from clew.rollout.envelope import Line, Record, Skipped, decode_line, encode_line

TIME = "2026-07-01T12:00:00.000Z"


def event(kind: str, **members: Any) -> Line:
    return Line("event_msg", {"type": kind, **members})


def item(kind: str, **members: Any) -> Line:
    return Line("response_item", {"type": kind, **members})


def message(role: str, *texts: str, **members: Any) -> dict[str, Any]:
    part = "output_text" if role == "assistant" else "input_text"
    content = [{"type": part, "text": text} for text in texts]
    return {"type": "message", "role": role, "content": content, **members}


def said(role: str, *texts: str, **members: Any) -> Line:
    return Line("response_item", message(role, *texts, **members))


def started(turn: str, **members: Any) -> Line:
    return event("task_started", turn_id=turn, **members)


def completed(turn: str, **members: Any) -> Line:
    return event("task_complete", turn_id=turn, **members)


def context(turn: str, **members: Any) -> Line:
    payload = {"turn_id": turn, "cwd": "/w", "approval_policy": "never", "model": "m", "summary": "auto"}
    return Line("turn_context", {**payload, "sandbox_policy": {"type": "read-only"}, **members})


def compacted(*replacement: dict[str, Any], **members: Any) -> Line:
    return Line("compacted", {"message": "", "replacement_history": list(replacement), **members})


def meta(**members: Any) -> Line:
    return Line("session_meta", {"id": "t-1", "timestamp": TIME, "cwd": "/start", "cli_version": "1", **members})


SURROUNDINGS = ("<environment_context>\n<cwd>/w</cwd>\n</environment_context>",)


def written(*lines: Line, ordinals: bool = False, first: int = 0) -> list[Record | Skipped]:
    """The records that reading a file with these lines gives, with their places."""
    data = [
        encode_line(line, timestamp=TIME, ordinal=first + number if ordinals else None)
        for number, line in enumerate(lines)
    ]
    ends = [0]
    for line in data:
        ends.append(ends[-1] + len(line))
    return [
        decode_line(line.rstrip(b"\n"), number=number, start=start, end=end)
        for number, (line, (start, end)) in enumerate(zip(data, pairwise(ends), strict=True), 1)
    ]


def head_of(records: Iterable[Record | Skipped]) -> Record | None:
    return next((line for line in records if isinstance(line, Record) and line.type == "session_meta"), None)


class Backward:
    """Newest first, counting how many lines were asked for."""

    def __init__(self, records: list[Record | Skipped]) -> None:
        self._records = records
        self.read = 0

    def __iter__(self) -> Iterator[Record | Skipped]:
        for record in reversed(self._records):
            self.read += 1
            yield record
