"""The lines of one rollout, looked at one after the other: what cannot be read, and what does not fit together.

Memory stays the same however long the file is: only what is open (turns, calls) is remembered.
"""

from __future__ import annotations

from collections import OrderedDict, deque

import msgspec

from clew.errors import UnsupportedHistory
from clew.history.metadata import read_meta
from clew.history.payload import object_from
from clew.rollout import HISTORY_MODES, Base, ByteSource, Head, Record, RolloutFile, Skipped, parse_head, payload_kind
from clew.rollout.scan import MAX_LINE, UNREADABLE, scan_back, scan_forward
from clew.rollout.writer import KNOWN_TYPES
from clew.store.findings import Finding, Findings

__all__ = ["LONGEST_CHECKED", "LineCheck"]

LONGEST_CHECKED = 64 << 20
"""Bytes of the longest line that is held in memory while checking."""

REMEMBERED = 10_000
HEAD_LINES = 210
QUICK_BLOCK = 1 << 14

_BOM = b"\xef\xbb\xbf"
_CUT = "cut last line: "
_STARTS = ("task_started", "turn_started")
_ENDS = ("task_complete", "turn_complete", "turn_aborted")
_CALLS = ("function_call", "custom_tool_call", "local_shell_call", "tool_search_call")
_OUTPUTS = ("function_call_output", "custom_tool_call_output", "tool_search_output")


class _Ids(msgspec.Struct):
    turn_id: str | None = None
    call_id: str | None = None


_ids = msgspec.json.Decoder(_Ids)


