"""What the index has taken of each rollout file, and up to which byte."""

from __future__ import annotations

import zlib
from collections.abc import Collection
from typing import Any, cast

import apsw
import msgspec

from clew.history.digest import DIGEST_VERSION, Digest
from clew.history.metadata import ThreadMeta
from clew.index.packing import Packing
from clew.index.sql import Row, rows, run
from clew.rollout.layout import RolloutName

__all__ = [
    "TAIL",
    "KnownFile",
    "Packer",
    "file_states",
    "forget_file",
    "known_file",
    "known_files",
    "known_files_at",
    "move_file",
    "tail_of",
    "thread_of",
    "unpack_digest",
]

TAIL = 4096
_SELECT = """
SELECT id, path, thread, device, inode, size, mtime_ns, packed, offset, tail_length, tail_sum, version, digest
FROM files
"""
# Most of what a small digest takes would be the names of its members.
_MEMBERS = [
    (field.name, field.type, field.default) for field in msgspec.structs.fields(ThreadMeta) if field.name != "raw"
]
_StoredMeta = msgspec.defstruct("_StoredMeta", _MEMBERS, array_like=True)
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[tuple[Digest, Any]] = msgspec.msgpack.Decoder(tuple[Digest, _StoredMeta | None])


class KnownFile(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `files`. `stored` is the digest as it is stored; None where it was made by another version."""

    id: int
    path: str
    thread: str
    device: int
    inode: int
    size: int
    mtime_ns: int
    packed: bool
    offset: int
    tail_length: int
    tail_sum: int
    stored: bytes | None

    @property
    def tail(self) -> tuple[int, int]:
        return self.tail_length, self.tail_sum

    def digest(self) -> Digest | None:
        """None when it was made by another version, or is damaged."""
        try:
            return None if self.stored is None else unpack_digest(self.stored)
        except ValueError:
            return None

    def unchanged(self, *, size: int, mtime_ns: int, packed: bool) -> bool:
        """Whether a file that looks like this on disk holds nothing new."""
        return self.size == size and self.mtime_ns == mtime_ns and self.packed == packed and self.stored is not None


def tail_of(data: bytes) -> tuple[int, int]:
    """Length and checksum by which the end of what was taken is known again."""
    tail = data[-TAIL:]
    return len(tail), zlib.crc32(tail)


class Packer:
    """Makes digests small. For one thread at a time.

    A preview is not kept in them: it is the longest part, and stands in the row of the thread already. That there is
    one is all that the next lines are read with.
    """

    def __init__(self) -> None:
        self._packing = Packing()

    def pack(self, digest: Digest) -> bytes:
        """As it is stored."""
        if digest.said_preview is not None:
            digest = msgspec.structs.replace(digest, said_preview="", goal=None, inferred=None)
        meta = digest.meta
        if meta is None:
            data = _encoder.encode((digest, None))
        else:
            stored = _StoredMeta(*(getattr(meta, name) for name, _, _ in _MEMBERS))
            data = _encoder.encode((msgspec.structs.replace(digest, meta=None), stored))
        return self._packing.pack(data)


def unpack_digest(stored: bytes) -> Digest:
    """Raises `ValueError` for what is none."""
    digest, meta = _decoder.decode(Packing().unpack(stored))
    if meta is not None:
        digest.meta = ThreadMeta(**msgspec.structs.asdict(meta))
    return digest


def known_file(connection: apsw.Connection, path: str) -> KnownFile | None:
    for row in rows(connection, _SELECT + "WHERE thread = ? AND path = ?", (thread_of(path), path)):
        return _known(row)
    return None


def known_files_at(connection: apsw.Connection, paths: Collection[str]) -> dict[str, KnownFile]:
    """Those at these paths, by path."""
    threads = tuple({thread for path in paths if (thread := thread_of(path)) is not None})
    if not threads:
        return {}
    found = rows(
        connection,
        _SELECT + "WHERE thread IN (SELECT value FROM carray(?))",
        (cast("Any", apsw).carray(threads),),
    )
    return {known.path: known for known in map(_known, found) if known.path in paths}


def thread_of(path: str) -> str | None:
    """The thread of a file, as its name tells it; None where it tells none."""
    name = RolloutName.parse(path.rpartition("/")[2])
    return None if name is None else name.thread_id


def known_files(connection: apsw.Connection) -> dict[str, KnownFile]:
    """All of them, by path: some 1 KB each."""
    return {known.path: known for known in map(_known, rows(connection, _SELECT))}


def file_states(connection: apsw.Connection) -> dict[str, tuple[int, int, bool]]:
    """Of all files that were taken whole: size, time of the last write (nanoseconds) and whether it was packed, as they
    lay there then. A file on disk that looks otherwise, or is not here, has something that the index does not know."""
    return {
        path: (size, mtime_ns, bool(packed))
        for path, size, mtime_ns, packed in rows(
            connection,
            "SELECT path, size, mtime_ns, packed FROM files WHERE version = ? AND size >= 0",
            (DIGEST_VERSION,),
        )
    }


def move_file(connection: apsw.Connection, known: KnownFile, path: str) -> None:
    """The same file has another name now; what is known of it stays."""
    run(connection, "UPDATE files SET path = ? WHERE id = ?", (path, known.id))


def forget_file(connection: apsw.Connection, file: int) -> None:
    """Take a file out of the table; its documents are removed by `words.remove_documents` before."""
    run(connection, "DELETE FROM files WHERE id = ?", (file,))


def _known(row: Row) -> KnownFile:
    place, path, thread, device, inode, size, mtime_ns, packed, offset, length, checksum, version, digest = row
    return KnownFile(
        id=place,
        path=path,
        thread=thread,
        device=device,
        inode=inode,
        size=size,
        mtime_ns=mtime_ns,
        packed=bool(packed),
        offset=offset,
        tail_length=length,
        tail_sum=checksum,
        stored=digest if version == DIGEST_VERSION else None,
    )
