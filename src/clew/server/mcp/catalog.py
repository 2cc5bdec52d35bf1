"""The tools that look at threads and look after them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import anyio
import mcp_types as types

from clew.errors import BadRequest, ClewError, ThreadBusy
from clew.server.mcp.approvals import question_text
from clew.server.mcp.arguments import Fields
from clew.server.mcp.desk import Call
from clew.server.mcp.errors import explain
from clew.server.mcp.views import line_of, summary_json, turn_json, turn_text

if TYPE_CHECKING:
    from clew.store.contracts import ThreadSummary

__all__ = [
    "thread_archive",
    "thread_fork",
    "thread_interrupt",
    "thread_read",
    "thread_rename",
    "thread_status",
    "thread_unarchive",
    "threads_list",
    "threads_search",
]

_INTERRUPT_WAIT = 10.0
"""Seconds a turn is given to end after it was told to."""


def _answer(text: str, structured: Mapping[str, Any]) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=text)], structured_content=dict(structured))


def _archived(arguments: Mapping[str, Any] | None, fields: Fields, default: bool | None) -> bool | None:
    """`archived` as given: null there means both kinds, its absence the default."""
    return fields.flag("archived") if "archived" in (arguments or {}) else default


async def threads_list(call: Call) -> types.CallToolResult:
    from clew.store.contracts import ListQuery  # the store is heavy, and the handshake does without it

    fields = Fields(call.arguments, ("cwd", "text", "since", "until", "source", "archived", "limit", "cursor"))
    query = ListQuery(
        archived=_archived(call.arguments, fields, False),
        cwd=fields.text("cwd"),
        text=fields.text("text"),
        sources=fields.words("source"),
        since=fields.moment("since"),
        until=fields.moment("until"),
        limit=fields.count("limit", 25, most=200),
        cursor=fields.text("cursor"),
    )
    page = await (await call.threads()).list(query)
    lines = [line_of(thread) for thread in page.threads] or ["No threads."]
    if page.next_cursor is not None:
        lines.append(f"More with cursor {page.next_cursor}")
    return _answer(
        "\n".join(lines),
        {"threads": [summary_json(thread) for thread in page.threads], "nextCursor": page.next_cursor},
    )


async def threads_search(call: Call) -> types.CallToolResult:
    from clew.store.contracts import ListQuery, SearchQuery

    fields = Fields(call.arguments, ("text", "archived", "limit"))
    query = SearchQuery(
        text=fields.required("text"),
        mode="text",
        roles=("title", "user", "agent"),
        within=ListQuery(archived=_archived(call.arguments, fields, None)),
        limit=fields.count("limit", 20, most=100),
    )
    page = await (await call.threads()).search(query)
    lines = [f"{line_of(hit.thread)}\n    {hit.where}: {' '.join(hit.snippet.split())}" for hit in page.hits]
    return _answer(
        "\n".join(lines or ["Nothing found."]),
        {
            "hits": [
                {"thread": summary_json(hit.thread), "where": hit.where, "snippet": hit.snippet} for hit in page.hits
            ]
        },
    )


async def thread_read(call: Call) -> types.CallToolResult:
    fields = Fields(call.arguments, ("threadId", "limit", "cursor", "newestFirst", "full"))
    threads = await call.threads()
    summary = await threads.summary(fields.thread())
    page = await threads.read(
        summary.id,
        cursor=fields.text("cursor"),
        limit=fields.count("limit", 10, most=100),
        newest_first=fields.flag("newestFirst") or False,
    )
    full = fields.flag("full") or False
    blocks = [line_of(summary), *(turn_text(turn, full=full) for turn in page.turns)]
    if not page.turns:
        blocks.append("No turns.")
    if page.next_cursor is not None:
        blocks.append(f"More with cursor {page.next_cursor}")
    return _answer(
        "\n\n".join(blocks),
        {
            "threadId": summary.id,
            "turns": [turn_json(turn, full=full) for turn in page.turns],
            "nextCursor": page.next_cursor,
        },
    )


async def thread_fork(call: Call) -> types.CallToolResult:
    fields = Fields(call.arguments, ("threadId", "afterTurn", "beforeTurn", "name"))
    after, before = fields.text("afterTurn"), fields.text("beforeTurn")
    if after is not None and before is not None:
        raise BadRequest("beforeTurn", "give either afterTurn or beforeTurn")
    threads = await call.threads()
    source = await threads.summary(fields.thread())
    new = await threads.fork(source.id, after_turn=after, before_turn=before)
    text = f"Thread {new} continues from thread {source.id}; go on with codex-reply."
    if (name := fields.text("name")) is not None:
        try:
            await threads.rename(new, name)
            text += f" It is called {name}."
        except ClewError as error:
            # The fork is there: a name that could not be given must not hide it.
            text += f" It could not be named: {explain(error)}"
    return _answer(text, {"threadId": new, "content": text, "forkedFrom": source.id})


async def thread_rename(call: Call) -> types.CallToolResult:
    fields = Fields(call.arguments, ("threadId", "name"))
    name = fields.text("name")
    summary = await (await call.threads()).rename(fields.thread(), name.strip() or None if name is not None else None)
    text = f"Thread {summary.id} is now called {summary.name}." if summary.name else f"Thread {summary.id} has no name."
    return _changed(text, summary)


async def thread_archive(call: Call) -> types.CallToolResult:
    fields = Fields(call.arguments, ("threadId",))
    summary = (await (await call.threads()).archive(fields.thread())).thread
    return _changed(f"Thread {summary.id} is archived.", summary)


async def thread_unarchive(call: Call) -> types.CallToolResult:
    fields = Fields(call.arguments, ("threadId",))
    summary = (await (await call.threads()).unarchive(fields.thread())).thread
    return _changed(f"Thread {summary.id} is back.", summary)


def _changed(text: str, summary: ThreadSummary) -> types.CallToolResult:
    return _answer(text, {"threadId": summary.id, "content": text, "thread": summary_json(summary)})


async def thread_status(call: Call) -> types.CallToolResult:
    fields = Fields(call.arguments, ("threadId",))
    status = await (await call.threads()).status(fields.thread())
    waiting = [question_text(open_.request) for open_ in call.desk.questions.of(status.turn_id or "")]
    owner = str(status.owner) if status.owner is not None else None
    text = f"Thread {status.thread_id} is {_state_text(status.state, owner)}."
    if status.turn_id is not None:
        text += f" {'Its turn' if status.state == 'running' else 'Its last turn'} {status.turn_id}"
        text += f" is {status.turn_status}." if status.turn_status else "."
    if status.queued:
        text += f" {status.queued} more wait behind it."
    if waiting:
        text += f" It waits for an approval: {' '.join(waiting)}"
    if status.last_message:
        text += f"\n\nLast message:\n{status.last_message}"
    return _answer(
        text,
        {
            "threadId": status.thread_id,
            "content": text,
            "state": status.state,
            "turnId": status.turn_id,
            "turnStatus": status.turn_status,
            "queued": status.queued,
            "owner": owner,
            "lastMessage": status.last_message,
            "waitingFor": waiting,
        },
    )


def _state_text(state: str, owner: str | None) -> str:
    return f"being written by {owner or 'another program'}" if state == "held" else state


async def thread_interrupt(call: Call) -> types.CallToolResult:
    fields = Fields(call.arguments, ("threadId",))
    threads = await call.threads()
    status = await threads.status(fields.thread())
    turn = threads.running(status.thread_id)
    if turn is None:
        if status.state == "held":
            raise ThreadBusy(status.thread_id, status.owner)
        text = f"No turn of thread {status.thread_id} is running."
        return _interrupted(text, status.thread_id, None, stopped=False)
    call.desk.interrupt(turn)
    ended = None
    with anyio.move_on_after(_INTERRUPT_WAIT):
        ended = await turn.wait()
    text = f"Turn {turn.turn_id} of thread {turn.thread_id} was "
    text += f"told to stop, and is {ended.status}." if ended else "told to stop; it is still ending."
    return _interrupted(text, turn.thread_id, turn.turn_id, stopped=ended is None or ended.status == "interrupted")


def _interrupted(text: str, thread_id: str, turn_id: str | None, *, stopped: bool) -> types.CallToolResult:
    return _answer(text, {"threadId": thread_id, "content": text, "turnId": turn_id, "interrupted": stopped})
