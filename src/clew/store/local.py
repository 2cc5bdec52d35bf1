"""Threads in Codex' own files: the store that the default installation uses.

Reading needs no lease and never changes a file. Writing takes Codex' own writer lock, so that either program keeps the
other out; the lock is held for one turn, not for as long as a thread is loaded.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import anyio
import anyio.to_thread

from clew.clock import Clock
from clew.errors import (
    LogDamaged,
    Owner,
    StaleLease,
    SyncFailed,
    ThreadArchived,
    ThreadNotFound,
    Unsupported,
)
from clew.ids import IdSource
from clew.index.database import Database
from clew.rollout import (
    FailPoints,
    FileSystem,
    GroupCommitter,
    Home,
    Line,
    LogWriter,
    Record,
    Skipped,
    ThreadFiles,
    WriterLock,
    acquire_waiting,
    lineage,
    lock_holder,
    read_head,
    read_thread,
    read_thread_back,
)
from clew.rollout.copying import Draft, new_rollout
from clew.rollout.durable import KnownDurable
from clew.rollout.leftovers import UNPACKING, remove_dead
from clew.rollout.offsets import ThreadLog
from clew.rollout.scan import Passes
from clew.store.alone import alone
from clew.store.background import Background
from clew.store.catalog import HomeCatalog
from clew.store.contracts import Lease
from clew.store.index_statistics import IndexStatistics, index_statistics
from clew.store.indexed import IndexedCatalog
from clew.store.indexing import Indexing
from clew.store.keeper import Keeper
from clew.store.refusals import refusal
from clew.store.shelf import Shelf
from clew.store.turn_places import IndexedPlaces

if TYPE_CHECKING:
    from clew.store.branch import Fork, Revert
    from clew.store.index_worker import IndexWorker
    from clew.store.ledger import HomeLedger
    from clew.store.search import Scan

__all__ = ["IndexUse", "LocalStore"]

IndexUse = Literal["off", "use", "keep"]
"""What is done with the index: nothing, only used, or used and brought up to date by a thread of this process."""


class _LocalLease:
    def __init__(
        self, lock: WriterLock, folder: Path, writer: LogWriter, committer: GroupCommitter, *, existed: bool
    ) -> None:
        self._lock = lock
        self._folder = folder
        self._writer = writer
        self._committer = committer
        self._over = False
        self.thread_id = lock.thread_id
        self.existed = existed

    async def append(self, lines: Sequence[Line], *, durable: bool = True) -> int:
        if self._over:
            raise StaleLease(self.thread_id)
        return await self._committer.append(self._writer, lines, durable=durable)

    async def end(self) -> None:
        self._over = True
        try:
            await self._committer.close_writer(self._writer)
        finally:
            await anyio.to_thread.run_sync(_give_back, self._lock, self._folder)


def _give_back(lock: WriterLock, folder: Path) -> None:
    try:
        lock.release()
    except OSError as error:
        raise refusal(error, folder, lock.thread_id) from error


@contextmanager
def _reading(files: ThreadFiles) -> Generator[None]:
    """What the disk does not give of a thread's files is damage to the thread."""
    try:
        yield
    except OSError as error:
        why = f"cannot be read: {error.strerror or error}"
        raise LogDamaged(files.current.plain_path, 0, why, thread_id=files.thread_id) from error


