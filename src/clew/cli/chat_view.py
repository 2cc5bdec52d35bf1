"""How a conversation looks: what a turn does, line by line, and the questions it asks."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from clew.cli.exec_view import HumanView, sandbox_text
from clew.cli.terminal import clean, one_line
from clew.events import ApprovalAsked, ApprovalRequest, Event, Item, ItemCompleted, TurnResult
from clew.settings import Settings

if TYPE_CHECKING:
    from clew.cli.slash import Wrong
    from clew.store.queries import ThreadSummary

__all__ = ["ChatView", "Facts", "question_lines"]

_DIFF_LINES = 40
_QUESTION_LINES = 30

Facts = Sequence[tuple[str, str]]
"""Names and values, one per line."""


class ChatView(HumanView):
    """Answers on standard output, everything else on standard error, as `clew exec` shows a turn; file changes as
    differences. On a terminal both are the same screen."""

    def __init__(self) -> None:
        super().__init__(quiet_header=True)
        self.window: int | None = None

    def open(self, summary: ThreadSummary | None, settings: Settings, earlier: Sequence[str]) -> None:
        """Whom one talks to, and the last of what was said."""
        name = (summary.name if summary else None) or "a new thread"
        about = " · ".join((settings.model, _home_short(settings.cwd), sandbox_text(settings.sandbox)))
        self.note(f"{self._paint(clean(one_line(name)), '1')}  {self._dim(clean(about))}")
        if summary is not None:
            self.note(self._dim(summary.id))
        self.note("")
        for line in earlier:
            self.note(self._dim(clean(line)))
        if earlier:
            self.note("")

    def begin(self, thread_id: str, settings: Settings, notices: Sequence[str]) -> None:
        for notice in notices:
            self._warn(notice)

    def event(self, event: Event) -> None:
        if isinstance(event, ItemCompleted) and event.item.type == "fileChange":
            self._changes(event.item)
        elif isinstance(event, ItemCompleted) and event.item.type == "contextCompaction":
            self.note(self._dim("≡ the context was summed up here"))
        elif isinstance(event, ApprovalAsked):
            self._question(event.request)
        else:
            super().event(event)

    def end(self, result: TurnResult) -> None:
        self._ended(result)
        self.note("")

    def note(self, text: str) -> None:
        """A line that is not part of a turn. It may hold colours of this view; texts of others are cleaned first."""
        self._say(text + "\n")

    def facts(self, facts: Facts) -> None:
        width = max(len(name) for name, _ in facts) + 2
        for name, value in facts:
            self.note(f"{self._dim(f'{name:<{width}}')}{clean(value)}")

    def wrong(self, wrong: Wrong) -> None:
        self._say(f"{self._red('Error:')} {clean(wrong.message)}\n{clean(wrong.hint)}\n")

    def problem(self, message: str, hint: str = "") -> None:
        self._say(f"{self._red('Error:')} {clean(message)}\n" + (f"{clean(hint)}\n" if hint else ""))

    def _question(self, request: ApprovalRequest) -> None:
        self._say("\n")
        if request.escalated:
            self._say(self._red("Outside of the sandbox:") + "\n")
        for line in question_lines(request):
            self._say(self._coloured_diff(clean(line)) + "\n")

    def diff(self, text: str, *, most: int) -> None:
        lines = clean(text).splitlines()
        self._say("".join(self._coloured_diff(line) + "\n" for line in lines[:most]))
        if len(lines) > most:
            self._say(self._dim(f"… {len(lines) - most} more lines; `git diff` shows all of them") + "\n")

    def _started(self, item: Item) -> None:
        if item.type != "commandExecution":
            super()._started(item)
            return
        command = str(item.fields.get("command") or "")
        try:
            argv = shlex.split(command)
        except ValueError:  # not as a shell would read it
            argv = []
        lines = _script(argv) if argv else [("$", command)]
        self._say("".join(f"{self._dim(mark)} {clean(line)}\n" for mark, line in lines))

    def _changes(self, item: Item) -> None:
        for change in cast("list[dict[str, Any]]", item.fields.get("changes") or []):
            kind = change.get("kind")
            kind = cast("dict[str, Any]", kind).get("type") if isinstance(kind, dict) else kind
            self.note(f"{self._dim(str(kind))} {clean(str(change.get('path')))}")
            self._shown_diff(str(change.get("diff") or ""), added=kind == "add", removed=kind == "delete")
        status = str(item.fields.get("status") or "")
        if status not in ("completed", ""):
            self.note(self._red(f"  {status}"))

    def _shown_diff(self, diff: str, *, added: bool, removed: bool) -> None:
        # A new or removed file comes as its text.
        mark = "+" if added else "-" if removed else ""
        lines = [mark + line for line in clean(diff).splitlines()]
        for line in lines[:_DIFF_LINES]:
            self.note("  " + self._coloured_diff(line))
        if len(lines) > _DIFF_LINES:
            self.note(self._dim(f"  … {len(lines) - _DIFF_LINES} more lines"))

    def _coloured_diff(self, line: str) -> str:
        if line.startswith(("+++", "---", "@@", "diff ", "index ")):
            return self._dim(line)
        return self._paint(line, "32") if line.startswith("+") else self._paint(line, "31") if line[:1] == "-" else line


def question_lines(request: ApprovalRequest) -> list[str]:
    """An approval question in words: the whole command with its folder, or the changes of a patch."""
    lines = [request.reason] if request.reason else []
    if request.kind == "command":
        lines += [f"{mark} {line}" for mark, line in _script(request.command)]
    else:
        for path, change in sorted(request.changes.items()):
            lines.append(f"{change.get('type')} {path}")
            if moved := change.get("move_path"):
                lines.append(f"  to {moved}")
            mark = {"add": "+", "delete": "-"}.get(str(change.get("type")), "")
            text = str(change.get("unified_diff") or change.get("content") or "").splitlines()
            lines += [mark + line for line in text[:_QUESTION_LINES]]
            if len(text) > _QUESTION_LINES:
                lines.append(f"… {len(text) - _QUESTION_LINES} more lines")
    return [*lines, f"in {request.cwd}"]


def _script(argv: Sequence[str]) -> list[tuple[str, str]]:
    """The lines of a command, each with the mark before it."""
    from clew.agent.shell_lines import display, inner_script

    # Only what a shell is told as a whole is shown without the shell.
    script = inner_script(argv) if len(argv) == 3 else None
    lines = (script or display(argv)).splitlines()
    return [("$" if place == 0 else " ", line) for place, line in enumerate(lines)]


def _home_short(cwd: str) -> str:
    home = str(Path.home())
    return "~" + cwd.removeprefix(home) if cwd == home or cwd.startswith(home + "/") else cwd
