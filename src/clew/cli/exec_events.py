"""The lines of `clew exec --json`: a turn's events in the words that programs built on `codex exec` read.

Pure: events in, JSON objects out. Items are numbered `item_0`, `item_1`, … for this process, in the order they appear.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, cast

from clew.events import Event, Item, ItemCompleted, ItemStarted, Notice, TurnEnded, TurnStarted, Usage, UsageUpdated

__all__ = ["ExecEvents", "exec_item"]

Json = dict[str, Any]

_COLLAB_TOOLS = {"spawnAgent": "spawn_agent", "sendInput": "send_input", "wait": "wait", "closeAgent": "close_agent"}
_SILENT_STARTS = frozenset({"agent_message", "reasoning"})


class ExecEvents:
    """Turns the events of one run into lines. `notices` are told between the thread's start and the turn's."""

    def __init__(self, thread_id: str, notices: Iterable[str] = ()) -> None:
        self._thread_id = thread_id
        self._notices = tuple(notices)
        self._numbers: dict[str, str] = {}
        self._open: dict[str, Item] = {}
        self._count = 0
        self._total: Usage | None = None

    def lines(self, event: Event) -> list[Json]:
        """The lines one event stands for, often none (pieces of text are not told)."""
        match event:
            case TurnStarted():
                return [
                    {"type": "thread.started", "thread_id": self._thread_id},
                    *(self._notice(text) for text in self._notices),
                    {"type": "turn.started"},
                ]
            case ItemStarted(item=item):
                return self._started(item)
            case ItemCompleted(item=item):
                return self._completed(item)
            case Notice(message=message, level="warning"):
                return [self._notice(message)]
            case UsageUpdated(total=total):
                self._total = total
                return []
            case TurnEnded():
                return self._ended(event)
            case _:
                return []

    def _started(self, item: Item) -> list[Json]:
        shown = exec_item(item)
        if shown is None or shown["type"] in _SILENT_STARTS:
            return []
        self._open[item.id] = item
        if item.id not in self._numbers:
            self._numbers[item.id] = self._next_number()
        return [{"type": "item.started", "item": {"id": self._numbers[item.id], **shown}}]

    def _completed(self, item: Item) -> list[Json]:
        self._open.pop(item.id, None)
        shown = exec_item(item)
        if shown is None:
            return []
        number = self._numbers.pop(item.id, None) or self._next_number()
        return [{"type": "item.completed", "item": {"id": number, **shown}}]

    def _ended(self, event: TurnEnded) -> list[Json]:
        result = event.result
        if result.status == "interrupted":
            # The original tells neither an end nor a failure of a turn that was stopped from outside.
            return []
        out: list[Json] = []
        for item in tuple(self._open.values()):
            out += self._completed(Item(item.id, item.type, {**item.fields, "status": "failed"}))
        if result.status == "failed":
            message = (result.error.detail or result.error.message) if result.error else "the turn failed"
            return [
                *out,
                {"type": "error", "message": message},
                {"type": "turn.failed", "error": {"message": message}},
            ]
        # Programs expect the sums of the whole thread, not those of this turn.
        return [*out, {"type": "turn.completed", "usage": _usage(self._total or result.usage)}]

    def _notice(self, message: str) -> Json:
        return {"type": "item.completed", "item": {"id": self._next_number(), "type": "error", "message": message}}

    def _next_number(self) -> str:
        self._count += 1
        return f"item_{self._count - 1}"


def exec_item(item: Item) -> Json | None:
    """An item without its id as these programs read it; None for kinds they do not know (user messages, plans, …)."""
    fields = item.fields
    match item.type:
        case "agentMessage":
            return {"type": "agent_message", "text": str(fields.get("text") or "")}
        case "reasoning":
            text = "\n".join(_texts(fields.get("summary")))
            return {"type": "reasoning", "text": text} if text.strip() else None
        case "commandExecution":
            return {
                "type": "command_execution",
                "command": str(fields.get("command") or ""),
                "aggregated_output": str(fields.get("aggregatedOutput") or ""),
                "exit_code": fields.get("exitCode"),
                "status": _snake(fields.get("status")),
            }
        case "fileChange":
            return {
                "type": "file_change",
                "changes": [
                    {"path": change.get("path"), "kind": _kind(change.get("kind"))}
                    for change in cast("list[Json]", fields.get("changes") or [])
                ],
                "status": _plain_status(fields.get("status")),
            }
        case "mcpToolCall":
            return {
                "type": "mcp_tool_call",
                "server": fields.get("server"),
                "tool": fields.get("tool"),
                "arguments": fields.get("arguments"),
                "result": _mcp_result(fields.get("result")),
                "error": _mcp_error(fields.get("error")),
                "status": _plain_status(fields.get("status")),
            }
        case "collabAgentToolCall" if (tool := fields.get("tool")) in _COLLAB_TOOLS:
            states = cast("dict[str, Json]", fields.get("agentsStates") or {})
            return {
                "type": "collab_tool_call",
                "tool": _COLLAB_TOOLS[tool],
                "sender_thread_id": fields.get("senderThreadId"),
                "receiver_thread_ids": list(fields.get("receiverThreadIds") or ()),
                "prompt": fields.get("prompt"),
                "agents_states": {
                    thread: {"status": _snake(state.get("status")), "message": state.get("message")}
                    for thread, state in states.items()
                },
                "status": _plain_status(fields.get("status")),
            }
        case "webSearch":
            return {"type": "web_search", "query": str(fields.get("query") or ""), "action": fields.get("action")}
        case _:
            return None


def _texts(parts: Any) -> list[str]:
    """Texts of a list that holds strings or `{"text": …}` parts."""
    out: list[str] = []
    for part in cast("list[Any]", parts or []):
        if isinstance(part, str):
            out.append(part)
        elif isinstance(part, dict):
            out.append(str(cast("Json", part).get("text") or ""))
    return out


def _snake(word: Any) -> str:
    return re.sub(r"(?<=[a-z])([A-Z])", r"_\1", str(word or "in_progress")).lower()


def _plain_status(word: Any) -> str:
    """The three statuses that tools other than commands have; refused and interrupted calls have failed."""
    status = _snake(word)
    return status if status in ("in_progress", "completed") else "failed"


def _kind(kind: Any) -> str:
    return str(cast("Json", kind).get("type")) if isinstance(kind, dict) else str(kind)


def _mcp_result(result: Any) -> Json | None:
    if not isinstance(result, dict):
        return None
    known = cast("Json", result)
    out: Json = {"content": known.get("content") or []}
    if known.get("_meta") is not None:
        out["_meta"] = known["_meta"]
    out["structured_content"] = known.get("structuredContent")
    return out


def _mcp_error(error: Any) -> Json | None:
    if error is None:
        return None
    message = cast("Json", error).get("message") if isinstance(error, dict) else error
    return {"message": str(message)}


def _usage(usage: Usage) -> Json:
    return {
        "input_tokens": usage.input_tokens,
        "cached_input_tokens": usage.cached_input_tokens,
        "cache_write_input_tokens": usage.cache_write_input_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_output_tokens": usage.reasoning_output_tokens,
    }
