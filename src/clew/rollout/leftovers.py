"""Temporary files beside rollouts: `<rollout>.<what for>.<process>.<n>.tmp`. No reader takes one for a rollout.

A program that is killed in its work leaves one behind. It is removed when there is work of the same kind again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from clew.rollout.filesystem import File, FileSystem

__all__ = ["CREATING", "UNPACKING", "new_beside", "remove_dead", "remove_old"]

CREATING = "create"
UNPACKING = "decompress"
"""The word that Codex uses too."""

OLD_NS = 3_600_000_000_000

_NAME = re.compile(r"(?P<rollout>rollout-.+\.jsonl)\.(?P<use>[a-z]+)\.(?P<process>[0-9]{1,10})\.[0-9]+\.tmp")


def new_beside(fs: FileSystem, path: Path, use: str, process: int) -> File:
    """A new file beside a rollout, open for appending."""
    for attempt in range(1000):
        with contextlib.suppress(FileExistsError):
            return fs.open_append(path.with_name(f"{path.name}.{use}.{process}.{attempt}.tmp"), exclusive=True)
    raise FileExistsError(errno.EEXIST, "too many temporary files of this name", str(path))


def remove_old(fs: FileSystem, folder: Path, use: str, now: float) -> None:
    """Remove what is older than an hour, in a folder of rollouts and in that of the day before. `now`: seconds since
    1970. What cannot be removed stays."""
    for place in filter(None, (folder, _day_before(fs, folder))):
        for match in _left(fs, place, use):
            path = place / match[0]
            with contextlib.suppress(OSError):
                if now * 1_000_000_000 - fs.stat(path).mtime_ns > OLD_NS:
                    fs.unlink(path)


def remove_dead(fs: FileSystem, path: Path, use: str, process: int) -> None:
    """Remove what dead processes left beside the rollout `path`, whose lock the caller (`process`) holds; of other
    rollouts only what has become of no use, because the rollout itself is there. What cannot be removed stays."""
    for match in _left(fs, path.parent, use):
        of = int(match["process"])
        with contextlib.suppress(OSError):
            if match["rollout"] == path.name:
                useless = of == process or not _alive(of)
            else:
                useless = not _alive(of) and not fs.stat(path.with_name(match["rollout"])).is_dir
            if useless:
                fs.unlink(path.with_name(match[0]))


def _left(fs: FileSystem, folder: Path, use: str) -> Iterator[re.Match[str]]:
    try:
        entries = fs.scan(folder, stats=False)
    except OSError:
        return
    for entry in entries:
        if entry.name.endswith(".tmp") and not entry.is_dir:
            match = _NAME.fullmatch(entry.name)
            if match is not None and match["use"] == use:
                yield match


def _day_before(fs: FileSystem, folder: Path) -> Path | None:
    """The folder of the last day before that has one."""
    down: list[str] = []
    for _ in range(3):
        if not (folder.name.isascii() and folder.name.isdecimal()):
            return None
        earlier = [name for name in _numbers(fs, folder.parent) if int(name) < int(folder.name)]
        if earlier:
            found = folder.parent / max(earlier, key=int)
            for _ in down:
                inside = _numbers(fs, found)
                if not inside:
                    return None
                found /= max(inside, key=int)
            return found
        down.append(folder.name)
        folder = folder.parent
    return None


def _numbers(fs: FileSystem, folder: Path) -> list[str]:
    try:
        entries = fs.scan(folder, stats=False)
    except OSError:
        return []
    return [entry.name for entry in entries if entry.is_dir and entry.name.isascii() and entry.name.isdecimal()]


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
