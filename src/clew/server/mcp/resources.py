"""Threads as resources: `clew://threads`, and `clew://threads/{id}` for each.

Both are read as JSON, or with `?format=text` as plain text; `?cursor=` and `?limit=` turn pages. The scheme `codex://`
means the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import mcp_types as types

from clew.errors import BadRequest, ClewError, ThreadNotFound
from clew.server.mcp.arguments import canonical_uuid
from clew.server.mcp.desk import Context, Desk
from clew.server.mcp.errors import resource_error
from clew.server.mcp.views import line_of, summary_json, turn_json, turn_text

if TYPE_CHECKING:
    from clew.store.contracts import Page

__all__ = ["list_resources", "list_templates", "read_resource"]

_ROOT = "clew://threads"
_SCHEMES = ("clew", "codex")
_JSON = "application/json"
_TEXT = "text/plain"
_PAGE = 50
_MOST = 200


async def list_resources(desk: Desk, cursor: str | None) -> types.ListResourcesResult:
    """The list itself first, then a page of threads, the ones changed last first."""
    page = await _page(desk, _PAGE, cursor)
    resources: list[types.Resource] = []
    if cursor is None:
        resources.append(
            types.Resource(
                name="threads",
                title="Threads",
                uri=_ROOT,
                description="The threads of this machine that are not archived, the ones changed last first.",
                mime_type=_JSON,
            )
        )
    for thread in page.threads:
        title = thread.name or " ".join((thread.preview or "").split())[:80] or thread.id
        resources.append(
            types.Resource(
                name=thread.id,
                title=title,
                uri=f"{_ROOT}/{thread.id}",
                description=f"Thread in {thread.cwd}" if thread.cwd else None,
                mime_type=_JSON,
                annotations=types.Annotations(last_modified=thread.updated_at),
            )
        )
    return types.ListResourcesResult(resources=resources, next_cursor=page.next_cursor)


def list_templates() -> types.ListResourceTemplatesResult:
    return types.ListResourceTemplatesResult(
        resource_templates=[
            types.ResourceTemplate(
                name="threads",
                title="Threads",
                uri_template=f"{_ROOT}{{?format,limit,cursor}}",
                description="A page of the list of threads; format `json` or `text`.",
            ),
            types.ResourceTemplate(
                name="thread",
                title="Thread",
                uri_template=f"{_ROOT}/{{id}}{{?format,limit,cursor}}",
                description="A thread with a page of its turns, oldest first; format `json` or `text`.",
            ),
        ]
    )


async def read_resource(desk: Desk, context: Context, uri: str) -> types.ReadResourceResult:
    """Raises `MCPError` with the code that the era of the connection uses."""
    try:
        reference, query = _parse(uri)
        as_text = query.get("format", "json") == "text"
        if reference is None:
            value, text = await _threads(desk, query)
        else:
            value, text = await _thread(desk, reference, query)
    except ClewError as error:
        raise resource_error(error, uri, context.protocol_version) from error
    body = text if as_text else json.dumps(value, ensure_ascii=False)
    contents = types.TextResourceContents(uri=uri, mime_type=_TEXT if as_text else _JSON, text=body)
    return types.ReadResourceResult(contents=[contents])


def _parse(uri: str) -> tuple[str | None, dict[str, str]]:
    parts = urlsplit(uri)
    path = unquote(parts.path).strip("/")
    if parts.scheme not in _SCHEMES or parts.netloc != "threads" or "/" in path:
        raise ThreadNotFound(uri)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in query:
        if name not in ("format", "limit", "cursor"):
            raise BadRequest(name, "unknown; known are format, limit, cursor")
    if query.get("format", "json") not in ("json", "text"):
        raise BadRequest("format", "expected json or text")
    return (canonical_uuid(path) or path) if path else None, query


def _limit(query: Mapping[str, str], default: int) -> int:
    text = query.get("limit")
    if text is None:
        return default
    if not text.isdecimal() or not 1 <= int(text) <= _MOST:
        raise BadRequest("limit", f"expected a number from 1 to {_MOST}")
    return int(text)


async def _page(desk: Desk, limit: int, cursor: str | None) -> Page:
    from clew.store.contracts import ListQuery  # the store is heavy, and the handshake does without it

    return await (await desk.threads()).list(ListQuery(limit=limit, cursor=cursor))


async def _threads(desk: Desk, query: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    page = await _page(desk, _limit(query, _PAGE), query.get("cursor"))
    lines = [line_of(thread) for thread in page.threads]
    if page.next_cursor is not None:
        lines.append(f"More: {_ROOT}?format=text&cursor={page.next_cursor}")
    return (
        {"threads": [summary_json(thread) for thread in page.threads], "nextCursor": page.next_cursor},
        "\n".join(lines or ["No threads."]),
    )


async def _thread(desk: Desk, reference: str, query: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    threads = await desk.threads()
    summary = await threads.summary(reference)
    page = await threads.read(summary.id, cursor=query.get("cursor"), limit=_limit(query, 25))
    blocks = [line_of(summary), *(turn_text(turn, full=True) for turn in page.turns)]
    if page.next_cursor is not None:
        blocks.append(f"More: {_ROOT}/{summary.id}?format=text&cursor={page.next_cursor}")
    return (
        {
            "thread": summary_json(summary),
            "turns": [turn_json(turn, full=True) for turn in page.turns],
            "nextCursor": page.next_cursor,
        },
        "\n\n".join(blocks),
    )
