"""The front door: start, open, run, find, fork, name and archive threads.

Nothing here knows a protocol or a terminal. `Threads` keeps one queue per thread: its turns run one after the other,
in the order they were asked for, also when several processes share a home (the store's lease decides between them).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Literal, Self

import msgspec

from clew.clock import Clock
from clew.engine import Approver, Engine
from clew.errors import Owner
from clew.events import Event, TurnInput, TurnResult
from clew.ids import IdSource
from clew.settings import Overrides, Settings
from clew.store.contracts import Catalog, ListQuery, LogStore, Page, SearchHit, ThreadSummary

__all__ = ["Thread", "ThreadStatus", "Threads", "Turn", "TurnView", "TurnsPage"]


class TurnView(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded turn as a person sees it; `items` are JSON objects with camelCase keys, as `Item.to_json` gives."""

    id: str
    status: Literal["completed", "interrupted", "failed", "inProgress"]
    items: tuple[dict[str, Any], ...]
    started_at: int | None = None
    completed_at: int | None = None
    error: str | None = None


class TurnsPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of turns, in the order asked for; `next_cursor` None means: there is no more."""

    turns: tuple[TurnView, ...]
    next_cursor: str | None = None


class ThreadStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`state`: `running` (a turn runs in this process), `held` (another program writes it; `owner`), `idle`.

    `turn_id` is the running turn here, else the last recorded one; `turn_status` its status; `queued` counts turns that
    wait behind it in this process.
    """

    thread_id: str
    state: Literal["running", "held", "idle"]
    turn_id: str | None = None
    turn_status: str | None = None
    queued: int = 0
    owner: Owner | None = None
    last_message: str | None = None


class Turn:
    """A turn that was asked for: waiting, running or done. It goes on when nobody listens."""

    thread_id: str
    turn_id: str
    settings: Settings
    notices: Sequence[str]
    """What the caller should be told about how the turn runs, e.g. that it asked for a wider sandbox."""

    @property
    def state(self) -> Literal["queued", "running", "done"]:
        raise NotImplementedError

    def events(self) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Listen. Events from before are replayed first (deltas are not); the iterator ends behind `TurnEnded`, or
        when the turn could not run."""
        raise NotImplementedError

    async def wait(self) -> TurnResult:
        """The result. Raises the `ClewError` that kept the turn from running (`ThreadBusy`, `FolderGone`, …)."""
        raise NotImplementedError

    def interrupt(self) -> None:
        """Stop it: a queued turn never starts, a running one ends as `interrupted`."""
        raise NotImplementedError


class Thread:
    """One thread, opened. Holds no lease and no file between turns."""

    id: str
    settings: Settings
    """The effective settings: recorded, with the overrides of `open` in their place."""

    def run(self, turn: TurnInput, *, approver: Approver) -> Turn:
        """Ask for a turn; comes back at once. Turns of a thread run one after the other."""
        raise NotImplementedError


class Threads:
    """The threads of one home."""

    def __init__(
        self,
        logs: LogStore,
        catalog: Catalog,
        engine: Engine,
        *,
        owner: Owner,
        clock: Clock,
        ids: IdSource,
    ) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Interrupts what still runs, waits for it to be recorded, and closes the engine."""
        raise NotImplementedError

    async def drain(self) -> None:
        """Wait until every turn that was asked for has ended."""
        raise NotImplementedError

    async def start(self, settings: Settings, *, source: str, originator: str) -> Thread:
        """A new thread. Nothing is on disk before its first turn. `source` as in `session_meta` (`mcp`, `exec`, …)."""
        raise NotImplementedError

    async def open(self, reference: str, defaults: Settings, overrides: Overrides | None = None) -> Thread:
        """Open a recorded thread by id, unique prefix, name or `last`.

        Settings come from its last recorded turn; `defaults` fill what was never recorded; `overrides` are what the
        caller named in this call and may change (also widen) them. Raises `ThreadNotFound`, `AmbiguousName`,
        `ThreadArchived`, `LogDamaged`, `UnsupportedHistory`.
        """
        raise NotImplementedError

    async def summary(self, reference: str) -> ThreadSummary:
        raise NotImplementedError

    async def list(self, query: ListQuery) -> Page:
        raise NotImplementedError

    async def search(self, text: str, *, limit: int = 25, archived: bool | None = None) -> Sequence[SearchHit]:
        raise NotImplementedError

    async def read(
        self, reference: str, *, cursor: str | None = None, limit: int = 25, newest_first: bool = False
    ) -> TurnsPage:
        """A page of recorded turns with their items."""
        raise NotImplementedError

    async def fork(self, reference: str, *, after_turn: str | None = None, before_turn: str | None = None) -> str:
        """A new thread with the history of another (up to and including `after_turn`, or up to `before_turn`); gives
        its id. The source is not touched."""
        raise NotImplementedError

    async def rename(self, reference: str, name: str | None) -> ThreadSummary:
        raise NotImplementedError

    async def archive(self, reference: str) -> ThreadSummary:
        """Raises `ThreadBusy` while a turn runs."""
        raise NotImplementedError

    async def unarchive(self, reference: str) -> ThreadSummary:
        raise NotImplementedError

    async def status(self, reference: str) -> ThreadStatus:
        raise NotImplementedError

    def turn(self, turn_id: str) -> Turn | None:
        """A turn that was asked for in this process (the last few hundred are remembered)."""
        raise NotImplementedError

    def running(self, thread_id: str) -> Turn | None:
        """The turn of this thread that runs or waits first in this process."""
        raise NotImplementedError
