"""Forks: where a thread is cut, and the lines of the file that goes on from there.

A paginated thread is forked *by reference*: the new file holds only its own lines and names the bytes it inherits. A
legacy thread is *copied*, as its readers expect. Either way the source is only read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import msgspec

from clew.clock import Clock, utc_stamp
from clew.errors import BadRequest, LogDamaged
from clew.history.contextual import is_contextual
from clew.history.payload import object_from
from clew.ids import IdSource
from clew.rollout import (
    Home,
    Line,
    Link,
    Record,
    RolloutFile,
    ThreadFiles,
    lineage,
    open_source,
    parse_head,
    read_head,
    scan_forward,
)

__all__ = ["fork_lines"]

_STARTS = ("task_started", "turn_started")
_ENDS = ("task_complete", "turn_complete", "turn_aborted")

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

_MARKER = (
    "<turn_aborted>\nThis conversation was forked while a turn was running. What ran then goes on, if at all, in the "
    "conversation it came from.\n</turn_aborted>"
)


class _Event(msgspec.Struct):
    type: str = ""
    turn_id: str | None = None


_events = msgspec.json.Decoder(_Event)


@dataclass(frozen=True, slots=True)
class _Place:
    """A line: the file it stands in, where, and its number among all lines of the thread that can be read."""

    file: RolloutFile
    offset: int
    ordinal: int | None
    index: int


@dataclass(slots=True)
class _Turns:
    """Where the turns of a thread begin, and which of them ended."""

    starts: list[tuple[str, _Place]] = field(default_factory=list[tuple[str, _Place]])
    ended: set[str] = field(default_factory=set[str])
    marked: bool = False
    end: _Place | None = None

    @property
    def open_turn(self) -> str | None:
        if not self.marked or not self.starts or self.starts[-1][0] in self.ended:
            return None
        return self.starts[-1][0]


def fork_lines(
    home: Home,
    files: ThreadFiles,
    new_id: str,
    *,
    after_turn: str | None,
    before_turn: str | None,
    originator: str,
    version: str,
    source: str | None,
    clock: Clock,
    ids: IdSource,
) -> list[Line]:
    """The first lines of a thread `new_id` that has the history of another one; the first is its `session_meta`.

    Raises `BadRequest` for a turn that is not there or has not ended, `LogDamaged` for a source without metadata.
    """
    if after_turn is not None and before_turn is not None:
        raise BadRequest("before_turn", "give either this or after_turn")
    head = read_head(home, files.current)
    meta = object_from(head.payload) if head is not None else None
    if head is None or meta is None:
        raise LogDamaged(files.current.plain_path, 1, "no session metadata to fork from", thread_id=files.thread_id)
    turns = _survey(home, files)
    cut, open_turn = _cut(turns, after_turn, before_turn)
    mine: dict[str, Any] = {
        key: value for key, value in meta.items() if key not in _NOT_INHERITED and key != "context_window"
    }
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
    if parse_head(head).history_mode == "paginated" and cut.ordinal is not None:
        mine["context_window"] = meta.get("context_window")
        mine["forked_from_ordinal_exclusive"] = cut.ordinal
        mine["history_base"] = {
            "thread_id": cut.file.name.rollout_id,
            "end_ordinal_exclusive": cut.ordinal,
            "end_byte_offset": cut.offset,
        }
        lines = [Line("session_meta", mine)]
    else:
        mine.pop("history_mode", None)
        mine.pop("context_window", None)
        lines = [Line("session_meta", mine)]
        lines += (
            Line(record.type, record.payload, record.metadata)
            for place, record in _lines(home, files)
            if place.index < cut.index
        )
    if open_turn is not None:
        lines += _interruption(open_turn, clock, ids)
    return lines


def _lines(home: Home, files: ThreadFiles) -> Iterator[tuple[_Place, Record]]:
    """Every readable line of a thread with its place, oldest first."""
    index = 0
    links = lineage(home, files.current).links
    for link in reversed(links):
        with closing(open_source(home.fs, link.file)) as opened:
            for record in scan_forward(opened, 0, link.end):
                if not isinstance(record, Record) or not _counts(record, link):
                    continue
                yield _Place(link.file, record.start, record.ordinal, index), record
                index += 1


def _counts(record: Record, link: Link) -> bool:
    if link.end is None:
        return True
    if record.type == "session_meta":
        return False
    return record.ordinal is None or link.ordinal is None or record.ordinal < link.ordinal


def _survey(home: Home, files: ThreadFiles) -> _Turns:
    turns = _Turns()
    message: tuple[_Place, Record] | None = None  # a user message that may open a turn of an old thread
    for place, record in _lines(home, files):
        turns.end = _Place(
            place.file, record.end, None if record.ordinal is None else record.ordinal + 1, place.index + 1
        )
        if record.type == "response_item":
            message = (place, record)
            continue
        if record.type == "event_msg":
            event = _event(record)
            if event.type in _STARTS and event.turn_id:
                turns.marked = True
                turns.starts.append((event.turn_id, place))
            elif event.type in _ENDS and event.turn_id:
                turns.ended.add(event.turn_id)
            elif event.type == "user_message" and not turns.marked:
                begins = message[0] if message is not None and _is_prompt(message[1]) else place
                turns.starts.append((f"rollout-{place.index}", begins))
        message = None
    return turns


def _is_prompt(record: Record) -> bool:
    item = object_from(record.payload) or {}
    return item.get("type") == "message" and item.get("role") == "user" and not is_contextual(item)


def _event(record: Record) -> _Event:
    try:
        return _events.decode(record.payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Event()


def _cut(turns: _Turns, after_turn: str | None, before_turn: str | None) -> tuple[_Place, str | None]:
    """The first place that is not inherited, and the turn it cuts in its middle."""
    assert turns.end is not None
    names = [turn_id for turn_id, _ in turns.starts]
    wanted = before_turn if before_turn is not None else after_turn
    if wanted is None:
        return turns.end, turns.open_turn
    which = "before_turn" if before_turn is not None else "after_turn"
    if wanted not in names:
        raise BadRequest(which, f"the thread has no turn {wanted}")
    at = names.index(wanted)
    if before_turn is not None:
        return turns.starts[at][1], None
    if turns.marked and wanted not in turns.ended and at + 1 == len(names):
        raise BadRequest(which, f"the turn {wanted} has not ended")
    return (turns.starts[at + 1][1], None) if at + 1 < len(names) else (turns.end, None)


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
