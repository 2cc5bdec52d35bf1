"""The line of those who want a thread that another program keeps: one small file, in the order in which they asked.

`$CLEW_HOME/owners/<thread id>.wanted` is there only while somebody waits. Whoever wants to take the thread looks there
first, and goes to the end when somebody else stands in it; so a program with many turns to run lets others in between
them, and nobody starves. It changes under the coordination lock, in one step, and is not synced: it means nothing
without its processes. An entry whose process has ended does not count.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from clew.clock import utc_stamp
from clew.errors import Owner
from clew.rollout.filesystem import FileSystem
from clew.rollout.names import canonical_id
from clew.rollout.owners import OwnerRecord, identity_of, owners_folder, put_file

__all__ = ["Place", "Waiting", "WaitingLine"]

PATIENCE = 3.0
"""Seconds for which whoever is next may leave a free thread untaken (a stopped process, another machine that lost
power) before the one behind goes past."""

_MOST = 1 << 20


class Waiting(OwnerRecord):
    """One that waits, `since` then; it runs no turn. `ticket` tells it from others of its process."""

    ticket: str = ""


class WaitingLine:
    """The line for one thread."""

    def __init__(self, fs: FileSystem, clew_home: Path, thread_id: str) -> None:
        wanted = canonical_id(thread_id)
        if wanted is None:
            raise ValueError(f"{thread_id!r} is no UUID")
        self._fs = fs
        self.path = owners_folder(clew_home) / f"{wanted}.wanted"

    @property
    def there(self) -> bool:
        try:
            self._fs.stat(self.path)
        except FileNotFoundError:
            return False
        return True

    def read(self) -> list[Waiting]:
        """All entries, first come first. What cannot be read is nobody: those who wait put themselves in again."""
        try:
            with contextlib.closing(self._fs.open_read(self.path)) as file:
                return msgspec.json.decode(file.read_at(0, _MOST), type=list[Waiting])
        except (OSError, msgspec.DecodeError, ValueError):
            return []

    def living(self) -> list[Waiting]:
        """Without those whose process has ended."""
        return [entry for entry in self.read() if entry.standing().state != "gone"]

    def write(self, entries: Sequence[Waiting]) -> None:
        """For holders of the coordination lock."""
        if entries:
            put_file(self._fs, self.path, msgspec.json.encode(entries) + b"\n")
        else:
            with contextlib.suppress(FileNotFoundError):
                self._fs.unlink(self.path)


class Place:
    """The place of one that waits. Its methods are for holders of the coordination lock."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._ticket = ""
        self._left_free: tuple[str, float] | None = None
        self.taken = False
        """Whether it stands in the line, as far as it knows."""
        self.ahead = 0
        """How many stood before it when it last looked."""
        self.promised: Owner | None = None
        """Who is next, when the thread was free and not for it."""

    def wait(self, line: WaitingLine) -> None:
        """Stand in the line, at its end if not there yet. Somebody may have passed over this one: then again."""
        entries = line.living()
        tickets = [entry.ticket for entry in entries]
        if self._ticket not in tickets:
            entry = self._entry()
            line.write([*entries, entry])
            tickets.append(entry.ticket)
        self.taken = True
        self.ahead = tickets.index(self._ticket)

    def _entry(self) -> Waiting:
        owner, self._ticket = self._owner, secrets.token_hex(8)
        boot, started = identity_of(owner)
        return Waiting(
            program=owner.program,
            pid=owner.pid,
            host=owner.host,
            since=utc_stamp(time.time()),
            boot=boot,
            started=started,
            ticket=self._ticket,
        )

    def busy(self) -> None:
        """The thread is held: nobody lets it lie."""
        self._left_free = self.promised = None

    def may_go(self, line: WaitingLine) -> bool:
        """Whether a thread that is free now is for this one. Forgets one that is next and has let it lie too long."""
        self.promised = None
        if not (entries := line.read()):
            return True
        living = [entry for entry in entries if entry.standing().state != "gone"]
        first = next(iter(living), None)
        if first is not None and first.ticket != self._ticket and self._left_lying(first.ticket):
            living = living[1:]
            first = next(iter(living), None)
        if living != entries:
            line.write(living)
        if first is None or first.ticket == self._ticket:
            return True
        self.promised = first.owner()
        return False

    def leave(self, line: WaitingLine) -> None:
        """Make room: it has the thread, or wants it no more."""
        if self.taken:
            self.taken = False
            line.write([entry for entry in line.living() if entry.ticket != self._ticket])

    def _left_lying(self, ticket: str) -> bool:
        now = time.monotonic()
        if self._left_free is None or self._left_free[0] != ticket:
            self._left_free = ticket, now
        return now - self._left_free[1] >= PATIENCE
