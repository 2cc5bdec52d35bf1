"""`clew mcp`: the MCP server on standard input and output. Kept light: a client waits for it to start."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from clew.cli import terminal
from clew.cli.options import Globals, UsageError

if TYPE_CHECKING:
    from clew.config import Config
    from clew.threads import Threads

__all__ = ["mcp", "serve"]

_CLIENT_WORDS = ("add", "remove", "list", "get", "login", "logout")
_REGISTER = "claude mcp add codex -- clew mcp"


def mcp() -> int:
    """The command as the parser sees it; `serve` is what runs, without a parser."""
    return serve([], Globals())


def serve(words: Sequence[str], options: Globals) -> int:
    """Serve until the client closes the connection. `words` are the arguments behind `mcp`: there are none."""
    if words and words[0] in _CLIENT_WORDS:
        raise UsageError(
            f"`clew mcp` is the server itself and has no {words[0]!r}",
            f"Clients are told about it in their own way, for example: {_REGISTER}",
        )
    if words:
        raise UsageError(f"`clew mcp` does not know {words[0]!r}", "`clew mcp --help` explains it.")
    if terminal.is_terminal(sys.stdin):
        sys.stderr.write(f"clew mcp speaks MCP on standard input; a client starts it: {_REGISTER}\nCtrl-C ends it.\n")
    if options.debug:
        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    from clew.server.mcp import lean

    lean.prepare()
    import anyio

    from clew.server.mcp.serve import serve_stdio

    return anyio.run(
        partial(serve_stdio, partial(_configuration, options), partial(_threads, options), cwd=str(options.folder()))
    )


def _configuration(options: Globals, profile: str | None) -> Config:
    """The configuration as it is on disk now, with the flags this server was registered with over it."""
    from clew.cli.opening import load_config

    return load_config(replace(options, profile=profile or options.profile))


@asynccontextmanager
async def _threads(options: Globals) -> AsyncGenerator[Threads]:
    from anyio import to_thread

    from clew.cli.opening import load_config, open_home

    config = await to_thread.run_sync(load_config, options)
    async with open_home(config, "clew mcp", reload=partial(load_config, options)) as threads:
        yield threads
