"""Where the text of `clew exec` comes from: the argument, standard input, or both."""

from __future__ import annotations

import codecs
import threading
from collections.abc import Callable
from typing import BinaryIO

from clew.errors import ClewError

__all__ = ["NoPrompt", "read_prompt"]

_PATIENCE = 1.0
"""Seconds of waiting for standard input that need no explanation."""
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


class NoPrompt(ClewError):
    """There is nothing to ask. Told in these words alone, as programs know them."""


def read_prompt(
    argument: str | None, stdin: BinaryIO | None, *, tty: bool, watched: bool, say: Callable[[str], None]
) -> str:
    """The user's text.

    Without an argument, or with `-`, it is the whole of standard input. With one, text that is piped in is added in
    `<stdin>` marks. `tty`: standard input is a terminal. `say` tells that standard input is being read, because that
    may take for ever; beside an argument only when somebody looks (`watched`), and only when something comes, or when
    nothing comes and no end either.
    Raises `NoPrompt`, and `ClewError` for input that is no text.
    """
    if argument is not None and argument != "-":
        if tty or stdin is None:
            return argument
        piped = _decoded(_beside(stdin, say) if watched else stdin.read())
        return f"{argument}\n\n<stdin>\n{piped}\n</stdin>" if piped.strip() else argument
    if stdin is None or (tty and argument is None):
        raise NoPrompt(
            "No prompt provided. Either specify one as an argument or pipe the prompt into stdin.",
            hint='For example: clew exec "what is this project about?"',
        )
    say("Reading prompt from stdin...")
    text = _decoded(stdin.read())
    if not text.strip():
        raise NoPrompt("No prompt provided via stdin.")
    return text


def _beside(stdin: BinaryIO, say: Callable[[str], None]) -> bytes:
    """What is piped in beside a prompt, often nothing."""
    untold = threading.Lock()

    def tell() -> None:
        if untold.acquire(blocking=False):
            say("Reading additional input from stdin...")

    timer = threading.Timer(_PATIENCE, tell)
    timer.daemon = True
    timer.start()
    try:
        first = stdin.read(1)
    finally:
        timer.cancel()
    if not first:
        return b""
    tell()
    return first + stdin.read()


def _decoded(data: bytes) -> str:
    mark, encoding = next((known for known in _MARKS if data.startswith(known[0])), (b"", "utf-8"))
    try:
        return data.removeprefix(mark).decode(encoding)
    except UnicodeDecodeError as error:
        raise ClewError(
            f"standard input is not {encoding.upper()} text (byte {error.start})",
            hint="Convert it first, for example with iconv.",
        ) from None
