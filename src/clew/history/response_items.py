"""Response items: what the model sees. Kept as raw JSON with a decoded head, and put in order for a request.

The normalised list is what a Responses endpoint accepts: every call has its output, no output lacks its call, outputs
come in the order of their calls, and nothing is in it that the endpoint does not know. What is on disk stays as it is.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any, cast

import msgspec

from clew.history.payload import encode, object_from, objects, text
from clew.history.truncation import DEFAULT_POLICY, TruncationPolicy, tokens, truncate_output

__all__ = ["KNOWN_TYPES", "OUTPUT_OF", "ContextItem", "estimated_tokens", "is_from_model", "normalised", "open_calls"]

KNOWN_TYPES = frozenset(
    {
        "message",
        "agent_message",
        "reasoning",
        "local_shell_call",
        "function_call",
        "function_call_output",
        "custom_tool_call",
        "custom_tool_call_output",
        "tool_search_call",
        "tool_search_output",
        "web_search_call",
        "image_generation_call",
        "compaction",
        "compaction_summary",
        "context_compaction",
    }
)
OUTPUT_OF = {
    "function_call": "function_call_output",
    "local_shell_call": "function_call_output",
    "custom_tool_call": "custom_tool_call_output",
    "tool_search_call": "tool_search_output",
}
_OUTPUTS = frozenset(OUTPUT_OF.values())
_ID_PREFIX = {"function_call_output": "fco", "custom_tool_call_output": "ctco", "tool_search_output": "tso"}
_NAMESPACE = uuid.UUID("90d38d3e-6a5b-4d52-bfe2-2f1e634bfac4")
_PRIVATE = ("internal_chat_message_metadata_passthrough", "metadata")
_PLACEHOLDERS = {
    "input_image": "image content omitted because you do not support image input",
    "input_audio": "audio content omitted because you do not support audio input",
}
_IMAGE_BYTES = 7_373  # what an inline image counts, whatever its size
_ENCRYPTED_OVERHEAD = 650


class _Head(msgspec.Struct, gc=False):
    type: str
    role: str | None = None
    call_id: str | None = None
    id: str | None = None


_head_decoder = msgspec.json.Decoder(_Head)


class ContextItem(msgspec.Struct, frozen=True, gc=False):
    """A response item: its JSON exactly as recorded, and what is needed to sort it without reading it whole."""

    raw: bytes
    type: str
    role: str | None = None
    call_id: str | None = None
    id: str | None = None

    @staticmethod
    def read(raw: bytes) -> ContextItem | None:
        """None for what is no JSON object with a `type`."""
        try:
            head = _head_decoder.decode(raw)
        except msgspec.ValidationError:
            # Some member of the head has another type than it should; what is readable counts.
            value = object_from(raw)
            if value is None or not isinstance(value.get("type"), str):
                return None
            names = ("role", "call_id", "id")
            return ContextItem(raw, value["type"], *(text(value.get(name)) for name in names))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return ContextItem(raw, head.type, head.role, head.call_id, head.id)

    @staticmethod
    def of(item: bytes | dict[str, Any]) -> ContextItem:
        """Raises `ValueError` for what is no response item."""
        found = ContextItem.read(item if isinstance(item, bytes) else encode(item))
        if found is None:
            raise ValueError("a response item is a JSON object with a type")
        return found

    def value(self) -> dict[str, Any]:
        """The decoded item, a fresh object."""
        return object_from(self.raw) or {"type": self.type}


def is_from_model(item: ContextItem) -> bool:
    """Whether the model made this item, so that its response's token count contains it."""
    if item.type == "message":
        return item.role == "assistant"
    return item.type in KNOWN_TYPES and item.type not in _OUTPUTS and item.type != "agent_message"


def _sent(item: ContextItem) -> bool:
    return item.type in KNOWN_TYPES and item.role != "system"


class _Pairing:
    """Which output answers which call, by place in the list."""

    def __init__(self, items: Sequence[ContextItem]) -> None:
        calls: dict[tuple[str, str], list[int]] = {}
        outputs: dict[tuple[str, str], list[int]] = {}
        for place, item in enumerate(items):
            if item.call_id is None:
                continue
            if item.type in OUTPUT_OF:
                calls.setdefault((OUTPUT_OF[item.type], item.call_id), []).append(place)
            elif item.type in _OUTPUTS:
                outputs.setdefault((item.type, item.call_id), []).append(place)
        self.open = {place for key, places in calls.items() if key not in outputs for place in places}
        self.call_of: dict[int, int] = {}
        for key, places in outputs.items():
            # An id that was used twice: the first output answers the first call; surplus ones the last.
            for turn, place in enumerate(places):
                if owners := calls.get(key):
                    self.call_of[place] = owners[min(turn, len(owners) - 1)]


