"""`clew repair`: named surgeries, each under the lock, with a backup, held against a check, and undone on request."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from clew.clock import Clock
from clew.errors import BadRequest, ClewError, Owner, ThreadNotFound
from clew.rollout import FailPoints, FileSystem, Home, RolloutName, ThreadFiles, WriterLock
from clew.store.backups import Backup, Change, backups, commit, read_backup, undo
from clew.store.checking import Checker
from clew.store.findings import CODES, Finding, finding
from clew.store.home_check import HomeCheck, find_stale, held_lock
from clew.store.repair.bases import reattach_base
from clew.store.repair.lines import drop_torn_tail, renumber, split_foreign_tail
from clew.store.repair.room import Room
from clew.store.repair.surroundings import drop_stale_locks, rebuild_names

__all__ = ["REPAIRS", "Repair", "RepairPlan", "Repaired", "Repairs"]

LOCK_SECONDS = 5.0
_PASSING = frozenset({"stale-lock", "stale-owner", "mode-too-wide"})


class Repair(NamedTuple):
    """A surgery. `per_thread`: it works on one thread at a time, under its writer lock; else on the home."""

    name: str
    summary: str
    per_thread: bool

    @property
    def codes(self) -> frozenset[str]:
        """The findings it helps against."""
        return frozenset(code for code, known in CODES.items() if known.repair == self.name)


REPAIRS = {
    repair.name: repair
    for repair in (
        Repair("drop-torn-tail", "Cut an unfinished last line off.", True),
        Repair("renumber", "Number the lines of a thread anew, without gaps.", True),
        Repair("reattach-base", "Find the base of a fork, or correct where it ends.", True),
        Repair("split-foreign-tail", "Give lines of another thread a file of their own.", True),
        Repair("rebuild-names", "Leave unreadable and orphaned rows out of the names.", False),
        Repair("drop-stale-locks", "Remove locks and owner records that nobody holds.", False),
    )
}
"""All surgeries by name."""

_ON_THREADS: dict[str, Callable[[Room, ThreadFiles], list[Change]]] = {
    "drop-torn-tail": drop_torn_tail,
    "renumber": renumber,
    "reattach-base": reattach_base,
    "split-foreign-tail": split_foreign_tail,
}
_ON_HOME: dict[str, Callable[[Room], list[Change]]] = {
    "rebuild-names": rebuild_names,
    "drop-stale-locks": drop_stale_locks,
}


class RepairPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a surgery would do, step by step in words; no steps: nothing is to be done. `thread_id` None: the home."""

    repair: str
    thread_id: str | None
    steps: tuple[str, ...]


class Repaired(msgspec.Struct, frozen=True, kw_only=True):
    """What was done. `stamp` names the backup for `undo`, None when nothing was to be done; `left` are the errors and
    warnings that a check still finds."""

    repair: str
    thread_id: str | None
    steps: tuple[str, ...]
    stamp: str | None = None
    backup: str | None = None
    left: tuple[Finding, ...] = ()


