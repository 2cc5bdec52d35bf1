"""Checks of forks, of keeping threads and of finding them. See `clew.testing.conformance`."""

from __future__ import annotations

import os
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from clew.errors import (
    AmbiguousName,
    BadRequest,
    Owner,
    SearchStopped,
    ThreadArchived,
    ThreadBusy,
    ThreadNotFound,
)
from clew.store.contracts import ListQuery, SearchQuery
from clew.testing.builders import ERAS, Call, Era
from clew.testing.store_bench import (
    ME,
    StoreUnderTest,
    conversation,
    decoded,
    fails,
    fresh,
    ids_of,
    new_id,
    recorded,
    records,
    said,
    texts,
    told,
    turn_ids,
)

__all__ = [
    "a_fork_closes_the_turn_it_cuts",
    "a_fork_ends_where_it_is_asked_to",
    "a_fork_has_the_history_of_its_source",
    "a_fork_of_a_turn_that_is_not_there_is_refused",
    "a_list_is_filtered",
    "a_name_is_given_changed_and_taken_away",
    "a_reverted_thread_is_forked_as_it_is_now",
    "a_search_finds_what_was_said",
    "a_search_is_narrowed_and_comes_in_pages",
    "a_summary_tells_what_the_thread_says",
    "a_thread_is_found_by_whatever_names_it",
    "a_thread_that_is_written_is_not_moved",
    "an_archived_thread_is_put_away_whole",
    "archived_and_compressed_threads_are_forked",
    "forks_are_forked",
    "pages_are_whole_and_without_doubles_while_threads_appear",
    "places_in_a_thread_are_found_in_their_order",
    "those_who_inherit_from_a_thread_are_its_heirs",
    "those_whom_a_thread_spawned_are_its_descendants",
    "what_cannot_be_read_is_listed_with_its_error",
]

# -- forks ------------------------------------------------------------------------------------------------------------


async def a_fork_has_the_history_of_its_source(store: StoreUnderTest) -> None:
    for number, era in enumerate(ERAS):
        source = fresh(number, era).turn("First?", "One.").turn("Second?", "Two.", calls=[Call("ls", "a.txt\n")])
        store.seed(source)
        before = list(store.logs.read(source.id))
        fork = new_id()
        await store.logs.fork(source.id, fork, originator="conformance", version="1.2.3")
        assert conversation(store, fork) == conversation(store, source.id), era
        assert list(store.logs.read(source.id)) == before
        summary = store.catalog.get(fork)
        assert (summary.forked_from, summary.history_mode) == (
            source.id,
            "paginated" if source.paginated else "legacy",
        ), era
        async with store.logs.lease(fork, ME) as lease:
            assert lease.existed
            await lease.append([said("Only here.")])
        assert texts(store, fork)[-1] == "Only here."
        assert list(store.logs.read(source.id)) == before


async def a_fork_ends_where_it_is_asked_to(store: StoreUnderTest) -> None:
    for number, era in enumerate(ERAS):
        source = fresh(number, era).turn("First?", "One.").turn("Second?", "Two.").turn("Third?", "Three.")
        store.seed(source)
        whole = conversation(store, source.id)
        ids = turn_ids(store, source.id)
        assert len(ids) == 3, era
        for kept in (1, 2, 3):
            after = new_id()
            await store.logs.fork(source.id, after, after_turn=ids[kept - 1])
            assert conversation(store, after) == whole[:kept], (era, "after", kept)
            before = new_id()
            await store.logs.fork(source.id, before, before_turn=ids[kept - 1])
            assert conversation(store, before) == whole[: kept - 1], (era, "before", kept)


