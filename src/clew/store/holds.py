"""Who holds which thread of a home, and freeing those that nobody holds any more.

Looking blocks for moments and belongs in a worker thread. Nothing here takes a lock away from a living program: two
could then both believe that they are the only one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import anyio.to_thread
import msgspec

from clew.errors import Owner, ThreadBusy
from clew.rollout import (
    FileSystem,
    Home,
    WaitingLine,
    acquire_waiting,
    canonical_id,
    clear_lock,
    lock_holder,
    lock_state,
    read_record,
)

__all__ = ["Hold", "Holds"]


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands with the lock of a thread.

    `state`: `held` (by `owner`, None if nobody knows), `left` (a program that was killed left files; `why` says how
    that is known), `elsewhere` (nobody holds it here, but a record names a process of another machine, of which nothing
    can be known), `free`. `waiting` are those in the line, first come first.
    """

    thread_id: str
    state: Literal["held", "left", "elsewhere", "free"]
    owner: Owner | None = None
    why: str = ""
    waiting: tuple[Owner, ...] = ()

    @property
    def can_ask(self) -> bool:
        """Whether the holder is one that lets others go first when it is asked."""
        return self.state == "held" and self.owner is not None and self.owner.endpoint is not None


class Holds:
    """The locks of one home."""

    def __init__(self, fs: FileSystem, codex_home: Path, clew_home: Path) -> None:
        self._home = Home(fs, codex_home)
        self._clew_home = clew_home

    def holders(self) -> dict[str, Owner]:
        """Threads that a known program holds now, by id. Costs what is held, takes no lock."""
        found: dict[str, Owner] = {}
        for name in self._names(self._home.lock_folder, ".lock"):
            owner = lock_holder(self._home, self._clew_home, name)
            if owner is not None:
                found[name] = owner
        return found

    def all(self) -> list[Hold]:
        """Every thread that is held, or of whose lock something is left; by id."""
        owners = self._clew_home / "owners"
        ids = {
            *self._names(self._home.lock_folder, ".lock"),
            *self._names(owners, ".json"),
            *self._names(owners, ".wanted"),
        }
        return [hold for thread_id in sorted(ids) if (hold := self.of(thread_id)).state != "free" or hold.waiting]

    def of(self, thread_id: str) -> Hold:
        """How it stands with one thread. Raises `ValueError` for what is no UUID."""
        thread_id = self._home.thread_lock(thread_id).stem
        line = WaitingLine(self._home.fs, self._clew_home, thread_id)
        waiting = tuple(entry.owner() for entry in line.living())
        state = lock_state(self._home, thread_id)
        if state == "held":
            owner = lock_holder(self._home, self._clew_home, thread_id)
            return Hold(thread_id=thread_id, state="held", owner=owner, waiting=waiting)
        record = read_record(self._home.fs, self._clew_home, thread_id)
        if record is None:
            why = "nobody holds its lock file" if state == "left" else ""
            if not why and not waiting and line.there:
                why = "those who waited for it have ended"
            return Hold(thread_id=thread_id, state="left" if why else "free", why=why, waiting=waiting)
        standing = record.standing()
        here: Literal["left", "elsewhere"] = "elsewhere" if standing.state == "elsewhere" else "left"
        why = standing.why or "it lives, and does not hold the lock"
        return Hold(thread_id=thread_id, state=here, owner=record.owner(), why=why, waiting=waiting)

    def clear(self, thread_id: str) -> list[Path]:
        """Remove what a killed program left; gives the files. Raises `ThreadBusy` when somebody holds the thread."""
        thread_id = self._home.thread_lock(thread_id).stem
        removed = clear_lock(self._home, self._clew_home, thread_id)
        if removed is None:
            raise ThreadBusy(thread_id, lock_holder(self._home, self._clew_home, thread_id))
        return removed

    async def ask(self, thread_id: str, owner: Owner, *, wait: float) -> None:
        """Ask the clew that holds a thread to let go after its running turn, before its next one; comes back when it
        did. `owner` is who asks. Raises `ThreadBusy` after `wait` seconds."""
        lock = await acquire_waiting(self._home, self._clew_home, thread_id, owner, wait=wait)
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(lock.release)

    def _names(self, folder: Path, ending: str) -> Iterator[str]:
        """The ids of which there are files with this ending."""
        try:
            entries = self._home.fs.scan(folder, stats=False)
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in sorted(entries):
            thread_id = entry.name.removesuffix(ending)
            if entry.name.endswith(ending) and not entry.is_dir and canonical_id(thread_id) == thread_id:
                yield thread_id
