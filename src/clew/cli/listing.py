"""`clew list`: which threads there are."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from clew.cli import terminal
from clew.cli.options import Globals, UsageError
from clew.cli.registry import Options

if TYPE_CHECKING:
    from rich.text import Text

    from clew.config import Config
    from clew.errors import Owner
    from clew.library import Library
    from clew.store.contracts import ListQuery, SearchHit, ThreadSummary

__all__ = ["Found", "SortKey", "Wanted", "find", "list_threads", "since_stamp"]

SortKey = Literal["updated", "recency", "created", "name", "size"]

_Switch = Parameter(negative="")
_SPAN = re.compile(r"(\d+)\s*(min|[smhdw])")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_EVERYTHING = 1_000_000
_PAGE = 200
_NARROWEST = 20
_ROOM = {"folder": 80, "model": 100, "source": 110}
"""Columns of the terminal from which on a column of the table is shown."""


class Found:
    """Threads of one page. `hits` maps ids to where a searched text was found; `next_cursor` leads to the next page."""

    def __init__(
        self, threads: Sequence[ThreadSummary], next_cursor: str | None = None, hits: Sequence[SearchHit] = ()
    ) -> None:
        self.threads = tuple(threads)
        self.next_cursor = next_cursor
        self.hits = {hit.thread.id: hit for hit in hits}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which threads.

    Parameters
    ----------
    all_
        Archived threads, too.
    archived
        Archived threads only.
    cwd
        Only threads of this folder and the folders below it.
    here
        Only threads of the current folder and the folders below it.
    title
        Only threads whose name, or beginning where they have none, holds this.
    since
        Only threads that changed since then: 30min, 12h, 7d, 2w, or a date.
    until
        Only threads that did not change after that.
    source
        Only threads started by this: mcp, exec, cli, … (repeat it).
    provider
        Only threads of this model provider (repeat it).
    branch
        Only threads that began on this git branch.
    repository
        Only threads that began in a checkout of this git repository (its URL).
    parent
        Only threads that this one spawned.
    ancestor
        Only threads that this one spawned, at any depth.
    pinned
        Only pinned threads.
    tag
        Only threads with this tag (repeat it: with all of them).
    """

    all_: Annotated[bool, Parameter(name="--all", negative="")] = False
    archived: Annotated[bool, _Switch] = False
    cwd: Path | None = None
    here: Annotated[bool, _Switch] = False
    title: str | None = None
    since: str | None = None
    until: str | None = None
    source: Annotated[tuple[str, ...], _Switch] = ()
    provider: Annotated[tuple[str, ...], _Switch] = ()
    branch: str | None = None
    repository: str | None = None
    parent: str | None = None
    ancestor: str | None = None
    pinned: Annotated[bool, _Switch] = False
    tag: Annotated[tuple[str, ...], _Switch] = ()

    def query(self, options: Globals) -> ListQuery:
        """What to ask for, `parent` and `ancestor` as they were given. `--model` is the filter here. Raises
        `UsageError`."""
        for one, other in (("all_", "archived"), ("cwd", "here"), ("parent", "ancestor")):
            if getattr(self, one) and getattr(self, other):
                raise UsageError(
                    f"--{one.rstrip('_')} and --{other} exclude each other",
                    "--all shows archived threads, too." if one == "all_" else "",
                )
        from clew.store.contracts import ListQuery

        folder = (
            options.folder() if self.here else None if self.cwd is None else options.folder() / self.cwd.expanduser()
        )
        now = datetime.now(UTC)
        return ListQuery(
            archived=None if self.all_ else self.archived,
            cwd=None if folder is None else str(folder),
            text=self.title,
            since=None if self.since is None else since_stamp(self.since, now),
            until=None if self.until is None else since_stamp(self.until, now, option="--until"),
            sources=self.source,
            providers=self.provider,
            models=() if options.model is None else (options.model,),
            branch=self.branch,
            repository=self.repository,
            parent=self.parent,
            ancestor=self.ancestor,
            pinned=True if self.pinned else None,
            tags=self.tag,
        )


