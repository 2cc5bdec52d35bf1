"""From files to the index: what is new in each is digested and stored, newest files first.

One thread reads and digests while another one writes; most of the work of both is done outside the interpreter's lock.
What is known of a file, its words, and what the catalog makes of it are stored in one transaction per batch, so that
work can end at any moment and goes on where it stopped.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import apsw
import msgspec

from clew.history.digest import DIGEST_VERSION, Digest, digest_lines, milliseconds, pass_line
from clew.history.said import Said
from clew.index.files import TAIL, KnownFile, Packer, tail_of, unpack_digest
from clew.index.sql import row, rows, run
from clew.index.words import Document, add_documents, remove_documents
from clew.rollout.filesystem import FileSystem
from clew.rollout.layout import RolloutFile
from clew.rollout.scan import MAX_LINE
from clew.rollout.source import ByteSource, open_source

__all__ = ["Digested", "Progress", "Report", "Work", "ingest"]

BLOCK = 1 << 20
PIECE = 4 << 20
"""Characters said in one piece of a large file."""
BATCH_TEXT = 2 << 20
BATCH_FILES = 512
CHECKPOINT, USUAL_CHECKPOINT = 4000, 500
"""Pages in the log of the database from which on they are moved into it: each time costs two syncs."""
WAITING = 2
"""Batches that may be read ahead."""


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """A file to look at: where it is, its path within the home (without `.zst`), and what is known of it."""

    file: RolloutFile
    path: str
    known: KnownFile | None = None


class Digested(msgspec.Struct, frozen=True, kw_only=True):
    """One file as it is stored: its row in `files`, and its digest. `anew`: nothing of what was known before holds.
    `done`: all that there is of it was taken."""

    id: int
    work: Work
    digest: Digest
    anew: bool
    done: bool


class Report(msgspec.Struct, kw_only=True):
    """What a run did: files that were looked at, those among them with something new, unpacked bytes taken; and those
    that could not be read, with the reason. `stopped`: it ended early because it was asked to."""

    files: int = 0
    changed: int = 0
    bytes: int = 0
    failed: list[tuple[Path, str]] = []
    stopped: bool = False


Progress = Callable[[Report], None]
Stored = Callable[[apsw.Connection, Sequence[Digested]], None]


class _Piece(msgspec.Struct, kw_only=True):
    """What was taken of a file in one go."""

    work: Work
    identity: tuple[int, int]
    size: int
    mtime_ns: int
    digest: Digest
    packed: bytes
    offset: int
    tail: tuple[int, int]
    said: list[Said]
    taken: int
    anew: bool
    done: bool
    first: bool
    begin: int
    time: int
    weight: int


class _Failed(msgspec.Struct):
    path: Path
    why: str


_Taken = tuple[list[Said], tuple[int, int], int, bool]
_Batch = list[_Piece | _Failed]


def ingest(
    connection: apsw.Connection,
    fs: FileSystem,
    work: Iterable[Work],
    *,
    stored: Stored | None = None,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress | None = None,
) -> Report:
    """Take what is new in the files of `work`, in that order, into the index.

    `stored` is called within each transaction with the files it stores, so that other tables follow in the same step.
    `connection` belongs to the calling thread until this returns. Files that cannot be read are reported and left as
    they are known. `stop` is asked by both threads; once it tells True it has to stay so. Raises `apsw.Error`; what was
    stored before stays.
    """
    report = Report()
    batches: queue.Queue[_Batch | BaseException | None] = queue.Queue(WAITING)
    ended = threading.Event()
    reader = threading.Thread(
        target=_read_ahead, args=(fs, work, batches, lambda: ended.is_set() or stop()), name="clew-digest", daemon=True
    )
    reader.start()
    connection.wal_autocheckpoint(CHECKPOINT)
    try:
        while (batch := batches.get()) is not None:
            if isinstance(batch, BaseException):
                raise batch
            _store(connection, batch, report, stored)
            if progress is not None:
                progress(report)
            if stop():
                report.stopped = True
                break
        report.stopped = report.stopped or stop()
    finally:
        connection.wal_autocheckpoint(USUAL_CHECKPOINT)
        ended.set()
        with contextlib.suppress(queue.Empty):
            while True:
                batches.get_nowait()
        reader.join()
    return report


# -- reading


def _read_ahead(
    fs: FileSystem, work: Iterable[Work], batches: queue.Queue[_Batch | BaseException | None], stop: Callable[[], bool]
) -> None:
    def put(entry: _Batch | BaseException | None) -> None:
        while not stop():
            with contextlib.suppress(queue.Full):
                batches.put(entry, timeout=0.1)
                return

    try:
        batch: _Batch = []
        weight = 0
        for piece in _pieces(fs, work):
            batch.append(piece)
            weight += piece.weight if isinstance(piece, _Piece) else 0
            if weight >= BATCH_TEXT or len(batch) >= BATCH_FILES:
                put(batch)
                batch, weight = [], 0
            if stop():
                break
        if batch:
            put(batch)
    except BaseException as error:
        put(error)
    # The one who reads the queue may have been told to stop by the same sign, and then looks no more.
    with contextlib.suppress(queue.Full):
        batches.put(None, timeout=None if not stop() else 0)


def _pieces(fs: FileSystem, work: Iterable[Work]) -> Iterator[_Piece | _Failed]:
    packer = Packer()
    for entry in work:
        try:
            yield from _digest(fs, entry, packer)
        except OSError as error:
            yield _Failed(entry.file.path, error.strerror or str(error))


def _digest(fs: FileSystem, work: Work, packer: Packer) -> Iterator[_Piece]:
    status = fs.stat(work.file.path)
    with contextlib.closing(open_source(fs, work.file)) as source:
        digest = _resumed(source, work, status.identity)
        anew = digest is None and work.known is not None
        if digest is None:
            digest = Digest(thread_id=work.file.thread_id)
        first, begin = True, digest.offset
        for said, tail, taken, done in _read(source, digest, None if work.file.compressed else status.size):
            yield _Piece(
                work=work,
                identity=status.identity,
                size=status.size,
                mtime_ns=status.mtime_ns,
                digest=digest,
                packed=packer.pack(digest),
                offset=digest.offset,
                # Where nothing came to it, the end is the one that was known.
                tail=tail if tail[0] or anew or work.known is None else (work.known.tail_length, work.known.tail_sum),
                said=said,
                taken=taken,
                anew=anew and first,
                done=done,
                first=first,
                begin=begin,
                time=digest.recency or _created(digest) or status.mtime_ns // 1_000_000,
                weight=sum(len(entry.text) for entry in said),
            )
            first, begin = False, digest.offset


def _resumed(source: ByteSource, work: Work, identity: tuple[int, int]) -> Digest | None:
    """What is known of the file, if it is still the same one."""
    known = work.known
    if known is None or (digest := known.digest()) is None:
        return None
    if known.packed == work.file.compressed and (known.device, known.inode) != tuple(identity):
        return None
    length = known.tail_length
    tail = source.read_at(known.offset - length, length)
    return digest if (len(tail), zlib.crc32(tail)) == (length, known.tail_sum) else None


def _created(digest: Digest) -> int | None:
    return milliseconds(digest.meta.created_at) if digest.meta is not None else None


def _read(
    source: ByteSource, digest: Digest, size: int | None
) -> Iterator[tuple[list[Said], tuple[int, int], int, bool]]:
    """Extend the digest to the end of the file; now and then, and at the end, gives what was said, the tail of what was
    taken, how many bytes that were, and whether it is all. `size`: how long the file is, about."""
    said: list[Said] = []
    begin, tail = digest.offset, b""
    parts: list[bytes] = []
    held = 0
    while True:
        position = digest.offset + held
        # Asking for much more than there is costs memory that is cleared for nothing.
        length = BLOCK if size is None else min(BLOCK, max(size - position, 0) + 1)
        block = source.read_at(position, length)
        if b"\n" not in block:
            # A long line is put together once, and one that nobody would hold is only measured.
            held += len(block)
            if held <= MAX_LINE:
                parts.append(block)
            else:
                parts = []
            if len(block) < length:
                break
            continue
        if held > MAX_LINE:
            end = block.index(b"\n") + 1
            pass_line(digest, held + end)
            tail, held = b"", 0
            data = block[end:]
        else:
            data = b"".join([*parts, block]) if parts else block
        parts = []
        taken = digest_lines(digest, data, said)
        tail = data[taken - TAIL : taken] if taken >= TAIL else (tail + data[:taken])[-TAIL:]
        if taken < len(data):
            parts = [data[taken:]]
        held = len(data) - taken
        if len(block) < length:
            break
        if sum(len(entry.text) for entry in said) >= PIECE:
            yield said, tail_of(tail), digest.offset - begin, False
            said, begin = [], digest.offset
    yield said, tail_of(tail), digest.offset - begin, True


# -- writing

_INSERT = """
INSERT INTO files (thread, path, device, inode, size, mtime_ns, packed, offset, tail_length, tail_sum, version, digest)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
RETURNING id
"""
_UPDATE = """
UPDATE files SET
    device = ?3, inode = ?4, size = ?5, mtime_ns = ?6, packed = ?7, offset = ?8, tail_length = ?9, tail_sum = ?10,
    version = ?11, digest = ?12
