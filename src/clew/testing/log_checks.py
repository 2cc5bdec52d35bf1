"""Checks of logs: appending, leases, reading. See `clew.testing.conformance`."""

from __future__ import annotations

import os

import anyio
import anyio.lowlevel

from clew.errors import (
    BadRequest,
    Owner,
    StaleLease,
    ThreadBusy,
    ThreadNotFound,
    UnsupportedHistory,
)
from clew.rollout.envelope import Line, Record, Skipped
from clew.store.contracts import ListQuery
from clew.testing.builders import ERAS, ThreadBuilder
from clew.testing.store_bench import (
    ME,
    PATIENCE,
    StoreUnderTest,
    decoded,
    fails,
    fresh,
    home_of,
    meta,
    new_id,
    opened,
    recorded,
    records,
    said,
    texts,
    told,
)

__all__ = [
    "a_held_thread_is_waited_for",
    "a_lease_is_exclusive_and_names_its_owner",
    "a_lease_is_given_back_whatever_happens",
    "a_lease_that_is_over_writes_nothing",
    "a_lease_unpacks_a_compressed_thread",
    "a_lease_without_an_append_leaves_nothing",
    "a_payload_that_is_no_json_costs_nothing_else",
    "a_thread_appears_with_its_first_append",
    "a_torn_line_stays_and_costs_only_itself",
    "an_unknown_history_mode_is_refused",
    "an_unknown_thread_is_leased_only_to_create_it",
    "another_hand_between_two_leases_is_seen",
    "appends_of_one_lease_keep_their_order",
    "earlier_bytes_never_change",
    "files_lie_where_codex_looks_for_them",
    "paginated_lines_are_numbered_without_a_gap",
    "reading_both_ways_gives_the_same",
    "threads_are_leased_independently",
    "threads_of_every_era_are_continued",
    "what_was_appended_comes_back_in_order",
]

# -- appending --------------------------------------------------------------------------------------------------------


async def a_thread_appears_with_its_first_append(store: StoreUnderTest) -> None:
    thread_id = new_id()
    async with store.logs.lease(thread_id, ME, create=True) as lease:
        assert (lease.thread_id, lease.existed) == (thread_id, False)
        with fails(ThreadNotFound):
            store.catalog.get(thread_id)
        size = await lease.append([meta(thread_id), said("hello")])
        assert store.catalog.get(thread_id).id == thread_id
    assert store.logs.size(thread_id) == size > 0
    async with store.logs.lease(thread_id, ME) as lease:
        assert lease.existed


async def a_lease_without_an_append_leaves_nothing(store: StoreUnderTest) -> None:
    thread_id = new_id()
    async with store.logs.lease(thread_id, ME, create=True):
        pass
    with fails(ThreadNotFound):
        store.logs.size(thread_id)
    assert store.catalog.list(ListQuery(archived=None)).threads == ()


async def what_was_appended_comes_back_in_order(store: StoreUnderTest) -> None:
    thread_id = new_id()
    lines = [meta(thread_id), said("one"), Line("event_msg", {"type": "x"}, {"client_authored": False})]
    lines += [said(f"line {number} ☃") for number in range(50)]
    async with store.logs.lease(thread_id, ME, create=True) as lease:
        first = await lease.append(lines[:2])
        assert await lease.append([]) == first
        assert await lease.append(lines[2:], durable=False) > first
    found = records(store, thread_id)
    assert [(line.type, decoded(line)) for line in found] == [(line.type, line.payload) for line in lines]
    assert [bytes(line.metadata) if line.metadata else None for line in found[:3]] == [
        None,
        None,
        b'{"client_authored":false}',
    ]
    head = store.logs.head(thread_id)
    assert head is not None
    assert decoded(head) == lines[0].payload


async def paginated_lines_are_numbered_without_a_gap(store: StoreUnderTest) -> None:
    paginated, legacy = new_id(), new_id()
    for thread_id, mode in ((paginated, "paginated"), (legacy, None)):
        async with store.logs.lease(thread_id, ME, create=True) as lease:
            await lease.append([meta(thread_id, mode), said("one")])
        async with store.logs.lease(thread_id, ME) as lease:
            await lease.append([said("two"), said("three")])
    assert [line.ordinal for line in records(store, paginated)] == [0, 1, 2, 3]
    assert [line.ordinal for line in records(store, legacy)] == [None] * 4


async def appends_of_one_lease_keep_their_order(store: StoreUnderTest) -> None:
    thread_id = new_id()
    async with store.logs.lease(thread_id, ME, create=True) as lease:
        await lease.append([meta(thread_id)])
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(lambda number=number: lease.append([said(str(number))], durable=number % 3 == 0))
    assert texts(store, thread_id) == [str(number) for number in range(20)]


