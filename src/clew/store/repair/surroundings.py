"""Surgeries on what lies around the logs: the index of names, locks and owner records left behind."""

from __future__ import annotations

import contextlib
from collections import Counter

from clew.rollout.source import PlainSource
from clew.store.backups import Change, Sink
from clew.store.home_check import NameLine, find_stale, name_rows
from clew.store.repair.rewriting import copied
from clew.store.repair.room import Room

__all__ = ["drop_stale_locks", "rebuild_names"]


def rebuild_names(room: Room) -> list[Change]:
    """`session_index.jsonl` without rows that cannot be read, and without those of threads that are not there."""
    known = {file.thread_id for file in room.home.files()}
    kept: list[NameLine] = []
    dropped: Counter[str] = Counter()
    for row in name_rows(room.home):
        if row.thread_id is None:
            dropped["unreadable"] += 1
        elif row.thread_id not in known:
            dropped["orphaned"] += 1
        else:
            kept.append(row)
    if not dropped:
        return []
    path = room.home.session_index

    def write(put: Sink) -> None:
        with contextlib.closing(room.home.fs.open_read(path)) as file:
            for row in kept:
                copied(PlainSource(file), put, row.offset, row.end)
                if file.read_at(row.end - 1, 1) != b"\n":
                    put(b"\n")

    told = " and ".join(f"{count} {kind}" for kind, count in sorted(dropped.items()))
    return [Change(path, f"leave {told} rows out of {path.name}, keep {len(kept)}", write)]


def drop_stale_locks(room: Room) -> list[Change]:
    """Remove lock files nobody holds and owner records without a lock."""
    return [
        Change(stale.path, f"remove {stale.path.name}: {stale.why}", None)
        for stale in find_stale(room.home, room.clew_home)
    ]
