"""`clew mcp`: the MCP server on standard input and output. Kept light: a client waits for it to start."""

from __future__ import annotations

from collections.abc import Sequence

from clew.cli.options import Globals, UsageError
from clew.errors import ClewError

__all__ = ["serve"]

_CLIENT_WORDS = ("add", "remove", "list", "get", "login", "logout")


def serve(words: Sequence[str], options: Globals) -> int:
    """Serve until the client closes the connection. `words` are the arguments behind `mcp`: there are none."""
    if words and words[0] in _CLIENT_WORDS:
        raise UsageError(
            f"`clew mcp` is the server itself and has no {words[0]!r}",
            "Clients are told about it in their own way, for example: claude mcp add codex -- clew mcp",
        )
    if words:
        raise UsageError(f"`clew mcp` does not know {words[0]!r}", "`clew mcp --help` explains it.")
    raise ClewError("not there")
