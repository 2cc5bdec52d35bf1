"""The tools that run commands: `exec_command` starts one, `write_stdin` goes on with one that still runs.

On an interruption the command that is being waited for is killed with its whole group, and so is everything that
still runs when the box is closed: nothing works on unseen. (Codex lets an interrupted command live on.)
"""

from __future__ import annotations

import codecs
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import anyio
import anyio.to_thread
import msgspec

from clew.agent.approvals import REJECTED_BY_USER, ApprovalRules, Verdict, rejected
from clew.agent.sandbox import Confinement
from clew.agent.shell_lines import PatchCommand, actions, display, find_patch
from clew.agent.tools.contracts import (
    Finished,
    ToolCall,
    ToolContext,
    ToolFailed,
    ToolOutcome,
    aborted,
    parse_arguments,
)
from clew.agent.tools.process_table import Command, ProcessTable
from clew.agent.tools.processes import Process
from clew.agent.tools.truncation import budget_for, count_tokens, truncate
from clew.errors import SandboxUnavailable
from clew.events import ApprovalRequest, Decision, Item, ItemCompleted, ItemStarted, OutputDelta
from clew.history.truncation import tokens as tokens_of
from clew.settings import SandboxMode

__all__ = ["CommandSettings", "ExecCommand", "WriteStdin"]

_YIELD_DEFAULT, _YIELD_LEAST, _YIELD_MOST = 10_000, 250, 30_000
_WRITE_DEFAULT = 250
_POLL_LEAST, _POLL_MOST = 5_000, 300_000
_DELTA_PAUSE = 0.03  # seconds between two pieces of live output, so that many small writes become one event
_STDIN_CLOSED = (
    "write_stdin failed: stdin is closed for this session; rerun exec_command with tty=true to keep stdin open"
)
_INTERRUPT = "\u0003"

Patcher = Callable[[ToolCall, PatchCommand, str, ToolContext], Awaitable[ToolOutcome]]
"""Runs a patch found in a command line, in the given directory."""


class _ExecArguments(msgspec.Struct, frozen=True):
    cmd: str
    workdir: str | None = None
    shell: str | None = None
    login: bool = True
    tty: bool = False
    yield_time_ms: float | None = None
    max_output_tokens: float | None = None
    sandbox_permissions: str | None = None
    justification: str | None = None


class _WriteArguments(msgspec.Struct, frozen=True):
    session_id: float
    chars: str = ""
    yield_time_ms: float | None = None
    max_output_tokens: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSettings:
    """What commands run with: their environment (before the fixed part), the shell's path, how they are confined."""

    environment: Mapping[str, str]
    shell: str
    confinement: Callable[[], Awaitable[Confinement]]