def open_calls(items: Sequence[ContextItem]) -> list[ContextItem]:
    """The calls without output, in their order."""
    pairing = _Pairing(items)
    return [item for place, item in enumerate(items) if place in pairing.open]


def normalised(
    items: Iterable[ContextItem],
    *,
    openai: bool,
    images: bool = True,
    audio: bool = True,
    policy: TruncationPolicy = DEFAULT_POLICY,
) -> list[dict[str, Any]]:
    """The items as a request carries them (decoded, fresh objects).

    `openai`: the endpoint is OpenAI's own, which alone receives the private members. Without `images` (or `audio`)
    such parts are replaced by a sentence. Tool outputs are cut to the `policy`.
    """
    known = [item for item in items if _sent(item)]
    pairing = _Pairing(known)
    slots = [place for place in range(len(known)) if place in pairing.call_of]
    # Sorted by their calls, the n-th output never stands before its call: n calls precede the n-th slot, unless an
    # output was recorded before its call. Such an output moves directly behind it.
    early = {place for place in slots if pairing.call_of[place] > place}
    slots = [place for place in slots if place not in early]
    in_slot = dict(zip(slots, sorted(slots, key=lambda place: pairing.call_of[place]), strict=True))
    behind: dict[int, list[int]] = {}
    for place in sorted(early):
        behind.setdefault(pairing.call_of[place], []).append(place)

    request: list[dict[str, Any]] = []
    for place, item in enumerate(known):
        if item.type in _OUTPUTS:
            if place in in_slot:
                item = known[in_slot[place]]
            elif not (item.type == "tool_search_output" and _by_server(item)):
                continue
        request.append(_sendable(item, openai, images, audio, policy))
        if place in pairing.open:
            request.append(_aborted(item))
        request.extend(_sendable(known[late], openai, images, audio, policy) for late in behind.get(place, ()))
    return request


def _by_server(item: ContextItem) -> bool:
    return item.value().get("execution") == "server"


def _sendable(item: ContextItem, openai: bool, images: bool, audio: bool, policy: TruncationPolicy) -> dict[str, Any]:
    value = item.value()
    if not openai:
        for name in _PRIVATE:
            value.pop(name, None)
    if "id" in value and value["id"] is None:
        del value["id"]
    if item.type == "compaction_summary":
        value["type"] = "compaction"
    if item.type in ("function_call_output", "custom_tool_call_output"):
        output = truncate_output(value.get("output"), policy)
        value["output"] = _seen(output, images, audio)
    elif item.type == "message":
        value["content"] = _seen(value.get("content"), images, audio)
    return value


def _seen(content: Any, images: bool, audio: bool) -> Any:
    """Content parts without those the model cannot take."""
    if (images and audio) or not isinstance(content, list):
        return content
    hidden = {kind for kind, shown in (("input_image", images), ("input_audio", audio)) if not shown}
    parts: list[Any] = cast("list[Any]", content)
    return [
        {"type": "input_text", "text": _PLACEHOLDERS[kind]} if (kind := _kind(part)) in hidden else part
        for part in parts
    ]


def _kind(part: Any) -> Any:
    return cast("dict[str, Any]", part).get("type") if isinstance(part, dict) else None


def _aborted(call: ContextItem) -> dict[str, Any]:
    """The output of a call that never got one. Its id follows from the call's, so that every request says the same."""
    kind = OUTPUT_OF[call.type]
    made: dict[str, Any] = {"type": kind, "call_id": call.call_id}
    if call.id:
        prefix = _ID_PREFIX[kind]
        made["id"] = f"{prefix}_{uuid.uuid5(_NAMESPACE, f'{prefix}:{call.id}')}"
    if kind == "tool_search_output":
        return {**made, "status": "completed", "execution": "client", "tools": []}
    return {**made, "output": "aborted"}


def estimated_tokens(item: ContextItem, policy: TruncationPolicy = DEFAULT_POLICY) -> int:
    """About how many tokens an item costs: a fourth of its JSON's bytes; ciphertext and images have their own rates."""
    if not _sent(item):
        return 0
    size = len(item.raw)
    if item.type in ("reasoning", "compaction", "compaction_summary", "context_compaction"):
        hidden = item.value().get("encrypted_content")
        if isinstance(hidden, str):
            return tokens(max(len(hidden) * 3 // 4 - _ENCRYPTED_OVERHEAD, 0))
        return tokens(size)
    long_output = item.type in _OUTPUTS and size > policy.budget
    if not long_output and b'"input_image"' not in item.raw:
        return tokens(size)
    value = item.value()
    if long_output:
        value["output"] = truncate_output(value.get("output"), policy)
    size = len(encode(value))
    for key in ("content", "output"):
        for part in objects(value.get(key)):
            url = part.get("image_url")
            if isinstance(url, str) and url.startswith("data:"):
                size += _IMAGE_BYTES - len(url)
    return tokens(size)
