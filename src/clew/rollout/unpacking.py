"""All the text of a rollout in order, once, as quickly as it can be had."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import zstandard

from clew.rollout.filesystem import FileSystem
from clew.rollout.frames import UNPACKED_FLOOR, UNPACKED_RATIO
from clew.rollout.layout import RolloutFile
from clew.rollout.source import open_source

__all__ = ["text_blocks"]

_BLOCK = 1 << 20
_WHOLE = 8 << 20
"""Bytes of the largest compressed file that is read at once."""


def text_blocks(fs: FileSystem, file: RolloutFile) -> Generator[bytes]:
    """The bytes of a rollout, unpacked, in blocks. What cannot be read is zeros and a newline, so that the places of
    what stands behind it are right. Raises `OSError` when the file cannot be opened."""
    position = 0
    if file.compressed and file.size <= _WHOLE:
        try:
            for block in _quickly(fs, file):
                position += len(block)
                yield block
        except (FileNotFoundError, zstandard.ZstdError):
            pass  # it was unpacked or moved meanwhile, or is damaged: the careful way tells what there is behind
        else:
            return
    with contextlib.closing(open_source(fs, file)) as source:
        while True:
            try:
                data = source.read_at(position, _BLOCK)
            except OSError:
                if position + _BLOCK >= source.size():
                    return
                data = b"\0" * (_BLOCK - 1) + b"\n"
            if not data:
                return
            position += len(data)
            yield data


def _quickly(fs: FileSystem, file: RolloutFile) -> Generator[bytes]:
    with contextlib.closing(fs.open_read(file.path)) as opened:
        packed = opened.read_at(0, opened.size())
    limit = max(UNPACKED_FLOOR, UNPACKED_RATIO * len(packed))
    reader = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(packed, read_across_frames=True)
    while limit > 0 and (block := reader.read(_BLOCK)):
        limit -= len(block)
        yield block