async def list_threads(
    *,
    wanted: Wanted | None = None,
    search: str | None = None,
    sort: SortKey = "updated",
    reverse: Annotated[bool, _Switch] = False,
    limit: int = 25,
    cursor: str | None = None,
    json: Annotated[bool, _Switch] = False,
    options: Options,
) -> int:
    """List threads.

    Parameters
    ----------
    search
        Only threads in which this was said, or that are called so.
    sort
        By last change (updated), last turn (recency), beginning (created), name, or size; newest and largest first.
    reverse
        The other way round.
    limit
        How many at most (25); 0 for all of them.
    cursor
        Where the page before ended.
    json
        As JSON.
    """
    if limit < 0:
        raise UsageError("--limit: a number from 0 up is needed")
    if search is not None and (sort != "updated" or reverse):
        raise UsageError("--search has an order of its own: leave out --sort and --reverse")
    import msgspec

    from clew.cli.opening import load_config, open_library

    # Names begin with A; everything else with the newest or the largest.
    query = msgspec.structs.replace(
        (wanted or Wanted()).query(options),
        sort=sort,
        ascending=reverse is not (sort == "name"),
        limit=limit or _EVERYTHING,
        cursor=cursor,
    )
    config = load_config(replace(options, model=None))
    async with open_library(config, "clew list") as threads:
        query = await _with_ids(threads, query)
        found = await find(threads, query, search)
    _show(found, json=json, query=query, holders=_holders(config) if json else {})
    return 0


async def _with_ids(threads: Library, query: ListQuery) -> ListQuery:
    """Parent and ancestor by whatever names them."""
    import msgspec

    parent, ancestor = query.parent, query.ancestor
    if parent is not None:
        parent = (await threads.summary(parent)).id
    if ancestor is not None:
        ancestor = (await threads.summary(ancestor)).id
    return msgspec.structs.replace(query, parent=parent, ancestor=ancestor)


def _holders(config: Config) -> dict[str, Owner]:
    """Who writes which thread right now."""
    from clew.rollout.filesystem import RealFileSystem
    from clew.store.holds import Holds

    return Holds(RealFileSystem(), config.codex_home, config.clew_home).holders()


async def find(threads: Library, query: ListQuery, search: str | None = None) -> Found:
    """The threads a query asks for; with `search`, those in which the text was said."""
    import msgspec

    if search is None:
        out: list[ThreadSummary] = []
        rest, step = query.limit, query
        while True:
            page = await threads.list(msgspec.structs.replace(step, limit=min(rest, _PAGE)))
            out += page.threads
            rest -= len(page.threads)
            if page.next_cursor is None or rest <= 0:
                return Found(out, page.next_cursor)
            step = msgspec.structs.replace(step, cursor=page.next_cursor)
    from clew.store.contracts import SearchQuery

    wanted = SearchQuery(
        text=search, mode="text", roles=("title", "user", "agent"), within=query, limit=query.limit, cursor=query.cursor
    )
    found = await threads.search(wanted)
    return Found([hit.thread for hit in found.hits], found.next_cursor, found.hits)


