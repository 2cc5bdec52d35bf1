"""The front of the tools: what the model is told about them, and one door through which every call goes."""

from __future__ import annotations

import os
import pwd
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from clew.agent.approvals import ApprovalRules
from clew.agent.sandbox import Confinement, detect
from clew.agent.shell_lines import PatchCommand
from clew.agent.tools.apply_patch import ApplyPatch
from clew.agent.tools.contracts import Finished, Tool, ToolCall, ToolContext, ToolFailed, ToolOutcome, aborted
from clew.agent.tools.exec_command import CommandSettings, ExecCommand, WriteStdin, announce
from clew.agent.tools.process_table import ProcessTable
from clew.agent.tools.view_image import ViewImage
from clew.errors import ClewError, PatchInvalid, ToolDenied

__all__ = ["ToolBox"]


class ToolBox:
    """The tools of one engine, for any number of threads.

    `environment` is what commands inherit: leave out of it what a model must not see. `confinement` is found out on
    first use when None. `extra` tools come after the built-in ones. Session ids, answers for the session and locks
    are kept apart by thread. Close it in the end: nothing it started runs on.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        shell: str | None = None,
        confinement: Confinement | None = None,
        rules: ApprovalRules | None = None,
        extra: Sequence[Tool] = (),
    ) -> None:
        self._environment = dict(environment)
        self._confinement = confinement
        self._detecting = anyio.Lock()
        self._table = ProcessTable()
        self._queues: dict[tuple[str, str], _TurnQueue] = {}
        rules = rules or ApprovalRules()
        self._patch = ApplyPatch(rules, self._environment)
        settings = CommandSettings(
            environment=self._environment,
            shell=shell or find_shell(self._environment),
            confinement=self.confinement,
        )
        self._exec = ExecCommand(self._table, rules, settings, self._patched)
        built_in: list[Tool] = [
            self._exec,
            WriteStdin(self._table),
            self._patch,
            ViewImage(),
        ]
        self._tools = {tool.name: tool for tool in (*built_in, *extra)}

    def specs(self, freeform_patch: bool = True) -> list[dict[str, Any]]:
        """The tools as they are sent to the model; `apply_patch` as a freeform tool or as a function."""
        return [
            self._patch.spec(freeform=freeform_patch) if tool is self._patch else tool.spec()
            for tool in self._tools.values()
        ]

    async def confinement(self) -> Confinement:
        """How this machine confines commands; found out once."""
        async with self._detecting:
            if self._confinement is None:
                self._confinement = await anyio.to_thread.run_sync(detect, self._environment)
            return self._confinement

    async def run(self, call: ToolCall, ctx: ToolContext) -> ToolOutcome:
        """Carry out one call. Calls of a turn queue in the order in which `run` was entered: start one task per call.

        Always answers: bad calls, refusals and failures are texts for the model. `ctx.stop` ends the call, kills what
        it runs and answers `aborted by user`. Raises only what is not about the call (a full disk while recording).
        """
        started = ctx.clock.monotonic()
        tool = self._tools.get(call.name) if not call.namespace else None
        if tool is None:
            name = f"{call.namespace or ''}{call.name}"
            kind = "custom tool call" if call.kind == "custom" else "call"
            return ToolOutcome(output=f"unsupported {kind}: {name}", success=False)
        if call.kind not in tool.kinds:
            wanted = "a custom tool call" if call.kind == "function" else "a function call"
            return ToolOutcome(output=f"{call.name} must be called as {wanted}", success=False)
        if ctx.stop.is_set():
            return aborted(0)
        shared = tool.parallel and not (tool is self._exec and self._exec.is_patch(call))
        outcome: ToolOutcome | None = None
        failure: Exception | None = None
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(_cancel_on, ctx.stop, group.cancel_scope)
                async with self._turn(ctx, shared=shared):
                    try:
                        outcome = await tool.run(call, ctx)
                    except (ToolFailed, ToolDenied, PatchInvalid) as error:
                        outcome = ToolOutcome(output=error.message, success=False)
                    except Exception as error:
                        failure = error
                group.cancel_scope.cancel()
        finally:
            cut = self._table.cut.pop(call.call_id, None)
        if failure is not None:
            if isinstance(failure, OSError) and not isinstance(failure, ClewError):
                return ToolOutcome(output=f"{call.name} failed: {failure}", success=False, finished=cut)
            raise failure
        return outcome or aborted(ctx.clock.monotonic() - started, cut)

    async def collect(self, ctx: ToolContext) -> list[Finished]:
        """Announce commands of the thread that ended since a call left them running, and hand out their items.

        To be called when a turn starts or ends, so that the log learns of them. Their last output still waits for
        the model to ask for it.
        """
        entries = self._table.ended(ctx.thread_id)
        found = [await announce(command, process, ctx) for command, process in entries]
        return [finished for finished in found if finished]

    async def close(self, ctx: ToolContext | None = None) -> list[Finished]:
        """Kill what still runs: of the thread of `ctx` (then its items are announced and handed out), or everything.

        After closing everything no command starts any more.
        """
        ended = await self._table.close(ctx.thread_id if ctx else None)
        if ctx is None:
            return []
        found = [await announce(command, process, ctx) for command, process in ended]
        return [finished for finished in found if finished]

    async def _patched(self, call: ToolCall, patch: PatchCommand, cwd: str, ctx: ToolContext) -> ToolOutcome:
        """A patch that came as a command line: the answer has a command's head."""
        started = ctx.clock.monotonic()
        outcome = await self._patch.apply(call, patch.patch, cwd, ctx)
        if not outcome.success or not isinstance(outcome.output, str):
            return outcome
        text = f"Wall time: {ctx.clock.monotonic() - started:.4f} seconds\nOutput:\n{outcome.output}"
        return ToolOutcome(output=text, success=True, finished=outcome.finished)

    @asynccontextmanager
    async def _turn(self, ctx: ToolContext, *, shared: bool) -> AsyncGenerator[None]:
        key = (ctx.thread_id, ctx.turn_id)
        queue = self._queues.setdefault(key, _TurnQueue())
        try:
            async with queue.place(shared=shared):
                yield
        finally:
            if queue.idle:
                self._queues.pop(key, None)


