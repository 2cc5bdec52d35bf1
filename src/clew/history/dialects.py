"""The items of a paginated log as the events of a legacy one, for readers that know no others."""

from __future__ import annotations

import re
from typing import Any, cast

from clew.history.payload import object_from, objects, part_texts, text, words
from clew.rollout.envelope import Line, Record

__all__ = ["as_legacy", "not_legacy"]

not_legacy = re.compile(
    rb'\{"timestamp":"[^"\\]*",(?:"ordinal":\d+,)?"type":"(?:session_meta"|event_msg","payload":\{"type":"item_completed")'
).match
"""Finds, in the bytes of a line, that `as_legacy` has something to say about it."""

_Object = dict[str, Any]


def as_legacy(record: Record) -> list[Line]:
    """What stands for a line of a paginated log in a legacy one: itself, mostly; nothing for a `session_meta`, which
    says how another file is read; for an item that legacy logs tell by an event of its own, that event."""
    if record.type == "session_meta":
        return []
    line = Line(record.type, record.payload, record.metadata)
    if record.type != "event_msg":
        return [line]
    event = object_from(record.payload)
    if event is None or event.get("type") != "item_completed" or not isinstance(event.get("item"), dict):
        return [line]
    told = _events(cast("_Object", event["item"]), text(event.get("turn_id")))
    return [line] if told is None else [Line("event_msg", event) for event in told]


def _events(item: _Object, turn_id: str | None) -> list[_Object] | None:
    """None: legacy logs tell such an item in the same way."""
    match item.get("type"):
        case "UserMessage":
            return [_user_message(item)]
        case "AgentMessage":
            said = "".join(part_texts(item.get("content"))) or text(item.get("text")) or ""
            event: _Object = {"type": "agent_message", "message": said}
            event |= {"phase": item.get("phase"), "memory_citation": item.get("memory_citation")}
            return [event] if said else []
        case "Reasoning":
            return [
                *({"type": "agent_reasoning", "text": part} for part in words(item.get("summary_text"))),
                *({"type": "agent_reasoning_raw_content", "text": part} for part in words(item.get("raw_content"))),
            ]
        case "FileChange":
            return [
                {
                    "type": "patch_apply_end",
                    "call_id": item.get("id"),
                    "turn_id": turn_id or "",
                    "stdout": item.get("stdout") or "",
                    "stderr": item.get("stderr") or "",
                    "success": item.get("status") == "completed",
                    "changes": item.get("changes") or {},
                    "status": item.get("status") or "completed",
                }
            ]
        case "ContextCompaction":
            return [{"type": "context_compacted"}]
        case "WebSearch":
            search: _Object = {"type": "web_search_end", "call_id": item.get("id"), "query": item.get("query") or ""}
            return [search | {"action": item.get("action") or {"type": "other"}}]
        case "ImageView":
            return [{"type": "view_image_tool_call", "call_id": item.get("id"), "path": item.get("path")}]
        case "McpToolCall":
            return [_mcp_call(item)]
        case "ImageGeneration":
            rest = {name: value for name, value in item.items() if name not in ("type", "id")}
            return [
                {"type": "image_generation_end", "call_id": item.get("id"), **rest, "result": rest.get("result", "")}
            ]
        case _:
            return None


def _user_message(item: _Object) -> _Object:
    said: list[str] = []
    elements: list[_Object] = []
    lists: dict[str, list[Any]] = {"images": [], "local_images": [], "audio": [], "local_audio": []}
    for part in objects(item.get("content")):
        match part.get("type"):
            case "text":
                said.append(text(part.get("text")) or "")
                elements += objects(part.get("text_elements"))
            case "image":
                lists["images"].append(part.get("image_url") or part.get("url"))
            case "local_image" | "localImage":
                lists["local_images"].append(part.get("path"))
            case "audio":
                lists["audio"].append(part.get("audio_url") or part.get("url"))
            case "local_audio" | "localAudio":
                lists["local_audio"].append(part.get("path"))
            case _:
                pass
    event: _Object = {"type": "user_message", "message": "\n".join(said)}
    event |= {"images": lists["images"], "local_images": lists["local_images"]}
    event["text_elements"] = elements if len(said) == 1 else []
    event |= {name: lists[name] for name in ("audio", "local_audio") if lists[name]}
    if (client_id := text(item.get("client_id"))) is not None:
        event["client_id"] = client_id
    return event


def _mcp_call(item: _Object) -> _Object:
    error: Any = item.get("error")
    failed = cast("_Object", error).get("message") if isinstance(error, dict) else error
    result = item.get("result")
    return {
        "type": "mcp_tool_call_end",
        "call_id": item.get("id"),
        "invocation": {name: item.get(name) for name in ("server", "tool", "arguments")},
        "duration": item.get("duration") or {"secs": 0, "nanos": 0},
        "result": {"Err": str(failed)} if failed is not None or result is None else {"Ok": result},
    }
