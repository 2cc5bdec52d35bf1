"""What is told of a home between two looks, whoever changed it."""

from __future__ import annotations

from pathlib import Path

import pytest

from clew.clock import SystemClock
from clew.errors import Owner
from clew.rollout import NameIndex
from clew.store.changes import HomeChanges, ThreadAppeared, ThreadGone, ThreadGrew, ThreadMoved, ThreadRenamed
from clew.testing import MemoryFileSystem, ThreadBuilder, memory_home, memory_store

CLOCK = SystemClock()


class Bench:
    def __init__(self) -> None:
        self.fs = MemoryFileSystem()
        self.home = memory_home(self.fs)
        self.changes = HomeChanges(self.fs, self.home.path)

    def path(self, thread: ThreadBuilder) -> Path:
        files = self.home.find(thread.id)
        assert files is not None
        return files.current.path

    def append(self, path: Path, data: bytes) -> None:
        file = self.fs.open_append(path)
        file.write(data)
        file.close()


@pytest.fixture
def bench() -> Bench:
    return Bench()


def event(kind: str, turn: str) -> bytes:
    return b'{"timestamp":"2026-07-02T12:00:00.000Z","type":"event_msg","payload":{"type":"%s","turn_id":"%s"}}\n' % (
        kind.encode(),
        turn.encode(),
    )


@pytest.mark.parametrize("all_of_them", [True, False])
def test_the_life_of_a_thread_is_told(all_of_them: bool, bench: Bench) -> None:
    known = ThreadBuilder("0.169", seed=1).turn("First?", "One.")
    known.write(bench.home)
    bench.changes.begin()
    thread = ThreadBuilder("0.169", seed=2)

    def look() -> list[object]:
        return [*bench.changes.look(None if all_of_them else [name])]

    name = ThreadBuilder("0.169", seed=2).turn("First?", "One.").write(bench.home).name
    appeared, grew = look()
    assert appeared == ThreadAppeared(thread.id)
    assert isinstance(grew, ThreadGrew)
    assert (grew.thread_id, len(grew.turns_started), grew.turns_started) == (thread.id, 1, grew.turns_ended)
    assert look() == []
    path = bench.path(thread)
    bench.append(path, event("task_started", "t2") + event("agent_message", "t2"))
    assert look() == [ThreadGrew(thread.id, 2, ("t2",), ())]
    bench.append(path, event("turn_aborted", "t2")[:-5])
    assert look() == []
    bench.append(path, event("turn_aborted", "t2")[-5:] + event("task_started", "t3"))
    assert look() == [ThreadGrew(thread.id, 2, ("t3",), ("t2",))]
    NameIndex(bench.home).rename(thread.id, "parser", CLOCK)
    assert look() == [ThreadRenamed(thread.id, "parser")]
    NameIndex(bench.home).rename(thread.id, None, CLOCK)
    assert look() == [ThreadRenamed(thread.id, None)]
    archived = bench.home.archived_sessions / path.name
    bench.fs.make_folder(archived.parent)
    bench.fs.rename(path, archived)
    assert look() == [ThreadMoved(thread.id, archived=True)]
    bench.fs.rename(archived, path)
    assert look() == [ThreadMoved(thread.id, archived=False)]
    bench.fs.unlink(path)
    assert look() == [ThreadGone(thread.id)]
    assert look() == []


def test_what_was_there_is_not_told_and_half_a_line_is_not_lost(bench: Bench) -> None:
    thread = ThreadBuilder("0.142").turn("First?", "One.")
    path = thread.write(bench.home)
    bench.append(path, event("task_started", "t")[:10])
    bench.changes.begin()
    assert bench.changes.look() == []
    bench.append(path, event("task_started", "t")[10:])
    assert bench.changes.look() == [ThreadGrew(thread.id, 1, ("t",), ())]


def test_packing_and_unpacking_a_thread_is_no_change_but_what_follows_is(bench: Bench) -> None:
    thread = ThreadBuilder("0.142").turn("First?", "One.")
    path = thread.write(bench.home)
    plain = bench.fs.open_read(path)
    data = plain.read_at(0, plain.size())
    plain.close()
    bench.changes.begin()
    bench.fs.unlink(path)
    thread.write(bench.home, compressed=True)
    assert bench.changes.look() == []
    packed = bench.path(thread)
    assert packed.suffix == ".zst"
    bench.append(path, data)
    bench.fs.unlink(packed)
    assert bench.changes.look() == []
    bench.append(path, event("task_started", "t").replace(b"2026-07-02", b"2126-07-02"))
    assert bench.changes.look() == [ThreadGrew(thread.id, 1, ("t",), ())]


@pytest.mark.anyio
async def test_a_thread_that_was_taken_back_goes_on_in_another_file(bench: Bench) -> None:
    thread = ThreadBuilder("0.169").turn("First?", "One.").turn("Second?", "Two.")
    thread.write(bench.home)
    bench.changes.begin()
    store = memory_store(bench.fs)
    try:
        await store.revert(thread.id, thread.turn_ids[1], Owner("test", 1))
    finally:
        store.close()
    (grew,) = bench.changes.look()
    assert isinstance(grew, ThreadGrew)
    assert (grew.thread_id, grew.turns_ended) == (thread.id, ())
    assert grew.records > 0
    assert bench.changes.look() == []


def test_damaged_lines_cost_themselves(bench: Bench) -> None:
    thread = ThreadBuilder("0.142").turn("First?", "One.")
    path = thread.write(bench.home)
    bench.changes.begin()
    bench.append(path, b"\x00\xff{]\n" + event("task_started", "t") + b"null\n")
    assert bench.changes.look() == [ThreadGrew(thread.id, 1, ("t",), ())]
