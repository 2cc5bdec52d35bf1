"""`clew search` and `clew grep`: where something was said."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from clew.cli import terminal
from clew.cli.options import Globals, UsageError
from clew.cli.registry import Options

if TYPE_CHECKING:
    from rich.text import Text

    from clew.store.contracts import SearchHit, SearchPage, SearchProgress, SearchQuery

__all__ = ["Narrowed", "grep", "search"]

_Switch = Parameter(negative="")
_Many = Parameter(negative="")
_PAGE = 25
_EVERYTHING = 1_000_000
_PATIENCE = 1.0
"""Seconds before a search tells how far it is."""
_STEP = 0.1

_Role = Literal["title", "user", "agent", "command", "file", "output"]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Narrowed:
    """Where to look.

    Parameters
    ----------
    here
        Only threads of the current folder and the folders below it.
    cwd
        Only threads of this folder and the folders below it.
    archived
        Archived threads only.
    all_
        Archived threads, too.
    source
        Only threads started by this: mcp, exec, cli, … (repeat it).
    tag
        Only threads with this tag (repeat it).
    role
        Only there: title, user, agent, command, file, output (repeat it).
    tool
        Only calls of this tool and what they answered.
    file
        Only threads that touched a file whose path ends so.
    since
        Only what was said since then: 30min, 12h, 7d, 2w, or a date.
    until
        Only what was said before.
    in_
        Every place inside this thread, in its order.
    limit
        How many at most (25); 0 for all of them.
    cursor
        Where the page before ended.
    """

    here: Annotated[bool, _Switch] = False
    cwd: Path | None = None
    archived: Annotated[bool, _Switch] = False
    all_: Annotated[bool, Parameter(name="--all", negative="")] = False
    source: Annotated[tuple[str, ...], _Many] = ()
    tag: Annotated[tuple[str, ...], _Many] = ()
    role: Annotated[tuple[_Role, ...], _Many] = ()
    tool: str | None = None
    file: str | None = None
    since: str | None = None
    until: str | None = None
    in_: Annotated[str | None, Parameter(name="--in")] = None
    limit: int | None = None
    cursor: str | None = None

    def query(self, text: str, mode: Literal["words", "text", "regex"], options: Globals) -> SearchQuery:
        """The query for a text. Raises `UsageError`."""
        if self.all_ and self.archived:
            raise UsageError("--all and --archived exclude each other", "--all looks into archived threads, too.")
        if self.cwd is not None and self.here:
            raise UsageError("--cwd and --here exclude each other")
        if self.limit is not None and self.limit < 0:
            raise UsageError("--limit: a number from 0 up is needed")
        from clew.store.contracts import ListQuery, SearchQuery

        folder = options.folder() if self.here else self.cwd and options.folder() / self.cwd.expanduser()
        within = ListQuery(
            archived=None if self.all_ else self.archived,
            cwd=None if folder is None else str(folder),
            sources=self.source,
            tags=self.tag,
        )
        return SearchQuery(
            text=text,
            mode=mode,
            within=within,
            thread_id=self.in_,
            roles=self.role,
            tool=self.tool,
            file=self.file,
            since=_moment("--since", self.since),
            until=_moment("--until", self.until),
            limit=_PAGE if self.limit is None else self.limit or _EVERYTHING,
            cursor=self.cursor,
        )


async def search(
    *words: str,
    narrowed: Narrowed | None = None,
    sort: Literal["rank", "recency"] = "rank",
    json: Annotated[bool, _Switch] = False,
    options: Options,
) -> int:
    """Find threads by words.

    Parameters
    ----------
    words
        All of them must stand in one message, command, path or title: "a phrase", prefix*.
    sort
        rank (the best first) or recency (the newest first).
    json
        As JSON.
    """
    import msgspec

    narrowed = narrowed or Narrowed()
    query = msgspec.structs.replace(narrowed.query(_text(words), "words", options), sort=sort)
    page = await _found(query, "clew search", options)
    _show(page, query, json=json)
    return 0


async def grep(
    pattern: str,
    /,
    *,
    narrowed: Narrowed | None = None,
    fixed_strings: Annotated[bool, Parameter(name=("--fixed-strings", "-F"), negative="")] = False,
    ignore_case: Annotated[bool, Parameter(name=("--ignore-case", "-i"), negative="")] = False,
    case_sensitive: Annotated[bool, _Switch] = False,
    ids: Annotated[bool, Parameter(name=("--threads-with-matches", "-l"), negative="")] = False,
    count: Annotated[bool, _Switch] = False,
    json: Annotated[bool, _Switch] = False,
    options: Options,
) -> int:
    """Find threads by a regular expression, or by an exact text.

    Parameters
    ----------
    pattern
        A regular expression as Python has it; ^ and $ mean lines.
    fixed_strings
        The pattern is a text, not an expression.
    ignore_case
        Upper and lower case are the same: so it is without this option, too.
    case_sensitive
        Upper and lower case differ.
    ids
        Only the ids of threads.
    count
        Only the ids of threads, and how many of their messages fit.
    json
        As JSON.
    """
    if ids + count + json > 1:
        raise UsageError("-l, --count and --json exclude each other")
    if ignore_case and case_sensitive:
        raise UsageError("--ignore-case and --case-sensitive exclude each other")
    import msgspec

    narrowed = narrowed or Narrowed()
    query = narrowed.query(pattern, "text" if fixed_strings else "regex", options)
    if (ids or count) and narrowed.limit is None:
        query = msgspec.structs.replace(query, limit=_EVERYTHING)
    query = msgspec.structs.replace(query, case_sensitive=case_sensitive)
    page = await _found(query, "clew grep", options)
    if ids:
        sys.stdout.writelines(f"{thread_id}\n" for thread_id in dict.fromkeys(hit.thread.id for hit in page.hits))
        _warn(page)
    elif count:
        sys.stdout.writelines(f"{hit.thread.id}\t{hit.count}\n" for hit in page.hits)
        _warn(page)
    else:
        _show(page, query, json=json)
    return 0 if page.hits else 1


def _text(words: tuple[str, ...]) -> str:
    """What the words of a command line ask for: a word that the shell took out of quotes is a phrase."""
    if not words:
        raise UsageError("no word to search for", "For example: clew search parser fix*")
    if len(words) == 1:
        return words[0]
    return " ".join(f'"{word}"' if any(map(str.isspace, word)) and '"' not in word else word for word in words)


def _moment(option: str, text: str | None) -> str | None:
    from clew.cli.listing import since_stamp

    if text is None:
        return None
    try:
        return since_stamp(text, datetime.now(UTC))
    except UsageError as wrong:
        raise UsageError(wrong.message.replace("--since", option, 1), wrong.hint) from None


async def _found(query: SearchQuery, program: str, options: Globals) -> SearchPage:
    from clew.cli.opening import load_config, open_library

    async with open_library(load_config(options), program) as threads:
        with _waiting() as bar:
            return await threads.search(query, progress=bar)


class _Bar:
    """Tells on standard error how far a search is, once it takes a while."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _PATIENCE
        self._shown = False

    def __call__(self, progress: SearchProgress) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next, self._shown = now + _STEP, True
        share = 100 * progress.bytes // max(1, progress.all_bytes)
        sys.stderr.write(f"\r\x1b[Klooked at {progress.files} of {progress.all_files} threads, {share} %")
        sys.stderr.flush()

    def close(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


@contextmanager
def _waiting() -> Generator[_Bar | None]:
    if not terminal.is_terminal(sys.stderr):
        yield None
        return
    bar = _Bar()
    try:
        yield bar
    finally:
        bar.close()


# -- showing ----------------------------------------------------------------------------------------------------------


def _warn(page: SearchPage) -> None:
    for notice in page.notices:
        terminal.warn(notice)


def _show(page: SearchPage, query: SearchQuery, *, json: bool) -> None:
    if json:
        terminal.write_json(page)
        return
    if not terminal.is_terminal(sys.stdout):
        plain = _plain_place if query.thread_id is not None else _plain_thread
        sys.stdout.writelines(plain(hit) for hit in page.hits)
    elif not page.hits:
        sys.stdout.write("Nothing found.\n")
    else:
        _pretty(page, inside=query.thread_id is not None)
    _warn(page)


def _plain_thread(hit: SearchHit) -> str:
    thread = hit.thread
    columns = (
        thread.id,
        thread.updated_at,
        hit.where,
        str(hit.count),
        thread.name or thread.preview,
        thread.cwd,
        hit.snippet,
    )
    return "\t".join(map(terminal.one_line, columns)) + "\n"


def _plain_place(hit: SearchHit) -> str:
    return "\t".join(map(terminal.one_line, (hit.turn_id, hit.at, hit.where, str(hit.count), hit.snippet))) + "\n"


def _pretty(page: SearchPage, *, inside: bool) -> None:
    from rich.text import Text

    from clew.cli.listing import _folder, _short  # pyright: ignore[reportPrivateUsage] - the same columns

    out = terminal.console()
    threads = [hit.thread for hit in page.hits]
    for hit in page.hits:
        thread = hit.thread
        if inside:
            line = Text(f"{terminal.ago(hit.at) if hit.at else ''}  {hit.turn_id or ''}".strip(), "dim")
        else:
            line = Text(_short(thread.id, threads), "cyan")
            line.append(f"  {terminal.ago(thread.updated_at)}")
            line.append(f"  {terminal.one_line(thread.name or thread.preview, 60)}", style="bold")
            line.append(f"  {_folder(thread)}", style="dim")
            if thread.archived:
                line.append("  (archived)", style="dim")
        out.print(line, soft_wrap=True)
        said = Text("    ")
        said.append(f"{hit.where}: ", style="magenta")
        said.append_text(_marked(hit))
        if hit.count > 1:
            said.append(f"  ({hit.count} {'times' if inside else 'messages'})", style="dim")
        out.print(said, soft_wrap=True)
    if page.next_cursor is not None:
        out.print(f"\nMore: the same command with --cursor {page.next_cursor} (or a larger --limit)", style="dim")


def _marked(hit: SearchHit) -> Text:
    """The snippet with what matched in it; nothing in it steers the terminal."""
    from rich.text import Text

    said = Text()
    at = 0
    for start, end in hit.marks:
        if start < at:
            continue
        said.append(terminal.clean(hit.snippet[at:start]))
        said.append(terminal.clean(hit.snippet[start:end]), style="bold red")
        at = end
    said.append(terminal.clean(hit.snippet[at:]))
    return said
