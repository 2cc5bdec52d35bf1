"""Where the turns of large logs are outlives the process that found it out, and misleads no other one."""

from __future__ import annotations

import errno
import os
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import cast

import apsw
import pytest

from clew.clock import SystemClock
from clew.errors import Owner
from clew.history.turn_offsets import TurnOffsets
from clew.ids import SystemIds
from clew.index.database import Database, Sql
from clew.library import Library, TurnsPage
from clew.rollout import File, Home, RealFileSystem
from clew.store import LocalStore
from clew.store.index_worker import IndexWorker
from clew.store.local import IndexUse
from clew.store.turn_places import IndexedPlaces
from clew.testing import ThreadBuilder

pytestmark = pytest.mark.anyio
TURNS = 60
ANSWER = "word " * 6000
"""Said so often that the log is large."""


class _CountedFile:
    """A file that tells how much is read of it, and where the disk fails."""

    def __init__(self, file: File, fs: _CountingFileSystem) -> None:
        self._file = file
        self._fs = fs

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)

    def read_at(self, offset: int, length: int) -> bytes:
        bad = self._fs.bad
        if bad is not None and offset <= bad < offset + length:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        data = self._file.read_at(offset, length)
        self._fs.bytes += len(data)
        return data


class _CountingFileSystem(RealFileSystem):
    def __init__(self) -> None:
        self.bytes = 0
        self.bad: int | None = None

    def open_read(self, path: Path) -> File:
        return cast("File", _CountedFile(super().open_read(path), self))


class Bench:
    """A home that one process after the other looks at. `bytes` is what the last one read of its files."""

    def __init__(self, folder: Path) -> None:
        self.clew_home = folder / "clew"
        self.home = Home(RealFileSystem(), folder / "codex")
        self.bytes = 0

    def store(self, fs: RealFileSystem, index: IndexUse = "use") -> LocalStore:
        clock = SystemClock()
        return LocalStore(
            fs, self.home.path, self.clew_home, clock=clock, ids=SystemIds(clock), owner=Owner("clew test"), index=index
        )

    async def page(
        self,
        thread: ThreadBuilder,
        cursor: str | None = None,
        *,
        limit: int = 2,
        newest_first: bool = False,
        index: IndexUse = "use",
        bad: int | None = None,
    ) -> TurnsPage:
        """What a new process answers."""
        fs = _CountingFileSystem()
        fs.bad = bad
        with closing(self.store(fs, index)) as store:
            page = await library(store).read(thread.id, cursor=cursor, limit=limit, newest_first=newest_first)
        self.bytes = fs.bytes
        return page

    async def agrees(self, thread: ThreadBuilder) -> None:
        """Pages from either end, and all turns, are those of a process without an index."""
        for newest_first in (False, True):
            cursor: str | None = None
            for limit in (2, 1000):
                plain = await self.page(thread, cursor, limit=limit, newest_first=newest_first, index="off")
                assert await self.page(thread, cursor, limit=limit, newest_first=newest_first) == plain
                cursor = plain.next_cursor

    def keep(self) -> None:
        assert IndexWorker(self.home, self.clew_home).run().complete

    def kept(self, thread: ThreadBuilder) -> bytes | None:
        with closing(Database(self.clew_home, self.home.path)) as database:
            return IndexedPlaces(database).get(thread.id)


def library(store: LocalStore) -> Library:
    clock = SystemClock()
    return Library(
        store,
        store.catalog,
        owner=Owner("clew test"),
        clock=clock,
        ids=SystemIds(clock),
        version=version("clew"),
        places=store.turn_places,
    )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def large(bench: Bench, *, paginated: bool, compressed: bool = False) -> tuple[ThreadBuilder, Path]:
    thread = ThreadBuilder("0.169", paginated=paginated)
    for number in range(TURNS):
        thread.turn(f"Question {number}?", f"Answer {number}: {ANSWER}")
    return thread, thread.write(bench.home, compressed=compressed)


def append(thread: ThreadBuilder, path: Path, question: str) -> None:
    before = len(thread.data)
    thread.turn(question, "Sure.")
    with path.open("ab") as file:
        file.write(thread.data[before:])


def asked(page: TurnsPage) -> list[str]:
    return [turn.items[0]["content"][0]["text"] for turn in page.turns]


BOTH = pytest.mark.parametrize("paginated", [False, True], ids=["legacy", "paginated"])


