"""Moving the files of threads from one folder of a disk to another, so that no crash loses one.

The caller holds the writer locks of the threads.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path

from clew.clock import Clock
from clew.errors import Owner, ThreadNotFound
from clew.rollout import FailPoints, FileSystem, Home, RolloutFile, ThreadFiles, WriterLock
from clew.store.refusals import refusal

__all__ = ["Moved", "Moves", "all_locked"]


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


@dataclass(frozen=True, slots=True)
class Moved:
    """A file that has another place now. `folders`: both of them, with the time of the last change just before this one
    and just after it (nanoseconds since 1970); without those whose time could not be told."""

    thread_id: str
    path: Path
    target: Path
    folders: tuple[tuple[Path, int, int], ...] = ()


class Moves:
    """Archiving and taking out again, and the one step both are made of. All of it raises `OSError`.

    `find` gives the files of a thread; `told` hears of every file that was put into the archive or taken out.
    """

    def __init__(
        self,
        home: Home,
        *,
        clock: Clock,
        fail: FailPoints,
        find: Callable[[str], ThreadFiles | None] | None = None,
        told: Callable[[Moved], None] | None = None,
    ) -> None:
        self._home = home
        self._clock = clock
        self._fail = fail
        self._find = find or home.find
        self._told = told

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
            place = target / file.path.name
            folders = self.move(file.path, place)
            if not archived:
                fs.set_mtime(place, int(self._clock.now() * 1_000_000_000))
            if self._told is not None:
                self._told(Moved(thread_id, file.path, place, folders))
            moved = True
        return moved

    def _files(self, thread_id: str) -> ThreadFiles:
        files = self._find(thread_id)
        if files is None:
            raise ThreadNotFound(thread_id)
        return files

    def move(self, path: Path, target: Path) -> tuple[tuple[Path, int, int], ...]:
        """Move one file, never over another (`FileExistsError`). The new name is durable before the old one goes, or
        power loss could take both. A move that was cut off is finished by the same call again. Gives the folders as
        `Moved` has them."""
        fs = self._home.fs
        arrived = self._time(target.parent)
        try:
            fs.link(path, target)
        except FileExistsError:
            if not _same(fs, path, target):
                raise
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
                raise
            fs.rename(path, target)  # no second names on this disk
        arrived = arrived, self._time(target.parent)
        self._fail.hit("after_rename")
        fs.sync_folder(target.parent)
        self._fail.hit("before_unlink")
        left = self._time(path.parent)
        with contextlib.suppress(FileNotFoundError):
            fs.unlink(path)
        left = left, self._time(path.parent)
        fs.sync_folder(path.parent)
        return tuple(
            (folder, before, after)
            for folder, (before, after) in ((target.parent, arrived), (path.parent, left))
            if before is not None and after is not None
        )

    def _time(self, folder: Path) -> int | None:
        if self._told is None:
            return None
        glance = self._home.fs.glance((str(folder),))[0]
        return None if glance is None else glance[1]


def _same(fs: FileSystem, one: Path, other: Path) -> bool:
    return fs.stat(one).identity == fs.stat(other).identity
