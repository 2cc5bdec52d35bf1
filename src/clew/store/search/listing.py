"""Every thread of a home on a real disk, as briefly as a search needs it: nearly all of them turn out to hold nothing,
so that little is made for each."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from clew.rollout import Home, RolloutFile, RolloutName, ThreadFiles
from clew.rollout.layout import DEEPEST

__all__ = ["Listed", "listed_threads"]

_USUAL = re.compile(
    r"rollout-.{19}-([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\.jsonl(?:\.zst)?"
).fullmatch


class Listed(NamedTuple):
    """A rollout as its folder (relative to the home) lists it. `changed_ns`: when it was written, moved or renamed
    last, in nanoseconds since 1970."""

    folder: str
    name: str
    archived: bool
    size: int
    mtime_ns: int
    changed_ns: int

    @property
    def compressed(self) -> bool:
        return self.name.endswith(".zst")

    def file(self, home: Home) -> RolloutFile:
        name = RolloutName.parse(self.name)
        assert name is not None
        return RolloutFile(
            Path(f"{home.path}/{self.folder}/{self.name}"), name, self.archived, self.size, self.mtime_ns
        )


def listed_threads(home: Home) -> Iterator[tuple[str, Listed | ThreadFiles]]:
    """Every thread once, in no promised order, by its only file where it has no other. The same threads as
    `Home.threads` tells."""
    only: dict[str, Listed] = {}
    several: dict[str, list[Listed]] = {}
    for root in (home.sessions.name, home.archived_sessions.name):
        for thread_id, listed in _listed(str(home.path), root, archived=root != home.sessions.name):
            if thread_id in only:
                several.setdefault(thread_id, [only[thread_id]]).append(listed)
            else:
                only[thread_id] = listed
    for thread_id, listed in only.items():
        more = several.get(thread_id)
        yield thread_id, home.thread_of(thread_id, [one.file(home) for one in more]) if more else listed


def _listed(home: str, root: str, *, archived: bool) -> Iterator[tuple[str, Listed]]:
    folders = [(root, 0)]
    while folders:
        folder, depth = folders.pop()
        try:
            entries = os.scandir(f"{home}/{folder}")
        except OSError:
            continue
        with entries:
            for entry in entries:
                name = entry.name
                if entry.is_dir(follow_symlinks=False):
                    if depth < DEEPEST:
                        folders.append((f"{folder}/{name}", depth + 1))
                elif (thread_id := _thread_of(name)) is not None and entry.is_file(follow_symlinks=False):
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    yield (
                        thread_id,
                        Listed(folder, name, archived, status.st_size, status.st_mtime_ns, status.st_ctime_ns),
                    )


def _thread_of(name: str) -> str | None:
    usual = _USUAL(name)
    if usual is not None:
        return usual[1]
    parsed = RolloutName.parse(name)
    return None if parsed is None else parsed.thread_id
