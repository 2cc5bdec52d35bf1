"""`codex/event` notifications: what a turn does, in the words of the older server, without its raw items."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any, cast

import mcp_types as types

from clew.clock import Clock
from clew.events import (
    ApprovalAsked,
    ApprovalRequest,
    Event,
    Item,
    ItemCompleted,
    ItemStarted,
    Notice,
    TurnEnded,
    TurnStarted,
    Usage,
    UsageUpdated,
)
from clew.server.mcp.approvals import script_of
from clew.server.mcp.wire import Wire
from clew.settings import Sandbox, SandboxMode, Settings

__all__ = ["CodexEvents"]

_METHOD = "codex/event"


class CodexEvents:
    """The event notifications of one call."""

    def __init__(self, wire: Wire, *, request_id: types.RequestId | None, thread_id: str, clock: Clock) -> None:
        self._wire = wire
        self._meta: dict[str, Any] = {"requestId": request_id, "threadId": thread_id}
        self._thread_id = thread_id
        self._clock = clock
        self._started_at: float | None = None
        self._window: int | None = None

    def continued(self, request_id: types.RequestId | None) -> None:
        """From now on the events belong to the call that was made again."""
        self._meta = {**self._meta, "requestId": request_id}

    async def configured(self, settings: Settings, *, rollout_path: str | None) -> None:
        """The first event: the thread and its settings."""
        message: dict[str, Any] = {
            "type": "session_configured",
            "session_id": self._thread_id,
            "thread_id": self._thread_id,
            "model": settings.model,
            "model_provider_id": settings.provider,
            "approval_policy": settings.approval.value,
            "approvals_reviewer": "user",
            "permission_profile": _permissions(settings.sandbox),
            "cwd": settings.cwd,
        }
        if settings.effort is not None:
            message["reasoning_effort"] = settings.effort
        if rollout_path is not None:
            message["rollout_path"] = rollout_path
        await self._send("", message)

    async def see(self, event: Event) -> None:
        """Send what an event of the turn is in the older words, if it is anything there."""
        for message in self._messages(event):
            await self._send(event.turn_id, message)

    async def _send(self, event_id: str, message: Mapping[str, Any]) -> None:
        await self._wire.notify(_METHOD, {"_meta": self._meta, "id": event_id, "msg": message})

    def _messages(self, event: Event) -> Iterator[dict[str, Any]]:
        match event:
            case TurnStarted(turn_id=turn_id):
                self._started_at = self._clock.now()
                yield {
                    "type": "task_started",
                    "turn_id": turn_id,
                    "started_at": int(self._started_at),
                    "model_context_window": self._window,
                    "collaboration_mode_kind": "default",
                }
            case ItemStarted(turn_id=turn_id, item=item):
                yield from _begun(item, turn_id, self._milliseconds())
            case ItemCompleted(turn_id=turn_id, item=item):
                yield from _completed(item, turn_id, self._milliseconds())
            case ApprovalAsked(request=request):
                yield _asked(request, self._milliseconds())
            case UsageUpdated(last=last, total=total, context_window=window):
                self._window = window
                yield {
                    "type": "token_count",
                    "info": {
                        "total_token_usage": _usage(total),
                        "last_token_usage": _usage(last),
                        "model_context_window": window,
                    },
                    "rate_limits": None,
                }
            case Notice(message=text):
                yield {"type": "warning", "message": text}
            case TurnEnded():
                yield from self._ended(event)
            case _:
                pass  # deltas: the older server sent none either

    def _ended(self, event: TurnEnded) -> Iterator[dict[str, Any]]:
        result, now = event.result, self._clock.now()
        began = now if self._started_at is None else self._started_at
        times = {"started_at": int(began), "completed_at": int(now), "duration_ms": int((now - began) * 1000)}
        if result.status == "interrupted":
            yield {"type": "turn_aborted", "turn_id": event.turn_id, "reason": "interrupted", **times}
            return
        complete: dict[str, Any] = {
            "type": "task_complete",
            "turn_id": event.turn_id,
            "last_agent_message": result.last_message,
        }
        if result.status == "failed":
            why = {
                "message": result.error.message if result.error else "",
                "codex_error_info": result.error.kind if result.error else "other",
            }
            yield {"type": "error", **why}
            complete["error"] = why
        yield {**complete, **times}

    def _milliseconds(self) -> int:
        return int(self._clock.now() * 1000)


def _begun(item: Item, turn_id: str, now: int) -> Iterator[dict[str, Any]]:
    common = {"call_id": item.id, "turn_id": turn_id}
    match item.type:
        case "commandExecution":
            yield {"type": "exec_command_begin", **common, "started_at_ms": now, **_command(item.fields)}
        case "fileChange":
            yield {
                "type": "patch_apply_begin",
                **common,
                "auto_approved": True,
                "changes": _changes(item.fields),
            }
        case "mcpToolCall" | "dynamicToolCall":
            yield {"type": "mcp_tool_call_begin", **common, "invocation": _invocation(item.fields)}
        case "webSearch":
            yield {"type": "web_search_begin", "call_id": item.id}
        case _:
            pass


def _completed(item: Item, turn_id: str, now: int) -> Iterator[dict[str, Any]]:
    fields = item.fields
    common = {"call_id": item.id, "turn_id": turn_id}
    match item.type:
        case "userMessage":
            yield {"type": "user_message", "message": _text(fields), "images": [], "local_images": []}
        case "agentMessage":
            yield {
                "type": "agent_message",
                "message": fields.get("text", ""),
                "phase": fields.get("phase"),
                "memory_citation": None,
            }
        case "reasoning":
            for text in _texts(fields.get("summary")):
                yield {"type": "agent_reasoning", "text": text}
        case "commandExecution":
            output = fields.get("aggregatedOutput") or ""
            took = int(fields.get("durationMs") or 0)
            code = fields.get("exitCode")
            yield {
                "type": "exec_command_end",
                **common,
                "completed_at_ms": now,
                **_command(fields),
                "stdout": output,
                "stderr": "",
                "aggregated_output": output,
                "exit_code": -1 if code is None else code,
                "duration": {"secs": took // 1000, "nanos": took % 1000 * 1_000_000},
                "formatted_output": output,
                "status": _snake(str(fields.get("status", "completed"))),
            }
        case "fileChange":
            status = _snake(str(fields.get("status", "completed")))
            yield {
                "type": "patch_apply_end",
                **common,
                "stdout": "",
                "stderr": "",
                "success": status == "completed",
                "changes": _changes(fields),
                "status": status,
            }
        case "mcpToolCall" | "dynamicToolCall":
            yield {
                "type": "mcp_tool_call_end",
                **common,
                "invocation": _invocation(fields),
                "result": fields.get("result"),
            }
        case "webSearch":
            yield {"type": "web_search_end", "call_id": item.id, "query": fields.get("query", "")}
        case "contextCompaction":
            yield {"type": "context_compacted"}
        case _:
            pass


def _asked(request: ApprovalRequest, now: int) -> dict[str, Any]:
    message: dict[str, Any] = {"call_id": request.call_id, "turn_id": request.turn_id, "started_at_ms": now}
    if request.kind == "command":
        message |= {
            "type": "exec_approval_request",
            "command": list(request.command),
            "cwd": request.cwd,
            "available_decisions": ["approved", "approved_for_session", "denied", "abort"],
            "parsed_cmd": [{"type": "unknown", "cmd": script_of(request.command)}],
        }
    else:
        message |= {"type": "apply_patch_approval_request", "changes": request.changes}
    if request.reason:
        message["reason"] = request.reason
    return message


def _command(fields: Mapping[str, Any]) -> dict[str, Any]:
    line = str(fields.get("command", ""))
    try:
        argv = shlex.split(line)
    except ValueError:
        argv = [line]
    return {
        "process_id": fields.get("processId"),
        "command": argv,
        "cwd": fields.get("cwd"),
        "parsed_cmd": [{"type": "unknown", "cmd": script_of(argv)}],
        "source": _snake(str(fields.get("source") or "agent")),
    }


def _changes(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The changes of an item (a list with diffs) as the map by path that the older words use."""
    changes: dict[str, Any] = {}
    for change in cast("list[dict[str, Any]]", fields.get("changes") or []):
        kind: Any = change.get("kind")
        word: Any = cast("dict[str, Any]", kind).get("type") if isinstance(kind, dict) else kind
        diff = change.get("diff", "")
        if word == "update":
            moved = cast("dict[str, Any]", kind).get("move_path") if isinstance(kind, dict) else None
            changes[str(change.get("path"))] = {"type": "update", "unified_diff": diff, "move_path": moved}
        else:
            changes[str(change.get("path"))] = {"type": word, "content": diff}
    return changes


