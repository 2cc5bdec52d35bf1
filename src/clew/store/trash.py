"""Deleted threads, until somebody empties the trash: their files as they were, and a journal of what was done.

    $CLEW_HOME/trash.jsonl                                        who deleted what, when, why, and from where
    $CLEW_HOME/trash/20260701T120000.123Z-0-rollout-….jsonl       the files

Where `$CLEW_HOME` lies on another disk than the threads, their files go to `$CODEX_HOME/.clew-trash`: moving must not
copy, and Codex does not look there. Every change is begun by a row that is durable before the first file moves, and
ended by another, which may be lost: what a crash cut off, or seems to have, is completed by the next call.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec

from clew.clock import Clock, utc_stamp
from clew.errors import ClewError, Owner, ThreadBusy, ThreadInTheWay, ThreadNotFound
from clew.rollout import FailPoints, Home, RolloutFile, RolloutName, ThreadFiles, canonical_id, parse_head, read_head
from clew.store.journal import Journal, Place
from clew.store.moves import Moves, all_locked

__all__ = ["Trash", "TrashRow", "TrashedFile", "TrashedThread", "TrashedThreads"]

State = Literal["delete", "deleted", "restore", "restored", "empty", "emptied"]

_STAMP = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{3}Z(?:\.[0-9]{1,6})?")
_UNFINISHED = ("delete", "restore", "empty")
_GONE = ("restored", "emptied")


class TrashedThread(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A thread that was deleted, as it was then: what it was called or began with, whether it was archived, and who
    spawned it."""

    id: str
    title: str | None = None
    archived: bool = False
    parent: str | None = None


class TrashedFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file of one: where it was, from the home on, how many bytes it has, and the last id in the name of the file it
    inherits from."""

    path: str
    size: int = 0
    base: str | None = None


class TrashRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step. `do`: `delete` (with what is in it), `deleted`, `restore`, `restored`, `empty`, `emptied`; the first of
    each pair is written before anything moves. `kept`: `clew` or `codex`, by whose home the files lie."""

    at: str
    by: str
    trash: str
    do: str
    home: str | None = None
    kept: Literal["clew", "codex"] = "clew"
    why: str | None = None
    threads: tuple[TrashedThread, ...] = ()
    files: tuple[TrashedFile, ...] = ()


class TrashedThreads(msgspec.Struct, frozen=True, kw_only=True):
    """What one call deleted. `id` names it; `threads` has those that were asked for first, then those that went with
    them. `size` in bytes; times are RFC 3339 UTC."""

    id: str
    deleted_at: str
    by: str
    threads: tuple[TrashedThread, ...]
    files: tuple[TrashedFile, ...]
    size: int
    why: str | None = None

    @property
    def thread_ids(self) -> tuple[str, ...]:
        return tuple(thread.id for thread in self.threads)

    @property
    def rollout_ids(self) -> tuple[str, ...]:
        """The files by the last ids of their names."""
        names = (RolloutName.parse(PurePosixPath(file.path).name) for file in self.files)
        return tuple(name.rollout_id for name in names if name is not None)


class _Entry:
    def __init__(self, row: TrashRow) -> None:
        self.row = row
        self.state = row.do

    def told(self) -> TrashedThreads:
        row = self.row
        return TrashedThreads(
            id=row.trash,
            deleted_at=row.at,
            by=row.by,
            threads=row.threads,
            files=row.files,
            size=sum(file.size for file in row.files),
            why=row.why,
        )


