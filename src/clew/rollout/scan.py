"""Reading lines with their exact places, forward and backward, in blocks, whatever the bytes are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from clew.rollout.envelope import STATE_LINE, Record, Skipped, decode_line, peek_type
from clew.rollout.source import ByteSource

__all__ = ["Passes", "scan_back", "scan_forward"]

BLOCK = 1 << 18
BLOCK_BACK = 1 << 18
MAX_LINE = 1 << 28
"""Bytes of the longest line that is held in memory; a longer one is skipped (and counted)."""

Passes = Callable[[bytes, int, int], object]
"""Tells from a line's bytes, given as a part of others (from, to), that nobody needs a record of it: anything but None
passes over it, undecoded and unchecked. It is asked for the lines in the order in which they are read, and for none
twice."""

UNREADABLE = "cannot be read"
"""How the reason of a `Skipped` begins when the disk did not give the bytes."""

_BLANK = b" \t\r\n\v\f"
_BOM = b"\xef\xbb\xbf"


def scan_forward(
    source: ByteSource,
    start: int = 0,
    end: int | None = None,
    *,
    only: Collection[str] | None = None,
    passes: Passes | None = None,
    first_number: int = 1,
    max_line: int = MAX_LINE,
    block: int = BLOCK,
) -> Iterator[Record | Skipped]:
    """The lines from `start` (the beginning of a line, number `first_number`) up to `end` (None: what is there now and
    while reading).

    Blank lines are passed over. `only`: lines whose type is seen to be another one are passed over undecoded;
    `passes`: so are lines that it tells. A line
    that cannot be read, a cut last line and the damage of the source come as `Skipped`; nothing raises.
    """
    position = begin = start
    number = first_number
    held: list[bytes] = []
    held_bytes = 0
    broken = ""
    while end is None or position < end:
        length = block if end is None else min(block, end - position)
        try:
            data = source.read_at(position, length)
        except OSError as error:
            # A block that the disk does not give costs the lines in it.
            broken, held, held_bytes = f"{UNREADABLE}: {error.strerror or error}", [], 0
            if position + length >= _size(source):
                position += length
                break
            position += length
            continue
        if not data:
            break
        at = 0  # lines are looked at inside the block: most are passed over, and copying them would cost as much
        while (line_break := data.find(b"\n", at)) >= 0:
            stop = position + line_break + 1
            if broken:
                yield Skipped(why=broken, number=number, start=begin, end=stop)
                broken = ""
            elif held_bytes + line_break - at > max_line:
                yield _too_long(number, begin, stop, max_line)
            else:
                line, low, high = data, at, line_break
                if held:
                    held.append(data[at:line_break])
                    line = b"".join(held)
                    low, high = 0, len(line)
                if passes is None or passes(line, low, high) is None:
                    found = _line(line[low:high], number, begin, stop, only)
                    if found is not None:
                        yield found
            if held_bytes:
                held, held_bytes = [], 0
            number += 1
            begin = stop
            at = line_break + 1
        held_bytes += len(data) - at
        if at < len(data) and held_bytes <= max_line and not broken:
            held.append(data[at:])
        elif held_bytes > max_line:
            held = []
        position += len(data)
    if broken:
        yield Skipped(why=broken, number=number, start=begin, end=position)
    elif held_bytes > max_line:
        yield _too_long(number, begin, position, max_line)
    elif held_bytes:
        found = _line(b"".join(held), number, begin, position, only)
        if found is not None:
            yield _cut(found)
    if source.damage:
        yield Skipped(why=source.damage, number=number, start=position, end=position)


def scan_back(
    source: ByteSource,
    end: int | None = None,
    *,
    start: int = 0,
    only: Collection[str] | None = None,
    passes: Passes | None = None,
    max_line: int = MAX_LINE,
    block: int = BLOCK_BACK,
) -> Iterator[Record | Skipped]:
    """The same lines, newest first, from `end` (None: the end of the file) back to `start`; no more is read than is
    asked for. Line numbers are 0."""
    size = _size(source)
    position = end = size if end is None else min(end, size)
    if source.damage:
        yield Skipped(why=source.damage, start=size, end=size)
    held: list[bytes] = []  # the later parts of the line whose beginning is looked for, last part first
    held_bytes = 0
    broken = ""
    line_end = end
    ended = end <= start or _byte(source, end - 1) == b"\n"
    while position > start:
        length = min(block, position - start)
        position -= length
        try:
            data = source.read_at(position, length)
            if len(data) < length:
                broken, held = "the file became shorter while it was read", []
        except OSError as error:
            data, broken, held = b"", f"{UNREADABLE}: {error.strerror or error}", []
        to = len(data)
        while (line_break := data.rfind(b"\n", 0, to)) >= 0:
            begin = position + line_break + 1
            if begin < line_end:
                if broken:
                    yield Skipped(why=broken, start=begin, end=line_end)
                elif held_bytes + to - line_break - 1 > max_line:
                    yield _too_long(0, begin, line_end, max_line)
                else:
                    line, low, high = data, line_break + 1, to
                    if held:
                        held.append(data[low:to])
                        line = b"".join(reversed(held))
                        low, high = 0, len(line)
                    if passes is None or passes(line, low, high) is None:
                        found = _line(line[low:high], 0, begin, line_end, only)
                        if found is not None:
                            yield found if ended or line_end < end else _cut(found)
            if broken or held_bytes:
                held, held_bytes, broken = [], 0, ""
            line_end = begin
            to = line_break
        held_bytes += to
        if to and held_bytes <= max_line and not broken:
            held.append(data[:to])
        elif held_bytes > max_line:
            held = []
    if broken:
        yield Skipped(why=broken, start=start, end=line_end)
    elif held_bytes > max_line:
        yield _too_long(0, start, line_end, max_line)
    elif held_bytes and (found := _line(b"".join(reversed(held)), 0, start, line_end, only)) is not None:
        yield found if ended or line_end < end else _cut(found)


def _byte(source: ByteSource, offset: int) -> bytes:
    try:
        return source.read_at(offset, 1)
    except OSError:
        return b""


def _size(source: ByteSource) -> int:
    try:
        return source.size()
    except OSError:
        return 0


def _line(line: bytes, number: int, start: int, end: int, only: Collection[str] | None) -> Record | Skipped | None:
    if only is not None and (kind := peek_type(line)) is not None and kind not in only:
        return None
    if line[:1] != b"{" and (not line.strip(_BLANK) or line == _BOM):
        return None
    found = decode_line(line, number=number, start=start, end=end)
    if isinstance(found, Record):
        if found.type == STATE_LINE:
            return None
        if only is not None and found.type not in only:
            return None
    return found


def _cut(found: Record | Skipped) -> Record | Skipped:
    """What the last line is when no newline ends it: a whole record is one all the same."""
    if isinstance(found, Record):
        return found
    return Skipped(why=f"cut last line: {found.why}", number=found.number, start=found.start, end=found.end)


def _too_long(number: int, start: int, end: int, limit: int) -> Skipped:
    return Skipped(why=f"longer than {limit} bytes", number=number, start=start, end=end)
