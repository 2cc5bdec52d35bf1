"""Forks and reverts: what the file that goes on from where a thread is cut begins with.

A paginated thread is forked *by reference*: the new file holds only its own lines and names the bytes it inherits. A
legacy thread is *copied*, as its readers expect; any thread can be, into a legacy file that needs no other. Either way
the source is only read. A revert is a later segment of the same thread that inherits up to the cut; what was taken back
stays on disk, and a further segment takes it up again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from clew.clock import Clock, utc_stamp
from clew.errors import BadRequest, LogDamaged, Unsupported
from clew.history.cuts import Cut, find_cut, find_cut_back, not_a_start, started_turn
from clew.history.dialects import as_legacy, not_legacy
from clew.history.lines import settings_lines
from clew.history.metadata import ThreadMeta, read_meta
from clew.history.payload import object_from
from clew.history.rebuilding import rebuild
from clew.history.turn_drafts import STARTS
from clew.ids import IdSource
from clew.rollout import (
    Home,
    Line,
    Record,
    RolloutFile,
    Skipped,
    ThreadFiles,
    lineage,
    open_source,
    parse_head,
    read_head,
    read_thread,
    read_thread_back,
)
from clew.rollout.chain import link_lines
from clew.rollout.copying import Draft
from clew.rollout.envelope import payload_kind
from clew.rollout.scan import UNREADABLE, Passes, scan_forward

__all__ = ["Fork", "Revert", "inherited_turn", "plan_fork", "plan_restore", "plan_revert"]

_NOT_INHERITED = (
    "agent_nickname",
    "agent_path",
    "agent_role",
    "agent_type",
    "forked_from_ordinal_exclusive",
    "history_base",
    "parent_thread_id",
    "subagent_history_start_ordinal",
)
"""Members of the source's `session_meta` that say nothing about a fork of it."""

_OF_ITS_START = ("forked_from_id", "forked_from_ordinal_exclusive", "subagent_history_start_ordinal")
"""Members of a thread's `session_meta` that its later segments do not repeat."""

_MARKER = (
    "<turn_aborted>\nThis conversation was forked while a turn was running. What ran then goes on, if at all, in the "
    "conversation it came from.\n</turn_aborted>"
)


@dataclass(frozen=True, slots=True)
class _Part:
    """What is copied of a file: the bytes before `end`, of them the lines with ordinals below `below`."""

    file: RolloutFile
    end: int | None
    below: int | None = None


@dataclass(frozen=True, slots=True)
class Fork:
    """A thread that is about to be: its first line, what is copied behind it, and its own lines behind that."""

    head: Line
    copied: tuple[_Part, ...] = ()
    tail: tuple[Line, ...] = ()
    whole: bool = False  # copied from a paginated thread, so that its items are told by events

    @property
    def lines(self) -> list[Line]:
        """All there is of one that copies nothing."""
        return [self.head, *self.tail]

    def fill(self, home: Home, draft: Draft) -> None:
        """Write it. Raises `LogDamaged` where the disk does not give what is to be copied: it must not be missing in
        another thread for ever."""
        draft.add([self.head])
        for part in self.copied:
            try:
                source = open_source(home.fs, part.file)
            except OSError as error:
                raise _unreadable(part.file, str(error.strerror or error)) from error
            with contextlib.closing(source):
                failed = draft.copy(
                    source,
                    part.end,
                    below=part.below,
                    special=not_legacy if self.whole else _nothing,
                    rewrite=as_legacy if self.whole else _as_it_is,
                )
            if failed is not None:
                raise _unreadable(part.file, failed.why)
        draft.add(self.tail)


@dataclass(frozen=True, slots=True)
class Revert:
    """The first lines of a thread's next segment, and how many turns it takes back."""

    lines: tuple[Line, ...]
    turns: int