async def a_fork_of_a_turn_that_is_not_there_is_refused(store: StoreUnderTest) -> None:
    running = fresh(0).turn("First?", "One.").turn("Second?", None, status="open")
    store.seed(running)
    gone = fresh(1, "0.142").turn("First?", "One.").turn("Second?", "Two.")
    rolled = gone.turn_ids[1]
    gone.rollback(1)
    store.seed(gone)
    first, second = running.turn_ids
    refused: list[tuple[str, dict[str, Any]]] = [
        (running.id, {"after_turn": new_id()}),
        (running.id, {"before_turn": "x"}),
        (running.id, {"after_turn": second}),
        (running.id, {"after_turn": first, "before_turn": second}),
        (gone.id, {"after_turn": rolled}),
    ]
    for source, where in refused:
        fork = new_id()
        with fails(BadRequest):
            await store.logs.fork(source, fork, **where)
        with fails(ThreadNotFound):
            store.catalog.get(fork)
    with fails(ThreadNotFound):
        await store.logs.fork(new_id(), new_id())


async def a_fork_closes_the_turn_it_cuts(store: StoreUnderTest) -> None:
    for number, era in enumerate[Era](("0.104", "0.142", "0.169")):
        source = fresh(number, era).turn("First?", "One.").kill_during_call("Second?")
        store.seed(source)
        fork = new_id()
        await store.logs.fork(source.id, fork)
        added = records(store, fork)[-2:]
        assert [line.type for line in added] == ["response_item", "event_msg"], era
        assert decoded(added[0])["role"] == "user"
        assert decoded(added[0])["content"][0]["text"].startswith("<turn_aborted>")
        ended = decoded(added[1])
        assert (ended["type"], ended["turn_id"], ended["reason"]) == ("turn_aborted", source.turn_ids[1], "interrupted")
        assert [status for status, _ in conversation(store, fork)] == ["completed", "interrupted"]


async def forks_are_forked(store: StoreUnderTest) -> None:
    for number, era in enumerate[Era](("0.60", "0.142", "0.169")):
        source = fresh(number, era).turn("First?", "One.").turn("Second?", "Two.")
        store.seed(source)
        whole = conversation(store, source.id)
        child, grandchild, cousin = new_id(), new_id(), new_id()
        await store.logs.fork(source.id, child)
        await store.logs.fork(child, grandchild)
        assert conversation(store, grandchild) == whole, era
        assert store.catalog.get(grandchild).forked_from == child
        await store.logs.fork(grandchild, cousin, after_turn=turn_ids(store, grandchild)[0])
        assert conversation(store, cousin) == whole[:1], era


async def a_reverted_thread_is_forked_as_it_is_now(store: StoreUnderTest) -> None:
    source = fresh(0).turn("First?", "One.").turn("Second?", "Two.").revert(1).turn("Better?", "Better.")
    store.seed(source)
    fork, cut = new_id(), new_id()
    await store.logs.fork(source.id, fork)
    expected = [("completed", ["First?", "One."]), ("completed", ["Better?", "Better."])]
    assert conversation(store, source.id) == conversation(store, fork) == expected
    await store.logs.fork(source.id, cut, before_turn=source.turn_ids[1])
    assert conversation(store, cut) == expected[:1]


async def archived_and_compressed_threads_are_forked(store: StoreUnderTest) -> None:
    for number, era in enumerate[Era](("0.142", "0.169")):
        source = fresh(number, era).turn("First?", "One.")
        store.seed(source, archived=True, compressed=True)
        fork = new_id()
        await store.logs.fork(source.id, fork)
        assert conversation(store, fork) == [("completed", ["First?", "One."])]
        assert not store.catalog.get(fork).archived
        assert store.catalog.get(source.id).archived


# -- keeping ----------------------------------------------------------------------------------------------------------