class ExecCommand:
    """`exec_command`: run a line in the person's shell, and answer when it ends or its time to yield is over."""

    name = "exec_command"
    kinds: frozenset[Literal["function", "custom"]] = frozenset({"function"})
    parallel = True

    def __init__(self, table: ProcessTable, rules: ApprovalRules, settings: CommandSettings, patch: Patcher) -> None:
        self._table = table
        self._rules = rules
        self._settings = settings
        self._patch = patch

    def spec(self) -> dict[str, Any]:
        return {
            "type": "function",
            "name": self.name,
            "description": "Run a shell command. Answers with its output, or with a session ID too if it still runs.",
            "strict": False,
            "parameters": {
                "type": "object",
                "properties": {
                    "cmd": {"type": "string", "description": "The command line."},
                    "workdir": {"type": "string", "description": "Directory to run in; the turn's own if left out."},
                    "shell": {"type": "string", "description": "Shell to use; the user's own if left out."},
                    "login": {"type": "boolean", "description": "Start the shell as a login shell (default true)."},
                    "tty": {
                        "type": "boolean",
                        "description": "Give the command a terminal, so that it can be typed into; otherwise it has "
                        "plain pipes and a closed standard input.",
                    },
                    "yield_time_ms": {
                        "type": "number",
                        "description": "How long to wait for the end (250 to 30000, default 10000 ms).",
                    },
                    "max_output_tokens": {
                        "type": "number",
                        "description": "How much output to return (default 10000; the model's own limit counts too).",
                    },
                    "sandbox_permissions": {
                        "type": "string",
                        "enum": ["use_default", "require_escalated"],
                        "description": "`require_escalated` asks the user to run this one command unconfined.",
                    },
                    "justification": {
                        "type": "string",
                        "description": "With `require_escalated`: the question to the user, in one sentence.",
                    },
                    "prefix_rule": {
                        "type": "array",
                        "items": {"type": "string"},
                        "description": "With `require_escalated`: the leading words that alike commands share.",
                    },
                },
                "required": ["cmd"],
                "additionalProperties": False,
            },
        }

    def is_patch(self, call: ToolCall) -> bool:
        """Whether the call is a patch in the clothes of a command."""
        try:
            return find_patch(parse_arguments(call.arguments, _ExecArguments).cmd) is not None
        except ToolFailed:
            return False

    async def run(self, call: ToolCall, ctx: ToolContext) -> ToolOutcome:
        arguments = parse_arguments(call.arguments, _ExecArguments)
        cwd = str(Path(ctx.settings.cwd, arguments.workdir or "."))
        if patch := find_patch(arguments.cmd):
            folder = str(Path(cwd, patch.workdir)) if patch.workdir else cwd
            return await self._patch(call, patch, folder, ctx)
        shell = arguments.shell or self._settings.shell
        argv = (shell, "-lc" if arguments.login else "-c", arguments.cmd)
        escalated = arguments.sandbox_permissions == "require_escalated"
        command = Command(
            id=0, thread_id=ctx.thread_id, turn_id=ctx.turn_id, call_id=call.call_id, argv=argv, script=arguments.cmd,
            cwd=cwd, started=ctx.clock.monotonic(), started_at_ms=int(ctx.clock.now() * 1000),
        )  # fmt: skip
        confinement = await self._settings.confinement()
        ruling = self._rules.command(
            argv,
            thread_id=ctx.thread_id,
            cwd=cwd,
            settings=ctx.settings,
            confinement=confinement,
            escalated=escalated,
            reason=arguments.justification,
        )
        unconfined = ruling.verdict is Verdict.UNSANDBOXED
        if ruling.verdict is Verdict.REFUSE:
            return ToolOutcome(output=ruling.text, success=False)
        if ruling.verdict is Verdict.ASK:
            await ctx.emit(ItemStarted(ctx.turn_id, _item(command, "inProgress")))
            command.announced = True
            request = ApprovalRequest(
                kind="command",
                thread_id=ctx.thread_id,
                turn_id=ctx.turn_id,
                call_id=call.call_id,
                cwd=cwd,
                command=argv,
                escalated=ruling.escalated,
                reason=ruling.text or None,
            )
            try:
                decision = await self._rules.ask(request, settings=ctx.settings, approver=ctx.approver, emit=ctx.emit)
            except anyio.get_cancelled_exc_class():
                with anyio.CancelScope(shield=True):
                    self._table.cut[call.call_id] = await _complete(command, ctx, "declined")
                raise
            if decision in (Decision.DENY, Decision.ABORT):
                finished = await _complete(command, ctx, "declined")
                if decision is Decision.ABORT:
                    return aborted(ctx.clock.monotonic() - command.started, finished)
                return ToolOutcome(output=REJECTED_BY_USER, success=False, finished=finished)
            unconfined = ruling.escalated
            command.started = ctx.clock.monotonic()
        return await self._start(command, arguments, ctx, confinement, unconfined=unconfined)

    async def _start(
        self,
        command: Command,
        arguments: _ExecArguments,
        ctx: ToolContext,
        confinement: Confinement,
        *,
        unconfined: bool,
    ) -> ToolOutcome:
        policy = ctx.settings.sandbox
        if unconfined:
            policy = msgspec.structs.replace(policy, mode=SandboxMode.FULL_ACCESS)
        environment = {**self._settings.environment, **FIXED_ENVIRONMENT}
        environment |= {
            "CODEX_THREAD_ID": ctx.thread_id,
            "CODEX_SESSION_ID": ctx.session_id or ctx.thread_id,
            "CODEX_TOOL_CALL_ID": command.call_id,
        }
        if policy.mode is not SandboxMode.FULL_ACCESS:
            environment["CODEX_SANDBOX"] = confinement.mechanism.value
            if policy.mode is SandboxMode.READ_ONLY or not policy.network_access:
                environment["CODEX_SANDBOX_NETWORK_DISABLED"] = "1"
        try:
            argv = await anyio.to_thread.run_sync(
                lambda: confinement.wrap(
                    command.argv, cwd=command.cwd, policy=policy, environment=environment, tty=arguments.tty
                )
            )
            process = Process(argv, cwd=command.cwd, environment=environment, tty=arguments.tty)
            await self._table.add(command, process, ctx.ids)
        except (OSError, SandboxUnavailable) as error:
            why = f"{error.strerror} (os error {error.errno})" if isinstance(error, OSError) else str(error)
            text = rejected(f"Failed to create unified exec process: {why}")
            finished = await _complete(command, ctx, "failed", exit_code=-1) if command.announced else None
            return ToolOutcome(output=text, success=False, finished=finished)
        try:
            if not command.announced:
                await ctx.emit(ItemStarted(ctx.turn_id, _item(command, "inProgress")))
            wait = _YIELD_DEFAULT if arguments.yield_time_ms is None else arguments.yield_time_ms
            wait = min(max(wait, _YIELD_LEAST), _YIELD_MOST)
            return await _answer(
                self._table, command, process, ctx, seconds=wait / 1000, tokens=arguments.max_output_tokens
            )
        except BaseException:
            await _cut_short(self._table, command, process, ctx, command.call_id)
            raise


