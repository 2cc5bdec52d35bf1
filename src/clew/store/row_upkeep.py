"""Rows of threads and facts, written into the index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from clew.index.catalog import ThreadTable
from clew.index.database import Sql
from clew.index.reconcile import files_of, files_of_all, forget
from clew.index.rows import ThreadRow, id_from_key, key_of
from clew.index.words import put_titles
from clew.rollout import Home, ThreadFiles
from clew.store.names import CachedNames
from clew.store.thread_rows import read_row, retold, row_from_told

if TYPE_CHECKING:
    from clew.history.told import Told

__all__ = ["NewRow", "fact", "put_rows", "refresh", "retell", "set_fact", "take_names"]

FEW = 100
"""Threads with another name whose rows are made anew at once; those of more wait until somebody asks for them."""


def refresh(sql: Sql, home: Home, names: Mapping[str, str], stale: Sequence[tuple[str, int]]) -> None:
    """Make the rows of stale threads anew, from their files as the index knows them."""
    made: list[tuple[str, int, ThreadRow | None]] = []
    table = ThreadTable(sql)
    found = files_of_all(sql, home, {thread_id for thread_id, _ in stale})
    for thread_id, version in stale:
        files, row = found.get(thread_id), None
        if files is not None:
            name = names.get(thread_id)
            told = _told(sql, home, files)
            row = row_from_told(files, told, name, table.last_content(thread_id)) or read_row(home, files, name)
        made.append((thread_id, version, row))
    with sql.writing():
        for thread_id, _, row in made:
            if row is None:
                forget(sql, key_of(thread_id))
        put_rows(table, [(row, version, None) for _, version, row in made if row is not None])


def _told(sql: Sql, home: Home, files: ThreadFiles) -> Told | None:
    """What is known of a thread's file, if it lies there as it was read."""
    from clew.history.told import told_by
    from clew.index.files import known_file

    current = files.current
    known = known_file(sql.connection, current.plain_path.relative_to(home.path).as_posix())
    if known is None or not known.unchanged(size=current.size, mtime_ns=current.mtime_ns, packed=current.compressed):
        return None
    digest = known.digest()
    return None if digest is None else told_by(digest)


NewRow = tuple[ThreadRow, int, int | None]
"""The row of a thread, the version of the thread that it is for, and the row of its current file, where known."""


def put_rows(table: ThreadTable, rows: Sequence[NewRow]) -> None:
    """Store rows of threads, and their names among the words. What a thread without a name began with is there as what
    its user said."""
    sql = table.sql
    before = table.put([(row, version) for row, version, _ in rows])
    titles: list[tuple[int, int, str | None]] = []
    for row, _, file in rows:
        if row.thread_id not in before or (row.named is None and before[row.thread_id] is None):
            continue
        if file is None:
            file = sql.one("SELECT max(id) FROM files WHERE thread = ?", (row.thread_id,))
            if file is None:
                continue
        if row.named == before[row.thread_id] and sql.one("SELECT title FROM files WHERE id = ?", (file,)) is not None:
            continue
        others = "SELECT id FROM files WHERE thread = ? AND title IS NOT NULL AND id <> ?"
        titles += [(row.recency, other, None) for (other,) in sql.run(others, (row.thread_id, file))]
        titles.append((row.recency, file, row.named))
    put_titles(sql.connection, titles)


def retell(sql: Sql, home: Home, thread_id: str, name: str | None) -> bool:
    """Make the row of a thread anew that is called otherwise or lies elsewhere and holds what it held, without reading
    its files. Whether that could be done; within a transaction."""
    table = ThreadTable(sql)
    version = sql.one("SELECT version FROM threads WHERE thread = ? AND NOT stale", (key_of(thread_id),))
    files = files_of(sql, home, thread_id)
    if version is None or files is None or (row := retold(files, table.content(thread_id), name)) is None:
        return False
    bases = list(sql.run("SELECT base, direct FROM bases WHERE thread = ?", (key_of(thread_id),)))
    every, direct = (tuple(id_from_key(base) for base, named in bases if named or whole) for whole in (True, False))
    put_rows(table, [(msgspec.structs.replace(row, bases=every, named_bases=direct), version, None)])
    return True


def take_names(sql: Sql, home: Home, names: CachedNames) -> None:
    """Threads that are called something else now get new rows."""
    now, known, table = names.current(), fact(sql, "names"), ThreadTable(sql)
    if known == now.version:
        return
    changed = names.changed(str(known), now.version)
    if changed is None:
        before = table.names()
        changed = {one for one in {*now.names, *before} if now.names.get(one) != before.get(one)}
    if not changed and not now.sure:
        return  # it would be written again with every answer
    with sql.writing():
        if len(changed) <= FEW:
            changed = [one for one in changed if not retell(sql, home, one, now.names.get(one))]
        table.make_stale(changed)
        set_fact(sql, "names", now.version)


def fact(sql: Sql, name: str) -> Any:
    return sql.one("SELECT value FROM facts WHERE name = ?", (name,))


def set_fact(sql: Sql, name: str, value: object) -> None:
    sql.run("INSERT INTO facts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (name, value))
