"""Work on the index beside everything else, in a thread that never keeps the process from ending."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from clew.index.database import IndexUnavailable

if TYPE_CHECKING:
    from clew.store.index_worker import IndexWorker

__all__ = ["Background"]

PAUSE_SECONDS = 2.0
"""Between two looks whether there is something to do."""
NICE = 10


class Background:
    """Runs `worker` when somebody wakes it and `waiting` tells that there is something to do."""

    def __init__(self, worker: Callable[[], IndexWorker], waiting: Callable[[], bool]) -> None:
        self._worker = worker
        self._waiting = waiting
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._looked = -PAUSE_SECONDS

    def wake(self) -> None:
        """Look whether there is something to do, and begin it. Costs nothing most of the time."""
        with self._lock:
            now = time.monotonic()
            if self._stop.is_set() or now - self._looked < PAUSE_SECONDS or self.busy:
                return
            self._looked = now
            if self._waiting():
                self._thread = threading.Thread(target=self._run, name="clew-index", daemon=True)
                self._thread.start()

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def close(self) -> None:
        """End after the batch at hand."""
        self._stop.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        try:
            self._worker().run(stop=self._stop.is_set)
        except IndexUnavailable:
            return  # whoever asks next is told why
