"""A simulated disk: a `FileSystem` in memory with a page cache, that can lose power and fail at the n-th call.

What was written but not synced, and names whose folder was not synced, are lost (or, with a seed, partly lost, in
another order than they were written, and torn) on `crash`. After a failed sync the unwritten pages count as clean, as
on a real system: syncing again succeeds and saves nothing. `program` gives a view of the same disk as another program
has it, which can be killed alone: what it wrote stays, its locks go.
"""

# pyright: reportPrivateUsage=false
# (An open file and its file system are two halves of one thing.)

from __future__ import annotations

import errno
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from clew.rollout.filesystem import Entry, File, FileIdentity, FileStat, Glance
from clew.testing.page_cache import PAGE, Effect, Folder, Node, put_name

__all__ = ["MemoryFileSystem", "ProgramKilled"]

DEVICE = -1
BLOCK = 4096


class ProgramKilled(Exception):
    """What a killed program meets at every further step, so that it can do nothing more. No `OSError`: nobody handles
    it."""


class _Trap:
    def __init__(self, operation: str, at: int, times: int, error: int, written: int, dropped: bool) -> None:
        self.operation = operation
        self.at = at
        self.times = times
        self.error = error
        self.written = written
        self.dropped = dropped
        self.seen = 0

    def springs(self, operation: str) -> bool:
        if self.operation not in (operation, "any"):
            return False
        self.seen += 1
        return self.at <= self.seen < self.at + self.times


class _TrapError(OSError):
    def __init__(self, trap: _Trap) -> None:
        super().__init__(trap.error, os.strerror(trap.error))
        self.trap = trap


class _Disk:
    """What all programs share."""

    def __init__(self, now_ns: Callable[[], int] | None) -> None:
        self.lock = threading.RLock()
        self.root = Folder(1)
        self.unsynced: list[tuple[Effect, ...]] = []
        self.programs: list[_Program] = []
        self.traps: list[_Trap] = []
        self.sprung: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.free: int | None = None
        self.now_ns = now_ns or self._tick
        self._ticks = 1_700_000_000_000_000_000
        self._numbers = 1

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _tick(self) -> int:
        self._ticks += 1_000_000
        return self._ticks

    def change(self, *effects: Effect) -> None:
        """One step of names: it survives as a whole or not at all."""
        for folder, name, node in effects:
            put_name(folder.entries, name, node)
            folder.mtime_ns = self.now_ns()
        self.unsynced.append(effects)

    def settle(self, changes: Sequence[tuple[Effect, ...]]) -> None:
        for effects in changes:
            for folder, name, node in effects:
                put_name(folder.durable, name, node)

    def sync_folder(self, folder: Folder) -> None:
        """With it goes what earlier steps did to the same names."""
        mine: list[tuple[Effect, ...]] = []
        touched: set[tuple[int, str]] = set()
        for effects in reversed(self.unsynced):
            names = {(place.number, name) for place, name, _ in effects}
            if touched & names or any(place is folder for place, _, _ in effects):
                mine.append(effects)
                touched |= names
        self.settle(mine[::-1])
        self.unsynced = [effects for effects in self.unsynced if not any(effects is one for one in mine)]

    def lose_power(self, chance: random.Random | None) -> None:
        kept: Sequence[tuple[Effect, ...]] = ()
        if chance is not None:
            # File systems with a journal keep a beginning of all changes; nobody promises more than any part of them.
            if chance.random() < 0.5:
                kept = self.unsynced[: chance.randint(0, len(self.unsynced))]
            else:
                kept = [effects for effects in self.unsynced if chance.random() < 0.5]
        self.settle(kept)
        self.unsynced.clear()
        nodes: dict[int, Node] = {}
        folders = [self.root]
        while folders:
            folder = folders.pop()
            folder.entries = dict(folder.durable)
            for node in folder.entries.values():
                if isinstance(node, Folder):
                    folders.append(node)
                else:
                    nodes[node.number] = node
        for number in sorted(nodes):
            nodes[number].lose_power(chance)


class _Program:
    def __init__(self) -> None:
        self.alive = True
        self.steps = 0
        self.last_step: int | None = None
        self.written = 0
        self.files: list[_OpenFile] = []

    def end(self) -> None:
        self.alive = False
        for file in self.files:
            file.let_go()
        self.files.clear()


