"""Taking a thread back: a later segment, nothing removed, settings of today."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from clew.clock import SystemClock
from clew.errors import BadRequest, Owner, ThreadBusy, Unsupported
from clew.history import rebuild, turns
from clew.ids import SystemIds, uuid7_at
from clew.rollout import Home, RealFileSystem, Record
from clew.settings import SandboxMode
from clew.store import LocalStore
from clew.testing import MemoryFileSystem, ThreadBuilder, memory_home, memory_store

pytestmark = pytest.mark.anyio
ME = Owner("clew test", 1)


def _thread(fs: MemoryFileSystem, *, paginated: bool = True) -> ThreadBuilder:
    thread_id = uuid7_at(1_782_907_200_000, b"paginated." if paginated else b"legacy....")
    built = ThreadBuilder("0.169", id=thread_id, paginated=paginated)
    for number in range(4):
        built.turn(f"prompt {number}", f"answer {number}")
    built.write(memory_home(fs))
    return built


async def test_a_revert_begins_a_segment_and_removes_nothing() -> None:
    fs = MemoryFileSystem()
    store = memory_store(fs)
    thread = _thread(fs)
    before = store.catalog.get(thread.id)
    old = fs.read_bytes(Path(before.path))
    ids = [turn.id for turn in turns(store.read(thread.id), "paginated")]
    assert await store.revert(thread.id, ids[2], ME) == 2
    after = store.catalog.get(thread.id)
    assert after.path != before.path
    assert fs.read_bytes(Path(before.path)) == old
    assert [turn.id for turn in turns(store.read(thread.id), "paginated")] == ids[:2]
    ordinals = [line.ordinal for line in store.read(thread.id) if isinstance(line, Record)]
    # The header of the base says nothing about this segment and is left out.
    assert ordinals == list(range(1, len(ordinals) + 1))
    context = rebuild(store.read_back(thread.id), store.head(thread.id))
    said = [item.value()["content"][0]["text"] for item in context.items if item.type == "message"]
    assert said[-2:] == ["prompt 1", "answer 1"]
    await store.revert(thread.id, ids[1], ME)
    assert [turn.id for turn in turns(store.read(thread.id), "paginated")] == ids[:1]
    store.close()


async def test_a_revert_is_undone_and_done_again() -> None:
    fs = MemoryFileSystem()
    store = memory_store(fs)
    thread = _thread(fs)

    def prompts() -> list[str]:
        return [turn.items[0]["content"][0]["text"] for turn in turns(store.read(thread.id), "paginated")]

    with pytest.raises(BadRequest, match="it was never reverted"):
        await store.restore(thread.id, ME)
    assert await store.revert(thread.id, "2", ME) == 3
    assert prompts() == ["prompt 0"]
    assert await store.restore(thread.id, ME) == 0
    assert prompts() == ["prompt 0", "prompt 1", "prompt 2", "prompt 3"]
    assert await store.restore(thread.id, ME) == 0
    assert prompts() == ["prompt 0"]
    assert await store.revert(thread.id, "-1", ME) == 1
    assert prompts() == []
    assert await store.restore(thread.id, ME) == 0
    assert prompts() == ["prompt 0"]
    assert len(memory_home(fs).find(thread.id).segments) == 6  # type: ignore[union-attr]
    store.close()


async def test_what_was_done_since_a_revert_can_be_had_again_after_its_undoing() -> None:
    fs = MemoryFileSystem()
    home = memory_home(fs)
    built = ThreadBuilder("0.169").turn("one", "1").turn("two", "2").revert(1).turn("other two", "2b")
    built.write(home)
    store = memory_store(fs)

    def said() -> list[str]:
        return [turn.items[-1]["text"] for turn in turns(store.read(built.id), "paginated")]

    assert said() == ["1", "2b"]
    assert await store.restore(built.id, ME) == 1
    assert said() == ["1", "2"]
    assert await store.restore(built.id, ME) == 0
    assert said() == ["1", "2b"]
    store.close()


async def test_a_revert_keeps_the_settings_of_today() -> None:
    fs = MemoryFileSystem()
    store = memory_store(fs)
    thread = _thread(fs)
    ids = [turn.id for turn in turns(store.read(thread.id), "paginated")]
    head = store.head(thread.id)
    recorded = rebuild(store.read_back(thread.id), head).recorded
    await store.revert(thread.id, ids[1], ME)
    again = rebuild(store.read_back(thread.id), store.head(thread.id)).recorded
    assert recorded.sandbox is not None
    assert recorded.sandbox.mode in SandboxMode
    assert msgspec.structs.replace(again, notes=()) == msgspec.structs.replace(recorded, notes=())
    store.close()


async def test_what_cannot_be_reverted_is_refused() -> None:
    fs = MemoryFileSystem()
    store = memory_store(fs)
    thread, legacy = _thread(fs), _thread(fs, paginated=False)
    with pytest.raises(BadRequest, match="the thread has no turn nowhere"):
        await store.revert(thread.id, "nowhere", ME)
    with pytest.raises(Unsupported, match="fork it with --before instead"):
        await store.revert(legacy.id, "any", ME)
    async with store.lease(thread.id, ME):
        with pytest.raises(ThreadBusy):
            await store.revert(thread.id, "any", ME)
    assert len(list(memory_home(fs).files())) == 2
    store.close()


async def test_a_thread_in_the_database_of_codex_is_not_reverted(tmp_path: Path) -> None:
    home = Home(RealFileSystem(), tmp_path / "codex")
    thread = ThreadBuilder("0.169").turn("one", "two").turn("three", "four")
    thread.write(home)
    with closing(sqlite3.connect(home.path / "state_5.sqlite")) as database:
        database.execute("create table threads (id text primary key, rollout_path text)")
        database.execute("insert into threads values (?, ?)", (thread.id, "/elsewhere.jsonl"))
        database.commit()
    store = LocalStore(home.fs, home.path, tmp_path / "clew", clock=SystemClock(), ids=SystemIds(), owner=ME)
    turn = turns(store.read(thread.id), "paginated")[1].id
    with pytest.raises(Unsupported, match="would not follow"):
        await store.revert(thread.id, turn, ME)
    (home.path / "state_5.sqlite").write_bytes(b"no database")
    await store.revert(thread.id, turn, ME)
    assert len(turns(store.read(thread.id), "paginated")) == 1
    store.close()
