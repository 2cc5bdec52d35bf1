"""Rollout lines written anew: only what has to change is another, the rest stays as it is to the byte."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Callable
from typing import IO, cast

import msgspec

from clew.errors import Unsupported
from clew.history.metadata import read_meta
from clew.rollout import Base, ByteSource, Head, Record, RolloutFile, parse_head, scan_forward
from clew.store.backups import Sink

__all__ = ["copied", "numbered", "packed", "with_base"]

BLOCK = 1 << 20
SPOOL_IN_MEMORY = 32 << 20
_USUAL = re.compile(rb'(\s*\{"timestamp":"[^"\\]*",)(?:"ordinal":(\d+),)?(?="type":)')
_START = "subagent_history_start_ordinal"

Members = dict[str, msgspec.Raw]
Write = Callable[[Sink], None]


def packed(file: RolloutFile, write: Write) -> Write:
    """The content in the form the file has: compressed where it is."""
    if not file.compressed:
        return write

    def compressed(put: Sink) -> None:
        from clew.rollout.packing import pack

        with contextlib.closing(_Spool()) as spool:
            write(spool.file.write)
            pack(spool, _Put(put))

    return compressed


class _Spool:
    """New text on its way into a compressed file. It holds a conversation: no name, and gone with the process."""

    damage: str | None = None

    def __init__(self) -> None:
        self.file = cast("IO[bytes]", tempfile.SpooledTemporaryFile(SPOOL_IN_MEMORY))  # noqa: SIM115 - closed below

    def size(self) -> int:
        return self.file.seek(0, 2)

    def read_at(self, offset: int, length: int) -> bytes:
        self.file.seek(offset)
        return self.file.read(length)

    def close(self) -> None:
        self.file.close()


class _Put:
    def __init__(self, put: Sink) -> None:
        self._put = put

    def write(self, data: bytes, /) -> None:
        self._put(data)


def copied(source: ByteSource, put: Sink, start: int, end: int) -> None:
    """The bytes between two places as they are."""
    while start < end:
        data = source.read_at(start, min(BLOCK, end - start))
        if not data:
            raise OSError(f"the file ends at byte {start}, before {end}")
        put(data)
        start += len(data)


def numbered(source: ByteSource, head: Head, put: Sink, start: int = 0, end: int | None = None) -> None:
    """The lines from `start` to `end` with ordinals as `head` asks for: without a gap from where its base ends, or none
    in legacy files. Lines that cannot be read stay as they are and get none.

    The place where a sub-agent's own history begins is moved along. Raises `Unsupported` for a line that cannot be
    written anew.
    """
    paginated = head.history_mode == "paginated"
    first = head.history_base.end_ordinal_exclusive if head.history_base is not None else 0
    own = _own_start(source, head, start, end, first) if paginated else None
    at, ordinal, described = start, first, False
    for line in scan_forward(source, start, end):
        copied(source, put, at, line.start)  # blank lines
        raw = source.read_at(line.start, line.end - line.start)
        at = line.end
        if not isinstance(line, Record):
            put(raw)
            continue
        if own is not None and line.type == "session_meta" and not described:
            raw, described = _with_payload(raw, {_START: msgspec.Raw(b"%d" % own)}), True
        put(_with_ordinal(raw, line.ordinal, ordinal if paginated else None))
        ordinal += 1
    copied(source, put, at, source.size() if end is None else end)


def with_base(raw: bytes, base: Base) -> bytes:
    """A `session_meta` line with another base; as long as before where that can be, because others may count bytes."""
    line = _with_payload(raw, {"history_base": msgspec.Raw(msgspec.json.encode(base))})
    body, newline = _ended(line)
    return body.ljust(len(_ended(raw)[0])) + newline


def _own_start(source: ByteSource, head: Head, start: int, end: int | None, first: int) -> int | None:
    """The ordinal that the first line of a sub-agent's own history will have; None if the metadata name none."""
    old: int | None = None
    count = 0
    for line in scan_forward(source, start, end):
        if not isinstance(line, Record):
            continue
        if line.type == "session_meta" and old is None:
            if parse_head(line).id != head.id:
                return None
            old = read_meta(line).subagent_start
            if old is None:
                return None
        if old is not None and line.ordinal is not None and line.ordinal >= old:
            return first + count
        count += 1
    return first + count if old is not None else None


def _with_ordinal(raw: bytes, old: int | None, new: int | None) -> bytes:
    """A line with another ordinal (None: without); `old` is the one that a reader sees, wherever it stands."""
    if old == new:
        return raw
    usual = _USUAL.match(raw)
    if usual is not None and old == (int(usual[2]) if usual[2] else None):
        text = b'"ordinal":%d,' % new if new is not None else b""
        return usual[1] + text + raw[usual.end() :]
    body, newline = _ended(raw)
    members = _members(body)
    written: Members = {}
    number = msgspec.Raw(b"%d" % new) if new is not None else None
    members.pop("ordinal", None)
    if number is not None and "timestamp" not in members:
        written["ordinal"] = number
    for name, value in members.items():
        written[name] = value
        if name == "timestamp" and number is not None:
            written["ordinal"] = number
    return msgspec.json.encode(written) + newline


def _with_payload(raw: bytes, changes: Members) -> bytes:
    body, newline = _ended(raw)
    members = _members(body)
    payload = _members(bytes(members["payload"])) | changes
    members["payload"] = msgspec.Raw(msgspec.json.encode(payload))
    return msgspec.json.encode(members) + newline


def _members(data: bytes) -> Members:
    try:
        return msgspec.json.decode(data.removeprefix(b"\xef\xbb\xbf"), type=Members)
    except (msgspec.DecodeError, ValueError) as error:
        raise Unsupported("writing a line anew", f"{error}: {data[:80].decode(errors='replace')}…") from error


def _ended(raw: bytes) -> tuple[bytes, bytes]:
    body = raw.rstrip(b"\r\n")
    return body, raw[len(body) :]
