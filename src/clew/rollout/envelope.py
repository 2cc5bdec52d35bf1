"""The line envelope: one JSON object per line, its payload kept raw until someone needs it.

    {"timestamp":"2026-07-01T12:00:00.123Z","ordinal":7,"type":"event_msg","payload":{…}}

`ordinal` stands only in paginated files; `metadata` is an optional sibling of `payload`.
"""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Line", "Record", "Skipped", "decode_line", "encode_line"]


class Line(msgspec.Struct, frozen=True):
    """A line to be written: `payload` is any JSON value (or raw JSON); time and ordinal come from the writer."""

    type: str
    payload: Any
    metadata: Any = None


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A line that was read. `payload` and `metadata` are raw JSON, exactly as on disk.

    `start` and `end` are byte offsets in the (unpacked) file, `end` behind the newline. `number` is the 1-based line
    number when reading forward, 0 when reading backward.
    """

    type: str
    payload: msgspec.Raw
    timestamp: str | None = None
    ordinal: int | None = None
    metadata: msgspec.Raw | None = None
    number: int = 0
    start: int = 0
    end: int = 0


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """A line that could not be read, and why. Same positions as `Record`."""

    why: str
    number: int = 0
    start: int = 0
    end: int = 0


class _Envelope(msgspec.Struct):
    type: str
    payload: msgspec.Raw
    timestamp: str | None = None
    ordinal: int | None = None
    metadata: msgspec.Raw | None = None


_decoder = msgspec.json.Decoder(_Envelope)
_encoder = msgspec.json.Encoder()


def decode_line(data: bytes | memoryview, *, number: int = 0, start: int = 0, end: int = 0) -> Record | Skipped:
    """One line without its newline. Never raises: what is no envelope comes back as `Skipped` with the reason."""
    try:
        line = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Skipped(why=str(error), number=number, start=start, end=end)
    # The raw parts point into `data`; copies let the block it came from go.
    return Record(
        type=line.type,
        payload=msgspec.Raw(bytes(line.payload)),
        timestamp=line.timestamp,
        ordinal=line.ordinal,
        metadata=msgspec.Raw(bytes(line.metadata)) if line.metadata is not None else None,
        number=number,
        start=start,
        end=end,
    )


def encode_line(line: Line, *, timestamp: str, ordinal: int | None) -> bytes:
    """The bytes of one line with its newline, keys in the order of the original."""
    out: dict[str, Any] = {"timestamp": timestamp}
    if ordinal is not None:
        out["ordinal"] = ordinal
    out["type"] = line.type
    out["payload"] = line.payload
    if line.metadata is not None:
        out["metadata"] = line.metadata
    return _encoder.encode(out) + b"\n"
