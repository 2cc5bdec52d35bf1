"""A Responses endpoint on the loopback interface that answers from a script: for tests of whatever speaks to models.

    with ScriptedEndpoint([Step(items=[say("hello")])]) as endpoint:
        ...                                  # point a provider at endpoint.base_url, or take endpoint.provider()
        assert endpoint.requests[0].body["model"] == "m"

A script is a list of steps, each answering one request, or a function from a request to a step
(`clew.testing.directives` has one that lets prompts say what comes back). Steps can fail in every way an endpoint can:
with a status, with a failure event, by cutting the connection anywhere, by falling silent until a `Gate` is released.
Nothing here sleeps.
"""

from __future__ import annotations

import http.server
import json
import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self, cast

import msgspec

from clew.config.providers import Provider

__all__ = ["Gate", "Received", "ScriptedEndpoint", "Step", "call", "custom", "say", "think"]

_USAGE = {
    "input_tokens": 10,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 15,
}
_POLL = 0.01
"""Seconds between two looks at a held connection."""


def say(text: str, **fields: Any) -> dict[str, Any]:
    """An assistant message."""
    content = [{"type": "output_text", "text": text}]
    return {"type": "message", "role": "assistant", "content": content, **fields}


def think(text: str, **fields: Any) -> dict[str, Any]:
    """A reasoning item with a summary and an opaque encrypted part."""
    summary = [{"type": "summary_text", "text": text}]
    return {"type": "reasoning", "summary": summary, "encrypted_content": f"opaque:{text}", **fields}


def call(name: str, arguments: Mapping[str, Any] | str, **fields: Any) -> dict[str, Any]:
    """A function call; `arguments` as text is sent as it is."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"type": "function_call", "name": name, "arguments": text, **fields}


def custom(name: str, text: str, **fields: Any) -> dict[str, Any]:
    """A call of a freeform tool."""
    return {"type": "custom_tool_call", "status": "completed", "name": name, "input": text, **fields}


class Gate:
    """A place where an answer waits: `wait_reached` in the test, then `release` (or let the client give up)."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._released = threading.Event()

    def wait_reached(self, timeout: float = 5.0) -> None:
        """Block until an answer stands here. Raises `TimeoutError` after `timeout` seconds."""
        if not self._reached.wait(timeout):
            raise TimeoutError("no answer reached the gate")

    def release(self) -> None:
        """Let what waits here go on, now and later."""
        self._released.set()

    def hold(self, look: Callable[[], None]) -> None:
        """For the endpoint: wait here, calling `look` now and then (it raises to leave)."""
        self._reached.set()
        while not self._released.is_set():
            look()


@dataclass(frozen=True, kw_only=True)
class Step:
    """One answer, used for `times` requests (-1: no limit).

    A stream is made from `items` (ids are filled in where they are missing; with `deltas`, texts come in pieces of
    `piece` characters first) and ends as `finish` says, with `usage`, `error` or `reason`; `extra` goes into the final
    response object. `events` replaces all of it: mappings are sent as events, bytes as they are.

    `status` other than 200, or a `body`, makes it a plain answer. `drop` cuts it after `drop_after` events: by a reset,
    in the middle of the next event, at an orderly end, or before anything was said. At `gate` the answer waits after
    `gate_after` events (None: before the headers).
    """

    items: Sequence[Mapping[str, Any]] = ()
    events: Sequence[Mapping[str, Any] | bytes] | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: Mapping[str, Any] | bytes | None = None
    finish: Literal["completed", "failed", "incomplete", "none"] = "completed"
    usage: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    reason: str = "max_output_tokens"
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    deltas: bool = True
    piece: int = 24
    drop: Literal["before_headers", "reset", "mid_event", "clean_end"] | None = None
    drop_after: int = 0
    gate: Gate | None = None
    gate_after: int | None = None
    times: int = 1


@dataclass(frozen=True)
class Received:
    """A request: its number from 1, path with query, headers in lower case, body decoded (None: not JSON) and raw.

    `connection` numbers the TCP connections, `gone` is set when the client left before the answer was complete.
    """

    number: int
    method: str
    path: str
    headers: dict[str, str]
    body: Any
    raw: bytes
    connection: int
    gone: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)

    def wait_gone(self, timeout: float = 5.0) -> None:
        """Block until the client has left. Raises `TimeoutError` after `timeout` seconds."""
        if not self.gone.wait(timeout):
            raise TimeoutError(f"the client of request {self.number} is still there")


