"""Families of threads, and where two threads part."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from clew.clock import SystemClock
from clew.errors import BadRequest, Owner, ThreadNotFound
from clew.history.briefs import CommandBrief, TurnBrief
from clew.ids import SystemIds
from clew.kinship import Branch, families
from clew.library import Library
from clew.store.contracts import ThreadSummary
from clew.testing import Call, MemoryFileSystem, ThreadBuilder, memory_home, memory_store
from clew.testing.builders import BEGINNING

pytestmark = pytest.mark.anyio


class Bench:
    def __init__(self) -> None:
        self.fs = MemoryFileSystem()
        self.home = memory_home(self.fs)
        self.store = memory_store(self.fs)
        self.library = Library(
            self.store,
            self.store.catalog,
            owner=Owner("test", 1),
            clock=SystemClock(),
            ids=SystemIds(),
            version="1",
        )

    def write(self, *threads: ThreadBuilder, archived: bool = False) -> None:
        for thread in threads:
            thread.write(self.home, archived=archived)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    with closing(bench.store):
        yield bench


def shape(branch: Branch) -> Any:
    rest = [shape(child) for child in branch.children]
    return (branch.thread.id, branch.kind, branch.after_turn, *rest)


async def test_a_family_shows_forks_copies_and_agents_below_what_they_came_from(bench: Bench) -> None:
    root = ThreadBuilder("0.169").turn("one", "1").turn("two", "2").turn("three", "3")
    fork = root.fork(before=2).turn("other three", "3b")
    deeper = fork.fork().turn("four", "4")
    first = ThreadBuilder("0.169", start=BEGINNING + 60 + 60, seed=1, meta={"parent_thread_id": root.id}).turn(
        "task", "done"
    )
    old = ThreadBuilder("0.142", seed=2).turn("old", "o").turn("older", "p")
    bench.write(root, fork, first, old)
    bench.write(deeper, archived=True)
    copied = await bench.library.fork(old.id, after_turn="1")
    early = await bench.library.fork(root.id, before_turn="1")

    family = (
        root.id,
        "root",
        None,
        (fork.id, "fork", root.turn_ids[1], (deeper.id, "fork", fork.turn_ids[2])),
        (first.id, "agent", None),
        (early, "fork", None),
    )
    for member in (root.id, deeper.id, early):
        (found,) = await bench.library.tree(member)
        assert shape(found) == family
    assert found.children[0].children[0].thread.archived
    assert shape((await bench.library.tree(copied))[0]) == (old.id, "root", None, (copied, "copy", old.turn_ids[0]))
    # What changed last comes first: the fork that was made last.
    assert [branch.thread.id for branch in await bench.library.tree()] == [root.id, old.id]
    assert [branch.thread.id for branch in await bench.library.tree(limit=1)] == [root.id]


async def test_a_fork_whose_source_is_gone_is_a_root_that_names_it(bench: Bench) -> None:
    root = ThreadBuilder("0.169").turn("one", "1")
    fork = root.fork().turn("two", "2")
    bench.write(fork)
    (found,) = await bench.library.tree(fork.id)
    assert (found.thread.id, found.source, found.kind, found.after_turn) == (fork.id, root.id, "fork", None)


def test_a_circle_is_shown_once_and_a_long_line_is_no_trouble() -> None:
    def thread(number: int, source: int | None) -> ThreadSummary:
        return ThreadSummary(
            id=f"{number:05}",
            path="",
            archived=False,
            created_at=f"{number:05}",
            updated_at=f"{number:05}",
            size=0,
            forked_from=None if source is None else f"{source:05}",
        )

    circle = [thread(1, 2), thread(2, 3), thread(3, 1), thread(4, 2)]
    found = families(circle, lambda _: None)
    seen: list[str] = []
    waiting = list(found)
    while waiting:
        branch = waiting.pop()
        seen.append(branch.thread.id)
        waiting += branch.children
    assert sorted(seen) == ["00001", "00002", "00003", "00004"]
    line = [thread(number, number - 1 or None) for number in range(1, 3001)]
    (top,) = families(reversed(line), lambda _: None)
    depth = 1
    while top.children:
        (top,) = top.children
        depth += 1
    assert depth == 3000


def said(turns: tuple[TurnBrief, ...]) -> list[tuple[int, str | None, str | None]]:
    return [(turn.number, turn.user, turn.agent) for turn in turns]


@pytest.mark.parametrize("paginated", [True, False])
async def test_two_branches_part_behind_what_they_share(bench: Bench, paginated: bool) -> None:
    root = ThreadBuilder("0.169", paginated=paginated).turn("one", "1").turn("two", "2")
    fork = root.fork().turn("three", "3", calls=[Call("make", "ok\n")]).turn("four", "4")
    other = root.fork(before=1, id="019f1d8c-e208-7000-8000-00000000000f").turn("other two", "2b")
    bench.write(root, fork, other)

    found = await bench.library.compare(fork.id, other.id)
    assert (found.related, found.same, found.common, found.inside) == (True, False, 1, False)
    assert (found.last_common, found.ancestor) == (root.turn_ids[0], root.id)
    assert said(found.left.turns) == [(2, "two", "2"), (3, "three", "3"), (4, "four", "4")]
    assert said(found.right.turns) == [(2, "other two", "2b")]
    assert [command.line for command in found.left.turns[1].commands] == ["make"]

    alone = await bench.library.compare(fork.id)
    assert (alone.left.thread.id, alone.right.thread.id, alone.common) == (root.id, fork.id, 2)
    assert (alone.left.turns, said(alone.right.turns)) == ((), [(3, "three", "3"), (4, "four", "4")])
    with pytest.raises(BadRequest, match="was forked from no other thread"):
        await bench.library.compare(root.id)
    with pytest.raises(ThreadNotFound):
        await bench.library.compare(fork.id, "nowhere-at-all")


@pytest.mark.parametrize("paginated", [True, False])
@pytest.mark.parametrize("copy", [True, False])
async def test_a_fork_is_the_same_until_something_happens(bench: Bench, paginated: bool, copy: bool) -> None:
    root = ThreadBuilder("0.169", paginated=paginated).turn("one", "1", reasoning="Hm.", calls=[Call("ls", "a\n")])
    root.turn("two", "2")
    bench.write(root)
    fork = await bench.library.fork(root.id, copy=copy)
    found = await bench.library.compare(root.id, fork)
    assert (found.same, found.common, found.related) == (True, 2, True)
    assert (await bench.library.compare(root.id, root.id)).same


async def test_threads_related_through_a_third_one_that_is_gone_are_related(bench: Bench) -> None:
    root = ThreadBuilder("0.142").turn("one", "1")
    left = root.fork().turn("left", "l")
    right = root.fork(id="019f1d8c-e208-7000-8000-00000000000f").turn("right", "r")
    bench.write(left, right)
    found = await bench.library.compare(left.id, right.id)
    assert (found.related, found.common, found.ancestor) == (True, 1, root.id)
    assert (said(found.left.turns), said(found.right.turns)) == ([(2, "left", "l")], [(2, "right", "r")])


async def test_two_that_part_within_a_turn_show_it_on_both_sides(bench: Bench) -> None:
    root = ThreadBuilder("0.169").turn("one", "1").kill_during_call("two")
    bench.write(root)
    fork = await bench.library.fork(root.id)
    path = Path(bench.store.catalog.get(root.id).path)
    turn = root.turn_ids[1]
    root.line("event_msg", {"type": "task_complete", "turn_id": turn, "last_agent_message": "done"})
    bench.fs.unlink(path)
    bench.write(root)
    found = await bench.library.compare(root.id, fork)
    assert (found.common, found.inside, found.same) == (1, True, False)
    assert [(turn.number, turn.status) for turn in found.left.turns] == [(2, "completed")]
    assert [(turn.number, turn.status) for turn in found.right.turns] == [(2, "interrupted")]


async def test_threads_of_old_logs_are_compared_by_what_was_said(bench: Bench) -> None:
    root = ThreadBuilder("0.79").turn("one", "1").turn("two", "2")
    bench.write(root)
    fork = await bench.library.fork(root.id)
    other = await bench.library.fork(root.id, before_turn="2")
    assert (await bench.library.compare(root.id, fork)).same
    found = await bench.library.compare(fork, other)
    assert (found.common, said(found.left.turns), found.right.turns) == (1, [(2, "two", "2")], ())


async def test_strangers_have_nothing_in_common(bench: Bench) -> None:
    one, other = ThreadBuilder("0.169").turn("one", "1"), ThreadBuilder("0.169", seed=5).turn("one", "1")
    bench.write(one, other)
    found = await bench.library.compare(one.id, other.id)
    assert (found.related, found.same, found.common, found.ancestor) == (False, False, 0, None)


async def test_what_a_turn_did_is_told_in_brief(bench: Bench) -> None:
    patch = "*** Begin Patch\n*** Add File: notes.md\n+x\n*** End Patch"
    arguments = {"cmd": "make test"}
    root = ThreadBuilder("0.142").turn("one", "1")
    root.turn("two", "2", calls=[Call("make test", "no\n", "exec_command", arguments), Call("ls", "")])
    root.line("response_item", {"type": "custom_tool_call", "name": "apply_patch", "call_id": "c", "input": patch})
    bench.write(root)
    other = await bench.library.fork(root.id, before_turn="2")
    turn = (await bench.library.compare(root.id, other)).left.turns[0]
    assert turn.commands[0] == CommandBrief("make test")
    assert (turn.number, turn.user, turn.agent) == (2, "two", "2")
