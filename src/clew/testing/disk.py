"""A simulated disk: a `FileSystem` in memory with a page cache, that can lose power and fail at the n-th call.

What was written but not synced, and names whose folder was not synced, are lost (or, with a seed, partly lost, torn in
blocks) on `crash`. After a failed sync the unwritten pages count as clean, as on a real system: syncing again succeeds
and saves nothing.
"""

from __future__ import annotations

import errno
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from clew.rollout.filesystem import Entry, File, FileIdentity, FileStat

__all__ = ["MemoryFileSystem"]

DEVICE = -1
SECTOR = 512


class _Node:
    def __init__(self, number: int, mtime_ns: int) -> None:
        self.number = number
        self.durable = bytearray()
        self.cache = bytearray()
        self.dirty: list[tuple[int, int]] = []
        self.mtime_ns = mtime_ns
        self.mode = 0o600
        self.holder: object | None = None

    def write_back(self, start: int, end: int) -> None:
        if len(self.durable) < end:
            self.durable.extend(bytes(end - len(self.durable)))
        self.durable[start:end] = self.cache[start:end]


class _Folder:
    def __init__(self, number: int) -> None:
        self.number = number
        self.entries: dict[str, _Node | _Folder] = {}
        self.durable: dict[str, _Node | _Folder] = {}
        self.unsynced: list[tuple[str, _Node | _Folder | None]] = []

    def put(self, name: str, node: _Node | _Folder | None) -> None:
        _apply(self.entries, name, node)
        self.unsynced.append((name, node))

    def sync(self) -> None:
        for name, node in self.unsynced:
            _apply(self.durable, name, node)
        self.unsynced.clear()


def _apply(entries: dict[str, _Node | _Folder], name: str, node: _Node | _Folder | None) -> None:
    if node is None:
        entries.pop(name, None)
    else:
        entries[name] = node


class _Trap:
    def __init__(self, operation: str, at: int, times: int, error: int, written: int) -> None:
        self.operation = operation
        self.at = at
        self.times = times
        self.error = error
        self.written = written
        self.seen = 0

    def springs(self, operation: str) -> bool:
        if self.operation not in (operation, "any"):
            return False
        self.seen += 1
        return self.at <= self.seen < self.at + self.times


