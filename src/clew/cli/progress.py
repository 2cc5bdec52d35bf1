"""How far long work is, on standard error, once it takes longer than a moment."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

from clew.cli import terminal
from clew.store.queries import SearchProgress

__all__ = ["Progress"]

_PATIENCE = 1.0
_STEP = 0.2


class Progress:
    """Told from any thread how far it is; says it only to a person who looks."""

    def __init__(self, doing: str, now: Callable[[], float] = time.monotonic) -> None:
        self._doing = doing
        self._now = now
        self._next = now() + _PATIENCE
        self._shown = False
        self._over = not terminal.is_terminal(sys.stderr)
        self._lock = threading.Lock()

    def __call__(self, at: SearchProgress) -> None:
        with self._lock:
            if self._over or self._now() < self._next:
                return
            self._next = self._now() + _STEP
            self._shown = True
            share = 100 * at.bytes // max(1, at.all_bytes)
            sys.stderr.write(f"\r\x1b[K{self._doing}: {at.files} of {at.all_files} files, {share} %")
            sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away; nothing is said any more, whoever still works."""
        with self._lock:
            self._over = True
            if self._shown:
                self._shown = False
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()
