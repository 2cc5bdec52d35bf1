"""Taking what is new in files into the index, and following files that were moved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from clew.index.catalog import ThreadTable
from clew.index.database import Sql
from clew.index.digestion import Digester, Work
from clew.index.files import forget_file, known_file, known_files_at, move_file
from clew.index.ingest import Digested, ingest
from clew.index.reconcile import files_of_all
from clew.index.rows import ThreadRow, key_of
from clew.index.words import remove_documents
from clew.rollout import Home, RolloutFile, RolloutName
from clew.store.names import CachedNames
from clew.store.row_upkeep import NewRow, put_rows
from clew.store.thread_rows import read_row, row_from_told

__all__ = ["Intake", "Waiting", "WorkReport", "waiting_files"]

CHUNK = 8192
"""Files that are handed to the digestion together."""

_PLACES = (
    "SELECT f.path || '/' || CASE WHEN e.name LIKE '%.zst' THEN substr(e.name, 1, length(e.name) - 4) ELSE e.name END"
    " FROM entries e JOIN folders f ON f.id = e.folder"
)
"""Where files lie, without `.zst`, as rows of `files` name them."""


class WorkReport(msgspec.Struct, kw_only=True):
    """What a run in the background did. `complete`: the index tells all there is; `elsewhere`: another process is at
    it."""

    files: int = 0
    total: int = 0
    bytes: int = 0
    complete: bool = False
    elsewhere: bool = False
    failed: int = 0


class Intake:
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
        chunk: Sequence[Waiting],
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


class Waiting(msgspec.Struct, frozen=True):
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


def waiting_files(sql: Sql, place: tuple[int, int] | None) -> list[Waiting]:
    rows = sql.run(
        "SELECT e.id, f.path, f.archived, e.name, e.size, e.mtime_ns FROM entries e INDEXED BY entries_waiting"
        " JOIN folders f ON f.id = e.folder WHERE NOT e.taken AND (e.mtime_ns, e.id) < (?, ?)"
        f" ORDER BY e.mtime_ns DESC, e.id DESC LIMIT {CHUNK}",
        place or ((1 << 63) - 1, 0),
    )
    return [Waiting(number, folder, bool(archived), *rest) for number, folder, archived, *rest in rows]
