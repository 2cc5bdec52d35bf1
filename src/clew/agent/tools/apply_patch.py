"""`apply_patch`: change files. Every operation is checked before the first byte is written."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import anyio
import anyio.to_thread
import msgspec

from clew.agent.approvals import ApprovalRules, Verdict
from clew.agent.tools.contracts import (
    Finished,
    ToolCall,
    ToolContext,
    ToolFailed,
    ToolOutcome,
    aborted,
    parse_arguments,
)
from clew.agent.tools.patch import Change, parse_patch, plan, unified_diff
from clew.errors import PatchInvalid
from clew.events import ApprovalRequest, Decision, Item, ItemCompleted, ItemStarted

__all__ = ["GRAMMAR", "ApplyPatch"]

GRAMMAR = r"""start: "*** Begin Patch" LF operation+ "*** End Patch" LF?

operation: added | deleted | updated
added: "*** Add File: " PATH LF ("+" REST LF)*
deleted: "*** Delete File: " PATH LF
updated: "*** Update File: " PATH LF ("*** Move to: " PATH LF)? first_chunk chunk*

first_chunk: header? line+ at_end?
chunk: header line+ at_end?
header: "@@" (" " REST)? LF
line: (" " | "+" | "-") REST LF
at_end: "*** End of File" LF

PATH: /[^\n]+/
REST: /[^\n]*/

%import common.LF
"""

_ABOUT = (
    "Change files. The input is a patch: `*** Begin Patch`, operations, `*** End Patch`. Operations are "
    "`*** Add File: PATH` (every line behind `+`), `*** Delete File: PATH`, and `*** Update File: PATH` (perhaps "
    "`*** Move to: PATH`) with chunks: `@@` or `@@ LINE BEFORE IT`, then lines behind a blank (kept), `-` (removed) "
    "or `+` (added). Give about three kept lines around each change. Paths are relative to the working directory."
)


class _Arguments(msgspec.Struct, frozen=True):
    input: str


class ApplyPatch:
    """The tool in both its forms: freeform, and as a function with the patch in `input`."""

    name = "apply_patch"
    kinds: frozenset[Literal["function", "custom"]] = frozenset({"custom", "function"})
    parallel = False

    def __init__(self, rules: ApprovalRules, environment: Mapping[str, str]) -> None:
        self._rules = rules
        self._environment = environment

    def spec(self, *, freeform: bool = True) -> dict[str, Any]:
        if freeform:
            return {
                "type": "custom",
                "name": self.name,
                "description": f"{_ABOUT} The patch is the whole input: no JSON around it.",
                "format": {"type": "grammar", "syntax": "lark", "definition": GRAMMAR},
            }
        return {
            "type": "function",
            "name": self.name,
            "description": _ABOUT,
            "strict": False,
            "parameters": {
                "type": "object",
                "properties": {"input": {"type": "string", "description": "The whole patch."}},
                "required": ["input"],
                "additionalProperties": False,
            },
        }

    async def run(self, call: ToolCall, ctx: ToolContext) -> ToolOutcome:
        text = call.arguments
        if call.kind == "function":
            text = parse_arguments(text, _Arguments).input
        return await self.apply(call, text, ctx.settings.cwd, ctx)

    async def apply(self, call: ToolCall, text: str, cwd: str, ctx: ToolContext) -> ToolOutcome:
        """Check a patch, ask where that is needed, write. The answer is the text for the model."""
        started, started_at_ms = ctx.clock.monotonic(), int(ctx.clock.now() * 1000)
        changes = await anyio.to_thread.run_sync(_prepare, text, cwd)
        real = [Path(os.path.realpath(path)) for change in changes for path in change.paths]
        ruling = self._rules.patch(real, thread_id=ctx.thread_id, settings=ctx.settings, environment=self._environment)
        if ruling.verdict is Verdict.REFUSE:
            return ToolOutcome(output=ruling.text, success=False)
        finish = _Finish(call, ctx, changes, started_at_ms)
        await ctx.emit(ItemStarted(ctx.turn_id, finish.item("inProgress")))
        if ruling.verdict is Verdict.ASK:
            request = ApprovalRequest(
                kind="patch",
                thread_id=ctx.thread_id,
                turn_id=ctx.turn_id,
                call_id=call.call_id,
                cwd=cwd,
                escalated=ruling.escalated,
                changes=finish.recorded_changes(),
            )
            try:
                decision = await self._rules.ask(
                    request, settings=ctx.settings, approver=ctx.approver, emit=ctx.emit, paths=real
                )
            except anyio.get_cancelled_exc_class():
                with anyio.CancelScope(shield=True):
                    await finish("declined", stderr="aborted by user")
                raise
            if decision in (Decision.DENY, Decision.ABORT):
                finished = await finish("declined", stderr="patch rejected by user")
                if decision is Decision.ABORT:
                    return aborted(ctx.clock.monotonic() - started, finished)
                return ToolOutcome(output="patch rejected by user", success=False, finished=finished)
            started = ctx.clock.monotonic()
        error: str | None = None
        finished: Finished | None = None
        with anyio.CancelScope(shield=True):  # half a patch helps nobody
            error = await anyio.to_thread.run_sync(_write_all, changes, real)
            stdout = _summary(changes) if error is None else ""
            finished = await finish("failed" if error else "completed", stdout=stdout, stderr=error or "")
        seconds = ctx.clock.monotonic() - started
        text = (
            f"Exit code: {1 if error else 0}\nWall time: {seconds:.1f} seconds\nOutput:\n{error or _summary(changes)}"
        )
        return ToolOutcome(output=text, success=error is None, finished=finished)


class _Finish:
    """The item of a patch, in both spellings."""

    def __init__(self, call: ToolCall, ctx: ToolContext, changes: Sequence[Change], started_at_ms: int) -> None:
        self._call = call
        self._ctx = ctx
        self._started = started_at_ms
        self._changes = changes
        self._diffs = [
            _clean(unified_diff(change.before, change.after))
            if change.before is not None and change.after is not None
            else _clean((change.after if change.before is None else change.before) or "")
            for change in changes
        ]

    def item(self, status: str, completed_at_ms: int | None = None) -> Item:
        shown: list[dict[str, Any]] = []
        for change, diff in zip(self._changes, self._diffs, strict=True):
            kind: dict[str, Any] = {"type": _KINDS[change.letter]}
            if change.letter == "M":
                kind["move_path"] = str(change.move_to) if change.move_to else None
            shown.append({"path": str(change.path), "kind": kind, "diff": diff})
        fields = {
            "changes": shown,
            "status": status,
            "startedAtMs": self._started,
            "completedAtMs": completed_at_ms,
        }
        return Item(id=self._call.call_id, type="fileChange", fields=fields)

    def recorded_changes(self) -> dict[str, dict[str, Any]]:
        recorded: dict[str, dict[str, Any]] = {}
        for change, diff in zip(self._changes, self._diffs, strict=True):
            entry: dict[str, Any] = {"type": _KINDS[change.letter]}
            if change.letter == "M":
                entry |= {"unified_diff": diff, "move_path": str(change.move_to) if change.move_to else None}
            else:
                entry["content"] = diff
            recorded[str(change.path)] = entry
        return recorded

    async def __call__(self, status: str, *, stdout: str = "", stderr: str = "") -> Finished:
        now = int(self._ctx.clock.now() * 1000)
        item = self.item(status, now)
        recorded = {
            "type": "FileChange",
            "id": self._call.call_id,
            "changes": self.recorded_changes(),
            "status": status,
            "stdout": stdout,
            "stderr": stderr,
        }
        await self._ctx.emit(ItemCompleted(self._ctx.turn_id, item))
        return Finished(
            turn_id=self._ctx.turn_id, item=item, recorded=recorded, started_at_ms=self._started, completed_at_ms=now
        )


_KINDS = {"A": "add", "M": "update", "D": "delete"}


def _clean(text: str) -> str:
    """Bytes that are no text are kept in the file, and shown as replacement characters."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _prepare(text: str, cwd: str) -> list[Change]:
    try:
        patch = parse_patch(text)
        if patch.environment is not None:
            raise ToolFailed("apply_patch environment selection is unavailable for this turn")
        if not patch.operations:
            raise ToolFailed("patch rejected: empty patch")
        return plan(patch, Path(cwd), _read)
    except PatchInvalid as error:
        raise PatchInvalid(f"apply_patch verification failed: {error.message}") from error


