"""What one process knows to survive power loss, so that nothing is synced twice for nothing and nothing is taken on
trust.

A program that was killed may have left files, and names of files and folders, that are seen by everyone and would still
be gone after power loss. Whoever builds on them makes them durable first.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from clew.rollout.filesystem import File, FileIdentity, FileSystem

__all__ = ["Doubt", "KnownDurable"]

BLOCK = 1 << 20

TICK_NS = 1_000_000_000
"""Changes of a folder that are younger may share their time with one that is still to come."""

SETTLED_NS = 3_600_000_000_000
"""The age of a folder at which its own name is on disk by itself: systems write names out within a minute."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """Bytes of a file, from `offset` on, whose sync failed: they must be written once more before anything else."""

    offset: int
    data: bytes

    def fits(self, now: bytes) -> bool:
        """Whether `now`, what stands at the offset, can be these bytes: the system may have dropped some and show
        zeros instead. (Another file may have been given the identity of one that was removed.)"""
        if len(now) < len(self.data):
            return False
        return now.startswith(self.data) or all(seen in (0, meant) for seen, meant in zip(now, self.data, strict=False))


class KnownDurable:
    """Shared by the writers of one process, in whatever threads they work."""

    def __init__(self) -> None:
        self._folders: dict[FileIdentity, int] = {}
        self._sizes: dict[FileIdentity, int] = {}
        self._doubts: dict[FileIdentity, Doubt] = {}
        self._failed: set[FileIdentity] = set()

    def size(self, identity: FileIdentity) -> int | None:
        """How many bytes of a file this process has synced; None if it never did."""
        return self._sizes.get(identity)

    def note_size(self, identity: FileIdentity, size: int) -> None:
        self._sizes[identity] = size

    def note_doubt(self, identity: FileIdentity, doubt: Doubt) -> None:
        self._sizes.pop(identity, None)
        self._doubts[identity] = doubt

    def take_doubt(self, identity: FileIdentity) -> Doubt | None:
        return self._doubts.pop(identity, None)

    def sync_names(self, fs: FileSystem, folder: Path, now: float) -> None:
        """Make the names in a folder of rollouts durable, and those of the folders above that may be as new. `now`:
        seconds since 1970. A folder that this process has synced since it last changed is left alone."""
        now_ns = int(now * 1_000_000_000)
        while True:
            status = fs.stat(folder)
            if self._folders.get(status.identity) != status.mtime_ns:
                fs.sync_folder(folder)
                if now_ns - status.mtime_ns > TICK_NS:
                    self._folders[status.identity] = status.mtime_ns
            # A folder is at least as old as its last change.
            if now_ns - status.mtime_ns > SETTLED_NS or not _has_its_place(folder.name):
                return
            folder = folder.parent

    def sync_whole(self, fs: FileSystem, path: Path, now: float) -> None:
        """Make a file durable that another one builds on, with its name."""
        file = fs.open_read(path)
        try:
            identity, size = file.identity(), file.size()
            if self._sizes.get(identity) != size:
                self._sync_content(fs, file, identity, size)
        finally:
            file.close()
        self.sync_names(fs, path.parent, now)

    def _sync_content(self, fs: FileSystem, file: File, identity: FileIdentity, size: int) -> None:
        doubt = self._doubts.get(identity)
        if doubt is not None and doubt.fits(file.read_at(doubt.offset, size - doubt.offset)):
            # A writer of this process could not sync its last lines: what is seen of them may be all there is.
            with contextlib.closing(fs.open_update(file.path)) as again:
                again.write_at(doubt.offset, doubt.data)
                again.sync()
            self._doubts.pop(identity, None)
        elif identity not in self._failed:
            self._failed.add(identity)
            file.sync()
        else:
            # Another sync would succeed without writing what the failed one did not: it is written once more, as it
            # is seen, to its own place.
            with contextlib.closing(fs.open_update(file.path)) as again:
                offset = 0
                while offset < size and (block := file.read_at(offset, min(BLOCK, size - offset))):
                    again.write_at(offset, block)
                    offset += len(block)
                again.sync()
        self._failed.discard(identity)
        self._sizes[identity] = size


def _has_its_place(name: str) -> bool:
    """Whether a folder is one of the home's: of a day, a month, a year, or what holds them."""
    return name in ("sessions", "archived_sessions") or (name.isascii() and name.isdecimal())
