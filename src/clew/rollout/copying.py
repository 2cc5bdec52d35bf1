"""A new rollout made of another one's lines: written beside its place, durable before it gets its name.

Lines go over as bytes, without their numbers. Only those that cannot stay as they are (another format, another dialect)
are looked at, and nothing is held but a block.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from clew.clock import Clock, utc_stamp
from clew.errors import ClewError, DiskFull, LogReplaced, SyncFailed
from clew.rollout.durable import KnownDurable
from clew.rollout.envelope import Line, Record, Skipped, encode_line
from clew.rollout.failpoints import FailPoints
from clew.rollout.filesystem import File, FileSystem
from clew.rollout.leftovers import CREATING, new_beside, remove_old
from clew.rollout.scan import UNREADABLE, Passes, scan_forward
from clew.rollout.source import ByteSource

__all__ = ["Draft", "new_rollout"]

_BLOCK = 1 << 20
_BARE = re.compile(rb'\{"timestamp":"[^"\\]*","type":"').match
_NUMBERED = re.compile(rb'(\{"timestamp":"[^"\\]*",)"ordinal":(\d{1,18}),("type":")').match


class Draft:
    """A rollout that has no name yet. Bytes that were added are on their way to the disk."""

    def __init__(self, file: File, stamp: str) -> None:
        self._file = file
        self._stamp = stamp
        self._parts: list[bytes | memoryview] = []
        self._held = 0
        self._block, self._ascii = b"", True  # what lines are taken from
        self._first, self._last = -1, 0  # the piece of it that goes over next

    def add(self, lines: Sequence[Line]) -> None:
        """New lines, of now, without numbers."""
        for line in lines:
            self._put(encode_line(line, timestamp=self._stamp, ordinal=None))

    def copy(
        self,
        source: ByteSource,
        end: int | None,
        *,
        below: int | None = None,
        special: Passes,
        rewrite: Callable[[Record], Sequence[Line]],
    ) -> Skipped | None:
        """The lines of `source` before `end` (those with ordinals: below `below`), without their numbers, at their
        times. What `special` tells (anything but None) comes out as `rewrite` has it.

        What is no line of a rollout, or no UTF-8 (which keeps Codex from reading the rest), is left out. A line that
        the disk does not give ends it and is returned.
        """

        def take(data: bytes, start: int, stop: int) -> object:
            # Whatever is not taken here comes decoded, below.
            if data is not self._block:
                self._end_run()
                if self._held >= _BLOCK:
                    self.flush()
                self._block, self._ascii = data, data.isascii()
            if special(data, start, stop) is None and (self._ascii or _is_utf8(data[start:stop])):
                if _BARE(data, start, stop):
                    return self._run(start, stop)
                if (match := _NUMBERED(data, start, stop)) is not None:
                    if below is not None and int(match[2]) >= below:
                        return True
                    self._put(match[1])
                    return self._run(match.start(3), stop)
            self._end_run()
            return None

        for found in scan_forward(source, 0, end, passes=take, block=_BLOCK):
            if isinstance(found, Skipped):
                if UNREADABLE in found.why:
                    return found
                continue
            if below is not None and found.ordinal is not None and found.ordinal >= below:
                continue
            for line in rewrite(found):
                self._put(encode_line(line, timestamp=found.timestamp or self._stamp, ordinal=None))
        self._end_run()
        return None

    def _run(self, start: int, stop: int) -> bool:
        """Take a piece of the block as it is; pieces that follow each other become one."""
        if self._first < 0 or start != self._last:
            self._end_run()
            self._first = start
        self._last = stop + 1
        if stop == len(self._block):  # its newline lies in another block
            self._end_run()
            self._put(b"\n")
        return True

    def _end_run(self) -> None:
        if self._first >= 0:
            piece = memoryview(self._block)[self._first : self._last]
            self._first = -1
            self._parts.append(piece)
            self._held += len(piece)

    def _put(self, part: bytes) -> None:
        self._end_run()
        self._parts.append(part)
        self._held += len(part)
        if self._held >= _BLOCK:
            self.flush()

    def flush(self) -> None:
        """Hand everything to the system."""
        self._end_run()
        if self._parts:
            data = b"".join(self._parts)
            self._parts, self._held = [], 0
            self._file.write(data)


def new_rollout(
    fs: FileSystem,
    path: Path,
    fill: Callable[[Draft], None],
    *,
    clock: Clock,
    fail: FailPoints,
    known: KnownDurable,
) -> None:
    """Make the rollout `path` of what `fill` puts into it. The name appears when all of it is durable, or not at all.

    Raises `DiskFull`, `SyncFailed`, `LogReplaced` where there is one already, and what `fill` raises.
    """
    try:
        fs.make_folder(path.parent)
        file = new_beside(fs, path, CREATING, os.getpid())
    except OSError as error:
        raise _refused(path, error) from error
    try:
        fail.hit("after_create")
        draft = Draft(file, utc_stamp(clock.now()))
        fail.hit("before_write")
        fill(draft)
        draft.flush()
        fail.hit("after_write")
        fail.hit("before_sync")
        file.sync()
        fail.hit("after_sync")
        fail.hit("before_link")
        _give_name(fs, file, path)
        fail.hit("after_rename")
    except FileExistsError as error:
        _give_up(fs, file)
        raise LogReplaced(path) from error
    except OSError as error:
        _give_up(fs, file)
        raise _refused(path, error) from error
    except ClewError:
        _give_up(fs, file)
        raise
    except BaseException:
        file.close()
        raise
    file.close()
    remove_old(fs, path.parent, CREATING, clock.now())
    try:
        fail.hit("before_folder_sync")
        known.sync_names(fs, path.parent, clock.now())
        fail.hit("after_folder_sync")
    except OSError as error:
        raise _refused(path, error) from error


def _give_name(fs: FileSystem, file: File, path: Path) -> None:
    identity = file.identity()
    try:
        fs.rename(file.path, path)
    except FileExistsError:
        raise
    except OSError:
        # A rename has several steps; what counts is whether the name is there.
        if fs.stat(path).identity != identity:
            raise


def _give_up(fs: FileSystem, file: File) -> None:
    with contextlib.suppress(OSError):
        file.close()
    with contextlib.suppress(OSError):
        fs.unlink(file.path)


def _is_utf8(line: bytes) -> bool:
    try:
        str(line, "utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _refused(path: Path, error: OSError) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(path)
    return SyncFailed(path, error.strerror or os.strerror(error.errno or errno.EIO))
