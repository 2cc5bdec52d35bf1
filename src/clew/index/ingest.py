"""From files to the index: what is new in each is digested and stored, newest files first.

Digesters read beside the thread that writes. What is known of a file, its words, and what the catalog makes of it are
stored in one transaction per batch, so that work can end at any moment and goes on where it stopped.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import apsw
import msgspec

from clew.history.digest import DIGEST_VERSION
from clew.history.told import Told
from clew.index.digestion import Batch, Digester, Piece, Work
from clew.index.sql import row, rows, run, run_many
from clew.index.words import Document, add_documents, remove_documents

__all__ = ["Digested", "Progress", "Report", "ingest"]

PART_FILES = 512
PART_BYTES = 32 << 20
"""Files that are handed to a digester together, and what they may hold. Each part leaves pages behind that are not
full."""
CHECKPOINT, USUAL_CHECKPOINT = 4000, 500
"""Pages in the log of the database from which on they are moved into it: each time costs two syncs."""
WAITING = 2
"""Batches that may be read ahead, for each digester."""


class Digested(msgspec.Struct, frozen=True, kw_only=True):
    """One file of which all there is was taken: its row in `files`, and what it tells of its thread."""

    id: int
    work: Work
    told: Told | None


class Report(msgspec.Struct, kw_only=True):
    """What a run did: files that were looked at, those among them with something new, unpacked bytes taken; and those
    that could not be read, with the reason. `stopped`: it ended early because it was asked to."""

    files: int = 0
    changed: int = 0
    bytes: int = 0
    failed: list[tuple[Path, str]] = []
    stopped: bool = False


Progress = Callable[[Report], None]
Stored = Callable[[Sequence[Digested]], None]
_Part = Sequence[Work]
_Queue = queue.Queue[tuple[_Part, Batch] | BaseException | None]


def ingest(
    connection: apsw.Connection,
    digesters: Sequence[Digester],
    work: Sequence[Work],
    *,
    stored: Stored | None = None,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress | None = None,
) -> Report:
    """Take what is new in the files of `work`, in about that order, into the index.

    `stored` is called within each transaction with the files that it completes, so that other tables follow in the same
    step. `connection` belongs to the calling thread until this returns, each digester to a thread of its own. Files
    that cannot be read are reported and left as they are known. `stop` is asked by all threads; once it tells True it
    has to stay so. Raises `apsw.Error`; what was stored before stays.
    """
    report = Report()
    batches: _Queue = queue.Queue(WAITING * len(digesters))
    ended = threading.Event()
    parts = _Parts(work)
    readers = [
        threading.Thread(
            target=_read_ahead,
            args=(digester, parts, batches, lambda: ended.is_set() or stop()),
            name="clew-digest",
            daemon=True,
        )
        for digester in digesters
    ]
    for reader in readers:
        reader.start()
    connection.wal_autocheckpoint(CHECKPOINT)
    try:
        reading = len(readers)
        while reading:
            found = batches.get()
            if found is None:
                reading -= 1
                continue
            if isinstance(found, BaseException):
                raise found
            _store(connection, *found, report, stored)
            if progress is not None:
                progress(report)
            if stop():
                break
        report.stopped = stop()
    finally:
        connection.wal_autocheckpoint(USUAL_CHECKPOINT)
        ended.set()
        with contextlib.suppress(queue.Empty):
            while True:
                batches.get_nowait()
        for reader in readers:
            reader.join()
    return report


# -- reading


class _Parts:
    """The work in parts, for whoever is free."""

    def __init__(self, work: Sequence[Work]) -> None:
        self._parts = _parts(work)
        self._lock = threading.Lock()

    def next(self) -> _Part | None:
        with self._lock:
            return next(self._parts, None)


def _parts(work: Sequence[Work]) -> Iterator[_Part]:
    part: list[Work] = []
    size = 0
    for one in work:
        part.append(one)
        size += one.file.size
        if len(part) == PART_FILES or size >= PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _read_ahead(digester: Digester, parts: _Parts, batches: _Queue, stop: Callable[[], bool]) -> None:
    def put(entry: tuple[_Part, Batch] | BaseException) -> None:
        while not stop():
            with contextlib.suppress(queue.Full):
                batches.put(entry, timeout=0.1)
                return

    try:
        while not stop() and (part := parts.next()) is not None:
            for batch in digester.batches(part):
                put((part, batch))
                if stop():
                    break
    except BaseException as error:
        put(error)
    # The one who reads the queue may have been told to stop by the same sign, and then looks no more.
    with contextlib.suppress(queue.Full):
        batches.put(None, timeout=None if not stop() else 0)


# -- writing

_KNOWN = """
SELECT id, thread, path, offset, device, inode, version FROM files WHERE thread IN (SELECT value FROM carray(?))
"""
_INSERT = """
INSERT INTO files
(id, thread, path, device, inode, size, mtime_ns, packed, offset, tail_length, tail_sum, version, digest,
    oldest, newest)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_UPDATE = """
UPDATE files SET
    device = ?4, inode = ?5, size = ?6, mtime_ns = ?7, packed = ?8, offset = ?9, tail_length = ?10, tail_sum = ?11,
    version = ?12, digest = ?13, oldest = min(ifnull(oldest, ?14), ifnull(?14, oldest)),
    newest = max(ifnull(newest, ?15), ifnull(?15, newest))
WHERE id = ?1
"""


