"""A new window: which messages of the old one stay, and how the summary is written so that every reader knows it.

The costs are those of the log's other readers: a message costs its text in tokens of four bytes, and what no longer
fits is cut in the middle.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from clew.history.contextual import is_contextual
from clew.history.payload import objects, part_texts
from clew.history.truncation import first_bytes, last_bytes, tokens

__all__ = [
    "KEPT_TOKENS",
    "NO_SUMMARY",
    "SUMMARY_PREFIX",
    "is_summary",
    "kept_messages",
    "replacement_history",
    "summary_message",
    "summary_text",
]

KEPT_TOKENS = 20_000
NO_SUMMARY = "(no summary available)"

# Every reader of these logs recognises a summary by this sentence; it must not change by a letter.
SUMMARY_PREFIX = (
    "Another language model started to solve this problem and produced a summary of its thinking process. You also "
    "have access to the state of the tools that were used by that language model. Use this to build on the work that "
    "has already been done and avoid duplicating work. Here is the summary produced by the other language model, use "
    "the information in this summary to assist with your own analysis:"
)


def summary_text(answer: str) -> str:
    """The full text of a summary from the model's answer: what `compacted.message` holds."""
    return f"{SUMMARY_PREFIX}\n{answer.strip() or NO_SUMMARY}"


def summary_message(text: str) -> dict[str, Any]:
    """The user message that carries a summary; `text` is the full text, prefix included."""
    return _message([text or NO_SUMMARY])


def is_summary(item: dict[str, Any]) -> bool:
    """Whether a user message is the summary of an earlier window."""
    return item.get("role") == "user" and "".join(part_texts(item.get("content"))).startswith(SUMMARY_PREFIX + "\n")


def kept_messages(items: Iterable[dict[str, Any]], budget: int = KEPT_TOKENS) -> list[dict[str, Any]]:
    """The user's own messages that go into the next window, oldest first.

    Counted from the newest back until `budget` tokens are used; the oldest one taken is cut in the middle, with the
    marker as a part of its own. Text parts stay separate, images do not come along; neither do summaries and messages
    about the surroundings.
    """
    own = [
        [text for text in _texts(item) if text]
        for item in items
        if item.get("type") == "message"
        and item.get("role") == "user"
        and not is_contextual(item)
        and not is_summary(item)
    ]
    kept: list[dict[str, Any]] = []
    left = budget
    for parts in reversed([parts for parts in own if parts]):
        cost = tokens(sum(len(part.encode("utf-8", "surrogatepass")) for part in parts))
        if cost > left:
            if left > 0:
                kept.append(_message(_shortened(parts, left * 4)))
            break
        kept.append(_message(parts))
        left -= cost
    kept.reverse()
    return kept


def replacement_history(
    items: Sequence[dict[str, Any]],
    summary: str,
    *,
    context: Sequence[dict[str, Any]] = (),
    place: Literal["start", "before_last_user"] = "before_last_user",
    budget: int = KEPT_TOKENS,
) -> list[dict[str, Any]]:
    """The items of the next window: the user's own messages, then the summary as the last user message.

    `summary` is the full text (`summary_text`). `context` are the messages about the surroundings that the next window
    should carry; inside a turn (and on request) they stand directly before the last of the user's messages, so that
    the running prompt stays the newest thing said; with none left, before the summary. Leave them out when the next
    turn tells everything again.
    """
    kept = kept_messages(items, budget)
    at = 0 if place == "start" else max(len(kept) - 1, 0)
    return [*kept[:at], *context, *kept[at:], summary_message(summary)]


def _texts(item: dict[str, Any]) -> list[str]:
    content = item.get("content")
    if isinstance(content, str):
        return [content]
    return [
        part["text"]
        for part in objects(content)
        if part.get("type") == "input_text" and isinstance(part.get("text"), str)
    ]


def _message(parts: Iterable[str]) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": part} for part in parts]}


def _shortened(parts: list[str], budget: int) -> list[str]:
    """The first and last half of the budget, counted across the borders of the parts."""
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    total = sum(map(len, encoded))
    marker = f"…{tokens(total - budget)} tokens truncated…"
    head: list[bytes] = []
    left = budget // 2
    for data in encoded:
        if piece := first_bytes(data, left):
            head.append(piece)
        if len(data) > left:
            break
        left -= len(data)
    tail: list[bytes] = []
    left = budget - budget // 2
    for data in reversed(encoded):
        if piece := last_bytes(data, left):
            tail.append(piece)
        if len(data) > left:
            break
        left -= len(data)
    tail.reverse()
    pieces = [piece.decode("utf-8", "surrogatepass") for piece in head]
    pieces.append(marker)
    return pieces + [piece.decode("utf-8", "surrogatepass") for piece in tail]
