"""Checks of lists: every filter, every order, every page. See `clew.testing.conformance`."""

from __future__ import annotations

from typing import Any, get_args

import msgspec

from clew.errors import BadRequest
from clew.store.queries import ListQuery, Page, SortKey, ThreadSummary
from clew.testing.builders import ThreadBuilder
from clew.testing.store_bench import StoreUnderTest, fails, fresh, ids_of, new_id, shelf_of

__all__ = [
    "a_cursor_belongs_to_its_order",
    "a_list_has_every_order",
    "a_list_knows_who_spawned_whom",
    "a_list_shows_what_was_put_on_threads",
    "a_list_tells_providers_models_and_repositories",
    "a_name_moves_no_thread_but_in_the_order_of_names",
    "a_page_goes_on_where_the_last_one_ended",
    "a_thread_taken_back_keeps_its_beginning",
    "a_title_is_the_name_before_what_was_said",
]

SORTS: tuple[SortKey, ...] = get_args(SortKey)


def _seeded(store: StoreUnderTest, count: int, **shape: Any) -> list[ThreadBuilder]:
    threads = [fresh(number, **shape).turn(f"Question {number}?", "One.") for number in range(count)]
    for thread in threads:
        store.seed(thread)
    return threads


def _whole(store: StoreUnderTest, query: ListQuery) -> list[ThreadSummary]:
    """All pages of a list."""
    found: list[ThreadSummary] = []
    for _ in range(100):
        page: Page = store.catalog.list(query)
        assert len(page.threads) <= query.limit
        found += page.threads
        if page.next_cursor is None:
            return found
        query = msgspec.structs.replace(query, cursor=page.next_cursor)
    raise AssertionError("the list does not end")


def _ids(store: StoreUnderTest, **query: Any) -> list[str]:
    return ids_of(_whole(store, ListQuery(**query)))


async def a_list_tells_providers_models_and_repositories(store: StoreUnderTest) -> None:
    git = {"branch": "main", "repository_url": "https://example.invalid/a.git"}
    one = fresh(0, provider="p1", model="m1", meta={"git": git}).turn("First?", "One.")
    two = fresh(1, provider="p2", model="m2", meta={"git": {**git, "branch": "side"}}).turn("First?", "One.")
    three = fresh(2, provider="p1", model="m2").turn("First?", "One.")
    for thread in (one, two, three):
        store.seed(thread)
    first, second, third = one.id, two.id, three.id
    assert _ids(store, sort="created", ascending=True) == [first, second, third]
    found = store.catalog.get(first)
    assert (found.branch, found.repository) == ("main", "https://example.invalid/a.git")
    assert _ids(store, providers=("p1",)) == [third, first]
    assert _ids(store, providers=("p2", "p3")) == [second]
    assert _ids(store, models=("m2",)) == [third, second]
    assert _ids(store, models=("m1", "m2"), providers=("p1",)) == [third, first]
    assert _ids(store, branch="main") == [first]
    assert _ids(store, branch="gone") == []
    assert _ids(store, repository="https://example.invalid/a.git") == [second, first]
    assert _ids(store, repository="https://example.invalid/a.git", branch="side", models=("m2",)) == [second]
    assert _ids(store, repository="https://example.invalid/a.git", archived=True) == []


async def a_list_knows_who_spawned_whom(store: StoreUnderTest) -> None:
    def child(number: int, parent: str, **meta: Any) -> ThreadBuilder:
        spawn = {"parent_thread_id": parent, "depth": 1, "agent_path": None}
        source = {"subagent": {"thread_spawn": spawn}}
        return fresh(number, source=source, meta={"parent_thread_id": parent, **meta}).turn("Task?", "Done.")

    root = fresh(0).turn("First?", "One.")
    first = child(1, root.id)
    deep = child(2, first.id)
    deepest = child(3, deep.id)
    second = child(4, root.id)
    stranger = fresh(5).turn("Second?", "Two.")
    orphan = child(6, new_id())
    for thread in (root, first, deepest, second, stranger, orphan):
        store.seed(thread)
    store.seed(deep, archived=True)
    assert _ids(store, parent=root.id) == [second.id, first.id]
    assert _ids(store, parent=root.id.upper()) == [second.id, first.id]
    assert _ids(store, parent=first.id) == []
    assert _ids(store, parent=first.id, archived=None) == [deep.id]
    assert _ids(store, ancestor=root.id) == [second.id, deepest.id, first.id]
    assert _ids(store, ancestor=root.id, archived=None, sort="created", ascending=True) == [
        first.id,
        deep.id,
        deepest.id,
        second.id,
    ]
    assert _ids(store, ancestor=deepest.id) == _ids(store, ancestor=new_id()) == []
    for wrong in (ListQuery(parent=root.id, ancestor=root.id), ListQuery(parent="x"), ListQuery(ancestor="last")):
        with fails(BadRequest):
            store.catalog.list(wrong)


