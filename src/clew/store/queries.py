"""What is asked of a catalog, and what it answers: plain data, the same for every store and face."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

__all__ = [
    "ROLES",
    "ListQuery",
    "Look",
    "Marks",
    "Page",
    "Role",
    "SearchHit",
    "SearchPage",
    "SearchProgress",
    "SearchQuery",
    "ShowProgress",
    "SortKey",
    "Stop",
    "ThreadSummary",
]

SortKey = Literal["created", "updated", "recency", "name", "size"]
"""`created`: when the thread began; `updated`: its last write; `recency`: when its last turn began (a name or another
change of metadata does not move it); `name`: its title, ignoring case; `size`: bytes on disk."""

Role = Literal["title", "user", "agent", "command", "file", "output"]
"""Where a text stands: the thread's name or preview, what was said, a command line, the path of a touched file, what a
tool answered."""

ROLES: tuple[Role, ...] = ("title", "user", "agent", "command", "file", "output")


class Marks(msgspec.Struct, frozen=True, kw_only=True):
    """What people put on a thread and the log has no room for. `names` are the names it was saved under, newest
    first."""

    tags: frozenset[str] = frozenset()
    pinned: bool = False
    note: str | None = None
    names: tuple[str, ...] = ()


class ThreadSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One thread in a list. Times are RFC 3339 UTC; `path` is the current file without `.zst`; `size` counts the bytes
    of that file on disk. `turns` is None where nobody counted them yet."""

    id: str
    path: str
    archived: bool
    created_at: str
    updated_at: str
    size: int
    recency_at: str | None = None
    name: str | None = None
    preview: str | None = None
    cwd: str | None = None
    source: str | None = None
    provider: str | None = None
    model: str | None = None
    cli_version: str | None = None
    branch: str | None = None
    repository: str | None = None
    history_mode: str = "legacy"
    parent_id: str | None = None
    forked_from: str | None = None
    turns: int | None = None
    tags: tuple[str, ...] = ()
    pinned: bool = False
    note: str | None = None
    saved_as: tuple[str, ...] = ()
    error: str | None = None


class ListQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What to list; filters that are named must all hold.

    `cwd` matches the folder and everything below it, and so does each of `cwd_also`, the names that this folder had
    before; `text` is looked for in the title (the name, else the preview),
    ignoring case; `sources`, `providers`, `models` match any of their words; `branch` and `repository` as the thread
    recorded them; `parent`: threads that this one spawned; `ancestor`: those it spawned at any depth (only one of the
    two); `tags`: all of them; `since` and `until` bound `updated_at` (RFC 3339). A cursor belongs to a sort and a
    direction.
    """

    archived: bool | None = False
    cwd: str | None = None
    cwd_also: tuple[str, ...] = ()
    text: str | None = None
    sources: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    branch: str | None = None
    repository: str | None = None
    parent: str | None = None
    ancestor: str | None = None
    pinned: bool | None = None
    tags: tuple[str, ...] = ()
    since: str | None = None
    until: str | None = None
    sort: SortKey = "updated"
    ascending: bool = False
    limit: int = 25
    cursor: str | None = None


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One page of a list; `next_cursor` None means: there is no more."""

    threads: tuple[ThreadSummary, ...]
    next_cursor: str | None = None


class SearchQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What to look for.

    `mode` "words": all words of `text` (`"a phrase"`, `prefix*`) in the title, in what was said, in commands and in
    file paths, ranked; "text": exactly this text; "regex": a Python regular expression; the last two in tool output,
    too. `within` filters the threads (its sort, limit and cursor mean nothing here). `thread_id`: every occurrence
    inside this one thread, in its order, instead of one hit per thread. `roles`: only there (empty: everywhere);
    `tool`: only in calls of this tool and what they answered; `file`: only in threads that touched a file whose path
    ends so; `since` and `until` bound the time of the message (RFC 3339). `sort` is for words: hits of the other modes
    come by the time their thread was written last, newest first.
    """

    text: str
    mode: Literal["words", "text", "regex"] = "words"
    within: ListQuery = ListQuery(archived=None)
    thread_id: str | None = None
    roles: tuple[Role, ...] = ()
    tool: str | None = None
    file: str | None = None
    since: str | None = None
    until: str | None = None
    case_sensitive: bool = False
    sort: Literal["rank", "recency"] = "rank"
    limit: int = 25
    cursor: str | None = None


class SearchHit(msgspec.Struct, frozen=True, kw_only=True):
    """A thread in which the text was found (or one occurrence in it): where, a piece of the text around it, and the
    character ranges of that piece that matched. `at` is the time of the line (RFC 3339), `turn_id` its turn where the
    log tells, `count` how many messages of the thread fit, as far as they were counted."""

    thread: ThreadSummary
    where: Role
    snippet: str
    marks: tuple[tuple[int, int], ...] = ()
    at: str | None = None
    turn_id: str | None = None
    count: int = 1


class SearchPage(msgspec.Struct, frozen=True, kw_only=True):
    """Hits, best or newest first. `notices` say what a person should know: what could not be read, that not everything
    was looked at yet."""

    hits: tuple[SearchHit, ...]
    next_cursor: str | None = None
    notices: tuple[str, ...] = ()


class SearchProgress(msgspec.Struct, frozen=True):
    """How far a scan is: files and bytes on disk that were looked at, of all that may have to be."""

    files: int
    all_files: int
    bytes: int
    all_bytes: int


Look = Literal["folders", "others"]
"""At what of a disk is looked before it is told which threads there are and who is whose: at all folders that changed,
or at those that others changed, as far as a process can tell of its own changes."""

Stop = Callable[[], bool]
"""Asked now and then by long work; once it tells True the work ends at the next step with `SearchStopped`."""

ShowProgress = Callable[[SearchProgress], None]
"""Told now and then by a scan, from its own thread."""
