"""Forks and reverts: the lines of the file that goes on from where a thread is cut.

A paginated thread is forked *by reference*: the new file holds only its own lines and names the bytes it inherits. A
legacy thread is *copied*, as its readers expect. Either way the source is only read. A revert is a later segment of the
same thread that inherits up to the cut; what was taken back stays on disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from clew.clock import Clock, utc_stamp
from clew.errors import LogDamaged, Unsupported
from clew.history.cuts import find_cut
from clew.history.lines import settings_lines
from clew.history.metadata import read_meta
from clew.history.payload import object_from
from clew.history.rebuilding import rebuild
from clew.ids import IdSource
from clew.rollout import (
    Home,
    Line,
    Record,
    RolloutFile,
    Skipped,
    ThreadFiles,
    lineage,
    parse_head,
    read_head,
    read_thread,
    read_thread_back,
)
from clew.rollout.scan import UNREADABLE

__all__ = ["fork_lines", "revert_lines"]

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
    head = read_head(home, files.current)
    payload = object_from(head.payload) if head is not None else None
    if head is None or payload is None:
        raise LogDamaged(files.current.plain_path, 1, "no session metadata to fork from", thread_id=files.thread_id)
    meta = read_meta(head, path=str(files.current.plain_path))
    cut = find_cut(
        _whole(home, files),
        meta.history_mode,
        after_turn=after_turn,
        before_turn=before_turn,
        subagent_start=meta.subagent_start,
    )
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
    if cut.at.ordinal is not None:
        mine["forked_from_ordinal_exclusive"] = cut.at.ordinal
        mine["history_base"] = {
            "thread_id": _holding(home, files, cut.at.ordinal).name.rollout_id,
            "end_ordinal_exclusive": cut.at.ordinal,
            "end_byte_offset": cut.at.offset,
        }
        lines = [Line("session_meta", mine)]
    else:
        mine.pop("history_mode", None)
        mine.pop("context_window", None)
        lines = [Line("session_meta", mine), *_copied(home, files, cut.at.lines)]
    if cut.open_turn_id is not None:
        lines += _interruption(cut.open_turn_id, clock, ids)
    return lines


def revert_lines(home: Home, files: ThreadFiles, before_turn: str, *, clock: Clock) -> list[Line]:
    """The first lines of a thread's next segment, which begins where `before_turn` began.

    The settings of today are said again: those of the turns that stay may be wider. Raises `BadRequest` for a turn that
    is not there, `Unsupported` for a legacy thread, `LogDamaged` for one without metadata.
    """
    head = read_head(home, files.current)
    payload = object_from(head.payload) if head is not None else None
    if head is None or payload is None:
        raise LogDamaged(files.current.plain_path, 1, "no session metadata to go on from", thread_id=files.thread_id)
    meta = read_meta(head, path=str(files.current.plain_path))
    if meta.history_mode != "paginated":
        raise Unsupported("revert", "this thread has the older history mode; fork it with --before-turn instead")
    cut = find_cut(_whole(home, files), meta.history_mode, before_turn=before_turn, subagent_start=meta.subagent_start)
    assert cut.at.ordinal is not None, "paginated lines are numbered"
    mine = {key: value for key, value in payload.items() if key not in _OF_ITS_START}
    mine |= {
        "timestamp": utc_stamp(clock.now()),
        "history_base": {
            "thread_id": _holding(home, files, cut.at.ordinal).name.rollout_id,
            "end_ordinal_exclusive": cut.at.ordinal,
            "end_byte_offset": cut.at.offset,
        },
    }
    recorded = rebuild(read_thread_back(home, files), head).recorded
    return [Line("session_meta", mine), *settings_lines(files.thread_id, recorded)]


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


def _whole(home: Home, files: ThreadFiles) -> Iterator[Record | Skipped]:
    """All lines. A damaged one costs itself, but what the disk did not give may be there the next time: it must not be
    missing in another thread for ever."""
    for record in read_thread(home, files):
        if isinstance(record, Skipped) and UNREADABLE in record.why:
            raise LogDamaged(files.current.plain_path, record.number, record.why, thread_id=files.thread_id)
        yield record


def _copied(home: Home, files: ThreadFiles, count: int) -> Iterator[Line]:
    for number, record in enumerate(_whole(home, files)):
        if number >= count:
            return
        if isinstance(record, Record):
            yield Line(record.type, record.payload, record.metadata)


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