async def a_list_shows_what_was_put_on_threads(store: StoreUnderTest) -> None:
    shelf = shelf_of(store)
    first, second, third = (thread.id for thread in _seeded(store, 3))
    shelf.pin(first)
    shelf.tag(first, ["deploy", "parser"])
    shelf.tag(second, ["parser"])
    shelf.note(second, "Look at it again.")
    shelf.save(third, "baseline")
    found = {thread.id: thread for thread in _whole(store, ListQuery())}
    assert [
        (one.pinned, one.tags, one.note, one.saved_as) for one in map(found.__getitem__, (first, second, third))
    ] == [
        (True, ("deploy", "parser"), None, ()),
        (False, ("parser",), "Look at it again.", ()),
        (False, (), None, ("baseline",)),
    ]
    assert store.again().catalog.get(first) == found[first]
    assert _ids(store, pinned=True) == [first]
    assert _ids(store, pinned=False) == [third, second]
    assert _ids(store, tags=("parser",)) == [second, first]
    assert _ids(store, tags=("parser", "deploy")) == [first]
    assert _ids(store, tags=("parser",), pinned=False) == [second]
    assert _ids(store, tags=("nothing",)) == []
    shelf.unpin(first)
    shelf.untag(second, ["parser"])
    assert (_ids(store, pinned=True), _ids(store, tags=("parser",))) == ([], [first])


async def a_title_is_the_name_before_what_was_said(store: StoreUnderTest) -> None:
    first, second = (thread.id for thread in _seeded(store, 2))
    store.catalog.rename(first, "Zoë's LABYRINTH")
    assert _ids(store, text="labyrinth") == _ids(store, text="ZOË") == [first]
    assert _ids(store, text="question 1") == [second]
    assert _ids(store, text="question") == [second]
    assert _ids(store, text="?") == [second]
    assert _ids(store, text="") == [second, first]
    for nothing in ("labyrinthine", "%", "_", '"', "*", "question OR labyrinth"):
        assert _ids(store, text=nothing) == [], nothing
    for name, text in (("Straße 7", "STRASSE"), ("300 \u212aelvin", "kelvin"), ("eﬃcient", "efficient"), ("ΑΣ", "ας")):
        store.catalog.rename(first, name)
        assert _ids(store, text=text) == [first], name
    store.catalog.rename(first, None)
    assert _ids(store, text="question") == [second, first]


async def a_list_has_every_order(store: StoreUnderTest) -> None:
    long = fresh(0).turn("Mercury?", "One. " * 200).turn("And?", "Two.")
    threads = [long, fresh(1).turn("venus?", "One."), fresh(2).turn("Earth?", "One. " * 50)]
    for thread in threads:
        store.seed(thread)
    mercury, venus, earth = (thread.id for thread in threads)
    orders: dict[SortKey, list[str]] = {
        "created": [mercury, venus, earth],
        "updated": [mercury, venus, earth],
        "recency": [mercury, venus, earth],
        "name": [earth, mercury, venus],
        "size": [venus, earth, mercury],
    }
    assert set(orders) == set(SORTS)
    for sort, expected in orders.items():
        assert _ids(store, sort=sort, ascending=True) == expected, sort
        assert _ids(store, sort=sort) == expected[::-1], sort


async def a_name_moves_no_thread_but_in_the_order_of_names(store: StoreUnderTest) -> None:
    first, second, third = (thread.id for thread in _seeded(store, 3))
    before = {thread.id: thread.recency_at for thread in _whole(store, ListQuery())}
    store.catalog.rename(first, "AAA")
    store.catalog.rename(third, "zzz")
    for sort in SORTS:
        expected = [third, second, first] if sort != "size" else None
        if expected is not None:
            assert _ids(store, sort=sort) == expected, sort
    assert {thread.id: thread.recency_at for thread in _whole(store, ListQuery())} == before
    assert _ids(store, sort="name", ascending=True) == [first, second, third]


async def a_page_goes_on_where_the_last_one_ended(store: StoreUnderTest) -> None:
    there = {thread.id for thread in _seeded(store, 7)}
    for sort in SORTS:
        for ascending in (False, True):
            whole = _ids(store, sort=sort, ascending=ascending)
            assert set(whole) == there
            for limit in (1, 3, 7):
                assert _ids(store, sort=sort, ascending=ascending, limit=limit) == whole, (sort, ascending, limit)
    # One that was put away meanwhile is not missed by its neighbours.
    page = store.catalog.list(ListQuery(limit=3))
    store.catalog.archive(page.threads[-1].id)
    rest = _ids(store, limit=3, cursor=page.next_cursor)
    first, last = _ids(store)[:2], _ids(store)[2:]
    assert [*ids_of(page.threads), *rest] == [*first, page.threads[-1].id, *last]


async def a_cursor_belongs_to_its_order(store: StoreUnderTest) -> None:
    _seeded(store, 3)
    cursors: dict[tuple[SortKey, bool], str | None] = {
        (sort, ascending): store.catalog.list(ListQuery(sort=sort, ascending=ascending, limit=1)).next_cursor
        for sort in SORTS
        for ascending in (False, True)
    }
    for mine, cursor in cursors.items():
        assert cursor is not None
        for sort, ascending in cursors:
            query = ListQuery(sort=sort, ascending=ascending, limit=1, cursor=cursor)
            if mine == (sort, ascending):
                assert len(store.catalog.list(query).threads) == 1
            else:
                with fails(BadRequest):
                    store.catalog.list(query)
    for strange in ("", "x", "e30=", "WzEsMl0=", "ä"):
        with fails(BadRequest):
            store.catalog.list(ListQuery(cursor=strange))


async def a_thread_taken_back_keeps_its_beginning(store: StoreUnderTest) -> None:
    old = fresh(0).turn("First?", "One.").turn("Second?", "Two.").revert(1)
    new = fresh(1).turn("Question?", "One.")
    for thread in (old, new):
        store.seed(thread)
    assert _ids(store, sort="created", ascending=True) == [old.id, new.id]
    assert store.catalog.get(old.id).created_at == "2026-07-01T12:00:00.000Z"
    assert _ids(store, sort="recency", ascending=True) == [old.id, new.id]