class MemoryFileSystem:
    """The disk. `calls` counts operations by name (`open`, `read`, `write`, `sync`, `sync_folder`, `stat`, `scan`,
    `rename`, `replace`, `link`, `unlink`, `make_folder`, `set_mtime`, `set_mode`); `free` limits the bytes that can
    still be written (None: no limit); `now_ns` gives the time for modification times."""

    def __init__(self, now_ns: Callable[[], int] | None = None) -> None:
        self._lock = threading.RLock()
        self._numbers = 1
        self._root = _Folder(1)
        self._epoch = 0
        self._traps: list[_Trap] = []
        self._ticks = 1_700_000_000_000_000_000
        self._now_ns = now_ns or self._tick
        self.calls: Counter[str] = Counter()
        self.free: int | None = None

    # -- faults -------------------------------------------------------------------------------------------------------

    def fail(self, operation: str, *, at: int = 1, times: int = 1, error: int = errno.EIO, written: int = 0) -> None:
        """Let the `at`-th call of an operation from now on (`any`: of all of them), and the `times` - 1 behind it,
        raise `OSError(error)`. A failing write lets `written` bytes arrive first."""
        self._traps.append(_Trap(operation, at, times, error, written))

    def heal(self) -> None:
        """Forget all faults."""
        self._traps.clear()

    def crash(self, seed: int | None = None) -> None:
        """Lose power. Open files are dead, locks gone, everything unsynced is lost; with a seed, any part of it: names
        up to some point of each folder's changes, content in any blocks of 512 bytes, zeros where one is missing."""
        with self._lock:
            self._epoch += 1
            chance = random.Random(seed) if seed is not None else None  # noqa: S311 - replayable, not secret
            nodes: set[_Node] = set()
            for folder in self._all_folders():
                kept = 0 if chance is None else chance.randint(0, len(folder.unsynced))
                nodes.update(node for node in folder.entries.values() if isinstance(node, _Node))
                for name, node in folder.unsynced[:kept]:
                    _apply(folder.durable, name, node)
                nodes.update(node for node in folder.durable.values() if isinstance(node, _Node))
                folder.unsynced.clear()
                folder.entries = dict(folder.durable)
            for node in sorted(nodes, key=lambda node: node.number):
                for start, end in node.dirty if chance is not None else ():
                    for at in range(start, end, SECTOR):
                        if chance is not None and chance.random() < 0.5:
                            node.write_back(at, min(at + SECTOR, end))
                node.dirty.clear()
                node.cache = bytearray(node.durable)
                node.holder = None

    # -- the contract -------------------------------------------------------------------------------------------------

    def open_append(self, path: Path, *, create: bool = True, exclusive: bool = False) -> File:
        with self._lock:
            self._call("open")
            folder = self._folder(path.parent)
            node = folder.entries.get(path.name)
            if isinstance(node, _Folder):
                raise _os_error(errno.EISDIR, path)
            if node is not None and exclusive:
                raise _os_error(errno.EEXIST, path)
            if node is None:
                if not create and not exclusive:
                    raise _os_error(errno.ENOENT, path)
                node = _Node(self._number(), self._now_ns())
                folder.put(path.name, node)
            return _OpenFile(self, path, node, appends=True)

    def open_read(self, path: Path) -> File:
        with self._lock:
            self._call("open")
            return _OpenFile(self, path, self._node(path))

    def open_update(self, path: Path) -> File:
        with self._lock:
            self._call("open")
            return _OpenFile(self, path, self._node(path), updates=True)

    def stat(self, path: Path) -> FileStat:
        with self._lock:
            self._call("stat")
            found = self._at(path)
            if isinstance(found, _Folder):
                return FileStat(0, 0, True, FileIdentity(DEVICE, found.number), 0o700)
            return FileStat(len(found.cache), found.mtime_ns, False, FileIdentity(DEVICE, found.number), found.mode)

    def scan(self, folder: Path, *, stats: bool = True) -> Sequence[Entry]:
        with self._lock:
            self._call("scan")
            found: list[Entry] = []
            for name, node in self._folder(folder).entries.items():
                if isinstance(node, _Folder):
                    found.append(Entry(name, True))
                else:
                    found.append(Entry(name, False, len(node.cache), node.mtime_ns) if stats else Entry(name, False))
            return found

    def make_folder(self, folder: Path) -> None:
        with self._lock:
            self._call("make_folder")
            at = self._root
            for part in folder.parts[1:]:
                node = at.entries.get(part)
                if node is None:
                    node = _Folder(self._number())
                    at.put(part, node)
                    at.sync()
                if not isinstance(node, _Folder):
                    raise _os_error(errno.ENOTDIR, folder)
                at = node

    def sync_folder(self, folder: Path) -> None:
        with self._lock:
            self._call("sync_folder")
            self._folder(folder).sync()

    def rename(self, source: Path, target: Path) -> None:
        with self._lock:
            self._call("rename")
            self._move(source, target, over=False)

    def replace(self, source: Path, target: Path) -> None:
        with self._lock:
            self._call("replace")
            self._move(source, target, over=True)

    def link(self, source: Path, target: Path) -> None:
        with self._lock:
            self._call("link")
            node = self._node(source)
            folder = self._folder(target.parent)
            if target.name in folder.entries:
                raise _os_error(errno.EEXIST, target)
            folder.put(target.name, node)

    def unlink(self, path: Path) -> None:
        with self._lock:
            self._call("unlink")
            self._node(path)
            self._folder(path.parent).put(path.name, None)

    def set_mtime(self, path: Path, mtime_ns: int) -> None:
        with self._lock:
            self._call("set_mtime")
            self._node(path).mtime_ns = mtime_ns

    def set_mode(self, path: Path, mode: int) -> None:
        with self._lock:
            self._call("set_mode")
            self._node(path).mode = mode

    # -- conveniences for tests ---------------------------------------------------------------------------------------

    def read_bytes(self, path: Path) -> bytes:
        """What a reader sees now."""
        with self._lock:
            return bytes(self._node(path).cache)

    def write_bytes(self, path: Path, data: bytes) -> None:
        """Put a file there, folders and durability included, without counting calls."""
        with self._lock:
            calls, traps = self.calls.copy(), self._traps
            self._traps = []
            self.make_folder(path.parent)
            node = _Node(self._number(), self._now_ns())
            node.cache[:] = data
            node.durable[:] = data
            folder = self._folder(path.parent)
            folder.put(path.name, node)
            folder.sync()
            self.calls, self._traps = calls, traps

    # -- inside -------------------------------------------------------------------------------------------------------

    def _call(self, operation: str) -> None:
        """Count a call and spring its trap; for writes, the number of bytes that still arrive comes with the error."""
        self.calls[operation] += 1
        for trap in self._traps:
            if trap.springs(operation):
                raise _TrapError(trap.error, trap.written)

    def _tick(self) -> int:
        self._ticks += 1_000_000
        return self._ticks

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _at(self, path: Path) -> _Node | _Folder:
        at: _Node | _Folder = self._root
        for part in path.parts[1:]:
            if not isinstance(at, _Folder):
                raise _os_error(errno.ENOTDIR, path)
            if part not in at.entries:
                raise _os_error(errno.ENOENT, path)
            at = at.entries[part]
        return at

    def _node(self, path: Path) -> _Node:
        found = self._at(path)
        if isinstance(found, _Folder):
            raise _os_error(errno.EISDIR, path)
        return found

    def _folder(self, path: Path) -> _Folder:
        found = self._at(path)
        if not isinstance(found, _Folder):
            raise _os_error(errno.ENOTDIR, path)
        return found

    def _move(self, source: Path, target: Path, *, over: bool) -> None:
        node = self._node(source)
        into = self._folder(target.parent)
        if target.name in into.entries and not over:
            raise _os_error(errno.EEXIST, target)
        into.put(target.name, node)
        self._folder(source.parent).put(source.name, None)

    def _all_folders(self, at: _Folder | None = None) -> Iterator[_Folder]:
        at = at or self._root
        yield at
        for node in {id(node): node for node in (*at.entries.values(), *at.durable.values())}.values():
            if isinstance(node, _Folder):
                yield from self._all_folders(node)


