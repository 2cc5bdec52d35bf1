"""One life of an MCP server, through the official client."""

from __future__ import annotations

import sys
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import anyio
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import CallToolResult, TextContent

from drivers.world import World, sigkill

__all__ = ["Answer", "Died", "Server", "serving"]

_HELLO = """
import os, sys
with open(sys.argv[1], "w") as note:
    note.write(str(os.getpid()))
os.execvp(sys.argv[2], sys.argv[2:])
"""


class Died(Exception):
    """The server ended before it answered."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool call came back with."""

    text: str
    thread_id: str | None
    failed: bool
    structured: dict[str, Any] = field(default_factory=dict[str, Any], compare=False)


class Server:
    def __init__(self, session: ClientSession, pid: int) -> None:
        self.session = session
        self.pid = pid

    async def call(self, tool: str, *, seconds: float = 30, **arguments: Any) -> Answer:
        """Call a tool; underscores in the arguments of `codex` are hyphens. Raises `Died` when the server ends, and
        `TimeoutError` when it does not answer."""
        named = {key.replace("_", "-") if tool == "codex" else key: value for key, value in arguments.items()}
        with anyio.fail_after(seconds):
            try:
                result = await self.session.call_tool(tool, named)
            except Exception as error:
                if _gone(error):
                    raise Died from error
                raise
        assert isinstance(result, CallToolResult), result
        text = "".join(part.text for part in result.content if isinstance(part, TextContent))
        structured = cast("dict[str, Any]", result.structured_content or {})
        return Answer(text, structured.get("threadId"), bool(result.is_error), structured)

    async def start(self, prompt: str, **arguments: Any) -> Answer:
        return await self.call("codex", prompt=prompt, **arguments)

    async def reply(self, thread_id: str, prompt: str, **arguments: Any) -> Answer:
        return await self.call("codex-reply", threadId=thread_id, prompt=prompt, **arguments)

    def kill(self) -> None:
        """SIGKILL to the whole process tree."""
        sigkill(self.pid)


@asynccontextmanager
async def serving(world: World, command: Sequence[str], **session: Any) -> AsyncGenerator[Server]:
    """A server that is started, and initialized, for the time of the block; it may be killed inside."""
    note = world.root / f"server-{uuid.uuid4().hex}.pid"
    parameters = StdioServerParameters(
        command=sys.executable, args=["-S", "-c", _HELLO, str(note), *command], env=world.env, cwd=world.work
    )
    async with AsyncExitStack() as stack:
        errors = stack.enter_context((world.root / "server.stderr").open("a"))
        read, write = await stack.enter_async_context(stdio_client(parameters, errlog=errors))
        client = await stack.enter_async_context(ClientSession(read, write, **session))
        with anyio.fail_after(30):
            await client.initialize()
        yield Server(client, int(note.read_text()))


def _gone(error: BaseException) -> bool:
    return isinstance(error, anyio.ClosedResourceError | anyio.BrokenResourceError) or "Connection closed" in str(error)
