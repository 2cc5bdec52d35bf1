"""Who holds which threads, what is left behind, and what is never touched."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import msgspec
import pytest

from clew.errors import Owner, ThreadBusy
from clew.ids import uuid7_at
from clew.rollout import Home, OwnerRecord, Waiting, WaitingLine, WriterLock
from clew.store.holds import Hold, Holds
from clew.testing.disk import MemoryFileSystem

ONE, TWO, THREE = (uuid7_at(1_782_907_200_000 + number, b"hold" * 3) for number in range(3))
CODEX, CLEW = Path("/home/codex"), Path("/home/clew")
HOST = socket.gethostname()
ME = Owner("clew mcp", os.getpid(), HOST, "2026-07-01T12:00:00.000Z", "T")
GONE = OwnerRecord("clew exec", 999_999_999, HOST)


@pytest.fixture
def fs() -> MemoryFileSystem:
    return MemoryFileSystem()


@pytest.fixture
def home(fs: MemoryFileSystem) -> Home:
    return Home(fs, CODEX)


@pytest.fixture
def holds(fs: MemoryFileSystem) -> Holds:
    return Holds(fs, CODEX, CLEW)


def record(fs: MemoryFileSystem, thread_id: str, content: OwnerRecord) -> Path:
    path = CLEW / "owners" / f"{thread_id}.json"
    fs.write_bytes(path, msgspec.json.encode(content))
    return path


def test_a_home_without_locks_holds_nothing(holds: Holds, fs: MemoryFileSystem) -> None:
    assert (holds.all(), holds.holders(), holds.of(ONE)) == ([], {}, Hold(thread_id=ONE, state="free"))
    assert holds.clear(ONE) == []
    with pytest.raises(ValueError):
        holds.of("no id")


def test_a_held_thread_is_told_with_those_that_wait(holds: Holds, home: Home) -> None:
    lock = WriterLock.acquire(home, CLEW, ONE, ME)
    WaitingLine(home.fs, CLEW, ONE).write([Waiting("clew exec", None, HOST, ticket="1")])
    expected = Hold(thread_id=ONE, state="held", owner=ME, waiting=(Owner("clew exec", None, HOST),))
    assert (holds.all(), holds.holders()) == ([expected], {ONE: ME})
    assert holds.of(ONE.upper()) == expected
    assert expected.owner is not None
    assert holds.of(ONE).can_ask
    with pytest.raises(ThreadBusy) as busy:
        holds.clear(ONE)
    assert busy.value.owner == ME
    assert lock.held
    lock.release()


def test_a_program_without_a_record_cannot_be_asked(holds: Holds, home: Home, fs: MemoryFileSystem) -> None:
    fs.make_folder(home.lock_folder)
    file = fs.open_append(home.thread_lock(ONE))
    assert file.try_lock()
    assert holds.of(ONE) == Hold(thread_id=ONE, state="held")
    assert not holds.of(ONE).can_ask
    stale = record(fs, ONE, GONE)
    with pytest.raises(ThreadBusy):
        holds.clear(ONE)
    assert fs.stat(stale)
    assert fs.stat(home.thread_lock(ONE)).identity == file.identity()


def test_what_a_killed_program_left_is_found_and_removed(holds: Holds, home: Home, fs: MemoryFileSystem) -> None:
    fs.write_bytes(home.thread_lock(ONE), b"")
    left = [record(fs, ONE, GONE), CLEW / "owners" / f"{ONE}.json.77.tmp"]
    fs.write_bytes(left[1], b"{")
    fs.write_bytes(home.thread_lock(TWO), b"")
    line = WaitingLine(fs, CLEW, THREE)
    line.write([Waiting("clew exec", 999_999_999, HOST, ticket="1")])
    other = CLEW / "owners" / f"{TWO}.json.78.tmp"
    owner = Owner("clew exec", 999_999_999, HOST)
    assert holds.all() == [
        Hold(thread_id=ONE, state="left", owner=owner, why="its process has ended"),
        Hold(thread_id=TWO, state="left", why="nobody holds its lock file"),
        Hold(thread_id=THREE, state="left", why="those who waited for it have ended"),
    ]
    assert holds.holders() == {}
    fs.write_bytes(other, b"{")
    assert holds.clear(ONE) == [*left, home.thread_lock(ONE)]
    assert fs.stat(other)
    assert holds.clear(TWO) == [other, home.thread_lock(TWO)]
    assert holds.clear(THREE) == [line.path]
    assert holds.all() == []
    assert holds.clear(ONE) == []


def test_those_who_wait_keep_their_places_when_the_rest_is_removed(
    holds: Holds, home: Home, fs: MemoryFileSystem
) -> None:
    fs.write_bytes(home.thread_lock(ONE), b"")
    line = WaitingLine(fs, CLEW, ONE)
    living = Waiting("clew exec", os.getpid(), HOST, ticket="2")
    line.write([Waiting("gone", 999_999_999, HOST, ticket="1"), living])
    assert holds.clear(ONE) == [line.path, home.thread_lock(ONE)]
    assert line.read() == [living]
    assert holds.clear(ONE) == []


def test_of_another_machine_nothing_is_guessed(holds: Holds, fs: MemoryFileSystem) -> None:
    record(fs, ONE, OwnerRecord("clew mcp", os.getpid(), "elsewhere"))
    (hold,) = holds.all()
    assert (hold.state, hold.owner, hold.why) == (
        "elsewhere",
        Owner("clew mcp", os.getpid(), "elsewhere"),
        "it is a process of elsewhere, of which nothing can be known here",
    )


@pytest.mark.anyio
async def test_a_holder_that_is_asked_lets_go_before_its_next_turn(holds: Holds, home: Home) -> None:
    lock = WriterLock.acquire(home, CLEW, ONE, ME)
    with pytest.raises(ThreadBusy) as busy:
        await holds.ask(ONE, Owner("clew unlock"), wait=0.01)
    assert busy.value.owner == ME
    line = WaitingLine(home.fs, CLEW, ONE)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: holds.ask(ONE, Owner("clew unlock"), wait=5))
            while not line.read():
                await anyio.lowlevel.checkpoint()
            await anyio.to_thread.run_sync(lock.release)
    assert holds.of(ONE).state == "free"
