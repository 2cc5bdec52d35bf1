"""How much of a tool's output the model gets to see, and the words that say what is missing."""

from __future__ import annotations

from typing import Literal

import msgspec

from clew.history.truncation import BYTES_PER_TOKEN, TruncationPolicy, tokens, truncate_middle

__all__ = [
    "DEFAULT_OUTPUT_TOKENS",
    "TOOL_POLICY",
    "Truncation",
    "budget_for",
    "count_tokens",
    "omitted_mark",
    "truncate",
]

DEFAULT_OUTPUT_TOKENS = 10_000

TOOL_POLICY = TruncationPolicy("tokens", DEFAULT_OUTPUT_TOKENS)
"""The limit of a model that nothing else is known about."""


class Truncation(msgspec.Struct, frozen=True):
    """Text cut to `limit` bytes, and the word its marker counts in."""

    limit: int
    unit: Literal["tokens", "chars"]

    def cut(self, text: str) -> str:
        """Head and tail of a text that is over the limit, with a marker between them that counts what is missing."""
        if self.unit == "tokens":
            return truncate_middle(text, self.limit // BYTES_PER_TOKEN, "tokens")
        return truncate_middle(text, self.limit, "bytes")


def count_tokens(text: str) -> int:
    """The estimate for a text."""
    return tokens(len(text.encode("utf-8", "replace")))


def budget_for(policy: TruncationPolicy, asked_tokens: float | None) -> Truncation:
    """What a call that asked for `asked_tokens` (None: the default) may return under the model's policy."""
    asked = DEFAULT_OUTPUT_TOKENS if asked_tokens is None else max(0, int(asked_tokens))
    if asked * BYTES_PER_TOKEN < policy.size:
        return Truncation(asked * BYTES_PER_TOKEN, "tokens")
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
    return f"Warning: truncated output (original token count: {count})\n{loss}\n\n{budget.cut(text)}"


def omitted_mark(omitted: int) -> str:
    """The line that stands for bytes a buffer could not keep."""
    return f"... {omitted} bytes omitted ..."
