"""Writer locks: the files that Codex' own writers take, so that neither ever writes into the other's turn.

To take a thread: hold `thread-writer-locks/.coordination.lock` (BSD `flock`), lock `<thread id>.lock` beside it, let
the first go. To give it back: hold the coordination lock, remove the file, close it. Beside it a record under
`$CLEW_HOME/owners` says who holds it, in words.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from clew.errors import Owner, ThreadBusy
from clew.rollout.filesystem import File, FileIdentity, FileSystem
from clew.rollout.layout import Home
from clew.rollout.names import canonical_id

__all__ = ["WriterLock", "acquire_waiting", "lock_holder"]

COORDINATION_SECONDS = 5.0
POLL_FIRST, POLL_LAST = 0.005, 0.25
NAMELESS_SECONDS = 1.0
"""How long a holder may be without an owner record before it counts as foreign: clew writes it at once."""


class _Record(msgspec.Struct):
    program: str
    pid: int | None = None
    host: str | None = None
    since: str | None = None


class WriterLock:
    """The right to write one thread, held from `acquire` until `release`."""

    def __init__(self, home: Home, thread_id: str, file: File, record: Path) -> None:
        self.thread_id = thread_id
        self._home = home
        self._file: File | None = file
        self._record = record

    @classmethod
    def acquire(cls, home: Home, clew_home: Path, thread_id: str, owner: Owner) -> WriterLock:
        """Take the lock at once or raise `ThreadBusy`, which names the holder where it can be known.

        Blocks for at most a few seconds while another program passes the coordination lock.
        """
        path = home.thread_lock(thread_id)
        thread_id = path.stem
        home.fs.make_folder(home.lock_folder)
        with _coordination(home) as passed:
            if not passed:
                raise ThreadBusy(thread_id, lock_holder(home, clew_home, thread_id))
            while True:
                file = home.fs.open_append(path)
                if not file.try_lock():
                    file.close()
                    raise ThreadBusy(thread_id, lock_holder(home, clew_home, thread_id))
                if _identity(home.fs, path) == file.identity():
                    break
                # The name was given to another file between opening and locking: that one counts.
                file.close()
            lock = cls(home, thread_id, file, _record_path(clew_home, thread_id))
            try:
                lock._write_record(owner)
            except BaseException:
                lock._let_go()
                raise
        return lock

    @property
    def held(self) -> bool:
        """Whether the lock is still this one: the file was not removed by somebody."""
        if self._file is None:
            return False
        return _identity(self._home.fs, self._home.thread_lock(self.thread_id)) == self._file.identity()

    def release(self) -> None:
        """Give it back. Calling twice is allowed."""
        if self._file is None:
            return
        with _coordination(self._home):
            # Without the coordination lock in its time the file goes all the same: a lock held for ever is worse.
            self._let_go()

    def _let_go(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        path = self._home.thread_lock(self.thread_id)
        try:
            with contextlib.suppress(FileNotFoundError):
                self._home.fs.unlink(self._record)
            if _identity(self._home.fs, path) == file.identity():
                self._home.fs.unlink(path)
        finally:
            file.close()

    def _write_record(self, owner: Owner) -> None:
        fs = self._home.fs
        fs.make_folder(self._record.parent)
        temporary = self._record.with_suffix(f".{os.getpid()}.tmp")
        with contextlib.suppress(FileNotFoundError):
            fs.unlink(temporary)
        file = fs.open_append(temporary, exclusive=True)
        try:
            record = _Record(owner.program, owner.pid, owner.host, owner.since)
            file.write(msgspec.json.encode(record) + b"\n")
        finally:
            file.close()
        fs.replace(temporary, self._record)


async def acquire_waiting(
    home: Home,
    clew_home: Path,
    thread_id: str,
    owner: Owner,
    *,
    wait: float | None = 0.0,
    poll: float = POLL_LAST,
) -> WriterLock:
    """`WriterLock.acquire`, asked again for up to `wait` seconds, at growing intervals up to `poll` seconds.

    `wait` None: for as long as the holder is a clew (has a true owner record). Raises `ThreadBusy`.
    """
    deadline = None if wait is None else anyio.current_time() + wait
    nameless_since: float | None = None
    pause = min(POLL_FIRST, poll)
    while True:
        try:
            return await anyio.to_thread.run_sync(WriterLock.acquire, home, clew_home, thread_id, owner)
        except ThreadBusy:
            now = anyio.current_time()
            if deadline is not None and now >= deadline:
                raise
            if deadline is None:
                if await anyio.to_thread.run_sync(_recorded_holder, home, clew_home, thread_id) is not None:
                    nameless_since = None
                elif nameless_since is None:
                    nameless_since = now
                elif now - nameless_since >= NAMELESS_SECONDS:
                    raise
        await anyio.sleep(pause if deadline is None else max(0.0, min(pause, deadline - anyio.current_time())))
        pause = min(pause * 2, poll)


def lock_holder(home: Home, clew_home: Path, thread_id: str) -> Owner | None:
    """Who holds a thread's lock now: by its owner record if that is true, else as the system knows it; None: unknown,
    or nobody."""
    if _identity(home.fs, home.thread_lock(thread_id)) is None:
        return None  # a record may be left over; its process may have ended, and another have its number
    recorded = _recorded_holder(home, clew_home, thread_id)
    if recorded is not None:
        return recorded
    pid = _holding_process(home, thread_id)
    return None if pid is None else Owner(_program(pid), pid, socket.gethostname())


def _recorded_holder(home: Home, clew_home: Path, thread_id: str) -> Owner | None:
    """The owner record, if it can be true: a living process of this host, and no other is known to hold the lock."""
    try:
        file = home.fs.open_read(_record_path(clew_home, thread_id))
    except OSError:
        return None
    try:
        record = msgspec.json.decode(file.read_at(0, 65536), type=_Record)
    except (OSError, msgspec.DecodeError, ValueError):
        return None
    finally:
        file.close()
    if record.host not in (None, socket.gethostname()):
        # Another machine on a shared disk: nothing more can be known from here.
        return Owner(record.program, record.pid, record.host, record.since)
    holding = _holding_process(home, thread_id)
    if record.pid is not None and (holding not in (None, record.pid) or not _alive(record.pid)):
        return None
    return Owner(record.program, record.pid, record.host, record.since)


def _record_path(clew_home: Path, thread_id: str) -> Path:
    wanted = canonical_id(thread_id)
    if wanted is None:
        raise ValueError(f"{thread_id!r} is no UUID")
    return clew_home / "owners" / f"{wanted}.json"


class _coordination(contextlib.AbstractContextManager[bool]):  # noqa: N801 - used like a function
    """Holds the coordination lock; gives False when it could not be had in time."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._file: File | None = None

    def __enter__(self) -> bool:
        self._home.fs.make_folder(self._home.lock_folder)
        self._file = self._home.fs.open_append(self._home.coordination_lock)
        deadline = time.monotonic() + COORDINATION_SECONDS
        pause = 0.001
        while not self._file.try_lock():
            if time.monotonic() >= deadline:
                return False
            time.sleep(pause)
            pause = min(pause * 2, 0.05)
        return True

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


