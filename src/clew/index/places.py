"""What a document says, read again from where it stands."""

from __future__ import annotations

from clew.history.digest import Digest, digest_lines
from clew.history.said import Said
from clew.rollout.scan import MAX_LINE
from clew.rollout.source import ByteSource

__all__ = ["said_at"]

BLOCK = 1 << 14


def said_at(source: ByteSource, offset: int) -> list[Said]:
    """The texts of the line that begins at a byte of the unpacked file; none where nothing can be read there. Of a
    compressed file only the frames of that line are unpacked, where it has frames. Raises `OSError`."""
    parts: list[bytes] = []
    length = 0
    while length <= MAX_LINE:
        # Most lines are short, and the few long ones are read in steps that grow with them.
        block = source.read_at(offset + length, max(BLOCK, length))
        newline = block.find(b"\n")
        parts.append(block if newline < 0 else block[: newline + 1])
        length += len(block)
        if newline >= 0 or not block:
            break
    said: list[Said] = []
    digest_lines(Digest(offset=offset), b"".join(parts), said)
    return said
