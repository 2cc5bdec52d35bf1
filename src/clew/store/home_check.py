"""What lies around the logs of a home: files left behind, packed files, locks, owners, names, access rights."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Generator, Iterator, Sequence
from pathlib import Path

import msgspec

from clew.clock import Clock
from clew.errors import LogDamaged
from clew.rollout import (
    Entry,
    File,
    FileSystem,
    Home,
    RolloutFile,
    RolloutName,
    WaitingLine,
    canonical_id,
    lock_within,
    read_record,
    read_saved_sessions,
)
from clew.rollout.framing import read_table, walk_frames
from clew.store.findings import Finding, finding
from clew.store.journal import Journal
from clew.store.relocations import MoveRow
from clew.store.shelf import ShelfRow
from clew.store.trash import TrashRow

__all__ = [
    "HomeCheck",
    "NameLine",
    "StaleLock",
    "check_seek_table",
    "find_stale",
    "held_lock",
    "name_rows",
    "stale_locks",
]

YOUNG_SECONDS = 6 * 3600
"""A temporary file younger than this may still be in use."""

LOCK_SECONDS = 2.0
BLOCK = 1 << 16
DEEPEST = 16
_SEEKABLE = b"\xb1\xea\x92\x8f"
_SKIPPABLE = b"\x5e\x2a\x4d\x18"


class NameLine(msgspec.Struct, frozen=True):
    """One row of the names: where it stands (`line` from 1, `offset` and `end` in bytes) and what it says; `thread_id`
    None: it cannot be read."""

    line: int
    offset: int
    end: int
    thread_id: str | None = None
    name: str = ""


class StaleLock(msgspec.Struct, frozen=True):
    """A lock file or an owner record that means nothing any more. `code` is that of the finding."""

    code: str
    path: Path
    thread_id: str | None
    why: str


class _WireName(msgspec.Struct):
    id: str
    thread_name: str | None = None


class HomeCheck:
    """Everything but the lines. `wanted`: only what belongs to these threads."""

    def __init__(
        self, home: Home, clew_home: Path, known: Collection[str], clock: Clock, wanted: Collection[str] | None = None
    ) -> None:
        self._home = home
        self._clew_home = clew_home
        self._known = known
        self._clock = clock
        self._wanted = wanted

    def run(self) -> Iterator[Finding]:
        yield from self._left_behind()
        for stale in stale_locks(self._home, self._clew_home):
            if self._concerns(stale.thread_id):
                yield finding(stale.code, stale.why, thread_id=stale.thread_id, path=str(stale.path))
        yield from self.names()
        if self._wanted is None:
            yield from self._saved_sessions()
            yield from self._journals()
        yield from self._modes()

    def _concerns(self, thread_id: str | None) -> bool:
        return self._wanted is None or thread_id in self._wanted

    # -- files --------------------------------------------------------------------------------------------------------

    def _left_behind(self) -> Iterator[Finding]:
        """Temporary files, and packed files that nobody reads."""
        folders: list[Iterator[tuple[Path, Sequence[Entry]]]] = [
            _walk(self._home.fs, folder) for folder in (self._home.sessions, self._home.archived_sessions)
        ]
        for folder, entries in (each for walk in folders for each in walk):
            names = {entry.name for entry in entries if not entry.is_dir}
            for entry in sorted(entries):
                if entry.is_dir:
                    continue
                if entry.name.endswith(".tmp"):
                    yield from self._temporary(folder / entry.name, entry)
                elif entry.name.endswith(".zst") and entry.name.removesuffix(".zst") in names:
                    name = RolloutName.parse(entry.name)
                    if name is not None and self._concerns(name.thread_id):
                        why = f"only {entry.name.removesuffix('.zst')} is read"
                        yield finding(
                            "compressed-beside-plain",
                            why,
                            thread_id=name.thread_id,
                            path=str(folder / entry.name),
                        )
        if self._wanted is not None:
            return
        for folder in (self._home.path, self._clew_home / "owners"):
            for entry in sorted(_entries(self._home.fs, folder)):
                if not entry.is_dir and entry.name.endswith(".tmp"):
                    yield from self._temporary(folder / entry.name, entry)

    def _temporary(self, path: Path, entry: Entry) -> Iterator[Finding]:
        name = RolloutName.parse(path.name.partition(".jsonl")[0] + ".jsonl")
        thread_id = name.thread_id if name is not None else None
        if not self._concerns(thread_id):
            return
        age = self._clock.now() - entry.mtime_ns / 1e9
        young = age < YOUNG_SECONDS
        why = "a temporary file; it may be in use" if young else "a temporary file nobody finished"
        severity = "info" if young else None
        yield finding("temporary-file", why, thread_id=thread_id, path=str(path), severity=severity)

    def _modes(self) -> Iterator[Finding]:
        """One finding for all: Codex itself leaves the rights of its files to the umask."""
        wide: list[Path] = []
        for folder in (self._home.sessions, self._home.archived_sessions, self._home.lock_folder):
            if self._wanted is None:
                wide += self._wide(folder, limit=0o700)
            for below, entries in _walk(self._home.fs, folder):
                for entry in entries:
                    if self._wanted is not None and not any(one in entry.name.lower() for one in self._wanted):
                        continue
                    wide += self._wide(below / entry.name, limit=0o700 if entry.is_dir else 0o600)
        if self._wanted is None:
            for name in ("session_index.jsonl", "saved_sessions.json"):
                wide += self._wide(self._home.path / name, limit=0o600)
            wide += self._wide(self._clew_home / "owners", limit=0o700)
        if not wide:
            return
        shown = str(wide[0]) if len(wide) == 1 else f"{len(wide)} files and folders ({wide[0]} among them)"
        (only,) = self._wanted if self._wanted is not None and len(self._wanted) == 1 else (None,)
        why = f"others may look into {shown}; chmod -R go= closes them"
        yield finding("mode-too-wide", why, thread_id=only, path=str(self._home.path))

    def _wide(self, path: Path, *, limit: int) -> list[Path]:
        try:
            mode = self._home.fs.stat(path).mode
        except OSError:
            return []
        return [path] if mode & 0o777 & ~limit & 0o077 else []

    # -- names --------------------------------------------------------------------------------------------------------

    def names(self) -> Iterator[Finding]:
        newest: dict[str, NameLine] = {}
        path = str(self._home.session_index)
        for row in name_rows(self._home):
            if row.thread_id is not None:
                newest[row.thread_id] = row
            elif self._wanted is None:
                why = "this row of names cannot be read"
                yield finding("name-row-damaged", why, path=path, line=row.line, offset=row.offset)
        for thread_id, row in newest.items():
            if row.name and thread_id not in self._known and self._concerns(thread_id):
                yield finding(
                    "name-orphaned",
                    f"{row.name!r} names a thread that is not there",
                    thread_id=thread_id,
                    path=path,
                    line=row.line,
                    offset=row.offset,
                )

    def _saved_sessions(self) -> Iterator[Finding]:
        path = self._home.path / "saved_sessions.json"
        try:
            entries = read_saved_sessions(self._home)
        except LogDamaged as damage:
            yield finding("saved-sessions-damaged", damage.why, path=str(path))
            return
        except OSError as error:
            yield finding("saved-sessions-damaged", error.strerror or str(error), path=str(path))
            return
        for entry in entries:
            if canonical_id(entry.conversation_id) in self._known or _is_file(self._home.fs, Path(entry.rollout_path)):
                continue
            why = f"{entry.name!r} names thread {entry.conversation_id}, which is not there"
            yield finding("saved-session-lost", why, path=str(path))

    def _journals(self) -> Iterator[Finding]:
        for name, row in (("shelf", ShelfRow), ("trash", TrashRow), ("relocations", MoveRow)):
            journal = Journal(self._home.fs, self._clew_home / f"{name}.jsonl", row)
            path = str(journal.path)
            try:
                for line, offset in journal.damaged_lines():
                    why = "this line says nothing that clew understands; what it told is lost, the others count"
                    yield finding("journal-row-damaged", why, path=path, line=line, offset=offset)
            except OSError as error:
                yield finding("journal-unreadable", error.strerror or str(error), path=path)


def seek_table_fault(file: File) -> str | None:
    """Why the seek table at the end of a zstd file is wrong; None if it is right, or there is none."""
    size = file.size()
    foot = file.read_at(max(0, size - 9), 9)
    if len(foot) < 9 or foot[5:] != _SEEKABLE or read_table(file) is not None:
        return None
    count, checked = int.from_bytes(foot[:4], "little"), foot[4] >> 7
    entry = 12 if checked else 8
    start = size - 9 - count * entry - 8
    if start < 0 or file.read_at(start, 4) != _SKIPPABLE:
        return f"it counts {count} frames, which is not how long it is"
    frames = [frame for frame in walk_frames(file) if frame.damage is None]
    if len(frames) != count:
        return f"it counts {count} frames, the file has {len(frames)}"
    for number, frame in enumerate(frames):
        told = int.from_bytes(file.read_at(start + 8 + number * entry, 4), "little")
        if told != frame.length:
            return f"frame {number + 1} has {frame.length} bytes, the table says {told}"
    return "the lengths or checksums of the text are not those of the frames"


def check_seek_table(home: Home, file: RolloutFile) -> Iterator[Finding]:
    """Hold the seek table of a compressed rollout, if it has one, against its frames."""
    with contextlib.suppress(OSError), contextlib.closing(home.fs.open_read(file.path)) as opened:
        fault = seek_table_fault(opened)
        if fault is not None:
            why = f"the seek table is wrong: {fault}"
            yield finding("seek-table-wrong", why, thread_id=file.thread_id, path=str(file.path))


def stale_locks(home: Home, clew_home: Path) -> list[StaleLock]:
    """Lock files nobody holds, and owner records without a held lock. Nothing is changed; other programs that take a
    lock meanwhile wait for a moment. Nothing is found where the coordination lock cannot be had."""
    with held_lock(home.fs, home.coordination_lock, LOCK_SECONDS, create=False) as passed:
        if not passed:
            return []
        return list(find_stale(home, clew_home))


def find_stale(home: Home, clew_home: Path) -> Iterator[StaleLock]:
    """`stale_locks` for whoever holds the coordination lock."""
    held: set[str] = set()
    for entry in sorted(_entries(home.fs, home.lock_folder)):
        thread_id = canonical_id(entry.name.removesuffix(".lock"))
        if entry.is_dir or not entry.name.endswith(".lock") or thread_id is None:
            continue
        path = home.lock_folder / entry.name
        try:
            with contextlib.closing(home.fs.open_read(path)) as file:
                free = file.try_lock()
        except OSError:
            free = False  # gone meanwhile, or a disk that cannot say
        if free:
            yield StaleLock("stale-lock", path, thread_id, "nobody holds this lock")
        else:
            held.add(thread_id)
    owners = clew_home / "owners"
    for entry in sorted(_entries(home.fs, owners)):
        name, _, ending = entry.name.rpartition(".")
        thread_id = canonical_id(name)
        if entry.is_dir or thread_id is None or thread_id in held:
            continue
        if ending == "json":
            why = _owner_fault(home.fs, clew_home, thread_id)
        elif ending == "wanted":
            line = WaitingLine(home.fs, clew_home, thread_id)
            why = "those who waited for the thread have ended" if line.there and not line.living() else None
        else:
            continue
        if why is not None:
            yield StaleLock("stale-owner", owners / entry.name, thread_id, why)


def _owner_fault(fs: FileSystem, clew_home: Path, thread_id: str) -> str | None:
    """Why a record beside a lock that nobody holds is stale; None for one of another machine."""
    record = read_record(fs, clew_home, thread_id)
    if record is None:
        return "this owner record cannot be read"
    standing = record.standing()
    if standing.state == "elsewhere":
        return None
    return f"{record.owner()} does not hold the lock" + (f": {standing.why}" if standing.why else "")


@contextlib.contextmanager
def held_lock(fs: FileSystem, path: Path, seconds: float, *, create: bool = True) -> Generator[bool]:
    """Hold the advisory lock of a file; False when it could not be had in time. Without `create`, a file that is not
    there counts as held: nobody else holds it either."""
    try:
        file = fs.open_append(path) if create else fs.open_read(path)
    except FileNotFoundError:
        yield True
        return
    with contextlib.closing(file):
        yield lock_within(file, seconds)


def name_rows(home: Home) -> Iterator[NameLine]:
    """The rows of `session_index.jsonl` that are not blank, oldest first, also those that cannot be read."""
    try:
        file = home.fs.open_read(home.session_index)
    except OSError:
        return
    with contextlib.closing(file):
        for number, (offset, line) in enumerate(_lines(file), 1):
            if not line.strip():
                continue
            end = offset + len(line)
            try:
                wire = msgspec.json.decode(line.removeprefix(b"\xef\xbb\xbf"), type=_WireName)
                thread_id = canonical_id(wire.id)
            except (msgspec.DecodeError, ValueError, RecursionError):
                yield NameLine(number, offset, end)
                continue
            yield NameLine(number, offset, end, thread_id, (wire.thread_name or "").strip())


def _lines(file: File) -> Iterator[tuple[int, bytes]]:
    """Lines with their newlines and where they begin."""
    begin = at = 0
    rest = b""
    while block := file.read_at(at, BLOCK):
        at += len(block)
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            yield begin, line + b"\n"
            begin += len(line) + 1
    if rest:
        yield begin, rest


def _walk(fs: FileSystem, folder: Path, depth: int = 0) -> Iterator[tuple[Path, Sequence[Entry]]]:
    entries = _entries(fs, folder)
    if entries:
        yield folder, entries
    if depth < DEEPEST:
        for entry in sorted(entries):
            if entry.is_dir:
                yield from _walk(fs, folder / entry.name, depth + 1)


def _entries(fs: FileSystem, folder: Path) -> Sequence[Entry]:
    try:
        return fs.scan(folder)
    except OSError:
        return ()


def _is_file(fs: FileSystem, path: Path) -> bool:
    try:
        return not fs.stat(path).is_dir
    except OSError:
        return False
