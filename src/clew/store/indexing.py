"""Bringing the index up to what the disk is: a little before an answer, all of it in the background.

The disk is looked at, rows of changed threads are made anew, and what is new in their files is digested. Every step is
a transaction of its own, so that this can end at any moment, in any process, and goes on where it stopped.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import msgspec

from clew.clock import utc_stamp
from clew.index.catalog import ThreadTable
from clew.index.database import Database, IndexUnavailable, Sql
from clew.index.digestion import Digester, LocalDigester, Work
from clew.index.files import KnownFile, forget_file, known_file, known_files_at, move_file
from clew.index.helpers import start_helpers
from clew.index.ingest import Digested, ingest
from clew.index.merging import merge_pieces
from clew.index.reconcile import Reconciler, SeenFile, files_of, files_of_all
from clew.index.rows import ThreadRow, key_of
from clew.index.schema import LATE_DDL
from clew.index.turn_places import forget_vanished
from clew.index.words import remove_documents
from clew.rollout import File, FileSystem, Home, RealFileSystem, RolloutFile, RolloutName
from clew.store.moves import Moved
from clew.store.names import CachedNames
from clew.store.queries import Look, ThreadSummary
from clew.store.row_upkeep import NewRow, fact, put_rows, refresh, retell, set_fact, take_names
from clew.store.thread_rows import read_row, row_from_told

__all__ = ["IndexStatus", "IndexWorker", "Indexing", "WorkReport", "discard_index", "index_status", "status_of"]

AT_ONCE = 100
"""Threads whose rows an answer waits for; more are left to the background."""
CHANGED_AT_ONCE = 2000
"""The same for files that are new or changed."""
SMALL = 200
"""Files of a home that no process is started for."""
BYTES_AT_ONCE = 64 << 20
"""Bytes of files with something new in them that a search for words takes before it answers."""
CHUNK = 8192
"""Files that are handed to the digestion together."""
WORTH_HELPERS = 64 << 20
"""Bytes to be read that other processes are started for."""
BACKGROUND_MILLISECONDS = 5000
SWEEP_SECONDS = 300.0
"""How old a look at everything may be."""

_PLACES = (
    "SELECT f.path || '/' || CASE WHEN e.name LIKE '%.zst' THEN substr(e.name, 1, length(e.name) - 4) ELSE e.name END"
    " FROM entries e JOIN folders f ON f.id = e.folder"
)
"""Where files lie, without `.zst`, as rows of `files` name them."""


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
        self._digestion = _Digestion(home, self.names)
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
        chunk = _chunk(sql, None)
        self._digestion.follow_moves(sql, {one.thread_id for one in chunk if one.thread_id is not None})
        self._digestion.take(
            sql, chunk, [LocalDigester(self.home.fs)], lambda: False, lambda report: None, WorkReport()
        )
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


class WorkReport(msgspec.Struct, kw_only=True):
    """What a run in the background did. `complete`: the index tells all there is; `elsewhere`: another process is at
    it."""

    files: int = 0
    total: int = 0
    bytes: int = 0
    complete: bool = False
    elsewhere: bool = False
    failed: int = 0


class IndexStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands with the index of a home. `files` that lie there and `waiting` ones among them, which were not read
    as they are; `bytes` on disk; `swept_at`: when everything was looked at last (RFC 3339); `working`: a
    process brings it up to date now."""

    path: str
    complete: bool
    threads: int
    files: int
    waiting: int
    bytes: int
    swept_at: str | None
    working: bool = False


def index_status(home: Home, clew_home: Path) -> IndexStatus:
    """Raises `IndexUnavailable`."""
    database = Database(clew_home, home.path)
    try:
        with database.using() as sql:
            return status_of(database, sql)
    finally:
        database.close()


def status_of(database: Database, sql: Sql) -> IndexStatus:
    swept = fact(sql, "swept")
    assert database.path is not None
    return IndexStatus(
        path=str(database.path),
        complete=bool(fact(sql, "complete")),
        threads=ThreadTable(sql).count()[0],
        files=sql.one("SELECT count(*) FROM entries"),
        waiting=sql.one("SELECT count(*) FROM entries WHERE NOT taken"),
        bytes=sum(path.stat().st_size for path in database.path.parent.glob(f"{database.path.name}*")),
        swept_at=None if swept is None else utc_stamp(swept),
        working=_is_worked_on(database.path),
    )


