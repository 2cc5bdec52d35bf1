from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from clew.clock import SystemClock
from clew.errors import DiskFull, LogReplaced, SyncFailed
from clew.rollout import FailPoints, GroupCommitter, Line, LogWriter, RealFileSystem
from clew.testing.disk import MemoryFileSystem

META = Line("session_meta", {"id": "x"})


@pytest.fixture
def committer() -> Iterator[GroupCommitter]:
    made = GroupCommitter()
    yield made
    made.close()


def path(name: str) -> Path:
    return Path("/logs") / name


def line(number: int) -> Line:
    return Line("event_msg", number)


def payloads(fs: MemoryFileSystem, name: str) -> list[bytes]:
    return [row.rpartition(b":")[2] for row in fs.read_bytes(path(name)).splitlines()[1:]]


def gate(fail: FailPoints) -> tuple[threading.Event, threading.Event]:
    """Makes the next sync wait: the first event tells that it was reached, the second lets it go on."""
    reached, go = threading.Event(), threading.Event()

    def wait() -> None:
        reached.set()
        assert go.wait(5)

    fail.on("before_sync", wait)
    return reached, go


def test_everything_that_waits_goes_in_one_write_and_one_sync(committer: GroupCommitter) -> None:
    fs, fail = MemoryFileSystem(), FailPoints()
    log = LogWriter(fs, path("a"), SystemClock(), fail)
    reached, go = gate(fail)
    first = committer.submit(log, [META])
    assert reached.wait(5)
    fail.off("before_sync")
    waiting = [committer.submit(log, [line(number)], durable=number % 2 == 0) for number in range(20)]
    go.set()
    sizes = {future.result(5) for future in waiting}
    assert sizes == {len(fs.read_bytes(path("a")))}
    assert first.result(5) < max(sizes)
    assert (fs.calls["write"], fs.calls["sync"]) == (2, 2)
    assert payloads(fs, "a") == [b"%d}" % number for number in range(20)]


def test_durable_answers_come_after_the_sync(committer: GroupCommitter) -> None:
    fs, fail = MemoryFileSystem(), FailPoints()
    log = LogWriter(fs, path("a"), SystemClock(), fail)
    committer.submit(log, [META]).result(5)
    reached, go = gate(fail)
    future = committer.submit(log, [line(1)])
    assert reached.wait(5)
    assert not future.done()
    go.set()
    future.result(5)
    fs.crash()
    assert payloads(fs, "a") == [b"1}"]


def test_a_failure_reaches_everyone_who_waited_and_only_them(committer: GroupCommitter) -> None:
    fs, fail = MemoryFileSystem(), FailPoints()
    log, other = LogWriter(fs, path("a"), SystemClock(), fail), LogWriter(fs, path("b"), SystemClock())
    reached, go = gate(fail)
    first = committer.submit(log, [META])
    assert reached.wait(5)
    fail.off("before_sync")
    fs.fail("sync", at=2, times=2)  # the one that waits at the gate is the first
    waiting = [committer.submit(log, [line(number)]) for number in range(3)]
    fine = committer.submit(other, [META])
    go.set()
    assert first.result(5) > 0
    assert [type(future.exception(5)) for future in waiting] == [SyncFailed] * 3
    assert fine.result(5) > 0
    assert committer.submit(log, [line(3)]).result(5) == len(fs.read_bytes(path("a")))
    fs.crash()
    assert payloads(fs, "a") == [b"%d}" % number for number in range(4)]


def test_lines_kept_by_a_full_disk_go_out_first_the_next_time(committer: GroupCommitter) -> None:
    fs = MemoryFileSystem()
    log = LogWriter(fs, path("a"), SystemClock())
    committer.submit(log, [META]).result(5)
    fs.free = 0
    with pytest.raises(DiskFull):
        committer.submit(log, [line(1)]).result(5)
    fs.free = None
    committer.submit(log, [line(2)]).result(5)
    assert payloads(fs, "a") == [b"1}", b"2}"]