class MemoryFileSystem:
    """The disk. `calls` counts operations by name (`open`, `read`, `write`, `sync`, `sync_folder`, `stat`, `scan`,
    `rename`, `replace`, `link`, `unlink`, `make_folder`, `set_mtime`, `set_mode`, `lock`), `sprung` those that were
    made to fail; `free` limits the bytes that can still be written (None: no limit); `now_ns` gives the time for
    modification times."""

    def __init__(self, now_ns: Callable[[], int] | None = None, *, _disk: _Disk | None = None) -> None:
        self._disk = _disk or _Disk(now_ns)
        self._program = _Program()
        self._disk.programs.append(self._program)
        self._main = _disk is None

    @property
    def calls(self) -> Counter[str]:
        return self._disk.calls

    @property
    def sprung(self) -> Counter[str]:
        return self._disk.sprung

    @property
    def free(self) -> int | None:
        return self._disk.free

    @free.setter
    def free(self, bytes_left: int | None) -> None:
        self._disk.free = bytes_left

    # -- faults -------------------------------------------------------------------------------------------------------

    def fail(
        self,
        operation: str,
        *,
        at: int = 1,
        times: int = 1,
        error: int = errno.EIO,
        written: int = 0,
        dropped: bool = False,
    ) -> None:
        """Let the `at`-th call of an operation from now on (`any`: of all of them), and the `times` - 1 behind it,
        raise `OSError(error)`, whichever program makes them. A failing write lets `written` bytes arrive first; a
        failing sync with `dropped` takes what was unwritten from the readers' sight too."""
        self._disk.traps.append(_Trap(operation, at, times, error, written, dropped))

    def heal(self) -> None:
        """Forget all faults."""
        self._disk.traps.clear()

    def program(self) -> MemoryFileSystem:
        """The same disk as another program sees it, with a life of its own: see `kill`."""
        return MemoryFileSystem(_disk=self._disk)

    def kill(self) -> None:
        """End this program: its locks are free, what it wrote stays, and whatever it tries raises `ProgramKilled`."""
        with self._disk.lock:
            self._program.end()

    def kill_at(self, step: int, *, written: int = 0) -> None:
        """Kill this program at its `step`-th operation from now on, before it is done; of a write, `written` bytes
        still arrive."""
        self._program.last_step = self._program.steps + step
        self._program.written = written

    @property
    def alive(self) -> bool:
        """Whether this program was not killed."""
        return self._program.alive

    @property
    def steps(self) -> int:
        """How many operations this program has begun."""
        return self._program.steps

    def crash(self, seed: int | None = None) -> None:
        """Lose power. All programs are killed, everything unsynced is lost; with a seed, any part of it: some of the
        names and renames, of each file its beginning up to some byte, or any of its blocks of 512 bytes (zeros where
        one is missing). The disk itself can be used on; files that were open cannot."""
        with self._disk.lock:
            chance = random.Random(seed) if seed is not None else None  # noqa: S311 - replayable, not secret
            for program in self._disk.programs:
                program.end()
            self._disk.programs.clear()
            if self._main:
                self._program = _Program()
                self._disk.programs.append(self._program)
            self._disk.lose_power(chance)

    # -- the contract -------------------------------------------------------------------------------------------------

    def open_append(self, path: Path, *, create: bool = True, exclusive: bool = False) -> File:
        with self._disk.lock:
            self._call("open")
            folder = self._folder(path.parent)
            node = folder.entries.get(path.name)
            if isinstance(node, Folder):
                raise _os_error(errno.EISDIR, path)
            if node is not None and exclusive:
                raise _os_error(errno.EEXIST, path)
            if node is None:
                if not create and not exclusive:
                    raise _os_error(errno.ENOENT, path)
                node = Node(self._disk.number(), self._disk.now_ns())
                self._disk.change((folder, path.name, node))
            return self._opened(path, node, appends=True)

    def open_read(self, path: Path) -> File:
        with self._disk.lock:
            self._call("open")
            return self._opened(path, self._node(path))

    def open_update(self, path: Path) -> File:
        with self._disk.lock:
            self._call("open")
            return self._opened(path, self._node(path), updates=True)

    def stat(self, path: Path) -> FileStat:
        with self._disk.lock:
            self._call("stat")
            found = self._at(path)
            if isinstance(found, Folder):
                return FileStat(0, found.mtime_ns, True, FileIdentity(DEVICE, found.number), 0o700)
            size = len(found.cache)
            taken = -(-size // BLOCK) * BLOCK
            return FileStat(size, found.mtime_ns, False, FileIdentity(DEVICE, found.number), found.mode, taken)

    def glance(self, paths: Sequence[str]) -> list[Glance | None]:
        found: list[Glance | None] = []
        for path in paths:
            try:
                status = self.stat(Path(path))
            except OSError:
                found.append(None)
            else:
                found.append((status.size, status.mtime_ns, status.identity.inode, status.is_dir))
        return found

    def scan(self, folder: Path, *, stats: bool = True) -> Sequence[Entry]:
        with self._disk.lock:
            self._call("scan")
            found: list[Entry] = []
            for name, node in self._folder(folder).entries.items():
                if isinstance(node, Folder):
                    found.append(Entry(name, True))
                else:
                    entry = Entry(name, False, len(node.cache), node.mtime_ns, node.number)
                    found.append(entry if stats else Entry(name, False, inode=node.number))
            return found

    def names(self, folder: Path) -> tuple[list[str], list[str]]:
        found = self.scan(folder, stats=False)
        return [entry.name for entry in found if not entry.is_dir], [entry.name for entry in found if entry.is_dir]

    def make_folder(self, folder: Path) -> None:
        with self._disk.lock:
            self._call("make_folder")
            at = self._disk.root
            path = Path("/")
            for part in folder.parts[1:]:
                node = at.entries.get(part)
                if node is None:
                    node = Folder(self._disk.number())
                    self._disk.change((at, part, node))
                    self.sync_folder(path)
                if not isinstance(node, Folder):
                    raise _os_error(errno.ENOTDIR, folder)
                at, path = node, path / part

    def sync_folder(self, folder: Path) -> None:
        with self._disk.lock:
            self._call("sync_folder")
            self._disk.sync_folder(self._folder(folder))

    def rename(self, source: Path, target: Path) -> None:
        with self._disk.lock:
            self._call("rename")
            node = self._node(source)
            into = self._folder(target.parent)
            if target.name in into.entries:
                raise _os_error(errno.EEXIST, target)
            # Two steps, as on a real disk, where this is how a rename spares what is there.
            self._disk.change((into, target.name, node))
            self.unlink(source)

    def replace(self, source: Path, target: Path) -> None:
        with self._disk.lock:
            self._call("replace")
            node = self._node(source)
            into, out = self._folder(target.parent), self._folder(source.parent)
            self._disk.change((into, target.name, node), (out, source.name, None))

    def link(self, source: Path, target: Path) -> None:
        with self._disk.lock:
            self._call("link")
            node = self._node(source)
            folder = self._folder(target.parent)
            if target.name in folder.entries:
                raise _os_error(errno.EEXIST, target)
            self._disk.change((folder, target.name, node))

    def unlink(self, path: Path) -> None:
        with self._disk.lock:
            self._call("unlink")
            self._node(path)
            self._disk.change((self._folder(path.parent), path.name, None))

    def set_mtime(self, path: Path, mtime_ns: int) -> None:
        with self._disk.lock:
            self._call("set_mtime")
            self._node(path).mtime_ns = mtime_ns

    def set_mode(self, path: Path, mode: int) -> None:
        with self._disk.lock:
            self._call("set_mode")
            self._node(path).mode = mode

    # -- conveniences for tests ---------------------------------------------------------------------------------------

    def read_bytes(self, path: Path) -> bytes:
        """What a reader sees now."""
        with self._disk.lock:
            return bytes(self._node(path).cache)

    def durable_bytes(self, path: Path) -> bytes:
        """What of the file is certain to survive a loss of power, were its name to survive."""
        with self._disk.lock:
            return bytes(self._node(path).durable)

    def write_bytes(self, path: Path, data: bytes) -> None:
        """Put a new file there, folders and durability included, without counting calls."""
        with self._disk.lock, self._untouched():
            self.make_folder(path.parent)
            node = Node(self._disk.number(), self._disk.now_ns())
            node.cache[:] = data
            node.durable[:] = data
            folder = self._folder(path.parent)
            self._disk.change((folder, path.name, node))
            self._disk.sync_folder(folder)

    def cut(self, path: Path, size: int) -> None:
        """Shorten a file in its place, for good."""
        with self._disk.lock:
            node = self._node(path)
            del node.cache[size:], node.durable[size:]
            node.dirty = {page for page in node.dirty if page * PAGE < size}

    # -- inside -------------------------------------------------------------------------------------------------------

    def _untouched(self) -> _Untouched:
        return _Untouched(self._disk)

    def _call(self, operation: str) -> None:
        """Count a call, die if it is time to, and spring its trap."""
        program = self._program
        if not program.alive:
            raise ProgramKilled
        program.steps += 1
        if program.last_step is not None and program.steps >= program.last_step:
            if operation == "write" and program.written:
                return  # it ends when its bytes have arrived
            program.end()
            raise ProgramKilled
        self._disk.calls[operation] += 1
        for trap in self._disk.traps:
            if trap.springs(operation):
                self._disk.sprung[operation] += 1
                raise _TrapError(trap)

    def _opened(self, path: Path, node: Node, *, appends: bool = False, updates: bool = False) -> _OpenFile:
        file = _OpenFile(self, path, node, appends=appends, updates=updates)
        self._program.files.append(file)
        return file

    def _at(self, path: Path) -> Node | Folder:
        at: Node | Folder = self._disk.root
        for part in path.parts[1:]:
            if not isinstance(at, Folder):
                raise _os_error(errno.ENOTDIR, path)
            if part not in at.entries:
                raise _os_error(errno.ENOENT, path)
            at = at.entries[part]
        return at

    def _node(self, path: Path) -> Node:
        found = self._at(path)
        if isinstance(found, Folder):
            raise _os_error(errno.EISDIR, path)
        return found

    def _folder(self, path: Path) -> Folder:
        found = self._at(path)
        if not isinstance(found, Folder):
            raise _os_error(errno.ENOTDIR, path)
        return found


class _Untouched:
    """No traps and no counting, for a while."""

    def __init__(self, disk: _Disk) -> None:
        self._disk = disk

    def __enter__(self) -> None:
        self._kept = self._disk.calls.copy(), self._disk.traps
        self._disk.traps = []

    def __exit__(self, *_: object) -> None:
        self._disk.calls, self._disk.traps = self._kept


class _OpenFile:
    """Belongs to the program that opened it."""

    def __init__(self, fs: MemoryFileSystem, path: Path, node: Node, *, appends: bool, updates: bool) -> None:
        self.path = path
        self._fs = fs
        self._disk = fs._disk
        self._program = fs._program
        self._node = node
        self._failures = node.failures
        self._appends = appends
        self._updates = updates
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
        node = self._node
        with self._use():
            try:
                self._fs._call("sync")
            except _TrapError as error:
                node.forget(dropped=error.trap.dropped)
                node.failures += 1
                self._failures = node.failures
                raise
            node.sync()
            if self._failures != node.failures:
                self._failures = node.failures
                raise _os_error(errno.EIO, self.path)

    def size(self) -> int:
        with self._use():
            return len(self._node.cache)

    def identity(self) -> FileIdentity:
        with self._use():
            return FileIdentity(DEVICE, self._node.number)

    def try_lock(self) -> bool:
        with self._use("lock"):
            if self._node.holder not in (None, self):
                return False
            self._node.holder = self
            return True

    def unlock(self) -> None:
        with self._use():
            self.let_go()

    def close(self) -> None:
        with self._disk.lock:
            self._closed = True
            self.let_go()
            if self in self._program.files:
                self._program.files.remove(self)

    def let_go(self) -> None:
        """Free the lock, if this file holds it."""
        if self._node.holder is self:
            self._node.holder = None

    def _put(self, offset: int, data: bytes) -> None:
        disk, node, program = self._disk, self._node, self._program
        error: OSError | None = None
        try:
            self._fs._call("write")
        except _TrapError as trapped:
            error = trapped
            data = data[: trapped.trap.written]
        dying = program.last_step is not None and program.steps >= program.last_step
        if dying:
            data = data[: program.written]
        grows = max(0, offset + len(data) - len(node.cache))
        if disk.free is not None:
            if grows > disk.free:
                data = data[: len(data) - (grows - disk.free)]
                grows = disk.free
                error = error or _os_error(errno.ENOSPC, self.path)
            disk.free -= grows
        if data:
            node.put(offset, data)
            node.mtime_ns = disk.now_ns()
        if dying:
            program.end()
            raise ProgramKilled
        if error is not None:
            raise error

    def _use(self, operation: str | None = None) -> threading.RLock:
        """The disk's lock, once it is certain that this file is still open."""
        with self._disk.lock:
            if self._closed:
                raise _os_error(errno.EBADF, self.path)
            if not self._program.alive:
                if self._fs._main:
                    raise _os_error(errno.EIO, self.path)
                raise ProgramKilled
            if operation is not None:
                self._fs._call(operation)
        return self._disk.lock


def _os_error(number: int, path: Path) -> OSError:
    return OSError(number, os.strerror(number), str(path))
