"""Compressed rollouts: zstd frames read as a byte source, and turned back into a plain file before an append.

Files with a seek table are read at any place. Of others the block structure is walked without decoding, so that a cut
file is known as such, what came before the cut is still read, and no frame makes the reader hold more than a block.
"""

from __future__ import annotations

import contextlib
import errno
import io
import tempfile
from collections import OrderedDict
from collections.abc import Generator
from pathlib import Path
from typing import IO, cast

import zstandard

from clew.errors import LogDamaged
from clew.rollout.failpoints import FailPoints
from clew.rollout.filesystem import File, FileSystem
from clew.rollout.framing import HEADER, Frame, Piece, SeekTable, frame_end, read_table, walk_frames
from clew.rollout.layout import RolloutFile

__all__ = ["FrameSource", "materialise"]

BLOCK = 1 << 20
SPOOL_IN_MEMORY = 32 << 20
# What a file may unpack to, so that a crafted one cannot fill the disk: far above what text ever compresses to.
UNPACKED_FLOOR = 1 << 30
UNPACKED_RATIO = 2000
WHOLE = 4 << 20
"""Bytes of text of the largest frame that is held in memory."""
HELD = 8 << 20
"""Bytes of decoded frames that are kept for the next read."""


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


class _DamagedFrameError(OSError):
    """The text of one frame cannot be had; that of the others can."""


class _TableRefutedError(Exception):
    """The file is not what its seek table says."""