class Repairs:
    """Surgeries in one home. Every call blocks and belongs in a worker thread."""

    def __init__(
        self,
        fs: FileSystem,
        codex_home: Path,
        clew_home: Path,
        *,
        clock: Clock,
        owner: Owner,
        fail: FailPoints | None = None,
    ) -> None:
        self._fs = fs
        self._home = Home(fs, codex_home)
        self._clew_home = clew_home
        self._clock = clock
        self._owner = owner
        self._fail = fail or FailPoints()
        self._room = Room(self._home, clew_home, clock)

    def candidates(self, name: str) -> list[str | None]:
        """The threads in which a check finds what this surgery helps against; `[None]` for one on the home."""
        repair = _known(name)
        if not repair.per_thread:
            return [None]
        found = (each.thread_id for each in self._checker().home() if each.repair == name)
        return list(dict.fromkeys(thread_id for thread_id in found if thread_id is not None))

    def plan(self, name: str, thread_id: str | None = None) -> RepairPlan:
        """What `apply` would do now. Nothing is locked or changed. Raises as `apply`."""
        changes = self._changes(_known(name), thread_id)
        return RepairPlan(repair=name, thread_id=thread_id, steps=tuple(change.what for change in changes))

    def apply(self, name: str, thread_id: str | None = None) -> Repaired:
        """Do it: under the lock, with a backup of every file, and a check afterwards.

        Raises `BadRequest` for an unknown surgery or thread, `ThreadBusy`, `Unsupported` with the reason why this
        surgery must not be done, `LogReplaced`, `OSError`. Where the check finds new errors, everything is put back and
        `ClewError` raised.
        """
        repair = _known(name)
        changes = self._changes(repair, thread_id)
        if not changes:
            return Repaired(repair=name, thread_id=thread_id, steps=())
        touched = self._threads(thread_id, changes) if repair.per_thread else ()
        with self._locked(repair.name, touched):
            # Others may have been faster.
            changes = self._changes(repair, thread_id, locked=True)
            if not changes:
                return Repaired(repair=name, thread_id=thread_id, steps=())
            before = self._found(repair, (thread_id,))
            backup = commit(
                self._fs,
                self._clew_home,
                name,
                changes,
                thread_ids=touched,
                clock=self._clock,
                fail=self._fail,
            )
            # A thread that was split off may have troubles of its own.
            worse = _kinds(self._found(repair, (thread_id,))) - _kinds(before)
            if worse:
                undo(self._fs, self._clew_home, backup.name, fail=self._fail)
                raise ClewError(
                    f"{name} would have made it worse ({', '.join(sorted(worse))}); everything is as it was",
                    hint="Please report this.",
                    thread_id=thread_id,
                )
            left = self._found(repair, touched or (None,))
        return Repaired(
            repair=name,
            thread_id=thread_id,
            steps=tuple(change.what for change in changes),
            stamp=backup.stamp,
            backup=str(self._clew_home / "backups" / backup.name),
            left=tuple(left),
        )

    def undo(self, stamp: str) -> Backup:
        """Put the originals of a backup back. Raises `BadRequest`, `ThreadBusy`, `Unsupported` with the reason."""
        backup = read_backup(self._fs, self._clew_home, stamp)
        with self._locked(backup.repair, backup.thread_ids):
            return undo(self._fs, self._clew_home, backup.name, fail=self._fail)

    def backups(self) -> list[Backup]:
        """What can be undone and what was, oldest first."""
        return list(backups(self._fs, self._clew_home))

    # -- inside -------------------------------------------------------------------------------------------------------

    def _changes(self, repair: Repair, thread_id: str | None, *, locked: bool = False) -> list[Change]:
        if repair.per_thread:
            if thread_id is None:
                raise BadRequest("thread", f"{repair.name} works on a thread; name it")
            files = self._home.find(thread_id)
            if files is None:
                raise ThreadNotFound(thread_id)
            return _ON_THREADS[repair.name](self._room, files)
        if thread_id is not None:
            raise BadRequest("thread", f"{repair.name} works on the whole home; name no thread")
        if repair.name == "drop-stale-locks" and not locked:
            with self._locked(repair.name, ()):
                return _ON_HOME[repair.name](self._room)
        return _ON_HOME[repair.name](self._room)

    def _threads(self, thread_id: str | None, changes: Iterable[Change]) -> tuple[str, ...]:
        """The threads whose files are touched, the new ones too."""
        names = [RolloutName.parse(change.path.name) for change in changes]
        found = {name.thread_id for name in names if name is not None}
        return tuple(sorted(found | ({thread_id} if thread_id is not None else set())))

    @contextlib.contextmanager
    def _locked(self, repair: str, thread_ids: Sequence[str]) -> Generator[None]:
        with contextlib.ExitStack() as stack:
            for thread_id in sorted(thread_ids):
                lock = WriterLock.acquire(self._home, self._clew_home, thread_id, self._owner)
                stack.callback(lock.release)
            shared = {
                "rebuild-names": self._home.session_index.with_name("session_index.jsonl.lock"),
                "drop-stale-locks": self._home.coordination_lock,
            }.get(repair)
            if shared is not None:
                create = _there(self._fs, shared.parent)
                if not stack.enter_context(held_lock(self._fs, shared, LOCK_SECONDS, create=create)):
                    raise ClewError(
                        f"another program holds {shared}", hint="Try again in a moment, or close that program."
                    )
            yield

    def _found(self, repair: Repair, thread_ids: Sequence[str | None]) -> list[Finding]:
        """Errors and warnings that a check finds where the surgery works; the locks are held."""
        wanted = [thread_id for thread_id in thread_ids if thread_id is not None]
        found = self._checker().some(wanted) if wanted else self._around(repair)
        # While a thread is repaired, its lock and its owner record are ours.
        passing = _PASSING if repair.per_thread else frozenset[str]()
        return [each for each in found if each.severity != "info" and each.code not in passing]

    def _around(self, repair: Repair) -> Iterator[Finding]:
        if repair.name == "drop-stale-locks":
            for stale in find_stale(self._home, self._clew_home):
                yield finding(stale.code, stale.why, thread_id=stale.thread_id, path=str(stale.path))
            return
        known = {file.thread_id for file in self._home.files()}
        yield from HomeCheck(self._home, self._clew_home, known, self._clock).names()

    def _checker(self) -> Checker:
        return Checker(self._home, self._clew_home, clock=self._clock)


def _known(name: str) -> Repair:
    repair = REPAIRS.get(name)
    if repair is None:
        raise BadRequest("repair", f"there is none called {name!r}; there are {', '.join(REPAIRS)}")
    return repair


def _there(fs: FileSystem, folder: Path) -> bool:
    try:
        return fs.stat(folder).is_dir
    except OSError:
        return False


def _kinds(findings: Iterable[Finding]) -> set[str]:
    return {found.code for found in findings if found.severity == "error"}
