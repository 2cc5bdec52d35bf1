"""How a running turn is shown: as JSON lines for programs, or as text for people."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Protocol, cast

import msgspec

from clew.cli.exec_events import ExecEvents, exec_item
from clew.cli.terminal import clean, coloured, is_terminal
from clew.events import (
    Event,
    Item,
    ItemCompleted,
    ItemStarted,
    Notice,
    TextDelta,
    TurnResult,
    UsageUpdated,
)
from clew.settings import Sandbox, SandboxMode, Settings

__all__ = ["HumanView", "JsonView", "View", "sandbox_text"]

_OUTPUT_LINES = 20


class View(Protocol):
    """Shows one run. All calls may block on a slow reader and belong in a worker thread."""

    @property
    def wants_pieces(self) -> bool:
        """Whether deltas are shown."""
        ...

    def event(self, event: Event) -> None: ...

    def begin(self, thread_id: str, settings: Settings, notices: Sequence[str]) -> None:
        """The turn runs; called before its first event."""
        ...

    def end(self, result: TurnResult) -> None: ...


class JsonView:
    """One JSON object per line on standard output, nothing else."""

    wants_pieces = False

    def __init__(self) -> None:
        self._lines = ExecEvents("")
        self._out = sys.stdout.buffer

    def begin(self, thread_id: str, settings: Settings, notices: Sequence[str]) -> None:
        self._lines = ExecEvents(thread_id, notices)

    def event(self, event: Event) -> None:
        lines = self._lines.lines(event)
        if lines:
            self._out.write(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
            self._out.flush()

    def end(self, result: TurnResult) -> None:
        self._out.flush()


class HumanView:
    """The answer on standard output, everything else on standard error.

    On a terminal the answer appears as it is written; in a pipe only the final one is printed, when it is complete.
    """

    def __init__(self, *, quiet_header: bool = False) -> None:
        self._live = is_terminal(sys.stdout)
        self._colour = coloured(sys.stderr)
        self._streamed: set[str] = set()
        self._at_start = True
        self._commentary: set[str] = set()
        self._total = 0
        self._header = not quiet_header

    @property
    def wants_pieces(self) -> bool:
        return self._live

    def begin(self, thread_id: str, settings: Settings, notices: Sequence[str]) -> None:
        if self._header:
            rows = (
                ("thread", thread_id),
                (
                    "model",
                    f"{settings.model} ({settings.provider})" + (f", {settings.effort}" if settings.effort else ""),
                ),
                ("cwd", settings.cwd),
                ("sandbox", sandbox_text(settings.sandbox)),
                (
                    "approval",
                    f"{settings.approval} (nobody can be asked here)" if settings.approval != "never" else "never",
                ),
            )
            self._say("".join(f"{self._dim(f'{name:<9}')}{clean(value)}\n" for name, value in rows) + "\n")
        for notice in notices:
            self._warn(notice)

    def event(self, event: Event) -> None:
        match event:
            case ItemStarted(item=item) if item.type == "agentMessage":
                if item.fields.get("phase") == "commentary":
                    self._commentary.add(item.id)
            case ItemStarted(item=item):
                self._started(item)
            case TextDelta(kind="message") if self._live and event.item_id not in self._commentary:
                self._streamed.add(event.item_id)
                self._write(clean(event.text))
            case ItemCompleted(item=item):
                self._completed(item)
            case Notice(message=message, level=level):
                if level == "warning":
                    self._warn(message)
                else:
                    self._say(self._dim(clean(message)) + "\n")
            case UsageUpdated(total=total):
                self._total = total.total_tokens
            case _:
                pass

    def end(self, result: TurnResult) -> None:
        self._ended(result)
        tokens = f"{self._total:,} tokens in this thread. " if self._total else ""
        self._say("\n" + self._dim(f"{tokens}Go on with: clew exec resume {result.thread_id} …") + "\n")

    def _ended(self, result: TurnResult) -> None:
        """The final answer where it was not streamed, and how it ended when not well."""
        self._end_line()
        if result.status == "completed" and not self._live and result.last_message:
            sys.stdout.write(result.last_message.rstrip("\n") + "\n")
        sys.stdout.flush()
        if result.status == "failed":
            self._say(f"{self._red('Error:')} {clean(result.error.message if result.error else 'the turn failed')}\n")
        elif result.status == "interrupted":
            self._say("Interrupted.\n")

    def _started(self, item: Item) -> None:
        if item.type == "commandExecution":
            self._say(f"{self._dim('$')} {clean(str(item.fields.get('command') or ''))}\n")

    def _completed(self, item: Item) -> None:
        shown = exec_item(item)
        if shown is None:
            return
        match shown["type"]:
            case "agent_message":
                self._message(item, str(shown["text"]))
            case "reasoning":
                self._say(self._dim(clean(str(shown["text"]))) + "\n")
            case "command_execution":
                self._output(str(shown["aggregated_output"]), _outcome(shown))
            case "file_change":
                for change in cast("list[dict[str, Any]]", shown["changes"]):
                    self._say(f"{self._dim(str(change['kind']))} {clean(str(change['path']))}\n")
                if shown["status"] != "completed":
                    self._say(self._red(f"  {shown['status']}") + "\n")
            case "mcp_tool_call" | "collab_tool_call" | "web_search":
                name = shown.get("query") or ".".join(str(shown[key]) for key in ("server", "tool") if shown.get(key))
                self._say(f"{self._dim(str(shown['type']).replace('_', ' '))} {clean(str(name))}\n")
            case _:
                pass

    def _message(self, item: Item, text: str) -> None:
        if item.id in self._streamed:
            self._end_line()
        elif self._live and item.fields.get("phase") != "commentary":
            self._write(clean(text))
            self._end_line()
        elif item.fields.get("phase") == "commentary":
            self._say(clean(text).rstrip("\n") + "\n")

    def _output(self, text: str, outcome: str) -> None:
        lines = clean(text).splitlines()
        shown = lines[:_OUTPUT_LINES]
        if len(lines) > _OUTPUT_LINES:
            shown.append(f"… {len(lines) - _OUTPUT_LINES} more lines")
        self._say("".join(self._dim(f"  {line}") + "\n" for line in shown))
        if outcome:
            self._say(self._red(f"  {outcome}") + "\n")

    def _write(self, text: str) -> None:
        """To the terminal's standard output."""
        if text:
            sys.stdout.write(text)
            sys.stdout.flush()
            self._at_start = text.endswith("\n")

    def _end_line(self) -> None:
        if not self._at_start:
            self._write("\n")

    def _say(self, text: str) -> None:
        self._end_line()
        sys.stderr.write(text)
        sys.stderr.flush()

    def _warn(self, message: str) -> None:
        self._say(f"{self._paint('Warning:', '33;1')} {clean(message)}\n")

    def _dim(self, text: str) -> str:
        return self._paint(text, "2")

    def _red(self, text: str) -> str:
        return self._paint(text, "31;1")

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour and text else text


def _outcome(shown: dict[str, Any]) -> str:
    """What to say about a command that did not simply succeed."""
    if shown["status"] == "declined":
        return "refused"
    if shown["exit_code"] not in (0, None):
        return f"exit code {shown['exit_code']}"
    return "" if shown["status"] == "completed" else str(shown["status"]).replace("_", " ")


def sandbox_text(sandbox: Sandbox) -> str:
    """A sandbox in a few words."""
    if sandbox.mode is not SandboxMode.WORKSPACE_WRITE:
        return str(sandbox.mode)
    extra = [*sandbox.writable_roots, *(["network"] if sandbox.network_access else [])]
    return f"{sandbox.mode} ({', '.join(('cwd', *extra))})"
