"""Reading: what is new in files, made into pieces that the index stores.

Nothing here touches the index, so that it can be done beside it: in another thread, or in other processes.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

import msgspec

from clew.history.digest import Digest, digest_lines, milliseconds, pass_line
from clew.history.said import Said
from clew.history.told import Told, told_by
from clew.index.files import TAIL, KnownFile, Packer, tail_of
from clew.index.texts import Text, texts_of
from clew.rollout.filesystem import FileSystem
from clew.rollout.layout import RolloutFile
from clew.rollout.scan import MAX_LINE
from clew.rollout.source import ByteSource, open_source

__all__ = ["Batch", "Digester", "Failed", "LocalDigester", "Piece", "Work"]

BLOCK = 1 << 20
PIECE = 4 << 20
"""Characters said in one piece of a large file."""
BATCH_TEXT = 4 << 20
"""Characters said in the pieces that are handed on together, about."""


class Work(msgspec.Struct, frozen=True, array_like=True):
    """A file to look at: where it is, its path within the home (without `.zst`), and what is known of it."""

    file: RolloutFile
    path: str
    known: KnownFile | None = None


class Piece(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """What was taken of a file in one go: `taken` bytes behind the place `begin`.

    `work` is the place of the file in what was asked for. `packed` is the digest as it is stored, up to `offset`;
    `tail`: length and checksum of what stands before it. `anew`: nothing of what was known before holds; `first`: the
    first piece of the file in this run; `done`: there is no more of it now, and then `told` is what it tells of its
    thread.
    """

    work: int
    identity: tuple[int, int]
    size: int
    mtime_ns: int
    packed: bytes
    told: Told | None
    texts: list[Text]
    begin: int
    offset: int
    tail: tuple[int, int]
    anew: bool
    first: bool
    done: bool

    @property
    def taken(self) -> int:
        return self.offset - self.begin


class Failed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A file that could not be read, by its place in what was asked for, and why."""

    work: int
    why: str


class Batch(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Some pieces, in the order of the files that were asked for."""

    pieces: list[Piece]
    failed: list[Failed]


class Digester(Protocol):
    """Makes files into pieces, for one thread at a time."""

    def batches(self, part: Sequence[Work]) -> Iterator[Batch]: ...

    def close(self) -> None: ...


class LocalDigester:
    """Digests in the calling thread."""

    def __init__(self, fs: FileSystem) -> None:
        self._fs = fs
        self._packer = Packer()

    def batches(self, part: Sequence[Work], *, without: Collection[int] = ()) -> Iterator[Batch]:
        """What is new in these files, but for those at the places `without`. Files that cannot be read are told."""
        batch, weight = Batch([], []), 0
        for place, work in enumerate(part):
            if place in without:
                continue
            try:
                for piece in self._pieces(place, work):
                    batch.pieces.append(piece)
                    weight += sum(len(entry.text) for entry in piece.texts)
                    if weight >= BATCH_TEXT:
                        yield batch
                        batch, weight = Batch([], []), 0
            except OSError as error:
                batch.failed.append(Failed(place, error.strerror or str(error)))
        if batch.pieces or batch.failed:
            yield batch

    def close(self) -> None:
        """Nothing is held."""

    def _pieces(self, place: int, work: Work) -> Iterator[Piece]:
        status = self._fs.stat(work.file.path)
        with contextlib.closing(open_source(self._fs, work.file)) as source:
            digest = _resumed(source, work, status.identity)
            anew = digest is None and work.known is not None
            if digest is None:
                digest = Digest(thread_id=work.file.thread_id)
            first, begin = True, digest.offset
            for said, tail, done in _read(source, digest, None if work.file.compressed else status.size):
                when = digest.recency or _created(digest) or status.mtime_ns // 1_000_000
                yield Piece(
                    work=place,
                    identity=status.identity,
                    size=status.size,
                    mtime_ns=status.mtime_ns,
                    packed=self._packer.pack(digest),
                    told=told_by(digest) if done else None,
                    texts=texts_of(said, when),
                    begin=begin,
                    offset=digest.offset,
                    # Where nothing came to it, the end is the one that was known.
                    tail=tail if tail[0] or anew or work.known is None else work.known.tail,
                    anew=anew and first,
                    first=first,
                    done=done,
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
    return digest if (len(tail), zlib.crc32(tail)) == known.tail else None


def _created(digest: Digest) -> int | None:
    return milliseconds(digest.meta.created_at) if digest.meta is not None else None


def _read(source: ByteSource, digest: Digest, size: int | None) -> Iterator[tuple[list[Said], tuple[int, int], bool]]:
    """Extend the digest to the end of the file; now and then, and at the end, gives what was said, the tail of what was
    taken, and whether it is all. `size`: how long the file is, about."""
    said: list[Said] = []
    tail = b""
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
            yield said, tail_of(tail), False
            said = []
    yield said, tail_of(tail), True
