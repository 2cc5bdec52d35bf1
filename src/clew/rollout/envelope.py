"""The line envelope: one JSON object per line, its payload kept raw until someone needs it.

    {"timestamp":"2026-07-01T12:00:00.123Z","ordinal":7,"type":"event_msg","payload":{…}}

`ordinal` stands only in paginated files; `metadata` is an optional sibling of `payload`. Lines of the bare format of
2025 come back in the same clothes: the metadata of line 1 as `session_meta`, items as `response_item`, state lines as
`state`.
"""

from __future__ import annotations

import json
import re
from typing import Any, cast

import msgspec

__all__ = [
    "Line",
    "Record",
    "Skipped",
    "decode_line",
    "encode_line",
    "encode_rest",
    "freeze_line",
    "payload_at",
    "payload_kind",
    "peek_ordinal",
    "peek_type",
]

STATE_LINE = "\0state"
"""The type given to bookkeeping lines of the bare format, one that no line has; readers of threads leave them out."""


class Line(msgspec.Struct, frozen=True):
    """A line to be written: `payload` is any JSON value (or raw JSON); time and ordinal come from the writer."""

    type: str
    payload: Any
    metadata: Any = None


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A line that was read. `payload` and `metadata` are raw JSON as on disk, and always valid (only half surrogate
    pairs and numbers that JSON does not have are replaced).

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


