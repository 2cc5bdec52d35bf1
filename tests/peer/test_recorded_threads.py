"""Threads that other versions recorded, with forks, reverts and compactions: clew replies, then Codex goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from drivers import CLEW, Endpoint, Peer, Request, Talk, World, serving

pytestmark = pytest.mark.peer

Codex = Callable[[str], Peer]
MCP = (*CLEW, "mcp")

FORKS = ["main", "fork", "fork_last_turn", "fork_of_fork"]
RECORDED = [
    *(("0.169.0/fork", thread) for thread in FORKS),
    ("0.169.0/revert_chain", "main"),
    ("0.169.0/revert_chain", "fork"),
    ("0.158.0/revert_chain", "main"),
    ("0.169.0/compact_last", "main"),
    ("0.169.0/compact_midturn", "main"),
    ("0.142.5/compact_last", "main"),
    ("0.118.0/fork", "fork"),
    ("0.118.0/rollback", "main"),
    ("0.142.5/killed", "main"),
]


@pytest.mark.parametrize(("scenario", "thread"), RECORDED, ids=["-".join(each) for each in RECORDED])
def test_clew_replies_to_a_recorded_thread_and_codex_goes_on(
    codex: Codex, shared: Path, scenario: str, thread: str, world: World, endpoint: Endpoint
) -> None:
    folder = shared / "corpus" / "codex" / scenario
    thread_id = json.loads((folder / "scenario.json").read_text())["threads"][thread]
    golden = json.loads((folder / "golden" / f"{thread_id}.next-input.0.169.0.json").read_text())
    world.adopt(folder / "home")
    before = {path: path.read_bytes() for path in world.rollouts()}
    talk = Talk(world, endpoint, thread_id, Request(golden).told[:-1])

    async def main() -> None:
        async with serving(world, MCP) as server:
            await talk.mcp(server, "A reply by clew.", cwd=str(world.work))

    anyio.run(main)
    talk.codex(codex("0.169.0"), "Then one by Codex.", "echo by-codex")
    talk.clew_exec("And clew again.", "echo by-clew", options=("-C", str(world.work)))
    for path, content in before.items():
        assert path.read_bytes().startswith(content), f"earlier bytes of {path.name} changed"