class LineCheck:
    """One file. `run` reads it; `head` and `base` are what its metadata say, once it was read, `torn` is its unfinished
    last line, `foreign` the first metadata of another thread."""

    def __init__(
        self,
        file: RolloutFile,
        *,
        held: bool = False,
        quick: bool = False,
        longest: int = LONGEST_CHECKED,
    ) -> None:
        self.head: Head | None = None
        self.head_line = 0
        self.lines = 0
        self.torn: Skipped | None = None
        self.foreign: Record | None = None
        self.file = file
        self._held = held
        self._quick = quick
        self._longest = longest
        self._found = Findings(str(file.path), file.thread_id)
        self._started = False  # something that is a line, readable or not, was met
        self._records = 0
        self._bare = False
        self._kin: set[str] = set()
        self._previous: int | None = None
        self._unsure = 0
        self._numbered = 0
        self._unnumbered: list[tuple[int, int]] = []
        self._missing = 0
        self._turns: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._ended: deque[str] = deque(maxlen=1000)
        self._turn_seen = False
        self._calls: OrderedDict[str, tuple[int, int]] = OrderedDict()

    @property
    def base(self) -> Base | None:
        return self.head.history_base if self.head is not None else None

    def run(self, source: ByteSource) -> list[Finding]:
        """Everything found in the file, in the order of its lines."""
        if _peek(source, 0, 3) == _BOM:
            self._found.add("byte-order-mark", "the file begins with a byte order mark", line=1, offset=0)
        if self._quick:
            self._look_quickly(source)
        else:
            self._look(source)
        return list(self._found)

    def _look(self, source: ByteSource) -> None:
        last: Record | Skipped | None = None
        for line in scan_forward(source, max_line=self._longest):
            if isinstance(line, Skipped) and source.damage is not None and line.start == line.end:
                cut = isinstance(last, Skipped) and last.why.startswith(_CUT)
                whole = (last.number - cut, last.start if cut else last.end) if last is not None else (0, 0)
                self._frame_damaged(source.damage, *whole)
                continue
            if last is not None:
                self._line(last, source)
            last = line
            self.lines = line.number
        if last is not None and not (source.damage and isinstance(last, Skipped) and last.why.startswith(_CUT)):
            self._line(last, source)
        if isinstance(last, Record) and _peek(source, last.end - 1, 1) not in (b"", b"\n") and source.damage is None:
            self._found.add("tail-without-newline", "the last line has no newline", at=last)
        self._finish(source)

    def _look_quickly(self, source: ByteSource) -> None:
        """Only the beginning, up to the metadata, and the last line."""
        for count, line in enumerate(scan_forward(source, max_line=self._longest, block=QUICK_BLOCK), 1):
            if source.damage is not None and line.start == line.end:
                self._frame_damaged(source.damage, line.number - 1, line.start)
                break
            self._line(line, source)
            if self.head is not None or count >= HEAD_LINES:
                break
        if not self._started and source.damage is None:
            self._empty(source)
        elif self.head is None and self._started:
            self._found.add("no-metadata", f"no metadata in the first {HEAD_LINES} lines")
        if self.file.compressed:
            return  # its end is only known when all of it is unpacked
        for line in scan_back(source, max_line=self._longest, block=QUICK_BLOCK):
            if isinstance(line, Skipped) and line.why.startswith(_CUT) and line.start > 0:
                self._torn(line)
            break

    def _finish(self, source: ByteSource) -> None:
        if not self._started:
            if source.damage is None:
                self._empty(source)
            return
        if self.head is None:
            self._found.add("no-metadata", "no line says whose thread it is", line=1, offset=0)
        paginated = self.head is not None and self.head.history_mode == "paginated"
        if paginated and not self._numbered and self._missing:
            why = "history_mode is paginated, but no line has an ordinal"
            self._found.add("wrong-mode", why, line=self.head_line)
        else:
            for number, start in self._unnumbered:
                self._found.add("ordinal-missing", "this line has no ordinal", line=number, offset=start)
            if (more := self._missing - len(self._unnumbered)) > 0:
                self._found.add("ordinal-missing", f"{more} more lines have no ordinal")
        for turn_id, (number, start) in self._turns.items():
            self._found.add("turn-open", f"turn {turn_id} has no end", line=number, offset=start)
        for call_id, (number, start) in self._calls.items():
            self._found.add("call-open", f"call {call_id} has no output", line=number, offset=start)

    def _empty(self, source: ByteSource) -> None:
        blank = "only blank lines" if _peek(source, 0, 1) else "the file is empty"
        self._found.add("file-empty", blank, line=1, offset=0)

    def _frame_damaged(self, damage: str, lines: int, size: int) -> None:
        what = f"{lines} lines ({size} bytes) can be read before it" if lines else "nothing can be read"
        self._found.add("frame-damaged", f"{damage}; {what}", offset=size)

    # -- one line -----------------------------------------------------------------------------------------------------

    def _line(self, line: Record | Skipped, source: ByteSource) -> None:
        first, self._started = not self._started, True
        if isinstance(line, Skipped):
            self._unsure += 1
            self._skipped(line, source, first=first)
            return
        self._records += 1
        if line.type == "session_meta":
            self._metadata(line)
        if self.head is not None or line.ordinal is not None:
            self._ordinal(line)
        if line.type == "event_msg":
            self._event(line)
        elif line.type == "response_item":
            self._item(line)

    def _skipped(self, line: Skipped, source: ByteSource, *, first: bool) -> None:
        length = line.end - line.start
        if line.why.startswith(UNREADABLE):
            self._found.add("frame-damaged" if self.file.compressed else "line-unreadable", line.why, at=line)
        elif line.why.startswith("longer than "):
            read = length <= MAX_LINE
            why = f"{length} bytes, too long to be {'checked' if read else 'read'}"
            self._found.add("line-too-long", why, severity="warning" if read else "error", at=line)
        elif first and line.start == 0:
            self._found.add("first-line-damaged", line.why.removeprefix(_CUT), at=line)
        elif line.why.startswith(_CUT):
            self._torn(line)
        elif line.why.startswith("not UTF-8"):
            self._found.add("line-not-utf8", line.why, at=line)
        else:
            self._found.add("line-damaged", line.why, at=line)

    def _torn(self, line: Skipped) -> None:
        self.torn = line
        why = f"{line.end - line.start} bytes of an unfinished line ({line.why.removeprefix(_CUT)})"
        if self._held:
            why += "; the thread is being written"
        self._found.add(
            "torn-tail",
            why,
            line=line.number or None,
            offset=line.start,
            severity="info" if self._held else None,
        )

    def _metadata(self, line: Record) -> None:
        head = parse_head(line)
        payload = object_from(line.payload) or {}
        if self.head is not None:
            self._later_metadata(head, line)
            return
        self.head, self.head_line = head, line.number
        try:
            meta = read_meta(line)
        except UnsupportedHistory:
            meta = None
        self._kin = {self.file.thread_id}
        if meta is not None:
            self._kin |= {relative for relative in (head.id, meta.forked_from, meta.parent_id) if relative}
        if self._records > 1:
            self._found.add("metadata-not-first", f"the metadata are line {line.number}", at=line)
        if head.id != self.file.thread_id:
            self._found.add("id-differs", f"the metadata are of {head.id or 'no thread'}", at=line)
        if head.history_mode not in HISTORY_MODES:
            self._found.add("history-mode-unknown", f"the history mode is {head.history_mode!r}", at=line)
        if head.history_base is None and payload.get("history_base") is not None:
            why = "history_base needs thread_id, end_ordinal_exclusive and end_byte_offset"
            self._found.add("base-incomplete", why, at=line)
        if len(bytes(line.payload)) >= line.end - line.start - 2:
            self._bare = True
            self._found.add("bare-format", "lines without envelope, as written until the middle of 2025", at=line)

    def _later_metadata(self, head: Head, line: Record) -> None:
        """Copied forks carry the metadata of those they were copied from; others have no business here."""
        if head.id in self._kin or head.id is None:
            try:
                meta = read_meta(line)
            except UnsupportedHistory:
                return
            self._kin |= {relative for relative in (meta.forked_from, meta.parent_id) if relative}
            return
        assert self.head is not None
        self.foreign = self.foreign or line
        loses = self.head.history_mode == "paginated"
        self._found.add(
            "foreign-metadata",
            f"metadata of thread {head.id}" + ("" if loses else "; they are passed over"),
            at=line,
            severity="error" if loses else "warning",
        )

    # -- numbering ----------------------------------------------------------------------------------------------------

    def _ordinal(self, line: Record) -> None:
        mode = self.head.history_mode if self.head is not None else "paginated"
        if mode != "paginated":
            if line.ordinal is not None and mode == "legacy":
                self._found.add("ordinal-in-legacy", f"ordinal {line.ordinal} in a legacy file", at=line)
            return
        if line.ordinal is None:
            self._missing += 1
            self._unsure += 1
            if len(self._unnumbered) < 100:
                self._unnumbered.append((line.number, line.start))
            return
        self._numbered += 1
        if line.type not in KNOWN_TYPES:
            # Writers that do not know it give its number away once more.
            self._unsure += 1
            return
        if self._previous is None:
            due = self.base.end_ordinal_exclusive if self.base is not None else 0
        else:
            due = self._previous + 1
        # What could not be read may have had a number, or not.
        if self._previous is not None and line.ordinal == self._previous:
            self._found.add("ordinal-doubled", f"ordinal {line.ordinal} once more", at=line)
        elif line.ordinal < due:
            self._found.add("ordinal-back", f"ordinal {line.ordinal}, where {due} is due", at=line)
        elif line.ordinal > due + self._unsure:
            self._found.add("ordinal-gap", f"ordinal {line.ordinal}, where {due} is due", at=line)
        self._previous, self._unsure = line.ordinal, 0

    # -- turns and calls ----------------------------------------------------------------------------------------------

    def _event(self, line: Record) -> None:
        kind = payload_kind(line.payload)
        if kind not in _STARTS and kind not in _ENDS:
            return
        turn_id = _named(line).turn_id
        if kind in _STARTS:
            self._turn_seen = True
            if turn_id is not None:
                _remember(self._turns, turn_id, line)
            return
        if turn_id is None or self._turns.pop(turn_id, None) is not None:
            if turn_id is not None:
                self._ended.append(turn_id)
            return
        # What a fork inherits may be open there and end here.
        inherited = self.base is not None and not self._turn_seen
        if turn_id not in self._ended and not inherited:
            why = f"turn {turn_id} ends but never began"
            self._found.add("turn-end-without-start", why, at=line)
        self._ended.append(turn_id)

    def _item(self, line: Record) -> None:
        kind = payload_kind(line.payload)
        if kind not in _CALLS and kind not in _OUTPUTS:
            return
        call_id = _named(line).call_id
        if call_id is None:
            return
        if kind in _CALLS:
            _remember(self._calls, call_id, line)
        elif self._calls.pop(call_id, None) is None:
            why = f"no call {call_id} is open"
            self._found.add("output-without-call", why, at=line)


def _peek(source: ByteSource, offset: int, length: int) -> bytes:
    """Nothing where the disk does not give it; the lines there tell why."""
    try:
        return source.read_at(offset, length)
    except OSError:
        return b""


def _named(line: Record) -> _Ids:
    try:
        return _ids.decode(line.payload)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return _Ids()


def _remember(open_ones: OrderedDict[str, tuple[int, int]], key: str, line: Record) -> None:
    open_ones[key] = (line.number, line.start)
    if len(open_ones) > REMEMBERED:
        open_ones.popitem(last=False)
