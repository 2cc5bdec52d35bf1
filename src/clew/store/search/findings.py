"""What a scan found in one thread, kept for the next page and, for a while, for the next process.

A finding counts as long as the files it was made from are the same. Nothing here is needed: it saves looking twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import msgspec

from clew.clock import Clock
from clew.rollout import FileSystem, RolloutFile
from clew.store.queries import Role
from clew.store.search.listing import Listed

__all__ = ["Finding", "Findings", "Match", "version_of"]

_ROWS = 250_000
"""Threads whose findings are remembered in this process, of all searches together."""
_FILES = 8
"""Searches that are kept on disk, the last ones."""
_LARGEST = 16 << 20
"""Bytes of one search that is kept on disk, at most."""
_SECONDS = 3600.0
"""How long a search is kept on disk."""
_FORMAT = 1


class Match(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A text that fits: where it stands, and the piece of it that is shown. `at` in milliseconds since 1970."""

    role: Role
    snippet: str
    marks: tuple[tuple[int, int], ...]
    at: int | None = None
    turn_id: str | None = None


class Finding(msgspec.Struct, frozen=True, array_like=True):
    """What fits in one thread: how many of its own texts and which is shown, the same for those it has by copying
    another thread, and the fingerprints of all of them."""

    count: int = 0
    shown: Match | None = None
    copied: int = 0
    shown_copied: Match | None = None
    prints: tuple[int, ...] = ()


class _Kept(msgspec.Struct, array_like=True):
    format: int
    query: str
    rows: dict[str, tuple[int, Finding | None]]


Rows = dict[str, tuple[int, Finding | None]]
"""Thread id to the version of its files and what was found in them."""


def version_of(files: Sequence[RolloutFile | Listed]) -> int:
    """A fingerprint of the files of a thread as they are: another one when one of them was written, moved or packed.
    The same in every process: it is made of numbers."""
    if len(files) == 1:
        file = files[0]
        return hash((file.size, file.mtime_ns, file.archived, file.compressed))
    return hash(tuple((file.size, file.mtime_ns, file.archived, file.compressed) for file in files))


class Findings:
    """The memory of searches. `folder` None keeps it in this process only. Safe to use from several threads."""

    def __init__(self, fs: FileSystem, folder: Path | None, clock: Clock) -> None:
        self._fs = fs
        self._folder = folder
        self._clock = clock
        self._known: OrderedDict[str, Rows] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, query: str) -> Rows:
        """What is known for a query (its words for everything that decides what fits); to be added to."""
        with self._lock:
            rows = self._known.pop(query, None)
            if rows is None:
                rows = self._read(query)
            self._known[query] = rows
            held = sum(map(len, self._known.values()))
            while held > _ROWS and len(self._known) > 1:
                held -= len(self._known.popitem(last=False)[1])
            return rows

    def keep(self, query: str, rows: Rows) -> None:
        """Keep them for the next process. What cannot be kept is not."""
        if self._folder is None:
            return
        data = msgspec.msgpack.encode(_Kept(_FORMAT, query, dict(rows)))
        if len(data) > _LARGEST:
            return
        with contextlib.suppress(OSError):
            self._fs.make_folder(self._folder)
            target = self._folder / _name(query)
            temporary = target.with_name(f"{target.name}.{os.getpid()}.{threading.get_ident()}.tmp")
            with contextlib.closing(self._fs.open_append(temporary, exclusive=True)) as file:
                file.write(data)
            self._fs.replace(temporary, target)
            self._forget_old()

    def _read(self, query: str) -> Rows:
        if self._folder is None:
            return {}
        path = self._folder / _name(query)
        try:
            if self._too_old(self._fs.stat(path).mtime_ns):
                return {}
            with contextlib.closing(self._fs.open_read(path)) as file:
                kept = msgspec.msgpack.decode(file.read_at(0, _LARGEST + 1), type=_Kept)
        except (OSError, msgspec.DecodeError):
            return {}
        return kept.rows if kept.format == _FORMAT and kept.query == query else {}

    def _too_old(self, mtime_ns: int) -> bool:
        return not -60 < self._clock.now() - mtime_ns / 1e9 < _SECONDS

    def _forget_old(self) -> None:
        assert self._folder is not None
        kept = sorted(
            (entry for entry in self._fs.scan(self._folder) if entry.name.startswith("search-")),
            key=lambda entry: entry.mtime_ns,
            reverse=True,
        )
        for place, entry in enumerate(kept):
            if place >= _FILES or self._too_old(entry.mtime_ns):
                with contextlib.suppress(OSError):
                    self._fs.unlink(self._folder / entry.name)


def _name(query: str) -> str:
    return f"search-{hashlib.blake2b(query.encode(errors='surrogatepass'), digest_size=16).hexdigest()}"