class _Row(msgspec.Struct):
    """What is known of a file before a piece of it is stored."""

    id: int
    offset: int
    device: int
    inode: int
    version: int


def _store(
    connection: apsw.Connection, part: Sequence[Work], batch: Batch, report: Report, stored: Stored | None
) -> None:
    digested: list[Digested] = []
    documents: list[Document] = []
    inserts: list[tuple[Any, ...]] = []
    updates: list[tuple[Any, ...]] = []
    run(connection, "BEGIN IMMEDIATE")
    try:
        known = _known(connection, [part[piece.work] for piece in batch.pieces])
        free = _first_free_file(connection)
        for piece in batch.pieces:
            work = part[piece.work]
            before = known.get(work.path)
            if not _continues(piece, work, before):
                continue  # another process was quicker, and what it took is right
            if before is None:
                number, free = free, free + 1
            else:
                number = before.id
                if piece.anew:
                    remove_documents(connection, number)
            (inserts if before is None else updates).append(_values(number, work, piece))
            known[work.path] = _Row(number, piece.offset, *piece.identity, DIGEST_VERSION)
            documents += [(text.order, number, text.offset, n, text) for n, text in enumerate(piece.texts)]
            if piece.done:
                digested.append(Digested(id=number, work=work, told=piece.told))
        bounds = add_documents(connection, documents)
        # A row that had to grow would leave half of its page empty.
        run_many(connection, _INSERT, [(*values, *bounds.get(values[0], (None, None))) for values in inserts])
        run_many(connection, _UPDATE, [(*values, *bounds.get(values[0], (None, None))) for values in updates])
        if stored is not None and digested:
            stored(digested)
    except BaseException:
        with contextlib.suppress(apsw.Error):  # a full disk has taken it back already
            run(connection, "ROLLBACK")
        raise
    run(connection, "COMMIT")
    report.files += len(batch.failed)
    report.failed += [(part[failed.work].file.path, failed.why) for failed in batch.failed]
    for piece in batch.pieces:
        report.files += piece.done
        report.changed += piece.first and (piece.taken > 0 or piece.anew)
        report.bytes += piece.taken


def _known(connection: apsw.Connection, works: Sequence[Work]) -> dict[str, _Row]:
    threads = tuple({work.file.thread_id for work in works})
    if not threads:
        return {}
    found = rows(connection, _KNOWN, (cast("Any", apsw).carray(threads),))
    return {path: _Row(number, *rest) for number, _, path, *rest in found}


def _first_free_file(connection: apsw.Connection) -> int:
    last = row(connection, "SELECT max(id) FROM files")
    return 1 + (last[0] or 0 if last is not None else 0)


def _continues(piece: Piece, work: Work, before: _Row | None) -> bool:
    """Whether what is known of a file is what the piece was read behind."""
    if piece.begin > 0 and not piece.first:
        return before is not None and before.offset == piece.begin and before.version == DIGEST_VERSION
    known = work.known
    if known is None:
        return before is None
    return before is not None and (before.offset, before.device, before.inode) == (
        known.offset,
        known.device,
        known.inode,
    )


def _values(number: int, work: Work, piece: Piece) -> tuple[Any, ...]:
    return (
        number,
        work.file.thread_id,
        work.path,
        *piece.identity,
        piece.size if piece.done else -1,
        piece.mtime_ns,
        work.file.compressed,
        piece.offset,
        *piece.tail,
        DIGEST_VERSION,
        piece.packed,
    )