def test_one_callers_mistake_is_not_the_others(committer: GroupCommitter) -> None:
    fs, fail = MemoryFileSystem(), FailPoints()
    log = LogWriter(fs, path("a"), SystemClock(), fail)
    reached, go = gate(fail)
    committer.submit(log, [META])
    assert reached.wait(5)
    futures = [
        committer.submit(log, [line(1)]),
        committer.submit(log, [Line("x", object())]),
        committer.submit(log, [line(2)]),
    ]
    go.set()
    assert isinstance(futures[1].exception(5), TypeError)
    assert futures[0].result(5) == futures[2].result(5)
    assert payloads(fs, "a") == [b"1}", b"2}"]


def test_closing_comes_behind_what_was_handed_in(committer: GroupCommitter) -> None:
    fs = MemoryFileSystem()
    log = LogWriter(fs, path("a"), SystemClock())
    committer.submit(log, [META, line(1)], durable=False)
    size = committer.submit_close(log).result(5)
    fs.crash()
    assert len(fs.read_bytes(path("a"))) == size
    assert committer.submit(log, [line(2)]).result(5) > size


def test_closing_a_log_that_was_replaced_tells_of_the_lines_that_are_left(committer: GroupCommitter) -> None:
    fs = MemoryFileSystem()
    log = LogWriter(fs, path("a"), SystemClock())
    committer.submit(log, [META]).result(5)
    fs.unlink(path("a"))
    with pytest.raises(LogReplaced):
        committer.submit(log, [line(1)]).result(5)
    with pytest.raises(LogReplaced):
        committer.submit_close(log).result(5)
    assert log.pending == (line(1),)


def test_a_closed_committer_has_finished_its_work_and_takes_no_more() -> None:
    committer, fs = GroupCommitter(), MemoryFileSystem()
    logs = [LogWriter(fs, path(str(number)), SystemClock()) for number in range(20)]
    futures = [committer.submit(log, [META]) for log in logs]
    committer.close()
    committer.close()
    assert all(future.done() for future in futures)
    with pytest.raises(RuntimeError, match="closed"):
        committer.submit(logs[0], [META])


@pytest.mark.anyio
async def test_async_callers_wait_without_holding_the_loop(committer: GroupCommitter) -> None:
    fs, fail = MemoryFileSystem(), FailPoints()
    log = LogWriter(fs, path("a"), SystemClock(), fail)
    reached, go = gate(fail)
    answered: list[int] = []

    async def append(number: int) -> None:
        await committer.append(log, [META if number == 0 else line(number)])
        answered.append(number)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(append, 0)
            while not reached.is_set():
                await anyio.lowlevel.checkpoint()
            for number in range(1, 10):
                tasks.start_soon(append, number)
            await anyio.lowlevel.checkpoint()
            assert answered == []
            fail.off("before_sync")
            go.set()
        assert sorted(answered) == list(range(10))
        await committer.close_writer(log)


@pytest.mark.anyio
async def test_cancelling_stops_the_waiting_and_not_the_writing(committer: GroupCommitter) -> None:
    fs, fail = MemoryFileSystem(), FailPoints()
    log = LogWriter(fs, path("a"), SystemClock(), fail)
    reached, go = gate(fail)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(committer.append, log, [META, line(1)])
            while not reached.is_set():
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        go.set()
        await committer.close_writer(log)
    assert payloads(fs, "a") == [b"1}"]


@pytest.mark.anyio
async def test_errors_reach_async_callers(committer: GroupCommitter) -> None:
    fs = MemoryFileSystem()
    fs.free = 0
    with pytest.raises(DiskFull):
        await committer.append(LogWriter(fs, path("a"), SystemClock()), [META])


@pytest.mark.anyio
async def test_many_logs_on_a_real_disk(committer: GroupCommitter, tmp_path: Path) -> None:
    fs = RealFileSystem()
    logs = [LogWriter(fs, tmp_path / "deep" / f"{number}", SystemClock()) for number in range(5)]
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for log in logs:
                for number in range(20):
                    tasks.start_soon(committer.append, log, [line(number)])
        for log in logs:
            await committer.close_writer(log)
    for log in logs:
        assert len(log.path.read_bytes().splitlines()) == 20
