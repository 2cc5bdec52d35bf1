"""`clew stats`: what was spent, by day, model, project, …"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from clew.cli import plots, terminal
from clew.cli.options import UsageError, did_you_mean
from clew.cli.registry import Options

if TYPE_CHECKING:
    from rich.text import Text

    from clew.store.stats import DaySpending, Stats, StatsRow

__all__ = ["stats"]

_Switch = Parameter(negative="")
_BY = ("thread", "day", "week", "month", "model", "project", "source", "provider")
_HEADS = {
    "thread": "thread",
    "day": "day",
    "week": "week",
    "month": "month",
    "model": "model",
    "project": "project",
    "source": "started by",
    "provider": "provider",
}
_ROOM = {"input": 76, "cached": 88, "output": 76, "threads": 96}
"""Columns of the terminal from which on a column of the table is shown."""
_BAR = 24
_NARROWEST_BAR = 6
_WIDEST_KEY = 44
_SPARK = 60
_WARNINGS = 3


async def stats(
    *,
    by: str = "day",
    since: str | None = None,
    until: str | None = None,
    cwd: Path | None = None,
    here: Annotated[bool, _Switch] = False,
    thread: str | None = None,
    all_: Annotated[bool, Parameter(name="--all", negative="")] = False,
    archived: Annotated[bool, _Switch] = False,
    limit: int = 25,
    utc: Annotated[bool, _Switch] = False,
    json: Annotated[bool, _Switch] = False,
    options: Options,
) -> int:
    """Count tokens and turns.

    Parameters
    ----------
    by
        thread, day, week, month, model, project, source or provider.
    since
        Only turns that began since then: 30min, 12h, 7d, 2w, or a date.
    until
        Only turns that began before then.
    cwd
        Only turns that worked in this folder or below it.
    here
        Only turns that worked in the current folder or below it.
    thread
        Only the turns of this thread.
    all_
        Archived threads, too.
    archived
        Archived threads only.
    limit
        How many rows at most (25); 0 for all of them. The rest is summed up.
    utc
        Days of UTC instead of those of this machine.
    json
        As JSON.
    """
    if by not in _BY:
        raise UsageError(f"--by: {by!r} is none of {', '.join(_BY)}", did_you_mean(by, _BY))
    if all_ and archived:
        raise UsageError("--all and --archived exclude each other", "--all counts archived threads, too.")
    if cwd is not None and here:
        raise UsageError("--cwd and --here exclude each other")
    if limit < 0:
        raise UsageError("--limit: a number from 0 up is needed")
    from clew.cli.opening import load_config, open_library
    from clew.cli.progress import Progress
    from clew.store.stats import StatsQuery

    now = datetime.now(UTC)
    folder = options.folder() if here else None if cwd is None else options.folder() / cwd.expanduser()
    config = load_config(options)
    query = StatsQuery(
        by=by,
        since=_moment(since, now, "--since"),
        until=_moment(until, now, "--until"),
        cwd=None if folder is None else str(folder),
        archived=None if all_ or thread is not None else archived,
        thread_id=thread,
        limit=limit,
        utc=utc,
        prices=config.prices,
    )
    progress = Progress("counting")
    try:
        async with open_library(config, "clew stats") as threads:
            found = await threads.stats(query, progress=progress)
    finally:
        progress.clear()
    _warn(found.notices)
    if json:
        import msgspec

        terminal.write_json(msgspec.to_builtins(found))
    elif not terminal.is_terminal(sys.stdout):
        sys.stdout.writelines(_plain(row) for row in found.rows)
    elif not found.rows:
        sys.stdout.write("Nothing was spent.\n" + _left_out(found))
    else:
        _table(found)
    return 0


def _warn(notices: Sequence[str]) -> None:
    for notice in notices[:_WARNINGS]:
        terminal.warn(f"{notice}: counted as far as it can be read")
    if len(notices) > _WARNINGS:
        terminal.warn(f"so it is with {len(notices) - _WARNINGS} more files", "`clew check` names them all.")


def _moment(text: str | None, now: datetime, option: str) -> str | None:
    from clew.cli.listing import since_stamp

    if text is None:
        return None
    try:
        return since_stamp(text, now)
    except UsageError as wrong:
        raise UsageError(wrong.message.replace("--since", option, 1), wrong.hint) from None


def _plain(row: StatsRow) -> str:
    tokens = row.tokens
    columns = (
        terminal.one_line(row.key),
        terminal.one_line(row.name),
        row.turns,
        row.threads,
        tokens.input,
        tokens.cached_input,
        tokens.cache_write_input,
        tokens.output,
        tokens.reasoning_output,
        tokens.total,
        "" if row.cost is None else f"{row.cost:.4f}",
    )
    return "\t".join(map(str, columns)) + "\n"


def _table(found: Stats) -> None:
    from rich.text import Text

    out = terminal.console()
    unicode = plots.blocks(sys.stdout)
    priced = found.total.cost is not None
    rows = [*found.rows, *([found.others] if found.others is not None else []), found.total]
    labels = [*_labels(found), *([f"({_cut_off(found)})"] if found.others is not None else []), "total"]
    columns: list[tuple[str, list[str]]] = [
        (_HEADS[found.by], labels),
        ("turns", [plots.amount(row.turns) for row in rows]),
    ]
    if out.width >= _ROOM["threads"] and found.by != "thread":
        columns.append(("threads", [plots.amount(row.threads) for row in rows]))
    for title, name in (("input", "input"), ("cached", "cached_input"), ("output", "output")):
        if out.width >= _ROOM[title]:
            columns.append((title, [plots.amount(getattr(row.tokens, name)) for row in rows]))
    columns.append(("tokens", [plots.amount(row.tokens.total) for row in rows]))
    if priced:
        columns.append(("cost", [_money(row, partly=found.total.unpriced > 0) for row in rows]))
    widths = [max(len(title), *map(len, cells)) for title, cells in columns]
    taken = sum(widths[1:]) + 2 * len(widths)
    widths[0] = max(len(columns[0][0]), min(widths[0], _WIDEST_KEY, out.width - taken - _NARROWEST_BAR))
    room = min(_BAR, out.width - sum(widths) - 2 * len(widths))
    most = max((row.tokens.total for row in found.rows), default=0)
    out.print(_line([title for title, _ in columns], widths, style="dim"), soft_wrap=True)
    for number, row in enumerate(rows):
        line = _line([cells[number] for _, cells in columns], widths, style="bold" if row is found.total else "")
        if number < len(found.rows) and room >= _NARROWEST_BAR and most:
            line.append("  ")
            line.append(plots.bar(row.tokens.total / most, room, unicode=unicode), style="cyan")
        line.rstrip()
        out.print(line, soft_wrap=True)
    if found.by not in ("day", "week", "month") and len(found.days) > 1:
        spark, first, last = _spark(found.days, min(_SPARK, out.width - 26), unicode=unicode)
        out.print(Text.assemble("\n", (f"{first} ", "dim"), (spark, "cyan"), (f" {last}", "dim")), soft_wrap=True)
    if priced and found.total.unpriced:
        out.print("\n+ without models that have no price in config.toml ([stats.prices])", style="dim", soft_wrap=True)
    if left_out := _left_out(found):
        out.print(f"\n{left_out.rstrip()}", style="dim", soft_wrap=True)


def _line(cells: Sequence[str], widths: Sequence[int], *, style: str = "") -> Text:
    """What a row is about to the left, numbers to the right."""
    from rich.text import Text

    first = Text(cells[0], style)
    first.truncate(widths[0], overflow="ellipsis", pad=True)
    rest = (Text(f"{cell:>{width}}", style) for cell, width in zip(cells[1:], widths[1:], strict=True))
    return Text("  ").join((first, *rest))


def _labels(found: Stats) -> list[str]:
    if found.by != "thread":
        return [_folded(row.key) if found.by == "project" else terminal.one_line(row.key) or "?" for row in found.rows]
    keys = [row.key or "?" for row in found.rows]
    length = next(size for size in (8, 13, 18, 23, 36) if len({key[:size] for key in keys}) == len(keys))
    return [f"{key[:length]}  {terminal.one_line(row.name, 80)}" for key, row in zip(keys, found.rows, strict=True)]


def _folded(folder: str | None) -> str:
    cwd, home = terminal.one_line(folder), str(Path.home())
    return ("~" + cwd.removeprefix(home) if cwd == home or cwd.startswith(home + "/") else cwd) or "?"


def _cut_off(found: Stats) -> str:
    return "earlier" if found.by in ("day", "week", "month") else "others"


def _money(row: StatsRow, *, partly: bool) -> str:
    mark = "+" if row.unpriced and row.cost is not None else " " if partly else ""
    return ("-" if row.cost is None else f"{row.cost:,.2f}") + mark


def _left_out(found: Stats) -> str:
    count = found.archived_left_out
    if not count:
        return ""
    turns = f"{count} turn" if count == 1 else f"{count} turns"
    return f"{turns} of archived threads not counted: --all counts them.\n"


def _spark(days: Sequence[DaySpending], width: int, *, unicode: bool) -> tuple[str, str, str]:
    """Tokens day by day, days without any included; with the first and the last day."""
    first, last = date.fromisoformat(days[0].day), date.fromisoformat(days[-1].day)
    spent = {day.day: day.tokens for day in days}
    values = [spent.get((first + timedelta(days=number)).isoformat(), 0) for number in range((last - first).days + 1)]
    return plots.sparkline(values, width, unicode=unicode), days[0].day, days[-1].day
