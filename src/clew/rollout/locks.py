"""Writer locks: the files that Codex' own writers take, so that neither ever writes into the other's turn.

To take a thread: hold `thread-writer-locks/.coordination.lock` (BSD `flock`), lock `<thread id>.lock` beside it, let
the first go. To give it back: hold the coordination lock, remove the file, close it. Beside it a record under
`$CLEW_HOME/owners` says who holds it, in words.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Literal

import anyio
import anyio.to_thread

from clew.errors import Owner, ThreadBusy
from clew.rollout.filesystem import File, FileIdentity, FileSystem
from clew.rollout.layout import Home
from clew.rollout.owners import lock_holder, owners_folder, record_path, recorded_holder, write_record
from clew.rollout.waiting import Place, WaitingLine

__all__ = ["WriterLock", "acquire_waiting", "clear_lock", "lock_holder", "lock_state"]

COORDINATION_SECONDS = 5.0
POLL_FIRST, POLL_NEXT, POLL_LAST = 0.005, 0.05, 0.25
"""Seconds between two looks at a held thread: at first, for whoever is next in the line, and at most."""

NAMELESS_SECONDS = 1.0
"""How long a holder may be without an owner record before it counts as foreign: clew writes it at once."""


class WriterLock:
    """The right to write one thread, held from `acquire` until `release`."""

    def __init__(self, home: Home, thread_id: str, file: File, record: Path) -> None:
        self.thread_id = thread_id
        self._home = home
        self._file: File | None = file
        self._record = record

    @classmethod
    def acquire(
        cls, home: Home, clew_home: Path, thread_id: str, owner: Owner, place: Place | None = None
    ) -> WriterLock:
        """Take the lock at once or raise `ThreadBusy`, which names the holder where it can be known.

        With a `place`, others that wait go first, and it stands in their line afterwards; without one, who waits does
        not count. Blocks for at most a few seconds while another program passes the coordination lock.
        """
        path = home.thread_lock(thread_id)
        thread_id = path.stem
        line = WaitingLine(home.fs, clew_home, thread_id)
        home.fs.make_folder(home.lock_folder)
        with _coordination(home) as passed:
            if not passed:
                raise ThreadBusy(thread_id, lock_holder(home, clew_home, thread_id))
            while True:
                file = home.fs.open_append(path)
                if not file.try_lock():
                    file.close()
                    if place is not None:
                        place.busy()
                        place.wait(line)
                    raise ThreadBusy(thread_id, lock_holder(home, clew_home, thread_id))
                if _identity(home.fs, path) == file.identity():
                    break
                # The name was given to another file between opening and locking: that one counts.
                file.close()
            lock = cls(home, thread_id, file, record_path(clew_home, thread_id))
            try:
                if place is not None and not place.may_go(line):
                    place.wait(line)
                    raise ThreadBusy(thread_id, place.promised)
                write_record(home.fs, clew_home, thread_id, owner, line.path)
                if place is not None:
                    place.leave(line)
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


async def acquire_waiting(
    home: Home,
    clew_home: Path,
    thread_id: str,
    owner: Owner,
    *,
    wait: float | None = 0.0,
    poll: float = POLL_LAST,
    foreign: float = 0.0,
) -> WriterLock:
    """`WriterLock.acquire`, asked again for up to `wait` seconds, at growing intervals up to `poll` seconds.

    `wait` None: for as long as the holder is a clew (has a true owner record), and up to `foreign` seconds (one at
    least) while it is another program. Those who wait stand in a line and are served in the order in which they came.
    Raises `ThreadBusy`.
    """
    place = None if wait is not None and wait <= 0 else Place(owner)
    deadline = None if wait is None else anyio.current_time() + wait
    nameless_since: float | None = None
    pause = min(POLL_FIRST, poll)
    try:
        while True:
            try:
                return await anyio.to_thread.run_sync(WriterLock.acquire, home, clew_home, thread_id, owner, place)
            except ThreadBusy:
                now = anyio.current_time()
                if place is None or (deadline is not None and now >= deadline):
                    raise
                if deadline is None:
                    if place.promised is not None or await _held_by_clew(home, clew_home, thread_id):
                        nameless_since = None
                    elif nameless_since is None:
                        nameless_since = now
                    elif now - nameless_since >= max(foreign, NAMELESS_SECONDS):
                        raise
            await anyio.sleep(pause if deadline is None else max(0.0, min(pause, deadline - anyio.current_time())))
            pause = min(pause * 2, poll if place.ahead else min(poll, POLL_NEXT))
    finally:
        if place is not None and place.taken:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(_leave, home, clew_home, thread_id, place)


async def _held_by_clew(home: Home, clew_home: Path, thread_id: str) -> bool:
    return await anyio.to_thread.run_sync(recorded_holder, home, clew_home, thread_id) is not None


def _leave(home: Home, clew_home: Path, thread_id: str, place: Place) -> None:
    # An entry that stays is passed over by the others, so this must not hide why the waiting ended.
    with contextlib.suppress(OSError), _coordination(home) as passed:
        if passed:
            place.leave(WaitingLine(home.fs, clew_home, thread_id))


def lock_state(home: Home, thread_id: str) -> Literal["none", "left", "held"]:
    """Whether somebody holds a thread's lock (`held`), or its file only lies there (`left`), or not even that.

    It is tried under the coordination lock, so that nobody who takes locks by the rules fails meanwhile. A coordination
    lock that cannot be had counts as `held`.
    """
    path = home.thread_lock(thread_id)
    if _identity(home.fs, path) is None:
        return "none"
    with _coordination(home) as passed:
        file = _taken_unheld(home, path) if passed else None
        if file is not None:
            file.close()
            return "left"
        return "held" if not passed or _identity(home.fs, path) is not None else "none"


def clear_lock(home: Home, clew_home: Path, thread_id: str) -> list[Path] | None:
    """Remove what a killed program left of a thread's lock: the lock file, its owner record, entries of processes that
    ended in the line, files half put in place. Gives what was removed, or None when somebody holds the lock: then
    nothing is touched."""
    path = home.thread_lock(thread_id)
    removed: list[Path] = []
    with _coordination(home) as passed:
        if not passed:
            return None
        file = _taken_unheld(home, path)
        if file is None and _identity(home.fs, path) is not None:
            return None
        try:
            # While this one holds the lock, or there is none to hold, and nobody passes the coordination lock.
            record = record_path(clew_home, path.stem)
            line = WaitingLine(home.fs, clew_home, path.stem)
            for leftover in (record, *_unfinished(home.fs, clew_home, path.stem)):
                with contextlib.suppress(FileNotFoundError):
                    home.fs.unlink(leftover)
                    removed.append(leftover)
            if line.there and (not (living := line.living()) or living != line.read()):
                line.write(living)
                removed.append(line.path)
            if file is not None:
                home.fs.unlink(path)
                removed.append(path)
        finally:
            if file is not None:
                file.close()
    return removed


def _taken_unheld(home: Home, path: Path) -> File | None:
    """A lock file that is there and that nobody held, locked; for holders of the coordination lock."""
    try:
        file = home.fs.open_append(path, create=False)
    except FileNotFoundError:
        return None
    if file.try_lock() and _identity(home.fs, path) == file.identity():
        return file
    file.close()
    return None


def _unfinished(fs: FileSystem, clew_home: Path, thread_id: str) -> list[Path]:
    folder = owners_folder(clew_home)
    with contextlib.suppress(FileNotFoundError):
        names = [entry.name for entry in fs.scan(folder, stats=False)]
        return [folder / name for name in names if name.startswith(f"{thread_id}.") and name.endswith(".tmp")]
    return []


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
