"""Where rollouts lie in a home, and which files make up a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from clew.clock import local_stamp
from clew.rollout.filesystem import Entry, FileSystem
from clew.rollout.names import RolloutName, canonical_id, id_milliseconds

__all__ = ["Home", "RolloutFile", "ThreadFiles"]

SESSIONS = "sessions"
ARCHIVED = "archived_sessions"
DEEPEST = 16
"""Folders below `sessions` that are walked; the layout itself needs three."""

_Fits = Callable[[RolloutName], bool]


@dataclass(frozen=True, slots=True)
class RolloutFile:
    """One rollout on disk. `size` is what it takes there (packed if compressed); `mtime_ns`: nanoseconds since 1970."""

    path: Path
    name: RolloutName
    archived: bool
    size: int = 0
    mtime_ns: int = 0

    @property
    def compressed(self) -> bool:
        return self.name.compressed

    @property
    def plain_path(self) -> Path:
        """The path without `.zst`, by which the file is known everywhere."""
        return self.path.with_name(self.path.name.removesuffix(".zst")) if self.compressed else self.path

    @property
    def thread_id(self) -> str:
        return self.name.thread_id

    def as_plain(self, *, size: int, mtime_ns: int) -> RolloutFile:
        """The same rollout after it was unpacked."""
        return RolloutFile(
            self.plain_path, replace(self.name, compressed=False), self.archived, size=size, mtime_ns=mtime_ns
        )


@dataclass(frozen=True, slots=True)
class ThreadFiles:
    """The files of one thread: `segments` oldest first (the file without segment id, then by segment id), at least one.

    `doubles` are further files that claim the same place (copies in other folders); nothing reads them.
    """

    thread_id: str
    segments: tuple[RolloutFile, ...]
    doubles: tuple[RolloutFile, ...] = ()

    @property
    def current(self) -> RolloutFile:
        """The newest segment: what the thread is now, and where it grows."""
        return self.segments[-1]

    @property
    def archived(self) -> bool:
        return self.current.archived


class Home:
    """A `$CODEX_HOME`. Holds no state: every call looks at the disk."""

    def __init__(self, fs: FileSystem, codex_home: Path) -> None:
        self.fs = fs
        self.path = codex_home

    # -- places -------------------------------------------------------------------------------------------------------

    @property
    def sessions(self) -> Path:
        return self.path / SESSIONS

    @property
    def archived_sessions(self) -> Path:
        return self.path / ARCHIVED

    @property
    def session_index(self) -> Path:
        return self.path / "session_index.jsonl"

    @property
    def lock_folder(self) -> Path:
        return self.path / "thread-writer-locks"

    @property
    def coordination_lock(self) -> Path:
        return self.lock_folder / ".coordination.lock"

    def thread_lock(self, thread_id: str) -> Path:
        """Raises `ValueError` for what is no id: it becomes a file name."""
        return self.lock_folder / f"{_need_id(thread_id)}.lock"

    def new_path(self, thread_id: str, when: float, segment_id: str | None = None) -> Path:
        """Where a rollout that begins at `when` (seconds since 1970) belongs: folder and stamp in local time."""
        stamp = local_stamp(when)
        name = RolloutName(stamp, _need_id(thread_id), _need_id(segment_id) if segment_id else None)
        return self.sessions / stamp[0:4] / stamp[5:7] / stamp[8:10] / name.format()

    def dated_folder(self, name: RolloutName) -> Path:
        """The folder under `sessions` that a file name asks for; by the id's time where the stamp is none."""
        when = name.time
        if when is None:
            milliseconds = id_milliseconds(name.thread_id)
            when = datetime.fromtimestamp((milliseconds or 0) / 1000)
        return self.sessions / f"{when:%Y}" / f"{when:%m}" / f"{when:%d}"

    def locate(self, path: Path) -> RolloutFile | None:
        """The rollout at a path inside this home (plain or `.zst`), None if there is none."""
        name = RolloutName.parse(path.name)
        if name is None:
            return None
        archived = self.archived_sessions in path.parents
        if not archived and self.sessions not in path.parents:
            return None
        try:
            status = self.fs.stat(path)
        except OSError:
            return None
        return None if status.is_dir else RolloutFile(path, name, archived, status.size, status.mtime_ns)

    # -- all of them --------------------------------------------------------------------------------------------------

    def files(self) -> Iterator[RolloutFile]:
        """Every rollout of the home, newest date folder first, then the archived ones. A plain file hides its
        compressed sibling. Folders that cannot be read are passed over; symbolic links are not followed."""
        yield from self._walk(self.sessions, archived=False)
        yield from self._walk(self.archived_sessions, archived=True)

    def threads(self) -> Iterator[ThreadFiles]:
        """Every thread once, in no promised order."""
        groups: dict[str, list[RolloutFile]] = {}
        for file in self.files():
            groups.setdefault(file.thread_id, []).append(file)
        for thread_id, files in groups.items():
            yield self.thread_of(thread_id, files)

    # -- one of them --------------------------------------------------------------------------------------------------

    def find(self, thread_id: str) -> ThreadFiles | None:
        """The files of a thread, by any spelling of its id; None when there are none, or it is no id.

        A UUIDv7 tells when the thread began, so that only folders from the day before on are looked at; only when that
        finds nothing (a foreign clock, a file moved by hand, an id of 2025) everything is.
        """
        wanted = canonical_id(thread_id)
        if wanted is None:
            return None
        found = self._matching(wanted, lambda name: name.thread_id == wanted, whole=True)
        return self.thread_of(wanted, [self._measured(file) for file in found]) if found else None

    def find_segment(self, rollout_id: str) -> RolloutFile | None:
        """The file whose name ends in this id: what a fork's or a later segment's `history_base` names."""
        wanted = canonical_id(rollout_id)
        if wanted is None:
            return None
        found = self._matching(wanted, lambda name: name.rollout_id == wanted, whole=False)
        if not found:
            return None
        return self._measured(_preferred(self, found)[0])

    def _matching(self, wanted: str, fits: _Fits, *, whole: bool) -> list[RolloutFile]:
        """Unmeasured files that fit. `whole`: all of them, else looking ends with the first folder that has one."""
        milliseconds = id_milliseconds(wanted)
        if milliseconds is not None:
            began = datetime.fromtimestamp(min(milliseconds, 253_370_000_000_000) / 1000)
            first, second = began - timedelta(days=1), began + timedelta(days=1)
            near: list[RolloutFile] = []
            if not whole:
                for day in (began, first, second):
                    folder = self.sessions / f"{day:%Y}" / f"{day:%m}" / f"{day:%d}"
                    near += self._in_folder(folder, wanted, fits, archived=False)
                    if near:
                        return near
            else:
                for folder in self._day_folders(since=(first.year, first.month, first.day)):
                    near += self._in_folder(folder, wanted, fits, archived=False)
            near += self._in_folder(self.archived_sessions, wanted, fits, archived=True)
            if near:
                return near
        return [file for file in self._walk_names() if fits(file.name)]

    def _in_folder(self, folder: Path, wanted: str, fits: _Fits, *, archived: bool) -> list[RolloutFile]:
        try:
            names, _ = self.fs.names(folder)
        except OSError:
            return []
        # All names at once: most are of other threads, and in most folders all of them.
        if wanted not in "\n".join(names).lower():
            return []
        return [
            RolloutFile(folder / file, name, archived)
            for file in names
            if wanted in file.lower() and (name := RolloutName.parse(file)) is not None and fits(name)
        ]

    def _day_folders(self, since: tuple[int, int, int]) -> Iterator[Path]:
        for year in self._numbered(self.sessions):
            if int(year.name) < since[0]:
                continue
            for month in self._numbered(year):
                if (int(year.name), int(month.name)) < since[:2]:
                    continue
                for day in self._numbered(month):
                    if (int(year.name), int(month.name), int(day.name)) >= since:
                        yield day

    def _numbered(self, folder: Path) -> list[Path]:
        return [
            folder / entry.name
            for entry in self._names(folder, stats=False)
            if entry.is_dir and entry.name.isascii() and entry.name.isdecimal()
        ]

    # -- walking ------------------------------------------------------------------------------------------------------

    def _walk_names(self) -> Iterator[RolloutFile]:
        yield from self._walk(self.sessions, archived=False, stats=False)
        yield from self._walk(self.archived_sessions, archived=True, stats=False)

    def _walk(self, folder: Path, *, archived: bool, stats: bool = True, depth: int = 0) -> Iterator[RolloutFile]:
        files: dict[str, RolloutFile] = {}
        folders: list[str] = []
        for entry in self._names(folder, stats=stats):
            if entry.is_dir:
                folders.append(entry.name)
            elif (name := RolloutName.parse(entry.name)) is not None:
                plain = entry.name.removesuffix(".zst")
                if plain not in files or not name.compressed:
                    files[plain] = RolloutFile(folder / entry.name, name, archived, entry.size, entry.mtime_ns)
        for plain in sorted(files, reverse=True):
            yield files[plain]
        if depth < DEEPEST:
            for name in sorted(folders, reverse=True):
                yield from self._walk(folder / name, archived=archived, stats=stats, depth=depth + 1)

    def _names(self, folder: Path, *, stats: bool) -> Sequence[Entry]:
        try:
            return self.fs.scan(folder, stats=stats)
        except OSError:
            return ()

    def _measured(self, file: RolloutFile) -> RolloutFile:
        try:
            status = self.fs.stat(file.path)
        except OSError:
            return file
        return replace(file, size=status.size, mtime_ns=status.mtime_ns)

    def thread_of(self, thread_id: str, files: Sequence[RolloutFile]) -> ThreadFiles:
        """The thread that these measured files, one at least, make up; it does not matter in which order they come."""
        if len(files) == 1:
            return ThreadFiles(thread_id, (files[0],))
        places: dict[str, list[RolloutFile]] = {}
        for file in files:
            places.setdefault(file.name.segment_id or "", []).append(file)
        segments: list[RolloutFile] = []
        doubles: list[RolloutFile] = []
        for segment in sorted(places):
            ranked: dict[Path, RolloutFile] = {}
            for file in _preferred(self, places[segment]):
                ranked.setdefault(file.plain_path, file)  # the packed form beside a plain one is the same file
            best, *others = ranked.values()
            segments.append(best)
            doubles += others
        return ThreadFiles(thread_id, tuple(segments), tuple(doubles))


def _preferred(home: Home, files: Sequence[RolloutFile]) -> list[RolloutFile]:
    """Files that claim the same place, best first: active before archived, in its own folder before elsewhere, plain
    before compressed, newer before older."""
    if len(files) == 1:
        return list(files)

    def rank(file: RolloutFile) -> tuple[bool, bool, bool, int, str]:
        elsewhere = not file.archived and file.path.parent != home.dated_folder(file.name)
        return file.archived, elsewhere, file.compressed, -file.mtime_ns, str(file.path)

    return sorted(files, key=rank)


def _need_id(text: str) -> str:
    wanted = canonical_id(text)
    if wanted is None:
        raise ValueError(f"{text!r} is no UUID")
    return wanted
