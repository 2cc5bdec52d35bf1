"""The picker on a real terminal: which thread to go on with. Draws `picker_model`, loads what it shows.

prompt_toolkit reads the keys and draws the screen: escape sequences of all terminals, pasted text, wide characters,
resizing, and the terminal given back whatever happens are more than a reader of our own should take on.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.abc
import msgspec
from prompt_toolkit.application import Application
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout import FormattedTextControl, Layout, Window
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.styles import Style
from prompt_toolkit.utils import get_cwidth

from clew.cli import terminal
from clew.cli.picker_model import KEYS, Picker, Row, render
from clew.cli.showing import content_text
from clew.errors import ClewError
from clew.store.queries import ListQuery, ThreadSummary

if TYPE_CHECKING:
    from clew.threads import Threads, TurnView

__all__ = ["Terminated", "pick", "preview_lines", "row_of"]

_FIRST_PAGE = 60
_PAGE = 500
_MOST = 20_000
"""Threads that are loaded at most; what was typed is looked for among them."""
_REST = 0.06
"""Seconds that the cursor stays on a thread before its last turns are read."""
_PREVIEW_TURNS = 3
_STYLES = Style.from_dict({"dim": "ansibrightblack", "bold": "bold", "selected": "reverse", "error": "ansired"})


async def pick(threads: Threads, folder: str, *, here: bool = True, archived: bool = False) -> ThreadSummary | None:
    """Let a person choose a thread; None when they leave. `here`: begin with the threads of `folder`. Raises
    `Terminated`."""
    return await _Screen(threads, folder, Picker(here=here, archived=archived, measure=get_cwidth)).run()


class Terminated(Exception):
    """A signal ended the choosing; the terminal is given back."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number


class _Screen:
    def __init__(self, threads: Threads, folder: str, picker: Picker) -> None:
        self._threads = threads
        self._folder = folder
        self._picker = picker
        self._found: dict[str, ThreadSummary] = {}
        self._loading = anyio.CancelScope()
        self._reading = anyio.CancelScope()
        self._tasks: anyio.abc.TaskGroup
        self._signal: signal.Signals | None = None
        self._app: Application[None] = Application(
            layout=Layout(
                Window(FormattedTextControl(self._text, show_cursor=False), wrap_lines=False, always_hide_cursor=True)
            ),
            key_bindings=self._bindings(),
            style=_STYLES,
            full_screen=True,
            color_depth=None if terminal.coloured(sys.stdout) else ColorDepth.DEPTH_1_BIT,
        )
        # An escape that begins no sequence is a key of its own; nobody should wait half a second for it.
        self._app.ttimeoutlen = 0.05
        self._app.timeoutlen = 0.05

    async def run(self) -> ThreadSummary | None:
        async with anyio.create_task_group() as self._tasks:
            await self._tasks.start(self._obey_signals)
            self._load()
            try:
                await self._app.run_async(handle_sigint=False)
            finally:
                self._tasks.cancel_scope.cancel()
        if self._signal is not None:
            raise Terminated(self._signal)
        current = self._picker.current
        return self._found[current.id] if self._picker.outcome == "chosen" and current is not None else None

    async def _obey_signals(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGHUP) as signals:
            task_status.started()
            async for self._signal in signals:
                self._tasks.cancel_scope.cancel()

    def _bindings(self) -> KeyBindings:
        bindings = KeyBindings()
        for key in KEYS:
            bindings.add(key, eager=True)(self._pressing(key))

        @bindings.add(Keys.BracketedPaste)
        def pasted(event: KeyPressEvent) -> None:  # pyright: ignore[reportUnusedFunction] - the decorator keeps it
            self._change(self._picker.typed(event.data))

        @bindings.add(Keys.Any)
        def typed(event: KeyPressEvent) -> None:  # pyright: ignore[reportUnusedFunction] - as above
            self._change(self._picker.typed(event.data))

        return bindings

    def _pressing(self, key: str) -> Callable[[KeyPressEvent], None]:
        return lambda _: self._change(self._picker.pressed(key))

    def _change(self, picker: Picker) -> None:
        before, self._picker = self._picker, picker
        if before.outcome != "open":
            # Keys that were pressed behind the last one that counts.
            self._picker = before
            return
        if picker.outcome != "open":
            self._app.exit()
            return
        if (before.here, before.archived) != (picker.here, picker.archived):
            self._load()
        now, then = picker.current, before.current
        if now is not None and (then is None or then.id != now.id):
            self._reading.cancel()
            self._reading = anyio.CancelScope()
            self._tasks.start_soon(self._read, now.id, self._reading)
        self._app.invalidate()

    def _text(self) -> StyleAndTextTuples:
        size = self._app.output.get_size()
        self._picker = self._picker.resized(size.columns, size.rows)
        out: StyleAndTextTuples = []
        for place, line in enumerate(render(self._picker)):
            if place:
                out.append(("", "\n"))
            out += [(f"class:{style}" if style else "", text) for style, text in line]
        return out

    # -- what is shown

    def _load(self) -> None:
        self._loading.cancel()
        self._loading = anyio.CancelScope()
        self._found = {}
        self._tasks.start_soon(self._rows, self._loading)

    async def _rows(self, scope: anyio.CancelScope) -> None:
        """Page after page, so that the first ones are there at once."""
        query = ListQuery(
            cwd=self._folder if self._picker.here else None, archived=self._picker.archived, limit=_FIRST_PAGE
        )
        with scope:
            try:
                while True:
                    page = await self._threads.list(query)
                    # Threads of agents that another thread spawned belong to that one.
                    own = [thread for thread in page.threads if thread.parent_id is None]
                    self._found |= {thread.id: thread for thread in own}
                    full = len(self._found) >= _MOST
                    done = page.next_cursor is None or full
                    capped = full and page.next_cursor is not None
                    self._change(self._picker.loaded([row_of(thread) for thread in own], done=done, capped=capped))
                    if done:
                        return
                    query = msgspec.structs.replace(query, cursor=page.next_cursor, limit=_PAGE)
            except ClewError as error:
                self._change(self._picker.failed(terminal.one_line(error.explained())))

    async def _read(self, thread_id: str, scope: anyio.CancelScope) -> None:
        with scope:
            await anyio.sleep(_REST)
            try:
                page = await self._threads.read(thread_id, limit=_PREVIEW_TURNS, newest_first=True)
                lines = [line for view in reversed(page.turns) for line in preview_lines(view)]
            except ClewError as error:
                lines = [terminal.one_line(error.message)]
            self._change(self._picker.previewed(thread_id, lines))


def row_of(thread: ThreadSummary) -> Row:
    """What the picker shows of a thread."""
    return Row(
        id=thread.id,
        title=terminal.one_line(thread.error or thread.preview, 300),
        when=terminal.ago(thread.updated_at),
        folder=_short_folder(thread.cwd or ""),
        name=terminal.one_line(thread.name),
        archived=thread.archived,
        pinned=thread.pinned,
    )


def preview_lines(view: TurnView) -> Iterator[str]:
    """The messages of a turn, each on a line of its own."""
    for item in view.items:
        if item.get("type") == "userMessage":
            yield "> " + terminal.one_line(content_text(item), 400)
        elif item.get("type") == "agentMessage" and item.get("phase") != "commentary":
            yield "• " + terminal.one_line(str(item.get("text") or ""), 400)
    if view.status in ("failed", "interrupted"):
        yield f"  ({view.status})"


def _short_folder(cwd: str) -> str:
    home = str(Path.home())
    return terminal.one_line("~" + cwd.removeprefix(home) if cwd == home or cwd.startswith(home + "/") else cwd)
