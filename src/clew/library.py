"""The library of a home: threads that are found, read, named, forked and put away. Nothing here runs a turn."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from clew.clock import Clock
from clew.errors import BadRequest, ClewError, Owner, ThreadNotFound, Unsupported
from clew.history.context import Context
from clew.history.lines import settings_lines
from clew.history.metadata import ThreadMeta, read_meta
from clew.history.rebuilding import rebuild_from
from clew.history.turn_offsets import TurnOffsets
from clew.history.turns import Turn as RecordedTurn
from clew.history.turns import turns_page
from clew.ids import IdSource
from clew.keeping import Keeping
from clew.offload import in_thread
from clew.rollout.offsets import ThreadLog
from clew.settings import Settings
from clew.store.contracts import (
    Catalog,
    Ledger,
    ListQuery,
    LogStore,
    Page,
    SearchPage,
    SearchQuery,
    ThreadSummary,
    TurnPlaces,
)
from clew.store.keeper import Keeper
from clew.store.queries import ShowProgress, Stop
from clew.store.relocations import Move, Relocations

if TYPE_CHECKING:
    from clew.kinship import Branch, Comparison
    from clew.store.checkouts import Candidate, Identity
    from clew.store.index_statistics import IndexStatistics
    from clew.store.space import Space
    from clew.store.stats import Stats, StatsQuery

__all__ = ["Library", "Reverted", "TurnView", "TurnsPage"]

_Answer = TypeVar("_Answer")

_OFFSETS = 32
"""Of how many threads it is remembered where their turns are."""

_LARGE = 1 << 20
"""Bytes of a log from which on it is kept for other processes where its turns are."""

_GROWN = 1 << 22
"""Bytes that a log grew by since then before it is kept again."""


class TurnView(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded turn as a person sees it; `items` are JSON objects with camelCase keys. Times in
    seconds since 1970."""

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


class Reverted(msgspec.Struct, frozen=True, kw_only=True):
    """A thread after it was taken back, and how many turns it lost by that."""

    thread: ThreadSummary
    turns: int


