"""Between a transport and the MCP library: knows which requests are open, asks the client questions of its own, and
sends notifications the library has no type for.

The library ends a connection the moment its input ends, and cancels what still runs. Here the input that the library
sees ends only when `close` says so; until then open requests can be answered although the client sends nothing more.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import anyio
import mcp_types as types
from anyio.abc import TaskStatus
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage

from clew.server.mcp.stdio import Inbound, Malformed

__all__ = ["RequestRefused", "Wire"]

_log = logging.getLogger(__name__)

_CLOSED = (anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream)


class RequestRefused(Exception):
    """The client answered a request of ours with an error, or can answer no more."""


class _Pending:
    """A request of ours on its way: `answered` is set once `result` or `refusal` is there."""

    def __init__(self) -> None:
        self.answered = anyio.Event()
        self.result: dict[str, Any] | None = None
        self.refusal = "the client is gone"


class Wire:
    """One connection. `read` and `write` are the transport's streams; `inner_read` and `inner_write` the library's."""

    def __init__(self, read: MemoryObjectReceiveStream[Inbound], write: MemoryObjectSendStream[SessionMessage]) -> None:
        self._read = read
        self._write = write
        self._inner_feed, self.inner_read = anyio.create_memory_object_stream[Inbound](0)
        self._out, self._outgoing = anyio.create_memory_object_stream[SessionMessage](0)
        self.inner_write = self._out.clone()
        self._open: Counter[types.RequestId | None] = Counter()
        self._pending: dict[types.RequestId, _Pending] = {}
        self._next_id = 0
        self._idle = anyio.Event()
        self._idle.set()
        self.answered = anyio.Event()
        """Set with the first answer that left."""
        self.ended = anyio.Event()
        """Set when the client sends no more, or reads no more."""

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Carry messages both ways; ends when `close` was called, the library is done, and all that was said is out."""
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._carry_in)
                task_status.started()
                await self._carry_out()
                group.cancel_scope.cancel()
        finally:
            for stream in (self._read, self._write, self._inner_feed, self.inner_read, self._out, self._outgoing):
                stream.close()
            self.inner_write.close()

    async def idle(self) -> None:
        """Wait until no request is open."""
        while self._open:
            await self._idle.wait()

    async def close(self) -> None:
        """End the input of the library, which then ends its side too."""
        self._end_input()
        await self._inner_feed.aclose()
        self._out.close()

    async def notify(self, method: str, params: Mapping[str, Any]) -> None:
        """Send a notification; dropped when nobody reads any more."""
        await self._send(types.JSONRPCNotification(jsonrpc="2.0", method=method, params=dict(params)))

    async def request(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Ask the client and give its result.

        Raises `RequestRefused` for an error and for an end of the connection. A question that is given up by
        cancellation is withdrawn with `notifications/cancelled`.
        """
        if self.ended.is_set():
            raise RequestRefused("the client is gone")
        request_id, self._next_id = self._next_id, self._next_id + 1
        pending = self._pending[request_id] = _Pending()
        try:
            await self._send(types.JSONRPCRequest(jsonrpc="2.0", id=request_id, method=method, params=dict(params)))
            await pending.answered.wait()
        except BaseException:
            del self._pending[request_id]
            with anyio.move_on_after(1, shield=True):
                await self.notify("notifications/cancelled", {"requestId": request_id, "reason": "no longer needed"})
            raise
        del self._pending[request_id]
        if pending.result is None:
            raise RequestRefused(pending.refusal)
        return pending.result

    async def _carry_in(self) -> None:
        try:
            async for item in self._read:
                if (forwarded := await self._seen(item)) is not None:
                    await self._inner_feed.send(forwarded)
        except _CLOSED:
            _log.debug("the connection was closed while a message was handed over")
        self._end_input()

    def _end_input(self) -> None:
        self.ended.set()
        for pending in self._pending.values():
            pending.answered.set()

    async def _seen(self, item: Inbound) -> Inbound | None:
        """Take note of an incoming item; gives it back unless it ends here."""
        if isinstance(item, Malformed):
            for reply in item.replies:
                await self._send(reply)
            return None
        if not isinstance(item, SessionMessage):
            return item
        message = item.message
        if isinstance(message, types.JSONRPCRequest):
            if not self._open:
                self._idle = anyio.Event()
            self._open[_key(message.id)] += 1
        elif isinstance(message, types.JSONRPCNotification):
            if message.method == "notifications/cancelled":
                self._settled((message.params or {}).get("requestId"))
        elif isinstance(message, types.JSONRPCResponse):
            self._resolve(message.id, message.result, "")
            return None
        else:
            self._resolve(message.id, None, message.error.message)
            return None
        return item

    def _resolve(self, request_id: types.RequestId | None, result: dict[str, Any] | None, refusal: str) -> None:
        if request_id is None or (pending := self._pending.get(request_id)) is None:
            _log.debug("an answer to no question of ours: %r", request_id)
            return
        pending.result, pending.refusal = result, refusal
        pending.answered.set()

    async def _carry_out(self) -> None:
        listening = True
        async for item in self._outgoing:
            message = item.message
            if listening:
                try:
                    await self._write.send(item)
                except _CLOSED:
                    # Nobody reads any more. What is still said is dropped, so that nothing waits for a reader.
                    listening = False
                    self._end_input()
            if isinstance(message, types.JSONRPCResponse | types.JSONRPCError):
                self._settled(message.id)
                self.answered.set()
        with suppress(*_CLOSED):
            await self._write.aclose()

    def _settled(self, request_id: Any) -> None:
        """A request was answered, or cancelled (then the library does not answer it)."""
        key = _key(request_id)
        if key is None or key not in self._open:
            return
        self._open[key] -= 1
        if not self._open[key]:
            del self._open[key]
        if not self._open:
            self._idle.set()

    async def _send(self, message: types.JSONRPCMessage) -> None:
        with suppress(*_CLOSED):
            await self._out.send(SessionMessage(message))


def _key(request_id: object) -> types.RequestId | None:
    """Ids as the library matches them: `"7"` and `7` are the same request."""
    if isinstance(request_id, str):
        return int(request_id) if request_id.isdecimal() and request_id.isascii() else request_id
    return request_id if isinstance(request_id, int) else None