class WriteStdin:
    """`write_stdin`: type into a running command, interrupt it, or only look whether there is news."""

    name = "write_stdin"
    kinds: frozenset[Literal["function", "custom"]] = frozenset({"function"})
    parallel = True

    def __init__(self, table: ProcessTable) -> None:
        self._table = table

    def spec(self) -> dict[str, Any]:
        return {
            "type": "function",
            "name": self.name,
            "description": "Type into a command that exec_command left running, or look for new output of it.",
            "strict": False,
            "parameters": {
                "type": "object",
                "properties": {
                    "session_id": {"type": "number", "description": "The session ID exec_command answered with."},
                    "chars": {"type": "string", "description": "What to type; empty or left out: only look."},
                    "yield_time_ms": {
                        "type": "number",
                        "description": "How long to wait for output: with text 250 (default) to 30000 ms, without "
                        "5000 (default) to 300000 ms; it answers at once when the command ends.",
                    },
                    "max_output_tokens": {
                        "type": "number",
                        "description": "How much output to return (default 10000).",
                    },
                },
                "required": ["session_id"],
                "additionalProperties": False,
            },
        }

    async def run(self, call: ToolCall, ctx: ToolContext) -> ToolOutcome:
        arguments = parse_arguments(call.arguments, _WriteArguments)
        session = int(arguments.session_id)
        entry = self._table.find(session, ctx.thread_id)
        if entry is None:
            raise ToolFailed(f"write_stdin failed: Unknown process id {session}")
        command, process = entry
        async with process.lock:
            if self._table.find(session, ctx.thread_id) is None:
                raise ToolFailed(f"write_stdin failed: Unknown process id {session}")
            started = ctx.clock.monotonic()
            try:
                if arguments.chars:
                    wait = _WRITE_DEFAULT if arguments.yield_time_ms is None else arguments.yield_time_ms
                    wait = min(max(wait, _YIELD_LEAST), _YIELD_MOST)
                    await _type(process, arguments.chars, wait / 1000)
                else:
                    wait = _POLL_LEAST if arguments.yield_time_ms is None else arguments.yield_time_ms
                    wait = min(max(wait, _POLL_LEAST), _POLL_MOST)
                return await _answer(
                    self._table, command, process, ctx,
                    seconds=wait / 1000, tokens=arguments.max_output_tokens, since=started, locked=True,
                )  # fmt: skip
            except anyio.get_cancelled_exc_class():
                await _cut_short(self._table, command, process, ctx, call.call_id)
                raise


FIXED_ENVIRONMENT = {
    "NO_COLOR": "1",
    "TERM": "dumb",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "LC_CTYPE": "C.UTF-8",
    "COLORTERM": "",
    "PAGER": "cat",
    "GIT_PAGER": "cat",
    "GH_PAGER": "cat",
    "CODEX_CI": "1",
}


async def _type(process: Process, text: str, seconds: float) -> None:
    if process.tty:
        if not process.finished and not await process.write(text.encode("utf-8", "replace"), seconds):
            raise ToolFailed("write_stdin failed: the command did not take the input in time")
    elif text == _INTERRUPT:
        process.send_signal(signal.SIGINT)
    else:
        raise ToolFailed(_STDIN_CLOSED)


async def _answer(
    table: ProcessTable,
    command: Command,
    process: Process,
    ctx: ToolContext,
    *,
    seconds: float,
    tokens: float | None,
    since: float | None = None,
    locked: bool = False,
) -> ToolOutcome:
    """Wait for the end, at most `seconds`, showing live output meanwhile; then the answer to the model."""
    started = command.started if since is None else since
    if locked:
        await _watch(command, process, ctx, seconds)
    else:
        async with process.lock:
            await _watch(command, process, ctx, seconds)
    elapsed = ctx.clock.monotonic() - started
    finished: Finished | None = None
    ended = process.finished
    fresh = process.take_fresh()
    if ended:
        finished = await _settle(table, command, process, ctx)
    text = fresh.text()
    original = tokens_of(fresh.total) if fresh.omitted else count_tokens(text)
    lines = [
        f"Chunk ID: {ctx.ids.uuid7()[-6:]}",
        f"Wall time: {elapsed:.4f} seconds",
        f"Process exited with code {process.exit_code}" if ended else f"Process running with session ID {command.id}",
        f"Original token count: {original}",
        "Output:",
        truncate(text, budget_for(ctx.policy, tokens), original=original, omitted=fresh.omitted),
    ]
    success = not ended or process.exit_code == 0
    return ToolOutcome(output="\n".join(lines), success=success, finished=finished)


