"""A turn as a program meets it: events to iterate over, and a result."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Literal

from clew.events import Event, TurnResult
from clew.turn import Turn as Asked

__all__ = ["Turn"]


class Turn:
    """A turn that was asked for with `Thread.reply`.

    Iterating gives its events from the first one on, also when it began or ended before; a reader that cannot keep up
    loses pieces of texts (`TextDelta`, `OutputDelta`), never whole items.
    """

    def __init__(self, asked: Asked) -> None:
        self._asked = asked

    @property
    def id(self) -> str:
        return self._asked.turn_id

    @property
    def thread_id(self) -> str:
        return self._asked.thread_id

    @property
    def state(self) -> Literal["queued", "running", "done"]:
        return self._asked.state

    @property
    def notices(self) -> Sequence[str]:
        """What to know about how it runs: that this call widened the sandbox, …; complete once it runs."""
        return self._asked.notices

    @property
    def result(self) -> TurnResult | None:
        """How it ended, None before that."""
        return self._asked.result

    def interrupt(self) -> None:
        """Stop it: it is recorded as interrupted. Comes back at once."""
        self._asked.interrupt()

    async def wait(self) -> TurnResult:
        """The result, as soon as it is there and durable. Raises the `ClewError` that kept the turn from running."""
        return await self._asked.wait()

    async def __aiter__(self) -> AsyncIterator[Event]:
        async with self._asked.events() as events:
            async for event in events:
                yield event
