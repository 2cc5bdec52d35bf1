"""Which threads hang together: whom a thread spawned, and who inherits lines from its files. Told from the disk alone.

Both look into the beginnings of files; none that began before the thread did can descend from it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from clew.errors import ClewError
from clew.history.metadata import ThreadMeta, read_meta
from clew.rollout import Home, RolloutFile, canonical_id, read_head

__all__ = ["descendants_on_disk", "heirs_on_disk"]

_SLACK = 2 * 86_400
"""Seconds by which the clocks and zones of two machines may differ."""


def descendants_on_disk(home: Home, thread_id: str) -> Sequence[str]:
    """The threads that a thread spawned, at any depth, each behind the one that spawned it."""
    children: dict[str, list[str]] = {}
    for file, meta in _metas(home, (thread_id,)):
        parent = canonical_id(meta.parent_id) if meta.parent_id else None
        if parent is not None and file.thread_id not in children.setdefault(parent, []):
            children[parent].append(file.thread_id)
    found = {thread_id: None}
    for above in (ordered := [thread_id]):
        for child in children.get(above, ()):
            if child not in found:
                found[child] = None
                ordered.append(child)
    return tuple(ordered[1:])


def heirs_on_disk(home: Home, thread_ids: Collection[str]) -> Sequence[str]:
    """The other threads that inherit lines from a file of these: forks by reference, also of earlier segments."""
    bases = {
        file.name.rollout_id
        for thread_id in thread_ids
        if (files := home.find(thread_id)) is not None
        for file in (*files.segments, *files.doubles)
    }
    found: dict[str, None] = {}
    for file, meta in _metas(home, thread_ids):
        base = canonical_id(meta.base.file_id) if meta.base is not None else None
        if base in bases and file.thread_id not in thread_ids:
            found[file.thread_id] = None
    return tuple(found)


def _metas(home: Home, since: Collection[str]) -> Iterator[tuple[RolloutFile, ThreadMeta]]:
    """The metadata of all files that began with the first of these threads or later."""
    began = [
        moment.timestamp()
        for thread_id in since
        if (files := home.find(thread_id)) is not None and (moment := files.segments[0].name.time) is not None
    ]
    earliest = min(began, default=0.0) - _SLACK
    for file in home.files():
        moment = file.name.time
        if moment is not None and moment.timestamp() < earliest:
            continue
        try:
            yield file, read_meta(read_head(home, file), path=str(file.plain_path))
        except (ClewError, OSError):
            continue  # it cannot be read, so it can neither be opened nor inherit anything
