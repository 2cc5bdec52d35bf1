"""The life of an MCP server: from the first line on stdin to the last turn recorded."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import anyio
import msgspec
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage

from clew.release import VERSION
from clew.server.mcp.desk import Configure, Desk, ThreadsFactory
from clew.server.mcp.service import build_server
from clew.server.mcp.stdio import Inbound, stdio_streams
from clew.server.mcp.wire import Wire

__all__ = ["Life", "serve", "serve_stdio"]

_log = logging.getLogger(__name__)

_ANSWER_WAIT = 5.0
"""Seconds that open calls have to answer after their turns were interrupted."""
_FLUSH_WAIT = 5.0
_LAST_RESORT = 5.0
"""Seconds beyond the time for recording until the process is ended, whatever still holds it."""


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """How the server ends. `on_eof`: what becomes of running turns when the client closes stdin, `finish` them (no
    longer than `finish_seconds`, then as the other) or `interrupt` them. `record_seconds`: how long recording may take.
    """

    on_eof: Literal["finish", "interrupt"] = "finish"
    finish_seconds: float = 600.0
    record_seconds: float = 10.0


async def serve(
    configure: Configure,
    threads: ThreadsFactory,
    read: MemoryObjectReceiveStream[Inbound],
    write: MemoryObjectSendStream[SessionMessage],
    *,
    cwd: str | None = None,
    life: Life | None = None,
    stop: anyio.Event | None = None,
    version: str | None = None,
    on_answered: Callable[[], None] | None = None,
) -> None:
    """Serve one client over a pair of streams until it leaves or `stop` is set.

    `configure` reads the configuration, `threads` makes the threads of the home (once, behind the first answer). `cwd`
    is where calls start that name no folder (the process's own by default); `life` None: as configured. Comes back when
    every call was answered, every turn ended and was recorded, each within its bounds; `on_answered` is called between
    the two.
    """
    stop = stop or anyio.Event()
    wire = Wire(read, write)
    desk = Desk(configure, threads, wire, cwd=cwd or str(Path.cwd()))
    server = build_server(desk, version=version or VERSION)

    async def end() -> None:
        async with anyio.create_task_group() as waiting:

            async def until(event: anyio.Event) -> None:
                await event.wait()
                waiting.cancel_scope.cancel()

            waiting.start_soon(until, wire.ended)
            waiting.start_soon(until, stop)
        await _wind_down(desk, wire, life or await _configured_life(desk), stop)
        await wire.close()

    async with anyio.create_task_group() as keeping:
        await keeping.start(desk.run)
        try:
            async with anyio.create_task_group() as serving:
                await serving.start(wire.run)
                serving.start_soon(end)
                await server.run(wire.inner_read, wire.inner_write, server.create_initialization_options())
                # What was said is on its way out; a client that reads nothing cannot hold it up for long.
                serving.cancel_scope.deadline = anyio.current_time() + _FLUSH_WAIT
        finally:
            desk.close((life or Life()).record_seconds)
            if on_answered is not None:
                on_answered()


async def _configured_life(desk: Desk) -> Life:
    options = await desk.options()
    return Life(on_eof=options.on_eof, finish_seconds=options.finish_seconds)


async def _wind_down(desk: Desk, wire: Wire, life: Life, stop: anyio.Event) -> None:
    """From the end of the input to the last answer."""
    # Nobody can be asked any more; what waits for an approval goes on without it.
    desk.questions.close()
    if life.on_eof == "finish" and not stop.is_set():
        async with anyio.create_task_group() as group:

            async def cut_short() -> None:
                await stop.wait()
                group.cancel_scope.cancel()

            group.start_soon(cut_short)
            with anyio.move_on_after(life.finish_seconds):
                await desk.drain()
            group.cancel_scope.cancel()
    desk.interrupt_all()
    with anyio.move_on_after(_ANSWER_WAIT):
        await wire.idle()


async def serve_stdio(
    configure: Configure,
    threads: ThreadsFactory,
    *,
    cwd: str | None = None,
    life: Life | None = None,
    version: str | None = None,
) -> int:
    """Serve the client at the other end of stdin and stdout; gives the exit status.

    0 after the client left; 128 + N after signal N, which interrupts what runs. A second signal ends the process at
    once.
    """
    stop = anyio.Event()
    received: list[int] = []

    def status() -> int:
        return 128 + received[0] if received else 0

    def on_answered() -> None:
        # What blocks for good (a dead network disk) must not keep the process of a client that is gone.
        timer = threading.Timer((life or Life()).record_seconds + _LAST_RESORT, lambda: os._exit(status()))
        timer.daemon = True
        timer.start()

    async with _signals(stop, received), stdio_streams() as (read, write):
        await serve(
            configure,
            threads,
            read,
            write,
            cwd=cwd,
            life=life,
            stop=stop,
            version=version,
            on_answered=on_answered,
        )
    return status()


@asynccontextmanager
async def _signals(stop: anyio.Event, received: list[int]) -> AsyncGenerator[None]:
    """While inside, a signal to end sets `stop` and is noted."""
    wanted = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield
        return

    async def listen() -> None:
        with anyio.open_signal_receiver(*wanted) as signals:
            ready.set()
            async for number in signals:
                if received:
                    os._exit(128 + number)
                received.append(number)
                _log.info("ending after %s", signal.Signals(number).name)
                stop.set()

    ready = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(listen)
        await ready.wait()
        yield
        group.cancel_scope.cancel()
