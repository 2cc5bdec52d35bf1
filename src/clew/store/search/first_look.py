"""A first look at all plain files of a home, while its folders are still being listed: most of them hold nothing."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence

from clew.errors import SearchStopped
from clew.rollout import Home
from clew.store.queries import Stop
from clew.store.search.listing import Listed
from clew.store.search.ripgrep import Ripgrep, RipgrepFailed, is_large

__all__ = ["FirstLook"]

_SETTLED = 2_000_000_000
"""Nanoseconds for which a file and its folder must have been left alone before the look, for what was seen to be what
is there."""


class FirstLook:
    """Begins to look when it is made, in a thread of its own; ends when `stop` says so."""

    def __init__(self, home: Home, ripgrep: Ripgrep, needles: Sequence[str], stop: Stop) -> None:
        self._home = home
        self._ripgrep = ripgrep
        self._needles = needles
        self._stop = stop
        self._settled = time.time_ns() - _SETTLED
        self._holding: frozenset[str] | None = None
        self._still: dict[str, bool] = {}
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

    def is_empty(self, file: Listed) -> bool:
        """Whether a file that was listed is known to hold nothing. To be asked when the look is over."""
        return (
            self._holding is not None
            and file.changed_ns < self._settled
            and file.mtime_ns < self._settled
            and not file.compressed
            and not is_large(file.size)
            and f"{file.folder}/{file.name}" not in self._holding
            and self._is_still(file.folder)
        )

    def _is_still(self, folder: str) -> bool:
        """Whether nothing came into a folder or left it since before the look: whoever packed or moved a file
        meanwhile may have hidden it."""
        known = self._still.get(folder)
        if known is None:
            known = self._still[folder] = self._was_left_alone(folder)
        return known

    def _was_left_alone(self, folder: str) -> bool:
        try:
            status = os.lstat(self._home.path / folder)
        except OSError:
            return False
        if status.st_mtime_ns >= self._settled or status.st_ctime_ns >= self._settled:
            return False
        above = folder.rpartition("/")[0]
        return not above or self._is_still(above)