def since_stamp(text: str, now: datetime, *, option: str = "--since") -> str:
    """The moment that `7d` or `2026-07-01` means, as RFC 3339 UTC. Raises `UsageError`."""
    if span := _SPAN.fullmatch(text.strip()):
        moment = now - timedelta(seconds=int(span[1]) * _SECONDS[span[2]])
    else:
        try:
            moment = datetime.fromisoformat(text.strip()).astimezone()
        except ValueError:
            raise UsageError(f"{option}: {text!r} is no time", "For example: 30min, 12h, 7d, 2w, 2026-07-01.") from None
    moment = moment.astimezone(UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _show(found: Found, *, json: bool, query: ListQuery, holders: Mapping[str, Owner]) -> None:
    if json:
        import msgspec

        rows = [msgspec.to_builtins(thread) for thread in found.threads]
        for row in rows:
            if hit := found.hits.get(row["id"]):
                row["match"] = {"where": hit.where, "snippet": hit.snippet}
            if owner := holders.get(row["id"]):
                row["held_by"] = str(owner)
        terminal.write_json({"threads": rows, "next_cursor": found.next_cursor})
    elif not terminal.is_terminal(sys.stdout):
        sys.stdout.writelines(_plain(thread, found) for thread in found.threads)
    elif not found.threads:
        sys.stdout.write(_nothing(query))
    else:
        _table(found, query.sort)


def _plain(thread: ThreadSummary, found: Found) -> str:
    hit = found.hits.get(thread.id)
    columns = (
        thread.id,
        thread.updated_at,
        thread.name,
        thread.cwd,
        thread.model,
        thread.source,
        hit.snippet if hit else thread.preview,
    )
    return "\t".join(terminal.one_line(column) for column in columns) + "\n"


def _nothing(query: ListQuery) -> str:
    import msgspec

    from clew.store.contracts import ListQuery

    narrowed = msgspec.structs.replace(query, sort="updated", ascending=False, limit=25, cursor=None) != ListQuery()
    return "No thread fits.\n" if narrowed else 'There is no thread yet. Start one: clew exec "…", or: clew demo\n'


def _table(found: Found, sort: SortKey) -> None:
    from rich.text import Text

    out = terminal.console()
    threads = found.threads
    columns = [
        ("id", [Text(_short(thread.id, threads), "cyan") for thread in threads], None),
        ("when", [Text(terminal.ago(_when(thread, sort))) for thread in threads], None),
        ("thread", [_words(thread, found.hits.get(thread.id)) for thread in threads], 0),
        *(
            (title, [Text(value(thread)) for thread in threads], most)
            for title, value, most in (("folder", _folder, 28), ("model", _model, 16), ("source", _source, 10))
            if out.width >= _ROOM[title]
        ),
    ]
    # What tells threads apart is never cut; what is left of the width goes to their words.
    widths = [min(max(len(title), *(cell.cell_len for cell in cells)), most or 10**6) for title, cells, most in columns]
    widths[2] = max(_NARROWEST, out.width - sum(widths[:2] + widths[3:]) - 2 * (len(widths) - 1))
    heads = [Text(title, "dim") for title, _, _ in columns]
    for row in (heads, *zip(*(cells for _, cells, _ in columns), strict=True)):
        for cell, width in zip(row, widths, strict=True):
            cell.truncate(width, overflow="ellipsis", pad=True)
        line = Text("  ").join(row)
        line.rstrip()
        out.print(line, soft_wrap=True)
    if found.next_cursor is not None:
        out.print(f"\nMore: the same command with --cursor {found.next_cursor} (or a larger --limit)", style="dim")


def _when(thread: ThreadSummary, sort: SortKey) -> str:
    """The time that the list is about."""
    if sort == "created":
        return thread.created_at
    return thread.recency_at or thread.updated_at if sort == "recency" else thread.updated_at


def _short(thread_id: str, threads: Sequence[ThreadSummary]) -> str:
    """The shortest beginning of an id, 8 characters or more, that means no other thread of the page.

    The first 8 characters of ids made within the same minute are the same.
    """
    for length in (8, 13, 18, 23):
        if sum(other.id.startswith(thread_id[:length]) for other in threads) == 1:
            return thread_id[:length]
    return thread_id


def _words(thread: ThreadSummary, hit: SearchHit | None) -> Text:
    """What a thread is about: its name, and the words that were found or that it began with."""
    from rich.text import Text

    out = Text()
    if thread.archived:
        out.append("(archived) ", style="dim")
    if thread.pinned:
        out.append("* ", style="yellow")
    if thread.name:
        out.append(terminal.one_line(thread.name), style="bold")
    line = terminal.one_line(thread.error or (hit.snippet if hit else thread.preview), 200)
    if thread.tags:
        out.append(
            ("  " if thread.name else "") + " ".join(f"#{terminal.one_line(tag)}" for tag in thread.tags), "green"
        )
    if line:
        out.append(f"  {line}" if out and (thread.name or thread.tags) else line, style="red" if thread.error else "")
    return out


def _folder(thread: ThreadSummary) -> str:
    cwd, home = thread.cwd or "", str(Path.home())
    return terminal.one_line("~" + cwd.removeprefix(home) if cwd == home or cwd.startswith(home + "/") else cwd)


def _model(thread: ThreadSummary) -> str:
    return terminal.one_line(thread.model)


def _source(thread: ThreadSummary) -> str:
    return terminal.one_line(thread.source)