async def an_archived_thread_is_put_away_whole(store: StoreUnderTest) -> None:
    thread = fresh(0).turn("First?", "One.").turn("Second?", "Two.").revert(1).turn("Better?", "Better.")
    store.seed(thread)
    whole = told(store.logs.read(thread.id))
    for _ in range(2):  # twice is once
        assert store.catalog.archive(thread.id).archived
    assert store.catalog.list(ListQuery()).threads == ()
    assert ids_of(store.catalog.list(ListQuery(archived=True)).threads) == [thread.id]
    assert told(store.logs.read(thread.id)) == whole
    with fails(ThreadArchived):
        async with store.logs.lease(thread.id, ME):
            raise AssertionError("leased")
    for _ in range(2):
        assert not store.catalog.unarchive(thread.id).archived
    assert told(store.logs.read(thread.id)) == whole
    async with store.logs.lease(thread.id, ME) as lease:
        await lease.append([said("Next?")])
    for change in (store.catalog.archive, store.catalog.unarchive):
        with fails(ThreadNotFound):
            change(new_id())


async def a_thread_that_is_written_is_not_moved(store: StoreUnderTest) -> None:
    thread_id, other = recorded(store), store.again()
    async with store.logs.lease(thread_id, Owner("writer", os.getpid())) as lease:
        for catalog in (store.catalog, other.catalog):
            with fails(ThreadBusy) as busy:
                await anyio.to_thread.run_sync(catalog.archive, thread_id)
            assert busy[0].owner is not None
            assert busy[0].owner.program == "writer"
        await lease.append([said("still here")])
    assert not store.catalog.get(thread_id).archived


async def those_whom_a_thread_spawned_are_its_descendants(store: StoreUnderTest) -> None:
    root = fresh(0).turn("First?", "One.")
    child = fresh(1, meta={"parent_thread_id": root.id}).turn("Do it.", "Done.")
    spawned = {"subagent": {"thread_spawn": {"parent_thread_id": child.id, "depth": 2}}}
    grandchild = fresh(2, source=spawned).turn("Do it.", "Done.")
    other = fresh(3, meta={"parent_thread_id": new_id()}).turn("Do it.", "Done.")
    for thread in (grandchild, other, root):
        store.seed(thread)
    store.seed(child, archived=True)
    assert list(store.catalog.descendants(root.id)) == [child.id, grandchild.id]
    assert list(store.catalog.descendants(child.id)) == [grandchild.id]
    assert list(store.catalog.descendants(grandchild.id)) == []


async def those_who_inherit_from_a_thread_are_its_heirs(store: StoreUnderTest) -> None:
    source = fresh(0).turn("First?", "One.").turn("Second?", "Two.").revert(1).turn("Better?", "Better.")
    store.seed(source)
    first, second, of_first = new_id(), new_id(), new_id()
    await store.logs.fork(source.id, first)
    await store.logs.fork(source.id, second, before_turn=source.turn_ids[1])
    async with store.logs.lease(first, ME) as lease:
        await lease.append([said("Only here.")])
    await store.logs.fork(first, of_first)
    copied = fresh(5, "0.142").turn("First?", "One.")
    store.seed(copied)
    await store.logs.fork(copied.id, new_id())
    later = source.rollout_id
    assert later != source.id
    assert sorted(store.catalog.heirs([source.id, later])) == sorted([source.id, first, second])
    assert sorted(store.catalog.heirs([later])) == sorted([first, second])
    assert list(store.catalog.heirs([source.id])) == [source.id]
    assert list(store.catalog.heirs([first])) == [of_first]
    assert list(store.catalog.heirs([copied.id])) == []
    assert list(store.catalog.heirs([])) == []


async def a_name_is_given_changed_and_taken_away(store: StoreUnderTest) -> None:
    first, second = recorded(store), recorded(store, 1)
    store.catalog.rename(first, " The  labyrinth ☃ ")
    assert store.catalog.get(first).name == "The  labyrinth ☃"
    assert store.again().catalog.resolve("The  labyrinth ☃").id == first
    store.catalog.rename(first, "fix/login")
    assert store.catalog.resolve("fix/login").id == first
    with fails(ThreadNotFound):
        store.catalog.resolve("The  labyrinth ☃")
    store.catalog.rename(second, "fix/login")
    with fails(AmbiguousName) as ambiguous:
        store.catalog.resolve("fix/login")
    assert sorted(ambiguous[0].candidates) == sorted([first, second])
    for nothing in (None, "", "  "):
        store.catalog.rename(second, nothing)
        assert store.catalog.get(second).name is None
    assert store.catalog.resolve("fix/login").id == first
    with fails(ThreadNotFound):
        store.catalog.rename(new_id(), "nobody")


