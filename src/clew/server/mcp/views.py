"""Threads and turns as JSON for programs and as text for readers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from clew.store.contracts import ThreadSummary
    from clew.threads import TurnView

__all__ = ["line_of", "summary_json", "turn_json", "turn_text"]

_LONGEST = 2000
"""Characters of one text in a page that is not asked for in full."""


def summary_json(thread: ThreadSummary) -> dict[str, Any]:
    return {
        "threadId": thread.id,
        "name": thread.name,
        "preview": thread.preview,
        "cwd": thread.cwd,
        "createdAt": thread.created_at,
        "updatedAt": thread.updated_at,
        "archived": thread.archived,
        "source": thread.source,
        "model": thread.model,
        "provider": thread.provider,
        "branch": thread.branch,
        "forkedFrom": thread.forked_from,
        "parentId": thread.parent_id,
        "path": thread.path,
        "error": thread.error,
    }


def line_of(thread: ThreadSummary) -> str:
    """One line: id, time, name or first prompt, folder."""
    title = thread.name or " ".join((thread.preview or "(no prompt)").split())
    title = title if len(title) <= 80 else f"{title[:79]}…"
    line = f"{thread.id}  {thread.updated_at[:16].replace('T', ' ')}  {title}"
    if thread.cwd:
        line += f"  [{thread.cwd}]"
    if thread.archived:
        line += "  (archived)"
    if thread.error:
        line += f"  (damaged: {thread.error})"
    return line


def turn_json(turn: TurnView, *, full: bool) -> dict[str, Any]:
    """A turn; unless `full`, long texts inside are cut and say so."""
    return {
        "turnId": turn.id,
        "status": turn.status,
        "startedAt": turn.started_at,
        "completedAt": turn.completed_at,
        "error": turn.error,
        "items": [dict(item) if full else _shortened(item) for item in turn.items],
    }


def turn_text(turn: TurnView, *, full: bool) -> str:
    lines = [f"Turn {turn.id} ({turn.status})"]
    lines += [text for item in turn.items if (text := _item_text(item if full else _shortened(item)))]
    if turn.error:
        lines.append(f"Error: {turn.error}")
    return "\n".join(lines)


def _item_text(item: dict[str, Any]) -> str:
    match item.get("type"):
        case "userMessage":
            return f"User: {_user_text(item)}"
        case "agentMessage":
            return f"Agent: {item.get('text', '')}"
        case "reasoning":
            summary = "\n".join(map(str, cast("list[Any]", item.get("summary") or [])))
            return f"Thought: {summary}" if summary else ""
        case "commandExecution":
            code = item.get("exitCode")
            ended = item.get("status", "") if code is None else f"exit {code}"
            output = item.get("aggregatedOutput") or ""
            return f"$ {item.get('command', '')}  ({ended})" + (f"\n{output.rstrip()}" if output else "")
        case "fileChange":
            changes: list[dict[str, Any]] = item.get("changes") or []
            paths = ", ".join(str(change.get("path", "")) for change in changes)
            return f"Changed: {paths} ({item.get('status', '')})"
        case "mcpToolCall" | "dynamicToolCall":
            return f"Called: {item.get('tool', '')} ({item.get('status', '')})"
        case "webSearch":
            return f"Searched: {item.get('query', '')}"
        case "contextCompaction":
            return "(the conversation was compacted here)"
        case other:
            return f"({other})"


def _user_text(item: dict[str, Any]) -> str:
    content: Any = item.get("content")
    if not isinstance(content, list):
        return str(item.get("text", ""))
    parts = cast("list[dict[str, Any]]", content)
    return "\n".join(
        str(part["text"]) if part.get("type") == "text" else f"[{part.get('type', 'part')}]" for part in parts
    )


def _shortened(value: Any) -> Any:
    if isinstance(value, str):
        left = len(value) - _LONGEST
        return value if left <= 0 else f"{value[:_LONGEST]}… [{left} characters left out]"
    if isinstance(value, dict):
        return {key: _shortened(item) for key, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_shortened(item) for item in cast("list[Any]", value)]
    return value
