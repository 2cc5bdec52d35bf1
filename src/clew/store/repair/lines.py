"""Surgeries on the lines of a file: the torn tail, the numbering, the tail that belongs to another thread."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec

from clew.errors import Unsupported
from clew.history.metadata import read_meta
from clew.rollout import (
    HISTORY_MODES,
    Home,
    Record,
    RolloutFile,
    ThreadFiles,
    canonical_id,
    open_source,
    parse_head,
    scan_forward,
)
from clew.rollout.source import ByteSource
from clew.store.backups import Change, Sink
from clew.store.repair.rewriting import copied, numbered, packed
from clew.store.repair.room import Room, looked_at, need_no_heirs

__all__ = ["drop_torn_tail", "renumber", "split_foreign_tail"]

_NUMBERING = frozenset(
    {"ordinal-back", "ordinal-doubled", "ordinal-gap", "ordinal-in-legacy", "ordinal-missing", "wrong-mode"}
)


class _Named(msgspec.Struct):
    thread_id: str | None = None


def drop_torn_tail(room: Room, files: ThreadFiles) -> list[Change]:
    """Cut unfinished last lines."""
    changes: list[Change] = []
    for file in files.segments:
        look, _ = looked_at(room, file)
        torn = look.torn
        if torn is None:
            continue
        heirs = [heir for heir in room.heirs(file.name.rollout_id) if heir.base.end_byte_offset > torn.start]
        need_no_heirs("drop-torn-tail", file, heirs, "others inherit what would be cut")
        what = f"cut line {torn.number}, {torn.end - torn.start} bytes without an end, off {file.path.name}"
        end = torn.start
        changes.append(_change(room.home, file, what, lambda source, put, end=end: copied(source, put, 0, end)))
    return changes


def renumber(room: Room, files: ThreadFiles) -> list[Change]:
    """Ordinals without gaps in paginated files, none in legacy ones."""
    changes: list[Change] = []
    for file in files.segments:
        look, codes = looked_at(room, file)
        if not codes & _NUMBERING:
            continue
        head = look.head
        if head is None or head.history_mode not in HISTORY_MODES:
            raise Unsupported(f"renumber of {file.path}", "its metadata do not say how its lines are numbered")
        if "foreign-metadata" in codes:
            raise Unsupported(f"renumber of {file.path}", "lines of another thread are in it; split them off first")
        why = "others inherit from it by byte offset and ordinal"
        need_no_heirs("renumber", file, room.heirs(file.name.rollout_id), why)
        if head.history_mode == "paginated":
            first = head.history_base.end_ordinal_exclusive if head.history_base is not None else 0
            what = f"number the lines of {file.path.name} from {first} on without gaps"
        else:
            what = f"take the ordinals out of {file.path.name}, which is a legacy file"
        changes.append(_change(room.home, file, what, lambda source, put, head=head: numbered(source, head, put)))
    return changes


def split_foreign_tail(room: Room, files: ThreadFiles) -> list[Change]:
    """Make the lines behind the metadata of another thread a file of their own."""
    file = files.current
    look, _ = looked_at(room, file)
    foreign = look.foreign
    if foreign is None:
        return []
    refused = f"split-foreign-tail of {file.path}"
    head = parse_head(foreign)
    other_id = canonical_id(head.id or "")
    if other_id is None:
        raise Unsupported(refused, f"the metadata in line {foreign.number} are of {head.id!r}, which is no id")
    if head.history_mode not in HISTORY_MODES:
        raise Unsupported(refused, f"the other thread has the unknown history mode {head.history_mode!r}")
    there = room.home.find(other_id)
    if there is not None:
        raise Unsupported(refused, f"thread {other_id} has a file already: {there.current.path}")
    start = foreign.start
    with room.opened(file) as source:
        lines = _need_all_foreign(source, file, start, other_id, refused)
    heirs = [heir for heir in room.heirs(file.name.rollout_id) if heir.base.end_byte_offset > start]
    need_no_heirs("split-foreign-tail", file, heirs, "others inherit what would be split off")
    path = room.home.new_path(other_id, _began(foreign, room))
    if file.archived:
        path = room.home.archived_sessions / path.name
    home = room.home

    def tail(put: Sink) -> None:
        source = open_source(home.fs, file)
        try:
            numbered(source, head, put, start)
        finally:
            source.close()

    return [
        Change(path, f"write {lines} lines of thread {other_id} into {path.name}", tail),
        _change(
            room.home,
            file,
            f"cut them, from line {foreign.number} on, off {file.path.name}",
            lambda source, put: copied(source, put, 0, start),
        ),
    ]


def _need_all_foreign(source: ByteSource, file: RolloutFile, start: int, other_id: str, refused: str) -> int:
    """How many lines the tail has. Raises `Unsupported` when some of them name the file's own, or a third thread."""
    count = 0
    # Copied forks carry lines of those they were copied from.
    kin: set[str | None] = {None, other_id}
    for line in scan_forward(source, start):
        count += 1
        if not isinstance(line, Record):
            continue
        if line.type == "session_meta":
            named = parse_head(line).id
            if named in kin:
                kin |= {read_meta(line).forked_from, read_meta(line).parent_id}
        elif line.type in ("event_msg", "token_usage_record"):
            named = _thread_of(line)
        else:
            continue
        if named not in kin:
            whose = "this thread" if named == file.thread_id else f"thread {named}"
            raise Unsupported(refused, f"the line at byte {line.start} is of {whose} again")
    return count


def _thread_of(line: Record) -> str | None:
    try:
        return msgspec.json.decode(line.payload, type=_Named).thread_id
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def _began(meta: Record, room: Room) -> float:
    """When a thread began, by its metadata; now where they do not say it."""
    try:
        return datetime.fromisoformat(read_meta(meta).created_at or "").timestamp()
    except ValueError:
        return room.clock.now()


def _change(home: Home, file: RolloutFile, what: str, rewrite: Callable[[ByteSource, Sink], None]) -> Change:
    def write(put: Sink) -> None:
        source = open_source(home.fs, file)
        try:
            rewrite(source, put)
        finally:
            source.close()

    return Change(file.path, what, packed(file, write))
