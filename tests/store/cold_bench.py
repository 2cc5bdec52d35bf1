"""What the tests of cold threads share: a home whose clock stands still, and a worker over it."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clew.errors import Owner
from clew.rollout import FailPoints, Home, Record, WriterLock, read_thread
from clew.rollout.filesystem import Entry, File, FileStat, Glance
from clew.store.cold import ColdWorker
from clew.testing import MemoryFileSystem, ThreadBuilder

CLEW_HOME = Path("/clew")
NOW = 1_785_585_600.0
"""2026-08-01, a month after what builders write by default."""
DAY = 86400.0
OTHER = Owner("other", None, None, None)
ME = Owner("clew compress", None, None, None)


class Still:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


class Bench:
    """A home in memory."""

    def __init__(self) -> None:
        self.clock = Still()
        self.fs = MemoryFileSystem(lambda: int(self.clock.now() * 1_000_000_000))
        self.home = Home(self.fs, Path("/codex"))
        self.alive: set[int] = set()

    def worker(self, fail: FailPoints | None = None, **options: Any) -> ColdWorker:
        return worker(self.home, self.clock, fail=fail, is_alive=self.alive.__contains__, **options)

    def add(self, thread: ThreadBuilder, *, age: float | None = None, archived: bool = False) -> Path:
        """Write a thread, changed `age` days ago (default: a month); gives the plain path of the newest file."""
        path = thread.write(self.home, archived=archived)
        if age is not None:
            self.fs.set_mtime(path, int((self.clock.now() - age * DAY) * 1_000_000_000))
        return path

    def names(self, path: Path) -> list[str]:
        """What stands beside a file and is of the same thread, or temporary, without the common beginning."""
        return sorted(entry.name.removeprefix(path.name) for entry in self.fs.scan(path.parent))

    def lock(self, thread_id: str) -> WriterLock:
        return WriterLock.acquire(self.home, CLEW_HOME, thread_id, OTHER)

    def lines(self, thread_id: str) -> list[tuple[str, bytes]]:
        return lines_of(self.home, thread_id)


def worker(home: Home, clock: Still, *, fail: FailPoints | None = None, **options: Any) -> ColdWorker:
    chosen: dict[str, Any] = {"process": 7, **options}
    return ColdWorker(home, CLEW_HOME, owner=ME, clock=clock, fail=fail, **chosen)


def lines_of(home: Home, thread_id: str) -> list[tuple[str, bytes]]:
    """Type and payload of every line, as a reader sees them."""
    files = home.find(thread_id)
    assert files is not None
    found: list[tuple[str, bytes]] = []
    for record in read_thread(home, files):
        assert isinstance(record, Record), record
        found.append((record.type, bytes(record.payload)))
    return found


class Killed(BaseException):
    """Nothing catches it: the program is gone."""


class Program:
    """The disk as one program sees it, until it is killed: then nothing it still tries has any effect, and its locks
    are free. A `FileSystem`."""

    def __init__(self, disk: MemoryFileSystem) -> None:
        self._disk = disk
        self._opened: list[File] = []
        self.dead = False

    def kill(self) -> None:
        self.dead = True
        for file in self._opened:
            file.close()
        raise Killed

    def cut_power(self, seed: int | None) -> None:
        self._disk.crash(seed)
        self.kill()

    def _alive(self) -> MemoryFileSystem:
        if self.dead:
            raise OSError(errno.EIO, "this program was killed")
        return self._disk

    def _keep(self, file: File) -> File:
        self._opened.append(file)
        return file

    def open_append(self, path: Path, *, create: bool = True, exclusive: bool = False) -> File:
        return self._keep(self._alive().open_append(path, create=create, exclusive=exclusive))

    def open_read(self, path: Path) -> File:
        return self._keep(self._alive().open_read(path))

    def open_update(self, path: Path) -> File:
        return self._keep(self._alive().open_update(path))

    def stat(self, path: Path) -> FileStat:
        return self._alive().stat(path)

    def scan(self, folder: Path, *, stats: bool = True) -> Sequence[Entry]:
        return self._alive().scan(folder, stats=stats)

    def glance(self, paths: Sequence[str]) -> list[Glance | None]:
        return self._alive().glance(paths)

    def names(self, folder: Path) -> tuple[list[str], list[str]]:
        return self._alive().names(folder)

    def make_folder(self, folder: Path) -> None:
        self._alive().make_folder(folder)

    def sync_folder(self, folder: Path) -> None:
        self._alive().sync_folder(folder)

    def rename(self, source: Path, target: Path) -> None:
        self._alive().rename(source, target)

    def replace(self, source: Path, target: Path) -> None:
        self._alive().replace(source, target)

    def link(self, source: Path, target: Path) -> None:
        self._alive().link(source, target)

    def unlink(self, path: Path) -> None:
        self._alive().unlink(path)

    def set_mtime(self, path: Path, mtime_ns: int) -> None:
        self._alive().set_mtime(path, mtime_ns)

    def set_mode(self, path: Path, mode: int) -> None:
        self._alive().set_mode(path, mode)