class _TrapError(OSError):
    def __init__(self, error: int, written: int) -> None:
        super().__init__(error, os.strerror(error))
        self.written = written


class _OpenFile:
    def __init__(
        self, fs: MemoryFileSystem, path: Path, node: _Node, *, appends: bool = False, updates: bool = False
    ) -> None:
        self.path = path
        self._fs = fs
        self._node = node
        self._appends = appends
        self._updates = updates
        self._epoch = fs._epoch  # pyright: ignore[reportPrivateUsage] - two halves of one thing
        self._closed = False

    def read_at(self, offset: int, length: int) -> bytes:
        with self._use("read"):
            return bytes(self._node.cache[offset : offset + length])

    def write(self, data: bytes) -> None:
        with self._use():
            if not self._appends:
                raise _os_error(errno.EBADF, self.path)
            self._put(len(self._node.cache), data)

    def write_at(self, offset: int, data: bytes) -> None:
        with self._use():
            if not self._updates:
                raise _os_error(errno.EBADF, self.path)
            self._put(offset, data)

    def sync(self) -> None:
        with self._use():
            try:
                self._fs._call("sync")  # pyright: ignore[reportPrivateUsage]
            except OSError:
                # The pages could not be written, and are no longer known as unwritten.
                self._node.dirty.clear()
                raise
            for start, end in self._node.dirty:
                self._node.write_back(start, end)
            self._node.dirty.clear()

    def size(self) -> int:
        with self._use():
            return len(self._node.cache)

    def identity(self) -> FileIdentity:
        with self._use():
            return FileIdentity(DEVICE, self._node.number)

    def try_lock(self) -> bool:
        with self._use():
            if self._node.holder not in (None, self):
                return False
            self._node.holder = self
            return True

    def unlock(self) -> None:
        with self._use():
            if self._node.holder is self:
                self._node.holder = None

    def close(self) -> None:
        with self._fs._lock:  # pyright: ignore[reportPrivateUsage]
            self._closed = True
            if self._node.holder is self:
                self._node.holder = None

    def _put(self, offset: int, data: bytes) -> None:
        fs, node = self._fs, self._node
        try:
            fs._call("write")  # pyright: ignore[reportPrivateUsage]
            error = None
        except _TrapError as trap:
            error = trap
            data = data[: trap.written]
        grows = max(0, offset + len(data) - len(node.cache))
        if fs.free is not None:
            if grows > fs.free:
                data = data[: len(data) - (grows - fs.free)]
                grows = fs.free
                error = error or _os_error(errno.ENOSPC, self.path)
            fs.free -= grows
        if data:
            node.cache[offset : offset + len(data)] = data
            node.dirty.append((offset, offset + len(data)))
            node.mtime_ns = fs._now_ns()  # pyright: ignore[reportPrivateUsage]
        if error is not None:
            raise error

    def _use(self, operation: str | None = None) -> threading.RLock:
        """The disk's lock, once it is certain that this file is still open."""
        fs = self._fs
        with fs._lock:  # pyright: ignore[reportPrivateUsage]
            if self._closed:
                raise _os_error(errno.EBADF, self.path)
            if self._epoch != fs._epoch:  # pyright: ignore[reportPrivateUsage]
                raise _os_error(errno.EIO, self.path)
            if operation is not None:
                fs._call(operation)  # pyright: ignore[reportPrivateUsage]
        return fs._lock  # pyright: ignore[reportPrivateUsage]


def _os_error(number: int, path: Path) -> OSError:
    return OSError(number, os.strerror(number), str(path))