class LocalStore:
    """Logs, catalog and shelf of one Codex home. `clew_home` holds what the logs have no room for; `owner` is
    this process, as others see it while it moves files; `ripgrep` finds the program to search with; without
    it, it is the one that is installed beside this Python. `notify` is told what a person should know of the index,
    each thing once."""

    def __init__(
        self,
        fs: FileSystem,
        codex_home: Path,
        clew_home: Path,
        *,
        clock: Clock,
        ids: IdSource,
        owner: Owner,
        fail: FailPoints | None = None,
        ripgrep: Callable[[], Path | None] | None = None,
        index: IndexUse = "off",
        notify: Callable[[str], None] | None = None,
    ) -> None:
        self._fs = fs
        self._home = Home(fs, codex_home)
        self._clew_home = clew_home
        self._clock = clock
        self._ids = ids
        self._fail = fail or FailPoints()
        self._committer = GroupCommitter()
        self._known = KnownDurable()
        self.shelf = Shelf(fs, clew_home, clock=clock, by=owner.program, fail=self._fail)
        self._ripgrep = ripgrep
        self._indexing: Indexing | None = None
        self._background: Background | None = None
        self.catalog = self._catalog(owner, index, notify)
        self.keeper = Keeper(self._home, clew_home, self.catalog, self.shelf, owner=owner, clock=clock, fail=self._fail)

    def _catalog(self, owner: Owner, index: IndexUse, notify: Callable[[str], None] | None) -> HomeCatalog:
        home, clew_home = self._home, self._clew_home
        if index == "off":
            return HomeCatalog(
                home,
                clew_home,
                owner=owner,
                clock=self._clock,
                fail=self._fail,
                shelf=self.shelf,
                scan=lambda: self.scan,
            )
        indexing = self._indexing = Indexing(home, clew_home, notify=notify)
        if index == "keep":

            def worker() -> IndexWorker:
                from clew.store.index_worker import IndexWorker  # what reads logs takes a while to load

                return IndexWorker(home, clew_home, notify=notify)

            self._background = Background(worker, indexing.waiting)
        return IndexedCatalog(
            home,
            clew_home,
            indexing,
            owner=owner,
            clock=self._clock,
            fail=self._fail,
            shelf=self.shelf,
            scan=lambda: self.scan,
            wake=self._background.wake if self._background is not None else None,
        )

    # What short commands do without takes a third of their time to load.

    @cached_property
    def scan(self) -> Scan:
        from clew.store.search import Scan, bundled_ripgrep

        ripgrep = (self._ripgrep and self._ripgrep()) or bundled_ripgrep()
        return Scan(self._home, ripgrep, cache=self._clew_home / "cache", clock=self._clock)

    @cached_property
    def ledger(self) -> HomeLedger:
        from clew.store.facts import from_index
        from clew.store.ledger import HomeLedger

        known = None if self._indexing is None else from_index(self._home, self._indexing.known_file)
        return HomeLedger(self._home, self._clew_home, clock=self._clock, known=known)

    def close(self) -> None:
        """Finish what was handed to the writing thread and end it; end the work on the index after the batch at
        hand."""
        if self._background is not None:
            self._background.close()
        if self._indexing is not None:
            self._indexing.close()
        self._committer.close()

    @property
    def index_database(self) -> Database:
        """The index that is used; only where one is."""
        assert self._indexing is not None, "this store was opened without an index"
        return self._indexing.database

    @property
    def turn_places(self) -> IndexedPlaces | None:
        """Where the turns of large logs are; None without an index."""
        return None if self._indexing is None else IndexedPlaces(self._indexing.database)

    def index_statistics(self) -> IndexStatistics | None:
        """How it stands with the index, and what came of asking it in this process; None without an index."""
        return None if self._indexing is None else index_statistics(self._indexing)

    def index_waits(self) -> bool:
        """Whether there is so much to do for the index, and nobody in this process that does it, that a process of its
        own should."""
        indexing = self._indexing
        return self._background is None and indexing is not None and indexing.worth_it() and indexing.waiting()

    def lease(
        self, thread_id: str, owner: Owner, *, create: bool = False, wait: float | None = 0.0
    ) -> AbstractAsyncContextManager[Lease]:
        return self._lease(thread_id, owner, create, wait)

    @asynccontextmanager
    async def _lease(self, thread_id: str, owner: Owner, create: bool, wait: float | None) -> AsyncGenerator[Lease]:
        files = await anyio.to_thread.run_sync(self._home.find, thread_id)
        if files is None and not create:
            raise ThreadNotFound(thread_id)
        try:
            lock = await self._acquire(thread_id, owner, wait)
        except OSError as error:
            raise refusal(error, self._home.lock_folder, thread_id) from error
        lease: _LocalLease | None = None
        try:
            # Shielded: a cancellation that arrives now must find the lease made, or nothing.
            with anyio.CancelScope(shield=True):
                lease = await anyio.to_thread.run_sync(self._lease_of, lock, create)
            assert lease is not None
            yield lease
        except OSError as error:
            if lease is not None:
                raise
            raise refusal(error, self._home.path, thread_id) from error
        finally:
            with anyio.CancelScope(shield=True):
                if lease is not None:
                    await lease.end()
                else:
                    await anyio.to_thread.run_sync(_give_back, lock, self._home.lock_folder)

    def _lease_of(self, lock: WriterLock, create: bool) -> _LocalLease:
        path, existed = self._path_for(lock.thread_id, create)
        writer = LogWriter(self._fs, path, self._clock, self._fail, create=not existed, known=self._known)
        return _LocalLease(lock, self._home.lock_folder, writer, self._committer, existed=existed)

    async def _acquire(self, thread_id: str, owner: Owner, wait: float | None) -> WriterLock:
        """Other clews hold a thread for a turn and are waited for; programs that keep it while it is open, for `wait`
        seconds."""
        if wait is not None and wait <= 0:
            return await acquire_waiting(self._home, self._clew_home, thread_id, owner)
        return await acquire_waiting(self._home, self._clew_home, thread_id, owner, wait=None, foreign=wait or 0.0)

    def _path_for(self, thread_id: str, create: bool) -> tuple[Path, bool]:
        """Where the thread grows; looked up under the lock, because it may have been moved or reverted meanwhile."""
        files = self._home.find(thread_id)
        if files is None:
            if not create:
                raise ThreadNotFound(thread_id)
            return self._home.new_path(thread_id, self._clock.now()), False
        current = files.current
        if current.archived:
            raise ThreadArchived(files.thread_id)
        if (damage := lineage(self._home, current).damage) is not None:
            # Half a history is worse than none: the model would be told that the rest never happened.
            raise damage
        try:
            read_thread_back(self._home, files)  # refuses what is not known, or not there
        except LogDamaged:
            if not create or len(files.segments) > 1:
                raise
            # The first lines did not arrive.
            return current.path, False
        if current.compressed:
            remove_dead(self._fs, current.plain_path, UNPACKING, os.getpid())
            from clew.store.cold_metrics import materialise_measured  # OpenTelemetry takes a while to load

            current = materialise_measured(self._fs, current, fail=self._fail, process=os.getpid())
        return current.path, True

    def _files(self, thread_id: str) -> ThreadFiles:
        with self.catalog.steady("others"):
            files = self.catalog.find(thread_id)
        if files is None:
            raise ThreadNotFound(thread_id)
        return files

    def read(self, thread_id: str) -> Iterator[Record | Skipped]:
        return read_thread(self._home, self._files(thread_id))

    def read_back(self, thread_id: str, *, passes: Passes | None = None) -> Iterator[Record | Skipped]:
        return read_thread_back(self._home, self._files(thread_id), passes=passes)

    def log(self, thread_id: str) -> ThreadLog:
        return ThreadLog(self._home, self._files(thread_id))

    def head(self, thread_id: str) -> Record | None:
        return read_head(self._home, self._files(thread_id).current)

    def size(self, thread_id: str) -> int:
        return self._files(thread_id).current.size

    def holder(self, thread_id: str) -> Owner | None:
        return lock_holder(self._home, self._clew_home, thread_id)

    def inherited_turn(self, thread_id: str) -> str | None:
        from clew.store.branch import inherited_turn

        return inherited_turn(self._home, self._files(thread_id))

    async def revert(self, thread_id: str, before_turn: str, owner: Owner) -> int:
        from clew.store.branch import plan_revert

        def plan(files: ThreadFiles) -> Revert:
            return plan_revert(self._home, files, before_turn, clock=self._clock)

        return await self._begin_segment(thread_id, owner, plan)

    async def restore(self, thread_id: str, owner: Owner) -> int:
        from clew.store.branch import plan_restore

        def plan(files: ThreadFiles) -> Revert:
            return plan_restore(self._home, files, clock=self._clock)

        return await self._begin_segment(thread_id, owner, plan)

    async def _begin_segment(self, thread_id: str, owner: Owner, plan: Callable[[ThreadFiles], Revert]) -> int:
        from clew.store.peer_index import path_in_database

        # Leased without appending: nobody may write the segment that is taken back, or begin another one.
        async with self.lease(thread_id, owner) as lease:
            files = await anyio.to_thread.run_sync(self._files, lease.thread_id)
            known = await anyio.to_thread.run_sync(path_in_database, self._home.path, files.thread_id)
            if known is not None:
                # It follows its database and not the files: both would go on, each with half of the thread.
                why = "Codex has the thread in its database and would not follow; fork it with --before instead"
                raise Unsupported("revert", why)
            for number in range(len(files.segments)):
                # Any of them may be what the new one goes on from.
                held = ThreadFiles(files.thread_id, files.segments[: number + 1])
                await anyio.to_thread.run_sync(self._settle, held)
            with _reading(files):
                planned = await anyio.to_thread.run_sync(plan, files)
            path = self._home.new_path(files.thread_id, self._clock.now(), self._ids.uuid7())
            await self._write_new(path, planned.lines)
            return planned.turns

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
        from clew.store.branch import plan_fork

        held = ExitStack()

        def plan() -> Fork:
            if not copy:
                # What the fork will refer to must not go into the trash before the fork is there.
                held.enter_context(alone(self._fs, self._clew_home, "forks"))
            files = self._files(source_id)
            self.keeper.refuse_leaving(files.thread_id)
            self._settle(files)
            with _reading(files):
                return plan_fork(
                    self._home,
                    files,
                    new_id,
                    after_turn=after_turn,
                    before_turn=before_turn,
                    copy=copy,
                    originator=originator,
                    version=version,
                    source=source,
                    clock=self._clock,
                    ids=self._ids,
                )

        with held:
            planned = await anyio.to_thread.run_sync(plan)
            # A new id has no other writer, so no lock is needed.
            path = self._home.new_path(new_id, self._clock.now())
            if not planned.copied:
                await self._write_new(path, planned.lines)
                return

        def write() -> None:
            def fill(draft: Draft) -> None:
                planned.fill(self._home, draft)

            new_rollout(self._fs, path, fill, clock=self._clock, fail=self._fail, known=self._known)

        await anyio.to_thread.run_sync(write)

    async def _write_new(self, path: Path, lines: Sequence[Line]) -> None:
        writer = LogWriter(self._fs, path, self._clock, self._fail, known=self._known)
        try:
            await self._committer.append(writer, lines)
        finally:
            await self._committer.close_writer(writer)

    def _settle(self, files: ThreadFiles) -> None:
        """Make durable what a fork is going to refer to: were its source's last lines lost, others would be written in
        their place, and the fork would inherit those."""
        path = files.current.path
        try:
            for link in lineage(self._home, files.current).links:
                path = link.file.path
                self._known.sync_whole(self._fs, path, self._clock.now())
        except OSError as error:
            raise SyncFailed(path, error.strerror or str(error)) from error