def _is_worked_on(path: Path) -> bool:
    try:
        lock = RealFileSystem().open_read(path.with_name(f"{path.name}.lock"))
    except FileNotFoundError:
        return False
    with closing(lock):
        return not lock.try_lock()


def discard_index(home: Home, clew_home: Path) -> None:
    """Remove the index; whoever has it open goes on with the old one until it finds out."""
    Database(clew_home, home.path).discard()


class IndexWorker:
    """Brings the index up to the disk as a whole; one at a time per home, whatever the process."""

    def __init__(
        self,
        home: Home,
        clew_home: Path,
        *,
        notify: Callable[[str], None] | None = None,
        now_ns: Callable[[], int] = _now_ns,
    ) -> None:
        self._home = home
        self._clew_home = clew_home
        self._names = CachedNames(home, now_ns)
        self._database = Database(clew_home, home.path, busy_milliseconds=BACKGROUND_MILLISECONDS, notify=notify)
        self._reconciler = Reconciler(home, now_ns)
        self._digestion = _Digestion(home, self._names)

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
        for changes in self._reconciler.sweep(sql, stop=stop):
            with sql.writing():
                self._reconciler.apply(sql, changes)
        if stop():
            return
        take_names(sql, self._home, self._names)
        self._digestion.follow_moves(sql)
        report.total = sql.one("SELECT count(*) FROM entries WHERE NOT taken")
        place: tuple[int, int] | None = None
        with self._digesters(sql) as digesters:
            while not stop() and (chunk := _chunk(sql, place)):
                place = chunk[-1].mtime_ns, chunk[-1].id
                self._digestion.take(sql, chunk, digesters, stop, progress, report)
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
            merge_pieces(sql, everything=first, stop=stop)
            sql.one("PRAGMA wal_checkpoint(PASSIVE)")

    @contextmanager
    def _digesters(self, sql: Sql) -> Generator[Sequence[Digester]]:
        """Whoever reads: helpers, where there is so much to do that starting them is worth it."""
        fs = self._home.fs
        size = sql.one("SELECT ifnull(sum(size), 0) FROM entries WHERE NOT taken")
        helping = isinstance(fs, RealFileSystem) and size >= WORTH_HELPERS
        digesters = start_helpers() if helping else [LocalDigester(fs)]
        try:
            yield digesters
        finally:
            for digester in digesters:
                digester.close()


