"""A first look at all plain files of a home, while its folders are still being walked: most of them hold nothing."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence

from clew.errors import SearchStopped
from clew.rollout import Home, RolloutFile
from clew.store.queries import Stop
from clew.store.search.ripgrep import Ripgrep, RipgrepFailed, is_large

__all__ = ["FirstLook"]

_SETTLED = 2_000_000_000
"""Nanoseconds for which a file must have been left alone before the look, for what was seen to be what is there."""


class FirstLook:
    """Begins to look when it is made, in a thread of its own; ends when `stop` says so."""

    def __init__(self, home: Home, ripgrep: Ripgrep, needles: Sequence[str], stop: Stop) -> None:
        self._home = home
        self._ripgrep = ripgrep
        self._needles = needles
        self._stop = stop
        self._above = len(str(home.path)) + 1
        self._settled = time.time_ns() - _SETTLED
        self._holding: frozenset[str] | None = None
        self._thread = threading.Thread(target=self._look, name="clew-first-look", daemon=True)
        self._thread.start()

    def _look(self) -> None:
        folders = (self._home.sessions, self._home.archived_sessions)
        names = [folder.name for folder in folders if folder.is_dir()]
        if not names:
            return
        try:
            holding, whole = self._ripgrep.below(self._home.path, names, self._needles, stop=self._stop)
        except (RipgrepFailed, SearchStopped):
            return  # then every file is looked at in its turn, and whoever does that will be told
        if whole:
            self._holding = holding

    def join(self) -> None:
        self._thread.join()

    def is_empty(self, file: RolloutFile) -> bool:
        """Whether a file is known to hold nothing. Waits for the look to end."""
        self._thread.join()
        holding = self._holding
        if holding is None or file.compressed or file.mtime_ns >= self._settled or is_large(file.size):
            return False
        return str(file.path)[self._above :] not in holding and _as_it_was(file)


def _as_it_was(file: RolloutFile) -> bool:
    """Whether a file is there still: who packed or moved it meanwhile may have hidden it from the look."""
    try:
        status = os.stat(file.path)  # noqa: PTH116 - ten thousand of them
    except OSError:
        return False
    return status.st_size == file.size and status.st_mtime_ns == file.mtime_ns
