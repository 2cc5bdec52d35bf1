"""Bringing the index up to what the disk is, all of it, beside everything else.

Every step is a transaction of its own: this can end at any moment, in any process, and goes on where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from clew.index.catalog import ThreadTable
from clew.index.database import Database, Sql
from clew.index.digestion import Digester, LocalDigester
from clew.index.helpers import start_helpers
from clew.index.merging import merge_pieces
from clew.index.reconcile import Reconciler
from clew.index.schema import LATE_DDL
from clew.index.turn_places import forget_vanished
from clew.rollout import File, FileSystem, Home, RealFileSystem
from clew.store.intake import Intake, WorkReport, waiting_files
from clew.store.names import CachedNames
from clew.store.row_upkeep import fact, refresh, set_fact, take_names

__all__ = ["IndexWorker"]

AT_ONCE = 100
"""Stale threads whose rows are made in one transaction."""
WORTH_HELPERS = 64 << 20
"""Bytes to be read that other processes are started for."""
BACKGROUND_MILLISECONDS = 5000


class IndexWorker:
    """Brings the index up to the disk as a whole; one at a time per home, whatever the process."""

    def __init__(
        self,
        home: Home,
        clew_home: Path,
        *,
        notify: Callable[[str], None] | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._home = home
        self._clew_home = clew_home
        self._names = CachedNames(home, now_ns)
        self._database = Database(clew_home, home.path, busy_milliseconds=BACKGROUND_MILLISECONDS, notify=notify)
        self._reconciler = Reconciler(home, now_ns)
        self._intake = Intake(home, self._names)

    def run(
        self,
        *,
        stop: Callable[[], bool] = lambda: False,
        progress: Callable[[WorkReport], None] | None = None,
    ) -> WorkReport:
        """One run. Ends within a batch when `stop` tells so. Raises `IndexUnavailable`."""
        report = WorkReport()
        try:
            with self._database.using() as sql, self._alone() as alone:
                if not alone:
                    report.elsewhere = True
                    return report
                self._run(sql, stop, progress or (lambda report: None), report)
        finally:
            self._database.close()
        return report

    @contextmanager
    def _alone(self) -> Generator[bool]:
        path = self._database.path
        assert path is not None
        lock: File | None = None
        fs = _real(self._home.fs)
        try:
            lock = fs.open_append(path.with_name(f"{path.name}.lock"))
            yield lock.try_lock()
        finally:
            if lock is not None:
                lock.close()

    def _run(
        self, sql: Sql, stop: Callable[[], bool], progress: Callable[[WorkReport], None], report: WorkReport
    ) -> None:
        with self._readers() as readers:
            for changes in self._reconciler.sweep(sql, stop=stop):
                with sql.writing():
                    self._reconciler.apply(sql, changes)
                # They get ready while the rest of the folders is looked at.
                if not readers and self._worth_helpers(sql):
                    readers += start_helpers()
            if stop():
                return
            take_names(sql, self._home, self._names)
            self._intake.follow_moves(sql)
            report.total = sql.one("SELECT count(*) FROM entries WHERE NOT taken")
            place: tuple[int, int] | None = None
            while not stop() and (chunk := waiting_files(sql, place)):
                place = chunk[-1].mtime_ns, chunk[-1].id
                self._intake.take(sql, chunk, readers or [LocalDigester(self._home.fs)], stop, progress, report)
        while not stop() and (stale := ThreadTable(sql).stale(AT_ONCE)):
            refresh(sql, self._home, self._names.names(), stale)
        if not stop():
            with sql.writing():
                first = not fact(sql, "complete")
                if first:
                    for statement in LATE_DDL:
                        sql.run(statement)
                forget_vanished(sql)
                set_fact(sql, "complete", 1)
                set_fact(sql, "swept", time.time())
            report.complete = True
            progress(report)
            merge_pieces(sql, everything=first, stop=stop)
            sql.one("PRAGMA wal_checkpoint(PASSIVE)")

    @contextmanager
    def _readers(self) -> Generator[list[Digester]]:
        """A place for helpers, which are ended with it."""
        readers: list[Digester] = []
        try:
            yield readers
        finally:
            for reader in readers:
                reader.close()

    def _worth_helpers(self, sql: Sql) -> bool:
        size = sql.one("SELECT ifnull(sum(size), 0) FROM entries WHERE NOT taken")
        return isinstance(self._home.fs, RealFileSystem) and size >= WORTH_HELPERS


def _real(fs: FileSystem) -> FileSystem:
    # The index lies on the machine's own disk, also where a home is simulated.
    return fs if isinstance(fs, RealFileSystem) else RealFileSystem()
