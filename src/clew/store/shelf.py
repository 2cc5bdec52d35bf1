"""What people put on threads and no log has room for: tags, pins, notes and saved names, in one journal.

    {"at":"2026-07-01T12:00:00.123Z","by":"clew tag","thread":"0199…","do":"tag","value":"parser"}

The journal is the ground state; rows of kinds that this version does not know are passed over and stay.
"""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import msgspec

from clew.clock import Clock, utc_stamp
from clew.errors import BadRequest, HomeUnwritable
from clew.rollout import FailPoints, FileSystem, canonical_id
from clew.store.journal import Journal, Place
from clew.store.queries import Marks

__all__ = ["Saved", "Shelf", "ShelfRow", "clean_name", "clean_tag"]

LONGEST_NAME = 500
LONGEST_TAG = 100
LONGEST_NOTE = 100_000

_NOTHING = Marks()
_UNSEEN = ("Cc", "Zl", "Zp")
"""Control characters, and those that break lines."""

_Rows = Callable[[Marks], Sequence[tuple[str, str | None]]]


class ShelfRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change: when (RFC 3339 UTC), by which program, to which thread, what.

    `do`: `tag` and `untag` (`value`: the tag), `pin` and `unpin`, `note` (no `value`: taken away), `save` and `unsave`
    (`value`: the name), `forget` (all of it).
    """

    at: str
    by: str
    thread: str
    do: str
    value: str | None = None


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """A name that leads to a thread from now on; `moved_from` is the thread that had it until now."""

    name: str
    thread_id: str
    moved_from: str | None = None


class Shelf:
    """The marks of all threads. Reading costs a look at the journal's size and time while nothing changed."""

    def __init__(
        self,
        fs: FileSystem,
        clew_home: Path,
        *,
        clock: Clock,
        by: str = "clew",
        fail: FailPoints | None = None,
    ) -> None:
        self._journal = Journal(fs, clew_home / "shelf.jsonl", ShelfRow, fail=fail)
        self._clock = clock
        self._by = by
        self._lock = threading.RLock()
        self._version: object = ()
        self._place: Place | None = None
        self._marks: dict[str, Marks] = {}
        self._saved: dict[str, str] = {}  # name to thread, last saved last
        self._damaged = 0
        self.unread: str | None = None

    @property
    def path(self) -> Path:
        return self._journal.path

    # -- reading

    @property
    def version(self) -> object:
        """Equal while nothing changed on disk."""
        try:
            return self._journal.version
        except OSError as error:
            return error.errno

    def marks(self, *, strict: bool = False) -> Mapping[str, Marks]:
        """The threads that have any. A journal that cannot be read does not keep threads from being listed: `unread`
        tells why, and what was known stays. `strict` raises `HomeUnwritable` then."""
        with self._lock:
            try:
                self._refresh()
                self.unread = None
            except OSError as error:
                if strict:
                    raise HomeUnwritable(self.path, error.strerror or str(error)) from error
                self.unread = error.strerror or str(error)
            return MappingProxyType(self._marks)

    def marks_of(self, thread_id: str) -> Marks:
        return self.marks().get(thread_id, _NOTHING)

    def saved(self) -> Mapping[str, str]:
        """Every saved name with its thread, the last saved one last."""
        with self._lock:
            self.marks()
            return MappingProxyType(self._saved)

    def thread_saved_as(self, name: str) -> str | None:
        return self.saved().get(name.strip())

    @property
    def damaged(self) -> int:
        """Lines of the journal that are no rows."""
        with self._lock:
            self.marks()
            return self._damaged

    def _refresh(self) -> None:
        version = self._journal.version
        if version == self._version:
            return
        replay = self._journal.read(self._place)
        # Others may still look at what was handed out.
        self._marks, self._saved = ({}, {}) if replay.afresh else (dict(self._marks), dict(self._saved))
        self._damaged = replay.damaged if replay.afresh else self._damaged + replay.damaged
        for row in replay.rows:
            self._apply(row)
        self._place = replay.place
        self._version = version

    def _apply(self, row: ShelfRow) -> None:
        thread_id = canonical_id(row.thread)
        if thread_id is None:
            self._damaged += 1
            return
        marks = self._marks.get(thread_id, _NOTHING)
        match row.do, row.value:
            case "tag", str(tag):
                self._put(thread_id, msgspec.structs.replace(marks, tags=marks.tags | {tag}))
            case "untag", str(tag):
                self._put(thread_id, msgspec.structs.replace(marks, tags=marks.tags - {tag}))
            case ("pin" | "unpin") as what, _:
                self._put(thread_id, msgspec.structs.replace(marks, pinned=what == "pin"))
            case "note", text:
                self._put(thread_id, msgspec.structs.replace(marks, note=text or None))
            case "save", str(name):
                self._name_goes(name)
                marks = self._marks.get(thread_id, _NOTHING)
                self._saved[name] = thread_id
                self._put(thread_id, msgspec.structs.replace(marks, names=(name, *marks.names)))
            case "unsave", str(name):
                if self._saved.get(name) == thread_id:
                    self._name_goes(name)
            case "forget", _:
                for name in marks.names:
                    self._name_goes(name)
                self._put(thread_id, _NOTHING)
            case _:
                pass  # of a later version

    def _name_goes(self, name: str) -> None:
        # What was saved last stands last.
        had = self._saved.pop(name, None)
        if had is not None:
            marks = self._marks.get(had, _NOTHING)
            names = tuple(other for other in marks.names if other != name)
            self._put(had, msgspec.structs.replace(marks, names=names))

    def _put(self, thread_id: str, marks: Marks) -> None:
        if marks == _NOTHING:
            self._marks.pop(thread_id, None)
        else:
            self._marks[thread_id] = marks

    # -- changing. All of it is durable when it returns, and raises `BadRequest` for texts that cannot be marks,
    # `HomeUnwritable`, `DiskFull`, `SyncFailed` for a disk that does not take it.

    def tag(self, thread_id: str, tags: Iterable[str]) -> Marks:
        wanted = dict.fromkeys(clean_tag(tag) for tag in tags)
        return self._change(thread_id, lambda marks: [("tag", tag) for tag in wanted if tag not in marks.tags])

    def untag(self, thread_id: str, tags: Iterable[str]) -> Marks:
        wanted = dict.fromkeys(clean_tag(tag) for tag in tags)
        return self._change(thread_id, lambda marks: [("untag", tag) for tag in wanted if tag in marks.tags])

    def pin(self, thread_id: str) -> Marks:
        return self._change(thread_id, lambda marks: [] if marks.pinned else [("pin", None)])

    def unpin(self, thread_id: str) -> Marks:
        return self._change(thread_id, lambda marks: [("unpin", None)] if marks.pinned else [])

    def note(self, thread_id: str, text: str | None) -> Marks:
        """Put a note on the thread in the place of the one before; None or blank: take it away."""
        note = _text((text or "").strip()) or None
        if note is not None and len(note) > LONGEST_NOTE:
            raise BadRequest("note", f"longer than {LONGEST_NOTE} characters")
        return self._change(thread_id, lambda marks: [] if marks.note == note else [("note", note)])

    def save(
        self,
        thread_id: str,
        name: str,
        *,
        first: Callable[[str], None] | None = None,
        then: Callable[[Saved], None] | None = None,
    ) -> Saved:
        """Let a name lead to this thread, whichever it led to before. No other program changes anything here while
        `first` is called with the thread that had it, if another one had, and in the end `then`."""
        wanted = clean_name(name)
        thread_id = _need_id(thread_id)
        with self._lock, self._journal.writing() as pen:
            self.marks(strict=True)
            had = self._saved.get(wanted)
            saved = Saved(name=wanted, thread_id=thread_id, moved_from=had if had != thread_id else None)
            if first is not None and saved.moved_from is not None:
                first(saved.moved_from)
            pen.append(self._row(thread_id, "save", wanted))
            if then is not None:
                then(saved)
        return saved

    def unsave(self, name: str, *, then: Callable[[str], None] | None = None) -> str | None:
        """Forget a saved name; gives the thread it led to. `then` is called with it, if there was one, as in `save`."""
        with self._lock, self._journal.writing() as pen:
            self.marks(strict=True)
            had = self._saved.get(name.strip())
            pen.append(*([self._row(had, "unsave", name.strip())] if had is not None else []))
            if had is not None and then is not None:
                then(had)
        return had

    def forget(self, thread_ids: Iterable[str]) -> None:
        """Take every mark of these threads away: they are gone for good."""
        with self._lock, self._journal.writing() as pen:
            known = self.marks(strict=True)
            pen.append(*(self._row(thread_id, "forget", None) for thread_id in thread_ids if thread_id in known))

    def _change(self, thread_id: str, rows: _Rows) -> Marks:
        """Append what is not so already; what is may have been written by somebody who did not get to syncing it."""
        thread_id = _need_id(thread_id)
        with self._lock:
            with self._journal.writing() as pen:
                known = self.marks(strict=True).get(thread_id, _NOTHING)
                pen.append(*(self._row(thread_id, do, value) for do, value in rows(known)))
            return self.marks_of(thread_id)

    def _row(self, thread_id: str, do: str, value: str | None) -> ShelfRow:
        return ShelfRow(at=utc_stamp(self._clock.now()), by=self._by, thread=thread_id, do=do, value=value)


def clean_name(name: str) -> str:
    """A name as it is kept: trimmed, one line. Raises `BadRequest` for what could not be found again by it."""
    clean = _words("name", name, LONGEST_NAME)
    if clean == "last" or canonical_id(clean) is not None:
        raise BadRequest("name", f"{clean!r} means a thread already; choose another word")
    return clean


def clean_tag(tag: str) -> str:
    """A tag as it is kept. Raises `BadRequest`."""
    return _words("tag", tag, LONGEST_TAG)


def _words(field: str, text: str, longest: int) -> str:
    clean = _text(text.strip())
    if not clean:
        raise BadRequest(field, "it is empty")
    if any(unicodedata.category(character) in _UNSEEN for character in clean):
        raise BadRequest(field, f"{clean!r} holds control characters")
    if len(clean) > longest:
        raise BadRequest(field, f"longer than {longest} characters")
    return clean


def _text(text: str) -> str:
    # What cannot be text in a file goes as a mark in its place.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _need_id(thread_id: str) -> str:
    wanted = canonical_id(thread_id)
    if wanted is None:
        raise BadRequest("thread", f"{thread_id!r} is no id")
    return wanted