def plan_fork(
    home: Home,
    files: ThreadFiles,
    new_id: str,
    *,
    after_turn: str | None,
    before_turn: str | None,
    copy: bool,
    originator: str,
    version: str,
    source: str | None,
    clock: Clock,
    ids: IdSource,
) -> Fork:
    """A thread `new_id` that has the history of another one.

    Raises `BadRequest` for a turn that is not there or has not ended, `LogDamaged` for a source without metadata.
    """
    payload, meta = _told(home, files, "no session metadata to fork from")
    cut = _cut(home, files, meta, after_turn=after_turn, before_turn=before_turn)
    mine: dict[str, Any] = {key: value for key, value in payload.items() if key not in _NOT_INHERITED}
    mine |= {
        "session_id": new_id,
        "id": new_id,
        "forked_from_id": files.thread_id,
        "timestamp": utc_stamp(clock.now()),
        "originator": originator,
        "cli_version": version,
        "thread_source": "user",
    }
    if source is not None:
        mine["source"] = source
    elif isinstance(mine.get("source"), dict):
        mine["source"] = "unknown"
    tail = tuple(_interruption(cut.open_turn_id, clock, ids)) if cut.open_turn_id is not None else ()
    if cut.at.ordinal is not None and not copy:
        mine["forked_from_ordinal_exclusive"] = cut.at.ordinal
        mine["history_base"] = _base(home, files, cut)
        return Fork(Line("session_meta", mine), tail=tail)
    mine.pop("history_mode", None)
    mine.pop("context_window", None)
    parts, before = _parts(home, files, cut)
    return Fork(Line("session_meta", mine), parts, (*before, *tail), whole=cut.at.ordinal is not None)


def plan_revert(home: Home, files: ThreadFiles, before_turn: str, *, clock: Clock) -> Revert:
    """A thread's next segment, which begins where `before_turn` began.

    The settings of today are said again: those of the turns that stay may be wider. Raises `BadRequest` for a turn that
    is not there, `Unsupported` for a legacy thread, `LogDamaged` for one without metadata.
    """
    payload, meta = _told(home, files, "no session metadata to go on from")
    _need_segments(meta)
    cut = _cut(home, files, meta, before_turn=before_turn)
    return Revert(_segment(home, files, files, payload, cut, clock), cut.left_out)


def plan_restore(home: Home, files: ThreadFiles, *, clock: Clock) -> Revert:
    """A thread's next segment, which goes on where the one before its newest ended: the last revert is undone.

    `turns` counts what was done since that revert and is taken back with it. Raises as `plan_revert`, and `BadRequest`
    for a thread that was never reverted.
    """
    payload, meta = _told(home, files, "no session metadata to go on from")
    _need_segments(meta)
    if len(files.segments) < 2:
        raise BadRequest("thread", "it was never reverted")
    before = ThreadFiles(files.thread_id, files.segments[:-1])
    cut = _cut(home, before, meta)
    return Revert(_segment(home, files, before, payload, cut, clock), _begun(home, files.current))


def inherited_turn(home: Home, files: ThreadFiles) -> str | None:
    """The last turn that a thread has from the one it was forked from; None where it has none."""
    oldest = files.segments[0]
    head = read_head(home, oldest)
    own = parse_head(head) if head is not None else None
    if own is None:
        return None
    if own.history_base is not None:
        for link in lineage(home, oldest).links[1:]:
            for line in link_lines(home, link, back=True, passes=not_a_start):
                if isinstance(line, Record) and (turn := started_turn(line)) is not None:
                    return turn
        return None
    last: str | None = None
    with contextlib.closing(open_source(home.fs, oldest)) as source:
        for line in scan_forward(source, passes=not_a_start):
            if isinstance(line, Record) and (turn := started_turn(line)) is not None:
                if turn[:13] >= files.thread_id[:13]:  # both begin with a time, where it is what programs make today
                    break
                last = turn
    return last


def _begun(home: Home, file: RolloutFile) -> int:
    """How many turns began in this one file."""
    with contextlib.closing(open_source(home.fs, file)) as source:
        lines = scan_forward(source, only=("event_msg",))
        return sum(isinstance(line, Record) and payload_kind(line.payload) in STARTS for line in lines)


def _segment(
    home: Home, files: ThreadFiles, base: ThreadFiles, payload: dict[str, Any], cut: Cut, clock: Clock
) -> tuple[Line, ...]:
    mine = {key: value for key, value in payload.items() if key not in _OF_ITS_START}
    mine |= {"timestamp": utc_stamp(clock.now()), "history_base": _base(home, base, cut)}
    head = read_head(home, files.current)
    recorded = rebuild(read_thread_back(home, files), head).recorded
    return (Line("session_meta", mine), *settings_lines(files.thread_id, recorded))


def _need_segments(meta: ThreadMeta) -> None:
    if meta.history_mode != "paginated":
        raise Unsupported("revert", "this thread has the older history mode; fork it with --before instead")


def _told(home: Home, files: ThreadFiles, missing: str) -> tuple[dict[str, Any], ThreadMeta]:
    head = read_head(home, files.current)
    payload = object_from(head.payload) if head is not None else None
    if head is None or payload is None:
        raise LogDamaged(files.current.plain_path, 1, missing, thread_id=files.thread_id)
    return payload, read_meta(head, path=str(files.current.plain_path))