def _invocation(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "server": fields.get("server") or fields.get("namespace") or "",
        "tool": fields.get("tool", ""),
        "arguments": fields.get("arguments"),
    }


def _text(fields: Mapping[str, Any]) -> str:
    content: Any = fields.get("content")
    if not isinstance(content, list):
        return str(fields.get("text", ""))
    return "".join(str(part.get("text", "")) for part in cast("list[dict[str, Any]]", content))


def _texts(value: Any) -> list[str]:
    return [text for text in cast("list[Any]", value) if isinstance(text, str)] if isinstance(value, list) else []


def _usage(usage: Usage) -> dict[str, int]:
    return {name: getattr(usage, name) for name in usage.__struct_fields__}


def _permissions(sandbox: Sandbox) -> dict[str, Any]:
    """The sandbox as the profile the older event carries."""
    if sandbox.mode is SandboxMode.FULL_ACCESS:
        return {"type": "disabled"}
    entries: list[dict[str, Any]] = [{"path": {"type": "special", "value": {"kind": "root"}}, "access": "read"}]
    if sandbox.mode is SandboxMode.WORKSPACE_WRITE:
        kinds = ["project_roots"]
        if not sandbox.exclude_slash_tmp:
            kinds.append("slash_tmp")
        if not sandbox.exclude_tmpdir_env_var:
            kinds.append("tmpdir")
        entries += [{"path": {"type": "special", "value": {"kind": kind}}, "access": "write"} for kind in kinds]
        entries += [{"path": {"type": "path", "path": root}, "access": "write"} for root in sandbox.writable_roots]
    network = sandbox.network_access and sandbox.mode is SandboxMode.WORKSPACE_WRITE
    return {
        "type": "managed",
        "file_system": {"type": "restricted", "entries": entries},
        "network": "enabled" if network else "restricted",
    }


def _snake(word: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in word)
