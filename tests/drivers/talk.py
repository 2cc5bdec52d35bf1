"""A conversation that several programs carry on in turn, and what the model must be told each time."""

from __future__ import annotations

from typing import Any

from drivers.endpoint import Endpoint, Run, Say, Told, answer
from drivers.mcp import Server
from drivers.peer import Peer
from drivers.world import CLEW, World

__all__ = ["Talk"]


class Talk:
    """One thread. `told` is its whole history as the model must see it: every text, call and output once, in order.

    Each turn checks all its requests against that, word for word, and adds to it.
    """

    def __init__(self, world: World, endpoint: Endpoint, thread_id: str = "", told: list[Told] | None = None) -> None:
        self.world = world
        self.endpoint = endpoint
        self.thread_id = thread_id
        self.told: list[Told] = list(told or [])

    def branch(self, thread_id: str, turns: int | None = None) -> Talk:
        """The talk of a fork, whole or cut behind the first `turns` user texts."""
        told = self.told
        if turns is not None:
            users = [position for position, line in enumerate(told) if line[0] == "user"]
            told = told[: users[turns]] if turns < len(users) else told
        return Talk(self.world, self.endpoint, thread_id, told)

    def codex(self, peer: Peer, text: str, *commands: str) -> None:
        """A turn by `codex exec`: of a new thread, or of this one with `exec resume`."""
        seen = self._script(text, commands)
        done = peer.exec(self.world, text, resume=self.thread_id or None)
        assert self.thread_id in {"", done.thread_id}
        self.thread_id = done.thread_id
        last = [event["item"]["text"] for event in done.events if event.get("item", {}).get("type") == "agent_message"]
        assert last[-1:] == [answer(text)]
        self._check(seen, text, commands)

    def clew_exec(self, text: str, *commands: str, options: tuple[str, ...] = ()) -> None:
        """A turn by `clew exec` or `clew exec resume`."""
        seen = self._script(text, commands)
        resume = ("resume", self.thread_id) if self.thread_id else ()
        done = self.world.run((*CLEW, "exec", "--json", "--skip-git-repo-check", *options, *resume, text))
        assert done.code == 0, f"clew exec ended with {done.code}: {done.err[-2000:]}{done.out[-500:]}"
        assert self.thread_id in {"", done.thread_id}
        self.thread_id = done.thread_id
        self._check(seen, text, commands)

    async def mcp(self, server: Server, text: str, *commands: str, **arguments: Any) -> None:
        """A turn through an MCP server: `codex` for a new thread, else `codex-reply`."""
        seen = self._script(text, commands)
        if self.thread_id:
            got = await server.reply(self.thread_id, text, **arguments)
        else:
            got = await server.start(text, **arguments)
        assert (got.text, got.failed) == (answer(text), False)
        assert got.thread_id is not None
        assert self.thread_id in {"", got.thread_id}
        self.thread_id = got.thread_id
        self._check(seen, text, commands)

    def cut_off(self, call_id: str, text: str) -> None:
        """A turn that a kill ended while its only call ran."""
        self.told += [("user", text), ("call", call_id), ("output", call_id, "aborted")]

    def _script(self, text: str, commands: tuple[str, ...]) -> int:
        self.endpoint.on(text, *(Run(command) for command in commands), Say(answer(text)))
        return len(self.endpoint.requests)

    def _check(self, seen: int, text: str, commands: tuple[str, ...]) -> None:
        requests = self.endpoint.requests[seen:]
        expected: list[Told] = [*self.told, ("user", text)]
        assert requests[0].told == expected
        for request, command in zip(requests[1:], commands, strict=True):
            added = request.told[len(expected) :]
            assert [line[0] for line in added] == ["call", "output"], (command, added)
            assert added[0][1] == added[1][1]
            expected += added
            assert request.told == expected
        self.told = [*expected, ("assistant", answer(text))]