def _identity(fs: FileSystem, path: Path) -> FileIdentity | None:
    try:
        return fs.stat(path).identity
    except FileNotFoundError:
        return None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _holding_process(home: Home, thread_id: str) -> int | None:
    """The process that holds the lock, from the kernel's table (Linux)."""
    identity = _identity(home.fs, home.thread_lock(thread_id))
    if identity is None or identity.device < 0:
        return None
    try:
        table = Path("/proc/locks").read_text()
    except OSError:
        return None
    device = f"{os.major(identity.device):02x}:{os.minor(identity.device):02x}"
    same_inode: set[int] = set()
    for row in table.splitlines():
        # 7: FLOCK  ADVISORY  WRITE 4711 fe:01:1835031 0 EOF
        fields = row.split()
        if len(fields) < 6 or fields[1] != "FLOCK" or fields[3] != "WRITE" or not fields[4].isdecimal():
            continue
        where, _, inode = fields[5].rpartition(":")
        if inode == str(identity.inode):
            if where == device:
                return int(fields[4]) or None
            same_inode.add(int(fields[4]))
    # Layered file systems show another device there than `stat` does.
    return (same_inode.pop() or None) if len(same_inode) == 1 else None


def _program(pid: int) -> str:
    """The command name of a process; for an interpreter the script it runs."""
    folder = Path("/proc") / str(pid)
    try:
        name = (folder / "comm").read_text().strip()
        words = [word.decode(errors="replace") for word in (folder / "cmdline").read_bytes().split(b"\0") if word]
    except OSError:
        return "another program"
    if name.startswith(("python", "node")) and len(words) > 1 and not words[1].startswith("-"):
        return Path(words[1]).name
    return name or "another program"
