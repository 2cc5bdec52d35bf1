"""What keeps a run over cold threads out of others' way: the marker of a run, what killed runs left, and a look at who
has a file open.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from clew.clock import Clock
from clew.errors import CompressionRunning
from clew.rollout import File, FileIdentity, FileSystem, Home

__all__ = ["FORGOTTEN_SECONDS", "RunMarker", "alive", "forgotten_temporaries", "opened_elsewhere"]

FORGOTTEN_SECONDS = 6 * 3600.0
"""Age from which on a temporary file is of a run that was killed, and a marker of a run that is over."""

MARKER = Path(".tmp", "rollout-compression.lock")
_PROGRAM = "program=clew"
_PID = re.compile(r"\bpid=(\d+)")
_TEMPORARY = re.compile(
    r"rollout-compress-(?P<packing>\d+)?.*\.tmp|rollout-.*\.jsonl\.decompress\.(?P<unpacking>\d+)\.\d+\.tmp"
)
_DEEPEST = 16


def alive(pid: int) -> bool:
    """Whether a process of this number runs on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


class RunMarker:
    """`.tmp/rollout-compression.lock`, as Codex' own compression takes it: made exclusively, left behind by a run that
    succeeded (it keeps Codex from another one for six hours), removed after a failure.

    While a clew runs it also holds the `flock` of the file, so that another clew knows for certain; a run of Codex is
    one whose marker is younger than six hours and whose process lives.
    """

    def __init__(self, fs: FileSystem, path: Path, file: File) -> None:
        self._fs = fs
        self._path = path
        self._file = file

    @classmethod
    def take(cls, home: Home, clock: Clock, *, process: int, is_alive: Callable[[int], bool] = alive) -> RunMarker:
        """Raises `CompressionRunning` while another run is at work in this home."""
        fs, path = home.fs, home.path / MARKER
        fs.make_folder(path.parent)
        temporary = path.with_name(f"{path.stem}.{process}.{secrets.token_hex(4)}.tmp")
        file = fs.open_append(temporary, exclusive=True)
        placed = False
        try:
            # It appears with its text and its lock, so that nobody takes it for one that is over.
            file.write(f"pid={process} started_at={int(clock.now())} {_PROGRAM}\n".encode())
            # One that lost its text with the power would be taken for another program's.
            file.sync()
            if not file.try_lock():
                raise CompressionRunning(path)
            for _ in range(3):
                with contextlib.suppress(FileExistsError):
                    fs.rename(temporary, path)
                    placed = True
                    return cls(fs, path, file)
                _give_way_to_a_run(fs, path, clock, is_alive)
            raise CompressionRunning(path)
        finally:
            if not placed:
                file.close()
                with contextlib.suppress(FileNotFoundError):
                    fs.unlink(temporary)

    def leave(self) -> None:
        """The run succeeded: the marker stays."""
        self._file.close()

    def remove(self) -> None:
        """The run failed, or was ended: the next one may begin at once."""
        try:
            if _identity(self._fs, self._path) == self._file.identity():
                self._fs.unlink(self._path)
        finally:
            self._file.close()


def _give_way_to_a_run(fs: FileSystem, path: Path, clock: Clock, is_alive: Callable[[int], bool]) -> None:
    """Remove a marker whose run is over. Raises `CompressionRunning` for one that is not."""
    try:
        file = fs.open_append(path, create=False)
    except FileNotFoundError:
        return
    with contextlib.closing(file):
        if not file.try_lock():
            raise CompressionRunning(path, _pid(file))
        with contextlib.suppress(FileNotFoundError):
            status = fs.stat(path)
            if status.identity != file.identity():
                return  # another clew was faster; the next look finds its marker
            age = clock.now() - status.mtime_ns / 1_000_000_000
            pid = _pid(file)
            ours = _PROGRAM.encode() in file.read_at(0, 4096)
            if not ours and age < FORGOTTEN_SECONDS and (pid is None or is_alive(pid)):
                raise CompressionRunning(path, pid)
            fs.unlink(path)


def _pid(file: File) -> int | None:
    found = _PID.search(file.read_at(0, 4096).decode(errors="replace"))
    return int(found[1]) if found else None


def _identity(fs: FileSystem, path: Path) -> FileIdentity | None:
    try:
        return fs.stat(path).identity
    except FileNotFoundError:
        return None


def forgotten_temporaries(home: Home, now: float, is_alive: Callable[[int], bool] = alive) -> Iterator[Path]:
    """Half-written files of runs that were killed, ours and Codex': older than six hours, and the process that their
    name tells is gone."""
    for folder in (home.sessions, home.archived_sessions):
        yield from _forgotten(home.fs, folder, now, is_alive, 0)


def _forgotten(fs: FileSystem, folder: Path, now: float, is_alive: Callable[[int], bool], depth: int) -> Iterator[Path]:
    try:
        entries = fs.scan(folder)
    except OSError:
        return
    for entry in entries:
        if entry.is_dir:
            if depth < _DEEPEST:
                yield from _forgotten(fs, folder / entry.name, now, is_alive, depth + 1)
        elif (name := _TEMPORARY.fullmatch(entry.name)) and now - entry.mtime_ns / 1e9 >= FORGOTTEN_SECONDS:
            pid = name["packing"] or name["unpacking"]
            if pid is None or not is_alive(int(pid)):
                yield folder / entry.name


def opened_elsewhere(path: Path, identity: FileIdentity) -> bool:
    """Whether another program is known to have this file open: programs that take no locks, old versions of Codex
    among them, would go on writing to a file without a name. Only Linux tells; elsewhere False."""
    if identity.device < 0 or not hasattr(fcntl, "F_SETLEASE"):
        return False
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        # Who opens the file meanwhile is told to us by a signal that does nothing unless somebody asks for it.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError as error:
        # The kernel grants a lease on what nobody else has open; other refusals (network disks, foreign files) say
        # nothing.
        return error.errno in (errno.EAGAIN, errno.EBUSY)
    else:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return False
    finally:
        os.close(descriptor)
