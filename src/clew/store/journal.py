"""Small append-only journals: JSON lines under `$CLEW_HOME`, for what the logs have no room for.

A row is durable before it is acknowledged. Earlier bytes never change and nothing is compacted: a row is about 150
bytes, so that ten thousand changes make 1.5 MB. Damage costs the line it is in, and is counted.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import msgspec

from clew.errors import ClewError, DiskFull, HomeUnwritable, SyncFailed
from clew.rollout import FailPoints, File, FileIdentity, FileSystem, lock_within

__all__ = ["Journal", "JournalPen", "Place", "Replay"]

BLOCK = 1 << 20
LOCK_SECONDS = 5.0
REMEMBERED = 64
"""Bytes before a place by which it is known again."""

Row = TypeVar("Row", bound=msgspec.Struct)


class Place(NamedTuple):
    """Up to where a journal was read: which file, how many bytes, and the last of them."""

    identity: FileIdentity
    offset: int
    before: bytes


@dataclass(frozen=True, slots=True)
class Replay(Generic[Row]):
    """Rows in their order. `afresh`: they are all there are, and what was read before does not count; else they come
    after it. `place` None: read everything anew next time. `damaged` counts the lines among them that are no rows."""

    rows: Sequence[Row]
    afresh: bool
    place: Place | None
    damaged: int = 0


class Journal(Generic[Row]):
    """One journal file; `row` is what a line holds. Other programs may append to it at the same time."""

    def __init__(self, fs: FileSystem, path: Path, row: type[Row], *, fail: FailPoints | None = None) -> None:
        self.path = path
        self._fs = fs
        self._decoder = msgspec.json.Decoder(row)
        self._fail = fail or FailPoints()
        self._named: FileIdentity | None = None  # the file whose name is known to be durable
        self._doubtful: tuple[FileIdentity, int] | None = None  # from where on a sync failed

    @property
    def version(self) -> tuple[FileIdentity, int, int] | None:
        """Equal while nothing changed; None while there is no file. Raises `OSError`."""
        try:
            status = self._fs.stat(self.path)
        except FileNotFoundError:
            return None
        return status.identity, status.size, status.mtime_ns

    def read(self, after: Place | None = None) -> Replay[Row]:
        """The rows behind a place, or all of them where the file is not the one that was read. Raises `OSError`."""
        try:
            file = self._fs.open_read(self.path)
        except FileNotFoundError:
            return Replay((), afresh=True, place=None)
        with contextlib.closing(file):
            identity = file.identity()
            if after is not None and not _known_again(file, identity, after):
                after = None
            start = after.offset if after is not None else 0
            data = _rest(file, start)
        rows: list[Row] = []
        damaged = 0
        whole, newline, tail = data.rpartition(b"\n")
        for line in whole.split(b"\n") if newline else ():
            # A line that a failed sync has taken from the disk is zeros, and runs into the next.
            line = line.strip(b"\0\r ")
            if not line:
                continue
            try:
                rows.append(self._decoder.decode(line))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                damaged += 1
        place = Place(identity, start + len(whole) + 1, (whole[-REMEMBERED:] + b"\n")) if newline else after
        if tail:
            # Torn, unless somebody's editor has only taken the last newline away.
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                rows.append(self._decoder.decode(tail))
                place = None
        return Replay(rows, afresh=after is None, place=place, damaged=damaged)

    def damaged_lines(self) -> Sequence[tuple[int, int]]:
        """The lines that are no rows: the number of each, from 1, and its first byte. Raises `OSError`."""
        try:
            file = self._fs.open_read(self.path)
        except FileNotFoundError:
            return ()
        with contextlib.closing(file):
            data = _rest(file, 0)
        found: list[tuple[int, int]] = []
        offset = 0
        for number, line in enumerate(data.split(b"\n"), 1):
            clean = line.strip(b"\0\r ")
            if clean:
                try:
                    self._decoder.decode(clean)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    found.append((number, offset))
            offset += len(line) + 1
        return found

    @contextlib.contextmanager
    def writing(self) -> Generator[JournalPen[Row]]:
        """The right to append, which one program has at a time: what is read meanwhile stays true until it appends.

        Waits a few seconds for others. Raises `HomeUnwritable`, `DiskFull`, `SyncFailed`.
        """
        try:
            self._fs.make_folder(self.path.parent)
            file = self._fs.open_append(self.path)
        except OSError as error:
            raise _refused(error, self.path) from error
        with contextlib.closing(file):
            self._lock(file)
            yield JournalPen(self, file)

    def _lock(self, file: File) -> None:
        try:
            got = lock_within(file, LOCK_SECONDS)
        except OSError as error:
            raise _refused(error, self.path) from error
        if not got:
            raise HomeUnwritable(self.path, "another program keeps it locked")

    def append(self, rows: Sequence[Row], file: File, *, durable: bool) -> None:
        """Write rows to the locked file; see `JournalPen`."""
        data = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
        identity = file.identity()
        try:
            self._settle(file, identity)
            size = file.size()
            if data:
                if size and file.read_at(size - 1, 1) != b"\n":
                    data = b"\n" + data
                self._fail.hit("before_write")
                file.write(data)
                self._fail.hit("after_write")
        except OSError as error:
            raise _refused(error, self.path) from error
        if not durable:
            return
        try:
            self._fail.hit("before_sync")
            try:
                file.sync()
            except OSError:
                self._doubtful = identity, size
                raise
            self._fail.hit("after_sync")
            if self._named != identity:
                # Also when the file was there: whoever made it may not have got to this.
                self._fail.hit("before_folder_sync")
                self._fs.sync_folder(self.path.parent)
                self._fail.hit("after_folder_sync")
                self._named = identity
        except OSError as error:
            raise SyncFailed(self.path, error.strerror or str(error)) from error

    def _settle(self, file: File, identity: FileIdentity) -> None:
        """Write once more what a failed sync may have left nowhere but in memory: the next sync would say nothing."""
        if self._doubtful is None:
            return
        which, offset = self._doubtful
        if which == identity and (data := _rest(file, offset)):
            with contextlib.closing(self._fs.open_update(self.path)) as again:
                again.write_at(offset, data)
        self._doubtful = None


class JournalPen(Generic[Row]):
    """A journal that no other program appends to."""

    def __init__(self, journal: Journal[Row], file: File) -> None:
        self._journal = journal
        self._file = file

    def append(self, *rows: Row, durable: bool = True) -> None:
        """Append rows; they and all before them are durable when this returns, also with none to append (not `durable`:
        when a later call does). Raises `HomeUnwritable`, `DiskFull`, `SyncFailed`."""
        self._journal.append(rows, self._file, durable=durable)


def _rest(file: File, offset: int) -> bytes:
    parts: list[bytes] = []
    while block := file.read_at(offset, BLOCK):
        parts.append(block)
        offset += len(block)
    return b"".join(parts)


def _known_again(file: File, identity: FileIdentity, place: Place) -> bool:
    if place.identity != identity or place.offset > file.size():
        return False
    length = len(place.before)
    return file.read_at(place.offset - length, length) == place.before


def _refused(error: OSError, path: Path) -> ClewError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(path)
    return HomeUnwritable(path, error.strerror or str(error))