# -- finding ----------------------------------------------------------------------------------------------------------


async def a_thread_is_found_by_whatever_names_it(store: StoreUnderTest) -> None:
    with fails(ThreadNotFound):
        store.catalog.resolve("last")
    threads = [fresh(number).turn("First?", "One.") for number in range(3)]
    for thread in threads:
        store.seed(thread)
    thread_id = threads[1].id
    spellings = [thread_id, thread_id.upper(), thread_id.replace("-", ""), f"urn:uuid:{thread_id}", f" {thread_id} "]
    spellings += [thread_id[:20], thread_id[:13].upper(), f"{{{thread_id}}}"]
    for reference in spellings:
        assert store.catalog.resolve(reference).id == thread_id, reference
    for spelling in spellings[:4]:
        assert store.catalog.get(spelling).id == thread_id
        assert records(store, spelling) == records(store, thread_id)
    assert store.catalog.resolve("last").id == threads[2].id
    twin = fresh(0, seed=1).turn("First?", "One.")
    store.seed(twin)
    with fails(AmbiguousName) as ambiguous:
        store.catalog.resolve(twin.id[:13])
    assert sorted(ambiguous[0].candidates) == sorted([twin.id, threads[0].id])
    unknown = [
        "",
        " ",
        thread_id[:7],
        new_id(),
        "nobody",
        "../../etc/passwd",
        "/",
        "a\\b",
        "\x00",
        "*",
        thread_id + "0",
    ]
    for reference in unknown:
        with fails(ThreadNotFound):
            store.catalog.resolve(reference)


async def a_summary_tells_what_the_thread_says(store: StoreUnderTest) -> None:
    thread = fresh(0, cwd="/tmp/demo", model="gpt-5").turn("What is a clew?", "A ball of thread.")  # noqa: S108 - a recorded folder, nothing is made there
    store.seed(thread)
    found = store.catalog.get(thread.id)
    assert (found.preview, found.cwd, found.model, found.provider, found.source, found.history_mode, found.error) == (
        "What is a clew?",
        "/tmp/demo",  # noqa: S108 - a recorded folder, nothing is made there
        "gpt-5",
        "mock",
        "exec",
        "paginated",
        None,
    )
    assert found.size == store.logs.size(thread.id) == len(thread.data)
    assert (found.archived, found.created_at) == (False, "2026-07-01T12:00:00.000Z")
    assert found.updated_at >= found.created_at


async def a_list_is_filtered(store: StoreUnderTest) -> None:
    made: dict[str, str] = {}
    for number, (cwd, source) in enumerate([("/w/a", "exec"), ("/w/a/deep", "mcp"), ("/w/ab", "cli"), ("/x", "exec")]):
        thread = fresh(number, cwd=cwd, source=source).turn(f"Prompt {cwd}?", "One.")
        store.seed(thread)
        made[thread.id] = cwd
    put_away = fresh(9, cwd="/w/a").turn("Old?", "One.")
    store.seed(put_away, archived=True)
    made[put_away.id] = "archived"
    names = {thread_id: cwd for thread_id, cwd in made.items() if cwd == "/x"}
    store.catalog.rename(next(iter(names)), "Ariadne")

    def listed(**query: Any) -> list[str]:
        return sorted(made[found.id] for found in store.catalog.list(ListQuery(**query)).threads)

    assert listed() == ["/w/a", "/w/a/deep", "/w/ab", "/x"]
    assert listed(archived=True) == ["archived"]
    assert listed(archived=None) == ["/w/a", "/w/a/deep", "/w/ab", "/x", "archived"]
    assert listed(cwd="/w/a") == listed(cwd="/w/a/") == listed(cwd="/w/x/../a") == ["/w/a", "/w/a/deep"]
    assert listed(cwd="/") == ["/w/a", "/w/a/deep", "/w/ab", "/x"]
    assert listed(sources=("exec",)) == ["/w/a", "/x"]
    assert listed(sources=("mcp", "cli")) == ["/w/a/deep", "/w/ab"]
    assert listed(text="ARIADNE") == ["/x"]
    assert listed(text="prompt /w") == ["/w/a", "/w/a/deep", "/w/ab"]
    assert listed(since="2026-07-01T14:00:00Z") == ["/w/ab", "/x"]
    assert listed(until="2026-07-01T16:00:00+02:00") == ["/w/a", "/w/a/deep"]
    assert listed(cwd="/w/a", sources=("mcp",), text="deep") == ["/w/a/deep"]
    for wrong in (ListQuery(limit=0), ListQuery(limit=1001), ListQuery(cursor="x"), ListQuery(since="yesterday")):
        with fails(BadRequest):
            store.catalog.list(wrong)


