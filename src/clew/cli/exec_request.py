"""What one `clew exec` is asked to do, read from its words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from clew.cli.options import UsageError

__all__ = ["Request", "read_request"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What one `clew exec` was asked to do.

    `action` says what `reference` is for; None with `resume` means the newest thread of the folder, or of all folders
    with `anywhere`. `prompt` is the argument as given.
    """

    action: Literal["start", "resume", "fork"] = "start"
    reference: str | None = None
    anywhere: bool = False
    prompt: str | None = None


def read_request(words: tuple[str, ...], *, last: bool, anywhere: bool, literal: tuple[str, ...]) -> Request:
    """What the words ask for. Words behind `--` are a prompt, never a sub-command."""
    free = words[: len(words) - len(literal)]
    if free[:1] == ("review",):
        raise UsageError("`exec review` does not exist here", "Ask for it: git diff | clew exec 'review this'")
    if free[:1] not in (("resume",), ("fork",)):
        if last:
            raise UsageError("--last goes with `resume`", "For example: clew exec resume --last 'go on'")
        if len(words) > 1:
            raise UsageError(
                f"there is more than one prompt: {words[0]!r} and {words[1]!r}", "Put the prompt in quotes."
            )
        return Request(prompt=words[0] if words else None)
    action = cast("Literal['resume', 'fork']", free[0])
    rest = words[1:]
    reference: str | None = None
    if not last:
        if not rest:
            raise UsageError(f"`exec {action}` needs a thread", f"For example: clew exec {action} last 'go on'")
        reference, *tail = rest
        rest = tuple(tail)
    if len(rest) > 1:
        raise UsageError(f"there is more than one prompt: {rest[0]!r} and {rest[1]!r}", "Put the prompt in quotes.")
    return Request(action=action, reference=reference, anywhere=anywhere, prompt=rest[0] if rest else None)