def _cut(
    home: Home,
    files: ThreadFiles,
    meta: ThreadMeta,
    *,
    after_turn: str | None = None,
    before_turn: str | None = None,
) -> Cut:
    def back(passes: Passes | None) -> Iterator[Record | Skipped]:
        return _readable(files, read_thread_back(home, files, passes=passes))

    mode, start = meta.history_mode, meta.subagent_start
    if mode == "paginated" or meta.base is None:
        found = find_cut_back(back, mode, after_turn=after_turn, before_turn=before_turn, subagent_start=start)
        if found is not None:
            return found
    whole = _readable(files, read_thread(home, files))
    return find_cut(whole, mode, after_turn=after_turn, before_turn=before_turn, subagent_start=start)


def _base(home: Home, files: ThreadFiles, cut: Cut) -> dict[str, Any]:
    assert cut.at.ordinal is not None, "paginated lines are numbered"
    holding = _holding(home, files, cut.at.ordinal)
    return {
        "thread_id": holding.name.rollout_id,
        "end_ordinal_exclusive": cut.at.ordinal,
        "end_byte_offset": cut.at.offset,
    }


def _holding(home: Home, files: ThreadFiles, ordinal: int) -> RolloutFile:
    """The file of a paginated thread that the cut before `ordinal` lies in: the newest one whose own lines begin below
    it."""
    links = lineage(home, files.current).links
    for link in links:
        head = read_head(home, link.file)
        base = parse_head(head).history_base if head is not None else None
        if base is None or base.end_ordinal_exclusive < ordinal:
            return link.file
    return links[-1].file


def _parts(home: Home, files: ThreadFiles, cut: Cut) -> tuple[tuple[_Part, ...], Sequence[Line]]:
    """What a copy takes of which files, and the lines that are copied one by one."""
    chain = lineage(home, files.current)
    if chain.damage is not None:
        raise chain.damage  # half a history is worse than none
    if cut.at.ordinal is None:
        if cut.at.lines is not None and len(chain.links) > 1:
            # No program writes such a thread. Its lines have no numbers that tell their file, so they are counted.
            return (), list(_copied(home, files, cut.at.lines))
        return (_Part(files.current, cut.at.offset),), ()
    holding = _holding(home, files, cut.at.ordinal)
    parts: list[_Part] = []
    for link in reversed(chain.links):
        if link.file == holding:
            return (*parts, _Part(link.file, cut.at.offset, cut.at.ordinal)), ()
        parts.append(_Part(link.file, link.end, link.ordinal))
    raise AssertionError("the cut lies in one of the files")


def _readable(files: ThreadFiles, lines: Iterable[Record | Skipped]) -> Iterator[Record | Skipped]:
    """All lines. A damaged one costs itself, but what the disk did not give may be there the next time."""
    for line in lines:
        if isinstance(line, Skipped) and UNREADABLE in line.why:
            raise LogDamaged(files.current.plain_path, line.number, line.why, thread_id=files.thread_id)
        yield line


def _unreadable(file: RolloutFile, why: str) -> LogDamaged:
    told = why if UNREADABLE in why else f"{UNREADABLE}: {why}"
    return LogDamaged(file.plain_path, 0, told, thread_id=file.thread_id)


def _copied(home: Home, files: ThreadFiles, count: int) -> Iterator[Line]:
    for number, record in enumerate(_readable(files, read_thread(home, files))):
        if number >= count:
            return
        if isinstance(record, Record):
            yield from _as_it_is(record)


def _as_it_is(record: Record) -> list[Line]:
    return [Line(record.type, record.payload, record.metadata)]


def _nothing(data: bytes, start: int, end: int) -> None:
    """No line is special."""


def _interruption(turn_id: str, clock: Clock, ids: IdSource) -> list[Line]:
    """What closes the turn that was cut in its middle, in the fork alone."""
    message = {
        "type": "message",
        "id": f"msg_{ids.uuid7()}",
        "role": "user",
        "content": [{"type": "input_text", "text": _MARKER}],
        "internal_chat_message_metadata_passthrough": {"turn_id": turn_id},
    }
    ended = {
        "type": "turn_aborted",
        "turn_id": turn_id,
        "reason": "interrupted",
        "completed_at": int(clock.now()),
    }
    return [Line("response_item", message), Line("event_msg", ended)]
