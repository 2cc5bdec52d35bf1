"""Where the bytes of a file are, by what they are for. Told by lengths and first bytes: nothing is decoded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from clew.rollout.envelope import STATE_LINE, Record, Skipped, payload_kind

__all__ = ["CAUSES", "PICTURE", "Weights", "image_bytes", "plain_cause"]

CAUSES = (
    "images",
    "tool_output",
    "tool_calls",
    "messages",
    "reasoning",
    "context",
    "compactions",
    "copies",
    "events",
    "bookkeeping",
    "damaged",
    "other",
)
"""The causes, as `Weights` names them."""

PICTURE = b'"data:image/'
"""What stands in every line that holds a picture."""
_SMALLEST = 256
"""Bytes of a line that is not looked into for images."""
_FIRST = 256
"""Bytes in which a line says what it is."""

_CONTEXT = frozenset({"session_meta", "turn_context", "world_state", "thread_settings_applied"})
_CALLS = frozenset(
    {"function_call", "custom_tool_call", "local_shell_call", "web_search_call", "tool_search_call"},
)
_OUTPUTS = frozenset({"function_call_output", "custom_tool_call_output", "tool_search_output"})
_COMPACTIONS = frozenset({"compacted", "compaction", "compaction_summary", "context_compaction"})
_PICTURES = frozenset({"image_generation_call", "image_generation_end"})
_EVENTS = frozenset(
    {
        "user_message",
        "agent_reasoning",
        "agent_reasoning_raw_content",
        "item_completed",
        "exec_command_end",
        "patch_apply_end",
        "mcp_tool_call_end",
        "web_search_end",
        "view_image_tool_call",
        "sub_agent_activity",
        "context_compacted",
        "entered_review_mode",
        "exited_review_mode",
    }
)
_BOOKKEEPING = frozenset(
    {
        "task_started",
        "turn_started",
        "task_complete",
        "turn_complete",
        "turn_aborted",
        "token_count",
        "token_usage_record",
        "thread_rolled_back",
        "thread_goal_updated",
        "inter_agent_communication_metadata",
        STATE_LINE,
    }
)


class Weights(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Bytes of a file's lines (unpacked, with their newlines), each line under one cause; only images are taken out of
    the lines they stand in.

    `images`: pictures as data URLs, wherever they stand; `tool_output`, `tool_calls`, `messages` (said by user, agent
    and other agents), `reasoning` (readable or encrypted); `context`: what the model is told about its surroundings and
    what it ran with; `compactions`: the histories that replace older ones; `copies`: lines inherited from another
    thread by copying; `events`: what is shown to people and stands among the items, too; `bookkeeping`: beginnings and
    ends of turns, token counts; `damaged`: what cannot be read.
    """

    images: int = 0
    tool_output: int = 0
    tool_calls: int = 0
    messages: int = 0
    reasoning: int = 0
    context: int = 0
    compactions: int = 0
    copies: int = 0
    events: int = 0
    bookkeeping: int = 0
    damaged: int = 0
    other: int = 0

    @property
    def total(self) -> int:
        return sum(size for _, size in self.items())

    def items(self) -> Iterator[tuple[str, int]]:
        """Causes and bytes, those without any included."""
        return ((cause, getattr(self, cause)) for cause in CAUSES)

    def __add__(self, other: Weights) -> Weights:
        return Weights(**{cause: size + getattr(other, cause) for cause, size in self.items()})

    def take(self, kind: str, line: bytes, *, copied: bool) -> None:
        """One line without its newline: `kind` is its inner type (`function_call_output`, `message`, `token_count`, …),
        or its type where the payload has none (`session_meta`, `turn_context`, `compacted`, …), `""` for what cannot be
        read; `copied`: inherited from another thread by copying."""
        size = len(line) + 1
        if copied:
            self.copies += size
        elif kind in _OUTPUTS:
            images = image_bytes(line)
            self.images += images
            self.tool_output += size - images
        elif kind in _BOOKKEEPING:
            self.bookkeeping += size
        elif kind == "reasoning":
            self.reasoning += size
        elif kind in _CALLS:
            self.tool_calls += size
        elif kind == "message" or kind == "agent_message":
            self._message(kind, line, size)
        elif kind in _EVENTS:
            images = image_bytes(line)
            self.images += images
            self.events += size - images
        elif kind in _CONTEXT:
            self.context += size
        elif kind in _COMPACTIONS:
            self.compactions += size
        elif kind in _PICTURES:
            self.images += size
        elif kind == "inter_agent_communication":
            self.messages += size
        elif kind == "":
            self.damaged += size
        else:
            self.other += size

    def _message(self, kind: str, line: bytes, size: int) -> None:
        if kind == "agent_message":
            if line.find(b'"event_msg"', 0, _FIRST) >= 0:
                self.events += size
            else:
                self.messages += size
        elif line.find(b'"role":"developer"', 0, _FIRST) >= 0 or line.find(b'"role":"system"', 0, _FIRST) >= 0:
            self.context += size
        else:
            images = image_bytes(line)
            self.images += images
            self.messages += size - images

    @classmethod
    def of(cls, lines: Iterable[tuple[bytes, Record | Skipped]], *, copied_until: int = 0) -> Weights:
        """Of lines as they stand in a file, each with what was read of it. `copied_until`: where what was copied from
        another thread ends."""
        found = cls()
        for line, record in lines:
            copied = record.start < copied_until
            if isinstance(record, Skipped):
                found.take("", line, copied=copied)
            else:
                inner = payload_kind(record.payload) if record.type in ("event_msg", "response_item") else None
                found.take(inner or record.type, line, copied=copied)
        return found


def plain_cause(kind: str) -> tuple[str | None, bool]:
    """The cause of a kind of line that is no copy; None where the line itself has to tell. And whether pictures in it
    are counted for themselves."""
    for kinds, cause, pictures in _CAUSE_OF:
        if kind in kinds:
            return cause, pictures
    return None, False


_CAUSE_OF = (
    (_OUTPUTS, "tool_output", True),
    (_BOOKKEEPING, "bookkeeping", False),
    (frozenset({"reasoning"}), "reasoning", False),
    (_CALLS, "tool_calls", False),
    (_EVENTS, "events", True),
    (_CONTEXT, "context", False),
    (_COMPACTIONS, "compactions", False),
)


def image_bytes(line: bytes) -> int:
    """Bytes of the pictures in a line, without the quotation marks around them."""
    if len(line) < _SMALLEST:
        return 0
    found = 0
    at = line.find(PICTURE)
    while at >= 0:
        end = line.find(b'"', at + 1)
        if end < 0:
            break
        found += end - at - 1
        at = line.find(PICTURE, end + 1)
    return found