class ScriptedEndpoint:
    """The endpoint itself: a context manager that serves in threads of its own.

    A request beyond the end of a script is answered with status 400.
    """

    def __init__(self, script: Sequence[Step] | Callable[[Received], Step]) -> None:
        self._stage = stage = _Stage(script)

        class Handler(_Handler):
            play = stage

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = False
            request_queue_size = 128

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Clients that leave are part of the play."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL,), name="scripted-endpoint")

    @property
    def requests(self) -> list[Received]:
        """What has come in so far, in order."""
        with self._stage.changed:
            return list(self._stage.requests)

    @property
    def base_url(self) -> str:
        """`http://127.0.0.1:PORT/v1`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def provider(self, **changes: Any) -> Provider:
        """A provider that points here (id and name `scripted`), with `changes` to its fields."""
        fields: dict[str, Any] = {"id": "scripted", "name": "scripted", "base_url": self.base_url, **changes}
        return Provider(**fields)

    def wait_for_requests(self, count: int, timeout: float = 5.0) -> None:
        """Block until `count` requests have come in. Raises `TimeoutError` after `timeout` seconds."""
        stage = self._stage
        with stage.changed:
            if not stage.changed.wait_for(lambda: len(stage.requests) >= count, timeout):
                raise TimeoutError(f"{len(stage.requests)} of {count} requests came")

    def unused(self) -> int:
        """How many answers of the script were not asked for."""
        with self._stage.changed:
            return sum(left for left in self._stage.left if left > 0)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving and cut every connection."""
        self._server.shutdown()
        self._stage.end()
        self._server.server_close()
        self._thread.join()


class _Stage:
    """What the endpoint and its connections share; `changed` guards all of it."""

    def __init__(self, script: Sequence[Step] | Callable[[Received], Step]) -> None:
        self.changed = threading.Condition()
        self.requests: list[Received] = []
        self.left = [] if callable(script) else [step.times for step in script]
        self.ended = threading.Event()
        self._script = script
        self._sockets: set[socket.socket] = set()
        self._connections = 0

    def enter(self, connection: socket.socket) -> int:
        """Note a new connection and number it."""
        with self.changed:
            self._sockets.add(connection)
            self._connections += 1
            if self.ended.is_set():
                connection.shutdown(socket.SHUT_RDWR)
            return self._connections

    def leave(self, connection: socket.socket) -> None:
        with self.changed:
            self._sockets.discard(connection)

    def end(self) -> None:
        """Wake every handler that waits for its client."""
        self.ended.set()
        with self.changed:
            for connection in self._sockets:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def take(self, method: str, path: str, headers: dict[str, str], raw: bytes, connection: int) -> Received:
        """Note a request."""
        try:
            body = msgspec.json.decode(raw)
        except msgspec.DecodeError:
            body = None
        with self.changed:
            received = Received(len(self.requests) + 1, method, path, headers, body, raw, connection)
            self.requests.append(received)
            self.changed.notify_all()
            return received

    def step(self, received: Received) -> Step:
        """The answer to a request."""
        if callable(self._script):
            return self._script(received)
        with self.changed:
            for index, left in enumerate(self.left):
                if left != 0:
                    self.left[index] = left - 1 if left > 0 else left
                    return self._script[index]
        message = f"the script has no step for request {received.number}"
        return Step(status=400, body={"error": {"message": message}})