async def a_payload_that_is_no_json_costs_nothing_else(store: StoreUnderTest) -> None:
    thread_id = new_id()
    async with store.logs.lease(thread_id, ME, create=True) as lease:
        await lease.append([meta(thread_id), said("before")])
        with fails(TypeError):
            await lease.append([said("never"), Line("event_msg", object())])
        await lease.append([said("after")])
    assert texts(store, thread_id) == ["before", "after"]


# -- leases -----------------------------------------------------------------------------------------------------------


async def an_unknown_thread_is_leased_only_to_create_it(store: StoreUnderTest) -> None:
    for reference in (new_id(), "no id", ""):
        with fails(ThreadNotFound):
            async with store.logs.lease(reference, ME):
                raise AssertionError("leased")
        for read in (store.logs.read, store.logs.read_back, store.logs.head, store.logs.size):
            with fails(ThreadNotFound):
                read(reference)


async def a_lease_is_exclusive_and_names_its_owner(store: StoreUnderTest) -> None:
    thread_id, other = recorded(store), store.again()
    holder = Owner("first program", os.getpid())
    assert store.logs.holder(thread_id) is None
    async with store.logs.lease(thread_id, holder):
        for rival in (store, other):
            told = rival.logs.holder(thread_id)
            assert told is not None
            assert (told.program, told.pid) == ("first program", os.getpid())
            with fails(ThreadBusy) as busy:
                async with rival.logs.lease(thread_id, Owner("second program")):
                    raise AssertionError("leased twice")
            assert busy[0].owner == told
            assert busy[0].thread_id == thread_id
            assert records(rival, thread_id) == records(store, thread_id)  # reading needs no lease
    assert other.logs.holder(thread_id) is None
    async with other.logs.lease(thread_id, ME) as lease:
        await lease.append([said("afterwards")])


async def threads_are_leased_independently(store: StoreUnderTest) -> None:
    first, second = recorded(store), recorded(store, 1)
    async with store.logs.lease(first, ME) as one, store.logs.lease(second, ME) as two:
        await one.append([said("to the first")])
        await two.append([said("to the second")])
    assert texts(store, first)[-1] == "to the first"
    assert texts(store, second)[-1] == "to the second"


async def a_held_thread_is_waited_for(store: StoreUnderTest) -> None:
    thread_id, other = recorded(store), store.again()
    waiting = anyio.Event()

    async def wait() -> None:
        waiting.set()
        async with other.logs.lease(thread_id, ME, wait=None) as lease:
            await lease.append([said("second")])

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks, store.logs.lease(thread_id, ME) as lease:
            tasks.start_soon(wait)
            await waiting.wait()
            await lease.append([said("first")])
    assert texts(store, thread_id)[-2:] == ["first", "second"]


async def a_lease_is_given_back_whatever_happens(store: StoreUnderTest) -> None:
    thread_id, other = recorded(store), store.again()
    with fails(BadRequest):
        async with store.logs.lease(thread_id, ME) as lease:
            await lease.append([said("kept")], durable=False)
            raise BadRequest("test", "leave by an error")
    with anyio.CancelScope() as scope:
        async with store.logs.lease(thread_id, ME) as lease:
            await lease.append([said("kept too")], durable=False)
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    async with store.logs.lease(thread_id, ME):
        with anyio.move_on_after(0.02) as given_up:
            async with other.logs.lease(thread_id, ME, wait=None):
                raise AssertionError("leased twice")
        assert given_up.cancelled_caught
    assert store.logs.holder(thread_id) is None
    async with other.logs.lease(thread_id, ME) as lease:
        await lease.append([said("afterwards")])
    assert texts(store, thread_id)[-3:] == ["kept", "kept too", "afterwards"]


async def a_lease_that_is_over_writes_nothing(store: StoreUnderTest) -> None:
    thread_id = recorded(store)
    async with store.logs.lease(thread_id, ME) as lease:
        pass
    before = store.logs.size(thread_id)
    with fails(StaleLease):
        await lease.append([said("too late")])
    assert store.logs.size(thread_id) == before


async def another_hand_between_two_leases_is_seen(store: StoreUnderTest) -> None:
    thread_id, other = recorded(store), store.again()
    for number in range(3):
        for place, hand in enumerate((store, other)):
            async with hand.logs.lease(thread_id, ME) as lease:
                await lease.append([said(f"{number}.{place}")])
    assert texts(store, thread_id)[-6:] == ["0.0", "0.1", "1.0", "1.1", "2.0", "2.1"]
    numbers = [line.ordinal for line in records(other, thread_id)]
    assert numbers == list(range(len(numbers)))


