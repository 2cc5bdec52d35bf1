"""What a running turn tells its listeners, and the questions it asks them. Plain data; no face, no wire."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

import msgspec

__all__ = [
    "ApprovalAsked",
    "ApprovalRequest",
    "Decision",
    "Event",
    "Item",
    "ItemCompleted",
    "ItemStarted",
    "Notice",
    "OutputDelta",
    "TextDelta",
    "TurnEnded",
    "TurnError",
    "TurnInput",
    "TurnResult",
    "TurnStarted",
    "Usage",
    "UsageUpdated",
]


class Item(msgspec.Struct, frozen=True):
    """One thing a person sees in a turn. `type` is the camelCase kind (`userMessage`, `agentMessage`, `reasoning`,
    `commandExecution`, `fileChange`, `contextCompaction`, …); `fields` holds the rest, keyed as clients see it."""

    id: str
    type: str
    fields: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {"type": self.type, "id": self.id, **self.fields}


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Token counts."""

    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_output_tokens: int = 0
    total_tokens: int = 0

    def plus(self, other: Usage) -> Usage:
        return Usage(**{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__})


class TurnInput(msgspec.Struct, frozen=True, kw_only=True):
    """What starts a turn: the text, images (data or http URLs) and local image files, an optional JSON schema that the
    last message must follow, and who triggered it (`mcp`, `exec`, `cli`, …).

    A turn of the kind "compaction" says nothing: the model sums up the thread so far, and later turns go on from the
    summary."""

    text: str
    kind: Literal["message", "compaction"] = "message"
    images: tuple[str, ...] = ()
    local_images: tuple[str, ...] = ()
    output_schema: dict[str, Any] | None = None
    trigger: str = "user"


class TurnError(msgspec.Struct, frozen=True):
    """Why a turn failed: a sentence, and a word for programs. `detail` is the failure as `codex exec --json` words it,
    None where `message` does."""

    message: str
    kind: str = "other"
    detail: str | None = None


class TurnResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a turn ended. `last_message` is the last assistant message, None when there was none."""

    thread_id: str
    turn_id: str
    status: Literal["completed", "interrupted", "failed"]
    last_message: str | None = None
    error: TurnError | None = None
    usage: Usage = Usage()


class Decision(StrEnum):
    """Answers to an approval question. ABORT ends the turn; DENY only refuses the call."""

    ONCE = "once"
    SESSION = "session"
    DENY = "deny"
    ABORT = "abort"


class ApprovalRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A question the policy puts to a person before a call runs.

    `kind` "command": `command` (argv) would run in `cwd`, outside the sandbox when `escalated`.
    `kind` "patch": `changes` maps absolute paths to `{"type": "add"|"update"|"delete", …}`.
    """

    kind: Literal["command", "patch"]
    thread_id: str
    turn_id: str
    call_id: str
    cwd: str
    command: tuple[str, ...] = ()
    escalated: bool = False
    changes: dict[str, dict[str, Any]] = {}
    reason: str | None = None


class TurnStarted(msgspec.Struct, frozen=True, tag="turn_started"):
    thread_id: str
    turn_id: str


class ItemStarted(msgspec.Struct, frozen=True, tag="item_started"):
    turn_id: str
    item: Item


class ItemCompleted(msgspec.Struct, frozen=True, tag="item_completed"):
    turn_id: str
    item: Item


class TextDelta(msgspec.Struct, frozen=True, tag="text_delta"):
    """A piece of an assistant message (`kind` "message") or of visible reasoning (`kind` "reasoning")."""

    turn_id: str
    item_id: str
    text: str
    kind: Literal["message", "reasoning"] = "message"


class OutputDelta(msgspec.Struct, frozen=True, tag="output_delta"):
    """A piece of a running command's output."""

    turn_id: str
    item_id: str
    text: str


class ApprovalAsked(msgspec.Struct, frozen=True, tag="approval_asked"):
    turn_id: str
    request: ApprovalRequest


class UsageUpdated(msgspec.Struct, frozen=True, tag="usage_updated"):
    """`last` is the last response, `total` the thread; `context_window` in tokens, None if unknown."""

    turn_id: str
    last: Usage
    total: Usage
    context_window: int | None = None


class Notice(msgspec.Struct, frozen=True, tag="notice"):
    """Something a person should know that ends nothing: a retry, a wait, a warning."""

    turn_id: str
    message: str
    level: Literal["info", "warning"] = "warning"


class TurnEnded(msgspec.Struct, frozen=True, tag="turn_ended"):
    turn_id: str
    result: TurnResult


Event = (
    TurnStarted
    | ItemStarted
    | ItemCompleted
    | TextDelta
    | OutputDelta
    | ApprovalAsked
    | UsageUpdated
    | Notice
    | TurnEnded
)
