"""A disk that fills up, fails to sync and loses power: what was acknowledged stays, what was not is kept or named."""

from __future__ import annotations

import errno
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Literal

import anyio
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.errors import DiskFull, HomeUnwritable, LogDamaged, Owner, SyncFailed, ThreadNotFound
from clew.ids import SystemIds
from clew.rollout import Record
from clew.store import LocalStore
from clew.store.contracts import Lease
from clew.testing import MemoryFileSystem, memory_home, memory_store
from clew.testing.store_bench import fails, meta, said

ME = Owner("faults")
THREAD = SystemIds().uuid7()


def said_in(store: LocalStore) -> list[str]:
    found = [line for line in store.read(THREAD) if isinstance(line, Record)]
    assert [line.ordinal for line in found] == list(range(len(found)))
    assert [line.type for line in found[:1]] in ([], ["session_meta"])
    return [text_of(line) for line in found[1:]]


@pytest.mark.anyio
@pytest.mark.parametrize("free", [0, 1, 40, 200, 1000])
async def test_a_full_disk_keeps_the_lines_and_the_next_append_completes_them(free: int) -> None:
    fs = MemoryFileSystem()
    with closing(memory_store(fs)) as store:
        async with doomed(store) as lease:
            await lease.append([meta(THREAD), said("first")])
            fs.free = free
            with pytest.raises(DiskFull):
                await lease.append([said("second"), said("x" * 2000)])
            with pytest.raises(DiskFull):
                await lease.append([said("third")])
            fs.free = None
            await lease.append([said("fourth")])
            after = after_power_cut(fs)
    with closing(memory_store(after)) as store:
        assert said_in(store) == ["first", "second", "x" * 2000, "third", "fourth"]


@pytest.mark.anyio
async def test_a_lease_that_ends_on_a_full_disk_leaves_the_thread_usable() -> None:
    fs = MemoryFileSystem()
    with closing(memory_store(fs)) as store:
        with fails(DiskFull):
            async with store.lease(THREAD, ME, create=True) as lease:
                await lease.append([meta(THREAD), said("first")])
                fs.free = 30
                await lease.append([said("second")])
        assert store.holder(THREAD) is None
        fs.free = None
        async with store.lease(THREAD, ME) as lease:
            await lease.append([said("third")])
        found = [line for line in store.read(THREAD) if isinstance(line, Record)]
    assert [line.type for line in found[:1]] == ["session_meta"]
    assert [text_of(line) for line in found[1:]] in (["first", "third"], ["first", "second", "third"])


@pytest.mark.anyio
@pytest.mark.parametrize("free", [0, 1, 100])
async def test_a_new_thread_on_a_full_disk_can_be_begun_again(free: int) -> None:
    fs = MemoryFileSystem()
    with closing(memory_store(fs)) as store:
        fs.free = 0
        with fails(DiskFull):
            async with store.lease(THREAD, ME, create=True):
                raise AssertionError("leased without a place for the owner's name")
        fs.free = None
        with fails(DiskFull):
            async with store.lease(THREAD, ME, create=True) as lease:
                fs.free = free
                await lease.append([meta(THREAD), said("first")])
        fs.free = None
        async with doomed(store) as lease:
            assert not lease.existed, "a file with nothing in it is no thread yet"
            await lease.append([meta(THREAD), said("first")])
            after = after_power_cut(fs)
    with closing(memory_store(after)) as store:
        assert said_in(store) == ["first"]


@pytest.mark.anyio
@pytest.mark.parametrize("times", [1, 2, 3])
async def test_a_failed_sync_is_made_good_or_told(times: int) -> None:
    fs = MemoryFileSystem()
    with closing(memory_store(fs)) as store:
        async with doomed(store) as lease:
            await lease.append([meta(THREAD), said("first")])
            fs.fail("sync", times=times, error=errno.EIO)
            if times == 1:
                await lease.append([said("second")])  # written again and synced by another descriptor
            else:
                with pytest.raises(SyncFailed):
                    await lease.append([said("second")])
            fs.heal()
            await lease.append([said("third")])
            after = after_power_cut(fs)
    with closing(memory_store(after)) as store:
        assert said_in(store) == ["first", "second", "third"]


Step = Literal["append", "durable", "crash", "crash torn", "let go"]


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.sampled_from(["append", "durable", "durable", "crash", "crash torn", "let go"]), max_size=14),
    seed=st.integers(0, 1 << 16),
)
def test_a_crash_loses_nothing_that_was_acknowledged(steps: list[Step], seed: int) -> None:
    anyio.run(_crashing, steps, seed)


async def _crashing(steps: Sequence[Step], seed: int) -> None:
    fs = MemoryFileSystem()
    memory_home(fs)
    promised: list[str] = []  # what must be there, in order
    hoped: list[str] = []  # what may follow it
    number = 0
    store = memory_store(fs)
    stack = AsyncExitStack()
    lease: Lease | None = None

    async def begin() -> Lease:
        taken = await stack.enter_async_context(store.lease(THREAD, ME, create=True))
        if not taken.existed:
            await taken.append([meta(THREAD)])
        return taken

    try:
        for step in steps:
            if step.startswith("crash"):
                after = after_power_cut(fs, seed + number if step == "crash torn" else None)
                with suppress(SyncFailed, HomeUnwritable):  # the disk under it is gone
                    await stack.aclose()
                store.close()
                fs, store, stack, lease = after, memory_store(after), AsyncExitStack(), None
                found = readable(store)
                assert found[: len(promised)] == promised
                assert in_order(found[len(promised) :], hoped), "out of order or made up"
                promised, hoped = found, []
                continue
            if step == "let go":
                await stack.aclose()  # closing makes it all durable
                promised, hoped, lease, stack = promised + hoped, [], None, AsyncExitStack()
                continue
            lease = lease or await begin()
            number += 1
            await lease.append([said(str(number))], durable=step == "durable")
            hoped.append(str(number))
            if step == "durable":
                promised, hoped = promised + hoped, []
        assert readable(store) == promised + hoped
    finally:
        await stack.aclose()
        store.close()


@asynccontextmanager
async def doomed(store: LocalStore) -> AsyncGenerator[Lease]:
    """A lease whose disk is gone when it ends."""
    stack = AsyncExitStack()
    yield await stack.enter_async_context(store.lease(THREAD, ME, create=True))
    with suppress(SyncFailed, HomeUnwritable):
        await stack.aclose()


def after_power_cut(fs: MemoryFileSystem, seed: int | None = None) -> MemoryFileSystem:
    """The disk as the next program finds it: another one, because a program that lost power writes nothing more."""
    fs.crash(seed)
    found = MemoryFileSystem()
    folders = [Path("/")]
    while folders:
        folder = folders.pop()
        found.make_folder(folder)
        for entry in fs.scan(folder):
            if entry.is_dir:
                folders.append(folder / entry.name)
            else:
                found.write_bytes(folder / entry.name, fs.read_bytes(folder / entry.name))
    return found


def readable(store: LocalStore) -> list[str]:
    """What can be read of what was said; nothing where the file never came to be, or holds nothing but ruins."""
    try:
        lines = [line for line in store.read(THREAD) if isinstance(line, Record)]
    except (ThreadNotFound, LogDamaged):
        return []
    return [text_of(line) for line in lines if line.type == "response_item"]


def text_of(line: Record) -> str:
    return str(msgspec.json.decode(line.payload)["content"][0]["text"])


def in_order(found: list[str], hoped: list[str]) -> bool:
    left = iter(hoped)
    return all(text in left for text in found)