class _Cut(Exception):
    """The connection ends here."""


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    protocol_version = "HTTP/1.1"
    play: _Stage

    def setup(self) -> None:
        super().setup()
        # Small writes are what streams consist of; waiting for full packets would cost 40 ms each.
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._number = self.play.enter(self.connection)

    def finish(self) -> None:
        self.play.leave(self.connection)
        with suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class'
        """Say nothing on standard error."""

    def do_GET(self) -> None:
        self._plain(200, {}, {"object": "list", "data": [], "models": []})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        received = self.play.take(self.command, self.path, headers, raw, self._number)
        if not self.path.partition("?")[0].endswith("/responses"):
            return self._plain(404, {}, {"error": {"message": f"nothing is served at {self.path}"}})
        try:
            self._answer(self.play.step(received), received.number)
        except OSError:
            received.gone.set()
            self.close_connection = True
        except _Cut:
            self.close_connection = True
        return None

    def _answer(self, step: Step, number: int) -> None:
        if step.gate is not None and step.gate_after is None:
            step.gate.hold(self._look)
        if step.drop == "before_headers":
            self._reset()
        if step.status != 200 or step.body is not None:
            return self._plain(step.status, step.headers, step.body if step.body is not None else b"")
        self.send_response(200)
        for name, value in {"content-type": "text/event-stream", **step.headers}.items():
            self.send_header(name, value)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        events = step.events if step.events is not None else _events(step, number)
        for index, event in enumerate((*events, None)):
            if step.gate is not None and step.gate_after == index:
                step.gate.hold(self._look)
            if step.drop is not None and step.drop_after == index:
                if step.drop == "clean_end":
                    break
                if step.drop == "mid_event" and event is not None:
                    data = _encoded(event)
                    self._chunk(data[: len(data) // 2])
                self._reset()
            if event is not None:
                self._chunk(_encoded(event))
        self.wfile.write(b"0\r\n\r\n")
        return None

    def _plain(self, status: int, headers: Mapping[str, str], body: Mapping[str, Any] | bytes) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {"content-type": "application/json", **{name.lower(): value for name, value in headers.items()}}
        self.send_response(status)
        for name, value in named.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _chunk(self, data: bytes) -> None:
        if data:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _look(self) -> None:
        readable, _, _ = select.select([self.connection], [], [], _POLL)
        if self.play.ended.is_set():
            raise _Cut
        if readable and not self.connection.recv(1, socket.MSG_PEEK):
            raise ConnectionResetError("the client left")

    def _reset(self) -> None:
        # Lingering for no time at all makes the close a reset; the base class would end the stream in good order first.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
        raise _Cut


def _encoded(event: Mapping[str, Any] | bytes) -> bytes:
    if isinstance(event, bytes):
        return event
    return f"event: {event.get('type', '')}\ndata: {json.dumps(event)}\n\n".encode()


def _events(step: Step, number: int) -> list[Mapping[str, Any]]:
    response_id = f"resp_{number}"
    events: list[Mapping[str, Any]] = [{"type": "response.created", "response": {"id": response_id}}]
    for place, short in enumerate(step.items):
        item = _identified(short, number, place)
        if step.deltas:
            events += _deltas(item, place, max(1, step.piece))
        events.append({"type": "response.output_item.done", "output_index": place, "item": item})
    response: dict[str, Any] = {"id": response_id, "status": step.finish}
    if step.finish == "completed":
        response["usage"] = _USAGE if step.usage is None else dict(step.usage)
    elif step.finish == "failed":
        response["error"] = step.error or {"code": "server_error", "message": "the script says so"}
    elif step.finish == "incomplete":
        response["incomplete_details"] = {"reason": step.reason}
    if step.finish != "none":
        events.append({"type": f"response.{step.finish}", "response": {**response, **step.extra}})
    return events


_PREFIXES = {"message": "msg", "reasoning": "rs", "function_call": "fc", "custom_tool_call": "ctc"}


def _identified(item: Mapping[str, Any], number: int, place: int) -> dict[str, Any]:
    kind = str(item.get("type"))
    named: dict[str, Any] = {"type": kind, "id": f"{_PREFIXES.get(kind, 'item')}_{number}_{place}"}
    if kind.endswith("_call"):
        named["call_id"] = f"call_{number}_{place}"
    return named | dict(item)


def _deltas(item: dict[str, Any], place: int, size: int) -> list[Mapping[str, Any]]:
    # What each kind streams: its opening form, then the event and field of its pieces.
    def pieces(kind: str, text: str, **where: Any) -> list[Mapping[str, Any]]:
        return [
            {"type": kind, "item_id": item["id"], "output_index": place, **where, "delta": text[start : start + size]}
            for start in range(0, len(text), size)
        ]

    kind, opening, events = item["type"], dict(item), list[Mapping[str, Any]]()
    if kind == "message":
        opening["content"] = []
        for index, part in enumerate(cast("list[dict[str, Any]]", item.get("content", []))):
            events += pieces("response.output_text.delta", part.get("text", ""), content_index=index)
    elif kind == "reasoning":
        opening["summary"] = []
        for index, part in enumerate(cast("list[dict[str, Any]]", item.get("summary", []))):
            events.append(
                {"type": "response.reasoning_summary_part.added", "item_id": item["id"], "summary_index": index}
            )
            events += pieces("response.reasoning_summary_text.delta", part.get("text", ""), summary_index=index)
    elif kind == "function_call":
        opening["arguments"] = ""
        events += pieces("response.function_call_arguments.delta", item["arguments"])
    elif kind == "custom_tool_call":
        opening["input"] = ""
        events += pieces("response.custom_tool_call_input.delta", item["input"])
    return [{"type": "response.output_item.added", "output_index": place, "item": opening}, *events]
