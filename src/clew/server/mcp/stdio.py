"""JSON-RPC over the process's own stdin and stdout: one JSON object per line, nothing else.

Reading and writing happen in two daemon threads of their own, so that neither a client that sends nothing nor one that
reads nothing can keep the process from ending. While the streams are open, descriptor 0 is empty and descriptor 1 is
stderr: children and stray prints cannot touch the protocol.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from concurrent.futures import CancelledError
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, cast

import anyio
import mcp_types as types
from anyio.from_thread import BlockingPortal
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage

__all__ = ["Inbound", "Malformed", "parse_line", "render", "stdio_streams"]

_log = logging.getLogger(__name__)

_GONE = (RuntimeError, CancelledError, anyio.BrokenResourceError, anyio.ClosedResourceError)
"""What a thread meets when the loop it talks to has ended or let go of it."""
_CHUNK = 1 << 16
_LONGEST_LINE = 128 << 20
_FLUSH_WAIT = 2.0
"""Seconds that a last line may take to go out."""


class Malformed(Exception):
    """A line that is no JSON-RPC message. `replies` are the errors to answer it with, one per request in it."""

    def __init__(self, replies: tuple[types.JSONRPCError, ...]) -> None:
        super().__init__(replies[0].error.message if replies else "not a message")
        self.replies = replies


Inbound = SessionMessage | Exception


def parse_line(line: bytes) -> Inbound | None:
    """The message in a line, `Malformed` with the answers it deserves, or None for a blank line."""
    if not line.strip():
        return None
    try:
        message = types.jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValueError:
        return Malformed(tuple(_replies(line)))
    if isinstance(message, types.JSONRPCNotification) and b'"id"' in line and "id" in json.loads(line):
        # A request whose id is none (null, an object): as a notification it would never be answered.
        return Malformed((_error(None, types.INVALID_REQUEST, "Invalid request: the id is no string or integer"),))
    return SessionMessage(message)


def _replies(line: bytes) -> Iterator[types.JSONRPCError]:
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError):
        yield _error(None, types.PARSE_ERROR, "Parse error: the line is not JSON")
        return
    if isinstance(value, list):
        batch = cast("list[Any]", value)
        requests: list[Any] = [entry for entry in batch if isinstance(entry, dict) and {"method", "id"} <= entry.keys()]
        for entry in requests or [None]:
            yield _error(_id_of(entry), types.INVALID_REQUEST, "Invalid request: batches are not supported")
        return
    message = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    if "method" not in message and ("result" in message or "error" in message):
        return  # an answer that cannot be read: nothing waits for a reply to it
    if isinstance(message.get("method"), str) and not isinstance(message.get("params", {}), dict):
        if "id" in message:
            yield _error(_id_of(message), types.INVALID_PARAMS, "Invalid params: expected an object")
        return
    yield _error(_id_of(message), types.INVALID_REQUEST, "Invalid request: not a JSON-RPC 2.0 message")


def _id_of(message: Any) -> types.RequestId | None:
    given = cast("dict[str, Any]", message).get("id") if isinstance(message, dict) else None
    return given if isinstance(given, str | int) and not isinstance(given, bool) else None


def _error(request_id: types.RequestId | None, code: int, text: str) -> types.JSONRPCError:
    return types.JSONRPCError(jsonrpc="2.0", id=request_id, error=types.ErrorData(code=code, message=text))


def render(message: types.JSONRPCMessage) -> bytes:
    """The line of a message. Text that is no Unicode (lone surrogates of undecodable output) is replaced."""
    try:
        text = message.model_dump_json(by_alias=True, exclude_unset=True)
    except ValueError:
        text = json.dumps(_encodable(message.model_dump(by_alias=True, exclude_unset=True)), ensure_ascii=False)
    return text.encode() + b"\n"


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_encodable(item) for item in cast("list[Any]", value)]
    return value


@contextmanager
def _claimed() -> Generator[tuple[int, int]]:
    """Private duplicates of stdin and stdout; the standard descriptors are put back on exit."""
    nothing = os.open(os.devnull, os.O_RDWR)
    while nothing <= 2:  # a standard descriptor was closed: fill it, or a duplicate would land there
        nothing = os.open(os.devnull, os.O_RDWR)
    wire_in, wire_out = os.dup(0), os.dup(1)
    try:
        os.dup2(nothing, 0)
        try:
            os.dup2(2, 1)
        except OSError:
            os.dup2(nothing, 1)
        os.close(nothing)
        # The duplicates stay open for good: a thread may still be blocked on them.
        yield wire_in, wire_out
    finally:
        with suppress(OSError):
            os.dup2(wire_in, 0)
        with suppress(OSError):
            os.dup2(wire_out, 1)


@asynccontextmanager
async def stdio_streams() -> AsyncGenerator[
    tuple[MemoryObjectReceiveStream[Inbound], MemoryObjectSendStream[SessionMessage]]
]:
    """Streams over stdin and stdout. The reading one ends at end of file; sending to a client that closed its side
    raises `anyio.BrokenResourceError`."""
    incoming, read = anyio.create_memory_object_stream[Inbound](0)
    write, outgoing = anyio.create_memory_object_stream[SessionMessage](0)
    with _claimed() as (wire_in, wire_out):
        async with BlockingPortal() as portal, anyio.create_task_group() as group:
            _start(_read_lines, wire_in, incoming, portal)
            flushed = anyio.Event()
            group.start_soon(_write_lines, wire_out, outgoing, portal, incoming, flushed)
            try:
                yield read, write
            finally:
                write.close()
                with anyio.move_on_after(_FLUSH_WAIT, shield=True):
                    await flushed.wait()
                for stream in (incoming, read, outgoing):
                    stream.close()
                group.cancel_scope.cancel()


def _start(target: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=target, args=arguments, daemon=True).start()


def _read_lines(descriptor: int, incoming: MemoryObjectSendStream[Inbound], portal: BlockingPortal) -> None:
    async def hand_over(items: list[Inbound]) -> None:
        for item in items:
            await incoming.send(item)

    with suppress(*_GONE):
        for lines in _batches(descriptor):
            if items := [item for line in lines if (item := parse_line(line)) is not None]:
                portal.call(hand_over, items)
        portal.call(incoming.aclose)


def _batches(descriptor: int) -> Iterator[list[bytes]]:
    """Whole lines as they arrive; a last one without a line feed counts."""
    pieces: list[bytes] = []
    size = 0
    while True:
        try:
            chunk = os.read(descriptor, _CHUNK)
        except OSError:
            chunk = b""
        if not chunk:
            break
        head, feed, rest = chunk.rpartition(b"\n")
        if not feed:
            size += len(chunk)
            if size > _LONGEST_LINE:
                # Kept short from here on: what arrives is no message any more, and is answered as such.
                pieces, size = [b"\0"], 1
            else:
                pieces.append(chunk)
            continue
        yield b"".join([*pieces, head]).split(b"\n")
        pieces, size = ([rest], len(rest)) if rest else ([], 0)
    if pieces:
        yield [b"".join(pieces)]


async def _write_lines(
    descriptor: int,
    outgoing: MemoryObjectReceiveStream[SessionMessage],
    portal: BlockingPortal,
    incoming: MemoryObjectSendStream[Inbound],
    flushed: anyio.Event,
) -> None:
    lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    written, done = anyio.create_memory_object_stream[bool](1)

    def work() -> None:
        with suppress(*_GONE):
            while (line := lines.get()) is not None:
                portal.call(written.send_nowait, _write_all(descriptor, line))

    _start(work)
    try:
        async with outgoing:
            async for message in outgoing:
                lines.put(render(message.message))
                if not await done.receive():
                    # A client that does not read has left, whether or not it closed our input too.
                    _log.info("the client closed its end")
                    incoming.close()
                    return
    finally:
        lines.put(None)
        written.close()
        done.close()
        flushed.set()


def _write_all(descriptor: int, data: bytes) -> bool:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError:
        return False
    return True
