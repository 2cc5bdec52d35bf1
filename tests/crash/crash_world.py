"""A disk, two programs on it and others without locks, and everything that can happen to them."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from anyio.from_thread import BlockingPortal, start_blocking_portal
from crash_model import Broken, Entry, Expected, number_of
from crash_story import Outcome, StoryClock, StoryIds, Trouble, as_told, meta_of, said, threaded, turn_begins, turn_of

from clew.errors import (
    ClewError,
    DiskFull,
    HomeUnwritable,
    LogDamaged,
    LogReplaced,
    Owner,
    SyncFailed,
    ThreadArchived,
    ThreadBusy,
    ThreadNotFound,
    Unsupported,
)
from clew.rollout import Home, Record, Skipped, open_source, scan_forward
from clew.store import LocalStore
from clew.store.checking import Checker
from clew.store.cold import ColdReport, ColdRules, ColdWorker
from clew.store.contracts import Lease, ListQuery
from clew.testing import MemoryFileSystem, ProgramKilled, memory_home, memory_store

__all__ = ["World"]

TORN = ("line-damaged", "torn-tail")
FAULTS = (DiskFull, SyncFailed, HomeUnwritable)


class _Held:
    """A lease that a program holds."""

    def __init__(self, lease: Lease, stack: AsyncExitStack, hand: int) -> None:
        self.lease = lease
        self.stack = stack
        self.hand = hand
        self.entries: list[Entry] = []
        self.used = False
        self.broken = False
        self.told_later = False
        """A call of the disk failed while it was held, perhaps one of another program: systems tell everybody who has
        the file open of a failed sync, each once."""


class _Program:
    def __init__(self, world: World, name: str) -> None:
        self.fs = world.fs.program()
        self.name = name
        self.owner = Owner(name, os.getpid())
        self.store = memory_store(self.fs, clock=world.clock, ids=world.ids, owner=self.owner)
        self.held: dict[str, _Held] = {}


class World:
    """See `check` for what is held against what. `counts` tells what happened."""

    def __init__(self) -> None:
        self.clock = StoryClock()
        self.ids = StoryIds(self.clock)
        self.fs = MemoryFileSystem(lambda: int(self.clock.now() * 1_000_000_000))
        self.home = memory_home(self.fs)
        self.counts: Counter[str] = Counter()
        self.threads: dict[str, Expected] = {}
        self._moment = 0
        self._number = 0
        self._hands = 0
        self._portal_context = start_blocking_portal("asyncio")
        self.portal: BlockingPortal = self._portal_context.__enter__()
        self.watcher: LocalStore = memory_store(self.fs, clock=self.clock, ids=self.ids)
        self.programs = [_Program(self, "one"), _Program(self, "two")]

    def close(self) -> None:
        for program in self.programs:
            self._bury(program)
        self.watcher.close()
        self._portal_context.__exit__(None, None, None)

    # -- doing things -------------------------------------------------------------------------------------------------

    def perform(
        self,
        program: _Program,
        act: Callable[[], Awaitable[Any]],
        trouble: Trouble,
        expected: tuple[type[Exception], ...] = (),
    ) -> Outcome:
        """Do something under a trouble. Raises `Broken` for an error that has no reason."""
        self.counts["operations"] += 1
        before = self.fs.sprung.total()
        if trouble.kind == "fault":
            self.fs.fail(
                trouble.operation,
                at=trouble.at,
                times=trouble.times,
                error=trouble.error,
                written=trouble.written,
                dropped=trouble.dropped,
            )
        elif trouble.kind != "none":
            program.fs.kill_at(trouble.at, written=trouble.written)
        value, error = None, None
        try:
            value = self.portal.call(act)
        except Exception as raised:
            error = raised
        self.fs.heal()
        struck = self.fs.sprung.total() > before
        killed = not program.fs.alive
        program.fs.kill_at(1 << 60)
        self.counts["faults"] += self.fs.sprung.total() - before
        self.counts["kills"] += killed and trouble.kind == "kill"
        if error is not None and not killed:
            allowed = (*expected, *(FAULTS if struck else ()))
            if not isinstance(error, allowed):
                raise Broken(f"{type(error).__name__}: {error}") from error
            if struck and not str(error):
                raise Broken("an error without a word")
        return Outcome(value, error, struck, killed)

    def _perform_held(
        self, program: _Program, held: _Held, act: Callable[[], Awaitable[Any]], trouble: Trouble
    ) -> Outcome:
        """Do something with a lease, which may hear of what befell its file before."""
        expected: list[type[Exception]] = [LogReplaced] if held.broken else []
        if held.told_later:
            expected.append(SyncFailed)
        outcome = self.perform(program, act, trouble, tuple(expected))
        late = isinstance(outcome.error, SyncFailed)
        return replace(outcome, struck=True) if late else outcome

    def _after(self, program: _Program, outcome: Outcome, trouble: Trouble) -> None:
        """Whoever died is replaced; what is left is held against what was promised."""
        if outcome.struck:
            for other in self.programs:
                for held in other.held.values():
                    held.told_later = True
        if outcome.struck and outcome.error is not None:
            # Told that the disk failed: what no sync had covered is not certain any more, until it is seen again.
            for thread in self.threads.values():
                for entry in thread.lines:
                    if entry.sure != "durable":
                        entry.sure, entry.doubtful = "maybe", True
                thread.frozen.clear()
        if outcome.killed and trouble.kind == "power":
            self.lose_power(trouble.seed)
        elif outcome.killed:
            self.replace(program)
        elif outcome.struck and self._locks_stuck(program):
            # The disk refused to give a lock back. It is free when the program ends.
            self.counts["stuck locks"] += 1
            self.replace(program)

    def _locks_stuck(self, program: _Program) -> bool:
        for thread_id in self.threads:
            if any(thread_id in other.held for other in self.programs):
                continue
            with contextlib.suppress(FileNotFoundError):
                file = self.fs.open_append(self.home.thread_lock(thread_id), create=False)
                free = file.try_lock()
                file.close()
                if not free:
                    return True
        return False

    def replace(self, program: _Program) -> None:
        """The program was killed; another one takes its place."""
        program.fs.kill()
        hands = {held.hand for held in program.held.values()}
        self._bury(program)
        self.programs[self.programs.index(program)] = _Program(self, program.name)
        self.check(gone=hands)

    def lose_power(self, seed: int | None) -> None:
        self.counts["crashes"] += 1
        names = [program.name for program in self.programs]
        self.fs.crash(seed)
        for program in self.programs:
            self._bury(program)
        self.watcher.close()
        self.watcher = memory_store(self.fs, clock=self.clock, ids=self.ids)
        self.programs = [_Program(self, name) for name in names]
        for thread in self.threads.values():
            for entry in thread.lines:
                if entry.sure == "written":
                    entry.sure = "maybe"
            if thread.exists == "written":
                thread.exists = "maybe"
        self.check(after_power_loss=True)

    def _bury(self, program: _Program) -> None:
        program.fs.kill()
        for held in program.held.values():
            with contextlib.suppress(ProgramKilled, ClewError, OSError):
                self.portal.call(held.stack.aclose)
        program.held.clear()
        program.store.close()

    def moment(self) -> int:
        self._moment += 1
        return self._moment

    def hand(self) -> int:
        self._hands += 1
        return self._hands

    def entries(self, count: int, hand: int) -> list[Entry]:
        submitted = self.moment()
        made: list[Entry] = []
        for _ in range(count):
            self._number += 1
            made.append(Entry(self._number, "maybe", submitted, hand))
        return made

    # -- what programs do ---------------------------------------------------------------------------------------------

    def begin(self, program: _Program, *, paginated: bool, count: int, durable: bool, trouble: Trouble) -> None:
        """Start a thread with some lines."""
        thread = Expected(self.ids.uuid7(), paginated)
        self.threads[thread.id] = thread
        held = self._take(program, thread, Trouble(), create=True)
        assert held is not None
        self._append(program, held, thread, count, durable=durable, trouble=trouble, first=True)

    def take(self, program: _Program, thread: Expected, trouble: Trouble) -> None:
        self._take(program, thread, trouble, create=False)

    def _take(self, program: _Program, thread: Expected, trouble: Trouble, *, create: bool) -> _Held | None:
        stack = AsyncExitStack()

        async def lease() -> Lease:
            return await stack.enter_async_context(program.store.lease(thread.id, program.owner, create=create))

        expected: list[type[Exception]] = []
        if any(thread.id in other.held for other in self.programs):
            expected.append(ThreadBusy)
        if True in thread.archived:
            expected.append(ThreadArchived)
        if thread.exists == "maybe":
            expected.append(ThreadNotFound)
        if trouble.kind == "fault":
            expected += [ThreadNotFound, LogDamaged]
        outcome = self.perform(program, lease, trouble, tuple(expected))
        if outcome.error is None and not outcome.killed:
            if any(thread.id in other.held for other in self.programs):
                raise Broken(f"{thread.id} was leased twice")
            held = program.held[thread.id] = _Held(outcome.value, stack, self.hand())
            return held
        self._after(program, outcome, trouble)
        return None

    def append(self, program: _Program, thread: Expected, count: int, *, durable: bool, trouble: Trouble) -> None:
        self._append(program, program.held[thread.id], thread, count, durable=durable, trouble=trouble)

    def _append(
        self,
        program: _Program,
        held: _Held,
        thread: Expected,
        count: int,
        *,
        durable: bool,
        trouble: Trouble,
        first: bool = False,
    ) -> None:
        entries = self.entries(count, held.hand)
        held.entries += entries
        held.used = True
        thread.lines += entries
        lines = [meta_of(thread)] if first else []
        lines += [turn_begins(f"turn-{entry.number}") for entry in entries[:1]]
        lines += [said(entry.number) for entry in entries]

        async def append() -> int:
            return await held.lease.append(lines, durable=durable)

        outcome = self._perform_held(program, held, append, trouble)
        if outcome.error is None and not outcome.killed:
            # Without lines of its own it says nothing of others', nor of the thread when it has lost its file.
            if entries or (held.entries and not held.broken):
                self._there(thread, held, "durable" if durable else "written", freezes=bool(entries))
            self.counts["acknowledged"] += len(entries)
        self._after(program, outcome, trouble)

    def _there(
        self, thread: Expected, held: _Held, sure: Literal["written", "durable"], *, freezes: bool = True
    ) -> None:
        """What a lease was told, and everything before it."""
        now = self.moment()
        for entry in held.entries:
            entry.is_there(sure, now, certain=True)
        if thread.exists == "maybe" or sure == "durable":
            thread.exists = sure
        if sure == "durable":
            latest = max((entry.submitted for entry in held.entries), default=-1)
            for entry in thread.lines:
                if entry.sure == "written" and entry.submitted < latest:
                    entry.sure = "durable"
            if freezes:
                self._freeze(thread)

    def end(self, program: _Program, thread: Expected, trouble: Trouble) -> None:
        held = program.held[thread.id]
        pending = [entry for entry in held.entries if entry.sure == "maybe"]
        outcome = self._perform_held(program, held, held.stack.aclose, trouble)
        if outcome.killed:
            self._after(program, outcome, trouble)
            return
        del program.held[thread.id]
        if outcome.error is None and held.used and not held.broken:
            self._there(thread, held, "durable", freezes=False)
        elif pending and not outcome.struck:
            # Refused for good: what is not there now stays away, unless the same program still knows it.
            self.check_thread(thread)
        self._after(program, outcome, trouble)

    def fork(self, program: _Program, source: Expected, trouble: Trouble) -> None:
        child = Expected(self.ids.uuid7(), source.paginated)
        there = self.check_thread(source)
        if there is None:
            return
        inherited = [
            # Each has a hand and a moment of its own: they stay in this order.
            Entry(entry.number, "maybe" if entry.doubtful else "durable", at, at, at, entry.doubtful)
            for at, entry in enumerate(there, -len(there))
        ]
        child.lines = inherited
        child.in_doubt = source.in_doubt or any(entry.doubtful for entry in there)
        child.based_on = {source.id} if source.paginated else set()
        if not source.paginated:
            child.based_on = {source.id}
        self.threads[child.id] = child

        async def fork() -> None:
            await program.store.fork(source.id, child.id)

        expected: tuple[type[Exception], ...] = (ThreadNotFound, LogDamaged) if trouble.kind == "fault" else ()
        outcome = self.perform(program, fork, trouble, expected)
        if outcome.error is None and not outcome.killed:
            child.exists = "durable"
            if source.paginated:
                for entry in there:
                    entry.is_there("durable", self.moment())
        self._after(program, outcome, trouble)

    def revert(self, program: _Program, thread: Expected, choice: int, trouble: Trouble) -> None:
        """Take a thread back to where one of its turns began."""
        there = self.check_thread(thread)
        if there is None or thread.id in program.held:
            return
        before = self._turns(thread)
        if not before:
            return
        turn_id = list(before)[choice % len(before)]
        kept = there[: before[turn_id]]
        segments = self._segments(thread)
        expected: list[type[Exception]] = [] if thread.paginated else [Unsupported]
        if self.is_held(thread):
            expected.append(ThreadBusy)
        if True in thread.archived:
            expected.append(ThreadArchived)
        if trouble.kind == "fault":
            expected += [ThreadNotFound, LogDamaged]

        async def revert() -> None:
            await program.store.revert(thread.id, turn_id, program.owner)

        outcome = self.perform(program, revert, trouble, tuple(expected))
        done = outcome.error is None and not outcome.killed
        if done or self._segments(thread) > segments:
            thread.based_on.add(thread.id)
            thread.in_doubt = thread.in_doubt or any(entry.doubtful for entry in kept)
            numbers = [number_of(line) for line in self.watcher.read(thread.id) if isinstance(line, Record)]
            if [number for number in numbers if number is not None] != [entry.number for entry in kept]:
                raise Broken(f"{thread.id} was taken back to {turn_id}, and is somewhere else")
        if done:
            thread.lines, thread.exists = kept, "durable"
            for entry in kept:
                entry.is_there("durable", self.moment())
        elif self._segments(thread) > segments:
            # Nobody was told, so power loss may take it back: then all of it is there again.
            for entry in there[len(kept) :]:
                entry.sure = "maybe"
        self._after(program, outcome, trouble)

    def put_away(self, program: _Program, thread: Expected, trouble: Trouble, *, away: bool) -> None:
        act = program.store.catalog.archive if away else program.store.catalog.unarchive
        expected: list[type[Exception]] = []
        if any(thread.id in other.held for other in self.programs):
            expected.append(ThreadBusy)
        if thread.exists == "maybe":
            expected.append(ThreadNotFound)
        if trouble.kind == "fault":
            expected.append(ThreadNotFound)
        outcome = self.perform(program, threaded(lambda: act(thread.id)), trouble, tuple(expected))
        if isinstance(outcome.error, ThreadBusy):
            return
        if outcome.error is None and not outcome.killed:
            thread.archived = {away}
        elif not isinstance(outcome.error, ThreadNotFound):
            thread.archived.add(away)
        self._after(program, outcome, trouble)

    def rename(self, program: _Program, thread: Expected, name: str, trouble: Trouble) -> None:
        expected: tuple[type[Exception], ...] = ()
        if thread.exists == "maybe" or trouble.kind == "fault":
            expected = (ThreadNotFound,)
        outcome = self.perform(
            program, threaded(lambda: program.store.catalog.rename(thread.id, name)), trouble, expected
        )
        if outcome.error is None and not outcome.killed:
            thread.names = {name}
        else:
            thread.names.add(name)
        self._after(program, outcome, trouble)

    def unpack(self, program: _Program, thread: Expected, trouble: Trouble) -> None:
        """Give a thread its plain form again, without writing to it."""
        self._work_on(program, lambda worker: worker.materialise([thread.id]), thread, trouble)

    def pack(self, program: _Program, thread: Expected, trouble: Trouble) -> None:
        """Compress a thread as clew does."""
        rules = ColdRules(older_than=0, parallel=1)
        self._work_on(program, lambda worker: worker.compress(rules, only=[thread.id]), thread, trouble)

    def _work_on(
        self,
        program: _Program,
        work: Callable[[ColdWorker], Awaitable[ColdReport]],
        thread: Expected,
        trouble: Trouble,
    ) -> None:
        held = self.is_held(thread)
        worker = ColdWorker(
            Home(program.fs, self.home.path),
            Path("/memory/clew"),
            owner=program.owner,
            clock=self.clock,
            process=1_000_000 + self.hand(),
            is_alive=lambda _: False,
            is_open=lambda _, __: held,
        )
        expected: tuple[type[Exception], ...] = (ClewError, OSError, ExceptionGroup) if trouble.kind == "fault" else ()
        outcome = self.perform(program, lambda: work(worker), trouble, expected)
        if outcome.struck and outcome.error is None and not outcome.killed:
            # It tells of what failed in its report.
            outcome = Outcome(None, SyncFailed(thread.id, "in a report"), struck=True, killed=False)
        self._after(program, outcome, trouble)

    def plain(self, thread: Expected) -> Path | None:
        files = self.home.find(thread.id)
        if files is None or files.archived or files.current.compressed:
            return None
        return files.current.path

    def is_held(self, thread: Expected) -> bool:
        return any(thread.id in program.held for program in self.programs)

    def break_off(self, thread: Expected) -> None:
        for program in self.programs:
            if (held := program.held.get(thread.id)) is not None:
                held.broken = True

    def settle_folders(self) -> None:
        """Some time has passed, and the system has written all names by itself."""
        folders = [Path("/")]
        while folders:
            folder = folders.pop()
            self.fs.sync_folder(folder)
            folders += [folder / entry.name for entry in self.fs.scan(folder) if entry.is_dir]

    def all_on_disk(self, thread: Expected) -> None:
        self.settle_folders()
        there = self.check_thread(thread)
        alone = not (thread.paginated and thread.based_on)  # else some of it lies in other files
        for entry in there or ():
            entry.is_there("durable", self.moment(), certain=alone)
        if there is not None:
            thread.exists = "durable"

    # -- what must be -------------------------------------------------------------------------------------------------

    def check(self, *, gone: Sequence[int] | set[int] = (), after_power_loss: bool = False) -> None:
        """Everything: each thread is found once and holds what it must. `gone`: hands that will write nothing more."""
        self.counts["checks"] += 1
        listed = self.watcher.catalog.list(ListQuery(archived=None, limit=1000)).threads
        ids = [summary.id for summary in listed]
        if len(set(ids)) != len(ids):
            raise Broken(f"listed more than once: {ids}")
        if unknown := set(ids) - set(self.threads):
            raise Broken(f"listed, but never made: {unknown}")
        for summary in listed:
            thread = self.threads[summary.id]
            if summary.error is not None:
                raise Broken(f"{summary.id} is listed with an error: {summary.error}")
            if summary.archived not in thread.archived:
                raise Broken(f"{summary.id}: archived is {summary.archived}, not {thread.archived}")
            if summary.name not in thread.names:
                raise Broken(f"{summary.id}: the name is {summary.name!r}, not {thread.names}")
            if after_power_loss:
                thread.archived, thread.names = {summary.archived}, {summary.name}
                thread.exists = "durable"
        for thread in list(self.threads.values()):
            if thread.id not in ids:
                if thread.exists != "maybe":
                    raise Broken(f"{thread.id} is {thread.exists} and cannot be found")
                if after_power_loss or not self.is_held(thread):
                    del self.threads[thread.id]
                continue
            there = self.check_thread(thread)
            assert there is not None
            for entry in there:
                if after_power_loss:
                    entry.is_there("durable", self.moment(), certain=True)
            if after_power_loss or gone:
                thread.lines = [
                    entry
                    for entry in thread.lines
                    if entry.sure != "maybe" or entry in there or not (after_power_loss or entry.hand in gone)
                ]

    def inspect(self) -> None:
        """A second opinion: nothing but torn lines is wrong with what is left."""
        checker = Checker(self.home, Path("/memory/clew"), clock=self.clock)
        wrong = [
            found
            for found in checker.home()
            if found.severity == "error"
            and found.code not in TORN
            and not (found.code.startswith("base-") and self.threads[str(found.thread_id)].in_doubt)
        ]
        if wrong:
            raise Broken(f"clew check finds {wrong}")

    def check_thread(self, thread: Expected) -> list[Entry] | None:
        """The entries that are there; None where there is no such thread, as it may be."""
        try:
            found = list(self.watcher.read(thread.id))
            back = list(self.watcher.read_back(thread.id))
        except ThreadNotFound:
            if thread.exists != "maybe":
                raise Broken(f"{thread.id} is {thread.exists} and cannot be found") from None
            return None
        if as_told(found) != as_told(reversed(back)):
            raise Broken(f"{thread.id} reads differently from its end")
        there = thread.check(found)
        files = self.home.find(thread.id)
        assert files is not None
        rollout_id = files.current.name.rollout_id
        data = self._bytes(thread)
        if not data.startswith(thread.frozen.get(rollout_id, b"")):
            raise Broken(f"{thread.id}: earlier bytes changed")
        return there

    def _turns(self, thread: Expected) -> dict[str, int]:
        """How many of the thread's entries stand before each of its turns."""
        found: dict[str, int] = {}
        count = 0
        for line in self.watcher.read(thread.id):
            if isinstance(line, Record):
                if (turn_id := turn_of(line)) is not None:
                    found[turn_id] = count
                count += number_of(line) is not None
        return found

    def _segments(self, thread: Expected) -> int:
        files = self.home.find(thread.id)
        return 0 if files is None else len(files.segments)

    def _freeze(self, thread: Expected) -> None:
        files = self.home.find(thread.id)
        if files is not None:
            thread.frozen[files.current.name.rollout_id] = self._bytes(thread)

    def _bytes(self, thread: Expected) -> bytes:
        files = self.home.find(thread.id)
        assert files is not None
        with contextlib.closing(open_source(self.fs, files.current)) as source:
            return source.read_at(0, source.size())

    def file_lines(self, thread: Expected) -> list[Record | Skipped]:
        files = self.home.find(thread.id)
        assert files is not None
        with contextlib.closing(open_source(self.fs, files.current)) as source:
            return list(scan_forward(source))
