"""What clew saves, archives and deletes, as the real Codex sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from clew.rollout import Home, RealFileSystem
from clew.testing import ThreadBuilder
from clew.testing.store_bench import fresh
from drivers import CLEW, Endpoint, Peer, PeerError, Talk, World

pytestmark = pytest.mark.peer

Codex = Callable[[str], Peer]
ALL_KINDS = ["cli", "vscode", "exec", "appServer", "subAgent", "unknown"]


def clew(world: World, *words: str) -> str:
    done = world.run((*CLEW, *words))
    assert done.code == 0, done.err
    return done.out


def listed(app: Any, *, archived: bool = False) -> set[str]:
    return {row["id"] for row in app.call("thread/list", {"sourceKinds": ALL_KINDS, "archived": archived})["data"]}


def test_codex_resumes_by_a_saved_name_and_by_it_when_it_moved(codex: Codex, world: World, endpoint: Endpoint) -> None:
    first, second = Talk(world, endpoint), Talk(world, endpoint)
    first.clew_exec("One.")
    second.clew_exec("Two.")
    clew(world, "save", "best", first.thread_id)
    assert codex("0.169.0").exec(world, "Three.", resume="best").thread_id == first.thread_id
    assert first.thread_id in clew(world, "save", "best", second.thread_id)
    assert codex("0.169.0").exec(world, "Four.", resume="best").thread_id == second.thread_id


def test_codex_lists_no_deleted_thread_and_lists_it_again_when_it_is_back(
    codex: Codex, world: World, endpoint: Endpoint
) -> None:
    by_clew, by_codex = Talk(world, endpoint), Talk(world, endpoint)
    by_clew.clew_exec("One.")
    by_codex.codex(codex("0.169.0"), "Two.")
    both = {by_clew.thread_id, by_codex.thread_id}
    with codex("0.169.0").app_server(world) as app:
        assert listed(app) == both
    clew(world, "delete", *both)
    with codex("0.169.0").app_server(world) as app:
        assert listed(app) | listed(app, archived=True) == set()
        with pytest.raises(PeerError, match="no rollout found"):
            app.call("thread/resume", {"threadId": by_codex.thread_id})
    clew(world, "trash", "restore", "last")
    with codex("0.169.0").app_server(world) as app:
        assert listed(app) == both
    assert codex("0.169.0").exec(world, "Three.", resume=by_clew.thread_id).thread_id == by_clew.thread_id


def family(world: World) -> tuple[ThreadBuilder, ThreadBuilder, ThreadBuilder]:
    """Threads of Codex that spawned one another, as its sub-agents are recorded."""
    root = fresh(0, cwd=str(world.work), provider="mock").turn("First?", "One.")
    child = _spawned(root, 1, world)
    grandchild = _spawned(child, 2, world)
    home = Home(RealFileSystem(), world.home)
    for thread in (root, child, grandchild):
        thread.write(home)
    return root, child, grandchild


def _spawned(parent: ThreadBuilder, number: int, world: World) -> ThreadBuilder:
    source = {"subagent": {"thread_spawn": {"parent_thread_id": parent.id, "depth": number}}}
    meta = {"parent_thread_id": parent.id}
    return fresh(number, cwd=str(world.work), provider="mock", source=source, meta=meta).turn("Do it.", "Done.")


def archived(world: World) -> set[str]:
    return {thread.thread_id for thread in Home(RealFileSystem(), world.home).threads() if thread.archived}


def test_what_a_thread_spawned_is_archived_with_it_by_both_programs(codex: Codex, world: World) -> None:
    root, child, grandchild = family(world)
    everything = {root.id, child.id, grandchild.id}
    with codex("0.169.0").app_server(world) as app:
        app.call("thread/list", {"sourceKinds": ALL_KINDS})
        app.call("thread/archive", {"threadId": root.id})
    by_codex = archived(world)
    clew(world, "unarchive", root.id)
    assert archived(world) == set()
    clew(world, "archive", root.id)
    assert archived(world) == everything
    with codex("0.169.0").app_server(world) as app:
        app.call("thread/unarchive", {"threadId": root.id})
    assert (by_codex, archived(world)) == (everything, set())
