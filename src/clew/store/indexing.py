"""Bringing the index up to what the disk is before an answer: a bounded look, and the rows of what changed made anew.

All the rest is for `index_worker`. Loaded by every short command: what reads logs is loaded where it is needed.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from clew.index.catalog import ThreadTable
from clew.index.database import Database, IndexUnavailable, Sql
from clew.index.reconcile import Reconciler, SeenFile, files_of
from clew.rollout import Home
from clew.store.moves import Moved
from clew.store.names import CachedNames
from clew.store.queries import Look, ThreadSummary
from clew.store.row_upkeep import fact, refresh, retell, take_names

if TYPE_CHECKING:
    from clew.index.files import KnownFile

__all__ = ["Indexing"]

AT_ONCE = 100
"""Threads whose rows an answer waits for; more are left to the background."""
CHANGED_AT_ONCE = 2000
"""The same for files that are new or changed."""
SMALL = 200
"""Files of a home that no process is started for."""
BYTES_AT_ONCE = 64 << 20
"""Bytes of files with something new in them that a search for words takes before it answers."""
SWEEP_SECONDS = 300.0
"""How old a look at everything may be."""


def _now_ns() -> int:
    return time.time_ns()


class _Steady(threading.local):
    """What the answers of one thread are given from: a look before each (`look` is `always`), or one that is still to
    be taken, or none any more."""

    look: Look | Literal["always"] | None = "always"


class Indexing:
    """The index of one home, kept true by looks before answers."""

    def __init__(
        self,
        home: Home,
        clew_home: Path,
        *,
        notify: Callable[[str], None] | None = None,
        busy_milliseconds: int = 250,
        now_ns: Callable[[], int] = _now_ns,
    ) -> None:
        self.home = home
        self.clew_home = clew_home
        self.names = CachedNames(home, now_ns)
        self.database = Database(clew_home, home.path, busy_milliseconds=busy_milliseconds, notify=notify)
        self._reconciler = Reconciler(home, now_ns)
        self._steady = _Steady()
        self._root = f"{home.path}/"
        self.counts = Counter[str]()
        """What came of asking it: see `clew.store.index_statistics`."""

    @contextmanager
    def steady(self, look: Look | None) -> Generator[None]:
        """The answers that this thread asks for inside are given from one look, which is taken for the first of them;
        None: from the last one."""
        before, self._steady.look = self._steady.look, look
        try:
            yield
        finally:
            self._steady.look = before

    @contextmanager
    def answering(self) -> Generator[ThreadTable | None]:
        """The rows of all threads, true as far as a bounded look at the disk tells; None while they are not complete.
        Raises `IndexUnavailable`."""
        try:
            with self.database.using() as sql:
                fresh = self._fresh(sql)
                self.counts["answered" if fresh else "incomplete"] += 1
                yield ThreadTable(sql) if fresh else None
        except IndexUnavailable as error:
            self.counts[error.kind] += 1
            raise

    def _fresh(self, sql: Sql) -> bool:
        if not fact(sql, "complete"):
            return False
        look = self._steady.look
        if look is not None:
            if look == "always":
                changes = self._reconciler.look(sql)
            else:
                changes = self._reconciler.look_for_kin(sql, own=look == "others")
            if changes:
                if changes.new > CHANGED_AT_ONCE:
                    return False
                with sql.writing():
                    self._reconciler.apply(sql, changes)
            if look != "always":
                self._steady.look = None
        take_names(sql, self.home, self.names)
        return self._refreshed(sql)

    def _refreshed(self, sql: Sql) -> bool:
        table = ThreadTable(sql)
        for _ in range(3):
            stale = table.stale(AT_ONCE + 1)
            if len(stale) > AT_ONCE:
                return False
            if not stale:
                return True
            refresh(sql, self.home, self.names.names(), stale)
        return False

    def note(self, moved: Moved) -> None:
        """This process moved a file. What could not be noted is found by the next look."""
        path, target = (str(place.relative_to(self.home.path)) for place in (moved.path, moved.target))
        with suppress(IndexUnavailable), self.database.at_once() as sql:
            with sql.writing():
                if not self._reconciler.follow(sql, path, target):
                    return
                if not retell(sql, self.home, moved.thread_id, self.names.names().get(moved.thread_id)):
                    ThreadTable(sql).make_stale((moved.thread_id,))
            for folder, before, after in moved.folders:
                self._reconciler.note_own(sql, str(folder.relative_to(self.home.path)), before, after)

    def take_words(self, sql: Sql) -> bool:
        """Whether the words of all files are known as they are now; where little is new, it is taken first."""
        waiting, size = sql.one("SELECT count(*), ifnull(sum(size), 0) FROM entries WHERE NOT taken")
        if not waiting:
            return True
        if waiting > AT_ONCE or size > BYTES_AT_ONCE:
            return False
        # Most answers need nothing of what reads logs, and short commands are mostly imports.
        from clew.index.digestion import LocalDigester
        from clew.store.intake import Intake, WorkReport, waiting_files

        intake, chunk = Intake(self.home, self.names), waiting_files(sql, None)
        intake.follow_moves(sql, {one.thread_id for one in chunk if one.thread_id is not None})
        intake.take(sql, chunk, [LocalDigester(self.home.fs)], lambda: False, lambda report: None, WorkReport())
        return not sql.one("SELECT count(*) FROM entries WHERE NOT taken")

    def recheck(self, table: ThreadTable, threads: Mapping[str, ThreadSummary | None]) -> bool:
        """Whether the files of these threads are what their rows were made from, and lie where these say. Where they
        are not, the rows are made anew, and the answer has to be, too."""
        sql = table.sql
        seen, changes = self._reconciler.look_at(sql, threads)
        wrong = [
            thread_id
            for thread_id, summary in threads.items()
            if summary is None or not self._true(sql, thread_id, summary, seen[thread_id])
        ]
        if not changes and not wrong:
            return True
        self.counts["made_anew"] += 1
        with sql.writing():
            self._reconciler.apply(sql, changes)
            table.make_stale(wrong)
        self._refreshed(sql)
        return False

    def _true(self, sql: Sql, thread_id: str, summary: ThreadSummary, seen: Sequence[SeenFile]) -> bool:
        if summary.id != thread_id:
            return False
        told = summary.path, summary.archived, summary.size
        if len(seen) == 1:
            # Nearly every thread has one file, named after it.
            path, archived, size = seen[0]
            plain = path.removesuffix(".zst")
            if plain.endswith(f"-{thread_id}.jsonl"):
                return told == (f"{self._root}{plain}", archived, size)
        files = files_of(sql, self.home, thread_id)
        return files is not None and told == (
            str(files.current.plain_path),
            files.archived,
            files.current.size,
        )

    def known_file(self, path: str) -> KnownFile | None:
        """What was found out about a file, by its path within the home, without `.zst`; None where that is nothing."""
        from clew.index.files import known_file

        try:
            with self.database.using() as sql:
                return known_file(sql.connection, path)
        except IndexUnavailable:
            return None

    def worth_it(self) -> bool:
        """Whether there are so many files that looking at all of them is felt."""
        count, folders = 0, [self.home.sessions, self.home.archived_sessions]
        while folders and count < SMALL:
            folder = folders.pop()
            try:
                files, below = self.home.fs.names(folder)
            except OSError:
                continue
            count += len(files)
            folders += [folder / name for name in below]
        return count >= SMALL

    def waiting(self) -> bool:
        """Whether there is something to do in the background."""
        try:
            with self.database.using() as sql:
                swept = fact(sql, "swept") or 0.0
                return (
                    not fact(sql, "complete")
                    or not 0 <= time.time() - swept <= SWEEP_SECONDS
                    or sql.one("SELECT 1 FROM entries WHERE NOT taken LIMIT 1") is not None
                )
        except IndexUnavailable:
            return False

    def close(self) -> None:
        self.database.close()
