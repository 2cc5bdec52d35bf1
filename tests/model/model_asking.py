"""What the tests of models share."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from clew.agent.model import Completed, ModelClient, ModelEvent, ModelRequest
from clew.clock import Clock
from clew.config.providers import Provider


class FrozenClock(Clock):
    def now(self) -> float:
        return 1_800_000_000.0

    def monotonic(self) -> float:
        return 0.0


class Naps:
    """A sleep that returns at once and remembers how long it would have taken."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)


def user(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def asking(provider: Provider, *texts: str, **changes: Any) -> ModelRequest:
    fields: dict[str, Any] = {
        "provider": provider,
        "model": "m",
        "input": [user(text) for text in texts or ("hello",)],
        "instructions": "Be brief.",
        "thread_id": "thread-1",
        "session_id": "session-1",
        "turn_id": "turn-1",
        **changes,
    }
    return ModelRequest(**fields)


async def listen(client: ModelClient, request: ModelRequest, heard: list[ModelEvent] | None = None) -> list[ModelEvent]:
    """All events of one response; `heard` keeps those before an error."""
    heard = [] if heard is None else heard
    async with aclosing(client.stream(request)) as events:
        async for event in events:
            heard.append(event)
    return heard


def completed(events: list[ModelEvent]) -> Completed:
    assert isinstance(events[-1], Completed)
    return events[-1]