def _read(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "surrogateescape")


def _summary(changes: Sequence[Change]) -> str:
    lines = [f"{letter} {change.shown}\n" for letter in "AMD" for change in changes if change.letter == letter]
    return "Success. Updated the following files:\n" + "".join(lines)


def _write_all(changes: Sequence[Change], real: Sequence[Path]) -> str | None:
    """Write; None, or why it could not go on and what was done before."""
    places = iter(real)
    done: list[Change] = []
    for change in changes:
        source = next(places)
        target = source if change.move_to is None else next(places)
        try:
            if change.after is None:
                _remove(change.path)
            else:
                _replace(target, change.after.encode("utf-8", "surrogateescape"), mode_of=source)
                if change.move_to is not None:
                    _remove(change.path)
        except OSError as error:
            text = f"Failed to write file {change.path}: {error.strerror} (os error {error.errno})"
            already = "".join(f"\n{earlier.letter} {earlier.shown}" for earlier in done)
            return f"{text}\nAlready done:{already}" if done else text
        done.append(change)
    return None


def _remove(path: Path) -> None:
    """Delete the entry itself (a link, not what it points to), in the folder that was checked."""
    parent = _open_folder(Path(os.path.realpath(path.parent)), create=False)
    try:
        os.unlink(path.name, dir_fd=parent)
    finally:
        os.close(parent)


def _replace(path: Path, data: bytes, *, mode_of: Path) -> None:
    """Write a resolved path as a whole, through a new file beside it, with the old one's mode.

    The folders are opened one by one without following links, so that a link put there after the check leads nowhere.
    """
    parent = _open_folder(path.parent, create=True)
    temporary = f".{path.name[:100]}.{os.getpid()}-{os.urandom(4).hex()}.tmp"
    try:
        mode = _mode(mode_of)
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode or 0o666, dir_fd=parent)
        try:
            with open(file, "wb") as out:  # noqa: PTH123 - a descriptor
                out.write(data)
                if mode is not None:
                    os.fchmod(out.fileno(), mode)
            if _is_folder(path.name, parent):
                raise IsADirectoryError(21, os.strerror(21), str(path))
            os.rename(temporary, path.name, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            os.unlink(temporary, dir_fd=parent)
            raise
    finally:
        os.close(parent)


def _mode(path: Path) -> int | None:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return None


def _is_folder(name: str, parent: int) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _open_folder(path: Path, *, create: bool) -> int:
    """A descriptor of a resolved folder, reached without following a link; missing ones are made if asked."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    folder = os.open("/", flags)
    for part in path.parts[1:]:
        try:
            try:
                deeper = os.open(part, flags, dir_fd=folder)
            except FileNotFoundError:
                if not create:
                    raise
                os.mkdir(part, dir_fd=folder)
                deeper = os.open(part, flags, dir_fd=folder)
        finally:
            os.close(folder)
        folder = deeper
    return folder
