"""Writing compressed rollouts: zstd frames that end with lines, and a seek table, so that a reader decodes only what it
looks at. Every zstd reader opens the result.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import zstandard

from clew.errors import BadRequest
from clew.rollout.framing import MOST_FRAMES, encode_table
from clew.rollout.source import ByteSource, MemorySource

__all__ = ["FRAME", "LEVEL", "LEVELS", "Packed", "Sink", "pack", "pack_bytes"]

FRAME = 1 << 20
"""Bytes of text in a frame, at most, unless one line alone is longer."""
LEVEL = 3
LEVELS = range(1, 20)
"""Above these, readers need more memory than some are willing to take."""

_LONGEST = 1 << 30
"""Bytes of text in the longest frame: what the seekable format allows, and more than the longest line that is read."""
_BLOCK = 1 << 20
_CHECKSUM = 4


class Sink(Protocol):
    """Where packed bytes go; an open `File` is one."""

    def write(self, data: bytes, /) -> object: ...


@dataclass(frozen=True, slots=True)
class Packed:
    """What came of it: frames, and bytes before and after."""

    frames: int
    unpacked: int
    packed: int


def pack(
    source: ByteSource,
    sink: Sink,
    *,
    level: int = LEVEL,
    frame: int = FRAME,
    paced: Callable[[int], None] | None = None,
) -> Packed:
    """Compress all of a source. Holds a frame in memory, of longer lines a block.

    `paced` is called with the bytes of text of each frame (or block) before they are read on; it may wait, and may
    raise to stop. Raises `BadRequest` for a level outside `LEVELS`.
    """
    if level not in LEVELS:
        raise BadRequest("level", f"give a number from {LEVELS[0]} to {LEVELS[-1]}")
    compressor = zstandard.ZstdCompressor(level=level, write_checksum=True, write_content_size=True)
    pace = paced or _at_once
    frames: list[tuple[int, int, bytes]] = []
    unpacked = 0
    size = source.size()
    # Of what would need more frames than readers believe in, the frames become longer.
    frame = max(frame, size // (MOST_FRAMES // 2))
    for data, length in _cuts(source, frame):
        if data is not None:
            pace(length)
            packed = compressor.compress(data)
            sink.write(packed)
            frames.append((len(packed), length, packed[-_CHECKSUM:]))
        else:
            frames.append(_pack_long(compressor, source, unpacked, length, sink, pace))
        unpacked += length
    if not frames:
        packed = compressor.compress(b"")
        sink.write(packed)
        frames.append((len(packed), 0, packed[-_CHECKSUM:]))
    table = encode_table(frames)
    sink.write(table)
    return Packed(len(frames), unpacked, sum(length for length, _, _ in frames) + len(table))


def pack_bytes(data: bytes, *, level: int = LEVEL, frame: int = FRAME) -> bytes:
    """The packed form of bytes that are in memory already."""
    out = _Collected()
    pack(MemorySource(data), out, level=level, frame=frame)
    return b"".join(out.parts)


class _Collected:
    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.parts.append(data)


def _cuts(source: ByteSource, frame: int) -> Iterator[tuple[bytes | None, int]]:
    """The text cut behind lines, as (text, its length); the text is None for a line that is longer than a frame."""
    at = 0
    while data := source.read_at(at, frame):
        if len(data) < frame:
            yield data, len(data)
            at += len(data)
            continue
        if end := data.rfind(b"\n") + 1:
            yield data[:end], end
            at += end
            continue
        length = _line_length(source, at, frame)
        yield None, length
        at += length


def _line_length(source: ByteSource, start: int, known: int) -> int:
    """The length of the line that begins at `start` and does not end within the first `known` bytes."""
    at = start + known
    while at - start < _LONGEST and (data := source.read_at(at, min(_BLOCK, _LONGEST - (at - start)))):
        if end := data.find(b"\n") + 1:
            return at + end - start
        at += len(data)
    return at - start


def _pack_long(
    compressor: zstandard.ZstdCompressor,
    source: ByteSource,
    start: int,
    length: int,
    sink: Sink,
    pace: Callable[[int], None],
) -> tuple[int, int, bytes]:
    stream = compressor.compressobj(size=length)
    written = 0
    tail = b""
    at, end = start, start + length
    while at < end:
        data = source.read_at(at, min(_BLOCK, end - at))
        if not data:
            raise OSError(errno.EIO, "the file became shorter while it was read")
        pace(len(data))
        at += len(data)
        packed = stream.compress(data) + (stream.flush() if at == end else b"")
        if packed:
            sink.write(packed)
            written += len(packed)
            tail = (tail + packed)[-_CHECKSUM:]
    return written, length, tail


def _at_once(_: int) -> None:
    pass
