"""Progress of a running turn: a first word at once, what it does as it does it, and a sign of life in silence."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from clew.clock import Clock
from clew.events import (
    ApprovalAsked,
    Event,
    Item,
    ItemCompleted,
    ItemStarted,
    Notice,
    OutputDelta,
    TextDelta,
    TurnStarted,
)
from clew.server.mcp.approvals import question_text, script_of

__all__ = ["Progress", "Report"]

Report = Callable[[float, str], Awaitable[None]]
"""Sends one notification: a number and a message."""

_PACE = 1.0
"""Seconds between two reports of the same growing thing."""
_WIDTH = 120


class Progress:
    """Reports of one call: the numbers rise by one. `interval` is the longest silence in seconds."""

    def __init__(self, report: Report | None, *, interval: float, clock: Clock) -> None:
        self._report = report
        self._interval = max(0.05, interval)
        self._clock = clock
        self._number = 0
        self._began = self._spoke = clock.monotonic()
        self._doing = "waiting for the thread"
        self._written = 0
        self._changed = anyio.Event()

    async def say(self, message: str) -> None:
        """Report now."""
        if self._report is None:
            return
        self._number += 1
        self._spoke = self._clock.monotonic()
        await self._report(float(self._number), message)

    async def see(self, event: Event) -> None:
        """Take note of an event of the turn, and report it where it says something new."""
        if self._report is None:
            return
        match event:
            case TurnStarted():
                self._doing = "waiting for the model"
                await self.say("turn started")
            case ItemStarted(item=item):
                if (doing := _doing(item)) is not None:
                    self._doing = doing
                    await self.say(doing)
            case ItemCompleted(item=item):
                self._doing = "waiting for the model"
                if (done := _done(item)) is not None:
                    await self.say(done)
            case TextDelta(text=text, kind=kind):
                self._written += len(text)
                self._doing = "writing" if kind == "message" else "thinking"
                await self._now_and_then(f"{self._doing} ({self._written} characters)")
            case OutputDelta(text=text):
                last = text.strip().rsplit("\n", 1)[-1]
                if last:
                    await self._now_and_then(f"{self._doing}: {_cut(last)}")
            case ApprovalAsked(request=request):
                self._doing = f"waiting for approval: {_cut(question_text(request))}"
                await self.say(self._doing)
            case Notice(message=message):
                await self.say(_cut(message))
            case _:
                pass

    async def keep_alive(self) -> None:
        """Report whenever nothing was said for the interval, until cancelled."""
        if self._report is None:
            return
        while True:
            quiet = self._clock.monotonic() - self._spoke
            if quiet >= self._interval:
                await self.say(f"{self._doing} ({self._clock.monotonic() - self._began:.0f} s)")
                quiet = 0.0
            await anyio.sleep(self._interval - quiet)

    async def _now_and_then(self, message: str) -> None:
        if self._clock.monotonic() - self._spoke >= _PACE:
            await self.say(message)


def _doing(item: Item) -> str | None:
    fields: dict[str, Any] = item.fields
    match item.type:
        case "commandExecution":
            return f"running {_cut(_typed(fields))}"
        case "fileChange":
            return f"changing {_cut(_files(fields))}"
        case "mcpToolCall" | "dynamicToolCall":
            return f"calling {fields.get('tool', 'a tool')}"
        case "webSearch":
            return f"searching the web: {_cut(str(fields.get('query', '')))}"
        case "contextCompaction":
            return "compacting the conversation"
        case "reasoning":
            return "thinking"
        case "agentMessage":
            return "writing"
        case _:
            return None


def _done(item: Item) -> str | None:
    fields: dict[str, Any] = item.fields
    match item.type:
        case "commandExecution":
            code = fields.get("exitCode")
            ended = fields.get("status", "completed") if code is None else f"exit {code}"
            return f"{ended}: {_cut(_typed(fields))}"
        case "fileChange":
            return f"changed {_cut(_files(fields))} ({fields.get('status', 'completed')})"
        case _:
            return None


def _typed(fields: dict[str, Any]) -> str:
    """The command of an item as a person would have typed it."""
    line = str(fields.get("command", ""))
    try:
        return script_of(shlex.split(line))
    except ValueError:
        return line


def _files(fields: dict[str, Any]) -> str:
    changes: list[dict[str, Any]] = fields.get("changes") or []
    return ", ".join(str(change.get("path", "")) for change in changes) or "files"


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…"
