"""Appending to one log: whole lines, earlier bytes never touched, nothing acknowledged that could still be lost.

A new log appears under its name with its first lines in it, or not at all: they are written and synced beside it first.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from clew.clock import Clock, utc_stamp
from clew.errors import DiskFull, LogReplaced, SyncFailed
from clew.rollout.chain import Head, parse_head
from clew.rollout.durable import Doubt, KnownDurable
from clew.rollout.envelope import Line, Record, Skipped, encode_rest
from clew.rollout.failpoints import FailPoints
from clew.rollout.filesystem import File, FileIdentity, FileSystem
from clew.rollout.leftovers import CREATING, new_beside, remove_old
from clew.rollout.scan import UNREADABLE, scan_back, scan_forward
from clew.rollout.source import PlainSource

__all__ = ["KNOWN_TYPES", "LogWriter"]

KNOWN_TYPES = frozenset(
    {
        "compacted",
        "event_msg",
        "inter_agent_communication",
        "inter_agent_communication_metadata",
        "response_item",
        "session_meta",
        "token_usage_record",
        "turn_context",
        "world_state",
    }
)
"""The line types that take part in numbering."""

HELD_UNSYNCED = 16 << 20
"""Bytes written but not yet synced that are kept for writing them again; beyond that a sync is forced."""

HEAD_LINES = 210


@dataclass(slots=True)
class _Staged:
    """A line that was accepted: as it was given, as JSON behind its number, and (once that is known) as bytes of the
    file. `head`: what it says about the file, if it begins one."""

    line: Line
    rest: bytes
    head: Head
    data: bytes = b""


class LogWriter:
    """The one writer of a log, whose lock its owner holds. Not for several threads at once.

    The file is opened, or made with its folders, when the first lines are written. Every error leaves the lines that
    were not written in `pending`; they go out before those of the next call. `create` False: the file must be there.
    `known` is shared by the writers of a process that follow each other.
    """

    def __init__(
        self,
        fs: FileSystem,
        path: Path,
        clock: Clock,
        fail: FailPoints | None = None,
        *,
        create: bool = True,
        known: KnownDurable | None = None,
    ) -> None:
        self._fs = fs
        self._clock = clock
        self._fail = fail or FailPoints()
        self._create = create
        self._known = known or KnownDurable()
        self._file: File | None = None
        self._identity: FileIdentity | None = None
        self._born: tuple[FileIdentity, int] | None = None  # a file that may have its name, and how many lines it holds
        self._name_durable = True
        self._vouched = True  # what the file held before us is known to be durable
        self._paginated = False
        self._next_ordinal = 0
        self._size = 0
        self._durable = 0
        self._unsynced = bytearray()
        self._doubtful = False
        self._needs_newline = False
        self._staged: list[_Staged] = []
        self._begun = 0  # bytes of the first staged line that are in the file already
        self.path = path

    @property
    def size(self) -> int:
        """Bytes of the log as far as this writer knows."""
        return self._size

    @property
    def durable_size(self) -> int:
        """Bytes that survive power loss."""
        return self._durable

    @property
    def pending(self) -> tuple[Line, ...]:
        """Lines that were accepted and are not, or not wholly, in the file."""
        return tuple(staged.line for staged in self._staged)

    def append(self, lines: Sequence[Line]) -> int:
        """`stage` and `flush` in one."""
        self.stage(lines)
        return self.flush()

    def stage(self, lines: Sequence[Line]) -> None:
        """Accept lines. Raises `TypeError` for a payload that is no JSON; none of the lines is taken then."""
        self._staged += [_Staged(line, encode_rest(line), _head_of(line)) for line in lines]

    def flush(self) -> int:
        """Write everything pending in one go and give the log's size. With nothing pending, what was written and is not
        yet durable must still be in the file of this name.

        Raises `LogReplaced`, `DiskFull`, `SyncFailed`; the lines that are not in the file stay pending.
        """
        if not self._staged:
            if self._unsynced and (file := self._open()) is not None:
                self._check_same(file)
            return self._size
        file = self._open()
        if file is None:
            self._begin()
            return self._size
        self._check_same(file)
        if not self._staged:
            return self._size
        self._encode_staged()
        # A line that is there in part is continued; what somebody else left without its end is not.
        lead = b"\n" if self._needs_newline and not self._begun else b""
        data = lead + b"".join(staged.data for staged in self._staged)[self._begun :]
        try:
            self._fail.hit("before_write")
            file.write(data)
            self._fail.hit("after_write")
        except OSError as error:
            self._note_written(file, data, lead)
            raise self._refused(error) from error
        self._advance(data)
        self._needs_newline = False
        self._staged.clear()
        self._begun = 0
        if len(self._unsynced) > HELD_UNSYNCED:
            self.sync()
        return self._size

    def sync(self) -> None:
        """Make everything written so far durable, a new name included.

        A descriptor whose sync failed is never synced again, because the system may have dropped what it could not
        write: the file is opened anew, what is not known to be durable is written once more at its place, and that is
        synced. Raises `SyncFailed` (or `DiskFull`) when this fails too.
        """
        if self._unsynced or self._doubtful or not self._vouched:
            self._sync_content()
        self._sync_name()

    def close(self) -> None:
        """Sync and close. The file is closed even when the sync fails."""
        try:
            if self._file is not None or self._doubtful:
                self.sync()
        finally:
            if self._doubtful and self._identity is not None:
                self._known.note_doubt(self._identity, Doubt(self._durable, bytes(self._unsynced)))
            self._drop_file()

    # -- opening ------------------------------------------------------------------------------------------------------

    def _open(self) -> File | None:
        """None: there is no file yet."""
        if self._doubtful:
            self._write_again(None)
        if self._file is not None:
            return self._file
        known = self._identity is not None
        file = self._open_existing()
        if file is None:
            if known:
                raise LogReplaced(self.path)
            return None
        try:
            identity = file.identity()
            if known and (identity != self._identity or file.size() < self._size):
                raise LogReplaced(self.path)
            if not known:
                self._take_up(file, identity)
            self._identity = identity
        except OSError as error:
            file.close()
            raise self._refused(error) from error
        except BaseException:
            file.close()
            raise
        self._file = file
        if self._doubtful:
            self._write_again(None)
        return self._file

    def _take_up(self, file: File, identity: FileIdentity) -> None:
        """Go on in a file that is there. Whoever made it may not have got to making its name durable, nor whoever wrote
        last his lines."""
        self._durable = self._look(file)
        self._name_durable = False
        self._vouched = self._durable in (0, self._known.size(identity))
        if self._born is not None and identity == self._born[0]:
            # Ours after all: its name was given although the disk said it was not.
            self._vouched = True
            del self._staged[: self._born[1]]
            return
        doubt = self._known.take_doubt(identity)
        if doubt is None:
            return
        now = file.read_at(doubt.offset, self._size - doubt.offset)
        if doubt.fits(now):
            self._durable = doubt.offset
            self._unsynced[:] = doubt.data + now[len(doubt.data) :]
            self._doubtful = self._vouched = True

    def _open_existing(self) -> File | None:
        try:
            return self._fs.open_append(self.path, create=False)
        except FileNotFoundError:
            if not self._create and self._identity is None:
                raise LogReplaced(self.path) from None
            return None
        except OSError as error:
            raise self._refused(error) from error

    def _begin(self) -> None:
        """Make the log with everything pending in it. Its name appears when all of it is durable."""
        head = self._staged[0].head
        self._paginated = head.history_mode == "paginated"
        self._next_ordinal = _first_ordinal(head)
        self._forget_bytes()
        self._encode_staged()
        data = b"".join(staged.data for staged in self._staged)
        try:
            self._fs.make_folder(self.path.parent)
            file = new_beside(self._fs, self.path, CREATING, os.getpid())
        except OSError as error:
            raise self._refused(error) from error
        try:
            self._fail.hit("after_create")
            self._fail.hit("before_write")
            file.write(data)
            self._fail.hit("after_write")
            self._fail.hit("before_sync")
            file.sync()
            self._fail.hit("after_sync")
            self._fail.hit("before_link")
            identity = file.identity()
            self._born = identity, len(self._staged)
            self._give_name(file, identity)
            self._fail.hit("after_rename")
        except FileExistsError as error:
            self._give_up(file)
            raise LogReplaced(self.path) from error
        except OSError as error:
            self._give_up(file)
            raise self._refused(error) from error
        except BaseException:
            file.close()
            raise
        self._file, self._identity = file, identity
        self._name_durable, self._vouched = False, True
        self._size = self._durable = len(data)
        self._needs_newline = False
        self._staged.clear()
        remove_old(self._fs, self.path.parent, CREATING, self._clock.now())

    def _give_name(self, file: File, identity: FileIdentity) -> None:
        try:
            self._fs.rename(file.path, self.path)
        except FileExistsError:
            raise
        except OSError:
            # A rename has several steps; what counts is whether the name is there.
            if self._fs.stat(self.path).identity != identity:
                raise

    def _give_up(self, file: File) -> None:
        """The file beside it is of no use; the lines are kept for another try."""
        with contextlib.suppress(OSError):
            file.close()
        with contextlib.suppress(OSError):
            self._fs.unlink(file.path)
        self._forget_bytes()

    def _forget_bytes(self) -> None:
        """Have what is pending numbered and stamped anew."""
        self._begun = 0
        for staged in self._staged:
            staged.data = b""

    def _look(self, file: File) -> int:
        """Learn size, last byte and numbering from what is in the file; gives the size."""
        size = self._size = file.size()
        self._needs_newline = size > 0 and file.read_at(size - 1, 1) != b"\n"
        if size == 0:
            head = self._staged[0].head
            self._paginated = head.history_mode == "paginated"
            self._next_ordinal = _first_ordinal(head)
            return size
        source = PlainSource(file)
        head = _first_head(source)
        self._paginated = head is not None and head.history_mode == "paginated"
        if head is not None and not self._paginated:
            return size
        newer = 0
        for record in scan_back(source):
            if isinstance(record, Skipped) and record.why.startswith(UNREADABLE):
                raise OSError(errno.EIO, record.why, str(self.path))
            if not isinstance(record, Record) or record.type not in KNOWN_TYPES:
                continue
            if record.ordinal is not None:
                self._paginated = True
                self._next_ordinal = record.ordinal + 1 + newer
                return size
            newer += 1
            if head is None and newer >= HEAD_LINES:
                break
        if head is None and not newer:
            # Ruins of a first write that broke off: the thread begins with what is written now.
            head = self._staged[0].head
            self._paginated = head.history_mode == "paginated"
        self._next_ordinal = _first_ordinal(head) + newer
        return size

    def _encode_staged(self) -> None:
        """Number and stamp what has neither yet."""
        stamp = b'{"timestamp":"%s"' % utc_stamp(self._clock.now()).encode()
        for staged in self._staged:
            if not staged.data:
                number = b',"ordinal":%d' % self._next_ordinal if self._paginated else b""
                staged.data = stamp + number + staged.rest
                self._next_ordinal += 1

    # -- while writing ------------------------------------------------------------------------------------------------

    def _check_same(self, file: File) -> None:
        try:
            now = self._fs.stat(self.path).identity
            size = file.size()
            if now == self._identity and size > self._size:
                # A program without locks has appended: its lines stay, ours are numbered behind them, and a line of
                # ours that was cut short is written anew.
                self._unsynced += file.read_at(self._size, size - self._size)
                self._look(file)
                self._forget_bytes()
        except FileNotFoundError:
            now, size = None, 0
        except OSError as error:
            raise self._refused(error) from error
        if now != self._identity or size < self._size:
            self._drop_file()
            raise LogReplaced(self.path)

    def _advance(self, data: bytes) -> None:
        self._size += len(data)
        self._unsynced += data

    def _note_written(self, file: File, data: bytes, lead: bytes) -> None:
        """After a failed write: keep what did not arrive, and go on in the middle of a line next time."""
        try:
            written = max(0, min(len(data), file.size() - self._size))
        except OSError:
            written = 0
        self._advance(data[:written])
        if written and lead:
            self._needs_newline = False
            written -= len(lead)
        arrived = self._begun + written
        while self._staged and arrived >= len(self._staged[0].data):
            arrived -= len(self._staged.pop(0).data)
        self._begun = arrived

    def _sync_content(self) -> None:
        file = self._file
        if file is None or self._doubtful:
            self._write_again(None)
            return
        try:
            self._fail.hit("before_sync")
            file.sync()
            self._fail.hit("after_sync")
        except OSError as error:
            if not self._vouched:
                # What others left unsynced may be gone now, and we have no copy of it: told, once.
                self._vouched, self._doubtful = True, True
                raise self._refused(error) from error
            self._write_again(error)
        else:
            self._settled()

    def _write_again(self, cause: OSError | None) -> None:
        """Open anew and write the part that is not known to be durable once more, at its own place, and sync it."""
        self._doubtful = True
        self._drop_file()
        try:
            file = self._fs.open_update(self.path)
        except FileNotFoundError:
            raise LogReplaced(self.path) from cause
        except OSError as error:
            raise self._refused(error) from cause or error
        try:
            if file.identity() != self._identity or file.size() < self._durable:
                raise LogReplaced(self.path) from cause
            self._fail.hit("before_write")
            file.write_at(self._durable, bytes(self._unsynced))
            self._fail.hit("before_sync")
            file.sync()
            self._fail.hit("after_sync")
        except OSError as error:
            raise self._refused(error) from cause or error
        finally:
            file.close()
        try:
            self._file = self._fs.open_append(self.path, create=False)
        except OSError as error:
            raise self._refused(error) from error
        self._doubtful = False
        self._settled()

    def _settled(self) -> None:
        """Everything written is durable."""
        self._durable = self._size
        self._unsynced.clear()
        self._vouched = True
        if self._identity is not None:
            self._known.note_size(self._identity, self._size)

    def _sync_name(self) -> None:
        if self._name_durable:
            return
        try:
            self._fail.hit("before_folder_sync")
            self._known.sync_names(self._fs, self.path.parent, self._clock.now())
            self._fail.hit("after_folder_sync")
        except OSError as error:
            raise self._refused(error) from error
        self._name_durable = True

    def _refused(self, error: OSError) -> Exception:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return DiskFull(self.path)
        return SyncFailed(self.path, error.strerror or os.strerror(error.errno or errno.EIO))

    def _drop_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()


_NO_HEAD = Head()


def _head_of(line: Line) -> Head:
    if line.type != "session_meta":
        return _NO_HEAD
    return parse_head(Record(type=line.type, payload=msgspec.Raw(msgspec.json.encode(line.payload))))


def _first_ordinal(head: Head | None) -> int:
    base = head.history_base if head is not None else None
    return base.end_ordinal_exclusive if base else 0


def _first_head(source: PlainSource) -> Head | None:
    for count, line in enumerate(scan_forward(source), 1):
        if isinstance(line, Record) and line.type == "session_meta":
            return parse_head(line)
        if count >= HEAD_LINES:
            break
    return None
