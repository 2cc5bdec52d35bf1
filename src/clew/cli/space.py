"""`clew du`: where the bytes are, and what could be saved."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from clew.cli import plots, terminal
from clew.cli.registry import Options

if TYPE_CHECKING:
    from clew.store.space import Space, ThreadSpace

__all__ = ["du"]

_Switch = Parameter(negative="")
_CAUSES = {
    "images": "images",
    "tool_output": "tool output",
    "tool_calls": "tool calls",
    "messages": "messages",
    "reasoning": "reasoning",
    "context": "instructions and context",
    "compactions": "compaction copies",
    "copies": "fork copies",
    "events": "events that repeat items",
    "bookkeeping": "bookkeeping",
    "damaged": "damaged lines",
    "other": "unknown lines",
}
_PLACES = {
    "leftovers": "half-written and superseded files",
    "trash": "trash",
    "backups": "backups of repairs",
    "index": "index",
    "cache": "results of searches",
    "locks": "locks",
    "marks": "names, tags and notes",
    "databases": "Codex' databases",
    "other": "other files of the homes",
}
_BAR = 24
_WARNINGS = 3
_MANY_FILES = 12


async def du(*thread: str, json: Annotated[bool, _Switch] = False, options: Options) -> int:
    """Show where the bytes are.

    Parameters
    ----------
    thread
        Ids, beginnings of ids, names, or last; without any, the whole home.
    json
        As JSON.
    """
    from clew.cli.opening import load_config, open_library
    from clew.cli.progress import Progress

    config = load_config(options)
    progress = Progress("weighing")
    try:
        async with open_library(config, "clew du") as threads:
            found = await threads.space(*thread, progress=progress)
    finally:
        progress.clear()
    for notice in found.notices[:_WARNINGS]:
        terminal.warn(f"{notice}: weighed as far as it can be read")
    if len(found.notices) > _WARNINGS:
        terminal.warn(f"so it is with {len(found.notices) - _WARNINGS} more files", "`clew check` names them all.")
    if json:
        import msgspec

        terminal.write_json(msgspec.to_builtins(found))
    elif not terminal.is_terminal(sys.stdout):
        sys.stdout.writelines(_plain(found))
    else:
        _Report(found, named=bool(thread)).show()
    return 0


def _plain(found: Space) -> Sequence[str]:
    """What, name, bytes, and bytes on the disk where they are known."""
    rows: list[tuple[str, str, int, int | str]] = []
    rows += (("cause", cause.cause, cause.size, "") for cause in found.causes)
    rows += (("kind", kind.kind, kind.size, kind.disk) for kind in found.kinds)
    rows += (("place", place.kind, place.size, place.disk) for place in found.places)
    rows += (("thread", thread.id, thread.size, thread.disk) for thread in found.threads)
    rows += (("saving", saving.command, saving.size, "") for saving in found.savings)
    return ["\t".join(map(str, row)) + "\n" for row in rows]


class _Report:
    """The report for a person."""

    def __init__(self, found: Space, *, named: bool) -> None:
        self._found = found
        self._named = named
        self._out = terminal.console()
        self._unicode = plots.blocks(sys.stdout)

    def show(self) -> None:
        found = self._found
        size, disk, text = (plots.size(number) for number in (found.size, found.disk, found.text))
        threads = f"{found.count} thread" if found.count == 1 else f"{found.count} threads"
        self._say(f"{threads}: {size} in files, {disk} on the disk, {text} of text when unpacked")
        if found.causes:
            self._causes()
        if len(found.kinds) > 1 or found.sub_agents.files:
            self._kinds()
        if self._named:
            for thread in found.threads:
                self._files(thread)
        elif found.threads:
            self._biggest()
        if found.places:
            self._title("elsewhere in the homes (files, bytes, on the disk)")
            for place in found.places:
                name = _PLACES.get(place.kind, place.kind)
                self._row(name, f"{place.files}", plots.size(place.size), plots.size(place.disk))
        if found.savings:
            self._savings()

    def _causes(self) -> None:
        self._title("by cause (text, part of the files)")
        most = max(cause.text for cause in self._found.causes)
        width = min(_BAR, self._out.width - 52)
        for cause in self._found.causes:
            bar = plots.bar(cause.text / most, width, unicode=self._unicode) if width > 4 else ""
            self._row(_CAUSES.get(cause.cause, cause.cause), plots.size(cause.text), plots.size(cause.size), bar=bar)

    def _kinds(self) -> None:
        self._title("by kind (files, bytes, on the disk)")
        rows = [*self._found.kinds, *([self._found.sub_agents] if self._found.sub_agents.files else [])]
        for kind in rows:
            name = "of these: sub-agents" if kind is self._found.sub_agents else kind.kind
            self._row(name, f"{kind.files}", plots.size(kind.size), plots.size(kind.disk))

    def _biggest(self) -> None:
        self._title("biggest threads")
        ids = [thread.id for thread in self._found.threads]
        length = next(size for size in (8, 13, 18, 23, 36) if len({name[:size] for name in ids}) == len(ids))
        for thread in self._found.threads:
            words = " ".join(filter(None, (_state(thread), terminal.one_line(thread.title, 80))))
            line = f"{plots.size(thread.size):>9}  {thread.id[:length]}  {words}"
            self._say(line if len(line) <= self._out.width else line[: self._out.width - 1] + "…")

    def _files(self, thread: ThreadSpace) -> None:
        self._title(f"{thread.id}  {terminal.one_line(thread.title, 60)}".rstrip())
        for file in thread.files[-_MANY_FILES:]:
            about = ", ".join(filter(None, ("" if file.role == "current" else file.role, _packed(file.compressed))))
            name = Path(file.path).name
            self._say(f"{plots.size(file.size):>9} {plots.size(file.disk):>9}  {name}{f' ({about})' if about else ''}")
        if len(thread.files) > _MANY_FILES:
            self._say(f"and {len(thread.files) - _MANY_FILES} older files (--json names them all)")

    def _savings(self) -> None:
        self._title("what could be saved")
        for saving in self._found.savings:
            about = "about " if saving.estimated else ""
            self._say(f"{about + plots.size(saving.size):>15}  {saving.what}")
            self._say(f"{'':>15}  {terminal.clean(saving.command)}", style="cyan")
        if self._found.ratio is not None and any(saving.estimated for saving in self._found.savings):
            self._say(f"{'':>15}  (samples of them became {self._found.ratio:.1f} times smaller)", style="dim")

    def _title(self, text: str) -> None:
        self._say("")
        self._say(text, style="dim")

    def _row(self, name: str, *cells: str, bar: str = "") -> None:
        from rich.text import Text

        line = Text(f"{name:<33}" + "".join(f"{cell:>10}" for cell in cells))
        if bar:
            line.append("  ")
            line.append(bar, style="cyan")
        self._out.print(line, soft_wrap=True)

    def _say(self, text: str, *, style: str = "") -> None:
        self._out.print(text, style=style or None, soft_wrap=True)


def _state(thread: ThreadSpace) -> str:
    compressed = all(file.compressed for file in thread.files)
    words = [word for word, true in (("archived", thread.archived), ("compressed", compressed)) if true]
    return f"({', '.join(words)})" if words else ""


def _packed(compressed: bool) -> str:
    return "compressed" if compressed else ""
