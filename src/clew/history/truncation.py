"""How long texts are shortened on their way to the model: head and tail stay, a marker says how much is gone.

There is no tokenizer anywhere: a token counts as four bytes.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec

from clew.history.payload import objects

__all__ = [
    "BYTES_PER_TOKEN",
    "DEFAULT_POLICY",
    "TruncationPolicy",
    "first_bytes",
    "last_bytes",
    "tokens",
    "truncate_middle",
    "truncate_output",
]

BYTES_PER_TOKEN = 4
_HEADROOM = 1.2  # an output that was cut when it was made must survive being read back, quoted and escaped


class TruncationPolicy(msgspec.Struct, frozen=True):
    """How much of a tool output a model is given: `limit` bytes, or `limit` tokens of four bytes."""

    mode: Literal["bytes", "tokens"] = "bytes"
    limit: int = 10_000

    @property
    def size(self) -> int:
        """The limit in bytes."""
        return self.limit if self.mode == "bytes" else self.limit * BYTES_PER_TOKEN

    @property
    def budget(self) -> int:
        """Bytes (or tokens) that a recorded output may have before it is cut again."""
        return math.ceil(self.limit * _HEADROOM)


DEFAULT_POLICY = TruncationPolicy()
"""What models get that are not known to ask for something else."""


def tokens(size: int) -> int:
    """Tokens of `size` bytes, rounded up."""
    return -(-size // BYTES_PER_TOKEN)


def first_bytes(data: bytes, size: int) -> bytes:
    """At most the first `size` bytes of a UTF-8 text, cut between characters."""
    while 0 < size < len(data) and data[size] & 0xC0 == 0x80:
        size -= 1
    return data[:size]


def last_bytes(data: bytes, size: int) -> bytes:
    """At most the last `size` bytes of a UTF-8 text, cut between characters."""
    start = max(len(data) - size, 0)
    while 0 < start < len(data) and data[start] & 0xC0 == 0x80:
        start += 1
    return data[start:]


def truncate_middle(text: str, budget: int, mode: Literal["bytes", "tokens"]) -> str:
    """`text` within `budget` bytes or tokens, with a marker for what is missing in the middle."""
    size = budget if mode == "bytes" else budget * BYTES_PER_TOKEN
    if len(text) * 4 <= size:
        return text
    data = text.encode("utf-8", "surrogatepass")
    if len(data) <= size:
        return text
    head = first_bytes(data, size // 2).decode("utf-8", "surrogatepass")
    tail = last_bytes(data, size - size // 2).decode("utf-8", "surrogatepass")
    if mode == "bytes":
        marker = f"…{len(text) - len(head) - len(tail)} chars truncated…"
    else:
        marker = f"…{tokens(len(data) - size)} tokens truncated…"
    return head + marker + tail


def truncate_output(output: Any, policy: TruncationPolicy = DEFAULT_POLICY) -> Any:
    """A tool output (a string, or a list of content parts) within the policy's budget.

    The text parts of a list share one budget in their order; other parts stay. Text parts behind the one in which the
    budget ends are left out, and a last part says how many.
    """
    if isinstance(output, str):
        return truncate_middle(output, policy.budget, policy.mode)
    if not isinstance(output, list):
        return output
    kept: list[dict[str, Any]] = []
    left, omitted = policy.budget, 0
    for part in objects(output):  # pyright: ignore[reportUnknownArgumentType] - a JSON list of unknown members
        text = part.get("text")
        if not isinstance(text, str):
            kept.append(part)
            continue
        if left == 0:
            omitted += 1
            continue
        size = len(text.encode("utf-8", "surrogatepass"))
        cost = size if policy.mode == "bytes" else tokens(size)
        if cost <= left:
            kept.append(part)
            left -= cost
        else:
            kept.append({**part, "text": truncate_middle(text, left, policy.mode)})
            left = 0
    if omitted:
        kept.append({"type": "input_text", "text": f"[omitted {omitted} text items ...]"})
    return kept
