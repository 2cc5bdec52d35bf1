"""What a list says about a thread, from its first lines: who it is, and how it began."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, cast

import msgspec

from clew.history.contextual import is_contextual
from clew.history.metadata import ThreadMeta, read_meta
from clew.history.payload import object_from, objects, part_texts, text
from clew.rollout.envelope import Record, Skipped, payload_kind

__all__ = ["HEAD_LINES", "Summary", "goal_text", "opening_text", "preview_text", "summarise", "summarise_head"]

HEAD_LINES = 210
"""How many lines a cheap summary looks at before it gives up on a preview."""

_MARKER = "## My request for Codex:"


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A thread in a list. `preview` is its first user message (or its goal); `model` the one it last recorded."""

    meta: ThreadMeta
    preview: str | None = None
    cwd: str | None = None
    model: str | None = None


def preview_text(message: str, *, images: bool = False) -> str | None:
    """The user's own words: behind the marker that editors put before them, trimmed. `[Image]` for nothing but one."""
    said = message.partition(_MARKER)[2] if _MARKER in message else message
    return said.strip() or ("[Image]" if images else None)


def summarise(head: Record | None, records: Iterable[Record | Skipped], *, path: str = "") -> Summary:
    """From all lines, oldest first, inherited ones in front. Raises `UnsupportedHistory` (`path` names the file)."""
    return _summarise(read_meta(head, path=path), records, whole=True)


def summarise_head(
    head: Record | None, records: Iterable[Record | Skipped], *, limit: int = HEAD_LINES, path: str = ""
) -> Summary:
    """The same from as few lines as it takes, `limit` at most: reading ends with the preview and a first model."""
    return _summarise(read_meta(head, path=path), islice(records, limit), whole=False)


def _summarise(meta: ThreadMeta, records: Iterable[Record | Skipped], *, whole: bool) -> Summary:
    preview = inferred = goal = model = cwd = None
    events = False
    for record in records:
        if isinstance(record, Skipped):
            continue
        if record.type == "event_msg":
            kind = payload_kind(record.payload)
            if kind in ("user_message", "item_completed", "thread_goal_updated"):
                if preview is None and (event := object_from(record.payload)):
                    if kind == "thread_goal_updated":
                        goal = goal or goal_text(event)
                        events = True
                    else:
                        preview = opening_text(event)
                        events = events or preview is not None
            elif kind == "thread_settings_applied":
                applied = _object((object_from(record.payload) or {}).get("thread_settings"))
                model, cwd = text(applied.get("model")) or model, text(applied.get("cwd")) or cwd
            elif kind in ("agent_message", "task_started", "turn_started"):
                events = True
        elif record.type == "turn_context" and (whole or model is None):
            turn = object_from(record.payload) or {}
            model = text(turn.get("model")) or model
            meta_cwd = meta.cwd or cwd
            cwd = cwd if meta_cwd else text(turn.get("cwd"))
        elif record.type == "response_item" and not events and inferred is None:
            inferred = _inferred(record)
        if not whole and preview is not None and model is not None:
            break
    first = preview or goal
    if first is None and not events:
        # Only the oldest files hold no events at all.
        first = inferred
    return Summary(meta=meta, preview=first, cwd=cwd or meta.cwd, model=model)


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def goal_text(event: dict[str, Any]) -> str | None:
    """The objective of a `thread_goal_updated` event."""
    return (text(_object(event.get("goal")).get("objective")) or "").strip() or None


def opening_text(event: dict[str, Any]) -> str | None:
    """What a `user_message` event, or an `item_completed` of a user, gives as preview."""
    if event.get("type") == "user_message":
        images = bool(event.get("images") or event.get("local_images"))
        return preview_text(text(event.get("message")) or "", images=images)
    item = _object(event.get("item"))
    if item.get("type") != "UserMessage":
        return None
    parts = objects(item.get("content"))
    images = any(part.get("type") in ("image", "local_image") for part in parts)
    said = "".join(part["text"] for part in parts if part.get("type") == "text" and isinstance(part.get("text"), str))
    return preview_text(said, images=images)


def _inferred(record: Record) -> str | None:
    if b'"user"' not in bytes(record.payload):
        return None
    item = object_from(record.payload) or {}
    if item.get("type") != "message" or item.get("role") != "user" or is_contextual(item):
        return None
    return preview_text("\n".join(part_texts(item.get("content"))))