class Skipped(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A line that could not be read, and why. Same positions as `Record`."""

    why: str
    number: int = 0
    start: int = 0
    end: int = 0


_ABSENT = msgspec.Raw(b"")


class _Envelope(msgspec.Struct, gc=False):
    type: str | None = None
    payload: msgspec.Raw = _ABSENT
    timestamp: str | None = None
    ordinal: int | None = None
    metadata: msgspec.Raw = _ABSENT
    record_type: msgspec.Raw = _ABSENT
    id: msgspec.Raw = _ABSENT


class _Kind(msgspec.Struct):
    type: str | None = None


_decoder = msgspec.json.Decoder(_Envelope)
_kind_decoder = msgspec.json.Decoder(_Kind)
_encoder = msgspec.json.Encoder()

_BOM = b"\xef\xbb\xbf"
_NULL = msgspec.Raw(b"null")
_HEAD = re.compile(rb'\s*\{"timestamp":"[^"\\]*",(?:"ordinal":\d+,)?"type":"(\w+)",')
_ORDINAL = re.compile(rb'\{"timestamp":"[^"\\]*","ordinal":(\d{1,18}),')
_KIND = re.compile(rb'\s*\{\s*"type"\s*:\s*"([^"\\]*)"')
_HALF = re.compile(rb"\\u[dD]")
_LONG = 1 << 16
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)
_READ_ERRORS = (msgspec.DecodeError, ValueError, RecursionError)


def decode_line(data: bytes | memoryview, *, number: int = 0, start: int = 0, end: int = 0) -> Record | Skipped:
    """One line without its newline. Never raises: what is no envelope comes back as `Skipped` with the reason."""
    # The raw parts point into the bytes of this one line; a view would keep the whole block it came from alive.
    line = data if isinstance(data, bytes) else bytes(data)
    try:
        if not line.isascii():
            str(line, "utf-8")  # raw JSON is not checked by the decoder
            if line.startswith(_BOM):
                line = line[len(_BOM) :]
        if _may_hold_half(line):
            line = _ESCAPE.sub(_whole_escape, line)
        try:
            found = _decoder.decode(line)
        except (msgspec.DecodeError, ValueError) as error:
            line, found = _rescue(line, error)
    except _READ_ERRORS as error:
        return Skipped(why=_reason(line, error), number=number, start=start, end=end)
    kind, payload = found.type, found.payload
    if payload is not _ABSENT and kind is not None:
        pass
    elif payload is _ABSENT and found.record_type is not _ABSENT:
        kind, payload = STATE_LINE, msgspec.Raw(line)
    elif kind is None:
        if not len(found.id) or found.timestamp is None:
            return Skipped(why="not a line of a rollout", number=number, start=start, end=end)
        kind, payload = "session_meta", msgspec.Raw(line)
    elif payload is _ABSENT:
        # Items of the bare format carry no time of their own; a later line without payload is one of an unknown type.
        kind, payload = (kind, _NULL) if found.timestamp is not None else ("response_item", msgspec.Raw(line))
    return Record(
        type=kind,
        payload=payload,
        timestamp=found.timestamp,
        ordinal=found.ordinal,
        metadata=None if found.metadata is _ABSENT else found.metadata,
        number=number,
        start=start,
        end=end,
    )


def peek_type(data: bytes) -> str | None:
    """The type of a line in the usual key order, from its first bytes alone; None when it takes decoding to know."""
    match = _HEAD.match(data)
    return match[1].decode() if match else None


def peek_ordinal(data: bytes, start: int, end: int) -> int | None:
    """The ordinal of the line at this place of the data, in the usual key order, from its first bytes alone; None when
    it has none or takes decoding to know."""
    match = _ORDINAL.match(data, start, end)
    return int(match[1]) if match else None


def payload_at(data: bytes, start: int, end: int) -> bytes | None:
    """The payload that begins at `start` in a line up to `end`, as its last member: the bytes `decode_line` would give,
    if they are valid JSON (which is not looked at). None when it takes decoding to know."""
    payload = data[start : end - 1]
    if not data.endswith(b"}", start, end) or _may_hold_half(payload):
        return None
    if not payload.isascii():
        try:
            str(payload, "utf-8")
        except UnicodeDecodeError:
            return None
    return payload


def payload_kind(payload: msgspec.Raw | bytes) -> str | None:
    """The inner `type` of a payload (`task_started`, `message`, …) without decoding the rest; None if it has none."""
    match = _KIND.match(memoryview(payload))
    if match:
        return match[1].decode()
    try:
        return _kind_decoder.decode(payload).type
    except _READ_ERRORS:
        return None


def encode_line(line: Line, *, timestamp: str, ordinal: int | None) -> bytes:
    """The bytes of one line with its newline, keys in the order of the original.

    Half surrogate pairs become U+FFFD. Raises `TypeError` for a payload that is no JSON value.
    """
    number = b"" if ordinal is None else b',"ordinal":%d' % ordinal
    return b"".join((b'{"timestamp":', _encoder.encode(timestamp), number, encode_rest(line)))


def encode_rest(line: Line) -> bytes:
    """What stands in a line behind its time and ordinal, which the writer knows only later. Raises as `encode_line`."""
    kind, payload = _encoder.encode(line.type), _json(line.payload)
    if line.metadata is None:
        return b"".join((b',"type":', kind, b',"payload":', payload, b"}\n"))
    return b"".join((b',"type":', kind, b',"payload":', payload, b',"metadata":', _json(line.metadata), b"}\n"))


def freeze_line(line: Line) -> Line:
    """The line with payload and metadata as raw JSON: it can be encoded at any time, and not change meanwhile. Raises
    `TypeError` for what is no JSON value."""
    metadata = None if line.metadata is None else msgspec.Raw(_json(line.metadata))
    return Line(line.type, msgspec.Raw(_json(line.payload)), metadata)


def _json(value: Any) -> bytes:
    try:
        data = bytes(value) if isinstance(value, msgspec.Raw) else _encoder.encode(value)
    except (UnicodeEncodeError, OverflowError):
        text = json.dumps(msgspec.to_builtins(value, enc_hook=_unraw), ensure_ascii=False, separators=(",", ":"))
        # By way of UTF-16, where two halves that belong together become one character again.
        data = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
    # Raw JSON may be laid out for people; a line must stay one line.
    return msgspec.json.format(data, indent=-1) if b"\n" in data or b"\r" in data else data


def _unraw(value: Any) -> Any:
    if isinstance(value, msgspec.Raw):
        return json.loads(bytes(value))
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _may_hold_half(data: bytes) -> bool:
    # The expression is twice as quick, but not for a long line that is made of backslashes.
    return _HALF.search(data) is not None if len(data) < _LONG else b"\\u" in data


def _whole_escape(match: re.Match[bytes]) -> bytes:
    return b"\\ufffd" if match["half"] else match[0]


def _reason(line: bytes, error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 (byte {error.start})"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if not line.strip(b"\0"):
        return "only zero bytes"
    return str(error)


def _rescue(line: bytes, error: Exception) -> tuple[bytes, _Envelope]:
    """A second, slower reading for what the strict one refuses: `NaN` and the like, envelope fields of a wrong type.
    Raises the first error when there is nothing to rescue."""
    try:
        value: Any = json.loads(str(line, "utf-8"))
    except (ValueError, RecursionError):
        raise error from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    fields = cast("dict[str, Any]", value)
    plain = _encoder.encode(fields)

    def raw(name: str) -> msgspec.Raw:
        return msgspec.Raw(_encoder.encode(fields[name])) if name in fields else _ABSENT

    kind, timestamp, ordinal = fields.get("type"), fields.get("timestamp"), fields.get("ordinal")
    number = float(ordinal) if isinstance(ordinal, int | float) and abs(ordinal) < 2**53 else 0.5
    return plain, _Envelope(
        type=kind if isinstance(kind, str) else None,
        payload=raw("payload"),
        timestamp=timestamp if isinstance(timestamp, str) else None,
        ordinal=int(number) if number.is_integer() else None,
        metadata=raw("metadata"),
        record_type=raw("record_type"),
        id=raw("id"),
    )
