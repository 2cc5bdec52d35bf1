"""Owner records: who holds a thread, in words, and whether that can still be true.

A record lies under `$CLEW_HOME/owners` beside the lock that is the truth. It names a process so that another one which
got the same number later is not taken for it: by the boot of the machine and the moment the process began.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from clew.clock import utc_stamp
from clew.errors import Owner
from clew.rollout.filesystem import FileIdentity, FileSystem
from clew.rollout.layout import Home
from clew.rollout.names import canonical_id

__all__ = [
    "OwnerRecord",
    "Standing",
    "holding_process",
    "identity_of",
    "lock_holder",
    "owners_folder",
    "put_file",
    "read_record",
    "record_path",
    "recorded_holder",
    "write_record",
]

_MOST = 65536


class Standing(NamedTuple):
    """What can be said of a recorded process: `alive`, `gone` (`why` says how that is known), on another machine
    (`elsewhere`: nothing can be known from here), or `unnamed`, without a number."""

    state: Literal["alive", "gone", "elsewhere", "unnamed"]
    why: str = ""


class OwnerRecord(msgspec.Struct, omit_defaults=True):
    """`since` is when it was written; `turn` the id of the turn that runs. `boot` and `started` tell the process from
    others of its number; they are there only for the process that wrote the record itself. `endpoint` is the file in
    which whoever wants the thread next leaves a word."""

    program: str
    pid: int | None = None
    host: str | None = None
    since: str | None = None
    turn: str | None = None
    boot: str | None = None
    started: str | None = None
    endpoint: str | None = None

    def owner(self) -> Owner:
        """It as it is told to people."""
        return Owner(
            self.program, self.pid, self.host, self.since, self.turn, _seconds_since(self.since), self.endpoint
        )

    def standing(self) -> Standing:
        if self.host not in (None, socket.gethostname()):
            return Standing("elsewhere", f"it is a process of {self.host}, of which nothing can be known here")
        if self.boot is not None and _boot() not in (None, self.boot):
            return Standing("gone", "the machine was started anew since")
        if self.pid is None:
            return Standing("unnamed")
        alive, started = _process(self.pid, look=self.started is not None)
        if not alive:
            return Standing("gone", "its process has ended")
        if self.started is not None and started not in (None, self.started):
            return Standing("gone", f"the number {self.pid} belongs to another process now")
        return Standing("alive")


def identity_of(owner: Owner) -> tuple[str | None, str | None]:
    """`boot` and `started` for an owner's record: None where the owner is not this process."""
    if owner.pid != os.getpid() or owner.host not in (None, socket.gethostname()):
        return None, None
    return _boot(), _own_start(owner.pid)


def owners_folder(clew_home: Path) -> Path:
    return clew_home / "owners"


def record_path(clew_home: Path, thread_id: str) -> Path:
    """Raises `ValueError` for what is no UUID."""
    wanted = canonical_id(thread_id)
    if wanted is None:
        raise ValueError(f"{thread_id!r} is no UUID")
    return owners_folder(clew_home) / f"{wanted}.json"


def read_record(fs: FileSystem, clew_home: Path, thread_id: str) -> OwnerRecord | None:
    """The record as it lies there, true or not; None where none can be read."""
    try:
        with contextlib.closing(fs.open_read(record_path(clew_home, thread_id))) as file:
            return msgspec.json.decode(file.read_at(0, _MOST), type=OwnerRecord)
    except (OSError, msgspec.DecodeError, ValueError):
        return None


def put_file(fs: FileSystem, path: Path, data: bytes) -> None:
    """Put a small file in place in one step; it is not synced."""
    fs.make_folder(path.parent)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with contextlib.suppress(FileNotFoundError):
        fs.unlink(temporary)
    with contextlib.closing(fs.open_append(temporary, exclusive=True)) as file:
        file.write(data)
    fs.replace(temporary, path)


def write_record(fs: FileSystem, clew_home: Path, thread_id: str, owner: Owner, endpoint: Path) -> Path:
    """Say who holds a thread from now on; gives where that stands."""
    path = record_path(clew_home, thread_id)
    boot, started = identity_of(owner)
    record = OwnerRecord(
        owner.program,
        owner.pid,
        owner.host,
        owner.since or utc_stamp(time.time()),
        owner.turn,
        boot,
        started,
        str(endpoint),
    )
    put_file(fs, path, msgspec.json.encode(record) + b"\n")
    return path


def lock_holder(home: Home, clew_home: Path, thread_id: str) -> Owner | None:
    """Who holds a thread's lock now: by its owner record if that can be true, else as the system knows it; None:
    unknown, or nobody."""
    if _identity(home.fs, home.thread_lock(thread_id)) is None:
        return None  # a record may be left over; its process may have ended, and another have its number
    recorded = recorded_holder(home, clew_home, thread_id)
    if recorded is not None:
        return recorded
    pid = holding_process(home, thread_id)
    return None if pid is None else Owner(_program(pid), pid, socket.gethostname())


def recorded_holder(home: Home, clew_home: Path, thread_id: str) -> Owner | None:
    """The owner record, if it can be true: its process lives or is another machine's, and no other process of this
    one is known to hold the lock."""
    record = read_record(home.fs, clew_home, thread_id)
    if record is None:
        return None
    standing = record.standing().state
    if standing == "gone":
        return None
    holding = holding_process(home, thread_id) if standing == "alive" else None
    return record.owner() if holding in (None, record.pid) else None


def holding_process(home: Home, thread_id: str) -> int | None:
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


def _identity(fs: FileSystem, path: Path) -> FileIdentity | None:
    try:
        return fs.stat(path).identity
    except FileNotFoundError:
        return None


def _seconds_since(stamp: str | None) -> float | None:
    try:
        return max(0.0, time.time() - datetime.fromisoformat(stamp).timestamp()) if stamp else None
    except (ValueError, OverflowError):
        return None


@functools.cache
def _boot() -> str | None:
    """Which start of the machine this is; None where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() or None
    except OSError:
        return None


@functools.cache
def _own_start(pid: int) -> str | None:
    return _process(pid)[1]


def _process(pid: int, *, look: bool = True) -> tuple[bool, str | None]:
    """Whether a process lives, and when it began in whatever words the system has for that (None: not known, or not
    asked for with `look`)."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False, None
    except OSError:
        pass  # it lives, and is somebody else's
    if not look:
        return True, None
    if sys.platform != "linux":
        return _process_by_ps(pid)
    try:
        # The name in brackets may hold anything; behind it stand state, … and in the 20th place the start in ticks.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return True, None  # it may be hidden from other users
    if not fields or fields[0] in (b"Z", b"X"):
        return False, None  # ended, and not yet fetched by its parent: its locks are gone
    return True, fields[19].decode() if len(fields) > 19 else None


def _process_by_ps(pid: int) -> tuple[bool, str | None]:
    command = ["ps", "-o", "lstart=", "-p", str(pid)]
    try:
        told = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
            env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return True, None
    return True, " ".join(told.stdout.split()) or None


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
