"""The threads of a home in the order of a list, without opening a file, and without more work than a page needs.

Nearly all names in a home are made alike, and each is the only one of its thread. Such names are sorted as texts and
taken apart only when it is their turn; threads of several files, and names of other hands, are looked at in full.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from clew.rollout import Home, RolloutFile, RolloutName, ThreadFiles
from clew.rollout.layout import DEEPEST
from clew.store.order import Order, Place

__all__ = ["threads_in_order"]

_PLAIN, _PACKED = 70, 74
"""Lengths of the usual names: `rollout-2026-07-01T12-00-00-<UUID>.jsonl`, and with `.zst`."""
_STAMP, _ID = slice(8, 27), slice(28, 64)


class _Folder(NamedTuple):
    path: Path
    archived: bool
    usual: list[str]
    others: list[str]


def threads_in_order(home: Home, order: Order, *, archived: bool | None = None) -> Iterator[tuple[Place, ThreadFiles]]:
    """Every thread behind the order's cursor once, with its place; for orders that need no file opened. `archived`
    leaves out the others."""
    folders = [*_folders(home, home.sessions, archived=False), *_folders(home, home.archived_sessions, archived=True)]
    odd, special = _odd_threads(folders)
    threads: list[tuple[Place, ThreadFiles]] = []
    for thread_id, paths in special.items():
        found = [file for path in paths if (file := home.locate(path)) is not None]
        if found:
            files = home.thread_of(thread_id, found)
            threads.append((order.place(files), files))
    threads = [(place, files) for place, files in threads if archived in (None, files.archived)]
    threads.sort(key=_place, reverse=not order.ascending)
    if archived is not None:
        folders = [folder for folder in folders if folder.archived == archived]
    usual = _by_name(home, order, folders, odd) if order.sort == "created" else _by_stat(home, order, folders, odd)
    for place, files in heapq.merge(threads, usual, key=_place, reverse=not order.ascending):
        if not order.passed(place):
            yield place, files


def _place(found: tuple[Place, ThreadFiles]) -> Place:
    return found[0]


def _folders(home: Home, folder: Path, *, archived: bool, depth: int = 0) -> Iterator[_Folder]:
    try:
        files, folders = home.fs.names(folder)
    except OSError:
        return
    if files:
        usual = [name for name in files if len(name) == _PLAIN]
        others: list[str] = []
        if len(usual) < len(files):
            packed = [name for name in files if len(name) == _PACKED and name.endswith(".zst")]
            others = [name for name in files if len(name) not in (_PLAIN, _PACKED) or not _usual(name)]
            usual += packed
        yield _Folder(folder, archived, usual, others)
    if depth < DEEPEST:
        for name in folders:
            yield from _folders(home, folder / name, archived=archived, depth=depth + 1)


def _usual(name: str) -> bool:
    return len(name) == _PLAIN or (len(name) == _PACKED and name.endswith(".zst"))


def _odd_threads(folders: Sequence[_Folder]) -> tuple[frozenset[str], dict[str, list[Path]]]:
    """The ids, as names spell them, of threads that have several files or a name that is not the usual one; and all
    files of each such thread."""
    ids = [name[28:64] for folder in folders for name in folder.usual]
    special: set[str] = set()
    for folder in folders:
        for name in folder.others:
            if (parsed := RolloutName.parse(name)) is not None:
                special.add(parsed.thread_id)
    whole = "".join(ids)
    lower = ids if whole == whole.lower() else [thread_id.lower() for thread_id in ids]
    if len(set(lower)) < len(lower):
        special.update(thread_id for thread_id, count in Counter(lower).items() if count > 1)
    if lower is not ids:
        special.update(low for low, thread_id in zip(lower, ids, strict=True) if low != thread_id)
    if not special:
        return frozenset(), {}
    found: dict[str, list[Path]] = {thread_id: [] for thread_id in special}
    for folder in folders:
        chosen = [name for name in folder.usual if name[_ID].lower() in special]
        for name in (*chosen, *folder.others):
            if (parsed := RolloutName.parse(name)) is not None:
                found[parsed.thread_id].append(folder.path / name)
    spelt = (thread_id for thread_id in ids if lower is not ids and thread_id.lower() in special)
    return frozenset(special).union(spelt), found


def _by_name(
    home: Home, order: Order, folders: Sequence[_Folder], odd: frozenset[str]
) -> Iterator[tuple[Place, ThreadFiles]]:
    """The usual threads by their names. A folder is sorted when it is its turn."""
    first = min if order.ascending else max
    waiting = [_Queue(first(folder.usual), folder, order.ascending) for folder in folders if folder.usual]
    heapq.heapify(waiting)
    while waiting:
        queue = waiting[0]
        name = queue.pop()
        if queue.names:
            heapq.heapreplace(waiting, queue)
        else:
            heapq.heappop(waiting)
        place = name[_STAMP], name[_ID]
        if order.passed(place) or place[1] in odd or (parsed := RolloutName.parse(name)) is None:
            continue
        file = home.locate(queue.folder.path / name)
        if file is not None:
            yield place, ThreadFiles(parsed.thread_id, (file,))


class _Queue:
    """The names of one folder, first one first."""

    def __init__(self, first: str, folder: _Folder, ascending: bool) -> None:
        self.first = first
        self.names = folder.usual
        self.folder = folder
        self._ascending = ascending
        self._sorted = False

    def pop(self) -> str:
        if not self._sorted:
            self.names.sort(reverse=self._ascending)
            self._sorted = True
        name = self.names.pop()
        if self.names:
            self.first = self.names[-1]
        return name

    def __lt__(self, other: _Queue) -> bool:
        return self.first < other.first if self._ascending else self.first > other.first


def _by_stat(
    home: Home, order: Order, folders: Sequence[_Folder], odd: frozenset[str]
) -> Iterator[tuple[Place, ThreadFiles]]:
    """The usual threads by what the disk says of their files."""
    found: list[tuple[int, str, str, _Folder, int, int]] = []
    updated = order.sort == "updated"
    for folder in folders:
        try:
            entries = home.fs.scan(folder.path)
        except OSError:
            continue
        for name, is_dir, size, mtime_ns, _ in entries:
            if not is_dir and _usual(name) and name[_ID] not in odd:
                found.append((mtime_ns if updated else size, name[_ID], name, folder, size, mtime_ns))
    found.sort(key=lambda one: one[:2], reverse=not order.ascending)
    for key, thread_id, name, folder, size, mtime_ns in found:
        if order.passed((key, thread_id)) or (parsed := RolloutName.parse(name)) is None:
            continue
        file = RolloutFile(folder.path / name, parsed, folder.archived, size, mtime_ns)
        yield (key, thread_id), ThreadFiles(thread_id, (file,))
