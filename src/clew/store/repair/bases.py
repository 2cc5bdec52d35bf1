"""The surgery on forks: give them back the base they inherit from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from clew.errors import Unsupported
from clew.rollout import Base, ByteSource, Record, RolloutFile, RolloutName, ThreadFiles, parse_head, scan_forward
from clew.rollout.source import PlainSource
from clew.store.backups import Change, Sink
from clew.store.base_check import boundary, disagreement
from clew.store.line_check import LineCheck
from clew.store.repair.rewriting import copied, packed, with_base
from clew.store.repair.room import Room, need_no_heirs

__all__ = ["reattach_base"]

DEEPEST = 16
HEAD_LINES = 210


def reattach_base(room: Room, files: ThreadFiles) -> list[Change]:
    """Find a missing base elsewhere in the home or in the backups, or correct an offset or ordinal that the base and
    the fork's own numbering prove wrong."""
    changes: list[Change] = []
    for file in files.segments:
        look = LineCheck(file, quick=True)
        with room.opened(file) as source:
            look.run(source)
        base = look.base
        if base is None:
            continue
        there = room.home.find_segment(base.thread_id)
        if there is None:
            changes.append(_found_again(room, file, base))
            continue
        with room.opened(there) as source:
            wrong = disagreement(base, boundary(source, base.end_byte_offset))
            if wrong is None:
                continue
            right = _corrected(source, base, _own_first(room, file), wrong[1], f"reattach-base of {file.path}")
        changes.append(_rewritten(room, file, base, right))
    return changes


# -- a base that is not there


def _found_again(room: Room, file: RolloutFile, base: Base) -> Change:
    """A copy of a file that proves to be the base, in the place where it is looked for."""
    for path in _candidates(room, base.thread_id):
        name = _name_for(room, path, base.thread_id)
        if name is None:
            continue
        folder = room.home.archived_sessions if file.archived else room.home.dated_folder(name)
        target = folder / name.format()
        return Change(
            target, f"copy {path}, which is the missing base {base.thread_id}, to {target}", _copy_of(room, path)
        )
    raise Unsupported(
        f"reattach-base of {file.path}",
        f"the base {base.thread_id} is neither in {room.home.path} nor in {room.clew_home / 'backups'}; "
        f"put its file into {room.home.sessions}",
    )


def _candidates(room: Room, rollout_id: str) -> Iterator[Path]:
    """Files that may be the base, those with its id in their name first."""
    others: list[Path] = []
    for root in (room.home.path, room.clew_home / "backups"):
        for path in _files(room, root):
            lower = path.name.lower()
            if rollout_id in lower and ".jsonl" in lower and not lower.endswith(".tmp"):
                yield path
            elif lower.endswith((".jsonl", ".jsonl.bak", ".jsonl.old")) and RolloutName.parse(path.name) is None:
                others.append(path)
    yield from others


def _name_for(room: Room, path: Path, rollout_id: str) -> RolloutName | None:
    """The name a file must have to be found as this rollout; None if it is another one, or cannot be read."""
    beginning = path.name.find("rollout-")
    end = path.name.find(".jsonl") + len(".jsonl")
    told = RolloutName.parse(path.name[beginning:end]) if 0 <= beginning < end else None
    if path.name.endswith(".zst"):
        return None if told is None or told.rollout_id != rollout_id else replace(told, compressed=True)
    try:
        file = room.home.fs.open_read(path)
    except OSError:
        return None
    with contextlib.closing(file):
        for count, line in enumerate(scan_forward(PlainSource(file), block=1 << 14)):
            if isinstance(line, Record) and line.type == "session_meta":
                head = parse_head(line)
                if told is not None and told.rollout_id == rollout_id and head.id == told.thread_id:
                    return told
                if told is None and head.id == rollout_id and line.timestamp is not None:
                    # Only the first file of a thread is known by the id of the thread.
                    return RolloutName(line.timestamp[:19].replace(":", "-"), rollout_id)
                return None
            if count >= HEAD_LINES:
                break
    return None


def _copy_of(room: Room, path: Path):
    def write(put: Sink) -> None:
        with contextlib.closing(room.home.fs.open_read(path)) as file:
            copied(PlainSource(file), put, 0, file.size())

    return write


def _files(room: Room, folder: Path, depth: int = 0) -> Iterator[Path]:
    try:
        entries = sorted(room.home.fs.scan(folder, stats=False))
    except OSError:
        return
    for entry in entries:
        if not entry.is_dir:
            yield folder / entry.name
        elif depth < DEEPEST:
            yield from _files(room, folder / entry.name, depth + 1)


# -- a base that is there, but not as it is told


def _own_first(room: Room, file: RolloutFile) -> int | None:
    """The ordinal of a fork's own first line: where what it inherits ended when it was made."""
    with room.opened(file) as source:
        for line in scan_forward(source, block=1 << 14):
            if isinstance(line, Record):
                return line.ordinal
    return None


def _corrected(source: ByteSource, base: Base, own: int | None, wrong: str, refused: str) -> Base:
    """What the base must be: the place in it whose ordinal is that of the fork's first line."""
    if own is None:
        raise Unsupported(refused, f"{wrong}, and its own first line has no ordinal to tell which is right")
    if own not in (base.end_ordinal_exclusive, _ordinal_at(source, base.end_byte_offset)):
        raise Unsupported(refused, f"{wrong}, and its own first ordinal {own} fits neither")
    offset = _end_before(source, own)
    if offset is None:
        raise Unsupported(refused, f"{wrong}, and the base has no line with ordinal {own - 1}")
    return Base(base.thread_id, own, offset)


def _ordinal_at(source: ByteSource, offset: int) -> int | None:
    """The ordinal due behind an offset that is the beginning of a line."""
    around = boundary(source, offset)
    if around.behind is not None or around.before is None:
        return around.behind
    return around.before + 1


def _end_before(source: ByteSource, ordinal: int) -> int | None:
    """Where the line with the ordinal below this one ends; None when it is not there exactly once."""
    found: int | None = None
    for line in scan_forward(source):
        if isinstance(line, Record) and line.ordinal == ordinal - 1:
            if found is not None:
                return None
            found = line.end
    return found


def _rewritten(room: Room, file: RolloutFile, old: Base, right: Base) -> Change:
    with room.opened(file) as source:
        line = next(
            line
            for line in scan_forward(source, block=1 << 14)
            if isinstance(line, Record) and line.type == "session_meta" and parse_head(line).history_base == old
        )
        raw = source.read_at(line.start, line.end - line.start)
    new = with_base(raw, right)
    if len(new) != len(raw):
        why = "its first line grows, and others inherit from it by byte offset"
        need_no_heirs("reattach-base", file, room.heirs(file.name.rollout_id), why)

    def write(put: Sink) -> None:
        with room.opened(file) as source:
            copied(source, put, 0, line.start)
            put(new)
            copied(source, put, line.end, source.size())

    told = " and ".join(
        f"{name} from {before} to {after}"
        for name, before, after in (
            ("end_byte_offset", old.end_byte_offset, right.end_byte_offset),
            ("end_ordinal_exclusive", old.end_ordinal_exclusive, right.end_ordinal_exclusive),
        )
        if before != after
    )
    return Change(file.path, f"set {told} in the metadata of {file.path.name}", packed(file, write))
