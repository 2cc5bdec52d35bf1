"""The structure of compressed files, read without decoding: frames, their headers, and the seek table.

The seek table is that of the zstd seekable format: a skippable frame at the end of the file with the packed and
unpacked length of every frame, which other readers pass over.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from clew.rollout.filesystem import File

__all__ = ["Frame", "Piece", "SeekTable", "encode_table", "frame_end", "read_table", "walk_frames"]

HEADER = 18
"""Bytes of the longest frame header."""
MOST_FRAMES = 1 << 16
"""Frames of the longest table that is believed: 64 GiB of text in frames of 1 MiB."""

_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = range(0x184D2A50, 0x184D2A60)
_TABLE_MAGIC = 0x184D2A5E
_FOOTER_MAGIC = 0x8F92EAB1
_HEAD = struct.Struct("<II")
_FOOTER = struct.Struct("<IBI")
_ENTRY = struct.Struct("<II")
_ENTRY_SUMMED = struct.Struct("<II4s")
_SUMMED = 0x80
_RESERVED = 0x7C


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame in the compressed file: where it starts, its bytes, and why it is not whole (None: it is)."""

    offset: int
    length: int
    damage: str | None = None


class Piece(NamedTuple):
    """One frame as a seek table knows it: place and length in the compressed file, and of the text in it."""

    offset: int
    length: int
    start: int
    size: int


@dataclass(frozen=True)
class SeekTable:
    """All frames of a file in order. `size` is the length of the unpacked text in bytes."""

    pieces: tuple[Piece, ...]
    size: int

    def at(self, offset: int) -> int:
        """The index of the piece that holds an offset of the text (which must be below `size`)."""
        return bisect_right(self._starts, offset) - 1

    @cached_property
    def _starts(self) -> list[int]:
        return [piece.start for piece in self.pieces]


def walk_frames(file: File) -> Iterator[Frame]:
    """The data frames of a file in order, from their headers alone. The last one may carry damage."""
    size = file.size()
    at = 0
    while at < size:
        head = file.read_at(at, HEADER)
        if head[:4] != _MAGIC:
            number = int.from_bytes(head[:4], "little")
            if number in _SKIPPABLE and len(head) >= 8:
                at += 8 + int.from_bytes(head[4:8], "little")
                continue
            yield Frame(at, size - at, "damaged zstd file: no frame begins where one should")
            return
        end = frame_end(file, at, head, size)
        if end is None:
            yield Frame(at, size - at, "damaged zstd file: the frame is incomplete")
            return
        yield Frame(at, end - at)
        at = end


def frame_end(file: File, at: int, head: bytes, size: int) -> int | None:
    """Where the frame that begins at `at` with the bytes `head` ends, by the headers of its blocks; None: it goes on
    behind `size`."""
    if len(head) < 5:
        return None
    descriptor = head[4]
    position = at + _header_length(descriptor)
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


def encode_table(frames: Sequence[tuple[int, int, bytes]]) -> bytes:
    """The seek table of frames given as packed length, unpacked length and checksum (the last four bytes of a frame
    that ends with one)."""
    entries = b"".join(_ENTRY_SUMMED.pack(*frame) for frame in frames)
    footer = _FOOTER.pack(len(frames), _SUMMED, _FOOTER_MAGIC)
    return _HEAD.pack(_TABLE_MAGIC, len(entries) + len(footer)) + entries + footer


def read_table(file: File) -> SeekTable | None:
    """The seek table at the end of a file, None when there is none that is true.

    It counts only when it accounts for every byte of the file, and when at each place it names a frame begins whose own
    header (and whose checksum, where the table has them) says the same.
    """
    size = file.size()
    if size < _HEAD.size + _FOOTER.size:
        return None
    count, descriptor, magic = _FOOTER.unpack(file.read_at(size - _FOOTER.size, _FOOTER.size))
    if magic != _FOOTER_MAGIC or descriptor & _RESERVED or not 0 < count <= MOST_FRAMES:
        return None
    entry = _ENTRY_SUMMED if descriptor & _SUMMED else _ENTRY
    begin = size - _FOOTER.size - count * entry.size - _HEAD.size
    if begin < 0 or file.read_at(begin, _HEAD.size) != _HEAD.pack(_TABLE_MAGIC, size - begin - _HEAD.size):
        return None
    pieces: list[Piece] = []
    offset = start = 0
    checksum: bytes | None = None
    for length, unpacked, *summed in entry.iter_unpack(file.read_at(begin + _HEAD.size, count * entry.size)):
        behind = offset - min(offset, 4)
        data = file.read_at(behind, offset - behind + HEADER)
        before, head = data[: offset - behind], data[offset - behind :]
        if checksum not in (None, before) or _content_size(head) != unpacked:
            return None
        checksum = bytes(summed[0]) if summed else None
        if checksum is not None and not head[4] & 4:
            return None
        # More than incompressible text takes: such a length is made up.
        if not 0 < length <= begin - offset or length > unpacked + (unpacked >> 6) + 1024:
            return None
        pieces.append(Piece(offset, length, start, unpacked))
        offset, start = offset + length, start + unpacked
    if offset != begin or checksum not in (None, file.read_at(begin - 4, 4)):
        return None
    return SeekTable(tuple(pieces), start)


def _header_length(descriptor: int) -> int:
    single = descriptor >> 5 & 1
    content = (single, 2, 4, 8)[descriptor >> 6]
    return 5 + (0 if single else 1) + (0, 1, 2, 4)[descriptor & 3] + content


def _content_size(head: bytes) -> int | None:
    """The length of the text as a frame's header tells it; None when it does not, or needs a dictionary."""
    if len(head) < 5 or head[:4] != _MAGIC:
        return None
    descriptor = head[4]
    flag, single = descriptor >> 6, descriptor >> 5 & 1
    if descriptor & 3 or (flag == 0 and not single):
        return None
    end = _header_length(descriptor)
    length = (1, 2, 4, 8)[flag]
    if len(head) < end:
        return None
    value = int.from_bytes(head[end - length : end], "little")
    return value + 256 if flag == 1 else value