WHERE thread = ?1 AND path = ?2
RETURNING id
"""


def _store(connection: apsw.Connection, batch: _Batch, report: Report, stored: Stored | None) -> None:
    digested: list[Digested] = []
    documents: list[Document] = []
    run(connection, "BEGIN IMMEDIATE")
    try:
        for piece in batch:
            if isinstance(piece, _Failed):
                continue
            before = _before(connection, piece)
            if before is None:
                continue
            file = _put(connection, piece, before)
            _add_documents(documents, file, piece)
            digest = piece.digest if piece.done else unpack_digest(piece.packed)
            digested.append(Digested(id=file, work=piece.work, digest=digest, anew=piece.anew, done=piece.done))
        add_documents(connection, documents)
        if stored is not None and digested:
            stored(connection, digested)
    except BaseException:
        run(connection, "ROLLBACK")
        raise
    run(connection, "COMMIT")
    for piece in batch:
        if isinstance(piece, _Failed):
            report.files += 1
            report.failed.append((piece.path, piece.why))
        else:
            report.files += piece.done
            report.changed += piece.first and (piece.taken > 0 or piece.anew)
            report.bytes += piece.taken


def _before(connection: apsw.Connection, piece: _Piece) -> bool | None:
    """Whether there is a row of the file; None when it is not the one that the piece continues: another process was
    quicker, and what it took is right."""
    found = row(
        connection,
        "SELECT offset, device, inode, version FROM files WHERE thread = ? AND path = ?",
        (piece.work.file.thread_id, piece.work.path),
    )
    known = piece.work.known
    if piece.begin > 0 and not piece.first:
        fits = found is not None and found[0] == piece.begin and found[3] == DIGEST_VERSION
    elif known is None:
        fits = found is None
    else:
        fits = found is not None and found[:3] == (known.offset, known.device, known.inode)
    return (found is not None) if fits else None


def _put(connection: apsw.Connection, piece: _Piece, existing: bool) -> int:
    place = piece.work.file.thread_id, piece.work.path
    if existing and piece.anew:
        for (file,) in rows(connection, "SELECT id FROM files WHERE thread = ? AND path = ?", place):
            remove_documents(connection, file)
    device, inode = piece.identity
    stored = row(
        connection,
        _UPDATE if existing else _INSERT,
        (
            *place,
            device,
            inode,
            piece.size if piece.done else -1,
            piece.mtime_ns,
            piece.work.file.compressed,
            piece.offset,
            *piece.tail,
            DIGEST_VERSION,
            piece.packed,
        ),
    )
    assert stored is not None
    return int(stored[0])


def _add_documents(documents: list[Document], file: int, piece: _Piece) -> None:
    order, place = piece.time, len(documents)
    for said in piece.said:
        place += 1
        if said.at is not None:
            order = said.at
        documents.append((order, file, said.offset, place, said))
