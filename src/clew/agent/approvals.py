"""What may run without a question, what needs one, and what was answered before.

The table, per approval policy (`untrusted` / `on-request` / `never`):

    ordinary command          asks                    runs in the sandbox     runs in the sandbox
    `rm -f` and its like      asks                    asks                    refused
    escalation requested      asks, then unconfined   asks, then unconfined   refused
    no sandbox on this machine  asks, then unconfined asks, then unconfined   refused
    patch within the roots    asks                    runs                    runs
    patch outside             asks                    asks                    refused
    full access               asks                    runs                    runs

A yes to an ordinary command never lifts the sandbox, and an answer for the session counts for exactly the same
command, directory and sandbox (patches: for the same files) in the same thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path, PurePath
from typing import NamedTuple

from clew.agent.sandbox import Confinement, writable_roots
from clew.agent.shell_lines import display, inner_script, read_line
from clew.engine import Approver, Emit
from clew.errors import ClewError
from clew.events import ApprovalAsked, ApprovalRequest, Decision
from clew.settings import ApprovalPolicy, Sandbox, SandboxMode, Settings

__all__ = ["REJECTED_BY_USER", "ApprovalRules", "Ruling", "Verdict", "is_dangerous", "rejected"]


class Verdict(StrEnum):
    SANDBOXED = "sandboxed"
    UNSANDBOXED = "unsandboxed"
    ASK = "ask"
    REFUSE = "refuse"


class Ruling(NamedTuple):
    """`text` is what the model is told for REFUSE, and for ASK the reason people are given, if any. After a yes to an
    ASK the call runs unconfined only when `escalated`."""

    verdict: Verdict
    text: str = ""
    escalated: bool = False


class ApprovalRules:
    """The decisions, and the memory of the answers that count for the session."""

    def __init__(self) -> None:
        self._commands: set[tuple[str, tuple[str, ...], str, bool, Sandbox]] = set()
        self._files: set[tuple[str, str, Sandbox]] = set()

    def command(
        self,
        argv: Sequence[str],
        *,
        thread_id: str,
        cwd: str,
        settings: Settings,
        confinement: Confinement,
        escalated: bool = False,
        reason: str | None = None,
    ) -> Ruling:
        """What to do with a command. `escalated`: the model asked to run it unconfined, for `reason`."""
        policy, full = settings.approval, settings.sandbox.mode is SandboxMode.FULL_ACCESS
        never = policy is ApprovalPolicy.NEVER
        if never and escalated:
            why = "you cannot ask for escalated permissions if the approval policy is Never"
            return Ruling(Verdict.REFUSE, f"approval policy is Never; reject command — {why}")
        dangerous = is_dangerous(argv)
        if never and dangerous:
            why = "rm -f style commands are not permitted. Use a safer approach"
            return Ruling(Verdict.REFUSE, rejected(f"`{display(argv)}` rejected: {why}"))
        unconfined = not full and not confinement.available
        if never and unconfined:
            return Ruling(Verdict.REFUSE, rejected(f"no sandbox on this machine: {confinement.reason}"))
        free = escalated or unconfined
        may_run = Ruling(Verdict.UNSANDBOXED if free or full else Verdict.SANDBOXED)
        if not (policy is ApprovalPolicy.UNTRUSTED or dangerous or unconfined or (escalated and not full)):
            return may_run
        if any((thread_id, tuple(argv), cwd, known, settings.sandbox) in self._commands for known in {free, True}):
            return may_run
        if reason is None and unconfined:
            reason = f"it would run without a sandbox: {confinement.reason}"
        return Ruling(Verdict.ASK, reason or "", escalated=free)

    def patch(
        self, paths: Sequence[Path], *, thread_id: str, settings: Settings, environment: Mapping[str, str]
    ) -> Ruling:
        """What to do with a patch that touches these resolved paths."""
        roots = writable_roots(settings.sandbox, settings.cwd, environment)
        inside = all(roots.allow(path) for path in paths)
        if settings.approval is ApprovalPolicy.NEVER and not inside:
            read_only = settings.sandbox.mode is SandboxMode.READ_ONLY
            why = "writing is blocked by read-only sandbox" if read_only else "writing outside of the project"
            return Ruling(Verdict.REFUSE, f"patch rejected: {why}; rejected by user approval settings")
        if settings.approval is not ApprovalPolicy.UNTRUSTED and inside:
            return Ruling(Verdict.SANDBOXED)
        if all((thread_id, str(path), settings.sandbox) in self._files for path in paths):
            return Ruling(Verdict.SANDBOXED)
        return Ruling(Verdict.ASK, escalated=not inside)

    async def ask(
        self,
        request: ApprovalRequest,
        *,
        settings: Settings,
        approver: Approver,
        emit: Emit,
        paths: Sequence[Path] = (),
    ) -> Decision:
        """Put the question and remember an answer for the session. Waits without limit; an approver that fails has
        said no."""
        await emit(ApprovalAsked(request.turn_id, request))
        try:
            decision = await approver.decide(request)
        except (ClewError, OSError, TimeoutError):
            return Decision.DENY
        if decision is Decision.SESSION and request.kind == "command":
            self._commands.add((request.thread_id, request.command, request.cwd, request.escalated, settings.sandbox))
        elif decision is Decision.SESSION:
            self._files.update((request.thread_id, str(path), settings.sandbox) for path in paths)
        return decision


def rejected(why: str) -> str:
    """What the model is told about a command that was not started."""
    escaped = why.replace("\\", "\\\\").replace('"', '\\"')
    inner = f'Rejected("{escaped}")'.replace("\\", "\\\\").replace('"', '\\"')
    return f'exec_command failed: CreateProcess {{ message: "{inner}" }}'


REJECTED_BY_USER = rejected("rejected by user")

# Programs that run another one: how many operands of their own stand before it, and which options take a value.
_RUNNERS: dict[str, tuple[int, str]] = {
    "builtin": (0, ""),
    "command": (0, ""),
    "doas": (0, "uC"),
    "env": (0, "uCS"),
    "exec": (0, "a"),
    "ionice": (0, "cnp"),
    "nice": (0, "n"),
    "nohup": (0, ""),
    "setsid": (0, ""),
    "stdbuf": (0, "ioe"),
    "sudo": (0, "ugpCDhRTU"),
    "time": (0, "fo"),
    "timeout": (1, "ks"),
    "watch": (0, "n"),
    "xargs": (0, "adEILnPs"),
}
_DEPTH = 16


def is_dangerous(argv: Sequence[str], depth: int = 0) -> bool:
    """Whether a command forces deletions: `rm -f` in any spelling, also behind `sudo`, `env`, `bash -lc`, `&&` …"""
    if not argv:
        return False
    if depth > _DEPTH:
        return True
    script = inner_script(argv)
    if script is not None:
        return any(is_dangerous(words, depth + 1) for words in read_line(script).commands)
    program, arguments = PurePath(argv[0]).name, list(argv[1:])
    if "=" in argv[0] and argv[0].partition("=")[0].isidentifier():
        return is_dangerous(arguments, depth + 1)
    if program == "rm":
        return _forces(arguments)
    if program == "eval":
        return is_dangerous(["sh", "-c", " ".join(arguments)], depth + 1)
    if program == "find":
        starts = [place for place, word in enumerate(arguments) if word in ("-exec", "-execdir", "-ok", "-okdir")]
        return any(is_dangerous(arguments[place + 1 :], depth + 1) for place in starts)
    if program in _RUNNERS:
        return any(is_dangerous(words, depth + 1) for words in _run_by(program, arguments))
    return False


def _forces(arguments: Sequence[str]) -> bool:
    for word in arguments:
        if word == "--":
            return False
        if len(word) > 3 and "--force".startswith(word):
            return True
        if word.startswith("-") and not word.startswith("--") and "f" in word:
            return True
    return False


def _run_by(program: str, arguments: Sequence[str]) -> list[list[str]]:
    """The commands a runner may start: what stands behind its options, variables and own operands."""
    operands, valued = _RUNNERS[program]
    words = list(arguments)
    while words:
        word = words[0]
        if word == "--":
            words.pop(0)
            break
        if program == "env" and word in ("-S", "--split-string") and len(words) > 1:
            return [["sh", "-c", " ".join(words[1:])]]
        if program == "env" and word.startswith("-S"):
            return [["sh", "-c", " ".join([word[2:], *words[1:]])]]
        if program in ("sudo", "env", "doas") and "=" in word and not word.startswith("-"):
            words.pop(0)
        elif word.startswith("-") and len(word) > 1:
            words.pop(0)
            if len(word) == 2 and word[1] in valued and words:
                words.pop(0)
        elif operands:
            operands -= 1
            words.pop(0)
        else:
            break
    return [words]
