"""`clew show`: what happened in a thread."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from cyclopts import Parameter

from clew.cli import terminal
from clew.cli.options import UsageError
from clew.cli.registry import Options
from clew.errors import ClewError

if TYPE_CHECKING:
    from rich.console import Console

    from clew.library import Library, TurnView
    from clew.store.contracts import ThreadSummary

__all__ = ["content_text", "read_turns", "show"]

_Switch = Parameter(negative="")
_Json = dict[str, Any]
_PAGE = 50
_BLOCK = 1 << 20
_OUTPUT_LINES = 12


async def show(
    thread: str,
    /,
    *,
    turns: int = 10,
    raw: Annotated[bool, _Switch] = False,
    json: Annotated[bool, _Switch] = False,
    options: Options,
) -> int:
    """Show a thread.

    Parameters
    ----------
    thread
        Id, beginning of an id (8 characters or more), name, or last.
    turns
        How many of the last turns (10); 0 for all of them.
    raw
        The records of its current log file as they are, unpacked.
    json
        As JSON: the summary and the turns.
    """
    if turns < 0:
        raise UsageError("--turns: a number from 0 up is needed")
    if raw and json:
        raise UsageError("--raw and --json exclude each other", "--raw is JSON already: one record per line.")
    from clew.cli.opening import load_config, open_library

    config = load_config(options)
    async with open_library(config, "clew show") as threads:
        summary = await threads.summary(thread)
        views, earlier = ([], False) if raw else await read_turns(threads, summary.id, turns)
    if raw:
        _copy(Path(summary.path), config.codex_home)
    elif json:
        import msgspec

        terminal.write_json(
            {"thread": msgspec.to_builtins(summary), "turns": msgspec.to_builtins(views), "earlier_turns": earlier}
        )
    else:
        _print(summary, views, earlier=earlier)
    return 0


async def read_turns(threads: Library, reference: str, limit: int) -> tuple[list[TurnView], bool]:
    """The last `limit` turns (0: all), oldest first, and whether there are earlier ones."""
    out: list[TurnView] = []
    cursor: str | None = None
    while True:
        wanted = min(limit - len(out), _PAGE) if limit else _PAGE
        page = await threads.read(reference, cursor=cursor, limit=wanted, newest_first=True)
        out += page.turns
        cursor = page.next_cursor
        if cursor is None or (limit and len(out) >= limit):
            out.reverse()
            return out, cursor is not None


def _copy(path: Path, codex_home: Path) -> None:
    """The unpacked bytes of a log file on standard output."""
    from clew.rollout import Home, RealFileSystem, open_source

    fs = RealFileSystem()
    file = Home(fs, codex_home).locate(path)
    if file is None:
        raise ClewError(f"{path} is gone", hint="Another program moved it just now; try again.")
    source = open_source(fs, file)
    try:
        sys.stdout.flush()
        at = 0
        while block := source.read_at(at, _BLOCK):
            sys.stdout.buffer.write(block)
            at += len(block)
        sys.stdout.buffer.flush()
        if source.damage:
            terminal.warn(f"{path} ends before it should: {source.damage}")
    finally:
        source.close()


def _print(summary: ThreadSummary, views: list[TurnView], *, earlier: bool) -> None:
    from rich.text import Text

    out = terminal.console()
    for name, value in _facts(summary):
        out.print(Text.assemble((f"{name:<9}", "dim"), terminal.one_line(value)), soft_wrap=True)
    if earlier:
        out.print("\n… earlier turns: --turns 0 shows all of them", style="dim")
    for place, view in enumerate(views):
        # Of a part of the turns it is known how far they are from the end.
        _turn(out, view, place - len(views) if earlier else place + 1)
    out.print(f"\nGo on with: clew exec resume {summary.id} …", style="dim", soft_wrap=True)


def _facts(summary: ThreadSummary) -> Iterator[tuple[str, str]]:
    yield "thread", summary.id
    if summary.name:
        yield "name", summary.name
    yield "folder", (summary.cwd or "unknown") + (f" ({summary.branch})" if summary.branch else "")
    yield "model", " ".join(part for part in (summary.model, summary.provider and f"({summary.provider})") if part)
    began = " by ".join(part for part in (_moment(summary.created_at), summary.source) if part)
    yield "begun", f"{began}, last change {terminal.ago(summary.updated_at)}"
    if summary.forked_from:
        yield "fork of", summary.forked_from
    if summary.parent_id:
        yield "child of", summary.parent_id
    yield "file", f"{summary.path} ({summary.size:,} bytes{', archived' if summary.archived else ''})"
    if summary.error:
        yield "damage", summary.error


def _turn(out: Console, view: TurnView, number: int) -> None:
    from rich.rule import Rule

    title = " · ".join(
        part
        for part in (
            f"{number}",
            _moment(view.started_at),
            _duration(view),
            view.status if view.status != "completed" else "",
            f"turn {view.id}" if view.id else "",
        )
        if part
    )
    out.print()
    out.print(Rule(title, align="left", style="dim", characters="─"))
    for item in view.items:
        _item(out, item)
    if view.error:
        out.print(f"Error: {terminal.clean(view.error)}", style="red", soft_wrap=True)


def _item(out: Console, item: _Json) -> None:
    from rich.text import Text

    def line(mark: str, style: str, text: str, rest: str = "") -> None:
        out.print(Text.assemble((f"{mark} ", style), (terminal.clean(text).strip("\n"), rest)), soft_wrap=True)

    match item.get("type"):
        case "userMessage":
            line(">", "bold cyan", content_text(item), "bold")
        case "agentMessage":
            line("•", "dim" if item.get("phase") == "commentary" else "bold green", str(item.get("text") or ""))
        case "reasoning":
            text = "\n".join(_parts(item.get("summary")))
            if text.strip():
                line("~", "dim", text, "dim italic")
        case "commandExecution":
            line("$", "yellow", str(item.get("command") or ""))
            _output(out, str(item.get("aggregatedOutput") or ""))
            _status(out, item)
        case "fileChange":
            for change in cast("list[_Json]", item.get("changes") or []):
                kind = change.get("kind")
                kind = cast("_Json", kind).get("type") if isinstance(kind, dict) else kind
                line("±", "yellow", f"{kind} {change.get('path')}")
            _status(out, item)
        case "mcpToolCall":
            line("→", "yellow", f"{item.get('server')}.{item.get('tool')}")
            _status(out, item)
        case "webSearch":
            line("?", "yellow", str(item.get("query") or ""))
        case "contextCompaction":
            line("≡", "dim", "the context was summarised here", "dim")
        case other:
            line("·", "dim", str(other), "dim")


def _output(out: Console, text: str) -> None:
    lines = terminal.clean(text).splitlines()
    for line in lines[:_OUTPUT_LINES]:
        out.print(f"  {line}", style="dim", soft_wrap=True)
    if len(lines) > _OUTPUT_LINES:
        out.print(f"  … {len(lines) - _OUTPUT_LINES} more lines", style="dim")


def _status(out: Console, item: _Json) -> None:
    code, status = item.get("exitCode"), item.get("status")
    if code is not None:
        out.print(f"  exit code {code}", style="dim" if code == 0 else "red")
    elif status != "completed":
        out.print(f"  {'not finished' if status == 'inProgress' else status}", style="red")


def content_text(item: _Json) -> str:
    """The text of a user message; pictures by their names."""
    if isinstance(item.get("text"), str):
        return str(item["text"])
    out: list[str] = []
    for part in cast("list[_Json]", item.get("content") or []):
        match part.get("type"):
            case "text":
                out.append(str(part.get("text") or ""))
            case "localImage":
                out.append(f"[image {part.get('path')}]")
            case other:
                out.append(f"[{other}]")
    return "\n".join(out)


def _parts(parts: Any) -> Iterator[str]:
    for part in cast("list[Any]", parts or []):
        yield part if isinstance(part, str) else str(cast("_Json", part).get("text") or "")


def _moment(value: str | int | None) -> str:
    """A time as the person's clock shows it; numbers are seconds since 1970."""
    if value is None:
        return ""
    if isinstance(value, int):
        moment = datetime.fromtimestamp(value, UTC)
    else:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return value
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"


def _duration(view: TurnView) -> str:
    if view.started_at is None or view.completed_at is None:
        return ""
    seconds = view.completed_at - view.started_at
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"
