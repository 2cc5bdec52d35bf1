"""What happened to the threads of a home since the last look, whoever did it: told from the files alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import msgspec

from clew.rollout import FileSystem, Home, NameIndex, Record, RolloutFile, RolloutName, ThreadFiles, open_source
from clew.rollout.scan import scan_forward

__all__ = [
    "Change",
    "HomeChanges",
    "ThreadAppeared",
    "ThreadGone",
    "ThreadGrew",
    "ThreadMoved",
    "ThreadRenamed",
]


class ThreadAppeared(msgspec.Struct, frozen=True, tag="thread_appeared"):
    """A thread is there that was not there before. What it holds already is told by a `ThreadGrew` behind it."""

    thread_id: str
    archived: bool = False


class ThreadGrew(msgspec.Struct, frozen=True, tag="thread_grew"):
    """`records` lines were added. `turns_started` and `turns_ended` are the ids of the turns whose beginning and end
    are among them, in order; an interrupted turn has ended, too."""

    thread_id: str
    records: int
    turns_started: tuple[str, ...] = ()
    turns_ended: tuple[str, ...] = ()


class ThreadRenamed(msgspec.Struct, frozen=True, tag="thread_renamed"):
    """`name` None: it has no name any more."""

    thread_id: str
    name: str | None


class ThreadMoved(msgspec.Struct, frozen=True, tag="thread_moved"):
    """It was archived, or taken out again."""

    thread_id: str
    archived: bool


class ThreadGone(msgspec.Struct, frozen=True, tag="thread_gone"):
    """No file of it is left in the home."""

    thread_id: str


Change = ThreadAppeared | ThreadGrew | ThreadRenamed | ThreadMoved | ThreadGone

_BLOCK = 1 << 12
_STARTED, _ENDED = "task_started", ("task_complete", "turn_aborted")


@dataclass(frozen=True, slots=True)
class _Seen:
    """A thread's current file as of the last look. `offset` is behind its last whole line, -1 where nobody looked: the
    lines of a packed file are not counted."""

    file: RolloutFile
    offset: int


class _Event(msgspec.Struct):
    type: str | None = None
    turn_id: str | None = None


class HomeChanges:
    """Remembers what a home was like at the last look. Its methods block; one thread at a time may call them.

    What it keeps is bounded by the number of threads: however much happens between two looks, it is told once.
    """

    def __init__(self, fs: FileSystem, codex_home: Path) -> None:
        self._fs = fs
        self._home = Home(fs, codex_home)
        self._names_at: tuple[int, int] | None = None
        self._names: dict[str, str] = {}
        self._seen: dict[str, _Seen] = {}

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders with threads that are there now."""
        return tuple(path for path in (self._home.sessions, self._home.archived_sessions) if self._there(path))

    def begin(self) -> None:
        """Take the home as it is: changes count from here on."""
        self._names_at, self._names = self._names_stamp(), NameIndex(self._home).names()
        self._seen = {files.thread_id: self._fresh(files.current) for files in self._home.threads()}

    def look(self, touched: Collection[str] | None = None) -> list[Change]:
        """What happened. `touched` are names of files that may have changed, None: look at all of them. The names of
        threads are always looked at."""
        changes: list[Change] = []
        if touched is None:
            there = {files.thread_id: files for files in self._home.threads()}
            for thread_id in [*there, *(known for known in self._seen if known not in there)]:
                changes += self._look_at(thread_id, there.get(thread_id))
        else:
            names = (RolloutName.parse(name) for name in touched)
            for thread_id in dict.fromkeys(name.thread_id for name in names if name is not None):
                changes += self._look_at(thread_id, self._home.find(thread_id))
        return changes + list(self._renamed())

    def _look_at(self, thread_id: str, files: ThreadFiles | None) -> Iterator[Change]:
        known = self._seen.get(thread_id)
        if files is None:
            if known is not None:
                del self._seen[thread_id]
                yield ThreadGone(thread_id)
            return
        file = files.current
        if known is None:
            yield ThreadAppeared(thread_id, file.archived)
            known = _Seen(replace(file, size=0), 0)
        elif known.file.archived != file.archived:
            yield ThreadMoved(thread_id, file.archived)
        grew, offset = self._grown(thread_id, known, file)
        self._seen[thread_id] = _Seen(file, offset)
        if grew is not None:
            yield grew

    def _grown(self, thread_id: str, known: _Seen, file: RolloutFile) -> tuple[ThreadGrew | None, int]:
        """What was added to a thread's file, and where it ends now."""
        same = known.file.name.rollout_id == file.name.rollout_id
        if same and (known.file.size, known.file.mtime_ns, known.file.compressed) == (
            file.size,
            file.mtime_ns,
            file.compressed,
        ):
            return None, known.offset
        if file.compressed:
            return None, -1
        # A later file of the same thread (after a revert) is new from its beginning.
        start = known.offset if same else 0
        since = None
        if start < 0 or start > file.size:
            # It was packed, or replaced: what is younger than the file was then is new.
            start, since = 0, known.file.mtime_ns
        return self._read(thread_id, file, start, since)

    def _read(self, thread_id: str, file: RolloutFile, start: int, since: int | None) -> tuple[ThreadGrew | None, int]:
        records, offset = 0, start
        started: list[str] = []
        ended: list[str] = []
        try:
            source = open_source(self._fs, file)
        except OSError:
            return None, start  # gone again; the next look tells
        try:
            for line in scan_forward(source, start):
                if not isinstance(line, Record):
                    continue
                offset = line.end
                if since is not None and _nanoseconds(line.timestamp) <= since:
                    continue
                records += 1
                if line.type == "event_msg" and (event := _event(line)) is not None and event.turn_id:
                    if event.type == _STARTED:
                        started.append(event.turn_id)
                    elif event.type in _ENDED:
                        ended.append(event.turn_id)
        finally:
            source.close()
        grew = ThreadGrew(thread_id, records, tuple(started), tuple(ended)) if records else None
        return grew, offset

    def _fresh(self, file: RolloutFile) -> _Seen:
        return _Seen(file, -1 if file.compressed else self._last_line(file))

    def _last_line(self, file: RolloutFile) -> int:
        """Where the last whole line ends."""
        try:
            source = open_source(self._fs, file)
        except OSError:
            return 0
        try:
            end = file.size
            while end > 0:
                begin = max(0, end - _BLOCK)
                place = source.read_at(begin, end - begin).rfind(b"\n")
                if place >= 0:
                    return begin + place + 1
                end = begin
            return 0
        except OSError:
            return 0
        finally:
            source.close()

    def _renamed(self) -> Iterator[ThreadRenamed]:
        stamp = self._names_stamp()
        if stamp == self._names_at:
            return
        before = self._names
        self._names_at, self._names = stamp, NameIndex(self._home).names()
        for thread_id in dict.fromkeys([*before, *self._names]):
            if before.get(thread_id) != self._names.get(thread_id):
                yield ThreadRenamed(thread_id, self._names.get(thread_id))

    def _names_stamp(self) -> tuple[int, int] | None:
        try:
            status = self._fs.stat(self._home.session_index)
        except OSError:
            return None
        return status.size, status.mtime_ns

    def _there(self, path: Path) -> bool:
        try:
            return self._fs.stat(path).is_dir
        except OSError:
            return False


def _event(line: Record) -> _Event | None:
    try:
        return msgspec.json.decode(line.payload, type=_Event)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def _nanoseconds(stamp: str | None) -> int:
    """A time of a line in nanoseconds since 1970; 0 where it has none."""
    try:
        return int(datetime.fromisoformat(stamp or "").timestamp() * 1_000_000_000)
    except ValueError:
        return 0
