"""How it stands with the index of a home."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import msgspec

from clew.clock import utc_stamp
from clew.index.catalog import ThreadTable
from clew.index.database import Database, Sql
from clew.rollout import Home, RealFileSystem
from clew.store.row_upkeep import fact

__all__ = ["IndexStatus", "discard_index", "index_status", "status_of"]


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
