"""The names of a home's threads, read again only when their file changed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import NamedTuple

from clew.rollout import Home, NameIndex

__all__ = ["CachedNames", "Names"]

RACY_NS = 20_000_000
"""A time younger than this when it was read may stay the same while more is written."""
REMEMBERED = 32
"""Changes of which it is remembered whose names they were."""


class Names(NamedTuple):
    """The current name of every thread that has one. `version` stays the same while the names do, where it is
    `sure`."""

    version: str
    sure: bool
    names: Mapping[str, str]


class _Step(NamedTuple):
    before: str
    after: str
    threads: frozenset[str]


class CachedNames:
    """`session_index.jsonl` as a mapping from ids to names. `now_ns` is the clock that the disk's times come from."""

    def __init__(self, home: Home, now_ns: Callable[[], int]) -> None:
        self._home = home
        self._index = NameIndex(home)
        self._now_ns = now_ns
        self._lock = threading.Lock()
        self._known = Names("", False, MappingProxyType({}))
        self._steps: list[_Step] = []
        self._unsure = 0

    def names(self) -> Mapping[str, str]:
        """The current name of every thread that has one."""
        return self.current().names

    def current(self) -> Names:
        with self._lock:
            version, sure = self._version()
            if version != self._known.version:
                self._take(version, sure)
            return self._known

    def changed(self, before: str, after: str) -> Collection[str] | None:
        """The threads that may be called otherwise in the second version than in the first; None where that is not
        known."""
        with self._lock:
            found: set[str] = set()
            for step in reversed(self._steps):
                if after == before:
                    break
                if step.after == after:
                    found |= step.threads
                    after = step.before
            return found if after == before else None

    def _version(self) -> tuple[str, bool]:
        now = self._now_ns()
        try:
            status = self._home.fs.stat(self._home.session_index)
        except OSError:
            return "none", True
        version = f"{status.identity.device}:{status.identity.inode}:{status.size}:{status.mtime_ns}"
        if abs(now - status.mtime_ns) > RACY_NS:
            return version, True
        self._unsure += 1
        return f"{version}:{now}:{self._unsure}", False

    def _take(self, version: str, sure: bool) -> None:
        named, touched = self._index.look()
        if touched is None or not self._known.version:
            self._steps = []
        else:
            self._steps = [*self._steps[1 - REMEMBERED :], _Step(self._known.version, version, touched)]
        self._known = Names(version, sure, MappingProxyType(named))
