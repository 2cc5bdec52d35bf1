"""One table from what went wrong to what a client is told.

A tool that fails answers with a result that says so, in the words older clients know; only what is wrong with the
request itself (an unknown method, parameters of a wrong shape) is a JSON-RPC error.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import mcp_types as types
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from clew.errors import (
    AmbiguousName,
    BadRequest,
    ClewError,
    ConfigInvalid,
    FolderGone,
    KeyMissing,
    ProviderUnknown,
    ThreadArchived,
    ThreadBusy,
    ThreadNotFound,
)

__all__ = ["Refused", "error_result", "explain", "resource_error", "result"]

_log = logging.getLogger(__name__)

RESOURCE_NOT_FOUND = -32002
"""The code of the handshake era; the later one uses invalid params."""


class Refused(Exception):
    """A call that is answered with exactly this text. `thread_id` None: the answer carries no structured part."""

    def __init__(self, text: str, *, thread_id: str | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.thread_id = thread_id


def _not_found(error: ThreadNotFound) -> str:
    if error.nothing_yet:
        return "There is no thread yet."
    return f"Session not found for thread_id: {error.reference}"


def _config_invalid(error: ConfigInvalid) -> str:
    # A value that came with the call has no line: the caller needs no path to find it.
    why = str(error) if error.line else error.why
    return f"Failed to load Codex configuration from overrides: {why}"


def _provider_unknown(error: ProviderUnknown) -> str:
    if error.thread_id is not None:
        return error.explained()
    return f"Failed to load Codex configuration from overrides: {error.message}"


def _archived(error: ThreadArchived) -> str:
    return f"{error.message}. Unarchive it first with the tool thread_unarchive."


def _folder_gone(error: FolderGone) -> str:
    return f"{error.explained()}"


def _bad_request(error: BadRequest) -> str:
    return f"Invalid argument {error.field}: {error.why}"


_TEXTS: dict[type[ClewError], Callable[[Any], str]] = {
    ThreadNotFound: _not_found,
    ConfigInvalid: _config_invalid,
    ProviderUnknown: _provider_unknown,
    ThreadArchived: _archived,
    FolderGone: _folder_gone,
    BadRequest: _bad_request,
}
"""Errors whose text is not just their message and hint (`ThreadBusy` names the holder in its message, `AmbiguousName`
its candidates)."""

_BEFORE_ANY_THREAD = (ConfigInvalid, ProviderUnknown, BadRequest, AmbiguousName, KeyMissing, ThreadNotFound)
"""Errors about the arguments: as in the older dialect their answer has no structured part, unless a thread is known."""


def explain(error: ClewError) -> str:
    """The sentence a client is shown."""
    for kind, text in _TEXTS.items():
        if isinstance(error, kind):
            return text(error)
    return error.explained()


def error_result(error: ClewError, *, thread_id: str | None = None) -> types.CallToolResult:
    """The answer of a tool that met this error; `thread_id` where the tool knows one and the error does not."""
    if isinstance(error, _BEFORE_ANY_THREAD) and error.thread_id is None and thread_id is None:
        return result(explain(error), error=True)
    extra: dict[str, Any] = {}
    if isinstance(error, ThreadBusy) and error.owner is not None:
        extra["owner"] = str(error.owner)
    return result(explain(error), thread_id=error.thread_id or thread_id or "", error=True, extra=extra)


def result(
    text: str,
    *,
    thread_id: str | None = None,
    error: bool = False,
    notices: Sequence[str] = (),
    extra: dict[str, Any] | None = None,
    shown: str | None = None,
) -> types.CallToolResult:
    """A tool's answer: the text, mirrored in the structured part where there is a thread.

    `shown` is the text block when it says more than `text`; `notices` follow it as a block of their own, and are listed
    in the structured part.
    """
    content: list[types.ContentBlock] = [types.TextContent(text=text if shown is None else shown)]
    if notices:
        content.append(types.TextContent(text="\n".join(f"Note: {notice}" for notice in notices)))
    structured: dict[str, Any] | None = None
    if thread_id is not None:
        structured = {"threadId": thread_id, "content": text, **(extra or {})}
        if notices:
            structured["notices"] = list(notices)
    return types.CallToolResult(content=content, structured_content=structured, is_error=error)


def resource_error(error: ClewError, uri: str, version: str) -> MCPError:
    """The JSON-RPC error for a resource that cannot be read, by the era of the connection."""
    if isinstance(error, ThreadNotFound | AmbiguousName):
        code = types.INVALID_PARAMS if version in MODERN_PROTOCOL_VERSIONS else RESOURCE_NOT_FOUND
        message = "Resource not found" if isinstance(error, ThreadNotFound) else error.explained()
        return MCPError(code=code, message=message, data={"uri": uri})
    if isinstance(error, BadRequest):
        return MCPError(code=types.INVALID_PARAMS, message=explain(error), data={"uri": uri})
    return MCPError(code=types.INTERNAL_ERROR, message=explain(error), data={"uri": uri})
