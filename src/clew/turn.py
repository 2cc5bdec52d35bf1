"""A turn that was asked for: a handle that can be waited for, listened to and stopped, by any number of callers."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Literal

import anyio
from anyio.streams.memory import MemoryObjectSendStream

from clew.engine import Approver
from clew.errors import ClewError
from clew.events import Event, OutputDelta, TextDelta, TurnEnded, TurnInput, TurnResult

__all__ = ["Turn"]

_DELTAS_PER_LISTENER = 1_000


class Turn:
    """Waiting, running or done. It goes on when nobody listens; its result stays.

    `notices` tell the caller how it runs: that this call widened the sandbox, that another program was waited for.
    """

    def __init__(self, thread_id: str, turn_id: str, turn: TurnInput, approver: Approver) -> None:
        self.thread_id = thread_id
        self.turn_id = turn_id
        self.input = turn
        self.approver = approver
        self.notices: Sequence[str] = ()
        self.stop: anyio.Event = anyio.Event()
        self._state: Literal["queued", "running", "done"] = "queued"
        self._done = anyio.Event()
        self._result: TurnResult | None = None
        self._error: BaseException | None = None
        self._history: list[Event] = []
        self._ended: TurnEnded | None = None
        self._listeners: set[MemoryObjectSendStream[Event]] = set()

    @property
    def state(self) -> Literal["queued", "running", "done"]:
        return self._state

    @property
    def result(self) -> TurnResult | None:
        """The result, None while the turn is not done or when it could not run."""
        return self._result

    def events(self) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Listen. What happened before is replayed first, without deltas; ends behind `TurnEnded`, or when the turn
        could not run. A slow listener loses deltas, nothing else."""
        return self._listen()

    @asynccontextmanager
    async def _listen(self) -> AsyncGenerator[AsyncIterator[Event]]:
        send, receive = anyio.create_memory_object_stream[Event](math.inf)
        for event in self._history:
            send.send_nowait(event)
        if self._state == "done":
            send.close()
        else:
            self._listeners.add(send)
        try:
            async with receive:
                yield receive
        finally:
            self._listeners.discard(send)
            send.close()

    async def wait(self) -> TurnResult:
        """The result. Raises the `ClewError` that kept the turn from running or from being recorded."""
        await self._done.wait()
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def interrupt(self) -> None:
        """Stop it: a queued turn never starts, a running one ends as `interrupted`."""
        self.stop.set()

    # For the queue that runs it.

    def begin(self) -> None:
        self._state = "running"

    async def emit(self, event: Event) -> None:
        if isinstance(event, TurnEnded):
            # Told by `finish`, when the thread is free again: whoever hears of it may go on with it at once.
            self._ended = event
        else:
            self._tell(event)

    def _tell(self, event: Event) -> None:
        delta = isinstance(event, TextDelta | OutputDelta)
        if not delta:
            self._history.append(event)
        for listener in tuple(self._listeners):
            if delta and listener.statistics().current_buffer_used > _DELTAS_PER_LISTENER:
                continue
            try:
                listener.send_nowait(event)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                self._listeners.discard(listener)

    def finish(self, result: TurnResult) -> None:
        self._result = result
        if self._ended is not None:
            self._tell(self._ended)
        self._end()

    def fail(self, error: ClewError | BaseException) -> None:
        self._error = error
        self._end()

    def never_ran(self) -> TurnResult:
        return TurnResult(thread_id=self.thread_id, turn_id=self.turn_id, status="interrupted")

    async def skip(self) -> None:
        """End a turn that was stopped before it started."""
        result = self.never_ran()
        await self.emit(TurnEnded(self.turn_id, result))
        self.finish(result)

    def _end(self) -> None:
        self._state = "done"
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        self._done.set()
