"""`clew unlock` over a real home: real processes hold the locks."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clew.cli import main
from clew.errors import Owner
from clew.ids import uuid7_at
from clew.rollout import Home, OwnerRecord, RealFileSystem, WaitingLine, WriterLock
from clew.testing.builders import ThreadBuilder

THREAD = uuid7_at(1_782_907_200_000, b"lock" * 3)
HOST = socket.gethostname()

HOLDER = """
import fcntl, os, sys
folder, thread = sys.argv[1:]
os.makedirs(folder, exist_ok=True)
lock = os.open(f"{folder}/{thread}.lock", os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def home(homes: Path) -> Home:
    return Home(RealFileSystem(), homes.parent / "codex")


@pytest.fixture
def clew(homes: Path) -> Path:
    return homes.parent / "clew"


@pytest.fixture
def foreign(home: Home, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A program that is not clew and keeps the thread."""
    script = tmp_path / "other-agent"
    script.write_text(HOLDER)
    command = [sys.executable, str(script), str(home.lock_folder), THREAD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


Told = Callable[..., tuple[int, Any]]


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    """Exit code and what is told as JSON."""

    def run(*words: str) -> tuple[int, Any]:
        code = main(["unlock", "--json", *words])
        return code, json.loads(capsys.readouterr().out)

    return run


def test_a_lock_that_a_living_program_holds_stays_whatever_is_asked(
    home: Home, foreign: subprocess.Popen[str], told: Told, capsys: pytest.CaptureFixture[str]
) -> None:
    before = home.fs.stat(home.thread_lock(THREAD)).identity
    for words in ([THREAD], [THREAD, "--force"], ["--all"], ["--all", "--force"]):
        code, (answer,) = told(*words)
        assert (code, answer["outcome"], answer["removed"]) == (1, "held", [])
        if answer["owner"] is not None:  # the system tells who
            assert (answer["owner"]["program"], answer["owner"]["pid"]) == ("other-agent", foreign.pid)
            assert answer["hint"].endswith(f"Close it there, or end process {foreign.pid}")
    assert home.fs.stat(home.thread_lock(THREAD)).identity == before
    file = home.fs.open_append(home.thread_lock(THREAD))
    assert not file.try_lock(), "nobody else can take it"
    file.close()
    assert main(["unlock", THREAD, "--force"]) == 1
    out = capsys.readouterr().out
    assert out.startswith(f"{THREAD} is held by ")
    assert "cannot be asked. Close it there" in out


def test_what_a_killed_program_left_is_removed(
    home: Home, foreign: subprocess.Popen[str], clew: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign.kill()
    foreign.wait(5)
    record = clew / "owners" / f"{THREAD}.json"
    record.parent.mkdir()
    record.write_bytes(msgspec.json.encode(OwnerRecord("clew mcp", foreign.pid, HOST)))
    assert main(["unlock", THREAD]) == 0
    assert capsys.readouterr().out == (
        f"{THREAD} is free now: removed what clew mcp (pid {foreign.pid} on {HOST}) left (its process has ended)\n"
    )
    assert (home.thread_lock(THREAD).exists(), record.exists()) == (False, False)
    assert main(["unlock", THREAD]) == 0
    assert capsys.readouterr().out == f"{THREAD} is free\n"


def test_all_that_is_left_is_removed_and_told(home: Home, told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["unlock", "--all"]) == 0
    assert capsys.readouterr().out == "No thread is held.\n"
    home.lock_folder.mkdir()
    paths = [home.thread_lock(uuid7_at(number, b"left" * 3)) for number in range(3)]
    for path in paths:
        path.touch()
    code, answers = told("--all")
    assert (code, [answer["removed"] for answer in answers]) == (0, [[str(path)] for path in paths])
    assert [path.name for path in home.lock_folder.iterdir()] == [".coordination.lock"]


def test_a_living_clew_is_asked_and_lets_go_after_its_turn(
    home: Home, clew: Path, told: Told, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = WriterLock.acquire(home, clew, THREAD, Owner("clew mcp", os.getpid(), HOST, turn="T"))
    code, (answer,) = told(THREAD)
    assert (code, answer["outcome"], answer["owner"]["turn"]) == (1, "held", "T")
    assert answer["hint"] == f"It lets go after its turn. To be next: clew unlock {THREAD} --force"
    assert main(["unlock", THREAD, "--force", "--wait", "0.01"]) == 1
    out = capsys.readouterr().out
    assert out.startswith(f"{THREAD} is held by clew mcp (pid {os.getpid()} on {HOST}) since ")
    assert f"Wait longer with --wait, or end its program: kill {os.getpid()}\n" in out
    line = WaitingLine(home.fs, clew, THREAD)
    asked = threading.Event()

    def turn() -> None:
        while not line.read() and not asked.wait(0.001):
            pass
        lock.release()

    holder = threading.Thread(target=turn)
    holder.start()
    try:
        code, (answer,) = told(THREAD, "--force")
    finally:
        asked.set()
        holder.join()
    assert (code, answer["outcome"], answer["owner"]["program"]) == (0, "handed-over", "clew mcp")
    assert line.read() == []


def test_a_record_of_another_machine_is_left_alone_unless_forced(home: Home, clew: Path, told: Told) -> None:
    record = clew / "owners" / f"{THREAD}.json"
    record.parent.mkdir()
    record.write_bytes(msgspec.json.encode(OwnerRecord("clew mcp", 7, "elsewhere")))
    code, (answer,) = told(THREAD)
    assert (code, answer["outcome"], record.exists()) == (1, "elsewhere", True)
    code, (answer,) = told(THREAD, "--force")
    assert (code, answer["outcome"], record.exists()) == (0, "removed", False)


def test_threads_are_named_as_everywhere(home: Home, told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    builder = ThreadBuilder("0.169").turn("Hello?", "Hi.")
    builder.write(home)
    assert told("last", builder.id[:13]) == (0, [_free(builder.id)])
    code = main(["unlock", "nobody", "last"])
    printed = capsys.readouterr()
    assert (code, printed.out) == (1, f"{builder.id} is free\n")
    assert "no thread is called nobody" in printed.err
    for words in ([], ["last", "--all"], ["last", "--wait", "-1"]):
        assert main(["unlock", *words]) == 2
    capsys.readouterr()


def _free(thread_id: str) -> dict[str, Any]:
    return {
        "thread_id": thread_id,
        "outcome": "free",
        "owner": None,
        "why": "",
        "hint": "",
        "removed": [],
        "waiting": [],
    }


def test_a_list_says_who_writes(home: Home, clew: Path, capsys: pytest.CaptureFixture[str]) -> None:
    builder = ThreadBuilder("0.169").turn("Hello?", "Hi.")
    builder.write(home)
    owner = Owner("clew mcp", os.getpid(), HOST, "2026-07-01T12:00:00.000Z")
    lock = WriterLock.acquire(home, clew, builder.id, owner)
    for expected in (str(owner), None):
        assert main(["list", "--json"]) == 0
        (row,) = json.loads(capsys.readouterr().out)["threads"]
        assert row.get("held_by") == expected
        lock.release()
