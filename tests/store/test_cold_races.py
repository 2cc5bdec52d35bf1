"""Writers, the compressor and who unpacks, on one thread of one simulated disk: in any order, at any step of each
other, killed and without power; what was acknowledged is there, once and in order.

The model is a list of numbers. Every program is one that can die; its locks die with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import msgspec
from cold_bench import CLEW_HOME, OTHER, Killed, Program, Still, worker
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from clew.errors import CompressionRunning, ThreadBusy
from clew.rollout import FailPoints, Home, LogWriter, Record, WriterLock, materialise, read_thread
from clew.rollout.envelope import Line
from clew.store.cold import ColdRules
from clew.testing import MemoryFileSystem, ThreadBuilder

PACKING = st.sampled_from(
    [
        "after_create",
        "before_write",
        "after_write",
        "before_sync",
        "after_sync",
        "before_link",
        "after_rename",
        "before_folder_sync",
        "after_folder_sync",
        "before_unlink",
    ]
)
WRITING = st.sampled_from(["before_write", "after_write", "before_sync", "after_sync"])
UNPACKING = st.sampled_from(
    ["after_create", "before_sync", "after_sync", "before_link", "after_rename", "before_folder_sync", "before_unlink"]
)
DEATHS = st.one_of(st.just("kill"), st.none(), st.integers(0, 50))
"""How a program ends: killed, without power and everything unsynced lost, or any part of it."""


class _Session:
    """A writer that keeps a thread open, as programs do for a turn or longer."""

    def __init__(self, machine: Races, number: int) -> None:
        self.number = number
        self.program = Program(machine.disk)
        home = Home(self.program, machine.home.path)
        self.fail = FailPoints()
        self.lock = WriterLock.acquire(home, CLEW_HOME, machine.thread_id, OTHER)
        files = home.find(machine.thread_id)
        assert files is not None
        current = materialise(self.program, files.current, fail=self.fail, process=number)
        self.writer = LogWriter(self.program, current.path, machine.clock, self.fail, create=False)

    def close(self) -> None:
        try:
            self.writer.close()
        finally:
            self.lock.release()


class Races(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = Still()
        self.disk = MemoryFileSystem(lambda: int(self.clock.now() * 1_000_000_000))
        self.home = Home(self.disk, Path("/codex"))
        self.sessions: dict[int, _Session] = {}
        self.acknowledged: list[int] = []
        self.written: list[int] = []
        """Handed to the system, not known to be durable."""
        self.doubtful: list[int] = []
        """Perhaps written, by a program that died before it was told."""
        self.last = 0
        self.torn = False
        self.running = 0

    @initialize(era=st.sampled_from(["0.142", "0.169"]), archived=st.booleans())
    def begin(self, era: Any, archived: bool) -> None:
        made = ThreadBuilder(era).turn("Hello?", "Hello. " * 50)
        made.write(self.home, archived=archived)
        self.thread_id = made.id
        self.beginning = len(made.records)

    # -- the programs

    def open(self, number: int) -> None:
        self.sessions[number] = _Session(self, number)

    def write(self, number: int, count: int, *, durable: bool) -> None:
        session = self.sessions[number]
        numbers = [self.last + each + 1 for each in range(count)]
        self.last += count
        self.doubtful = numbers
        session.writer.append([Line("event_msg", {"type": "number", "n": each}) for each in numbers])
        self.doubtful = []
        self.written += numbers
        if durable:
            session.writer.sync()
            self.acknowledge()

    def acknowledge(self) -> None:
        self.acknowledged += self.written
        self.written = []

    def close(self, number: int) -> None:
        self.sessions[number].close()
        del self.sessions[number]
        self.acknowledge()

    def compress(self, fail: FailPoints, program: Program) -> str:
        """What became of the thread."""
        home = Home(program, self.home.path)
        rules = ColdRules(older_than=0.0, parallel=1)
        each = worker(home, self.clock, fail=fail, is_alive=set[int]().__contains__, process=99)
        self.running += 1
        try:
            report = anyio.run(lambda: each.compress(rules))
        finally:
            self.running -= 1
        return ",".join(sorted({outcome.reason or outcome.result for outcome in report.outcomes} | {*report.skipped}))

    def unpack(self, fail: FailPoints, program: Program) -> None:
        home = Home(program, self.home.path)
        lock = WriterLock.acquire(home, CLEW_HOME, self.thread_id, OTHER)
        try:
            files = home.find(self.thread_id)
            assert files is not None
            materialise(program, files.current, fail=fail, process=98)
        finally:
            lock.release()

    # -- what ends them

    def die(self, program: Program, how: int | str | None) -> None:
        """The end of one program; a power cut is that of all."""
        if how == "kill":
            program.kill()
        self.without_power(how)
        program.cut_power(how if isinstance(how, int) else None)

    def without_power(self, how: int | str | None) -> None:
        for session in self.sessions.values():
            session.program.dead = True
        self.sessions.clear()
        self.torn = self.torn or how is not None
        self.doubtful = [*self.written, *self.doubtful]
        self.written = []

    def recover(self) -> None:
        """What a dead program may have left is what is there now."""
        found = self.numbers()
        sure = [*self.acknowledged, *self.written]
        assert found[: len(sure)] == sure
        rest = iter(self.doubtful)
        assert all(number in rest for number in found[len(sure) :])  # in order; of lost ones the next is not lost too
        self.written += found[len(sure) :]
        self.doubtful = []

    # -- the rules

    @precondition(lambda self: len(self.sessions) == 0)
    @rule(number=st.integers(1, 2))
    def a_writer_opens_the_thread(self, number: int) -> None:
        self.open(number)

    @precondition(lambda self: self.sessions)
    @rule(number=st.integers(1, 2))
    def another_writer_is_refused(self, number: int) -> None:
        self.refused(number)

    @precondition(lambda self: self.sessions)
    @rule(count=st.integers(1, 3), durable=st.booleans())
    def it_writes(self, count: int, durable: bool) -> None:
        self.write(next(iter(self.sessions)), count, durable=durable)

    @precondition(lambda self: self.sessions)
    @rule()
    def it_closes_the_thread(self) -> None:
        self.close(next(iter(self.sessions)))

    @precondition(lambda self: self.sessions)
    @rule(how=DEATHS, step=st.one_of(st.none(), WRITING))
    def it_dies(self, how: int | str | None, step: str | None) -> None:
        number, session = next(iter(self.sessions.items()))
        try:
            if step is not None:
                session.fail.on(step, lambda: self.die(session.program, how))
                self.write(number, 2, durable=True)
            self.die(session.program, how)
        except Killed:
            self.sessions.clear()
            self.recover()

    @precondition(lambda self: self.sessions)
    @rule(step=WRITING)
    def somebody_comes_while_it_writes(self, step: str) -> None:
        number, session = next(iter(self.sessions.items()))
        session.fail.on(step, self.everybody_is_kept_out)
        self.write(number, 1, durable=True)
        session.fail.off(step)

    @rule()
    def the_compressor_runs(self) -> None:
        became = self.compress(FailPoints(), Program(self.disk))
        if self.sessions:
            assert became in ("busy", "compressed")  # of a file that has its form already nothing is asked
            assert became == "busy"
        else:
            assert became == "compressed"

    @precondition(lambda self: not self.sessions)
    @rule(step=PACKING)
    def somebody_comes_while_it_packs(self, step: str) -> None:
        self.compress(FailPoints({step: self.everybody_is_kept_out}), Program(self.disk))

    @precondition(lambda self: not self.sessions)
    @rule(step=PACKING, how=DEATHS)
    def the_compressor_dies(self, step: str, how: int | str | None) -> None:
        program = Program(self.disk)
        try:
            self.compress(FailPoints({step: lambda: self.die(program, how)}), program)
        except (Killed, OSError, BaseExceptionGroup):
            assert program.dead
        self.recover()

    @precondition(lambda self: not self.sessions)
    @rule(step=UNPACKING)
    def somebody_comes_while_one_unpacks(self, step: str) -> None:
        self.unpack(FailPoints({step: self.everybody_is_kept_out}), Program(self.disk))

    @precondition(lambda self: not self.sessions)
    @rule(step=UNPACKING, how=DEATHS)
    def who_unpacks_dies(self, step: str, how: int | str | None) -> None:
        program = Program(self.disk)
        try:
            self.unpack(FailPoints({step: lambda: self.die(program, how)}), program)
        except (Killed, OSError):
            assert program.dead
        self.recover()

    @rule(hours=st.integers(1, 7))
    def time_goes_by(self, hours: int) -> None:
        self.clock.time += 3600.0 * hours

    # -- what must hold

    def refused(self, number: int) -> None:
        try:
            _Session(self, number)
        except ThreadBusy:
            return
        raise AssertionError("two writers at once")

    def everybody_is_kept_out(self) -> None:
        """Called within a step of somebody who holds the lock: readers read, all others are refused."""
        self.refused(3)
        try:
            self.unpack(FailPoints(), Program(self.disk))
        except ThreadBusy:
            pass
        else:
            raise AssertionError("it was unpacked under somebody's hands")
        try:
            became = self.compress(FailPoints(), Program(self.disk))
        except CompressionRunning:
            assert self.running == 1
        else:
            assert became in ("busy", "compressed")
            assert self.running == 0
        self.compare(self.numbers())

    @invariant()
    def every_reader_sees_what_was_written(self) -> None:
        if hasattr(self, "thread_id"):
            self.compare(self.numbers())

    def compare(self, found: list[int]) -> None:
        sure = [*self.acknowledged, *self.written]
        assert found[: len(sure)] == sure
        assert found[len(sure) :] in ([], self.doubtful)

    def numbers(self) -> list[int]:
        files = self.home.find(self.thread_id)
        assert files is not None
        found = list(read_thread(self.home, files))
        records = [each for each in found if isinstance(each, Record)]
        assert self.torn or len(records) == len(found)
        assert not files.doubles
        return [_number(each) for each in records[self.beginning :]]

    def teardown(self) -> None:
        for session in list(self.sessions.values()):
            session.close()
        if hasattr(self, "thread_id"):
            self.sessions.clear()
            self.clock.time += 7 * 3600.0
            self.acknowledge()
            self.the_compressor_runs()
            WriterLock.acquire(self.home, CLEW_HOME, self.thread_id, OTHER).release()  # a dead one's file stays
            files = self.home.find(self.thread_id)
            assert files is not None
            folder = files.current.path.parent
            assert [entry.name for entry in self.disk.scan(folder)] == [files.current.path.name]
            assert [entry.name for entry in self.disk.scan(self.home.lock_folder)] == [".coordination.lock"]
            self.compare(self.numbers())


def _number(record: Record) -> int:
    return int(msgspec.json.decode(record.payload)["n"])


TestRaces = Races.TestCase
TestRaces.settings = settings(max_examples=35, stateful_step_count=25, deadline=None, phases=(Phase.generate,))