async def an_unknown_history_mode_is_refused(store: StoreUnderTest) -> None:
    thread = ThreadBuilder("0.142", meta={"history_mode": "woven"}).turn("First?", "One.")
    store.seed(thread)
    size = store.logs.size(thread.id)
    with fails(UnsupportedHistory):
        async with store.logs.lease(thread.id, ME) as lease:
            await lease.append([said("never")])
    with fails(UnsupportedHistory):
        list(store.logs.read(thread.id))
    assert store.logs.size(thread.id) == size
    assert store.logs.holder(thread.id) is None
    assert store.catalog.get(thread.id).error is not None


async def threads_of_every_era_are_continued(store: StoreUnderTest) -> None:
    for number, era in enumerate(ERAS):
        thread = fresh(number, era).turn("First?", "One.")
        store.seed(thread, compressed=number % 2 == 1)
        before = records(store, thread.id)
        async with store.logs.lease(thread.id, ME) as lease:
            await lease.append([said("Next?")])
        after = records(store, thread.id)
        assert told(after[:-1]) == told(before), era
        assert decoded(after[-1]) == said("Next?").payload
        assert (after[-1].ordinal is not None) is thread.paginated


async def a_torn_line_stays_and_costs_only_itself(store: StoreUnderTest) -> None:
    thread = fresh(0).turn("First?", "One.").torn()
    store.seed(thread)
    before = records(store, thread.id)
    async with store.logs.lease(thread.id, ME) as lease:
        await lease.append([said("Next?")])
    after = list(store.logs.read(thread.id))
    assert isinstance(after[-2], Skipped)
    assert told(records(store, thread.id)[:-1]) == told(before)
    assert isinstance(after[-1], Record)
    assert decoded(after[-1]) == said("Next?").payload


# -- reading ----------------------------------------------------------------------------------------------------------


async def reading_both_ways_gives_the_same(store: StoreUnderTest) -> None:
    from clew.testing.homes import write_every_shape

    if store.home is None:
        return
    for name, thread in write_every_shape(store.home).items():
        forward, back = list(store.logs.read(thread.id)), list(store.logs.read_back(thread.id))
        assert told(forward) == told(reversed(back)), name
        head = store.logs.head(thread.id)
        assert head is not None
        assert decoded(head)["id"] == thread.id, name


# -- files ------------------------------------------------------------------------------------------------------------


async def files_lie_where_codex_looks_for_them(store: StoreUnderTest) -> None:
    home = home_of(store)
    thread_id = new_id()
    async with store.logs.lease(thread_id, ME, create=True) as lease:
        await lease.append([meta(thread_id)])
        assert home.fs.stat(home.thread_lock(thread_id)).size == 0
    files = home.find(thread_id)
    assert files is not None
    path = files.current.path
    assert path.name == f"rollout-{files.current.name.stamp}-{thread_id}.jsonl"
    year, month, day = files.current.name.stamp[:10].split("-")
    assert path.parent == home.sessions / year / month / day
    assert home.fs.stat(path).mode == 0o600
    assert home.fs.stat(path.parent).mode == 0o700
    assert store.catalog.get(thread_id).path == str(path)
    assert [entry.name for entry in home.fs.scan(home.lock_folder)] == [home.coordination_lock.name]


async def a_lease_unpacks_a_compressed_thread(store: StoreUnderTest) -> None:
    home = home_of(store)
    thread = fresh(0, "0.142").turn("First?", "One.")
    store.seed(thread, compressed=True)
    path = store.catalog.get(thread.id).path
    assert path.endswith(".jsonl")
    assert home.find(thread.id).current.compressed  # pyright: ignore[reportOptionalMemberAccess] - it was seeded
    async with store.logs.lease(thread.id, ME) as lease:
        size = await lease.append([said("Next?")])
    files = home.find(thread.id)
    assert files is not None
    assert (str(files.current.path), files.current.compressed, files.current.size) == (path, False, size)
    names = [entry.name for entry in home.fs.scan(files.current.path.parent)]
    assert names == [files.current.path.name]
    with opened(home, files.current.path) as data:
        assert data.startswith(thread.data)


async def earlier_bytes_never_change(store: StoreUnderTest) -> None:
    home = home_of(store)
    thread = fresh(0).turn("First?", "One.")
    store.seed(thread)
    before = thread.data
    for number in range(3):
        async with store.logs.lease(thread.id, ME) as lease:
            await lease.append([said(str(number))])
        store.catalog.rename(thread.id, f"name {number}")
        store.catalog.archive(thread.id)
        store.catalog.unarchive(thread.id)
        await store.logs.fork(thread.id, new_id())
        files = home.find(thread.id)
        assert files is not None
        with opened(home, files.current.path) as data:
            assert data.startswith(before)
            before = data
