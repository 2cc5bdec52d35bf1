"""Running the one turn of `clew exec`: open the thread, follow the turn, obey signals."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVarTuple

import anyio
from anyio import to_thread
from anyio.abc import TaskStatus

from clew.cli import opening, terminal
from clew.cli.exec_request import Request
from clew.cli.exec_view import View
from clew.cli.opening import default_settings, kept_rights, named_overrides, temporary_home
from clew.cli.options import Globals
from clew.config import Config
from clew.errors import ClewError, ThreadNotFound
from clew.events import ApprovalRequest, Decision, OutputDelta, TextDelta, TurnInput, TurnStarted
from clew.ids import is_uuid
from clew.settings import ApprovalPolicy
from clew.store.contracts import ListQuery

if TYPE_CHECKING:
    from clew.threads import Thread, Threads, Turn

__all__ = ["ORIGINATOR", "Outcome", "Refuse", "Run", "check_policy", "die", "follow", "newest", "open_thread", "run"]

Arguments = TypeVarTuple("Arguments")

ORIGINATOR = "clew_exec"
_ORIGINATOR_VARIABLE = "CODEX_INTERNAL_ORIGINATOR_OVERRIDE"
_TERM_GRACE = 1.5
"""Seconds that a terminated run may take to stop its commands and to record the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """All that one run needs."""

    request: Request
    config: Config
    options: Globals
    turn: TurnInput
    ephemeral: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: the exit code, the last message, and the signal that ended it, if one did."""

    code: int
    message: str | None = None
    signal: signal.Signals | None = None


class Refuse:
    """Nobody can be asked here: every question is answered with no."""

    async def decide(self, request: ApprovalRequest) -> Decision:
        return Decision.DENY


def check_policy(config: Config) -> None:
    """Refuse a policy under which every command would need an answer that nobody can give."""
    if config.approval_policy is ApprovalPolicy.UNTRUSTED:
        raise ClewError(
            'approval_policy = "untrusted" is no longer supported; remove this setting',
            hint="`clew exec` cannot ask: use on-request or never.",
        )


async def run(plan: Run, view: View) -> Outcome:
    """Run the turn in its home."""
    async with _home(plan) as (threads, leftover):
        thread, notices = await open_thread(threads, plan)
        return await follow(thread, plan.turn, view, notices, leftover=leftover)


@asynccontextmanager
async def _home(plan: Run) -> AsyncGenerator[tuple[Threads, Path | None]]:
    if not plan.ephemeral:
        async with opening.open_home(plan.config, "clew exec") as threads:
            yield threads, None
        return
    with temporary_home(plan.config) as config:
        async with opening.open_home(config, "clew exec") as threads:
            yield threads, config.codex_home.parent


async def open_thread(threads: Threads, plan: Run) -> tuple[Thread, tuple[str, ...]]:
    """The thread that is asked for, and what to tell about it."""
    request = plan.request
    defaults = default_settings(plan.config, plan.options)
    if request.action == "start":
        originator = os.environ.get(_ORIGINATOR_VARIABLE) or ORIGINATOR
        return await threads.start(defaults, source="exec", originator=originator), ()
    overrides, notices = named_overrides(plan.config, plan.options)
    reference = request.reference
    if reference is None:
        reference = await newest(threads, None if request.anywhere else defaults.cwd)
    try:
        if request.action == "fork":
            reference = await threads.fork(reference)
        thread = await threads.open(reference, defaults, overrides)
        return thread, (*notices, *kept_rights(plan.config, plan.options, thread.settings))
    except ThreadNotFound:
        if not is_uuid(reference):
            raise
        # Programs know this failure by these words.
        call = f"thread/{request.action}"
        raise ClewError(
            f"{call}: {call} failed: no rollout found for thread id {reference} (code -32600)",
            hint="`clew list --all` shows the threads of this home.",
        ) from None


async def follow(
    thread: Thread, turn_input: TurnInput, view: View, notices: Sequence[str] = (), *, leftover: Path | None = None
) -> Outcome:
    """Run a turn and show it until it ends. Ctrl-C interrupts it; a termination ends it quickly.

    `leftover` is a folder to be removed when there is no time to end properly.
    """
    stops = _Stops()
    outcome = Outcome(1)
    async with anyio.create_task_group() as group:
        # Before the turn begins: a signal must never find nobody.
        await group.start(_obey_signals, stops, leftover)
        stops.turn = turn = thread.run(turn_input, approver=Refuse())
        try:
            await _show(thread, turn, view, notices)
            result = await turn.wait()
            await _in_thread(view.end, result)
            outcome = Outcome(0 if result.status == "completed" else 1, result.last_message)
        except BrokenPipeError:
            # The reader is gone; a turn that nobody can see must not go on spending.
            terminal.silence()
            turn.interrupt()
            await turn.wait()
        group.cancel_scope.cancel()
    return replace(outcome, signal=signal.SIGTERM) if signal.SIGTERM in stops.signals else outcome


async def _show(thread: Thread, turn: Turn, view: View, notices: Sequence[str]) -> None:
    async with turn.events() as events:
        async for event in events:
            if isinstance(event, TurnStarted):
                await _in_thread(view.begin, thread.id, thread.settings, [*notices, *turn.notices])
            if view.wants_pieces or not isinstance(event, TextDelta | OutputDelta):
                await _in_thread(view.event, event)


def die(number: signal.Signals, leftover: Path | None = None) -> None:
    """End as the signal ends programs that do not handle it; removes the folder `leftover` first."""
    if leftover is not None:
        shutil.rmtree(leftover, ignore_errors=True)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


async def _in_thread(call: Callable[[*Arguments], None], *arguments: *Arguments) -> None:
    # Writing blocks while the reader is slow; signals must be obeyed nevertheless.
    await to_thread.run_sync(call, *arguments, abandon_on_cancel=True)


class _Stops:
    """The signals that came, and the turn they mean."""

    def __init__(self) -> None:
        self.signals: list[signal.Signals] = []
        self.turn: Turn | None = None


async def _obey_signals(
    stops: _Stops, leftover: Path | None, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for number in signals:
            if stops.signals:
                die(number, leftover)
            stops.signals.append(number)
            if stops.turn is not None:
                stops.turn.interrupt()
            if number is signal.SIGTERM:
                break
        with anyio.move_on_after(_TERM_GRACE):
            await anyio.sleep_forever()
        die(signal.SIGTERM, leftover)


async def newest(threads: Threads, folder: str | None) -> str:
    """The id of the newest thread of a folder (None: of any) that belongs to no other thread."""
    query = ListQuery(cwd=folder, limit=50)
    while True:
        page = await threads.list(query)
        for thread in page.threads:
            if thread.parent_id is None and (folder is None or thread.cwd == folder):
                return thread.id
        if page.next_cursor is None:
            where = f"in {folder}" if folder else "in this home"
            raise ClewError(f"there is no thread {where} yet", hint="`--all` looks in all folders." if folder else "")
        query = ListQuery(cwd=folder, limit=50, cursor=page.next_cursor)
