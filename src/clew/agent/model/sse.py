"""Server-sent events from bytes that may be split anywhere."""

from __future__ import annotations

import msgspec

__all__ = ["LONGEST_EVENT", "EventParser", "EventTooLong", "ServerEvent"]

LONGEST_EVENT = 64 * 1024 * 1024
"""Bytes one event may have (an image inside a tool result is a few MiB)."""

_BOM = b"\xef\xbb\xbf"


class EventTooLong(Exception):
    """An event grew beyond the limit; what follows cannot be read."""


class ServerEvent(msgspec.Struct, frozen=True):
    """One event: its name (empty when the server gave none) and its data lines, joined by newlines."""

    name: str
    data: bytes


class EventParser:
    """Feed it chunks as they come; it keeps at most one unfinished event, of `longest` bytes.

    Lines end in LF, CRLF or CR; comments, ids and retry hints are dropped, as are events without data.
    """

    def __init__(self, longest: int = LONGEST_EVENT) -> None:
        self._longest = longest
        self._pieces: list[bytes] = []  # of the line that has not ended yet
        self._name = ""
        self._data: list[bytes] = []
        self._line_size = 0
        self._data_size = 0
        self._skip_newline = False  # the last chunk ended in CR: a newline in front of the next belongs to it
        self._start = True

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The events that `chunk` completes."""
        if not chunk:
            return []
        if self._skip_newline:
            self._skip_newline = False
            if chunk[:1] == b"\n":
                chunk = chunk[1:]
        events: list[ServerEvent] = []
        for line in chunk.splitlines(keepends=True):
            self._line_size += len(line)
            if self._data_size + self._line_size > self._longest:
                raise EventTooLong(f"a server-sent event is longer than {self._longest} bytes")
            if line[-1:] not in (b"\n", b"\r"):
                self._pieces.append(line)
                continue
            self._skip_newline = line.endswith(b"\r")
            body = line.rstrip(b"\r\n")
            if self._pieces:
                body = b"".join((*self._pieces, body))
                self._pieces.clear()
            self._line_size = 0
            event = self._take(body)
            if event is not None:
                events.append(event)
        # Only a CR at the very end of the chunk can have its newline in the next one.
        self._skip_newline = self._skip_newline and chunk.endswith(b"\r")
        return events

    def finish(self) -> list[ServerEvent]:
        """The event that lacked only its final empty line when the stream ended, if there is one."""
        events = [self._take(b"".join(self._pieces)), self._take(b"")] if self._pieces else [self._take(b"")]
        self._pieces.clear()
        return [event for event in events if event is not None]

    def _take(self, line: bytes) -> ServerEvent | None:
        if self._start:
            self._start = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._dispatch()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._data_size += len(value)
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")
        return None

    def _dispatch(self) -> ServerEvent | None:
        name, data = self._name, self._data
        self._name, self._data, self._data_size = "", [], 0
        return ServerEvent(name, b"\n".join(data)) if data else None