async def pages_are_whole_and_without_doubles_while_threads_appear(store: StoreUnderTest) -> None:
    there = [fresh(2 * number).turn("First?", "One.") for number in range(7)]
    for thread in there:
        store.seed(thread)
    for number, (sort, ascending) in enumerate(
        [("created", False), ("created", True), ("updated", False), ("updated", True)]
    ):
        expected = [thread.id for thread in (there if ascending else reversed(there))]
        seen: list[str] = []
        cursor: str | None = None
        for page_number in range(20):
            page = store.catalog.list(ListQuery(sort=sort, ascending=ascending, limit=2, cursor=cursor))  # pyright: ignore[reportArgumentType] - two words
            assert len(page.threads) <= 2
            seen += ids_of(page.threads)
            cursor = page.next_cursor
            if cursor is None:
                break
            # They come in front of the page that was shown and behind it.
            store.seed(fresh(2 * page_number + 1, seed=10 + number).turn("New?", "One."))
        assert [thread_id for thread_id in seen if thread_id in expected] == expected
        assert len(set(seen)) == len(seen)


async def a_search_finds_what_was_said(store: StoreUnderTest) -> None:
    asked = fresh(0).turn("Where is the MINOTAUR kept?", "In the labyrinth.")
    answered = fresh(1).turn("Who?", "The minotaur, half man, half bull.")
    named, silent = fresh(2).turn("First?", "One."), fresh(3).turn("Second?", "Two.")
    put_away = fresh(4, "0.36").turn("An old minotaur?", "Yes.")
    for thread in (asked, answered, named, silent):
        store.seed(thread)
    store.seed(put_away, archived=True)
    store.catalog.rename(named.id, "Minotaur hunt")
    hits = store.catalog.search(_said("minotaur")).hits
    assert [(hit.thread.id, hit.where) for hit in hits] == [
        (put_away.id, "user"),
        (named.id, "title"),
        (answered.id, "agent"),
        (asked.id, "user"),
    ]
    assert all("minotaur" in hit.snippet.casefold() for hit in hits)
    active, away = ListQuery(archived=False), ListQuery(archived=True)
    assert _found(store, _said("Minotaur", limit=1, within=active)) == [named.id]
    assert _found(store, _said("minotaur", within=away)) == [put_away.id]
    assert _found(store, _said("nobody ever said this")) == []
    for nothing in ("", "  "):
        with fails(BadRequest):
            store.catalog.search(_said(nothing))