class FrameSource:
    """A compressed file.

    With a seek table that is true, only the frames that are looked at are decoded; a damaged one raises `OSError` and
    costs its own text. Without: reading forward decodes as it goes; the size, or a step back beyond the last block,
    unpacks the file into a temporary one that has no name. `seekable` False passes over the table.
    """

    def __init__(self, file: File, *, seekable: bool = True) -> None:
        self._file = file
        self._limit = max(UNPACKED_FLOOR, UNPACKED_RATIO * file.size())
        self._blocks = self._decode()
        self._start = 0
        self._block = b""
        self._spool: IO[bytes] | None = None
        self._spooled = 0
        self._table = self._true_table() if seekable else None
        self._decoded: OrderedDict[int, bytes] = OrderedDict()
        self._large: tuple[int, IO[bytes]] | None = None
        self.damage: str | None = None

    @property
    def seekable(self) -> bool:
        """Whether any place can be read without what stands before it."""
        return self._table is not None

    def size(self) -> int:
        if self._table is not None:
            return self._table.size
        self._unpack()
        return self._spooled

    def read_at(self, offset: int, length: int) -> bytes:
        if self._table is not None:
            try:
                return self._gather(self._table, offset, length)
            except _TableRefutedError:
                self._table = None
        if self._spool is None and offset >= self._start:
            return self._read_forward(offset, length)
        spool = self._unpack()
        spool.seek(offset)
        return spool.read(length)

    def _true_table(self) -> SeekTable | None:
        try:
            table = read_table(self._file)
        except OSError:
            return None
        return table if table is not None and table.size <= self._limit else None

    def _gather(self, table: SeekTable, offset: int, length: int) -> bytes:
        end = min(offset + length, table.size)
        parts: list[bytes] = []
        index = table.at(offset) if offset < end else 0
        while offset < end:
            piece = table.pieces[index]
            part = self._within(index, piece, offset - piece.start, end - offset)
            parts.append(part)
            offset += len(part)
            index += 1
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _within(self, index: int, piece: Piece, place: int, length: int) -> bytes:
        if piece.size > WHOLE:
            spool = self._unpack_large(index, piece)
            spool.seek(place)
            return spool.read(min(length, piece.size - place))
        text = self._decoded.get(index)
        if text is None:
            text = self._decode_piece(piece)
            self._decoded[index] = text
            held = sum(map(len, self._decoded.values()))
            while held > HELD and len(self._decoded) > 1:
                held -= len(self._decoded.popitem(last=False)[1])
        else:
            self._decoded.move_to_end(index)
        return text[place : place + length]

    def _decode_piece(self, piece: Piece) -> bytes:
        packed = self._file.read_at(piece.offset, piece.length)
        try:
            text = _decompressor().decompress(packed, read_across_frames=False, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise self._not_decoded(piece, error) from error
        if len(text) != piece.size:
            raise _TableRefutedError
        return text

    def _unpack_large(self, index: int, piece: Piece) -> IO[bytes]:
        """A frame that is too large to be held: into a temporary file, the last one of its kind."""
        if self._large is not None:
            if self._large[0] == index:
                return self._large[1]
            self._large[1].close()
            self._large = None
        spool = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the source
        try:
            window = _Window(self._file, Frame(piece.offset, piece.length))
            reader = _decompressor().stream_reader(cast("IO[bytes]", window), closefd=False)
            while block := reader.read(BLOCK):
                spool.write(block)
            if spool.tell() != piece.size:
                raise _TableRefutedError
        except zstandard.ZstdError as error:
            spool.close()
            raise self._not_decoded(piece, error) from error
        except BaseException:
            spool.close()
            raise
        self._large = (index, spool)
        return spool

    def _not_decoded(self, piece: Piece, error: zstandard.ZstdError) -> Exception:
        """Whose fault it is: the frame's, when its blocks end where the table says, else the table's."""
        head = self._file.read_at(piece.offset, HEADER)
        end = piece.offset + piece.length
        if frame_end(self._file, piece.offset, head, end) != end:
            return _TableRefutedError()
        return _DamagedFrameError(errno.EIO, f"damaged zstd frame at byte {piece.offset}: {error}")

    def close(self) -> None:
        self._blocks.close()
        if self._spool is not None:
            self._spool.close()
        if self._large is not None:
            self._large[1].close()
        self._decoded.clear()
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
            try:
                for block in self._decode():
                    spool.write(block)
                    self._spooled += len(block)
            except BaseException:
                spool.close()
                self._spooled = 0
                raise
            self._spool = spool
        return self._spool

    def _decode(self) -> Generator[bytes]:
        total = 0
        frames = 0
        for frame in walk_frames(self._file):
            frames += 1
            reader = _decompressor().stream_reader(cast("IO[bytes]", _Window(self._file, frame)), closefd=False)
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


def _decompressor() -> zstandard.ZstdDecompressor:
    return zstandard.ZstdDecompressor(max_window_size=1 << 27)


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
    else:
        # Whoever put it there may have died before it was durable, and the other form is about to go.
        _make_durable(fs, plain)
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


def _make_durable(fs: FileSystem, path: Path) -> None:
    with contextlib.closing(fs.open_append(path, create=False)) as file:
        file.sync()
    fs.sync_folder(path.parent)


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
            try:
                while block := source.read_at(offset, BLOCK):
                    target.write(block)
                    offset += len(block)
            except _DamagedFrameError as error:
                why = error.strerror or str(error)
                raise LogDamaged(file.path, 0, why, thread_id=file.thread_id) from error
            if source.damage:
                raise LogDamaged(file.path, 0, source.damage, thread_id=file.thread_id)
            fail.hit("before_sync")
            target.sync()
            fail.hit("after_sync")
        finally:
            target.close()
        status = fs.stat(file.path)
        fs.set_mode(temporary, status.mode)
        fail.hit("before_link")
        # Another process may have been faster: its file is as good as ours.
        with contextlib.suppress(FileExistsError):
            fs.rename(temporary, plain)
            # Not before: whoever cleans up would take a temporary file with an old time for a forgotten one.
            fs.set_mtime(plain, status.mtime_ns)
        fail.hit("after_rename")
        fail.hit("before_folder_sync")
        fs.sync_folder(plain.parent)
        fail.hit("after_folder_sync")
    finally:
        source.close()
        if temporary != plain:
            with contextlib.suppress(FileNotFoundError):
                fs.unlink(temporary)
