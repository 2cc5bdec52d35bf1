"""Gaps that were open once: each of these lost something, or showed something that should not be there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack, closing, suppress
from pathlib import Path

import anyio
import crash_strangers as strangers
import pytest
import zstandard
from crash_story import Trouble
from crash_world import World

from clew.clock import SystemClock
from clew.errors import LogReplaced, Owner, SyncFailed
from clew.rollout import FailPoints, Home, Line, LogWriter, MemorySource, Record, scan_forward
from clew.rollout.durable import KnownDurable
from clew.store import LocalStore
from clew.store.contracts import ListQuery
from clew.testing import MemoryFileSystem, ProgramKilled, memory_home, memory_store
from clew.testing.store_bench import fails, meta, new_id, said

ME = Owner("gaps")
DAY = Path("/home/sessions/2026/07/01")
PATH = DAY / "rollout-2026-07-01T12-00-00-019f1d8c-e200-7000-8000-000000000001.jsonl"
HEAD = Line("session_meta", {"id": "x", "history_mode": "paginated"})
NEVER = 999_999_999  # above every process id


def _line(number: int) -> Line:
    return Line("event_msg", {"n": number})


def _count(fs: MemoryFileSystem) -> int:
    return sum(isinstance(line, Record) for line in scan_forward(MemorySource(fs.read_bytes(PATH))))


def _names(fs: MemoryFileSystem, folder: Path = DAY) -> list[str]:
    return sorted(entry.name for entry in fs.scan(folder))


def _writer(fs: MemoryFileSystem, *, known: KnownDurable | None = None, fail: FailPoints | None = None) -> LogWriter:
    return LogWriter(fs, PATH, SystemClock(), fail, known=known)


# -- a new log appears whole or not at all ----------------------------------------------------------------------------


@pytest.mark.parametrize("power", [False, True])
def test_a_log_whose_maker_dies_at_any_call_is_whole_or_not_there(power: bool) -> None:
    seen: set[bool] = set()
    for step in range(1, 60):
        fs = MemoryFileSystem()
        program = fs.program()
        program.kill_at(step, written=30)
        log = _writer(program)
        try:
            log.append([HEAD, _line(1), _line(2)])
            log.close()
        except ProgramKilled:
            pass
        if power:
            fs.crash(step)
        home = Home(fs, Path("/home"))
        found = list(home.files())
        assert len(found) in (0, 1)
        assert not found or _count(fs) == 3
        seen.add(bool(found))
        if program.alive and not power:
            break
    assert seen == {False, True}


def test_a_refused_first_write_leaves_nothing_and_the_next_try_makes_it_whole() -> None:
    fs = MemoryFileSystem()
    for operation in ("write", "sync", "rename"):
        fs.fail(operation)
        log = _writer(fs)
        with pytest.raises(SyncFailed):
            log.append([HEAD, _line(1)])
        assert _names(fs) == []
        log.append([_line(2)])
        log.close()
        assert (_names(fs), _count(fs)) == ([PATH.name], 3)
        fs.unlink(PATH)


def test_a_name_that_was_given_although_the_disk_said_no_is_not_given_twice() -> None:
    fs = MemoryFileSystem()
    log = _writer(fs)
    fs.fail("unlink")  # the second half of the rename
    log.append([HEAD, _line(1)])
    log.append([_line(2)])
    log.close()
    assert _count(fs) == 3
    fs.unlink(PATH)
    fail = FailPoints.parse("after_rename=raise")
    log = _writer(fs, fail=fail)
    with pytest.raises(SyncFailed):
        log.append([HEAD, _line(1)])
    fail.off("after_rename")
    log.append([_line(2)])
    log.close()
    assert _count(fs) == 3


def test_a_new_log_never_takes_the_place_of_another() -> None:
    fs = MemoryFileSystem()
    fail = FailPoints()
    fail.on("before_link", lambda: fs.write_bytes(PATH, b"foreign\n"))
    with pytest.raises(LogReplaced):
        _writer(fs, fail=fail).append([HEAD])
    assert (_names(fs), fs.read_bytes(PATH)) == ([PATH.name], b"foreign\n")


def test_old_leftovers_of_new_logs_are_removed_by_a_later_one_and_nothing_else_is() -> None:
    fs = MemoryFileSystem()
    now = SystemClock().now()
    old = {f"{PATH.name}.create.{NEVER}.0.tmp": DAY, f"{PATH.name}.create.7.1.tmp": DAY.parent / "01"}
    old[f"{PATH.name}.create.5.0.tmp"] = DAY.parents[1] / "06" / "30"
    kept = {
        f"{PATH.name}.decompress.{NEVER}.0.tmp",
        "rollout-compress-7-1.tmp",
        "notes.tmp",
        f"{PATH.name}.create.{NEVER}.5.tmp",  # young
    }
    for name, folder in [*old.items(), *((name, DAY) for name in kept)]:
        fs.write_bytes(folder / name, b"")
        young = name.endswith(".5.tmp")
        fs.set_mtime(folder / name, int((now - (60 if young else 4000)) * 1e9))
    log = _writer(fs)
    log.append([HEAD])
    log.close()
    assert set(_names(fs)) == kept | {PATH.name}
    assert _names(fs, DAY.parents[1] / "06" / "30") == []


@pytest.mark.anyio
async def test_what_a_killed_maker_left_is_no_thread() -> None:
    fs = MemoryFileSystem()
    fail = FailPoints()
    program = fs.program()
    fail.on("before_link", program.kill)
    thread_id = new_id()
    doomed = memory_store(program, fail=fail)
    with fails(ProgramKilled):
        async with doomed.lease(thread_id, ME, create=True) as lease:
            await lease.append([meta(thread_id), said("first")])
    doomed.close()
    with closing(memory_store(fs)) as store:
        assert store.catalog.list(ListQuery(archived=None)).threads == ()
        async with store.lease(thread_id, ME, create=True) as lease:
            assert not lease.existed
            await lease.append([meta(thread_id), said("first")])
        assert [thread.error for thread in store.catalog.list(ListQuery()).threads] == [None]


# -- names that nobody synced -----------------------------------------------------------------------------------------


def _killed_maker(fs: MemoryFileSystem) -> None:
    """The log is there with all folders, and nothing but its content was synced."""
    program = fs.program()
    fail = FailPoints()
    fail.on("before_folder_sync", program.kill)
    log = _writer(program, fail=fail)
    log.append([HEAD, _line(1)])
    with pytest.raises(ProgramKilled):
        log.sync()


def test_a_continued_log_gets_its_name_made_durable_with_the_first_acknowledgement() -> None:
    fs = MemoryFileSystem()
    fs.make_folder(DAY)
    _killed_maker(fs)
    log = _writer(fs)
    log.append([_line(2)])
    log.sync()
    fs.crash()
    assert _count(fs) == 3


def test_folders_whose_maker_was_killed_are_made_durable_too() -> None:
    for step in range(1, 12):
        fs = MemoryFileSystem()
        program = fs.program()
        program.kill_at(step)
        with suppress(ProgramKilled):
            program.make_folder(DAY)
        if Path("/home") not in [Path("/") / entry.name for entry in fs.scan(Path("/"))]:
            continue
        fs.sync_folder(Path("/"))  # the home itself is not ours to sync
        log = LogWriter(fs, PATH, _At(fs))
        log.append([HEAD, _line(1)])
        log.sync()
        fs.crash()
        assert _count(fs) == 2
        if program.alive:
            break


class _At:
    """The time of the disk."""

    def __init__(self, fs: MemoryFileSystem) -> None:
        self._fs = fs

    def now(self) -> float:
        return self._fs.stat(Path("/")).mtime_ns / 1e9

    def monotonic(self) -> float:
        return 0.0


def test_a_folder_that_did_not_change_is_synced_once_by_a_process() -> None:
    fs = MemoryFileSystem()
    _writer(fs).append([HEAD])
    known = KnownDurable()
    fs.calls.clear()
    for number in range(5):
        log = _writer(fs, known=known)
        log.append([_line(number)])
        log.close()
    assert (fs.calls["sync_folder"], fs.calls["sync"]) == (1, 5)


# -- what others left unsynced ----------------------------------------------------------------------------------------


def test_a_first_sync_that_fails_is_told_because_others_may_have_lost_something() -> None:
    fs = MemoryFileSystem()
    _killed_maker(fs)
    other = fs.program()
    _writer(other).append([_line(2)])
    other.kill()
    log = _writer(fs)
    log.append([_line(3)])
    fs.fail("sync", dropped=True)
    with pytest.raises(SyncFailed):
        log.sync()
    log.sync()
    fs.crash()
    assert fs.read_bytes(PATH).endswith(b'"payload":{"n":3}}\n')


def test_what_a_failed_sync_left_in_doubt_is_written_again_by_the_next_writer_of_the_process() -> None:
    fs = MemoryFileSystem()
    known = KnownDurable()
    first = _writer(fs, known=known)
    first.append([HEAD, _line(1)])
    first.sync()
    first.append([_line(2)])
    fs.fail("sync", times=10, dropped=True)
    with pytest.raises(SyncFailed):
        first.close()
    fs.heal()
    second = _writer(fs, known=known)
    second.append([_line(3)])
    second.close()
    fs.crash()
    assert _count(fs) == 4


def test_what_a_failed_sync_left_in_doubt_is_written_again_before_a_fork_refers_to_it() -> None:
    fs = MemoryFileSystem()
    known = KnownDurable()
    first = _writer(fs, known=known)
    first.append([HEAD, _line(1)])
    first.sync()
    first.append([_line(2)])
    whole = fs.read_bytes(PATH)
    fs.fail("sync", times=10, dropped=True)
    with pytest.raises(SyncFailed):
        first.close()
    fs.heal()
    known.sync_whole(fs, PATH, SystemClock().now())
    fs.crash()
    assert fs.read_bytes(PATH) == whole


def test_a_fork_keeps_what_it_refers_to() -> None:
    world = World()
    try:
        world.begin(world.programs[0], paginated=True, count=1, durable=True, trouble=Trouble())
        (thread,) = world.threads.values()
        world.append(world.programs[0], thread, 3, durable=False, trouble=Trouble())
        world.fork(world.programs[1], thread, Trouble())
        world.lose_power(None)
        assert [len(each.lines) for each in world.threads.values()] == [4, 4]
    finally:
        world.close()


def test_a_fork_after_a_failed_one_does_not_trust_the_next_sync() -> None:
    world = World()
    try:
        world.begin(world.programs[0], paginated=True, count=1, durable=True, trouble=Trouble())
        (thread,) = world.threads.values()
        world.end(world.programs[0], thread, Trouble())
        strangers.append(world, thread, torn=False)
        world.fork(world.programs[1], thread, Trouble("fault", operation="sync"))
        world.fork(world.programs[1], thread, Trouble())
        world.lose_power(None)
        world.inspect()
        assert [len(each.lines) for each in world.threads.values()] == [2, 2]
    finally:
        world.close()


def test_a_thread_is_found_and_moved_although_what_was_noted_of_threads_cannot_be_read() -> None:
    world = World()
    try:
        world.begin(world.programs[0], paginated=True, count=1, durable=True, trouble=Trouble())
        (thread,) = world.threads.values()
        world.end(world.programs[0], thread, Trouble())
        for at in range(1, 30):
            world.replace(world.programs[0])  # the next one has not read the notes yet
            world.put_away(
                world.programs[0], thread, Trouble("fault", operation="open", at=at, error=30), away=at % 2 > 0
            )
    finally:
        world.close()


# -- leftovers of unpacking -------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_what_dead_processes_left_of_unpacking_is_removed_by_the_next() -> None:
    fs = MemoryFileSystem()
    with closing(memory_store(fs)) as store:
        paths = [await _packed(store, fs, number) for number in range(3)]
        here = paths[0].parent
        gone = {f"{paths[0].name}.decompress.{NEVER}.0.tmp", f"{paths[1].name}.decompress.{NEVER}.0.tmp"}
        fs.write_bytes(paths[1], b"{}\n")  # it was unpacked; the leftover is of no use
        kept = {f"{paths[2].name}.decompress.{NEVER}.0.tmp", f"{paths[1].name}.decompress.1.0.tmp", "notes.tmp"}
        for name in gone | kept:
            fs.write_bytes(here / name, b"rest")
        thread = store.catalog.list(ListQuery(sort="created", ascending=True)).threads[0]
        async with store.lease(thread.id, ME) as lease:
            await lease.append([said("next")])
    left = {entry.name for entry in fs.scan(here) if entry.name.endswith(".tmp")}
    assert left == kept


async def _packed(store: LocalStore, fs: MemoryFileSystem, number: int) -> Path:
    thread_id = f"019f1d8c-e200-7000-8000-00000000000{number}"
    async with store.lease(thread_id, ME, create=True) as lease:
        await lease.append([meta(thread_id), said("first")])
    path = Path(store.catalog.get(thread_id).path)
    fs.write_bytes(path.with_name(f"{path.name}.zst"), zstandard.compress(fs.read_bytes(path)))
    fs.unlink(path)
    return path


# -- moves and names --------------------------------------------------------------------------------------------------


def _moves(act: str) -> Sequence[str]:
    """The states in which power losses at every step of a move leave a thread."""
    states: list[str] = []
    for seed in range(150):
        world = World()
        try:
            world.begin(world.programs[0], paginated=True, count=1, durable=True, trouble=Trouble())
            (thread,) = world.threads.values()
            world.end(world.programs[0], thread, Trouble())
            if act == "unarchive":
                world.put_away(world.programs[1], thread, Trouble(), away=True)
            trouble = Trouble("power", at=1 + seed % 60, seed=seed)
            world.put_away(world.programs[1], thread, trouble, away=act == "archive")
            states.append(str(thread.archived))
        finally:
            world.close()
    return states


@pytest.mark.parametrize("act", ["archive", "unarchive"])
def test_a_move_that_power_loss_cuts_off_leaves_the_thread_in_one_of_its_places(act: str) -> None:
    assert set(_moves(act)) == {"{True}", "{False}"}


def test_a_name_survives_although_whoever_made_the_file_of_names_was_killed() -> None:
    fs = MemoryFileSystem()
    home = memory_home(fs)

    async def main() -> None:
        async with AsyncExitStack() as stack:
            store = memory_store(fs)
            stack.callback(store.close)
            thread_id = new_id()
            async with store.lease(thread_id, ME, create=True) as lease:
                await lease.append([meta(thread_id), said("first")])
            file = fs.open_append(home.session_index)
            file.write(b"\n")
            file.close()
            store.catalog.rename(thread_id, "alpha")
            fs.crash()
            assert store.catalog.get(thread_id).name == "alpha"

    anyio.run(main)
