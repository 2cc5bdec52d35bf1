"""Compressed rollouts: zstd frames read as a byte source, and turned back into a plain file before an append.

The block structure is walked without decoding, so that a cut file is known as such, what came before the cut is still
read, and no frame makes the reader hold more than a block.
"""

from __future__ import annotations

import contextlib
import errno
import io
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import IO, cast

import zstandard

from clew.errors import LogDamaged
from clew.rollout.failpoints import FailPoints
from clew.rollout.filesystem import File, FileSystem
from clew.rollout.layout import RolloutFile

__all__ = ["Frame", "FrameSource", "materialise", "walk_frames"]

BLOCK = 1 << 20
SPOOL_IN_MEMORY = 32 << 20
# What a file may unpack to, so that a crafted one cannot fill the disk: far above what text ever compresses to.
UNPACKED_FLOOR = 1 << 30
UNPACKED_RATIO = 2000

_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = range(0x184D2A50, 0x184D2A60)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame in the compressed file: where it starts, its bytes, and why it is not whole (None: it is)."""

    offset: int
    length: int
    damage: str | None = None


def walk_frames(file: File) -> Iterator[Frame]:
    """The data frames of a file in order, from their headers alone. The last one may carry damage."""
    size = file.size()
    at = 0
    while at < size:
        head = file.read_at(at, 18)
        if head[:4] != _MAGIC:
            number = int.from_bytes(head[:4], "little")
            if number in _SKIPPABLE and len(head) >= 8:
                at += 8 + int.from_bytes(head[4:8], "little")
                continue
            yield Frame(at, size - at, "damaged zstd file: no frame begins where one should")
            return
        end = _frame_end(file, at, head, size)
        if end is None:
            yield Frame(at, size - at, "damaged zstd file: the frame is incomplete")
            return
        yield Frame(at, end - at)
        at = end


def _frame_end(file: File, at: int, head: bytes, size: int) -> int | None:
    if len(head) < 5:
        return None
    descriptor = head[4]
    single = descriptor >> 5 & 1
    content = (single, 2, 4, 8)[descriptor >> 6]
    position = at + 5 + (0 if single else 1) + (0, 1, 2, 4)[descriptor & 3] + content
    while True:
        header = file.read_at(position, 3)
        if len(header) < 3:
            return None
        value = int.from_bytes(header, "little")
        # A run-length block stores one byte, however long it is.
        position += 3 + (1 if value >> 1 & 3 == 1 else value >> 3)
        if position > size:
            return None
        if value & 1:
            position += 4 if descriptor & 4 else 0
            return position if position <= size else None


class _Window(io.RawIOBase):
    """The bytes of one frame as the decoder wants to read them."""

    def __init__(self, file: File, frame: Frame) -> None:
        super().__init__()
        self._file = file
        self._at = frame.offset
        self._end = frame.offset + frame.length

    def read(self, size: int = -1) -> bytes:
        length = self._end - self._at if size < 0 else min(size, self._end - self._at)
        data = self._file.read_at(self._at, length)
        self._at += len(data)
        return data


class FrameSource:
    """A compressed file. Reading forward decodes as it goes; the size, or a step back beyond the last block, unpacks it
    into a temporary file that has no name."""

    def __init__(self, file: File) -> None:
        self._file = file
        self._limit = max(UNPACKED_FLOOR, UNPACKED_RATIO * file.size())
        self._blocks = self._decode()
        self._start = 0
        self._block = b""
        self._spool: IO[bytes] | None = None
        self._spooled = 0
        self.damage: str | None = None

    def size(self) -> int:
        self._unpack()
        return self._spooled

    def read_at(self, offset: int, length: int) -> bytes:
        if self._spool is None and offset >= self._start:
            return self._read_forward(offset, length)
        spool = self._unpack()
        spool.seek(offset)
        return spool.read(length)

    def close(self) -> None:
        self._blocks.close()
        if self._spool is not None:
            self._spool.close()
        self._file.close()

    def _read_forward(self, offset: int, length: int) -> bytes:
        parts: list[bytes] = []
        while length > 0:
            place = offset - self._start
            if place < len(self._block):
                part = self._block[place : place + length]
                parts.append(part)
                offset += len(part)
                length -= len(part)
                continue
            following = next(self._blocks, None)
            if following is None:
                break
            self._start += len(self._block)
            self._block = following
        return b"".join(parts)

    def _unpack(self) -> IO[bytes]:
        if self._spool is None:
            # Holds conversations: no name, and gone with the process.
            spool: IO[bytes] = tempfile.SpooledTemporaryFile(SPOOL_IN_MEMORY)  # noqa: SIM115 - closed with the source
            self._blocks.close()
            for block in self._decode():
                spool.write(block)
                self._spooled += len(block)
            self._spool = spool
        return self._spool

    def _decode(self) -> Generator[bytes]:
        total = 0
        frames = 0
        for frame in walk_frames(self._file):
            frames += 1
            decoder = zstandard.ZstdDecompressor(max_window_size=1 << 27)
            reader = decoder.stream_reader(cast("IO[bytes]", _Window(self._file, frame)), closefd=False)
            try:
                while block := reader.read(BLOCK):
                    total += len(block)
                    if total > self._limit:
                        self.damage = f"damaged zstd file: it unpacks to more than {self._limit} bytes"
                        return
                    yield block
            except zstandard.ZstdError as error:
                self.damage = frame.damage or f"damaged zstd file: {error}"
                return
            if frame.damage:
                self.damage = frame.damage
                return
        if not frames and self._file.size() == 0:
            self.damage = "damaged zstd file: it is empty"


def materialise(fs: FileSystem, file: RolloutFile, *, fail: FailPoints | None = None, process: int) -> RolloutFile:
    """The plain form of a compressed rollout, ready to be appended to; the compressed file is gone afterwards.

    A crash at any step leaves at least one whole representation. `process` (a process id) goes into the temporary name.
    Raises `LogDamaged` when the compressed file cannot be unpacked to its end: nothing is changed then.
    """
    fail = fail or FailPoints()
    plain = file.plain_path
    if not file.compressed:
        return file
    if not _exists(fs, file):
        _unpack_beside(fs, file, fail, process)
    fail.hit("before_unlink")
    with contextlib.suppress(FileNotFoundError):
        fs.unlink(file.path)
    fs.sync_folder(plain.parent)
    status = fs.stat(plain)
    return file.as_plain(size=status.size, mtime_ns=status.mtime_ns)


def _exists(fs: FileSystem, file: RolloutFile) -> bool:
    try:
        fs.stat(file.plain_path)
    except FileNotFoundError:
        return False
    return True


def _unpack_beside(fs: FileSystem, file: RolloutFile, fail: FailPoints, process: int) -> None:
    plain = file.plain_path
    source = FrameSource(fs.open_read(file.path))
    temporary = plain
    try:
        target: File | None = None
        for attempt in range(1000):
            temporary = plain.with_name(f"{plain.name}.decompress.{process}.{attempt}.tmp")
            with contextlib.suppress(FileExistsError):
                target = fs.open_append(temporary, exclusive=True)
                break
        if target is None:
            raise FileExistsError(errno.EEXIST, "too many temporary files of this name", str(temporary))
        try:
            fail.hit("after_create")
            offset = 0
            while block := source.read_at(offset, BLOCK):
                target.write(block)
                offset += len(block)
            if source.damage:
                raise LogDamaged(file.path, 0, source.damage, thread_id=file.name.thread_id)
            fail.hit("before_sync")
            target.sync()
            fail.hit("after_sync")
        finally:
            target.close()
        status = fs.stat(file.path)
        fs.set_mode(temporary, status.mode)
        fs.set_mtime(temporary, status.mtime_ns)
        fail.hit("before_link")
        # Another process may have been faster: its file is as good as ours.
        with contextlib.suppress(FileExistsError):
            fs.rename(temporary, plain)
        fail.hit("after_rename")
        fail.hit("before_folder_sync")
        fs.sync_folder(plain.parent)
        fail.hit("after_folder_sync")
    finally:
        source.close()
        if temporary != plain:
            with contextlib.suppress(FileNotFoundError):
                fs.unlink(temporary)
