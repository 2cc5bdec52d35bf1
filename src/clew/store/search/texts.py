"""The texts of one file as people see them: what `history.digest` says was said in it, and what tools answered."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from clew.errors import SearchStopped
from clew.history.digest import Digest, digest_lines
from clew.history.outputs import output_of
from clew.history.payload import object_from, text
from clew.history.said import Said
from clew.rollout.envelope import Record, decode_line
from clew.rollout.source import ByteSource
from clew.store.queries import Role, Stop

__all__ = ["FileText", "file_texts", "interesting"]

_BLOCK = 1 << 20
_LONGEST = 1 << 28
"""Bytes of the longest line that is held."""

_ANSWER = b'_output"'
_CALL = re.compile(rb'"(?:function_call|custom_tool_call|local_shell_call)"')
_DULL = re.compile(
    rb'\s*\{"timestamp":"[^"\\]*",(?:"ordinal":\d+,)?"type":"(?:'
    rb"session_meta|turn_context|world_state|compacted|token_usage_record"
    rb'|event_msg","payload":\{"type":"(?:token_count|task_complete|turn_complete|agent_reasoning\w*)"'
    rb'|response_item","payload":\{"type":"reasoning"'
    rb")"
)
_HEAD = 200
"""Bytes of a line by which it is seen to say nothing."""


class FileText(NamedTuple):
    """One text: its role, the line it stands in (`offset`: its first byte), when (milliseconds since 1970), in which
    turn, by which tool; `copied`: the line was inherited from another thread by copying."""

    role: Role
    text: str
    offset: int
    at: int | None
    turn_id: str | None
    tool: str | None
    copied: bool


def interesting(source: ByteSource, offset: int, *, outputs: bool) -> bool:
    """Whether the line at an offset may hold a text, as far as its first bytes tell."""
    try:
        head = source.read_at(offset, _HEAD)
    except OSError:
        return False
    if _DULL.match(head):
        return False
    return outputs or _ANSWER not in head[:140]


def file_texts(
    source: ByteSource,
    thread_id: str,
    *,
    end: int | None = None,
    answers: Collection[int] | None = None,
    tools: bool = False,
    stop: Stop,
) -> Iterator[FileText]:
    """All texts of a file in order, up to the byte `end`.

    `answers`: the offsets of the lines whose tool outputs are wanted (None: all). `tools`: outputs name the tool that
    gave them. Lines that cannot be read cost themselves. Raises `SearchStopped`.
    """
    reader = _Reader(thread_id, answers, tools=tools)
    for offset, data in _whole_lines(source, end, reader):
        if stop():
            raise SearchStopped
        yield from reader.read(offset, data)


def _whole_lines(source: ByteSource, end: int | None, reader: _Reader) -> Iterator[tuple[int, bytes]]:
    """Blocks of whole lines with their offsets. What cannot be read, or is too long, is passed over."""
    held: list[bytes] = []
    begin = position = 0  # of what is held; of what is read next
    broken = False  # up to the next newline nothing counts
    while end is None or position < end:
        length = _BLOCK if end is None else min(_BLOCK, end - position)
        try:
            data = source.read_at(position, length)
        except OSError:
            held, broken = [], True
            if position + length >= _size(source):
                break
            position += length
            continue
        if not data:
            break
        if broken:
            newline = data.find(b"\n")
            if newline < 0:
                position += len(data)
                continue
            begin = position + newline + 1
            position, broken = begin, False
            reader.skip_to(begin)
            continue
        position += len(data)
        newline = data.rfind(b"\n")
        if newline < 0:
            held.append(data)
            if position - begin > _LONGEST:
                held, broken = [], True
            continue
        held.append(data[: newline + 1])
        yield begin, held[0] if len(held) == 1 else b"".join(held)
        begin += sum(map(len, held))
        held = [data[newline + 1 :]] if newline + 1 < len(data) else []
    last = b"".join(held)
    # A whole record is one, also without a newline behind it.
    if last and not broken and isinstance(decode_line(last), Record):
        yield begin, last + b"\n"


def _size(source: ByteSource) -> int:
    try:
        return source.size()
    except OSError:
        return 0


class _Reader:
    def __init__(self, thread_id: str, answers: Collection[int] | None, *, tools: bool) -> None:
        self._digest = Digest(thread_id=thread_id)
        self._answers = answers
        self._sorted = sorted(answers) if answers is not None else None
        self._tools: dict[str, str] | None = {} if tools else None

    def skip_to(self, offset: int) -> None:
        self._digest.offset = offset

    def read(self, offset: int, data: bytes) -> Iterator[FileText]:
        said: list[Said] = []
        at = 0
        for start in self._stops(offset, data):
            newline = data.find(b"\n", start)
            line = data[start:newline]
            digest_lines(self._digest, data[at : newline + 1], said)
            at = newline + 1
            for one in said:
                yield _of_said(one)
            said.clear()
            if self._tools is not None and _CALL.search(line):
                self._remember(line)
            if _ANSWER in line and (self._answers is None or offset + start in self._answers):
                yield from self._answer(line, offset + start)
        if at < len(data):
            digest_lines(self._digest, data[at:], said)
            for one in said:
                yield _of_said(one)

    def _stops(self, offset: int, data: bytes) -> Sequence[int]:
        """Where the lines begin that are to be looked at by themselves."""
        if self._sorted is not None and self._tools is None:
            return [start - offset for start in self._sorted if offset <= start < offset + len(data)]
        starts: list[int] = []
        begin = 0
        while (newline := data.find(b"\n", begin)) >= 0:
            if data.find(_ANSWER, begin, newline) >= 0 or (
                self._tools is not None and _CALL.search(data, begin, newline)
            ):
                starts.append(begin)
            begin = newline + 1
        return starts

    def _remember(self, line: bytes) -> None:
        record = decode_line(line)
        call = object_from(record.payload) if isinstance(record, Record) and record.type == "response_item" else None
        if call is not None and self._tools is not None and (call_id := text(call.get("call_id"))):
            self._tools[call_id] = text(call.get("name")) or text(call.get("type")) or ""

    def _answer(self, line: bytes, offset: int) -> Iterator[FileText]:
        record = decode_line(line)
        if not isinstance(record, Record) or record.type != "response_item":
            return
        item: dict[str, Any] | None = object_from(record.payload)
        found = output_of(item) if item is not None else None
        if item is None or not found:
            return
        tool = (self._tools or {}).get(text(item.get("call_id")) or "")
        copied = self._digest.copying or offset < self._digest.copied_until
        yield FileText("output", found, offset, _moment(record.timestamp), self._digest.turn_id, tool, copied)


def _of_said(one: Said) -> FileText:
    return FileText(one.role, one.text, one.offset, one.at, one.turn_id, one.tool, one.copied)


def _moment(stamp: str | None) -> int | None:
    try:
        return round(datetime.fromisoformat(stamp or "").timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        return None
