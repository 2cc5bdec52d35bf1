"""Keeping threads: names and marks on them, the archive, the trash. The part of a library that moves and marks whole
threads; see `clew.library`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import msgspec

from clew.config.retention import Retention
from clew.errors import BadRequest, ClewError, Owner, ThreadBusy, Unsupported
from clew.offload import in_thread
from clew.rollout import canonical_id
from clew.store.contracts import Catalog, ThreadSummary
from clew.store.keeper import Keeper
from clew.store.queries import Marks
from clew.store.retention import Due, Spared
from clew.store.shelf import Saved
from clew.store.trash import TrashedThreads

__all__ = ["Due", "Filed", "Keeping", "Marks", "RetentionReport", "Saved", "Spared", "TrashedThreads"]

T = TypeVar("T")


class Filed(msgspec.Struct, frozen=True, kw_only=True):
    """A thread that was put into the archive or taken out, as it is now; `also` are the ids of those it spawned that
    were moved with it."""

    thread: ThreadSummary
    also: tuple[str, ...] = ()


class RetentionReport(msgspec.Struct, frozen=True, kw_only=True):
    """What rules do (`applied`: did), and what fits one and is kept."""

    due: tuple[Due, ...]
    spared: tuple[Spared, ...]
    applied: bool = False


class Keeping:
    """What is done to the threads of a home as a whole. A thread is meant by its id, the beginning of one, a name, or
    `last`; what has none is `ThreadNotFound`, what fits several `AmbiguousName`."""

    _catalog: Catalog
    _owner: Owner
    _keeper: Keeper | None

    def _at_work(self, thread_id: str) -> tuple[str, bool] | None:
        """The turn that was asked for in this process, and whether it runs already."""
        return None

    def _changed(self, thread_id: str) -> None:
        """What is known of a thread's content does not hold any more."""

    def _refuse_at_work(self, thread_id: str) -> None:
        if (working := self._at_work(thread_id)) is not None:
            raise ThreadBusy(thread_id, replace(self._owner, turn=working[0]))

    async def _meant(self, reference: str) -> ThreadSummary:
        return await in_thread(self._looked_up, reference)

    def _looked_up(self, reference: str) -> ThreadSummary:
        if canonical_id(reference.strip()) is None:
            return self._catalog.resolve(reference)
        # An id means one thread, whatever became of others.
        with self._catalog.steady():
            return self._catalog.resolve(reference)

    async def _kept(self, call: Callable[[Keeper], T]) -> T:
        keeper = self._keeper
        if keeper is None:
            raise Unsupported("keeping threads", "this store has no place for marks and deleted threads")
        return await in_thread(call, keeper)

    # -- names and marks

    async def rename(self, reference: str, name: str | None) -> ThreadSummary:
        """Give the thread its title (None: take it away)."""
        thread_id = (await self._meant(reference)).id

        def rename() -> ThreadSummary:
            with self._catalog.steady("others"):
                self._catalog.rename(thread_id, name)
                return self._catalog.get(thread_id)

        return await in_thread(rename)

    async def save(self, name: str, reference: str = "last") -> Saved:
        """Save a thread under a name, which leads to it from now on and not to the one it led to (`moved_from`). A
        thread may have several such names; the newest becomes its title. Raises `BadRequest` for what cannot be a name,
        `LogDamaged` for a `saved_sessions.json` that cannot be read."""
        summary = await self._meant(reference)
        return await self._kept(lambda keeper: keeper.save(summary.id, name))

    async def forget_name(self, name: str) -> str:
        """Take a saved name away; gives the id of the thread it led to. Raises `ThreadNotFound`."""
        return await self._kept(lambda keeper: keeper.forget_name(name))

    async def marks(self, reference: str) -> Marks:
        summary = await self._meant(reference)
        return await self._kept(lambda keeper: keeper.shelf.marks_of(summary.id))

    async def tag(self, reference: str, *tags: str) -> Marks:
        """Put tags on a thread; gives its marks. Raises `BadRequest` for what cannot be a tag."""
        summary = await self._meant(reference)
        return await self._kept(lambda keeper: keeper.shelf.tag(summary.id, tags))

    async def untag(self, reference: str, *tags: str) -> Marks:
        summary = await self._meant(reference)
        return await self._kept(lambda keeper: keeper.shelf.untag(summary.id, tags))

    async def pin(self, reference: str) -> Marks:
        """A pinned thread is neither deleted nor touched by retention."""
        summary = await self._meant(reference)
        return await self._kept(lambda keeper: keeper.shelf.pin(summary.id))

    async def unpin(self, reference: str) -> Marks:
        summary = await self._meant(reference)
        return await self._kept(lambda keeper: keeper.shelf.unpin(summary.id))

    async def note(self, reference: str, text: str | None) -> Marks:
        """Put a note on a thread in the place of the one before (None: take it away)."""
        summary = await self._meant(reference)
        return await self._kept(lambda keeper: keeper.shelf.note(summary.id, text))

    # -- the archive

    async def archive(self, reference: str, *, only: bool = False) -> Filed:
        """Put a thread away with all that it spawned (`only`: alone). Raises `ThreadBusy` while anybody writes one of
        them; then none was moved."""
        summary = await self._meant(reference)
        self._refuse_at_work(summary.id)
        moved = await self._kept(lambda keeper: keeper.archive(summary.id, only=only))
        return await self._filed(summary.id, moved)

    async def unarchive(self, reference: str, *, only: bool = False) -> Filed:
        """Take a thread out of the archive with all that it spawned (`only`: alone)."""
        summary = await self._meant(reference)
        moved = await self._kept(lambda keeper: keeper.unarchive(summary.id, only=only))
        return await self._filed(summary.id, moved)

    async def _filed(self, thread_id: str, moved: Sequence[str]) -> Filed:
        for one in moved:
            self._changed(one)
        thread = await in_thread(self._known, thread_id)
        return Filed(thread=thread, also=tuple(one for one in moved if one != thread_id))

    def _known(self, thread_id: str) -> ThreadSummary:
        with self._catalog.steady():
            return self._catalog.get(thread_id)

    # -- the trash

    async def delete(self, *references: str, with_forks: bool = False, why: str | None = None) -> TrashedThreads:
        """Move threads with all that they spawned into the trash: all of them or none.

        Raises `ThreadBusy` while anybody writes one of them, `ThreadProtected` for one that is pinned or that others
        were forked from (`with_forks`: those are deleted, too).
        """
        if not references:
            raise BadRequest("thread", "which one?")
        wanted = list(dict.fromkeys([(await self._meant(reference)).id for reference in references]))
        for one in wanted:
            self._refuse_at_work(one)
        trashed = await self._kept(lambda keeper: keeper.delete(wanted, with_forks=with_forks, why=why))
        for one in trashed.thread_ids:
            self._changed(one)
        return trashed

    async def trash(self) -> Sequence[TrashedThreads]:
        """What was deleted and can be restored, newest first."""
        return await self._kept(lambda keeper: keeper.trash())

    async def undelete(self, reference: str = "last") -> Sequence[TrashedThreads]:
        """Put back what one call deleted, as it was; `reference` is its id, or any of its threads. What its threads
        inherit from comes back with them. Raises `ThreadInTheWay` where one of the same id is there."""
        return await self._kept(lambda keeper: keeper.restore(keeper.find_trashed(reference).id))

    async def empty_trash(self, trash_ids: Iterable[str] | None = None) -> Sequence[TrashedThreads]:
        """Remove what was deleted for good: these entries, or all. Raises `ThreadProtected` for one that a thread which
        stays inherits from; then nothing was removed."""

        def empty(keeper: Keeper) -> Sequence[TrashedThreads]:
            wanted = [entry.id for entry in keeper.trash()] if trash_ids is None else list(trash_ids)
            return keeper.empty(wanted)

        return await self._kept(empty)

    # -- retention

    async def retention(self, rules: Retention, *, apply: bool = False) -> RetentionReport:
        """What the rules of a configuration would do; with `apply`, it is done. Nothing is removed: what goes lies in
        the trash. What one thread refuses does not keep the others from it."""
        due, spared = await self._kept(lambda keeper: keeper.due(rules))
        if not apply:
            return RetentionReport(due=tuple(due), spared=tuple(spared))
        done: list[Due] = []
        for one in due:
            if one.action == "compress":
                done.append(await self._compressed(one))
                continue
            done.append(await self._kept(partial(_done, one)))
            for each in (one.thread.id, *one.also):
                self._changed(each)
        return RetentionReport(due=tuple(done), spared=tuple(spared), applied=True)

    async def _compressed(self, one: Due) -> Due:
        from clew.store.cold import ColdRules

        worker = await self._kept(lambda keeper: keeper.cold_worker())
        try:
            report = await worker.compress(ColdRules(older_than=0), only=(one.thread.id,))
        except ClewError as error:
            return msgspec.structs.replace(one, failed=str(error))
        left = [outcome for outcome in report.of("skipped", "failed") if outcome.reason != "compressed"]
        return msgspec.structs.replace(one, failed=left[0].message or left[0].reason) if left else one


def _done(one: Due, keeper: Keeper) -> Due:
    return keeper.do(one)
