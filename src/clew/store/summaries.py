"""What a list says about a thread, read from its files: their first lines, and the last ones."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from clew.errors import ClewError
from clew.history.last_turn import not_of_last_turn, read_last_turn
from clew.history.summary import summarise_head
from clew.rollout import (
    ByteSource,
    Home,
    Link,
    MemorySource,
    Record,
    RolloutFile,
    Skipped,
    ThreadFiles,
    open_source,
    parse_head,
    read_thread,
    scan_back,
    scan_forward,
)
from clew.rollout.chain import head_of, link_lines
from clew.store.order import milliseconds_stamp
from clew.store.queries import Marks, ThreadSummary

__all__ = ["basics", "marked", "summarise_files"]

SMALL = 1 << 18
"""Bytes of a file that is read whole."""


def summarise_files(home: Home, files: ThreadFiles, name: str | None = None) -> ThreadSummary:
    """A thread as its files are now. Never raises: what cannot be read is told by `error`."""
    known = basics(files, name)
    try:
        with contextlib.closing(_opened(home, files.current)) as source:
            head = head_of(source, files.current)
            if head is not None and parse_head(head).history_base is None:
                told = summarise_head(head, _records(scan_forward(source)), path=str(files.current.plain_path))
            else:
                told = summarise_head(head, _records(read_thread(home, files)))
            last = read_last_turn(scan_back(source, passes=not_of_last_turn))
    except (ClewError, OSError) as error:
        return ThreadSummary(**known, recency_at=known["created_at"], error=str(error))
    recency = last.recency
    for earlier in reversed(files.segments[:-1]):
        if recency is not None:
            break
        # Taking a thread back begins a file, but no turn.
        recency = read_last_turn(link_lines(home, Link(earlier), back=True, passes=not_of_last_turn)).recency
    meta = told.meta
    return ThreadSummary(
        **known,
        recency_at=known["created_at"] if recency is None else milliseconds_stamp(recency),
        preview=told.preview,
        cwd=told.cwd,
        source=meta.source,
        provider=meta.provider,
        model=last.model or told.model,
        cli_version=meta.cli_version,
        branch=meta.branch,
        repository=meta.repository,
        history_mode=meta.history_mode,
        parent_id=meta.parent_id,
        forked_from=meta.forked_from,
    )


def basics(files: ThreadFiles, name: str | None) -> dict[str, Any]:
    """What names and sizes of the files tell, whatever is in them."""
    current = files.current
    return {
        "id": files.thread_id,
        "path": str(current.plain_path),
        "archived": files.archived,
        "created_at": _created_at(files),
        "updated_at": milliseconds_stamp(current.mtime_ns // 1_000_000),
        "size": current.size,
        "name": name,
    }


def marked(summary: ThreadSummary, marks: Marks | None) -> ThreadSummary:
    """The summary with what people put on the thread."""
    if marks is None:
        return summary
    return msgspec.structs.replace(
        summary, tags=tuple(sorted(marks.tags)), pinned=marks.pinned, note=marks.note, saved_as=marks.names
    )


def _created_at(files: ThreadFiles) -> str:
    # The name tells the same moment as the metadata, to the second, also when they cannot be read.
    when = files.segments[0].name.time
    try:
        seconds = None if when is None else int(when.timestamp())
    except (ValueError, OverflowError, OSError):
        seconds = None  # a year that the machine's calendar does not have
    return milliseconds_stamp(files.current.mtime_ns // 1_000_000 if seconds is None else seconds * 1000)


def _opened(home: Home, file: RolloutFile) -> ByteSource:
    """The bytes of a file; those of a small one are read in one go."""
    source = open_source(home.fs, file)
    if file.compressed or file.size > SMALL:
        return source
    with contextlib.closing(source):
        data = source.read_at(0, SMALL + 1)
        if len(data) <= SMALL and source.damage is None:
            return MemorySource(data)
    return open_source(home.fs, file)


def _records(lines: Iterable[Record | Skipped]) -> Iterator[Record]:
    return (line for line in lines if isinstance(line, Record))