class Trash:
    """The trash of one home. Whoever changes it has the writer locks of the threads meanwhile, as while writing.
    `find` gives the files that a thread has in the home now."""

    def __init__(
        self,
        home: Home,
        clew_home: Path,
        *,
        owner: Owner,
        clock: Clock,
        fail: FailPoints,
        find: Callable[[str], ThreadFiles | None],
    ) -> None:
        self._home = home
        self._find = find
        self._clew_home = clew_home
        self._owner = owner
        self._clock = clock
        self._fail = fail
        self._journal = Journal(home.fs, clew_home / "trash.jsonl", TrashRow, fail=fail)
        self._moves = Moves(home, clock=clock, fail=fail)
        self._lock = threading.RLock()
        self._place: Place | None = None
        self._entries: dict[str, _Entry] = {}
        self.damaged = 0

    # -- what is in it

    def list(self) -> Sequence[TrashedThreads]:
        """What can be restored, newest first. Raises `OSError` when the journal is there and cannot be read."""
        with self._lock:
            self._refresh()
            return tuple(
                entry.told() for entry in reversed(self._entries.values()) if entry.state not in ("delete", *_GONE)
            )

    def _refresh(self) -> None:
        replay = self._journal.read(self._place)
        if replay.afresh:
            self._entries, self.damaged = {}, 0
        self.damaged += replay.damaged
        for row in replay.rows:
            if row.do == "delete":
                if row.home == str(self._home.path) and _sound(row):
                    self._entries.setdefault(row.trash, _Entry(row))
            elif (entry := self._entries.get(row.trash)) is not None and entry.state not in _GONE:
                entry.state = row.do
        self._place = replay.place

    # -- into it

    def put(
        self, threads: Sequence[TrashedThread], found: Mapping[str, ThreadFiles], why: str | None = None
    ) -> TrashedThreads:
        """Move all files of these threads into the trash; the caller holds their locks, and found the files since.
        Raises `OSError`, and what a journal raises."""
        files = [
            TrashedFile(path=str(file.path.relative_to(self._home.path)), size=file.size, base=_base(self._home, file))
            # Those that others inherit from come first: a file without its base is not written to by anybody.
            for thread in reversed(threads)
            for file in self._all_of(found[thread.id])
        ]
        kept = self._nearest()
        with self._lock, self._journal.writing() as pen:
            self._refresh()
            row = TrashRow(
                at=utc_stamp(self._clock.now()),
                by=self._owner.program,
                trash=self._new_id(),
                do="delete",
                home=str(self._home.path),
                kept=kept,
                why=why,
                threads=tuple(threads),
                files=tuple(files),
            )
            pen.append(row)
        entry = _Entry(row)
        self._move_in(entry)
        return entry.told()

    def _all_of(self, files: ThreadFiles) -> Iterator[RolloutFile]:
        for file in (*files.doubles, *files.segments):
            yield file
            if not file.compressed:
                # Left alone, what a plain file hides would be the thread again.
                packed = self._home.locate(file.path.with_name(f"{file.path.name}.zst"))
                if packed is not None:
                    yield packed

    def _nearest(self) -> Literal["clew", "codex"]:
        fs = self._home.fs
        fs.make_folder(self._clew_home)
        device = fs.stat(self._home.path).identity.device
        return "clew" if fs.stat(self._clew_home).identity.device == device else "codex"

    def _new_id(self) -> str:
        moment = datetime.fromtimestamp(self._clock.now(), UTC)
        stamp = f"{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1000:03d}Z"
        if stamp not in self._entries:
            return stamp
        return next(wanted for number in range(2, 10**6) if (wanted := f"{stamp}.{number}") not in self._entries)

    def _move_in(self, entry: _Entry) -> None:
        self._home.fs.make_folder(self._folder(entry.row))
        left: set[Path] = set()
        for place, kept in self._places(entry.row):
            if _exists(self._home, place):
                self._moves.move(place, kept)
            left |= self._elsewhere(place)
        for folder in left:
            with contextlib.suppress(FileNotFoundError):
                self._home.fs.sync_folder(folder)
        self._write(entry, "deleted")

    def _elsewhere(self, place: Path) -> set[Path]:
        """The folders in which a file may have been before it came to its place: whoever moved it may not have got to
        making that durable, and without power it would be there again."""
        name = RolloutName.parse(place.name)
        assert name is not None, "only rollouts are put into the trash"
        return {self._home.dated_folder(name), self._home.archived_sessions} - {place.parent}

    # -- out of it

    def restore(self, trash_id: str) -> TrashedThreads:
        """Put everything back where it was, as it was. The caller holds the locks. Raises `ThreadNotFound` when there
        is no such entry, `ThreadInTheWay` when a file or thread of the same name or id is there."""
        entry = self._there(trash_id)
        if entry.state == "restore":
            self._make_sure()
        else:
            self._refuse_others(entry)
            self._write(entry, "restore")
        self._move_out(entry)
        return entry.told()

    def _refuse_others(self, entry: _Entry) -> None:
        mine = {place for place, kept in self._places(entry.row) if not _exists(self._home, kept)}
        for place, kept in self._places(entry.row):
            if place not in mine and _exists(self._home, place) and not self._same(place, kept):
                raise ThreadInTheWay(_thread_of(place), place)
        for thread in entry.row.threads:
            files = self._find(thread.id)
            for file in (*files.segments, *files.doubles) if files is not None else ():
                if file.path not in mine and file.path not in dict(self._places(entry.row)):
                    raise ThreadInTheWay(thread.id, file.path)

    def _same(self, one: Path, other: Path) -> bool:
        return self._home.fs.stat(one).identity == self._home.fs.stat(other).identity

    def _move_out(self, entry: _Entry) -> None:
        for place, kept in reversed(list(self._places(entry.row))):
            if _exists(self._home, kept):
                self._home.fs.make_folder(place.parent)
                try:
                    self._moves.move(kept, place)
                except FileExistsError as error:
                    raise ThreadInTheWay(_thread_of(place), place) from error
        self._write(entry, "restored")

    def empty(self, trash_id: str) -> TrashedThreads:
        """Remove an entry's files for good. Raises `ThreadNotFound`, `OSError`."""
        entry = self._there(trash_id)
        if entry.state == "empty":
            self._make_sure()
        else:
            self._write(entry, "empty")
        self._unlink(entry)
        return entry.told()

    def _unlink(self, entry: _Entry) -> None:
        fs = self._home.fs
        for _, kept in self._places(entry.row):
            self._fail.hit("before_unlink")
            with contextlib.suppress(FileNotFoundError):
                fs.unlink(kept)
        with contextlib.suppress(FileNotFoundError):
            fs.sync_folder(self._folder(entry.row))
        self._write(entry, "emptied")

    # -- after a crash

    def unfinished(self) -> Sequence[TrashedThreads]:
        """What was begun and not completed, by programs that were killed or are at it. Raises `OSError`."""
        with self._lock:
            self._refresh()
            return tuple(entry.told() for entry in self._entries.values() if entry.state in _UNFINISHED)

    def is_leaving(self, thread_id: str) -> bool:
        """Whether somebody began to delete this thread and did not complete it. Raises `OSError`."""
        with self._lock:
            self._refresh()
            return any(
                entry.state == "delete" and thread_id in entry.told().thread_ids for entry in self._entries.values()
            )

    def settle(self) -> Sequence[TrashedThreads]:
        """Complete what killed programs began, and give it; what others are at work on is left to them. A restore that
        something came in the way of stays where it is."""
        done: list[TrashedThreads] = []
        for entry in self.unfinished():
            with (
                contextlib.suppress(ThreadBusy, ThreadInTheWay),
                all_locked(self._home, self._clew_home, entry.thread_ids, self._owner),
            ):
                with self._lock:
                    self._refresh()
                    now = self._entries[entry.id]
                self._make_sure()
                match now.state:
                    case "delete":
                        self._move_in(now)
                    case "restore":
                        self._move_out(now)
                    case "empty":
                        self._unlink(now)
                    case _:
                        continue
                done.append(now.told())
        return tuple(done)

    # -- inside

    def _there(self, trash_id: str) -> _Entry:
        with self._lock:
            self._refresh()
            entry = self._entries.get(trash_id)
        if entry is None or entry.state in ("delete", *_GONE):
            raise ThreadNotFound(trash_id)
        return entry

    def _folder(self, row: TrashRow) -> Path:
        return self._clew_home / "trash" if row.kept == "clew" else self._home.path / ".clew-trash"

    def _places(self, row: TrashRow) -> Iterator[tuple[Path, Path]]:
        """Each file's place in the home and in the trash, in the order of deleting."""
        for number, file in enumerate(row.files):
            place = self._home.path / file.path
            yield place, self._folder(row) / f"{row.trash}-{number}-{place.name}"

    def _make_sure(self) -> None:
        """What was read is durable: a killed program may not have got to that, and files that were moved by a row that
        is gone without power would be nowhere."""
        with self._lock, self._journal.writing() as pen:
            pen.append()

    def _write(self, entry: _Entry, do: State) -> None:
        row = TrashRow(at=utc_stamp(self._clock.now()), by=self._owner.program, trash=entry.row.trash, do=do)
        with self._lock, self._journal.writing() as pen:
            pen.append(row, durable=do in _UNFINISHED)
        entry.state = do


def _sound(row: TrashRow) -> bool:
    """Whether a row names nothing but rollouts of the threads it names, inside a home: it becomes paths."""
    if _STAMP.fullmatch(row.trash) is None or any(canonical_id(thread.id) != thread.id for thread in row.threads):
        return False
    ids = {thread.id for thread in row.threads}
    for file in row.files:
        path = PurePosixPath(file.path)
        name = RolloutName.parse(path.name)
        if path.is_absolute() or ".." in path.parts or path.parts[0] not in ("sessions", "archived_sessions"):
            return False
        if name is None or name.thread_id not in ids:
            return False
    return True


def _exists(home: Home, path: Path) -> bool:
    try:
        home.fs.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _base(home: Home, file: RolloutFile) -> str | None:
    try:
        head = read_head(home, file)
    except (ClewError, OSError):
        return None  # it is moved as it is, whatever can be read of it
    base = parse_head(head).history_base if head is not None else None
    return canonical_id(base.thread_id) if base is not None else None


def _thread_of(path: Path) -> str:
    name = RolloutName.parse(path.name)
    assert name is not None, "only rollouts are put into the trash"
    return name.thread_id
