"""What all calls of one connection share: the threads, the configuration, open questions and running turns."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import anyio
import anyio.to_thread
import mcp_types as types
import msgspec
from anyio.abc import TaskStatus
from mcp.server.context import ServerRequestContext
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from clew.config import Config, ServerOptions
from clew.errors import ClewError
from clew.server.mcp.approvals import Asking, Questions, RequestState
from clew.server.mcp.events import CodexEvents
from clew.server.mcp.wire import Wire

if TYPE_CHECKING:
    from clew.threads import Threads, Turn

__all__ = ["Call", "Configure", "Context", "Desk", "Started", "ThreadsFactory"]

_log = logging.getLogger(__name__)

Context = ServerRequestContext[Any, Any]

Configure = Callable[[str | None], Config]
"""Reads the configuration anew, for a profile or the default one. Blocks; raises `ClewError`."""

ThreadsFactory = Callable[[], "AbstractAsyncContextManager[Threads]"]
"""Opens the threads of this home; may raise `ClewError`. Called behind the first answer or when they are first needed,
and again when that failed."""


class _Attempt:
    """One try to open the threads: `done` is set once `threads` or `error` is there."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.threads: Threads | None = None
        self.error: Exception | None = None


class _Keeper:
    """Holds the threads open in a task of its own, from the first need to the end of the connection.

    A try that fails is told to all who wait for it; whoever comes later causes another one. Ending the connection in
    whatever way leaves the turns the time to be recorded.
    """

    def __init__(self, factory: ThreadsFactory) -> None:
        self._factory = factory
        self._wanted = anyio.Event()
        self._attempt = _Attempt()
        self._over = anyio.Event()
        self._scope = anyio.CancelScope()

    async def run(self) -> None:
        with self._scope:
            while not self._over.is_set():
                await self._wanted.wait()
                if not self._over.is_set():
                    await self._open()

    async def _open(self) -> None:
        attempt = self._attempt
        try:
            async with self._factory() as threads:
                attempt.threads = threads
                attempt.done.set()
                self._scope.shield = True
                await self._over.wait()
        except Exception as error:
            if attempt.threads is not None:
                raise
            attempt.error = error
            self._attempt = _Attempt()
            self._wanted = anyio.Event()
            attempt.done.set()

    def want(self) -> None:
        self._wanted.set()

    async def get(self) -> Threads:
        attempt = self._attempt
        self.want()
        await attempt.done.wait()
        if attempt.threads is None:
            assert attempt.error is not None
            raise attempt.error
        return attempt.threads

    @property
    def opened(self) -> Threads | None:
        return self._attempt.threads

    def close(self, within: float) -> None:
        """Let go of the threads; what runs there has `within` seconds to be recorded."""
        self._over.set()
        self._wanted.set()
        self._scope.deadline = anyio.current_time() + within


@dataclass(slots=True)
class Started:
    """A turn that was asked for over this connection. A call that is repeated to bring an answer goes on where the one
    before stopped listening: `heard` counts the recorded events that were passed on."""

    turn: Turn
    events: CodexEvents | None = None
    refusals: Sequence[str] = ()
    heard: int = 0


class Desk:
    """The state behind the calls of one connection. `cwd` is where relative folders of calls start."""

    def __init__(self, configure: Configure, factory: ThreadsFactory, wire: Wire, *, cwd: str) -> None:
        self.wire = wire
        self.cwd = cwd
        self.questions = Questions()
        self.states = RequestState()
        self._configure = configure
        self._keeper = _Keeper(factory)
        self._options: ServerOptions | None = None
        self._turns: dict[str, Started] = {}
        self._lines: WeakValueDictionary[str, anyio.Lock] = WeakValueDictionary()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Keep the threads until `close`."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._keeper.run)
            task_status.started()
            # Opening them costs time; the handshake should not wait for it, nor the first call.
            await self.wire.answered.wait()
            self._keeper.want()

    def close(self, within: float) -> None:
        """End: what still runs is interrupted and has `within` seconds to be recorded."""
        self.questions.close()
        self.wire.answered.set()
        self._keeper.close(within)

    async def threads(self) -> Threads:
        return await self._keeper.get()

    async def config(self, profile: str | None = None) -> Config:
        """The configuration as it is now. Raises `ConfigInvalid`."""
        return await anyio.to_thread.run_sync(self._configure, profile)

    async def options(self) -> ServerOptions:
        """How this server behaves; the defaults while the configuration is broken."""
        if self._options is None:
            try:
                self._options = (await self.config()).server
            except ClewError as error:
                _log.warning("the configuration cannot be read: %s", error)
                return ServerOptions()
        return self._options

    def line(self, reference: str) -> anyio.Lock:
        """Where calls for one thread stand in line until their turn is asked for: opening a thread takes a moment that
        differs, and turns run in the order the calls came."""
        return self._lines.setdefault(reference, anyio.Lock())

    def remember(self, started: Started) -> None:
        """Keep a turn that was asked for here, at least until it is done."""
        self._turns = {key: kept for key, kept in self._turns.items() if kept.turn.state != "done"}
        self._turns[started.turn.turn_id] = started

    def started(self, turn: Turn) -> Started:
        """What was kept of a turn that was asked for here."""
        return self._turns.get(turn.turn_id) or Started(turn)

    def interrupt(self, turn: Turn) -> None:
        """Stop a turn; what it asked is not approved any more."""
        turn.interrupt()
        self.questions.withdraw(turn.turn_id)

    def interrupt_all(self) -> None:
        for started in self._turns.values():
            if started.turn.state != "done":
                self.interrupt(started.turn)

    async def drain(self) -> None:
        """Wait until no call is open and no turn runs."""
        await self.wire.idle()
        if (threads := self._keeper.opened) is not None:
            await threads.drain()


class Call(msgspec.Struct, frozen=True):
    """One call of a tool."""

    desk: Desk
    context: Context
    tool: str
    arguments: dict[str, Any] | None
    raw: dict[str, Any]
    """The parameters as they came."""

    @property
    def modern(self) -> bool:
        return self.context.protocol_version in MODERN_PROTOCOL_VERSIONS

    @property
    def asking(self) -> Asking:
        """How the client can be asked, by what it declared."""
        declared = self.context.session.client_capabilities
        if declared is None or declared.elicitation is None:
            return Asking.NOT
        # A client that names modes has to name the form; one that names none speaks of before there were modes.
        if declared.elicitation.form is None and declared.elicitation.url is not None:
            return Asking.NOT
        return Asking.RESULT if self.modern else Asking.REQUEST

    @property
    def request_id(self) -> types.RequestId | None:
        return self.context.request_id

    @property
    def progress_token(self) -> types.ProgressToken | None:
        meta = self.context.meta
        return meta.get("progress_token") if meta else None

    async def threads(self) -> Threads:
        return await self.desk.threads()
