"""Keeping threads: marks and names on them, putting families of them away, deleting them with a way back."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from clew.clock import Clock
from clew.config.retention import Retention
from clew.errors import AmbiguousName, ClewError, Owner, ThreadBusy, ThreadNotFound, ThreadProtected
from clew.rollout import FailPoints, Home, ThreadFiles, canonical_id
from clew.store.alone import What, alone, alone_at_once
from clew.store.catalog import HomeCatalog
from clew.store.holds import Holds
from clew.store.kin import heirs_on_disk
from clew.store.moves import all_locked
from clew.store.naming import Naming
from clew.store.queries import ListQuery, Look, ThreadSummary
from clew.store.refusals import refusal
from clew.store.retention import Due, Spared, plan_retention
from clew.store.shelf import Saved, Shelf
from clew.store.trash import Trash, TrashedThread, TrashedThreads

if TYPE_CHECKING:
    from clew.store.cold import ColdWorker

__all__ = ["Keeper"]

_TRIES = 5
"""How often a family that grows while it is being locked is looked at again."""
_SHORTEST_PREFIX = 8


class Keeper:
    """What is done to threads as a whole, in one home. All calls block and belong in a worker thread; ids are whole.

    Writers are never overrun: a thread that anybody writes is `ThreadBusy`, and then nothing was done to any other.
    """

    def __init__(
        self,
        home: Home,
        clew_home: Path,
        catalog: HomeCatalog,
        shelf: Shelf,
        *,
        owner: Owner,
        clock: Clock,
        fail: FailPoints,
    ) -> None:
        self._home = home
        self._clew_home = clew_home
        self._catalog = catalog
        self._owner = owner
        self._clock = clock
        self._fail = fail
        self._trash = Trash(home, clew_home, owner=owner, clock=clock, fail=fail, find=self._still_there)
        self._naming = Naming(home, shelf, clock=clock, fail=fail)
        self.shelf = shelf

    # -- names

    def save(self, thread_id: str, name: str) -> Saved:
        """Let a name lead to the thread; see `Naming.save`. Raises `ThreadNotFound`."""
        with self._catalog.steady():
            return self._naming.save(self._catalog.get(thread_id), name)

    def forget_name(self, name: str) -> str:
        """Take a saved name away; gives the thread it led to. Raises `ThreadNotFound`."""
        had = self._naming.forget(name)
        if had is None:
            raise ThreadNotFound(name)
        return had

    # -- the archive

    def archive(self, thread_id: str, *, only: bool = False) -> Sequence[str]:
        """Put a thread away with all that it spawned (`only`: alone); gives the ids of those that were moved, the
        thread's own first. A crash leaves each of them whole, here or there; the same call again completes it."""
        with self._family((thread_id,), only=only) as family, self._refusals(thread_id):
            return tuple(one for one in family if self._catalog.moves.archive(one))

    def unarchive(self, thread_id: str, *, only: bool = False) -> Sequence[str]:
        """Take a thread out of the archive with all that it spawned; the rest as for `archive`."""
        with self._family((thread_id,), only=only) as family, self._refusals(thread_id):
            return tuple(one for one in family if self._catalog.moves.unarchive(one))

    # -- the trash

    def delete(
        self,
        thread_ids: Collection[str],
        *,
        with_forks: bool = False,
        why: str | None = None,
    ) -> TrashedThreads:
        """Move threads, with all that they spawned, into the trash: all of them or none.

        Raises `ThreadProtected` for one that is pinned, or that a thread outside inherits from; `with_forks` deletes
        those, too.
        """
        self.settle()
        held = self._family(thread_ids, forks=with_forks, look="folders")
        with self._alone("forks"), self._alone("trash"), held as family:
            files = self._protect(family)
            threads = [self._told(one) for one in family]
            with self._refusals(threads[0].id):
                return self._trash.put(threads, files, why)

    def dependants(self, thread_ids: Collection[str]) -> Sequence[str]:
        """What would go with these threads if they were deleted: all that they spawned. Raises `ThreadProtected` as
        `delete` does."""
        family = self._members(thread_ids, forks=False, only=False)
        self._protect(family)
        return tuple(one for one in family if one not in thread_ids)

    def _protect(self, family: Collection[str]) -> Mapping[str, ThreadFiles]:
        """The files of these threads, none of which is to be kept."""
        marks = self.shelf.marks(strict=True)
        for one in family:
            if one in marks and marks[one].pinned:
                raise ThreadProtected(one, pinned=True)
        files = {one: self._files(one) for one in family}
        if self._heirs_of(files.values(), family):
            for one in family:
                if heirs := self._heirs_of((files[one],), family):
                    raise ThreadProtected(one, heirs)
        return files

    def _heirs_of(self, files: Iterable[ThreadFiles], family: Collection[str]) -> list[str]:
        heirs = self._catalog.heirs([file.name.rollout_id for one in files for file in one.segments])
        return [heir for heir in heirs if heir not in family]

    def _files(self, thread_id: str) -> ThreadFiles:
        files = self._catalog.find(thread_id)
        if files is None:
            raise ThreadNotFound(thread_id)
        return files

    def _still_there(self, thread_id: str) -> ThreadFiles | None:
        return self._catalog.find(thread_id, absent=True)

    def _told(self, thread_id: str) -> TrashedThread:
        thread = self._catalog.get(thread_id)
        return TrashedThread(
            id=thread.id, title=title_of(thread), archived=thread.archived, parent=_shown_id(thread.parent_id)
        )

    def trash(self) -> Sequence[TrashedThreads]:
        """What can be restored, newest first."""
        self.settle()
        return self._listed()

    def _listed(self) -> Sequence[TrashedThreads]:
        with self._refusals(""):
            return self._trash.list()

    def find_trashed(self, reference: str) -> TrashedThreads:
        """The entry for its own id, or for a thread in it: id, beginning of one (8 characters), title or saved name;
        `last` is the newest. Raises `ThreadNotFound`, `AmbiguousName`."""
        entries, wanted = self.trash(), reference.strip()
        if wanted == "last" and entries:
            return entries[0]
        whole = canonical_id(wanted)
        saved = self.shelf.thread_saved_as(wanted)

        def fits(entry: TrashedThreads) -> bool:
            return entry.id == wanted or any(
                thread.id in (whole, saved)
                or (thread.title is not None and thread.title == wanted)
                or (len(wanted) >= _SHORTEST_PREFIX and thread.id.startswith(wanted.lower()))
                for thread in entry.threads
            )

        found = [entry for entry in entries if fits(entry)] if wanted else []
        if not found:
            raise ThreadNotFound(reference)
        if len(found) > 1:
            raise AmbiguousName(reference, [entry.id for entry in found])
        return found[0]

    def restore(self, trash_id: str) -> Sequence[TrashedThreads]:
        """Put back what one call deleted, as it was; before it, whatever in the trash its threads inherit from. Gives
        what came back. Raises `ThreadNotFound`, `ThreadInTheWay`, `ThreadBusy`."""
        self.settle()
        with self._alone("trash"):
            return self._restore(trash_id)

    def _restore(self, trash_id: str) -> Sequence[TrashedThreads]:
        entries = {entry.id: entry for entry in self._listed()}
        if trash_id not in entries:
            raise ThreadNotFound(trash_id)
        wanted = [entries.pop(trash_id)]
        for entry in wanted:
            bases = {file.base for file in entry.files if file.base is not None}
            held = [other for other in entries.values() if bases & set(other.rollout_ids)]
            wanted += [entries.pop(other.id) for other in held]
        restored: list[TrashedThreads] = []
        for entry in reversed(wanted):
            locks = self._locked(entry.thread_ids)
            with locks, self._catalog.steady("folders"), self._refusals(entry.thread_ids[0]):
                restored.append(self._trash.restore(entry.id))
        return tuple(restored)

    def empty(self, trash_ids: Iterable[str]) -> Sequence[TrashedThreads]:
        """Remove what lies in the trash for good, with its marks; gives what went. Raises `ThreadNotFound`, and
        `ThreadProtected` when a thread that is there, or stays in the trash, inherits from one of it: then nothing was
        done."""
        self.settle()
        with self._alone("trash"):
            return self._empty(trash_ids)

    def _empty(self, trash_ids: Iterable[str]) -> Sequence[TrashedThreads]:
        entries = {entry.id: entry for entry in self._listed()}
        order = {trash_id: place for place, trash_id in enumerate(entries)}
        wanted: list[TrashedThreads] = []
        for trash_id in dict.fromkeys(trash_ids):
            if trash_id not in entries:
                raise ThreadNotFound(trash_id)
            wanted.append(entries.pop(trash_id))
        # What goes for good is held against the disk, whatever an index says; once for all, as it reads every head.
        inherited = heirs_on_disk(self._home, [one for entry in wanted for one in entry.rollout_ids])
        for entry in wanted:
            self._protect_trashed(entry, entries.values(), inherited)
        # Whoever inherits from a thread was deleted before it, and goes before it: a crash leaves none without it.
        for entry in sorted(wanted, key=lambda one: order[one.id], reverse=True):
            with self._locked(entry.thread_ids), self._refusals(entry.thread_ids[0]):
                self._trash.empty(entry.id)
        gone = [one for entry in wanted for one in entry.thread_ids]
        staying = {one for entry in self._trash.list() for one in entry.thread_ids}
        self.shelf.forget(one for one in gone if one not in staying and self._home.find(one) is None)
        return tuple(wanted)

    def _protect_trashed(
        self, entry: TrashedThreads, staying: Iterable[TrashedThreads], inherited: Sequence[str]
    ) -> None:
        heirs = list(heirs_on_disk(self._home, entry.rollout_ids)) if inherited else []
        for other in staying:
            if {file.base for file in other.files} & set(entry.rollout_ids):
                heirs += other.thread_ids
        if heirs:
            raise ThreadProtected(entry.thread_ids[0], heirs)

    def settle(self) -> None:
        """Complete what killed programs began to delete, to restore or to remove."""
        with self._refusals(""):
            if self._trash.unfinished():
                with alone_at_once(self._home.fs, self._clew_home, "trash") as got:
                    if got:
                        self._trash.settle()

    def refuse_leaving(self, thread_id: str) -> None:
        """Raise `ThreadBusy` for a thread that a killed program was moving into the trash, and that cannot be brought
        there now. For whoever has `forks` to itself."""
        with contextlib.suppress(OSError):  # what cannot be read lets nobody delete
            if self._trash.is_leaving(thread_id):
                self.settle()
                if self._trash.is_leaving(thread_id):
                    raise ThreadBusy(thread_id)

    def _alone(self, what: What) -> contextlib.AbstractContextManager[None]:
        return alone(self._home.fs, self._clew_home, what)

    # -- retention

    def due(self, retention: Retention) -> tuple[Sequence[Due], Sequence[Spared]]:
        """What the rules would do now, and what they would do if it were not kept; reads every summary."""
        threads: list[ThreadSummary] = []
        query = ListQuery(archived=None, limit=1000)
        while True:
            page = self._catalog.list(query)
            threads += page.threads
            if page.next_cursor is None:
                break
            query = msgspec.structs.replace(query, cursor=page.next_cursor)
        self.shelf.marks(strict=True)  # without them, pinned threads would look like others
        due, spared = plan_retention(
            threads,
            retention,
            now=datetime.fromtimestamp(self._clock.now(), UTC),
            held=Holds(self._home.fs, self._home.path, self._clew_home).holders(),
            packed={file.thread_id for file in self._home.files() if file.compressed},
        )
        kept, going = list(spared), list[Due]()
        known = {thread.id: thread for thread in threads}
        for one in due:
            family = (one.thread.id, *one.also)
            files = [self._files(each) for each in family if each in known] if one.action == "trash" else []
            heirs = self._heirs_of(files, family) if files else []
            if heirs:
                why = f"{heirs[0]} was forked from it and reads its lines"
                kept.append(Spared(thread=one.thread, rule=one.rule, why=why))
            else:
                going.append(one)
        return tuple(going), tuple(kept)

    def do(self, one: Due) -> Due:
        """Archive or trash what is due; gives it with what kept it from being done, if anything did."""
        try:
            if one.action == "archive":
                self.archive(one.thread.id)
            elif one.action == "trash":
                self.delete([one.thread.id], why=f"retention: {one.rule}")
        except ClewError as error:
            return msgspec.structs.replace(one, failed=str(error))
        return one

    def cold_worker(self) -> ColdWorker:
        """What compresses threads of this home."""
        from clew.store.cold import ColdWorker  # takes a while to load

        return ColdWorker(self._home, self._clew_home, owner=self._owner, clock=self._clock, fail=self._fail)

    # -- families

    @contextlib.contextmanager
    def _family(
        self, thread_ids: Collection[str], *, forks: bool = False, only: bool = False, look: Look = "others"
    ) -> Generator[Sequence[str]]:
        """These threads with all that belongs to them, and the locks of all. What is known of them tells which to lock;
        what they spawned meanwhile is found when they are looked at under their locks."""
        with self._catalog.steady():
            family = self._members(thread_ids, forks=forks, only=only)
        for _ in range(_TRIES):
            with self._locked(family), self._catalog.steady(look):
                now = self._members(thread_ids, forks=forks, only=only)
                if set(now) <= set(family):
                    yield now
                    return
            family = now
        with self._locked(family), self._catalog.steady(look):
            yield family

    def _members(self, thread_ids: Collection[str], *, forks: bool, only: bool) -> Sequence[str]:
        found = dict.fromkeys(self._files(one).thread_id for one in thread_ids)
        fresh = [] if only else list(found)
        while fresh:
            for one in fresh:
                found.update(dict.fromkeys(self._catalog.descendants(one)))
            fresh = self._heirs_of(map(self._files, found), found) if forks else []
            found.update(dict.fromkeys(fresh))
        return tuple(found)

    def _locked(self, thread_ids: Iterable[str]) -> contextlib.AbstractContextManager[None]:
        return all_locked(self._home, self._clew_home, thread_ids, self._owner)

    @contextlib.contextmanager
    def _refusals(self, thread_id: str) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise refusal(error, self._home.path, thread_id) from error


def title_of(thread: ThreadSummary) -> str | None:
    """What a person knows a thread by: its name, else what it began with, on one line."""
    words = " ".join((thread.name or thread.preview or "").split())
    return words[:_TITLE] or None


def _shown_id(text: str | None) -> str | None:
    return canonical_id(text) if text else None


_TITLE = 200