async def _watch(command: Command, process: Process, ctx: ToolContext, seconds: float) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")

    async def show(*, final: bool) -> None:
        live = process.take_live()
        if live.omitted:
            text = decoder.decode(b"", True) + live.text()
            decoder.reset()
        else:
            text = decoder.decode(live.data(), final)
        if text:
            await ctx.emit(OutputDelta(command.turn_id, command.call_id, text))

    with anyio.move_on_after(seconds):
        while not process.finished:
            await process.changed()
            await show(final=False)
            if not process.finished:
                await anyio.sleep(_DELTA_PAUSE)
    await show(final=True)


async def announce(command: Command, process: Process, ctx: ToolContext) -> Finished | None:
    """Announce the item of a command that has ended; None when that was done before."""
    if command.finished is not None:
        return None
    with anyio.CancelScope(shield=True):
        code = -1 if command.killed or process.exit_code is None else process.exit_code
        status = "completed" if code == 0 else "failed"
        output = await anyio.to_thread.run_sync(process.whole)
        command.finished = await _complete(command, ctx, status, exit_code=code, output=output)
    return command.finished


async def _settle(table: ProcessTable, command: Command, process: Process, ctx: ToolContext) -> Finished | None:
    """The model is told of the end: announce the item, if that is still to do, and forget the session."""
    finished: Finished | None = None
    with anyio.CancelScope(shield=True):
        finished = await announce(command, process, ctx)
        await table.remove(command.id)
    return finished


async def _cut_short(table: ProcessTable, command: Command, process: Process, ctx: ToolContext, call_id: str) -> None:
    """Kill a command whose call is given up, and leave its item for the box to hand on."""
    with anyio.CancelScope(shield=True):
        command.killed = command.killed or not process.finished
        await process.end()
        if finished := await _settle(table, command, process, ctx):
            table.cut[call_id] = finished


async def _complete(
    command: Command, ctx: ToolContext, status: str, *, exit_code: int | None = None, output: str | None = None
) -> Finished:
    now = int(ctx.clock.now() * 1000)
    seconds = max(0.0, ctx.clock.monotonic() - command.started)
    if status == "declined":
        seconds = 0.0
    item = _item(command, status, exit_code=exit_code, output=output, seconds=seconds, completed_at_ms=now)
    recorded: dict[str, Any] = {
        "type": "CommandExecution",
        "id": command.call_id,
        **({"process_id": str(command.id)} if command.id else {}),
        "command": list(command.argv),
        "cwd": Path(command.cwd).as_uri() if Path(command.cwd).is_absolute() else command.cwd,
        "parsed_cmd": [_recorded_action(action, command.script) for action in actions(command.script, command.cwd)],
        "source": "unified_exec_startup" if command.id else "agent",
        "status": status,
        "aggregated_output": output or "",
        "exit_code": exit_code if exit_code is not None else -1,
        "duration": {"secs": int(seconds), "nanos": int(seconds % 1 * 1_000_000_000)},
    }
    finished = Finished(
        turn_id=command.turn_id,
        item=item,
        recorded=recorded,
        started_at_ms=command.started_at_ms,
        completed_at_ms=now,
    )
    await ctx.emit(ItemCompleted(command.turn_id, item))
    return finished


def _recorded_action(action: dict[str, Any], script: str) -> dict[str, Any]:
    """The log's spelling of a command action: `cmd`, snake case, paths as written."""
    kind = {"listFiles": "list_files"}.get(action["type"], action["type"])
    rest = {key: value for key, value in action.items() if key not in ("type", "command")}
    if kind == "read":
        rest["path"] = script.split(None, 1)[1].strip().strip("'\"")
    return {"type": kind, "cmd": action["command"], **rest}


def _item(
    command: Command,
    status: str,
    *,
    exit_code: int | None = None,
    output: str | None = None,
    seconds: float | None = None,
    completed_at_ms: int | None = None,
) -> Item:
    known = status not in ("inProgress", "declined")
    return Item(
        id=command.call_id,
        type="commandExecution",
        fields={
            "pluginId": None,
            "scriptPath": None,
            "command": display(command.argv),
            "cwd": command.cwd,
            "processId": str(command.id) if command.id else None,
            "source": "unifiedExecStartup" if command.id else "agent",
            "status": status,
            "commandActions": actions(command.script, command.cwd),
            "aggregatedOutput": output or None,
            "exitCode": exit_code if known else None,
            "durationMs": int((seconds or 0) * 1000) if known else None,
            "startedAtMs": command.started_at_ms,
            "completedAtMs": completed_at_ms,
        },
    )
