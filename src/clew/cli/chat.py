"""A conversation in the terminal: line after line, turn after turn, until the person leaves."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVarTuple

import anyio
import anyio.abc
from anyio import to_thread

from clew.cli import slash, terminal
from clew.cli.chat_input import Interrupted, Reader, TerminalReader
from clew.cli.chat_view import ChatView, Facts
from clew.cli.exec_view import sandbox_text
from clew.cli.picker import preview_lines
from clew.cli.showing import content_text
from clew.errors import ClewError, LogDamaged
from clew.events import (
    ApprovalAsked,
    ApprovalRequest,
    Decision,
    OutputDelta,
    TextDelta,
    TurnInput,
    TurnStarted,
    UsageUpdated,
)

if TYPE_CHECKING:
    from clew.threads import Thread, Threads, Turn, TurnView

__all__ = ["Chat", "Left"]

Arguments = TypeVarTuple("Arguments")

_SHOWN_TURNS = 3
_REMEMBERED_TURNS = 50
_DIFF_LINES = 300
_TERM_GRACE = 1.5
_ANSWERS = {"y": "once", "a": "for this session", "n": "no", "q": "no, and stop"}
_DECISIONS = {"y": Decision.ONCE, "a": Decision.SESSION, "n": Decision.DENY, "q": Decision.ABORT}
_ANSWERED = {
    Decision.ONCE: "allowed once",
    Decision.SESSION: "allowed for this session",
    Decision.DENY: "refused",
    Decision.ABORT: "refused; the turn stops",
}


class Left(Exception):
    """The person leaves."""


class Chat:
    """One conversation. `thread` may change on the way (`/fork`)."""

    def __init__(self, threads: Threads, thread: Thread, reader: Reader, view: ChatView) -> None:
        self._threads = threads
        self._thread = thread
        self._reader = reader
        self._view = view
        self._turn: Turn | None = None
        self._failed = False
        self._leaving: signal.Signals | None = None
        self._pressed = 0
        self._waiting: anyio.CancelScope | None = None
        self._window: tuple[int, int | None] | None = None
        self._questions = anyio.Lock()
        self._told: dict[str, anyio.Event] = {}

    async def run(self, first: str | None = None, notices: Sequence[str] = ()) -> tuple[int, signal.Signals | None]:
        """Talk until the end of the input. Gives the exit code (1 when the last turn failed) and the signal that ended
        it, if one did. `first` is a message that was given beforehand."""
        async with anyio.create_task_group() as tasks:
            await tasks.start(self._obey_signals)
            await self._open(notices)
            try:
                if first is not None:
                    await self._say(first)
                while self._leaving is None:
                    await self._next()
            except Left:
                pass
            tasks.cancel_scope.cancel()
        return int(self._failed), self._leaving

    # -- beginning

    async def _open(self, notices: Sequence[str]) -> None:
        views: Sequence[TurnView] = ()
        summary = None
        if self._thread.fresh is None:
            summary = await self._threads.summary(self._thread.id)
            try:
                views = tuple(
                    reversed((await self._threads.read(summary.id, limit=_REMEMBERED_TURNS, newest_first=True)).turns)
                )
            except LogDamaged as error:
                notices = (*notices, error.explained())
        if isinstance(self._reader, TerminalReader):
            self._reader.remember(_messages(views))
        earlier = [line for view in views[-_SHOWN_TURNS:] for line in preview_lines(view)]
        await _in_thread(self._view.open, summary, self._thread.settings, earlier)
        for notice in notices:
            terminal.warn(notice)

    # -- lines

    async def _next(self) -> None:
        try:
            line = await self._line()
        except Interrupted:
            self._pressed += 1
            if self._pressed > 1:
                raise Left from None
            await _in_thread(self._view.note, "Ctrl-C again, or Ctrl-D, leaves.")
            return
        if line is None:
            raise Left
        self._pressed = 0
        match slash.read_line(line):
            case None:
                pass
            case slash.Say(text):
                await self._say(text)
            case slash.Wrong() as wrong:
                await _in_thread(self._view.wrong, wrong)
            case slash.Command() as command:
                await self._command(command)

    async def _line(self) -> str | None:
        """The next line; None at the end, and when a signal asks to leave."""
        with anyio.CancelScope() as self._waiting:
            if self._leaving is None:
                return await self._reader.line()
        self._waiting = None
        if self._leaving is None:
            raise Interrupted
        return None

    async def _command(self, command: slash.Command) -> None:
        actions = {
            "save": self._save,
            "name": self._name,
            "fork": self._fork,
            "compact": self._compact,
            "status": self._status,
            "diff": self._diff,
            "help": self._help,
            "quit": self._quit,
        }
        try:
            await actions[command.name](command.argument)
        except ClewError as error:
            await _in_thread(self._view.problem, error.message, error.hint)

    # -- turns

    async def _say(self, text: str) -> None:
        await self._follow(partial(self._thread.run, TurnInput(text=text, trigger="cli"), approver=self))

    async def _compact(self, argument: str) -> None:
        await self._follow(partial(self._thread.compact, trigger="cli"))

    async def _follow(self, ask: Callable[[], Turn]) -> None:
        """Run a turn and show it. A turn that cannot run is told, and the conversation goes on."""
        try:
            self._turn = turn = ask()
            if self._leaving is not None:
                turn.interrupt()
            async with turn.events() as events:
                async for event in events:
                    if isinstance(event, TurnStarted):
                        await _in_thread(self._view.begin, self._thread.id, self._thread.settings, turn.notices)
                    elif isinstance(event, UsageUpdated):
                        self._window = event.last.total_tokens, event.context_window
                    elif isinstance(event, ApprovalAsked):
                        await _in_thread(self._view.event, event)
                        self._told.setdefault(event.request.call_id, anyio.Event()).set()
                        continue
                    if self._view.wants_pieces or not isinstance(event, TextDelta | OutputDelta):
                        await _in_thread(self._view.event, event)
            result = await turn.wait()
            self._failed = result.status == "failed"
            await _in_thread(self._view.end, result)
        except ClewError as error:
            self._failed = True
            await _in_thread(self._view.problem, error.message, error.hint)
        finally:
            self._turn = None
            self._told.clear()
        if self._pressed > 1:
            raise Left
        self._pressed = 0

    async def decide(self, request: ApprovalRequest) -> Decision:
        """Ask the person; what cannot be asked is refused."""
        async with self._questions:
            turn = self._turn
            if turn is None or turn.stop.is_set():
                return Decision.ABORT
            decision = await self._asked(turn, request)
            await _in_thread(self._view.note, f"  {_ANSWERED[decision]}")
            return decision

    async def _asked(self, turn: Turn, request: ApprovalRequest) -> Decision:
        """The answer; a turn that is stopped meanwhile needs none."""
        decision = Decision.ABORT
        async with anyio.create_task_group() as tasks:

            async def stopped() -> None:
                await turn.stop.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(stopped)
            decision = await self._answer(request)
            tasks.cancel_scope.cancel()
        return decision

    async def _answer(self, request: ApprovalRequest) -> Decision:
        # What is asked for stands on the screen first, in its order among the other events.
        await self._told.setdefault(request.call_id, anyio.Event()).wait()
        if not self._reader.can_ask:
            await _in_thread(self._view.note, "Nobody can be asked here.")
            return Decision.DENY
        try:
            key = await self._reader.key("Allow it?", _ANSWERS)
        except Interrupted:
            return Decision.ABORT
        return Decision.DENY if key is None else _DECISIONS[key]

    # -- commands

    async def _save(self, name: str) -> None:
        self._need_recorded("save")
        note = await save_as(self._threads, self._thread.id, name)
        await _in_thread(self._view.note, note)

    async def _name(self, name: str) -> None:
        self._need_recorded("name")
        await self._threads.rename(self._thread.id, name)
        await _in_thread(self._view.note, f"This thread is called {terminal.one_line(name)}.")

    async def _fork(self, argument: str) -> None:
        self._need_recorded("fork")
        old = self._thread
        new_id = await self._threads.fork(old.id)
        self._thread = await self._threads.open(new_id, old.defaults, old.overrides)
        await _in_thread(
            self._view.note, f"This is thread {new_id} now; {old.id} stays as it is (clew resume {old.id})."
        )

    async def _status(self, argument: str) -> None:
        await _in_thread(self._view.facts, await self._facts())

    async def _facts(self) -> Facts:
        thread, settings = self._thread, self._thread.settings
        facts: list[tuple[str, str]] = [("thread", thread.id)]
        if thread.fresh is None:
            summary = await self._threads.summary(thread.id)
            status = await self._threads.status(thread.id)
            if summary.name:
                facts.append(("name", summary.name))
            if summary.saved_as:
                facts.append(("saved as", ", ".join(summary.saved_as)))
            facts.append(("file", f"{summary.path} ({summary.size:,} bytes)"))
            if status.owner is not None:
                facts.append(("held by", str(status.owner)))
        else:
            facts.append(("file", "none before the first message"))
        effort = f", {settings.effort}" if settings.effort else ""
        facts += [
            ("model", f"{settings.model} ({settings.provider}){effort}"),
            ("folder", settings.cwd),
            ("sandbox", sandbox_text(settings.sandbox)),
            ("approval", str(settings.approval)),
        ]
        if self._window is not None:
            used, size = self._window
            facts.append(("context", f"{used:,} tokens" + (f" of {size:,} ({used * 100 // size} %)" if size else "")))
        return facts

    async def _diff(self, argument: str) -> None:
        from clew.agent.repository import working_diff

        text = await working_diff(self._thread.settings.cwd)
        if text is None:
            await _in_thread(self._view.note, f"{self._thread.settings.cwd} is not in a git repository.")
        elif not text:
            await _in_thread(self._view.note, "Nothing changed since the last commit.")
        else:
            await _in_thread(partial(self._view.diff, most=_DIFF_LINES), text)

    async def _help(self, argument: str) -> None:
        keys = "Ctrl-C stops a turn; Ctrl-C twice or Ctrl-D leaves. Alt-Enter begins a new line."
        await _in_thread(self._view.note, f"{slash.slash_help()}\n{keys}")

    async def _quit(self, argument: str) -> None:
        raise Left

    def _need_recorded(self, what: str) -> None:
        if self._thread.fresh is not None:
            raise ClewError(f"there is nothing to {what} yet", hint="Say something first.")

    # -- signals

    async def _obey_signals(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            task_status.started()
            async for number in signals:
                if number is not signal.SIGINT:
                    self._leaving = number
                if self._turn is not None:
                    self._pressed += 1
                    self._turn.interrupt()
                elif self._waiting is not None:
                    self._waiting.cancel()
                if self._leaving is not None:
                    break
        # What hangs now must not keep the program from ending as it was told to.
        await anyio.sleep(_TERM_GRACE)
        from clew.cli.exec_run import die

        die(self._leaving or signal.SIGTERM)


async def save_as(threads: Threads, thread_id: str, name: str) -> str:
    """Save a thread under a name; what to tell about it."""
    saved = await threads.save(name, thread_id)
    told = f"Saved as {terminal.one_line(saved.name)}."
    return told if saved.moved_from is None else f"{told} Until now that was {saved.moved_from}."


def _messages(views: Sequence[TurnView]) -> list[str]:
    """What the person said, oldest first."""
    items = [item for view in views for item in view.items if item.get("type") == "userMessage"]
    return [text for item in items if (text := content_text(item).strip())]


async def _in_thread(call: Callable[[*Arguments], None], *arguments: *Arguments) -> None:
    # Writing blocks while the reader is slow; signals must be obeyed nevertheless.
    await to_thread.run_sync(call, *arguments, abandon_on_cancel=True)
