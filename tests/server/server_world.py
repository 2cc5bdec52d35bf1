"""A served connection in memory, and a hand-driven client at its other end."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.lowlevel
import mcp_types as types
from mcp.client.session import ClientSession
from mcp.shared.message import SessionMessage
from server_fakes import Fake

from clew.config import Config, load
from clew.server.mcp.desk import ThreadsFactory
from clew.server.mcp.serve import Life, serve
from clew.server.mcp.stdio import Inbound, parse_line, render

PATIENCE = 4.0


class World:
    """A home in a temporary folder with fake threads; `config` is the text of its config.toml."""

    def __init__(self, folder: Path, config: str = "[clew]\ncodex_events = false\n") -> None:
        self.home = folder / "home"
        self.work = folder / "work"
        for path in (self.home, self.work):
            path.mkdir(exist_ok=True)
        self.write_config(config)
        self.fake = Fake()
        self.factory: ThreadsFactory = self.fake.open_home
        self.stop: anyio.Event | None = None
        self.life: Life | None = None

    def write_config(self, text: str) -> None:
        (self.home / "config.toml").write_text(text)

    def configure(self, profile: str | None) -> Config:
        env = {"HOME": str(self.home), "OPENAI_API_KEY": "k"}
        return load(env, profile=profile, codex_home=self.home, clew_home=self.home / "clew")

    @asynccontextmanager
    async def streams(self) -> AsyncGenerator[tuple[Any, Any, anyio.Event]]:
        """The client's ends of a served connection, and an event for its end."""
        to_server, server_read = anyio.create_memory_object_stream[Inbound](0)
        server_write, from_server = anyio.create_memory_object_stream[SessionMessage](0)
        ended = anyio.Event()
        self.stop = anyio.Event()

        async def run() -> None:
            await serve(
                self.configure,
                self.factory,
                server_read,
                server_write,
                cwd=str(self.work),
                life=self.life,
                stop=self.stop,
                version="9",
            )
            ended.set()

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(run)
                async with to_server, from_server:
                    yield from_server, to_server, ended
                    await to_server.aclose()
                    with suppress(anyio.ClosedResourceError):
                        async for _ in from_server:
                            pass
                    await ended.wait()

    @asynccontextmanager
    async def session(self, **settings: Any) -> AsyncGenerator[ClientSession]:
        """The official client of the handshake era, connected."""
        async with self.streams() as (read, write, _), ClientSession(read, write, **settings) as session:
            await session.initialize()
            yield session

    @asynccontextmanager
    async def talk(
        self, *, capabilities: dict[str, Any] | None = None, version: str = "2025-06-18"
    ) -> AsyncGenerator[Talk]:
        """A client that says exactly what it is told, connected by a handshake."""
        async with self.streams() as (read, write, ended), anyio.create_task_group() as group:
            talk = Talk(read, write, ended)
            group.start_soon(talk.listen)
            hello = {
                "protocolVersion": version,
                "capabilities": capabilities or {},
                "clientInfo": {"name": "talk", "version": "1"},
            }
            talk.hello = (await talk.ask("initialize", hello))["result"]
            await talk.tell("notifications/initialized")
            yield talk
            await talk.leave()
            await ended.wait()
            group.cancel_scope.cancel()


class Talk:
    """Messages as JSON objects. Answers and requests are kept by arrival in `heard`."""

    def __init__(self, read: Any, write: Any, ended: anyio.Event) -> None:
        self._read = read
        self._write = write
        self.ended = ended
        self.heard: list[dict[str, Any]] = []
        self.hello: dict[str, Any] = {}
        self._news = anyio.Event()
        self._next = 0

    async def listen(self) -> None:
        async for item in self._read:
            self.heard.append(json.loads(render(item.message)))
            self._news.set()
            self._news = anyio.Event()

    async def say(self, text: str | dict[str, Any]) -> None:
        line = text if isinstance(text, str) else json.dumps(text)
        item = parse_line(line.encode())
        if item is not None:
            await self._write.send(item)

    async def tell(self, method: str, params: dict[str, Any] | None = None) -> None:
        await self.say({"jsonrpc": "2.0", "method": method, **({"params": params} if params is not None else {})})

    async def send(self, method: str, params: dict[str, Any] | None = None) -> int:
        self._next += 1
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": self._next, "method": method}
        await self.say(message if params is None else {**message, "params": params})
        return self._next

    async def ask(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        return await self.answer(await self.send(method, params))

    async def call(self, tool: str, **arguments: Any) -> int:
        return await self.send("tools/call", {"name": tool, "arguments": arguments})

    async def answer(self, request_id: int) -> dict[str, Any]:
        return await self.until(lambda message: message.get("id") == request_id and "method" not in message)

    async def until(self, wanted: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """The first message, also an earlier one, that is wanted."""
        while True:
            for message in self.heard:
                if wanted(message):
                    return message
            await self._news.wait()

    def answers(self, request_id: Any) -> list[dict[str, Any]]:
        return [message for message in self.heard if message.get("id") == request_id and "method" not in message]

    def events(self, method: str = "codex/event") -> list[dict[str, Any]]:
        return [message["params"] for message in self.heard if message.get("method") == method]

    async def ask_nothing(self) -> None:
        """Let everything happen that does not wait for us."""
        for _ in range(20):
            await anyio.lowlevel.checkpoint()

    async def leave(self) -> None:
        await self._write.aclose()


def text_of(result: Any) -> str:
    return "".join(block.text for block in result.content)


def structured(result: types.CallToolResult) -> dict[str, Any]:
    content: Any = result.structured_content
    assert isinstance(content, dict)
    return cast("dict[str, Any]", content)
