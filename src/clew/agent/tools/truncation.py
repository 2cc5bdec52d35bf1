"""How much of a tool's output the model gets to see. There is no tokenizer: one token is four bytes, rounded up."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = [
    "DEFAULT_OUTPUT_TOKENS",
    "OutputPolicy",
    "Truncation",
    "budget_for",
    "count_tokens",
    "cut_middle",
    "truncate",
]

DEFAULT_OUTPUT_TOKENS = 10_000
_BYTES_PER_TOKEN = 4


class OutputPolicy(msgspec.Struct, frozen=True):
    """A model's limit on one tool output, counted in tokens or in bytes."""

    mode: Literal["tokens", "bytes"] = "tokens"
    limit: int = DEFAULT_OUTPUT_TOKENS

    @property
    def size(self) -> int:
        """The limit in bytes."""
        return self.limit if self.mode == "bytes" else self.limit * _BYTES_PER_TOKEN


class Truncation(msgspec.Struct, frozen=True):
    """Text cut to `limit` bytes, and the word its marker counts in."""

    limit: int
    unit: Literal["tokens", "chars"]


def count_tokens(text: str) -> int:
    """The estimate for a text."""
    return tokens_of(len(text.encode("utf-8", "replace")))


def tokens_of(size: int) -> int:
    """The estimate for a text of `size` bytes."""
    return -(-size // _BYTES_PER_TOKEN)


def budget_for(policy: OutputPolicy, asked_tokens: float | None) -> Truncation:
    """What a call that asked for `asked_tokens` (None: the default) may return under the model's policy."""
    asked = DEFAULT_OUTPUT_TOKENS if asked_tokens is None else max(0, int(asked_tokens))
    if asked * _BYTES_PER_TOKEN < policy.size:
        return Truncation(asked * _BYTES_PER_TOKEN, "tokens")
    return Truncation(policy.size, "tokens" if policy.mode == "tokens" else "chars")


def truncate(text: str, budget: Truncation, *, original: int | None = None, omitted: int = 0) -> str:
    """The text within its budget: as it is, or headed by a warning and cut in the middle.

    `original` is the token count before anything was lost, if that is not the text's own; `omitted` says how many
    bytes of the middle it lost before, so that its lines cannot be counted.
    """
    if len(text.encode("utf-8", "replace")) <= budget.limit:
        return text
    count = count_tokens(text) if original is None else original
    lines = text.count("\n") + (not text.endswith("\n"))
    loss = omitted_mark(omitted) if omitted else f"Total output lines: {lines}"
    return f"Warning: truncated output (original token count: {count})\n{loss}\n\n{cut_middle(text, budget)}"


def omitted_mark(omitted: int) -> str:
    """The line that stands for bytes a buffer could not keep."""
    return f"... {omitted} bytes omitted ..."


def cut_middle(text: str, budget: Truncation) -> str:
    """Head and tail of a text that is over its budget, with a marker between them that counts what is missing."""
    data = text.encode("utf-8", "replace")
    left = budget.limit // 2
    right = budget.limit - left
    head = data[:left].decode("utf-8", "ignore")
    tail = _from_boundary(data[len(data) - right :]) if right else ""
    removed = data[len(head.encode()) : len(data) - len(tail.encode())]
    count = -(-len(removed) // _BYTES_PER_TOKEN) if budget.unit == "tokens" else len(removed.decode())
    return f"{head}…{count} {budget.unit} truncated…{tail}"


def _from_boundary(data: bytes) -> str:
    """The text of the bytes without the rest of a character that was cut at their start."""
    start = 0
    while start < len(data) and data[start] & 0xC0 == 0x80:
        start += 1
    return data[start:].decode()