@BOTH
@pytest.mark.parametrize("complete", [False, True], ids=["new index", "complete index"])
async def test_a_page_in_a_new_process_reads_a_small_part_of_a_large_log(
    bench: Bench, paginated: bool, complete: bool
) -> None:
    thread, path = large(bench, paginated=paginated)
    if complete:
        bench.keep()
    size = path.stat().st_size
    first = await bench.page(thread)
    assert bench.bytes > size
    again = await bench.page(thread)
    assert (again, bench.bytes < size // 5) == (first, True), (bench.bytes, size)
    append(thread, path, "And now?")
    last = await bench.page(thread, first.next_cursor, limit=1000)
    assert asked(last)[-1] == "And now?"
    middle = await bench.page(thread, last.turns[TURNS // 2].id)
    assert (middle.turns, bench.bytes < size // 5) == (last.turns[TURNS // 2 + 1 :][:2], True), (bench.bytes, size)
    await bench.agrees(thread)


@BOTH
async def test_a_log_that_is_not_what_it_was_is_read_again(bench: Bench, paginated: bool) -> None:
    thread, path = large(bench, paginated=paginated)
    whole = path.read_bytes()
    await bench.page(thread)
    assert bench.kept(thread) is not None
    lines = whole.splitlines(keepends=True)
    shorter = b"".join(lines[: len(lines) // 2])
    for data in (shorter, whole.replace(b"word ", b"words", 3000), shorter + b"".join(lines[len(lines) // 2 + 9 :])):
        path.write_bytes(data)  # the same file as before
        await bench.agrees(thread)
    other = ThreadBuilder("0.169", paginated=paginated, id=thread.id, seed=5)
    for number in range(TURNS):
        other.turn(f"Other {number}?", ANSWER)
    new = path.with_name("new")
    new.write_bytes(other.data)
    new.replace(path)
    await bench.agrees(thread)
    assert asked(await bench.page(thread)) == ["Other 0?", "Other 1?"]


@BOTH
async def test_a_log_with_the_same_places_and_other_lines_is_another_one(bench: Bench, paginated: bool) -> None:
    thread, path = large(bench, paginated=paginated)
    await bench.page(thread)
    other = ThreadBuilder("0.169", paginated=paginated, id=thread.id, seed=5)
    for number in range(TURNS):
        other.turn(f"Solution {number}?", f"Answer {number}: {ANSWER}")
    lengths = [list(map(len, builder.data.splitlines())) for builder in (thread, other)]
    assert lengths[0] == lengths[1]
    path.write_bytes(other.data)
    await bench.agrees(thread)


async def test_a_fork_by_reference_knows_the_turns_of_its_base(bench: Bench) -> None:
    thread, path = large(bench, paginated=True)
    fork = thread.fork(before=TURNS - 10)
    fork.turn("Elsewhere?", "Yes.")
    own = fork.write(bench.home)
    size = path.stat().st_size
    first = await bench.page(fork)
    assert bench.bytes > size // 2
    assert (await bench.page(fork), bench.bytes < size // 5) == (first, True), (bench.bytes, size)
    append(fork, own, "More?")
    append(thread, path, "Not for the fork")
    await bench.agrees(fork)
    assert asked(await bench.page(fork, limit=1000))[-3:] == [f"Question {TURNS - 11}?", "Elsewhere?", "More?"]
    with path.open("r+b") as file:
        file.truncate(size // 3)
    await bench.agrees(fork)


async def test_a_packed_log_is_known_again_until_it_is_another_one(bench: Bench) -> None:
    thread, path = large(bench, paginated=False, compressed=True)
    packed = path.with_name(f"{path.name}.zst")
    await bench.page(thread)
    data = bench.kept(thread)
    assert data is not None
    with closing(bench.store(RealFileSystem())) as store:
        assert TurnOffsets.from_bytes(data, store.log(thread.id), "legacy") is not None
        os.utime(packed, (1, 1))
        assert TurnOffsets.from_bytes(data, store.log(thread.id), "legacy") is None
    await bench.agrees(thread)


async def test_small_logs_are_not_kept(bench: Bench) -> None:
    thread = ThreadBuilder("0.169", paginated=False).turn("Question?", "Answer.")
    thread.write(bench.home)
    await bench.agrees(thread)
    assert bench.kept(thread) is None


async def test_what_the_disk_did_not_give_once_is_there_for_the_next_process(bench: Bench) -> None:
    thread, path = large(bench, paginated=False)
    part = await bench.page(thread, limit=1000, bad=path.stat().st_size // 2)
    assert len(part.turns) < TURNS
    assert bench.kept(thread) is None
    await bench.agrees(thread)


async def test_what_is_kept_goes_with_its_thread(bench: Bench) -> None:
    early, path = large(bench, paginated=False)
    await bench.page(early)  # the index has not seen a file yet
    assert bench.kept(early) is not None
    path.unlink()
    bench.keep()
    assert bench.kept(early) is None
    late = ThreadBuilder("0.169", paginated=False, seed=7)
    late.turn("Question?", ANSWER * 40)
    path = late.write(bench.home)
    bench.keep()
    await bench.page(late)
    bench.keep()
    assert bench.kept(late) is not None
    path.unlink()
    bench.keep()
    assert bench.kept(late) is None


async def test_pages_come_without_an_index_that_can_be_used(bench: Bench) -> None:
    thread, _ = large(bench, paginated=False)
    plain = await bench.page(thread, index="off")
    bench.keep()
    with closing(apsw.Connection(str(bench.clew_home / "index.sqlite3"))) as connection:
        other = Sql(connection)
        other.run("BEGIN IMMEDIATE")
        assert await bench.page(thread) == plain
        other.run("ROLLBACK")
    assert bench.kept(thread) is None, "nobody was waited for"
    assert await bench.page(thread) == plain
    assert bench.kept(thread) is not None
    for data, checksum in ((b"rubbish", b"1234"), ("text", 5)):
        with closing(Database(bench.clew_home, bench.home.path)) as database, database.using() as sql:
            sql.run("UPDATE offsets SET data = ?, version = ?", (data, checksum))
        assert bench.kept(thread) is None
        assert await bench.page(thread) == plain
    with closing(Database(bench.clew_home, bench.home.path)) as database, database.using() as sql:
        sql.run("DROP TABLE offsets")
    assert await bench.page(thread) == plain
