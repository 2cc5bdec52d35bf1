"""Between threads and the rows that the index keeps of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from clew.index.rows import ThreadRow
from clew.rollout import Home, RolloutFile, ThreadFiles, canonical_id, parse_head, read_head
from clew.store.order import milliseconds, milliseconds_stamp, name_key, title_of
from clew.store.queries import ThreadSummary
from clew.store.summaries import basics, summarise_files

if TYPE_CHECKING:
    from clew.history.told import Told

__all__ = ["glimpse_of", "read_row", "retold", "row_from_told", "row_of", "summary_of", "whole"]


class _Content(ThreadSummary, frozen=True, kw_only=True, array_like=True):
    """A summary without the names of its fields."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Content)


def read_row(home: Home, files: ThreadFiles, name: str | None) -> ThreadRow:
    """The row of a thread, from what its files say now. Never raises."""
    row = row_of(files, summarise_files(home, files, name))
    named = tuple(base for file in files.segments if (base := _base(home, file)) is not None)
    return msgspec.structs.replace(row, bases=_bases(home, files), named_bases=named) if named else row


def row_of(files: ThreadFiles, summary: ThreadSummary) -> ThreadRow:
    """`summary` without marks, which are no part of it."""
    current = files.current
    return ThreadRow(
        thread_id=files.thread_id,
        archived=files.archived,
        created=files.segments[0].name.stamp,
        updated=current.mtime_ns,
        recency=milliseconds(summary.recency_at) or 0,
        name=name_key(summary),
        size=current.size,
        cwd=summary.cwd,
        source=summary.source,
        provider=summary.provider,
        model=summary.model,
        branch=summary.branch,
        repository=summary.repository,
        parent=summary.parent_id,
        named=summary.name,
        title=title_of(summary).casefold(),
        content=_encoder.encode(msgspec.structs.astuple(summary)),
    )


def summary_of(content: bytes | None) -> ThreadSummary | None:
    """What a row was made from; None for what is none."""
    found = glimpse_of(content)
    return None if found is None else whole(found)


def glimpse_of(content: bytes | None) -> ThreadSummary | None:
    """The same, to look at only: `whole` makes it one that can be handed out."""
    try:
        return None if content is None else _decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def whole(summary: ThreadSummary) -> ThreadSummary:
    return ThreadSummary(**msgspec.structs.asdict(summary))


def row_from_told(files: ThreadFiles, told: Told | None, name: str | None, before: bytes | None) -> ThreadRow | None:
    """The same row as `read_row` makes, without reading the file again; None where what its file told does not do: a
    thread of several files, or what `told_by` leaves open. `before` is the content of the row that it had."""
    if told is None or len(files.segments) > 1:
        return None
    known = basics(files, name)
    preview = told.preview
    if told.previewed:
        earlier = glimpse_of(before)
        if earlier is None or (earlier.id, earlier.path) != (known["id"], known["path"]) or not earlier.preview:
            return None
        preview = earlier.preview
    summary = ThreadSummary(
        **known,
        recency_at=known["created_at"] if told.recency is None else milliseconds_stamp(told.recency),
        preview=preview,
        cwd=told.cwd,
        source=told.source,
        provider=told.provider,
        model=told.model,
        cli_version=told.cli_version,
        branch=told.branch,
        repository=told.repository,
        history_mode=told.history_mode,
        parent_id=told.parent_id,
        forked_from=told.forked_from,
        turns=told.turns,
    )
    return row_of(files, summary)


def retold(files: ThreadFiles, content: bytes | None, name: str | None) -> ThreadRow | None:
    """The row of a thread whose files hold what they held, and that is called otherwise or lies elsewhere now, without
    its bases; None where the files have to be read for it. `content` is that of the row it had."""
    known = summary_of(content)
    if known is None or known.id != files.thread_id or known.error is not None:
        return None
    return row_of(files, msgspec.structs.replace(known, **basics(files, name)))


def _bases(home: Home, files: ThreadFiles) -> tuple[str, ...]:
    """The files that the thread inherits from, there or missing, by the last ids of their names."""
    found: list[str] = []
    file: RolloutFile | None = files.current
    while file is not None and (base := _base(home, file)) is not None and base not in found:
        found.append(base)
        file = home.find_segment(base)
    return tuple(found)


def _base(home: Home, file: RolloutFile) -> str | None:
    try:
        head = read_head(home, file)
    except OSError:
        return None
    base = None if head is None else parse_head(head).history_base
    return None if base is None else canonical_id(base.thread_id)
