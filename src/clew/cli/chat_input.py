"""Where the lines of a conversation and the answers to its questions come from: a terminal, or a pipe."""

from __future__ import annotations

import os
import stat
import sys
import termios
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import anyio

from clew.cli import slash

if TYPE_CHECKING:
    from prompt_toolkit.completion import CompleteEvent, Completer
    from prompt_toolkit.document import Document
    from prompt_toolkit.key_binding import KeyBindings

__all__ = ["Interrupted", "LineReader", "Reader", "TerminalReader"]

_BLOCK = 1 << 16
_PROMPT = "> "


class Interrupted(Exception):
    """Ctrl-C at the prompt."""


class Reader(Protocol):
    """Reads what a person types. Both calls can be cancelled and then leave the terminal as it was."""

    @property
    def can_ask(self) -> bool:
        """Whether somebody is there who can answer a question."""
        ...

    async def line(self) -> str | None:
        """The next message, None when there is none any more. Raises `Interrupted`."""
        ...

    async def key(self, question: str, answers: Mapping[str, str]) -> str | None:
        """One of the keys of `answers` (the values say what each means); None when nobody answers. Raises
        `Interrupted`."""
        ...


class LineReader:
    """Line after line from a file descriptor. `watched`: a person sees standard error and types the lines."""

    def __init__(self, descriptor: int, *, watched: bool) -> None:
        self._descriptor = descriptor
        self._waits = not stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._rest = b""
        self._ended = False
        self._watched = watched

    @property
    def can_ask(self) -> bool:
        # What is piped in was written before anybody knew of the question.
        return self._watched

    async def line(self) -> str | None:
        if self._watched:
            sys.stderr.write(_PROMPT)
            sys.stderr.flush()
        return await self._next()

    async def key(self, question: str, answers: Mapping[str, str]) -> str | None:
        while True:
            sys.stderr.write(f"{question} {_choices(answers)} ")
            sys.stderr.flush()
            line = await self._next()
            if line is None:
                return None
            if line.strip().lower() in answers:
                return line.strip().lower()

    async def _next(self) -> str | None:
        while b"\n" not in self._rest and not self._ended:
            if self._waits:
                await anyio.wait_readable(self._descriptor)
            data = os.read(self._descriptor, _BLOCK)
            self._rest += data
            self._ended = not data
        if not self._rest:
            return None
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode("utf-8", "replace").removesuffix("\r")


class TerminalReader:
    """A line editor with history on a terminal. Enter sends, Alt-Enter begins a line, pasted lines stay together.
    `earlier` are messages that the arrow keys bring back, oldest first."""

    can_ask = True

    def __init__(self, earlier: Sequence[str] = ()) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.history import InMemoryHistory
        from prompt_toolkit.shortcuts import CompleteStyle

        self._history = InMemoryHistory(list(earlier))
        self._session: PromptSession[str] = PromptSession(
            history=self._history,
            multiline=True,
            key_bindings=_line_keys(),
            completer=_slash_completer(),
            complete_while_typing=False,
            complete_style=CompleteStyle.READLINE_LIKE,
            reserve_space_for_menu=0,
            prompt_continuation="  ",
            enable_open_in_editor=True,
        )
        self._keys: PromptSession[str] = PromptSession()

    def remember(self, messages: Sequence[str]) -> None:
        """Messages of another thread, for the arrow keys."""
        for message in messages:
            self._history.append_string(message)

    async def line(self) -> str | None:
        try:
            return await self._session.prompt_async([("bold", _PROMPT)], handle_sigint=False)
        except KeyboardInterrupt:
            raise Interrupted from None
        except EOFError:
            return None

    async def key(self, question: str, answers: Mapping[str, str]) -> str | None:
        from prompt_toolkit.patch_stdout import patch_stdout

        self._forget_typed()
        try:
            # What other calls of the turn print meanwhile goes above the question.
            with patch_stdout(raw=True):
                return await self._keys.prompt_async(
                    [("bold", f"{question} "), ("", f"{_choices(answers)} ")],
                    key_bindings=_answer_keys(answers),
                    handle_sigint=False,
                )
        except KeyboardInterrupt:
            raise Interrupted from None
        except EOFError:
            return None

    def _forget_typed(self) -> None:
        """What was typed before a question was there is no answer to it."""
        from prompt_toolkit.input.typeahead import clear_typeahead

        clear_typeahead(self._keys.input)
        termios.tcflush(self._keys.input.fileno(), termios.TCIFLUSH)


def _choices(answers: Mapping[str, str]) -> str:
    return " · ".join(f"{key} {meaning}" for key, meaning in answers.items())


def _line_keys() -> KeyBindings:
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    keys = KeyBindings()

    # What was typed ahead of the prompt ends with the other one of the two.
    @keys.add("enter")
    @keys.add("c-j")
    def send(event: KeyPressEvent) -> None:  # pyright: ignore[reportUnusedFunction] - the decorator keeps it
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    @keys.add("escape", "c-j")
    def begin_line(event: KeyPressEvent) -> None:  # pyright: ignore[reportUnusedFunction] - as above
        event.current_buffer.insert_text("\n")

    return keys


def _answer_keys(answers: Mapping[str, str]) -> KeyBindings:
    """One key answers; every other one, a pasted text too, does nothing."""
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
    from prompt_toolkit.keys import Keys

    keys = KeyBindings()

    @keys.add(Keys.Any)
    @keys.add("enter")
    @keys.add("c-j")
    @keys.add(Keys.BracketedPaste)
    def nothing(event: KeyPressEvent) -> None:  # pyright: ignore[reportUnusedFunction] - the decorator keeps it
        return

    def answer(event: KeyPressEvent) -> None:
        event.current_buffer.text = event.data.lower()
        event.current_buffer.validate_and_handle()

    for key in answers:
        keys.add(key)(answer)
        keys.add(key.upper())(answer)
    return keys


def _slash_completer() -> Completer:
    from prompt_toolkit.completion import Completer, Completion

    class Slash(Completer):
        def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
            text = document.text
            if text.startswith("/") and " " not in text and "\n" not in text:
                for command in slash.COMMANDS:
                    if command.name.startswith(text[1:].lower()):
                        more = " " if command.argument else ""
                        yield Completion(f"/{command.name}{more}", -len(text), display_meta=command.summary)

    return Slash()