class Library(Keeping):
    """The recorded threads of one home."""

    def __init__(
        self,
        logs: LogStore,
        catalog: Catalog,
        *,
        owner: Owner,
        clock: Clock,
        ids: IdSource,
        version: str,
        ledger: Callable[[], Ledger] | None = None,
        folders: Relocations | None = None,
        keeper: Keeper | None = None,
        places: TurnPlaces | None = None,
        index: Callable[[], IndexStatistics | None] | None = None,
    ) -> None:
        self._logs = logs
        self._catalog = catalog
        self._owner = owner
        self._clock = clock
        self._ids = ids
        self._version = version
        self._ledger = ledger
        self._keeper = keeper
        self._folders = folders
        self._places = places
        self._index = index
        # Where turns are in a log, its version, and how much of it another process would know.
        self._turns_at: dict[str, tuple[object, TurnOffsets, int]] = {}

    # -- finding and reading

    async def summary(self, reference: str) -> ThreadSummary:
        return await in_thread(self._catalog.resolve, reference)

    async def list(self, query: ListQuery) -> Page:
        """A page of summaries. Threads of folders that were moved are found under what these are called now."""
        return await in_thread(self._listed, query)

    def _listed(self, query: ListQuery) -> Page:
        return self._catalog.list(self._with_old_names(query))

    def _with_old_names(self, query: ListQuery) -> ListQuery:
        if query.cwd is None or self._folders is None or query.cwd_also:
            return query
        try:
            return msgspec.structs.replace(query, cwd_also=self._folders.known_as(query.cwd))
        except OSError:
            return query  # what was moved cannot be told; the rest can

    async def search(self, query: SearchQuery, *, progress: ShowProgress | None = None) -> SearchPage:
        """Threads in which the text was found, or with `thread_id` (whatever `summary` takes) the places in one of
        them. Cancelling ends the search; `progress` is called from another thread. Raises `BadRequest`."""
        stopped = threading.Event()

        def search() -> SearchPage:
            wanted = msgspec.structs.replace(query, within=self._with_old_names(query.within))
            if query.thread_id is not None:
                wanted = msgspec.structs.replace(wanted, thread_id=self._catalog.resolve(query.thread_id).id)
            return self._catalog.search(wanted, stop=stopped.is_set, progress=progress)

        try:
            return await in_thread(search, abandon_on_cancel=True)
        finally:
            stopped.set()

    async def stats(self, query: StatsQuery | None = None, *, progress: ShowProgress | None = None) -> Stats:
        """Tokens and turns by day, model, project, …, each turn once, also where forks and sub-agents copied it.
        Threads have their titles with them. Cancelling ends the reading; `progress` is called from another thread.
        Raises `BadRequest`, and `Unsupported` where nobody keeps books."""
        from clew.store.stats import StatsQuery, with_names

        asked = query or StatsQuery()

        def count(ledger: Ledger, stop: Stop) -> Stats:
            wanted = asked
            if asked.thread_id is not None:
                wanted = msgspec.structs.replace(asked, thread_id=self._catalog.resolve(asked.thread_id).id)
            return with_names(ledger.stats(wanted, stop=stop, progress=progress), self._title)

        return await self._from_books("stats", count)

    async def index_statistics(self) -> IndexStatistics | None:
        """How it stands with the index of threads, and what came of asking it in this process; None without one."""
        return None if self._index is None else await in_thread(self._index)

    async def space(self, *references: str, progress: ShowProgress | None = None) -> Space:
        """Where the bytes are, by cause and by thread: of the threads that are named, else of the whole home with all
        that lies in it, and what could be saved by what. Otherwise as `stats`."""

        from clew.store.space import with_titles

        def measure(ledger: Ledger, stop: Stop) -> Space:
            thread_ids = dict.fromkeys(self._catalog.resolve(reference).id for reference in references)
            return with_titles(ledger.space(tuple(thread_ids), stop=stop, progress=progress), self._title)

        return await self._from_books("space", measure)

    async def _from_books(self, name: str, work: Callable[[Ledger, Stop], _Answer]) -> _Answer:
        if self._ledger is None:
            raise Unsupported(name)
        ledger = self._ledger()
        stopped = threading.Event()
        try:
            return await in_thread(lambda: work(ledger, stopped.is_set), abandon_on_cancel=True)
        finally:
            stopped.set()

    def _title(self, thread_id: str) -> str | None:
        try:
            summary = self._catalog.get(thread_id)
        except ClewError:
            return None  # it may be gone by now
        return summary.name or summary.preview

    async def read(
        self, reference: str, *, cursor: str | None = None, limit: int = 25, newest_first: bool = False
    ) -> TurnsPage:
        """A page of recorded turns with their items. Pages from the end of a paginated thread cost what they show."""
        if not 1 <= limit <= 1000:
            raise BadRequest("limit", "give a number from 1 to 1000")
        summary = await self.summary(reference)
        return await in_thread(self._page, summary.id, cursor, limit, newest_first)

    def _page(self, thread_id: str, cursor: str | None, limit: int, newest_first: bool) -> TurnsPage:
        meta = read_meta(self._logs.head(thread_id))
        live = self._live_turn(thread_id)
        kept = self._turns_at.pop(thread_id, None)  # ours alone while we use it
        if kept is None and newest_first and cursor is None and meta.history_mode == "paginated":
            back = self._logs.read_back(thread_id)
            found = turns_page(back, limit=limit, subagent_start=meta.subagent_start, live=live)
            return _turns_page(found.turns, more=found.more)
        log = self._logs.log(thread_id)
        version, offsets, shared = kept or (None, None, 0)
        if offsets is None or version != log.version:
            offsets = self._offsets(log, thread_id, meta)
            shared = offsets.covered(log)
        offsets.extend(log)
        page = offsets.page(log, limit=limit, after=cursor, newest_first=newest_first, live=live)
        if self._places is not None and offsets.covered(log) - shared >= (_GROWN if shared else _LARGE):
            data = offsets.to_bytes(log)
            if data is not None and self._places.put(thread_id, data):
                shared = offsets.covered(log)
        self._turns_at[thread_id] = log.version, offsets, shared
        while len(self._turns_at) > _OFFSETS:
            self._turns_at.pop(next(iter(self._turns_at)), None)
        if page is None:
            raise BadRequest("cursor", "this is no cursor of an earlier page")
        return _turns_page(page.turns, more=page.more)

    def _offsets(self, log: ThreadLog, thread_id: str, meta: ThreadMeta) -> TurnOffsets:
        """What another process found out about a log, else nothing."""
        mode, start = meta.history_mode, meta.subagent_start
        data = None if self._places is None else self._places.get(thread_id)
        known = None if data is None else TurnOffsets.from_bytes(data, log, mode, subagent_start=start)
        return known or TurnOffsets(mode, subagent_start=start)

    def _live_turn(self, thread_id: str) -> str | None:
        """The turn that runs now, here or in the program that holds the thread."""
        working = self._at_work(thread_id)
        if working is not None and working[1]:
            return working[0]
        return self._rebuilt(thread_id).open_turn_id if self._logs.holder(thread_id) is not None else None

    async def fork(
        self,
        reference: str,
        *,
        after_turn: str | None = None,
        before_turn: str | None = None,
        copy: bool = False,
        name: str | None = None,
    ) -> str:
        """A new thread with the history of another (up to and including `after_turn`, or up to `before_turn`); gives
        its id. The source is not touched.

        A turn is named by its id, by its number (1 is the first, -1 the last), or by a beginning of its id that no
        other turn has. `copy`: as a file that needs no other, for old readers, also where a reference would do.
        """
        summary = await self.summary(reference)
        new_id = self._ids.uuid7()
        await self._logs.fork(
            summary.id,
            new_id,
            after_turn=after_turn,
            before_turn=before_turn,
            copy=copy,
            originator=self._owner.program,
            version=self._version,
        )
        if name:
            await self.rename(new_id, name)
        return new_id

    async def revert(self, reference: str, before_turn: str) -> Reverted:
        """Take a thread back to where a turn began (named as for `fork`); what came since stays on disk and is not part
        of it any more. Raises `ThreadBusy` while a turn runs, `Unsupported` for the older history mode (fork it
        instead)."""
        summary = await self.summary(reference)
        self._refuse_at_work(summary.id)
        turns = await self._logs.revert(summary.id, before_turn, self._owner)
        return await self._reverted(summary.id, turns)

    async def restore(self, reference: str) -> Reverted:
        """Undo the last revert of a thread; what was done since is taken back instead. Doing it again undoes that.
        Raises as `revert`, and `BadRequest` for a thread that was never reverted."""
        summary = await self.summary(reference)
        self._refuse_at_work(summary.id)
        turns = await self._logs.restore(summary.id, self._owner)
        return await self._reverted(summary.id, turns)

    async def _reverted(self, thread_id: str, turns: int) -> Reverted:
        self._changed(thread_id)
        return Reverted(thread=await in_thread(self._catalog.get, thread_id), turns=turns)

    # -- folders that were moved

    def _relocated(self, settings: Settings) -> tuple[Settings, tuple[str, ...]]:
        """Recorded settings with the folders where they are now, and what to say about it. Every root becomes one other
        root, so that nothing gets wider."""
        if self._folders is None:
            return settings, ()
        try:
            cwd = self._folders.now(settings.cwd)
            roots = tuple(map(self._folders.now, settings.sandbox.writable_roots))
        except OSError as error:
            return settings, (f"Which folders were moved cannot be read: {error.strerror or error}.",)
        before = (settings.cwd, *settings.sandbox.writable_roots)
        moved = [f"{old} is {new} now" for old, new in zip(before, (cwd, *roots), strict=True) if old != new]
        if not moved:
            return settings, ()
        sandbox = msgspec.structs.replace(settings.sandbox, writable_roots=roots)
        told = f"Moved, as clew relocate was told: {'; '.join(moved)}."
        return msgspec.structs.replace(settings, cwd=cwd, sandbox=sandbox), (told,)

    async def relocate(self, old: str, new: str, *, always: bool = False) -> Move:
        """Threads recorded in `old` (or below) belong to `new` from now on; both are absolute. No log is changed.
        `always`: also while there is a folder `old`. Raises `BadRequest`, `HomeUnwritable`."""
        folders = self._need_folders()
        return await in_thread(lambda: folders.move(old, new, always=always))

    async def undo_relocation(self, old: str) -> Move:
        """The last move of `old` does not count any more. Raises `BadRequest` where there is none."""
        return await in_thread(self._need_folders().undo, old)

    async def relocations(self) -> Sequence[Move]:
        """The moves that were told and not undone, oldest first."""
        return await in_thread(self._need_folders().moves)

    async def find_moved(self, search: Sequence[str] = ()) -> Sequence[Candidate]:
        """Recorded folders that are gone, and checkouts of their repositories among the folders of other threads and
        below those of `search` (absolute). Nothing is changed."""
        return await in_thread(self._candidates, search)

    def _candidates(self, search: Sequence[str]) -> Sequence[Candidate]:
        folders = self._need_folders()
        from clew.store.checkouts import COMMITS, HEADS, Identity, checkouts, find_moved, neighbours

        gone: dict[str, Identity] = {}
        there: dict[str, bool] = {}
        for thread in self._everything():
            if thread.cwd is None or thread.error is not None:
                continue
            now = folders.now(thread.cwd)
            if now not in there:
                there[now] = Path(now).is_dir()
            if there[now]:
                continue
            known = gone.get(now, Identity(folder=now, threads=0))
            commits = known.commits
            # Logs are opened for a few threads alone.
            if len(commits) < COMMITS and known.threads < HEADS:
                try:
                    commit = read_meta(self._logs.head(thread.id)).commit
                except (ClewError, OSError):
                    commit = None
                if commit is not None:
                    commits |= {commit}
            gone[now] = Identity(
                folder=now,
                repository=known.repository or thread.repository,
                commits=commits,
                threads=known.threads + 1,
            )
        checked = (folder for folder, is_there in there.items() if is_there)
        traced = [one for one in gone.values() if one.repository or one.commits]
        beside = (name for one in traced for name in neighbours(one.folder))
        return tuple(find_moved(traced, checkouts((*checked, *beside), search))) if traced else ()

    async def write_folder(self, reference: str) -> bool:
        """Record in a thread's log where its folder is now, so that Codex goes on there, too. Gives whether there was
        something to record. Raises `ThreadBusy`, `ThreadArchived` and what appending raises."""
        summary = await self.summary(reference)
        self._refuse_at_work(summary.id)
        async with self._logs.lease(summary.id, self._owner) as lease:
            recorded = (await in_thread(self._rebuilt, summary.id)).recorded
            if recorded.cwd is None or recorded.sandbox is None:
                return False
            before = Settings(cwd=recorded.cwd, model="", provider="", sandbox=recorded.sandbox)
            after, _ = self._relocated(before)
            if after == before:
                return False
            said = msgspec.structs.replace(recorded, cwd=after.cwd, sandbox=after.sandbox)
            lines = settings_lines(summary.id, said)
            if lines:
                await lease.append(lines)
        self._changed(summary.id)
        return bool(lines)

    def _need_folders(self) -> Relocations:
        if self._folders is None:
            raise Unsupported("relocate", "this library has no home of its own to note it in")
        return self._folders

    # -- how threads hang together

    async def tree(self, reference: str | None = None, *, limit: int | None = None) -> Sequence[Branch]:
        """Threads with those that were forked from them or spawned by them, at any depth: the family of one thread, or
        `limit` families (None: all), those with the newest changes first."""
        of = None if reference is None else (await self.summary(reference)).id

        from clew.kinship import families

        def grow() -> Sequence[Branch]:
            return families(self._everything(), self._after_turn, of=of, limit=limit)

        return await in_thread(grow)

    def _everything(self) -> Iterator[ThreadSummary]:
        query = ListQuery(archived=None, sort="created", ascending=True, limit=1000)
        while True:
            page = self._catalog.list(query)
            yield from page.threads
            if page.next_cursor is None:
                return
            query = msgspec.structs.replace(query, cursor=page.next_cursor)

    def _after_turn(self, thread: ThreadSummary) -> str | None:
        try:
            return self._logs.inherited_turn(thread.id)
        except (ClewError, OSError):
            return None  # what cannot be read is shown all the same

    async def compare(self, left: str, right: str | None = None) -> Comparison:
        """Where two threads part, and what each did after that. `right` None: the thread that `left` was forked from or
        spawned by; the comparison then has that one on its left. Raises `BadRequest` where there is none."""
        one = await self.summary(left)
        if right is None:
            source = one.forked_from or one.parent_id
            if source is None:
                raise BadRequest("threads", f"{one.id} was forked from no other thread: name two")
            one, other = await self.summary(source), one
        else:
            other = await self.summary(right)

        from clew.kinship import compare_logs, descent

        def compare() -> Comparison:
            lines = {thread.id: descent(thread, self._found) for thread in (one, other)}
            return compare_logs(self._logs, one, other, lines)

        return await in_thread(compare)

    def _found(self, thread_id: str) -> ThreadSummary | None:
        try:
            return self._catalog.get(thread_id)
        except ThreadNotFound:
            return None

    def _rebuilt(self, thread_id: str) -> Context:
        head = self._logs.head(thread_id)
        return rebuild_from(lambda passes: self._logs.read_back(thread_id, passes=passes), head)


def _turns_page(found: Sequence[RecordedTurn], *, more: bool) -> TurnsPage:
    views = tuple(
        TurnView(
            id=turn.id,
            status=turn.status,
            items=turn.items,
            started_at=turn.started_at,
            completed_at=turn.completed_at,
            error=turn.error.message if turn.error is not None else None,
        )
        for turn in found
    )
    return TurnsPage(turns=views, next_cursor=views[-1].id if more and views else None)
