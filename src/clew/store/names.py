"""The names of a home's threads, read again only when their file changed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType

from clew.rollout import Home, NameIndex

__all__ = ["CachedNames"]

RACY_NS = 20_000_000
"""A time younger than this when it was read may stay the same while more is written."""


class CachedNames:
    """`session_index.jsonl` as a mapping from ids to names. `now_ns` is the clock that the disk's times come from."""

    def __init__(self, home: Home, now_ns: Callable[[], int]) -> None:
        self._home = home
        self._index = NameIndex(home)
        self._now_ns = now_ns
        self._lock = threading.Lock()
        self._version: str | None = None
        self._names: Mapping[str, str] = MappingProxyType({})
        self._unsure = 0

    def version(self) -> str:
        """Stays the same while the names do."""
        now = self._now_ns()
        try:
            status = self._home.fs.stat(self._home.session_index)
        except OSError:
            return "none"
        version = f"{status.identity.device}:{status.identity.inode}:{status.size}:{status.mtime_ns}"
        if abs(now - status.mtime_ns) > RACY_NS:
            return version
        self._unsure += 1
        return f"{version}:{now}:{self._unsure}"

    def names(self) -> Mapping[str, str]:
        """The current name of every thread that has one."""
        version = self.version()
        with self._lock:
            if version != self._version:
                self._names, self._version = MappingProxyType(self._index.names()), version
            return self._names
