from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from lock_processes import FOREIGN

from clew.errors import Owner, ThreadBusy
from clew.ids import uuid7_at
from clew.rollout import Home, RealFileSystem, WriterLock, acquire_waiting, lock_holder
from clew.testing.disk import MemoryFileSystem

THREAD = uuid7_at(1_782_907_200_000, b"lock" * 3)
ME = Owner("clew mcp", os.getpid(), socket.gethostname(), "2026-07-01T12:00:00.000Z")
CLEW = Path("/home/clew")


@pytest.fixture
def real(tmp_path: Path) -> Home:
    return Home(RealFileSystem(), tmp_path / "codex")


@pytest.fixture
def foreign(real: Home, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another program that follows the same protocol and holds the thread."""
    script = tmp_path / "other-agent"
    script.write_text(FOREIGN)
    with subprocess.Popen(
        [sys.executable, str(script), str(real.lock_folder), THREAD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def names(home: Home, folder: Path) -> list[str]:
    return sorted(entry.name for entry in home.fs.scan(folder))


def test_a_lock_leaves_nothing_but_the_coordination_file(home: Home) -> None:
    lock = WriterLock.acquire(home, CLEW, THREAD.upper(), ME)
    assert (names(home, home.lock_folder), names(home, CLEW / "owners")) == (
        [".coordination.lock", f"{THREAD}.lock"],
        [f"{THREAD}.json"],
    )
    assert lock.held
    lock.release()
    lock.release()
    assert not lock.held
    assert (names(home, home.lock_folder), names(home, CLEW / "owners")) == ([".coordination.lock"], [])


def test_a_second_one_is_told_who_holds_it(home: Home) -> None:
    lock = WriterLock.acquire(home, CLEW, THREAD, ME)
    with pytest.raises(ThreadBusy) as caught:
        WriterLock.acquire(home, CLEW, THREAD, Owner("clew exec"))
    assert caught.value.owner == ME
    assert lock_holder(home, CLEW, THREAD) == ME
    WriterLock.acquire(home, CLEW, uuid7_at(5, b"other" * 2), ME).release()
    lock.release()
    assert lock_holder(home, CLEW, THREAD) is None
    WriterLock.acquire(home, CLEW, THREAD, ME).release()


def test_a_record_without_a_lock_says_nothing(home: Home) -> None:
    lock = WriterLock.acquire(home, CLEW, THREAD, ME)
    home.fs.unlink(home.thread_lock(THREAD))
    assert lock_holder(home, CLEW, THREAD) is None
    lock.release()


def test_files_left_by_a_kill_do_not_hold_a_thread(home: Home) -> None:
    assert isinstance(home.fs, MemoryFileSystem)
    home.fs.write_bytes(home.thread_lock(THREAD), b"")
    home.fs.write_bytes(home.coordination_lock, b"")
    home.fs.write_bytes(CLEW / "owners" / f"{THREAD}.json", b'{"program":"clew","pid":1}')
    WriterLock.acquire(home, CLEW, THREAD, ME).release()


def test_a_lock_whose_file_was_removed_is_no_lock_any_more(home: Home) -> None:
    lock = WriterLock.acquire(home, CLEW, THREAD, ME)
    home.fs.unlink(home.thread_lock(THREAD))
    assert not lock.held
    second = WriterLock.acquire(home, CLEW, THREAD, ME)
    lock.release()
    assert second.held
    second.release()


@pytest.mark.parametrize("step", ["open", "replace", "write", "make_folder"])
def test_a_failure_on_the_way_leaves_the_thread_free(home: Home, step: str) -> None:
    assert isinstance(home.fs, MemoryFileSystem)
    for at in range(1, 4):
        home.fs.fail(step, at=at)
        with contextlib.suppress(OSError):
            WriterLock.acquire(home, CLEW, THREAD, ME).release()
        home.fs.heal()
        WriterLock.acquire(home, CLEW, THREAD, ME).release()
        assert names(home, home.lock_folder) == [".coordination.lock"]


def test_a_foreign_program_is_named_from_the_system(real: Home, foreign: subprocess.Popen[str], tmp_path: Path) -> None:
    with pytest.raises(ThreadBusy) as caught:
        WriterLock.acquire(real, tmp_path / "clew", THREAD, ME)
    assert caught.value.owner in (Owner("other-agent", foreign.pid, socket.gethostname()), None)
    if Path("/proc/locks").exists() and str(foreign.pid) in Path("/proc/locks").read_text():
        assert caught.value.owner is not None


def test_an_owner_record_that_cannot_be_true_is_not_believed(
    real: Home, foreign: subprocess.Popen[str], tmp_path: Path
) -> None:
    record = tmp_path / "clew" / "owners" / f"{THREAD}.json"
    record.parent.mkdir(parents=True)
    for text in ('{"program":"clew","pid":999999999}', "rubbish", '{"program":5}'):
        record.write_text(text)
        holder = lock_holder(real, tmp_path / "clew", THREAD)
        assert holder is None or holder.program == "other-agent"
    record.write_text('{"program":"clew","pid":7,"host":"elsewhere"}')
    assert lock_holder(real, tmp_path / "clew", THREAD) == Owner("clew", 7, "elsewhere")


def test_a_foreign_program_finds_our_lock(real: Home, tmp_path: Path) -> None:
    lock = WriterLock.acquire(real, tmp_path / "clew", THREAD, ME)
    assert (real.thread_lock(THREAD).stat().st_mode & 0o777, real.lock_folder.stat().st_mode & 0o777) == (
        0o600,
        0o700,
    )

    def ask() -> str:
        arguments = [sys.executable, "-c", FOREIGN, str(real.lock_folder), THREAD]
        return subprocess.run(arguments, input="", capture_output=True, text=True, check=True).stdout

    assert ask() == "busy\n"
    lock.release()
    assert ask() == "held\n"


def test_a_killed_holder_holds_nothing(real: Home, foreign: subprocess.Popen[str], tmp_path: Path) -> None:
    foreign.send_signal(signal.SIGKILL)
    foreign.wait(5)
    WriterLock.acquire(real, tmp_path / "clew", THREAD, ME).release()


@pytest.mark.anyio
async def test_waiting_ends_when_the_lock_is_free(home: Home) -> None:
    lock = WriterLock.acquire(home, CLEW, THREAD, ME)
    got: list[WriterLock] = []

    async def wait(seconds: float | None) -> None:
        got.append(await acquire_waiting(home, CLEW, THREAD, ME, wait=seconds, poll=0.01))

    with anyio.fail_after(5):
        for seconds in (None, 4.0):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait, seconds)
                await anyio.sleep(0.03)
                assert got == []
                await anyio.to_thread.run_sync(lock.release)
            lock = got.pop()
    lock.release()


@pytest.mark.anyio
async def test_waiting_ends_with_the_time(home: Home) -> None:
    lock = WriterLock.acquire(home, CLEW, THREAD, ME)
    with anyio.fail_after(5):
        for seconds in (0.0, 0.05):
            with pytest.raises(ThreadBusy):
                await acquire_waiting(home, CLEW, THREAD, ME, wait=seconds)
    lock.release()


@pytest.mark.anyio
async def test_nobody_waits_for_ever_for_a_foreign_program(
    real: Home, foreign: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clew.rollout.locks.NAMELESS_SECONDS", 0.05)
    assert foreign.poll() is None
    with anyio.fail_after(5), pytest.raises(ThreadBusy):
        await acquire_waiting(real, tmp_path / "clew", THREAD, ME, wait=None, poll=0.01)


@pytest.mark.anyio
async def test_a_cancelled_wait_leaves_the_thread_free(home: Home) -> None:
    with anyio.fail_after(5):
        for _ in range(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(hold_and_release, home)
                await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
    WriterLock.acquire(home, CLEW, THREAD, ME).release()


async def hold_and_release(home: Home) -> None:
    lock = await acquire_waiting(home, CLEW, THREAD, ME)
    try:
        await anyio.sleep_forever()
    finally:
        lock.release()
