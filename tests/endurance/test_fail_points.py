"""Die, or fail, exactly where it would hurt; then go on in a new server, with nothing lost and nothing doubled."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
import zstandard
from ledger import Ledger

from drivers import CLEW, Died, Endpoint, Run, Say, Server, World, answer, serving

MCP = (*CLEW, "mcp")
FAILING = (sys.executable, str(Path(__file__).with_name("failing.py")))

# One of each kind runs always, the others with the long tests.
IN_A_TURN = ("before_write=kill@3", "after_write=kill@6", "before_sync=kill@1", "after_sync=kill@3")
MORE_IN_A_TURN = (
    *(f"{point}=kill@{hit}" for point in ("before_write", "after_write") for hit in (1, 2, 4, 5)),
    *(f"{point}=kill@{hit}" for point in ("before_sync", "after_sync") for hit in (2, 4)),
)
AT_THE_START = ("after_create=kill",)
MORE_AT_THE_START = ("before_folder_sync=kill", "after_folder_sync=kill", "before_write=kill", "before_sync=kill")
UNPACKING = ("before_unlink=kill",)
MORE_UNPACKING = ("after_create=kill", "before_sync=kill", "before_link=kill", "after_rename=kill")
REFUSALS = ("before_sync=raise@2", "before_write=full@2")
MORE_REFUSALS = ("before_sync=full@2", "before_write=raise@2", "before_write=full@5", "before_sync=raise@1")


def _points(some: Sequence[str], more: Sequence[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("points", [*some, *(pytest.param(each, marks=pytest.mark.slow) for each in more)])


class _Story:
    """One thread and its ledger."""

    def __init__(self, world: World, endpoint: Endpoint) -> None:
        self.world = world
        self.endpoint = endpoint
        self.ledger = Ledger()
        self.thread_id = ""

    async def start(self, server: Server, text: str) -> None:
        self._script(text)
        got = await server.start(text)
        assert (got.text, got.failed) == (answer(text), False)
        assert got.thread_id
        self.thread_id = got.thread_id
        self.ledger.expect(self.thread_id, text)
        self.ledger.answered(self.thread_id, text, self.endpoint.requests)

    async def reply(self, server: Server, text: str) -> bool:
        """Whether it was answered (else it failed, or the server died)."""
        self._script(text)
        self.ledger.expect(self.thread_id, text)
        try:
            got = await server.reply(self.thread_id, text)
        except Died:
            return False
        if not got.failed:
            assert got.text == answer(text)
            self.ledger.answered(self.thread_id, text, self.endpoint.requests)
        return not got.failed

    def check(self) -> None:
        for request in self.endpoint.requests:
            self.ledger.check_request(request)
        self.ledger.check_log(self.thread_id, self.world.lines(self.thread_id))

    def _script(self, text: str) -> None:
        self.endpoint.on(text, Run(f"echo {text.replace(' ', '-')} >> ran; cat ran"), Say(answer(text)))


async def _listed(server: Server, **arguments: Any) -> list[str]:
    got = await server.call("threads_list", **arguments)
    assert not got.failed, got.text
    return [thread["threadId"] for thread in got.structured["threads"]]


@pytest.fixture
def story(world: World, endpoint: Endpoint) -> _Story:
    return _Story(world, endpoint)


@_points(IN_A_TURN, MORE_IN_A_TURN)
def test_a_kill_while_a_turn_is_recorded_costs_at_most_that_turn(story: _Story, points: str) -> None:
    async def main() -> None:
        async with serving(story.world, MCP) as server:
            await story.start(server, "one")
        async with serving(story.world, (*FAILING, points)) as server:
            assert not await story.reply(server, "two")
        async with serving(story.world, MCP) as server:
            assert await story.reply(server, "three")

    anyio.run(main)
    story.check()


@_points(AT_THE_START, MORE_AT_THE_START)
def test_a_kill_while_a_thread_is_made_leaves_a_home_that_works(story: _Story, points: str) -> None:
    async def main() -> None:
        async with serving(story.world, (*FAILING, points)) as server:
            with pytest.raises(Died):
                await server.start("never answered")
        async with serving(story.world, MCP) as server:
            await story.start(server, "one")
            assert await story.reply(server, "two")
            assert story.thread_id in await _listed(server)

    anyio.run(main)
    story.check()


@_points(UNPACKING, MORE_UNPACKING)
def test_a_kill_while_a_compressed_thread_is_unpacked_leaves_it_whole(story: _Story, points: str) -> None:
    async def main() -> None:
        async with serving(story.world, MCP) as server:
            await story.start(server, "one")
        (plain,) = story.world.rollouts(story.thread_id)
        packed = plain.with_name(f"{plain.name}.zst")
        packed.write_bytes(zstandard.ZstdCompressor(level=3).compress(plain.read_bytes()))
        plain.unlink()
        async with serving(story.world, (*FAILING, points)) as server:
            assert not await story.reply(server, "two")
        async with serving(story.world, MCP) as server:
            assert await story.reply(server, "three")
            assert await _listed(server) == [story.thread_id]
            story.check()
            # Whatever the crash left beside the plain file must not come back to life.
            await server.call("thread_archive", threadId=story.thread_id)
            assert await _listed(server) == []
            assert await _listed(server, archived=True) == [story.thread_id]

    anyio.run(main)


@_points(REFUSALS, MORE_REFUSALS)
def test_a_disk_that_refuses_fails_the_call_and_the_next_server_goes_on(story: _Story, points: str) -> None:
    async def main() -> None:
        async with serving(story.world, MCP) as server:
            await story.start(server, "one")
        async with serving(story.world, (*FAILING, points)) as server:
            assert not await story.reply(server, "two")
        async with serving(story.world, MCP) as server:
            assert await story.reply(server, "three")

    anyio.run(main)
    story.check()