class _Digestion:
    """Takes what is new in files into the index."""

    def __init__(self, home: Home, names: CachedNames) -> None:
        self._home = home
        self._names = names

    def follow_moves(self, sql: Sql, threads: Iterable[str] | None = None) -> None:
        """What is known of files that have another place now goes with them; of those that are gone it is forgotten.
        Of all threads, or of some."""
        if threads is None:
            gone = list(sql.run(f"SELECT id, path FROM files WHERE path NOT IN ({_PLACES})"))
        else:
            one = f"SELECT id, path FROM files WHERE thread = ? AND path NOT IN ({_PLACES} WHERE e.thread = ?)"
            gone = [row for thread in threads for row in sql.run(one, (thread, key_of(thread)))]
        for number, path in gone:
            with sql.writing():
                known = known_file(sql.connection, path)
                if known is None or known.id != number:
                    continue
                new = self._moved_to(sql, path)
                if new is not None and known_file(sql.connection, new[1]) is None:
                    move_file(sql.connection, known, new[1])
                    if known.unchanged(size=new[2], mtime_ns=new[3], packed=new[4]):
                        sql.run("UPDATE entries SET taken = 1 WHERE id = ?", (new[0],))
                else:
                    remove_documents(sql.connection, known.id)
                    forget_file(sql.connection, known.id)

    def _moved_to(self, sql: Sql, path: str) -> tuple[int, str, int, int, bool] | None:
        name = path.rpartition("/")[2]
        parsed = RolloutName.parse(name)
        if parsed is None:
            return None
        for number, folder, found, size, mtime_ns in sql.run(
            "SELECT e.id, f.path, e.name, e.size, e.mtime_ns FROM entries e JOIN folders f ON f.id = e.folder"
            " WHERE e.thread = ?",
            (key_of(parsed.thread_id),),
        ):
            if found.removesuffix(".zst") == name:
                return number, f"{folder}/{name}", size, mtime_ns, found.endswith(".zst")
        return None

    def take(
        self,
        sql: Sql,
        chunk: Sequence[_Waiting],
        digesters: Sequence[Digester],
        stop: Callable[[], bool],
        progress: Callable[[WorkReport], None],
        report: WorkReport,
    ) -> None:
        entries = {waiting.plain: waiting for waiting in chunk}
        known = known_files_at(sql.connection, entries)
        work = [
            Work(file=file, path=waiting.plain, known=known.get(waiting.plain))
            for waiting in entries.values()
            if (file := waiting.file(self._home)) is not None
        ]
        names, table = self._names.names(), ThreadTable(sql)
        before = report.files

        def stored(digested: Sequence[Digested]) -> None:
            done = [(entries[one.work.path], one) for one in digested]
            sql.many(
                "UPDATE entries SET taken = 1 WHERE id = ? AND size = ? AND mtime_ns = ?",
                [(waiting.id, waiting.size, waiting.mtime_ns) for waiting, _ in done],
            )
            put_rows(table, self._rows(table, digested, names))

        def told(done: Any) -> None:
            report.files = before + done.files
            progress(report)

        done = ingest(sql.connection, digesters, work, stored=stored, stop=stop, progress=told)
        report.files = before + done.files
        report.bytes += done.bytes
        report.failed += len(done.failed)

    def _rows(self, table: ThreadTable, digested: Sequence[Digested], names: Mapping[str, str]) -> list[NewRow]:
        sql = table.sql
        threads = {one.work.file.thread_id for one in digested}
        versions = table.versions(threads)
        files = files_of_all(sql, self._home, threads, {str(one.work.file.path): one.work.file for one in digested})
        made: list[NewRow] = []
        for one in digested:
            thread_id = one.work.file.thread_id
            version, of_thread = versions.get(thread_id), files.get(thread_id)
            if version is None or of_thread is None:
                continue
            name = names.get(thread_id)
            row: ThreadRow | None = None
            if of_thread.current.path == one.work.file.path:
                before = table.last_content(thread_id) if one.told is not None and one.told.previewed else None
                row = row_from_told(of_thread, one.told, name, before)
            made.append((row or read_row(self._home, of_thread, name), version, one.id))
        return made


class _Waiting(msgspec.Struct, frozen=True):
    """An entry that was not digested as it is."""

    id: int
    folder: str
    archived: bool
    name: str
    size: int
    mtime_ns: int

    @property
    def plain(self) -> str:
        return f"{self.folder}/{self.name.removesuffix('.zst')}"

    @property
    def thread_id(self) -> str | None:
        parsed = RolloutName.parse(self.name)
        return None if parsed is None else parsed.thread_id

    def file(self, home: Home) -> RolloutFile | None:
        parsed = RolloutName.parse(self.name)
        if parsed is None:
            return None
        path = Path(f"{home.path}/{self.folder}/{self.name}")
        return RolloutFile(path, parsed, self.archived, self.size, self.mtime_ns)


def _chunk(sql: Sql, place: tuple[int, int] | None) -> list[_Waiting]:
    rows = sql.run(
        "SELECT e.id, f.path, f.archived, e.name, e.size, e.mtime_ns FROM entries e INDEXED BY entries_waiting"
        " JOIN folders f ON f.id = e.folder WHERE NOT e.taken AND (e.mtime_ns, e.id) < (?, ?)"
        f" ORDER BY e.mtime_ns DESC, e.id DESC LIMIT {CHUNK}",
        place or ((1 << 63) - 1, 0),
    )
    return [_Waiting(number, folder, bool(archived), *rest) for number, folder, archived, *rest in rows]


def _real(fs: FileSystem) -> FileSystem:
    # The index lies on the machine's own disk, also where a home is simulated.
    return fs if isinstance(fs, RealFileSystem) else RealFileSystem()
