"""What the stories are made of: a running clock, troubles, and lines that can be told apart."""

from __future__ import annotations

import errno
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from crash_model import Expected

from clew.ids import uuid7_at
from clew.rollout import Line, Record

__all__ = [
    "BEGINNING",
    "Outcome",
    "StoryClock",
    "StoryIds",
    "Trouble",
    "as_told",
    "meta_of",
    "said",
    "threaded",
    "turn_begins",
    "turn_ends",
    "turn_of",
]

BEGINNING = 1_782_907_200.0


class StoryClock:
    def __init__(self) -> None:
        self.time = BEGINNING

    def now(self) -> float:
        self.time += 0.001
        return self.time

    def monotonic(self) -> float:
        return self.now()


class StoryIds:
    def __init__(self, clock: StoryClock) -> None:
        self._clock = clock
        self._count = 0

    def uuid7(self) -> str:
        self._count += 1
        return uuid7_at(int(self._clock.now() * 1000), self._count.to_bytes(10, "big"))


@dataclass(frozen=True)
class Trouble:
    """What happens during one operation. `fault`: calls of the disk fail; `kill`: the program ends; `power`: all do."""

    kind: Literal["none", "fault", "kill", "power"] = "none"
    at: int = 1
    operation: str = "any"
    times: int = 1
    error: int = errno.EIO
    written: int = 0
    dropped: bool = False
    seed: int | None = None


@dataclass(frozen=True)
class Outcome:
    value: Any
    error: Exception | None
    struck: bool
    killed: bool


def threaded(act: Callable[[], Any]) -> Callable[[], Awaitable[Any]]:
    async def run() -> Any:
        return act()

    return run


def meta_of(thread: Expected) -> Line:
    payload = {"id": thread.id, "timestamp": "2026-07-01T12:00:00.000Z", "cwd": "/w", "originator": "crash"}
    mode = {"history_mode": "paginated"} if thread.paginated else {}
    return Line("session_meta", {**payload, "cli_version": "1.0.0", **mode})


def said(number: int) -> Line:
    """Lines of many lengths, some longer than a block or a page of the disk."""
    filler = "x" * random.Random(number).choice((0, 10, 100, 300, 600, 3000, 5000))
    content = [{"type": "input_text", "text": f"{number} {filler}"}]
    return Line("response_item", {"type": "message", "role": "user", "content": content})


def turn_begins(turn_id: str) -> Line:
    return Line("event_msg", {"type": "task_started", "turn_id": turn_id})


def turn_ends(turn_id: str) -> Line:
    return Line("event_msg", {"type": "task_complete", "turn_id": turn_id})


def turn_of(line: Record) -> str | None:
    """The turn that a line of these tests begins."""
    if line.type != "event_msg":
        return None
    payload: Any = msgspec.json.decode(line.payload)
    return payload["turn_id"] if payload["type"] == "task_started" else None


def as_told(lines: Any) -> list[tuple[Any, ...]]:
    return [
        (line.type, bytes(line.payload), line.ordinal) if isinstance(line, Record) else (line.start, line.end)
        for line in lines
    ]