async def a_search_is_narrowed_and_comes_in_pages(store: StoreUnderTest) -> None:
    ids: list[str] = []
    for number in range(6):
        calls = [Call("cat maze.txt", "E1234: no minotaur")] if number % 2 else []
        thread = fresh(number, cwd=f"/w/{number % 3}").turn(f"Draw maze {number}", "Drawn.", calls=calls)
        store.seed(thread, archived=number == 5, compressed=number == 3)
        ids.append(thread.id)
    asked: list[tuple[SearchQuery, list[int]]] = [
        (SearchQuery(text="maze draw"), [5, 4, 3, 2, 1, 0]),
        (SearchQuery(text='"draw maze" 4'), [4]),
        (SearchQuery(text="drawn maze"), []),
        (SearchQuery(text="maze", roles=("command",)), [5, 3, 1]),
        (SearchQuery(text="DRAW MAZE", mode="text"), [5, 4, 3, 2, 1, 0]),
        (SearchQuery(text="DRAW MAZE", mode="text", case_sensitive=True), []),
        (SearchQuery(text=r"e\d{4}:", mode="regex"), [5, 3, 1]),
        (SearchQuery(text=r"e\d{4}:", mode="regex", roles=("user", "command")), []),
        (SearchQuery(text=r"maze [0-2]$", mode="regex"), [2, 1, 0]),
        (SearchQuery(text="maze", mode="text", within=ListQuery(archived=False, cwd="/w/2")), [2]),
        (SearchQuery(text="maze", mode="text", within=ListQuery(archived=True)), [5]),
        (SearchQuery(text="maze", mode="text", tool="exec_command"), [5, 3, 1]),
        (SearchQuery(text="maze", mode="text", file="plan.py"), []),
    ]
    for query, expected in asked:
        found = _found(store, query)
        assert sorted(found) == sorted(ids[number] for number in expected), query
        seen: list[str] = []
        cursor: str | None = None
        while True:
            page = store.catalog.search(msgspec.structs.replace(query, limit=2, cursor=cursor))
            assert len(page.hits) <= 2
            seen += [hit.thread.id for hit in page.hits]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert seen == found, query
        if query.mode != "words":
            assert found == [ids[number] for number in expected], query
    for wrong in (SearchQuery(text="(", mode="regex"), SearchQuery(text="x", mode="text", cursor="x")):
        with fails(BadRequest):
            store.catalog.search(wrong)
    with fails(SearchStopped):
        store.catalog.search(SearchQuery(text="minotaur?", mode="text"), stop=lambda: True)


async def places_in_a_thread_are_found_in_their_order(store: StoreUnderTest) -> None:
    source = fresh(0).turn("Draw the maze", "A maze.", calls=[Call("cat maze", "maze maze")])
    fork = source.fork().turn("The maze again", "Drawn.")
    store.seed(source)
    store.seed(fork)
    query = SearchQuery(text="maze", mode="text", thread_id=fork.id)
    hits = store.catalog.search(query).hits
    assert [(hit.thread.id, hit.where, hit.snippet, hit.count) for hit in hits] == [
        (fork.id, "user", "Draw the maze", 1),
        (fork.id, "command", "cat maze", 1),
        (fork.id, "output", "maze maze", 2),
        (fork.id, "agent", "A maze.", 1),
        (fork.id, "user", "The maze again", 1),
    ]
    assert [hit.turn_id for hit in hits] == [source.turn_ids[0]] * 4 + [fork.turn_ids[-1]]
    assert [hit.where for hit in store.catalog.search(query, stop=lambda: False).hits if hit.at is None] == []
    with fails(ThreadNotFound):
        store.catalog.search(msgspec.structs.replace(query, thread_id=new_id()))


def _said(text: str, **more: Any) -> SearchQuery:
    return SearchQuery(text=text, mode="text", roles=("title", "user", "agent"), **more)


def _found(store: StoreUnderTest, query: SearchQuery) -> list[str]:
    return [hit.thread.id for hit in store.catalog.search(query).hits]


async def what_cannot_be_read_is_listed_with_its_error(store: StoreUnderTest) -> None:
    damaged = fresh(0).turn("First?", "One.").edit(lambda data: b"\x00" * len(data))
    whole = fresh(1).turn("Second?", "Two.")
    store.seed(damaged)
    store.seed(whole)
    found = store.catalog.list(ListQuery()).threads
    assert [(one.id, one.error is None) for one in found] == [(whole.id, True), (damaged.id, False)]
    assert _found(store, _said("second")) == [whole.id]
