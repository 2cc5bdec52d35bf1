"""Who is recorded as a holder, and when that cannot be true any more."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from lock_processes import until

from clew.errors import Owner, ThreadBusy
from clew.ids import uuid7_at
from clew.rollout import Home, OwnerRecord, Standing, WriterLock, lock_holder, owners, read_record
from clew.testing.disk import MemoryFileSystem

THREAD = uuid7_at(1_782_907_200_000, b"own " * 3)
CLEW = Path("/home/clew")
HOST = socket.gethostname()
ME = Owner("clew mcp", os.getpid(), HOST, turn="turn-7")


def put(home: Home, record: OwnerRecord) -> None:
    assert isinstance(home.fs, MemoryFileSystem)
    home.fs.write_bytes(home.thread_lock(THREAD), b"")
    home.fs.write_bytes(CLEW / "owners" / f"{THREAD}.json", msgspec.json.encode(record))


def mine(home: Home) -> OwnerRecord:
    lock = WriterLock.acquire(home, CLEW, THREAD, ME)
    record = read_record(home.fs, CLEW, THREAD)
    lock.release()
    assert record is not None
    return record


def test_the_record_says_who_since_when_at_what_and_where_to_ask(home: Home) -> None:
    record = mine(home)
    assert (record.program, record.pid, record.host, record.turn) == ("clew mcp", os.getpid(), HOST, "turn-7")
    assert record.since is not None
    assert record.endpoint == str(CLEW / "owners" / f"{THREAD}.wanted")
    assert record.standing() == Standing("alive")
    if sys.platform == "linux":
        assert record.boot
        assert record.started


def test_another_process_is_not_described_by_what_this_one_knows_of_itself(home: Home) -> None:
    for owner in (Owner("clew", 1), Owner("clew", os.getpid(), "elsewhere"), Owner("clew")):
        WriterLock.acquire(home, CLEW, THREAD, owner).release()
        assert owners.identity_of(owner) == (None, None)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_number_that_another_process_got_is_recognised(home: Home) -> None:
    record = msgspec.structs.replace(mine(home), started="1")
    assert record.standing() == Standing("gone", f"the number {os.getpid()} belongs to another process now")
    put(home, record)
    assert lock_holder(home, CLEW, THREAD) is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_another_start_of_the_machine_is_recognised(home: Home) -> None:
    record = msgspec.structs.replace(mine(home), boot="00000000-0000-4000-8000-000000000000")
    assert record.standing() == Standing("gone", "the machine was started anew since")
    put(home, record)
    assert lock_holder(home, CLEW, THREAD) is None


def test_a_process_that_ended_is_recognised_also_before_its_parent_looks(home: Home) -> None:
    with subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.DEVNULL) as child:
        record = OwnerRecord("clew exec", child.pid, HOST, started="1")
        if sys.platform == "linux":  # it stays as a zombie until it is waited for
            until(lambda: record.standing() == Standing("gone", "its process has ended"))
    assert record.standing() == Standing("gone", "its process has ended")
    put(home, record)
    assert lock_holder(home, CLEW, THREAD) is None


def test_of_another_machine_nothing_is_guessed(home: Home) -> None:
    record = OwnerRecord("clew mcp", os.getpid(), "elsewhere", boot="x", started="1")
    assert record.standing() == Standing(
        "elsewhere", "it is a process of elsewhere, of which nothing can be known here"
    )
    put(home, record)
    assert lock_holder(home, CLEW, THREAD) == Owner("clew mcp", os.getpid(), "elsewhere")
    assert str(lock_holder(home, CLEW, THREAD)) == f"clew mcp (pid {os.getpid()} on elsewhere)"


def test_a_record_without_a_number_is_taken_as_it_is(home: Home) -> None:
    put(home, OwnerRecord("clew"))
    assert lock_holder(home, CLEW, THREAD) == Owner("clew")


def test_ps_tells_when_a_process_began() -> None:
    told = owners._process_by_ps(os.getpid())  # pyright: ignore[reportPrivateUsage] - what other systems have
    assert told[0]
    assert told == owners._process_by_ps(os.getpid())  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(
    ("owner", "message", "hint"),
    [
        (
            Owner("clew mcp", 7, "tower", "2026-07-01T12:00:00.000Z", "T", 200.0, "/x.wanted"),
            "clew mcp (pid 7 on tower) since 2026-07-01T12:00:00.000Z, at work on turn T for 3 min",
            "Wait until its turn ends, or close it there; `clew unlock ID --force` asks for it.",
        ),
        (
            Owner("codex", 7, "tower"),
            "codex (pid 7 on tower)",
            "Close the thread there, or wait; `clew unlock ID` removes what a killed program left.",
        ),
        (None, "another program", "Wait for it to finish, or close it there; `clew unlock ID` tells more."),
    ],
)
def test_busy_says_who_and_what_to_do(owner: Owner | None, message: str, hint: str) -> None:
    busy = ThreadBusy("ID", owner)
    assert (busy.message, busy.hint) == (f"thread ID is being written by {message}", hint)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (7500, "2 h 5 min")]
)
def test_how_long_is_said_as_people_say_it(seconds: float, text: str) -> None:
    assert str(Owner("clew", turn="T", seconds=seconds)) == f"clew, at work on turn T for {text}"
