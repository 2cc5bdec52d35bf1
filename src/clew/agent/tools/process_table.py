"""The commands that are running, under the session ids the model knows them by."""

from __future__ import annotations

from dataclasses import dataclass

import anyio
import anyio.to_thread

from clew.agent.tools.contracts import Finished
from clew.agent.tools.processes import Process
from clew.ids import IdSource

__all__ = ["Command", "ProcessTable"]

MOST_PROCESSES = 64
SAFE_RECENT = 8
_FIRST_ID, _IDS = 1_000, 99_000


@dataclass(slots=True, kw_only=True)
class Command:
    """A command on its way: which call wanted it, since when. `id` is its session id, 0 before it was started.

    `announced`: its `ItemStarted` went out. `killed`: ended by us. `finished`: its item, once it is over.
    """

    id: int
    thread_id: str
    turn_id: str
    call_id: str
    argv: tuple[str, ...]
    script: str
    cwd: str
    started: float
    started_at_ms: int
    announced: bool = False
    killed: bool = False
    finished: Finished | None = None


class ProcessTable:
    """Running commands and those whose end nobody has looked at yet, least recently used first.

    `cut` holds the items of commands that ended because a call was interrupted, by the id of that call.
    """

    def __init__(self) -> None:
        self.cut: dict[str, Finished] = {}
        self._entries: dict[int, tuple[Command, Process]] = {}
        self._starting: set[int] = set()
        self._leftovers: list[Process] = []
        self._closed = False

    def find(self, session: int, thread_id: str) -> tuple[Command, Process] | None:
        """The command with this session id, if it is this thread's; it counts as used."""
        entry = self._entries.get(session)
        if entry is None or entry[0].thread_id != thread_id:
            return None
        self._entries[session] = self._entries.pop(session)
        return entry

    async def add(self, command: Command, process: Process, ids: IdSource) -> None:
        """Start a process and give the command its id. Raises `OSError` when it cannot be started."""
        await self._sweep()
        while len(self._entries) + len(self._starting) >= MOST_PROCESSES and self._entries:
            await self._drop(self._least_needed())
        session = self._free_id(ids)
        self._starting.add(session)
        try:
            with anyio.CancelScope(shield=True):  # a started process must not get lost between thread and table
                await process.start()
                self._entries[session] = (command, process)
                command.id = session
        finally:
            self._starting.discard(session)
        if self._closed:
            await self._drop(session)
            raise OSError(125, "the session was closed")

    def _free_id(self, ids: IdSource) -> int:
        while True:
            session = _FIRST_ID + int(ids.uuid7()[-12:], 16) % _IDS
            if session not in self._entries and session not in self._starting:
                return session

    def _least_needed(self) -> int:
        """The least recently used command that has ended, else the least recently used; the most recent are safe."""
        candidates = list(self._entries)[: max(1, len(self._entries) - SAFE_RECENT)]
        ended = (session for session in candidates if self._entries[session][1].finished)
        return next(ended, candidates[0])

    async def _drop(self, session: int) -> None:
        _, process = self._entries.pop(session)
        with anyio.CancelScope(shield=True):
            if not process.finished:
                await process.end()
            await process.dispose()

    async def remove(self, session: int) -> None:
        """Forget a command that has ended. Children it left running are ended when the table is closed."""
        entry = self._entries.pop(session, None)
        if entry is None:
            return
        self._leftovers.append(entry[1])
        await self._sweep()

    async def _sweep(self) -> None:
        """Let go of processes of which nothing is left."""
        mine, self._leftovers = self._leftovers, []
        for process in mine:
            if not await anyio.to_thread.run_sync(process.reap):
                self._leftovers.append(process)
            else:
                with anyio.CancelScope(shield=True):
                    await process.dispose()

    def ended(self, thread_id: str | None = None) -> list[tuple[Command, Process]]:
        """Commands that have ended and were not announced."""
        return [
            (command, process)
            for command, process in self._entries.values()
            if process.finished
            and command.finished is None
            and not process.lock.locked()
            and thread_id in (None, command.thread_id)
        ]

    async def close(self, thread_id: str | None = None) -> list[tuple[Command, Process]]:
        """End everything (of one thread); returns what was still running or unseen, dead now."""
        self._closed = self._closed or thread_id is None
        victims = [entry for entry in self._entries.values() if thread_id in (None, entry[0].thread_id)]
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as group:
                for command, process in victims:
                    command.killed = command.killed or not process.finished
                    group.start_soon(process.end)
            for command, process in victims:
                self._entries.pop(command.id, None)
                await process.dispose()
            if thread_id is None:
                leftovers, self._leftovers = self._leftovers, []
                for process in leftovers:
                    await process.dispose()
        return victims
