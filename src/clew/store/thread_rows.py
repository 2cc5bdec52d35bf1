"""Between threads and the rows that the index keeps of them."""

from __future__ import annotations

import msgspec

from clew.history.digest import Digest
from clew.history.summary import HEAD_LINES
from clew.index.rows import ThreadRow
from clew.rollout import Home, RolloutFile, ThreadFiles, canonical_id, parse_head, read_head
from clew.store.order import milliseconds, milliseconds_stamp, name_key, title_of
from clew.store.queries import ThreadSummary
from clew.store.summaries import basics, summarise_files

__all__ = ["glimpse_of", "read_row", "row_from_digest", "row_of", "summary_of", "whole"]


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
        content=_encoder.encode(_Content(**msgspec.structs.asdict(summary))),
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


def row_from_digest(files: ThreadFiles, digest: Digest, name: str | None) -> ThreadRow | None:
    """The same row as `read_row` makes, without reading the file again; None where the digest alone does not tell: a
    thread of several files, one that inherits, or one that says something about itself late."""
    meta = digest.meta
    if (
        len(files.segments) > 1
        or meta is None
        or meta.base is not None
        or meta.cwd is None
        or digest.unsupported is not None
        or digest.applied_cwd not in (None, meta.cwd)
        or digest.lines > HEAD_LINES
    ):
        return None
    known = basics(files, name)
    summary = ThreadSummary(
        **known,
        recency_at=known["created_at"] if digest.recency is None else milliseconds_stamp(digest.recency),
        preview=digest.preview,
        cwd=meta.cwd,
        source=meta.source,
        provider=meta.provider,
        model=digest.model,
        cli_version=meta.cli_version,
        branch=meta.branch,
        repository=meta.repository,
        history_mode=meta.history_mode,
        parent_id=meta.parent_id,
        forked_from=meta.forked_from,
        turns=digest.turns,
    )
    return row_of(files, summary)


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
