"""The line of those who want a thread: who is next, who is passed over, and what is left of it."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import anyio
import anyio.lowlevel
import msgspec
import pytest
from lock_processes import CLEW as CLEW_PROGRAM
from lock_processes import Program, running, until

from clew.errors import Owner, ThreadBusy
from clew.ids import uuid7_at
from clew.rollout import Home, Place, RealFileSystem, Waiting, WaitingLine, WriterLock, acquire_waiting, lock_holder
from clew.testing.disk import MemoryFileSystem

THREAD = uuid7_at(1_782_907_200_000, b"wait" * 3)
CLEW = Path("/home/clew")
HOST = socket.gethostname()


def owner(name: str) -> Owner:
    return Owner(name, os.getpid(), HOST)


@pytest.fixture
def line(home: Home) -> WaitingLine:
    return WaitingLine(home.fs, CLEW, THREAD)


def names(line: WaitingLine) -> list[str]:
    return [entry.program for entry in line.read()]


def take(home: Home, name: str, place: Place | None = None) -> WriterLock | None:
    try:
        return WriterLock.acquire(home, CLEW, THREAD, owner(name), place)
    except ThreadBusy:
        return None


def test_who_asked_first_is_served_first_and_before_the_holder(home: Home, line: WaitingLine) -> None:
    held = take(home, "a", Place(owner("a")))
    assert held is not None
    places = {name: Place(owner(name)) for name in "bcd"}
    for name, place in places.items():
        assert take(home, name, place) is None
    assert take(home, "c", places["c"]) is None, "asking again keeps the place"
    assert names(line) == ["b", "c", "d"]
    assert [place.ahead for place in places.values()] == [0, 1, 2]
    held.release()
    again = Place(owner("a"))
    assert take(home, "a", again) is None
    assert again.promised is not None
    assert again.promised.program == "b"
    assert take(home, "d", places["d"]) is None
    served: list[str] = []
    for name, place in [*places.items(), ("a", again)]:
        held = take(home, name, place)
        assert held is not None, name
        served.append(name)
        held.release()
    assert served == ["b", "c", "d", "a"]
    assert not home.fs.scan(CLEW / "owners"), "nobody waits: nothing is there"


def test_whoever_does_not_wait_does_not_mind_the_line(home: Home) -> None:
    held = take(home, "a")
    waiting = Place(owner("b"))
    assert (held is not None, take(home, "b", waiting)) == (True, None)
    if held is not None:
        held.release()
    short = take(home, "c")
    assert short is not None
    short.release()
    assert take(home, "b", waiting) is not None


def test_those_whose_process_ended_do_not_count(home: Home, line: WaitingLine) -> None:
    gone = Waiting("gone", 999_999_999, HOST, ticket="1")
    line.write([gone, gone])
    held = take(home, "a", Place(owner("a")))
    assert held is not None
    assert names(line) == []
    line.write([gone])
    place = Place(owner("b"))
    assert take(home, "b", place) is None
    assert names(line) == ["b"]
    held.release()


@pytest.mark.parametrize("text", [b"", b"rubbish", b'{"a":1}', b'[{"ticket":5}]', b"[1]"])
def test_a_line_that_cannot_be_read_is_begun_anew(text: bytes, home: Home, line: WaitingLine) -> None:
    assert isinstance(home.fs, MemoryFileSystem)
    home.fs.write_bytes(line.path, text)
    held = take(home, "a", Place(owner("a")))
    place = Place(owner("b"))
    assert (held is not None, take(home, "b", place), names(line)) == (True, None, ["b"])
    home.fs.write_bytes(line.path, text)
    assert (take(home, "b", place), names(line)) == (None, ["b"]), "its place was lost, and it has one again"


def test_who_lets_a_free_thread_lie_is_passed_over(
    home: Home, line: WaitingLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clew.rollout.waiting.PATIENCE", 0.0)
    elsewhere = Waiting("stopped", 7, "elsewhere", ticket="1")
    line.write([elsewhere, Waiting("stopped too", None, ticket="2")])
    held = take(home, "a", place := Place(owner("a")))
    assert held is None, "the second one has its own time"
    assert names(line) == ["stopped too", "a"]
    held = take(home, "a", place)
    assert held is not None
    held.release()


def test_a_thread_that_is_taken_between_does_not_use_up_patience(
    home: Home, line: WaitingLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clew.rollout.waiting.PATIENCE", 1000.0)
    line.write([Waiting("next", 7, "elsewhere", ticket="1")])
    place = Place(owner("a"))
    assert take(home, "a", place) is None
    monkeypatch.setattr("clew.rollout.waiting.PATIENCE", 0.0)
    held = take(home, "next")
    assert (held is not None, take(home, "a", place)) == (True, None)
    assert names(line) == ["next", "a"]


@pytest.mark.anyio
async def test_waiting_that_ends_leaves_the_line(home: Home, line: WaitingLine) -> None:
    held = take(home, "a")
    assert held is not None
    with anyio.fail_after(5):
        with pytest.raises(ThreadBusy):
            await acquire_waiting(home, CLEW, THREAD, owner("b"), wait=0.02)
        assert names(line) == []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: acquire_waiting(home, CLEW, THREAD, owner("c"), wait=None))
            while names(line) != ["c"]:
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        assert names(line) == []
    held.release()
    assert not home.fs.scan(CLEW / "owners")


@pytest.mark.anyio
async def test_a_disk_that_fails_when_one_leaves_does_not_hide_why(home: Home, line: WaitingLine) -> None:
    disk = home.fs
    assert isinstance(disk, MemoryFileSystem)
    held = take(home, "a")
    assert held is not None
    told: list[ThreadBusy] = []

    async def wait() -> None:
        try:
            await acquire_waiting(home, CLEW, THREAD, owner("b"), wait=0.05)
        except ThreadBusy as busy:
            told.append(busy)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            while names(line) != ["b"]:
                await anyio.lowlevel.checkpoint()
            disk.fail("unlink", times=1000)
    assert (len(told), names(line)) == (1, ["b"])
    disk.heal()
    held.release()


def test_the_line_is_a_small_file_of_known_form(home: Home, line: WaitingLine) -> None:
    held = take(home, "a")
    assert (held is not None, take(home, "b", Place(owner("b")))) == (True, None)
    (entry,) = msgspec.json.decode(home.fs.open_read(line.path).read_at(0, 4096))
    assert (entry["program"], entry["pid"], entry["host"]) == ("b", os.getpid(), HOST)
    assert {"since", "ticket"} <= set(entry)


# -- real processes


@pytest.fixture
def real(tmp_path: Path) -> Home:
    return Home(RealFileSystem(), tmp_path / "codex")


def turns_until_done(real: Home, clew: Path, first: Program, second: Program, rounds: int) -> list[str]:
    """Who has the thread, turn after turn; each turn lasts until somebody else waits, if there is anybody."""
    line = WaitingLine(real.fs, clew, THREAD)
    out: list[str] = []
    programs = [first, second]
    for turn in range(2 * rounds):
        now, other = programs[turn % 2], programs[1 - turn % 2]
        # Only who is next may have it; the other one's `in` would come to nobody here, and the line never fill.
        assert now.hear() == "in"
        holder = lock_holder(real, clew, THREAD)
        assert holder is not None
        assert holder.pid == now.pid
        out.append(holder.program)
        if turn < 2 * rounds - 1:
            until(lambda other=other: [entry.pid for entry in line.read()] == [other.pid])
        now.go_on()
    return out


def test_two_programs_with_many_turns_take_turns(real: Home, tmp_path: Path) -> None:
    clew, rounds = tmp_path / "clew", 15
    words = (real.path, clew, THREAD)
    with running(CLEW_PROGRAM, *words, "one", rounds) as one, running(CLEW_PROGRAM, *words, "two", rounds) as two:
        assert (one.hear(), two.hear()) == ("ready", "ready")
        one.go_on()
        until(lambda: lock_holder(real, clew, THREAD) is not None)
        two.go_on()
        assert turns_until_done(real, clew, one, two, rounds) == ["one", "two"] * rounds
        assert (one.process.wait(5), two.process.wait(5)) == (0, 0)
    assert list((clew / "owners").iterdir()) == []


def test_a_waiter_that_is_killed_or_stopped_keeps_nobody_waiting(
    real: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clew.rollout.waiting.PATIENCE", 0.05)
    clew = tmp_path / "clew"
    line = WaitingLine(real.fs, clew, THREAD)
    words = (real.path, clew, THREAD)
    held = WriterLock.acquire(real, clew, THREAD, owner("me"))
    with running(CLEW_PROGRAM, *words, "killed", 1) as killed, running(CLEW_PROGRAM, *words, "stopped", 1) as stopped:
        for count, program in enumerate((killed, stopped), 1):
            assert program.hear() == "ready"
            program.go_on()
            until(lambda count=count: len(line.read()) == count)
        # Whoever is stopped while it passes the coordination lock stops everybody; that is not what is tried here.
        gate = real.fs.open_append(real.coordination_lock)
        until(gate.try_lock)
        os.kill(stopped.pid, signal.SIGSTOP)
        gate.close()
        killed.kill()
        assert [entry.program for entry in line.living()] == ["stopped"]
        held.release()

        async def wait() -> WriterLock:
            with anyio.fail_after(4):
                return await acquire_waiting(real, clew, THREAD, owner("me"), wait=None)

        held = anyio.run(wait)
        assert line.read() == []
        os.kill(stopped.pid, signal.SIGCONT)
        until(lambda: [entry.program for entry in line.read()] == ["stopped"])
        held.release()
        assert stopped.hear() == "in"
        stopped.go_on()
        assert stopped.process.wait(5) == 0
