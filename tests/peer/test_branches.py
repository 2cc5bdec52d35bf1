"""Forks, copies and moved folders, as the real Codex sees them; and what Codex forked, as clew does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drivers import CLEW, Endpoint, Peer, Talk, World, answer

pytestmark = pytest.mark.peer

Codex = Callable[[str], Peer]
NEW, OLD = "0.169.0", "0.142.5"
ALL_KINDS = ["cli", "vscode", "exec", "appServer", "unknown"]


def _clew(world: World, *words: str) -> str:
    done = world.run((*CLEW, *words))
    assert done.code in (0, 1), done.err
    return done.out.strip()


def _talk(codex: Codex, world: World, endpoint: Endpoint, version: str) -> Talk:
    talk = Talk(world, endpoint)
    talk.codex(codex(version), "One.", "echo one")
    talk.clew_exec("Two.", "echo two")
    talk.codex(codex(NEW), "Three.")
    return talk


@pytest.mark.parametrize("version", [NEW, OLD])
def test_codex_lists_and_shows_what_clew_forked_at_a_turn(
    codex: Codex, version: str, world: World, endpoint: Endpoint
) -> None:
    talk = _talk(codex, world, endpoint, version)
    forks = {
        _clew(world, "fork", talk.thread_id, "--at", "2"): 2,
        _clew(world, "fork", talk.thread_id, "--before", "-1", "--copy"): 2,
        _clew(world, "fork", talk.thread_id, "--copy"): 3,
    }
    with codex(NEW).app_server(world) as app:
        rows: list[dict[str, Any]] = app.call("thread/list", {"sourceKinds": ALL_KINDS})["data"]
        assert {row["id"] for row in rows} == {talk.thread_id, *forks}
        for fork, count in forks.items():
            assert app.call("thread/resume", {"threadId": fork})["thread"]["forkedFromId"] == talk.thread_id
            turns = app.call("thread/read", {"threadId": fork, "includeTurns": True})["thread"]["turns"]
            said = [item["text"] for turn in turns for item in turn["items"] if item["type"] == "agentMessage"]
            assert said == [answer(text) for text in ("One.", "Two.", "Three.")][:count]


def test_an_old_codex_lists_a_copy_of_a_thread_that_it_could_not_read(
    codex: Codex, world: World, endpoint: Endpoint
) -> None:
    talk = _talk(codex, world, endpoint, NEW)
    by_reference = _clew(world, "fork", talk.thread_id)
    copy = talk.branch(_clew(world, "fork", by_reference, "--copy"))
    with codex(OLD).app_server(world) as app:
        rows: list[dict[str, Any]] = app.call("thread/list", {"sourceKinds": ALL_KINDS})["data"]
        assert [row["preview"] for row in rows if row["id"] == copy.thread_id] == ["One."]
        turns = app.call("thread/read", {"threadId": copy.thread_id, "includeTurns": True})["thread"]["turns"]
    assert [turn["items"][0]["content"][0]["text"] for turn in turns] == ["One.", "Two.", "Three."]
    copy.codex(codex(OLD), "Four, by an old Codex.")
    copy.codex(codex(NEW), "Five, by a new one.")
    copy.clew_exec("Six, by clew.")


@pytest.mark.parametrize("version", [NEW, OLD])
def test_clew_shows_where_a_fork_by_codex_came_from(
    codex: Codex, version: str, world: World, endpoint: Endpoint
) -> None:
    talk = Talk(world, endpoint)
    talk.codex(codex(version), "One.")
    with codex(version).app_server(world) as app:
        app.call("thread/resume", {"threadId": talk.thread_id})
        fork = talk.branch(app.call("thread/fork", {"threadId": talk.thread_id})["thread"]["id"])
    fork.codex(codex(version), "Two, in the fork.")
    (family,) = json.loads(_clew(world, "tree", "--json"))["families"]
    turn = json.loads(_clew(world, "show", talk.thread_id, "--json"))["turns"][0]["id"]
    (child,) = family["children"]
    assert (family["thread"]["id"], child["thread"]["id"]) == (talk.thread_id, fork.thread_id)
    assert (child["kind"], child["after_turn"]) == ("fork" if version == NEW else "copy", turn)
    told = json.loads(_clew(world, "diff", fork.thread_id, "--json"))
    assert (told["common"], told["related"], told["left"]["turns"]) == (1, True, [])
    assert [turn["user"] for turn in told["right"]["turns"]] == ["Two, in the fork."]
    fork.clew_exec("Three, by clew.")


@pytest.mark.parametrize("version", [NEW, OLD])
def test_codex_goes_on_in_the_new_folder_if_it_was_recorded(
    codex: Codex, version: str, world: World, endpoint: Endpoint
) -> None:
    talk = Talk(world, endpoint)
    work = world.work
    old, new = work / "lexer", work / "parser"
    old.mkdir()
    world.work = old
    talk.codex(codex(version), "One.")
    world.work = work
    old.rename(new)
    _clew(world, "relocate", str(old), str(new))
    before = _resumed(codex, world, talk.thread_id)
    _clew(world, "relocate", str(old), str(new), "--write")
    assert (before, _resumed(codex, world, talk.thread_id)) == (str(old), str(new))
    talk.codex(codex(NEW), "Two, by Codex.")
    talk.clew_exec("Three, by clew.")


def _resumed(codex: Codex, world: World, thread_id: str) -> str:
    """The folder in which Codex would go on."""
    for name in Path(world.home).glob("*.sqlite*"):
        name.unlink()
    with codex(NEW).app_server(world) as app:
        return str(app.call("thread/resume", {"threadId": thread_id})["cwd"])
