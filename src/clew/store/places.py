"""Everything that lies in the two homes, and what it is there for."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec

from clew.rollout import FileSystem, Home, RolloutName

__all__ = ["Kind", "Lying", "walk"]

Kind = str
"""What a file is there for: `threads`, `leftovers` (half-written and superseded files beside rollouts), `trash`,
`backups` (originals that repairs kept), `index`, `cache`, `locks`, `marks` (names, tags, journals), `databases` (Codex'
own), `other`."""

_DEEPEST = 24
_DATABASE = re.compile(r".*\.sqlite(?:-wal|-shm|-journal)?(?:\.lock)?")
_INDEX = re.compile(r"index.*\.sqlite3.*")
_MARKS = frozenset({"session_index.jsonl", "session_index.jsonl.lock", "saved_sessions.json", "shelf.jsonl"})
_CODEX_FOLDERS = {".clew-trash": "trash", "thread-writer-locks": "locks", ".tmp": "locks", "db-backups": "databases"}
_CLEW_FOLDERS = {"trash": "trash", "backups": "backups", "cache": "cache", "owners": "locks"}


class Lying(msgspec.Struct, frozen=True, gc=False):
    """A file that lies somewhere: `size` is its length, `disk` what it takes on the disk, both in bytes."""

    kind: Kind
    path: Path
    size: int
    disk: int
    mtime_ns: int


def walk(home: Home, clew_home: Path, rollouts: Collection[Path]) -> Iterator[Lying]:
    """Every file of both homes, in no promised order; `rollouts` are those that are read as threads. Symbolic links
    are not followed, folders that cannot be read are passed over."""
    codex, own = home.path, clew_home
    yield from _below(home.fs, codex, "", _Codex(codex, rollouts), {own})
    yield from _below(home.fs, own, "", _Clew(own), {codex})


class _Codex:
    def __init__(self, root: Path, rollouts: Collection[Path]) -> None:
        self._root = root
        self._rollouts = rollouts

    def kind(self, path: Path, first: str) -> Kind:
        if path in self._rollouts:
            return "threads"
        name = path.name
        if first in ("sessions", "archived_sessions"):
            return "leftovers" if name.endswith(".tmp") or RolloutName.parse(name) is not None else "other"
        if path.parent == self._root:
            if name in _MARKS:
                return "marks"
            return "databases" if _DATABASE.fullmatch(name) else "other"
        return _CODEX_FOLDERS.get(first, "databases" if first.endswith(".db-backups") else "other")


class _Clew:
    def __init__(self, root: Path) -> None:
        self._root = root

    def kind(self, path: Path, first: str) -> Kind:
        if path.parent != self._root:
            return _CLEW_FOLDERS.get(first, "other")
        if path.name == "trash.jsonl":
            return "trash"
        if _INDEX.fullmatch(path.name):
            return "index"
        return "marks" if path.name in _MARKS else "other"


def _below(
    fs: FileSystem, folder: Path, first: str, home: _Codex | _Clew, others: Collection[Path], depth: int = 0
) -> Iterator[Lying]:
    try:
        entries = fs.scan(folder)
    except OSError:
        return
    for entry in entries:
        path = folder / entry.name
        if entry.is_dir:
            if depth < _DEEPEST and path not in others:
                yield from _below(fs, path, first or entry.name, home, others, depth + 1)
            continue
        try:
            status = fs.stat(path)
        except OSError:
            continue  # gone meanwhile
        yield Lying(home.kind(path, first), path, status.size, status.disk, status.mtime_ns)
