"""Which threads hang together: whom a thread spawned, and who inherits lines from its files. Told from the disk alone.

Both look into the beginnings of files; none that began before the thread did can descend from it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence

from clew.errors import ClewError
from clew.history.metadata import ThreadMeta, read_meta
from clew.rollout import Home, RolloutFile, ThreadFiles, canonical_id, read_head
from clew.rollout.names import id_milliseconds

__all__ = ["descendants_on_disk", "heirs_on_disk", "inherits", "is_spawned"]

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


def heirs_on_disk(home: Home, rollout_ids: Collection[str]) -> Sequence[str]:
    """The threads with a file that inherits lines from one of these; each is the last id of a file's name."""
    bases = {wanted for rollout_id in rollout_ids if (wanted := canonical_id(rollout_id)) is not None}
    found: dict[str, None] = {}
    for file, meta in _metas(home, bases):
        if meta.base is not None and canonical_id(meta.base.file_id) in bases:
            found[file.thread_id] = None
    return tuple(found)


def is_spawned(home: Home, files: ThreadFiles, by: Collection[str]) -> bool:
    """Whether a thread says that one of these spawned it."""
    return any(meta.parent_id and canonical_id(meta.parent_id) in by for meta in _read(home, files))


def inherits(home: Home, files: ThreadFiles, rollout_ids: Collection[str]) -> bool:
    """Whether a thread has a file that inherits lines from one of these."""
    return any(meta.base is not None and canonical_id(meta.base.file_id) in rollout_ids for meta in _read(home, files))


def _read(home: Home, files: ThreadFiles) -> Iterator[ThreadMeta]:
    for file in (*files.segments, *files.doubles):
        with contextlib.suppress(ClewError, OSError):
            yield read_meta(read_head(home, file), path=str(file.plain_path))


def _metas(home: Home, since: Collection[str]) -> Iterator[tuple[RolloutFile, ThreadMeta]]:
    """The metadata of all files that began when the first of these ids was made, or later."""
    made = [id_milliseconds(one) for one in since]
    earliest = min((0 if one is None else one) / 1000 for one in made) - _SLACK if made else 0.0
    for file in home.files():
        moment = file.name.time
        if moment is not None and moment.timestamp() < earliest:
            continue
        try:
            yield file, read_meta(read_head(home, file), path=str(file.plain_path))
        except (ClewError, OSError):
            continue  # it cannot be read, so it can neither be opened nor inherit anything
