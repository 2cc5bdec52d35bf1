"""What a session asks of a model and what it hears back, whatever stands behind: an endpoint or the offline model."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Literal, Protocol

import msgspec

from clew.config.providers import Provider
from clew.events import Usage

__all__ = [
    "Completed",
    "Created",
    "ItemAdded",
    "ItemDone",
    "ModelClient",
    "ModelEvent",
    "ModelRequest",
    "Opened",
    "RateLimits",
    "RateWindow",
    "ReasoningDelta",
    "TextDelta",
]


class ModelRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request for one response.

    `input` are the response items as they are to be sent, already normalised. `instructions` are the base
    instructions. `tools` are definitions in the endpoint's own form. `effort` and `summary` are the reasoning
    settings (None: not sent). `output_schema` is a JSON schema the last message must follow. `turn_state` is the
    value of `Opened.turn_state` from an earlier response of the same turn. `window_number` counts compactions.
    """

    provider: Provider
    model: str
    input: Sequence[dict[str, Any]]
    thread_id: str
    session_id: str
    turn_id: str
    instructions: str | None = None
    tools: Sequence[dict[str, Any]] = ()
    parallel_tool_calls: bool = True
    effort: str | None = None
    summary: str | None = None
    output_schema: dict[str, Any] | None = None
    window_number: int = 0
    request_kind: Literal["turn", "compaction"] = "turn"
    turn_state: str | None = None


class RateWindow(msgspec.Struct, frozen=True, kw_only=True):
    """One limit: `used_percent` 0 to 100, its length in minutes, and when it starts anew (seconds since 1970)."""

    used_percent: float
    window_minutes: int | None = None
    resets_at: int | None = None


class RateLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The account's limits as the endpoint told them with this response; None where it did not."""

    primary: RateWindow | None = None
    secondary: RateWindow | None = None


class Opened(msgspec.Struct, frozen=True, kw_only=True, tag="opened"):
    """What the endpoint said about a response besides its events: once in front, and again when something is added.

    `turn_state` belongs into later requests of the same turn. `rerouted_to` names the model that answered where it is
    not the one asked for. `reasoning_included` says that the token counts cover earlier reasoning.
    """

    turn_state: str | None = None
    rerouted_to: str | None = None
    reasoning_included: bool = False
    rate_limits: RateLimits | None = None


class Created(msgspec.Struct, frozen=True, tag="created"):
    """The endpoint accepted the request."""

    response_id: str


class ItemAdded(msgspec.Struct, frozen=True, tag="item_added"):
    """An output item begins; `item` is its incomplete form. For display only."""

    item: dict[str, Any]


class ItemDone(msgspec.Struct, frozen=True, tag="item_done"):
    """An output item is finished: the only event history is built from.

    `raw` is the item's JSON as the server sent it, on one line, so that unknown fields survive; `item` is the same,
    decoded.
    """

    raw: bytes
    item: dict[str, Any]


class TextDelta(msgspec.Struct, frozen=True, tag="text_delta"):
    """A piece of an assistant message."""

    item_id: str
    text: str


class ReasoningDelta(msgspec.Struct, frozen=True, tag="reasoning_delta"):
    """A piece of visible reasoning; `part` counts the sections of the item from 0."""

    item_id: str
    text: str
    part: int = 0


class Completed(msgspec.Struct, frozen=True, kw_only=True, tag="completed"):
    """The response is complete; always the last event.

    `end_turn` False asks for another request even without a tool call. `skipped` counts events that could not be read.
    """

    response_id: str
    usage: Usage | None = None
    end_turn: bool | None = None
    skipped: int = 0


ModelEvent = Opened | Created | ItemAdded | ItemDone | TextDelta | ReasoningDelta | Completed


class ModelClient(Protocol):
    """Streams responses.

    `stream` yields events until `Completed`, or raises: `ModelError` and its kinds, or `KeyMissing`. Use it inside
    `contextlib.aclosing`, so that leaving the loop in any way closes the connection at once. One client serves any
    number of streams at a time.
    """

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]: ...

    async def close(self) -> None:
        """Close idle connections. Streams must have ended."""
        ...
