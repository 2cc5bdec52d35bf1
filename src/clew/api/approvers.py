"""Who answers when a command needs an approval."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import anyio.to_thread

from clew.events import ApprovalRequest, Decision
from clew.turn import Turn

__all__ = ["Approver", "Asking", "approve_all", "deny_all"]

Approver = Callable[[ApprovalRequest], Decision | Awaitable[Decision]]
"""Answers a question. A plain function may block: it is called in a thread of its own. What one raises stops the turn
and comes out of the block or call that asked for it."""


def deny_all(request: ApprovalRequest) -> Decision:
    """No to everything: what needs an approval is refused, and the model goes on without it."""
    return Decision.DENY


def approve_all(request: ApprovalRequest) -> Decision:
    """Yes to everything that is asked, also outside of the sandbox. Only for machines that are confined themselves."""
    return Decision.ONCE


class Asking:
    """Puts the questions of one turn; those of a turn that is stopped need no answer any more."""

    def __init__(self, approver: Approver) -> None:
        self._approver = approver
        self.turn: Turn | None = None
        self.failure: Exception | None = None

    async def decide(self, request: ApprovalRequest) -> Decision:
        decision = Decision.ABORT
        async with anyio.create_task_group() as tasks:
            if self.turn is not None:
                tasks.start_soon(_when_stopped, self.turn, tasks.cancel_scope)
            try:
                decision = await self._answer(request)
            except Exception as error:  # of the program's own; the turn ends in good order first
                self.failure = error
            tasks.cancel_scope.cancel()
        return decision

    async def _answer(self, request: ApprovalRequest) -> Decision:
        call: Any = self._approver
        if inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(getattr(call, "__call__", None)):  # noqa: B004 - an object may be the function
            answer = call(request)
        else:
            answer = await anyio.to_thread.run_sync(partial(call, request), abandon_on_cancel=True)
        return Decision(await answer if inspect.isawaitable(answer) else answer)


async def _when_stopped(turn: Turn, scope: anyio.CancelScope) -> None:
    await turn.stop.wait()
    scope.cancel()
