"""Where the turns of large logs are, as bytes that nobody looks into here."""

from __future__ import annotations

import zlib

import zstandard

from clew.index.database import Sql
from clew.index.rows import key_of

__all__ = ["forget_vanished", "put_turn_places", "turn_places"]


def turn_places(sql: Sql, thread_id: str) -> bytes | None:
    """What was put for a thread; None where there is nothing, or something else."""
    row = sql.one("SELECT version, data FROM offsets WHERE thread = ?", (key_of(thread_id),))
    if row is None:
        return None
    version, data = row
    if not isinstance(data, bytes) or version != _sum(data):
        return None
    try:
        return zstandard.ZstdDecompressor().decompress(data)
    except zstandard.ZstdError:
        return None


def put_turn_places(sql: Sql, thread_id: str, data: bytes) -> None:
    """Within a transaction."""
    packed = zstandard.ZstdCompressor(level=1).compress(data)
    sql.run("INSERT OR REPLACE INTO offsets VALUES (?, ?, ?)", (key_of(thread_id), _sum(packed), packed))


def forget_vanished(sql: Sql) -> None:
    """Remove what is kept for threads without files; within a transaction. They may have been put before the index knew
    any of their files."""
    sql.run("DELETE FROM offsets WHERE thread NOT IN (SELECT thread FROM entries)")


def _sum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")
