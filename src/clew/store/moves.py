"""Moving the files of threads from one folder of a disk to another, so that no crash loses one.

The caller holds the writer locks of the threads.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Generator, Iterable
from pathlib import Path

from clew.clock import Clock
from clew.errors import Owner, ThreadNotFound
from clew.rollout import FailPoints, FileSystem, Home, RolloutFile, ThreadFiles, WriterLock
from clew.store.refusals import refusal

__all__ = ["Moves", "all_locked"]


@contextlib.contextmanager
def all_locked(home: Home, clew_home: Path, thread_ids: Iterable[str], owner: Owner) -> Generator[None]:
    """The writer locks of all these threads, or of none: `ThreadBusy` names who holds the first that is held.

    They are taken in one order everywhere, and nobody is waited for, so that two who want some of the same cannot
    stand still. What the disk refuses is `HomeUnwritable` or `DiskFull`.
    """
    with contextlib.ExitStack() as held:
        for thread_id in sorted(thread_ids):
            try:
                lock = WriterLock.acquire(home, clew_home, thread_id, owner)
            except OSError as error:
                raise refusal(error, home.path, thread_id) from error
            held.callback(_release, lock, home)
        yield


def _release(lock: WriterLock, home: Home) -> None:
    try:
        lock.release()
    except OSError as error:
        raise refusal(error, home.lock_folder, lock.thread_id) from error


class Moves:
    """Archiving and taking out again, and the one step both are made of. All of it raises `OSError`."""

    def __init__(self, home: Home, *, clock: Clock, fail: FailPoints) -> None:
        self._home = home
        self._clock = clock
        self._fail = fail

    def archive(self, thread_id: str) -> bool:
        """Move a thread's files into the archive; False when they were there. Raises `ThreadNotFound`."""
        return self._all(thread_id, lambda file: self._home.archived_sessions, archived=True)

    def unarchive(self, thread_id: str) -> bool:
        """Move a thread's files to where their names say; False when they were there. Raises `ThreadNotFound`."""
        return self._all(thread_id, lambda file: self._home.dated_folder(file.name), archived=False)

    def _all(self, thread_id: str, folder: Callable[[RolloutFile], Path], *, archived: bool) -> bool:
        """Oldest segment first, so that the newest never stands without its base's neighbour."""
        fs = self._home.fs
        files = self._files(thread_id)
        moved = False
        for double in files.doubles:
            # A move that was cut off leaves a file under both of its names.
            if any(_same(fs, double.path, file.path) for file in files.segments):
                fs.unlink(double.path)
        for file in files.segments:
            target = folder(file)
            if file.archived == archived:
                # Whoever moved it may not have got to making that durable.
                for place in (file.path.parent, self._home.dated_folder(file.name), self._home.archived_sessions):
                    with contextlib.suppress(FileNotFoundError):
                        fs.sync_folder(place)
                continue
            fs.make_folder(target)
            if not file.compressed:
                # A crash while it was unpacked leaves the packed form behind the plain one; left here alone it
                # would be a thread again.
                packed = file.path.with_name(f"{file.path.name}.zst")
                with contextlib.suppress(FileNotFoundError):
                    fs.rename(packed, target / packed.name)
            self.move(file.path, target / file.path.name)
            if not archived:
                fs.set_mtime(target / file.path.name, int(self._clock.now() * 1_000_000_000))
            moved = True
        return moved

    def _files(self, thread_id: str) -> ThreadFiles:
        files = self._home.find(thread_id)
        if files is None:
            raise ThreadNotFound(thread_id)
        return files

    def move(self, path: Path, target: Path) -> None:
        """Move one file, never over another (`FileExistsError`). The new name is durable before the old one goes, or
        power loss could take both. A move that was cut off is finished by the same call again."""
        fs = self._home.fs
        try:
            fs.link(path, target)
        except FileExistsError:
            if not _same(fs, path, target):
                raise
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
                raise
            fs.rename(path, target)  # no second names on this disk
        self._fail.hit("after_rename")
        fs.sync_folder(target.parent)
        self._fail.hit("before_unlink")
        with contextlib.suppress(FileNotFoundError):
            fs.unlink(path)
        fs.sync_folder(path.parent)


def _same(fs: FileSystem, one: Path, other: Path) -> bool:
    return fs.stat(one).identity == fs.stat(other).identity
