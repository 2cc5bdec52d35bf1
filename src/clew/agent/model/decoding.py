"""From server-sent events to model events: what a response says, item by item."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import msgspec

from clew.agent.model.contracts import (
    Completed,
    Created,
    ItemAdded,
    ItemDone,
    ModelEvent,
    Opened,
    ReasoningDelta,
    TextDelta,
)
from clew.agent.model.faults import failure_error, incomplete_error
from clew.agent.model.sse import ServerEvent
from clew.errors import ModelError
from clew.events import Usage

__all__ = ["ResponseReader", "read_usage"]


class _Event(msgspec.Struct):
    """The fields of all events that are used; `item` stays raw, for it is kept as it came."""

    type: str = ""
    item: msgspec.Raw = msgspec.Raw()
    response: msgspec.Raw = msgspec.Raw()
    item_id: Any = None
    delta: Any = None
    summary_index: Any = None
    content_index: Any = None
    headers: Any = None
    error: Any = None
    code: Any = None
    message: Any = None


class ResponseReader:
    """Reads one response. What cannot be read is skipped and counted in `skipped`; unknown events are ignored."""

    def __init__(self) -> None:
        self.skipped = 0
        self._events = msgspec.json.Decoder(_Event)
        self._item_id = ""  # of the item that is open, for endpoints whose deltas do not say

    def read(self, event: ServerEvent) -> Iterator[ModelEvent]:
        """What this event says. Raises `ModelError` for one that ends the response without completing it."""
        if event.data.strip() == b"[DONE]":
            return
        try:
            said = self._events.decode(event.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.skipped += 1
            return
        match said.type or event.name:
            case "response.output_item.done":
                item = self._object(said.item)
                if item is not None:
                    # Newlines can only stand between tokens; a line of the log must not contain any.
                    raw = bytes(said.item).replace(b"\r", b" ").replace(b"\n", b" ")
                    yield ItemDone(raw, item)
            case "response.output_text.delta":
                if isinstance(said.delta, str):
                    yield TextDelta(self._id(said), said.delta)
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                if isinstance(said.delta, str):
                    part = said.summary_index if isinstance(said.summary_index, int) else said.content_index
                    yield ReasoningDelta(self._id(said), said.delta, part if isinstance(part, int) else 0)
            case "response.output_item.added":
                item = self._object(said.item)
                if item is not None:
                    self._item_id = str(item.get("id") or "")
                    yield ItemAdded(item)
            case "response.created":
                response = self._object(said.response)
                if response is not None:
                    yield Created(str(response.get("id") or ""))
            case "response.completed":
                yield self._completed(said)
            case "response.failed":
                response = self._object(said.response) or {}
                raise failure_error(response.get("error"))
            case "response.incomplete":
                response = self._object(said.response) or {}
                raise incomplete_error(response.get("incomplete_details"))
            case "error":
                raise failure_error(said.error or {"code": said.code, "message": said.message})
            case "response.metadata":
                added: object = said.headers
                state = cast("dict[str, Any]", added).get("x-codex-turn-state") if isinstance(added, dict) else None
                if isinstance(state, str):
                    yield Opened(turn_state=state)
            case _:
                pass

    def _completed(self, said: _Event) -> Completed:
        response = self._object(said.response) or {}
        response_id = response.get("id")
        if not isinstance(response_id, str):
            raise ModelError("the final event of the response could not be read", kind="stream")
        end_turn = response.get("end_turn")
        return Completed(
            response_id=response_id,
            usage=read_usage(response.get("usage")),
            end_turn=end_turn if isinstance(end_turn, bool) else None,
            skipped=self.skipped,
        )

    def _object(self, raw: msgspec.Raw) -> dict[str, Any] | None:
        try:
            value: object = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            value = None
        if isinstance(value, dict):
            return cast("dict[str, Any]", value)
        self.skipped += 1
        return None

    def _id(self, said: _Event) -> str:
        return said.item_id if isinstance(said.item_id, str) else self._item_id


def read_usage(value: object) -> Usage | None:
    """The token counts of a response; None where there are none. Details may be missing or null."""
    if not isinstance(value, dict):
        return None
    usage = cast("dict[str, Any]", value)

    def count(name: str, inside: str | None = None) -> int:
        holder: object = usage if inside is None else usage.get(inside)
        number = cast("dict[str, Any]", holder).get(name) if isinstance(holder, dict) else None
        return number if isinstance(number, int) else 0

    sent, received = count("input_tokens"), count("output_tokens")
    return Usage(
        input_tokens=sent,
        cached_input_tokens=count("cached_tokens", "input_tokens_details"),
        cache_write_input_tokens=count("cache_write_tokens", "input_tokens_details"),
        output_tokens=received,
        reasoning_output_tokens=count("reasoning_tokens", "output_tokens_details"),
        total_tokens=count("total_tokens") or sent + received,
    )
