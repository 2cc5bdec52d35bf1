"""Items as people see them: the log's own spellings turned into camelCase JSON objects with a `type` and an `id`.

Paginated files hold items (`item_completed`), legacy ones hold an event per kind; both lead to the same objects.
Kinds that are not known here pass through with their members renamed.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any, cast

from clew.history.payload import integer, objects, part_texts, path_text, text, words

__all__ = ["Shown", "agent_message", "camel", "event_item", "reasoning", "shown_item", "user_message"]

Shown = dict[str, Any]
"""One item: `type`, `id`, then what belongs to its kind; `startedAtMs` and `completedAtMs` last."""

_SAFE_WORD = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")


def camel(name: str) -> str:
    """`spawn_agent` → `spawnAgent`; camelCase and PascalCase begin small."""
    first, *rest = name.split("_")
    return first[:1].lower() + first[1:] + "".join(word[:1].upper() + word[1:] for word in rest)


def shown_item(item: dict[str, Any], started_ms: int | None = None, completed_ms: int | None = None) -> Shown | None:
    """A stored item (`item_completed.item`, tagged in PascalCase); None for what has no type or id."""
    kind, item_id = text(item.get("type")), text(item.get("id"))
    if kind is None or item_id is None:
        return None
    make = _KINDS.get(kind)
    if make is not None:
        body = make(item)
    else:
        body = {camel(name): value for name, value in item.items() if name not in ("type", "id")}
    shown: Shown = {"type": camel(kind), "id": item_id, **body}
    return {**shown, "startedAtMs": started_ms, "completedAtMs": completed_ms}


def user_message(item_id: str, event: dict[str, Any]) -> Shown:
    """From a legacy `user_message` event."""
    content: list[dict[str, Any]] = []
    if message := text(event.get("message")):
        content.append({"type": "text", "text": message, "text_elements": event.get("text_elements") or []})
    content += [{"type": "image", "url": url, "detail": None} for url in words(event.get("images"))]
    content += [{"type": "localImage", "detail": None, "path": path} for path in words(event.get("local_images"))]
    content += [{"type": "audio", "url": url} for url in words(event.get("audio"))]
    content += [{"type": "localAudio", "path": path} for path in words(event.get("local_audio"))]
    client_id = text(event.get("client_id"))
    return _timeless({"type": "userMessage", "id": item_id, "clientId": client_id, "content": content})


def agent_message(item_id: str, said: str, event: dict[str, Any]) -> Shown:
    """From a legacy `agent_message` event."""
    return _timeless({"type": "agentMessage", "id": item_id, **_agent_body(said, event)})


def reasoning(item_id: str) -> Shown:
    """An empty one; `summary` and `content` are lists to be filled."""
    return _timeless({"type": "reasoning", "id": item_id, "summary": [], "content": []})


def event_item(event: dict[str, Any], fresh_id: str) -> Shown | None:
    """The item of a legacy event that ends one (`patch_apply_end`, `web_search_end`, …); `fresh_id` is for kinds that
    carry no id. None for other events."""
    kind = event.get("type")
    call_id = text(event.get("call_id")) or fresh_id
    match kind:
        case "patch_apply_end":
            status = text(event.get("status")) or ("completed" if event.get("success") else "failed")
            stored = {"type": "FileChange", "changes": event.get("changes"), "status": status}
        case "exec_command_end":
            failed = integer(event.get("exit_code")) not in (0, None)
            status = text(event.get("status")) or ("failed" if failed else "completed")
            stored = {**event, "type": "CommandExecution", "status": status}
        case "mcp_tool_call_end":
            stored = _mcp_stored(event)
        case "web_search_end":
            stored = {"type": "WebSearch", "query": event.get("query"), "action": event.get("action")}
        case "image_generation_end":
            stored = {**event, "type": "ImageGeneration"}
            for name in ("call_id", "turn_id", "result"):
                stored.pop(name, None)
        case "view_image_tool_call":
            stored = {"type": "ImageView", "path": event.get("path")}
        case "sub_agent_activity":
            stored = {**event, "type": "SubAgentActivity"}
            call_id = text(event.get("id")) or text(event.get("event_id")) or call_id
        case "entered_review_mode":
            stored, call_id = {**event, "type": "EnteredReviewMode"}, fresh_id
        case "exited_review_mode":
            stored, call_id = {**event, "type": "ExitedReviewMode"}, fresh_id
        case "context_compacted":
            stored, call_id = {"type": "ContextCompaction"}, fresh_id
        case _:
            return None
    return shown_item({**stored, "id": call_id})


def _timeless(shown: Shown) -> Shown:
    return {**shown, "startedAtMs": None, "completedAtMs": None}


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _word(value: Any, default: str) -> str:
    return camel(text(value) or default)


def _path(value: Any) -> str:
    return path_text(value) or ""


def _milliseconds(value: Any) -> int | None:
    if isinstance(value, dict):
        span = cast("dict[str, Any]", value)
        return (integer(span.get("secs")) or 0) * 1000 + (integer(span.get("nanos")) or 0) // 1_000_000
    return None


def _user(item: dict[str, Any]) -> Shown:
    content: list[dict[str, Any]] = []
    for part in objects(item.get("content")):
        match part.get("type"):
            case "text":
                elements = objects(part.get("text_elements"))
                content.append({"type": "text", "text": text(part.get("text")) or "", "text_elements": elements})
            case "image":
                url = text(part.get("image_url")) or text(part.get("url")) or ""
                content.append({"type": "image", "url": url, "detail": part.get("detail")})
            case "local_image" | "localImage":
                content.append({"type": "localImage", "detail": part.get("detail"), "path": part.get("path")})
            case other:
                content.append({**part, "type": _word(other, "unknown")})
    return {"clientId": text(item.get("client_id")), "content": content}


def _agent_body(said: str, stored: dict[str, Any]) -> Shown:
    return {
        "moderation": None,
        "text": said,
        "phase": text(stored.get("phase")),
        "memoryCitation": stored.get("memory_citation"),
        "delivery": stored.get("delivery"),
        "questions": stored.get("questions"),
    }


def _agent(item: dict[str, Any]) -> Shown:
    return _agent_body("".join(part_texts(item.get("content"))) or text(item.get("text")) or "", item)


def _reasoning(item: dict[str, Any]) -> Shown:
    return {"summary": words(item.get("summary_text")), "content": words(item.get("raw_content"))}


def _plan(item: dict[str, Any]) -> Shown:
    return {"text": text(item.get("text")) or ""}


def _command(item: dict[str, Any]) -> Shown:
    command: Any = item.get("command")
    line = " ".join(map(_quoted, words(command))) if isinstance(command, list) else text(command) or ""
    actions: list[dict[str, Any]] = []
    for action in objects(item.get("parsed_cmd")):
        inner = {name: value for name, value in action.items() if name not in ("type", "cmd")}
        if action.get("type") == "read" and (read := text(action.get("path"))):
            inner["path"] = posixpath.join(_path(item.get("cwd")), read)
        actions.append(
            {"type": _word(action.get("type"), "unknown"), "command": text(action.get("cmd")) or "", **inner}
        )
    output = text(item.get("aggregated_output"))
    return {
        "pluginId": None,
        "scriptPath": None,
        "command": line,
        "cwd": _path(item.get("cwd")),
        "processId": text(item.get("process_id")),
        "source": _word(item.get("source"), "agent"),
        "status": _word(item.get("status"), "completed"),
        "commandActions": actions,
        "aggregatedOutput": (text(item.get("stdout")) if output is None else output) or None,
        "exitCode": integer(item.get("exit_code")),
        "durationMs": _milliseconds(item.get("duration")),
    }


def _quoted(word: str) -> str:
    """One word of a shell line, quoted only where it must be."""
    if _SAFE_WORD.fullmatch(word):
        return word
    if "'" not in word:
        return f"'{word}'"
    return '"' + re.sub(r'(["$`\\])', r"\\\1", word) + '"'


def _file_change(item: dict[str, Any]) -> Shown:
    changes: list[dict[str, Any]] = []
    for path, value in sorted(_object(item.get("changes")).items()):
        change = _object(value)
        kind = text(change.get("type")) or "update"
        if kind == "update":
            diff = text(change.get("unified_diff")) or ""
            moved = text(change.get("move_path"))
            shown: dict[str, Any] = {"type": kind, "move_path": moved}
            if moved:
                diff += f"\n\nMoved to: {moved}"
        else:
            diff, shown = text(change.get("content")) or "", {"type": kind}
        changes.append({"path": path, "kind": shown, "diff": diff})
    return {"changes": changes, "status": _word(item.get("status"), "completed")}


def _mcp_stored(event: dict[str, Any]) -> dict[str, Any]:
    call, outcome = _object(event.get("invocation")), _object(event.get("result"))
    failed = outcome.get("Err")
    result = outcome.get("Ok")
    broken = failed is not None or _object(result).get("is_error") is True or _object(result).get("isError") is True
    return {
        "type": "McpToolCall",
        "server": call.get("server"),
        "tool": call.get("tool"),
        "arguments": call.get("arguments"),
        "status": "failed" if broken else "completed",
        "result": result,
        "error": {"message": failed} if isinstance(failed, str) else None,
        "duration": event.get("duration"),
    }


def _mcp(item: dict[str, Any]) -> Shown:
    result = item.get("result")
    return {
        "server": text(item.get("server")) or "",
        "tool": text(item.get("tool")) or "",
        "status": _word(item.get("status"), "completed"),
        "arguments": item.get("arguments"),
        "result": {camel(name) if name != "_meta" else name: value for name, value in _object(result).items()} or None,
        "error": item.get("error"),
        "durationMs": _milliseconds(item.get("duration")),
    }


def _dynamic(item: dict[str, Any]) -> Shown:
    return {
        "namespace": text(item.get("namespace")),
        "tool": text(item.get("tool")) or "",
        "arguments": item.get("arguments"),
        "status": _word(item.get("status"), "completed"),
        "contentItems": item.get("content_items"),
        "success": item.get("success"),
        "durationMs": _milliseconds(item.get("duration")),
    }


def _collab(item: dict[str, Any]) -> Shown:
    states: dict[str, Any] = {}
    for agent, state in _object(item.get("agents_states")).items():
        if isinstance(state, dict):
            for name, message in cast("dict[str, Any]", state).items():
                states[agent] = {"status": camel(name), "message": text(message)}
        else:
            states[agent] = {"status": _word(state, "unknown"), "message": None}
    return {
        "tool": _word(item.get("tool"), "unknown"),
        "status": _word(item.get("status"), "completed"),
        "senderThreadId": text(item.get("sender_thread_id")) or "",
        "receiverThreadIds": words(item.get("receiver_thread_ids")),
        "prompt": text(item.get("prompt")),
        "model": text(item.get("model")),
        "reasoningEffort": text(item.get("reasoning_effort")),
        "agentsStates": states,
    }


def _sub_agent(item: dict[str, Any]) -> Shown:
    return {
        "model": text(item.get("model")),
        "reasoningEffort": text(item.get("reasoning_effort")),
        "kind": _word(item.get("kind"), "unknown"),
        "agentThreadId": text(item.get("agent_thread_id")) or "",
        "agentPath": text(item.get("agent_path")) or "",
    }


def _web_search(item: dict[str, Any]) -> Shown:
    action = {camel(name): value for name, value in _object(item.get("action")).items()} or None
    if action is not None:
        action["type"] = _word(action.get("type"), "other")
        if action["type"] == "search":
            action = {"query": None, "queries": None, **action}
    return {"query": text(item.get("query")) or "", "action": action, "results": item.get("results")}


def _image_view(item: dict[str, Any]) -> Shown:
    return {"path": _path(item.get("path"))}


def _entered_review(item: dict[str, Any]) -> Shown:
    hint = text(item.get("user_facing_hint")) or text(item.get("review"))
    return {"review": hint or text(_object(item.get("target")).get("instructions")) or ""}


def _exited_review(item: dict[str, Any]) -> Shown:
    if (review := text(item.get("review"))) is not None:
        return {"review": review}
    output = _object(item.get("review_output"))
    parts = [explanation] if (explanation := (text(output.get("overall_explanation")) or "").strip()) else []
    for finding in objects(output.get("findings")):
        place = _object(finding.get("code_location"))
        lines = _object(place.get("line_range"))
        where = _path(place.get("absolute_file_path"))
        head = f"- {text(finding.get('title')) or 'Finding'}"
        if where:
            head += f" — {where}:{lines.get('start', '?')}-{lines.get('end', '?')}"
        body = (text(finding.get("body")) or "").splitlines()
        parts.append("\n".join([head, *(f"  {line}" for line in body)]))
    return {"review": "\n\n".join(parts) or "The reviewer gave no answer."}


def _compaction(_: dict[str, Any]) -> Shown:
    return {}


def _hook_prompt(item: dict[str, Any]) -> Shown:
    fragments = [{camel(name): value for name, value in part.items()} for part in objects(item.get("fragments"))]
    return {"fragments": fragments}


_KINDS = {
    "UserMessage": _user,
    "AgentMessage": _agent,
    "Reasoning": _reasoning,
    "Plan": _plan,
    "CommandExecution": _command,
    "FileChange": _file_change,
    "McpToolCall": _mcp,
    "DynamicToolCall": _dynamic,
    "CollabAgentToolCall": _collab,
    "SubAgentActivity": _sub_agent,
    "WebSearch": _web_search,
    "ImageView": _image_view,
    "EnteredReviewMode": _entered_review,
    "ExitedReviewMode": _exited_review,
    "ContextCompaction": _compaction,
    "HookPrompt": _hook_prompt,
}