class _TurnQueue:
    """A read-write lock that serves in the order of arrival."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[bool, anyio.Event]] = deque()
        self._shared = 0
        self._alone = False

    @property
    def idle(self) -> bool:
        return not (self._waiting or self._shared or self._alone)

    @asynccontextmanager
    async def place(self, *, shared: bool) -> AsyncGenerator[None]:
        if self._waiting or not self._free(shared):
            ticket = (shared, anyio.Event())
            self._waiting.append(ticket)
            try:
                await ticket[1].wait()
            except BaseException:
                if ticket in self._waiting:
                    self._waiting.remove(ticket)
                    self._admit()
                else:
                    self._leave(shared)
                raise
        else:
            self._enter(shared)
        try:
            yield
        finally:
            self._leave(shared)

    def _free(self, shared: bool) -> bool:
        return not self._alone and (shared or not self._shared)

    def _enter(self, shared: bool) -> None:
        if shared:
            self._shared += 1
        else:
            self._alone = True

    def _leave(self, shared: bool) -> None:
        if shared:
            self._shared -= 1
        else:
            self._alone = False
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._free(self._waiting[0][0]):
            shared, event = self._waiting.popleft()
            self._enter(shared)
            event.set()


async def _cancel_on(stop: anyio.Event, scope: anyio.CancelScope) -> None:
    await stop.wait()
    scope.cancel()


def find_shell(environment: Mapping[str, str]) -> str:
    """The person's shell, if it understands `-lc SCRIPT`; else bash, else sh."""
    try:
        account = pwd.getpwuid(os.getuid()).pw_shell
    except KeyError:
        account = ""
    for candidate in (environment.get("SHELL", ""), account, "/bin/bash", "/usr/bin/bash"):
        path = Path(candidate)
        if path.is_absolute() and path.name in ("bash", "zsh", "sh", "dash", "ksh") and os.access(path, os.X_OK):
            return candidate
    return "/bin/sh"
