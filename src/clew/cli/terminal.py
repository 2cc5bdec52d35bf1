"""Writing for people and for programs: colour when a person looks, plain lines in a pipe, nothing that harms."""

from __future__ import annotations

import os
import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["ago", "clean", "coloured", "console", "error", "is_terminal", "one_line", "silence", "warn", "write_json"]

_CONTROL = {code: "�" for code in (*range(0x20), 0x7F, *range(0x80, 0xA0)) if chr(code) not in "\n\t"}
_CONTROL[ord("\r")] = ""
_SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-Z\\^-~]")
"""Whole escape sequences: they vanish; what is left of broken ones is made visible."""
_STEPS = ((60.0, 1.0, "s"), (3600.0, 60.0, "min"), (86400.0, 3600.0, "h"), (14 * 86400.0, 86400.0, "d"))


def is_terminal(stream: TextIO) -> bool:
    """Whether a person looks at this stream."""
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def coloured(stream: TextIO) -> bool:
    """Whether to colour: https://no-color.org and FORCE_COLOR come first, then whether it is a terminal."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return is_terminal(stream) and os.environ.get("TERM") != "dumb"


def console(stream: TextIO | None = None, *, width: int | None = None) -> Console:
    """A rich console that prints texts as they are: no markup, no guessing of numbers and paths."""
    from rich.console import Console

    class Quiet(Console):
        def on_broken_pipe(self) -> None:
            # rich would leave with an exit code of its own; here `main` decides.
            raise BrokenPipeError

    return Quiet(file=stream or sys.stdout, highlight=False, markup=False, emoji=False, width=width)


def clean(text: str) -> str:
    """Text without control characters: what a thread contains must not steer the terminal."""
    if "\x1b" in text:
        text = _SEQUENCE.sub("", text)
    return text.translate(_CONTROL)


def one_line(text: str | None, limit: int | None = None) -> str:
    """Text on one line, cut to `limit` characters."""
    line = " ".join(clean(text or "").split())
    return line if limit is None or len(line) <= limit else line[: limit - 1] + "…"


def ago(stamp: str, now: datetime | None = None) -> str:
    """An RFC 3339 time as people say it: `5 min ago`, and the date when it is long past."""
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        return one_line(stamp)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    if seconds < 1:
        return "now"
    for below, unit, word in _STEPS:
        if seconds < below:
            return f"{int(seconds // unit)} {word} ago"
    return f"{moment.astimezone():%Y-%m-%d}"


def write_json(value: Any) -> None:
    """One JSON value on standard output, indented, always UTF-8."""
    import msgspec

    data = msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def error(message: str, hint: str = "") -> None:
    """`Error: …` on standard error, with what to do next on the line below."""
    _say("Error:", "31;1", message, hint)


def warn(message: str, hint: str = "") -> None:
    """`Warning: …` on standard error."""
    _say("Warning:", "33;1", message, hint)


def silence() -> None:
    """Point the standard streams at nothing, because a reader is gone: flushing them at exit must say nothing."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                os.dup2(nothing, stream.fileno())
    finally:
        os.close(nothing)


def _say(word: str, colour: str, message: str, hint: str) -> None:
    if coloured(sys.stderr):
        word = f"\x1b[{colour}m{word}\x1b[0m"
    text = f"{word} {clean(message)}\n" + (f"{clean(hint)}\n" if hint else "")
    sys.stdout.flush()
    sys.stderr.write(text)
    sys.stderr.flush()
