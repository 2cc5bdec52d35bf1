"""Threads that clew took back to an earlier turn, gone on with by the real Codex."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from drivers import CLEW, Endpoint, Peer, Talk, World

pytestmark = pytest.mark.peer

Codex = Callable[[str], Peer]


def test_codex_goes_on_with_a_thread_that_clew_took_back(codex: Codex, world: World, endpoint: Endpoint) -> None:
    talk = Talk(world, endpoint)
    peer = codex("0.169.0")
    talk.codex(peer, "One, by Codex.")
    talk.clew_exec("Two, by clew.", "echo two")
    talk.clew_exec("Three, taken back.")
    shown = world.run((*CLEW, "inspect", talk.thread_id)).out
    assert shown

    turns = [turn["id"] for turn in json.loads(shown)["turns"]]
    refused = world.run((*CLEW, "revert", talk.thread_id, "--before-turn", turns[2]))
    assert (refused.code, "would not follow" in refused.err) == (2, True)
    # Without its database, which it makes anew, Codex goes by the files.
    for name in world.home.glob("state_*.sqlite*"):
        name.unlink()
    done = world.run((*CLEW, "revert", talk.thread_id, "--before-turn", turns[2]))
    assert done.code == 0, done.err
    back = talk.branch(talk.thread_id, turns=2)
    back.codex(peer, "Three again, by Codex.")
    back.clew_exec("Four, by clew.")
    back.codex(peer, "Five, by Codex.")
