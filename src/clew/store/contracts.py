"""What a store must do. Every implementation passes the one suite in `clew.testing.conformance`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from clew.errors import Owner
from clew.rollout.envelope import Line, Record, Skipped
from clew.rollout.offsets import ThreadLog
from clew.rollout.scan import Passes
from clew.store.queries import (
    ListQuery,
    Look,
    Page,
    SearchHit,
    SearchPage,
    SearchProgress,
    SearchQuery,
    ShowProgress,
    Stop,
    ThreadSummary,
)

if TYPE_CHECKING:
    from clew.store.space import Space
    from clew.store.stats import Stats, StatsQuery

__all__ = [
    "Catalog",
    "Lease",
    "Ledger",
    "ListQuery",
    "LogStore",
    "Page",
    "SearchHit",
    "SearchPage",
    "SearchProgress",
    "SearchQuery",
    "ThreadSummary",
    "TurnPlaces",
]


class Lease(Protocol):
    """The right to write one thread, held by one owner. Appends are the only way its log grows.

    `existed` tells whether the thread had a log when it was leased (a new thread's file appears with its first append).
    """

    @property
    def thread_id(self) -> str: ...

    @property
    def existed(self) -> bool: ...

    async def append(self, lines: Sequence[Line], *, durable: bool = True) -> int:
        """Append whole lines in order and give the log's new size in bytes.

        With `durable`, everything that this lease appended so far, and what stood before it, survives power loss when
        this returns. Raises `DiskFull`,
        `SyncFailed`, `LogReplaced`; lines that were not written are kept and go out before those of the next call.
        """
        ...


class LogStore(Protocol):
    """Append-only logs, one per thread. Reading blocks and belongs in a worker thread; it needs no lease."""

    def lease(
        self, thread_id: str, owner: Owner, *, create: bool = False, wait: float | None = 0.0
    ) -> AbstractAsyncContextManager[Lease]:
        """Take the thread for writing; released on exit.

        Another clew that holds the thread is waited for as long as it takes, any other program for up to `wait`
        seconds; with 0 nobody is waited for. Who waits is served in the order of asking, in whatever program, and
        before any later turn of the holder. Then `ThreadBusy` names the holder. `create` allows a thread that is not
        there yet. Raises `ThreadNotFound`, `ThreadArchived`, `LogDamaged`, `UnsupportedHistory`.
        """
        ...

    def read(self, thread_id: str) -> Iterator[Record | Skipped]:
        """All lines of the thread, oldest first, inherited ones (forks, reverts) in front. `number` and offsets are
        those of the file each line stands in."""
        ...

    def read_back(self, thread_id: str, *, passes: Passes | None = None) -> Iterator[Record | Skipped]:
        """The same lines, newest first, reading no further back than is asked for. Lines that `passes` tells are left
        out."""
        ...

    def log(self, thread_id: str) -> ThreadLog:
        """The same lines by their places, for reading on from one, or single ones again."""
        ...

    def head(self, thread_id: str) -> Record | None:
        """The canonical `session_meta` of the thread's current file, None if it has none."""
        ...

    def size(self, thread_id: str) -> int:
        """Bytes of the current file as it lies on disk."""
        ...

    def holder(self, thread_id: str) -> Owner | None:
        """Who writes the thread right now, None when nobody does."""
        ...

    def inherited_turn(self, thread_id: str) -> str | None:
        """The id of the last turn that a fork has from its source; None where it has none. Raises `OSError`."""
        ...

    async def fork(
        self,
        source_id: str,
        new_id: str,
        *,
        after_turn: str | None = None,
        before_turn: str | None = None,
        copy: bool = False,
        originator: str = "clew",
        version: str = "",
        source: str | None = None,
    ) -> None:
        """Make `new_id` a thread that has the history of `source_id`, up to and including `after_turn`, or up to
        `before_turn`; both name turns as `clew.history.find_turn` has it. By reference where the history mode allows
        it, else (or with `copy`) as a legacy file that needs no other. The source is not touched. Raises
        `ThreadNotFound`, `BadRequest` for an unknown turn, `LogDamaged`, `DiskFull`, `SyncFailed`."""
        ...

    async def revert(self, thread_id: str, before_turn: str, owner: Owner) -> int:
        """Take the thread back to where `before_turn` began and give the number of turns that this takes back. Nothing
        is removed: a later segment goes on from there. Raises `ThreadNotFound`, `ThreadBusy`, `ThreadArchived`,
        `BadRequest` for an unknown turn, `Unsupported` for the older history mode."""
        ...

    async def restore(self, thread_id: str, owner: Owner) -> int:
        """Undo the last revert: the thread goes on where it stood before. Gives the number of turns that were done
        since and are taken back instead. Raises as `revert`, `BadRequest` for a thread that was never reverted."""
        ...


class Catalog(Protocol):
    """Summaries. All calls block and belong in a worker thread."""

    def steady(self, look: Look | None = None) -> AbstractContextManager[None]:
        """All that this thread asks inside is answered from one look at the disk (None: from the last one), where a
        catalog takes one for every answer."""
        ...

    def get(self, thread_id: str) -> ThreadSummary:
        """Raises `ThreadNotFound`. An id fits in any spelling of a UUID."""
        ...

    def resolve(self, reference: str) -> ThreadSummary:
        """The thread for an id, a unique prefix of one (8 characters at least), a name, or `last`.

        Raises `ThreadNotFound`, `AmbiguousName`.
        """
        ...

    def list(self, query: ListQuery) -> Page: ...

    def search(
        self, query: SearchQuery, *, stop: Stop | None = None, progress: ShowProgress | None = None
    ) -> SearchPage:
        """Threads in which the text was found, or the places in one of them. Raises `BadRequest` for a query that means
        nothing (an empty text, a pattern that is none, a strange cursor), `ThreadNotFound` for its `thread_id`,
        `SearchStopped` when `stop` told so."""
        ...

    def descendants(self, thread_id: str) -> Sequence[str]:
        """The threads that this one spawned, at any depth, archived or not, each behind the one that spawned it."""
        ...

    def heirs(self, rollout_ids: Collection[str]) -> Sequence[str]:
        """The threads with a file that inherits lines from one of these (forks by reference, and later segments of the
        same thread), whether that one is there or not. A file is known by the last id of its name. Those that inherit
        from an heir alone are not among them."""
        ...

    def rename(self, thread_id: str, name: str | None) -> None:
        """Give the thread a name (None or empty: take it away), as Codex reads it."""
        ...

    def archive(self, thread_id: str) -> ThreadSummary: ...

    def unarchive(self, thread_id: str) -> ThreadSummary: ...


class Ledger(Protocol):
    """What was spent, and where the bytes are. Blocks, and belongs in a worker thread. What is answered after `stop`
    told so is of no use."""

    def stats(self, query: StatsQuery, *, stop: Stop | None = None, progress: ShowProgress | None = None) -> Stats:
        """Tokens and turns, each turn once however many files tell of it. Raises `BadRequest` for a time that is
        none."""
        ...

    def space(
        self, thread_ids: Collection[str] = (), *, stop: Stop | None = None, progress: ShowProgress | None = None
    ) -> Space:
        """Where the bytes are: of the whole home, or of some threads. Raises `ThreadNotFound`."""
        ...


class TurnPlaces(Protocol):
    """What is kept of where the turns of large logs are, one text of bytes per thread. It may be gone or out of date at
    any time. Blocks, and belongs in a worker thread; raises nothing."""

    def get(self, thread_id: str) -> bytes | None: ...

    def put(self, thread_id: str, data: bytes) -> bool:
        """Whether it was kept."""
        ...
