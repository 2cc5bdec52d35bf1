"""The file of the index: opening it, and what happens when it cannot be used.

Ten processes may have it open at once. It is never waited for longer than a moment, and nothing that is not somewhere
else lies in it: one that is damaged is set aside and made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import apsw

from clew.index.packing import Packing
from clew.index.schema import DDL, SCHEMA_VERSION, SIGNATURE

__all__ = ["Database", "IndexUnavailable", "Sql", "index_path"]

FILE = "index.sqlite3"
BUSY_MILLISECONDS = 250
"""How long an answer waits for others that write."""
PAGE_SIZE = 8192
"""Bytes of a page: half of what smaller ones leave empty behind the blocks of the full-text tables."""
PAGES = 2048
"""Pages of the file that a connection keeps in memory."""

_DAMAGED = (apsw.CorruptError, apsw.NotADBError, apsw.FormatError)
_BUSY = (apsw.BusyError, apsw.LockedError, apsw.SchemaChangeError)
_loading = threading.Lock()


Kind = Literal["busy", "damaged", "unusable"]


class IndexUnavailable(Exception):
    """The index cannot answer now. `notice` is what a person should know of it, empty when it is nothing but a moment;
    `lasting`: asking again will not help this process; `kind` in a word."""

    def __init__(self, why: str, *, kind: Kind = "damaged", notice: str = "", lasting: bool = False) -> None:
        super().__init__(why)
        self.kind: Kind = kind
        self.notice = notice
        self.lasting = lasting


class Sql:
    """A connection, as the rooms above need it."""

    def __init__(self, connection: Any) -> None:
        self.packing = Packing()
        self.connection = connection  # an `apsw.Connection`, whose own types leave too much open

    def run(self, statement: str, values: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """Run one statement; its rows are read as they are asked for."""
        return cast("Iterator[tuple[Any, ...]]", self.connection.execute(statement, values))

    def many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        self.connection.executemany(statement, rows)

    def one(self, statement: str, values: Sequence[Any] = ()) -> Any:
        """The value of the only row and column, None without a row; a tuple for a row of several columns."""
        return self.connection.execute(statement, values).get

    @property
    def last_id(self) -> int:
        return self.connection.last_insert_rowid()

    @property
    def version(self) -> object:
        """Stays the same while no other connection changed anything."""
        return self.connection.pragma("data_version")

    @contextlib.contextmanager
    def writing(self) -> Generator[None]:
        """A transaction that writes; nothing of it stays when the block raises."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(apsw.Error):
                self.connection.execute("ROLLBACK")
            raise


class Database:
    """A connection to the index of one home. For one thread at a time; `using` sees to it.

    `notify` is told, once each, what a person should know: that the index was damaged and is made anew, or why it
    cannot be used.
    """

    def __init__(
        self,
        clew_home: Path,
        codex_home: Path,
        *,
        busy_milliseconds: int = BUSY_MILLISECONDS,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        self.clew_home = clew_home
        self.codex_home = codex_home
        self.path: Path | None = None
        self._busy = busy_milliseconds
        self._notify = notify or _nobody
        self._told: set[str] = set()
        self._lock = threading.RLock()
        self._sql: Sql | None = None
        self._refused: IndexUnavailable | None = None
        self.opened = 0
        """Counts up with every other connection: what was kept from an earlier one does not hold any more."""
        self.rebuilt = 0
        """How often this process made the tables."""

    @contextlib.contextmanager
    def using(self) -> Generator[Sql]:
        """The connection, for this thread alone. Whatever SQLite raises comes as `IndexUnavailable`; after damage the
        next use finds a new, empty index."""
        with self._lock:
            if self._refused is not None:
                raise self._refused
            try:
                yield self._sql or self._open()
            except apsw.Error as error:
                self._rollback()
                raise self._unavailable(error) from error
            except BaseException:
                self._rollback()
                raise

    @contextlib.contextmanager
    def at_once(self) -> Generator[Sql]:
        """As `using`, for what may as well be left: others that write are not waited for."""
        with self.using() as sql:
            sql.connection.set_busy_timeout(0)
            try:
                yield sql
            finally:
                sql.connection.set_busy_timeout(self._busy)

    def close(self) -> None:
        with self._lock:
            sql, self._sql = self._sql, None
            if sql is not None:
                with contextlib.suppress(apsw.Error):
                    sql.connection.close()

    def discard(self) -> None:
        """Make the index anew with the next use."""
        with self._lock:
            self.close()
            path = self.path or index_path(self.clew_home, self.codex_home)
            self._refused = None
            for name in _files(path):
                with contextlib.suppress(FileNotFoundError):
                    name.unlink()

    # -- opening

    def _open(self) -> Sql:
        try:
            self.clew_home.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = index_path(self.clew_home, self.codex_home)
            connection = self._connected(path)
        except OSError as error:
            raise self._refuse(f"its folder cannot be used: {error.strerror or error}") from error
        self.path, self._sql = path, Sql(connection)
        self.opened += 1
        return self._sql

    def _connected(self, path: Path) -> Any:
        # SQLite would make it readable for everybody.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self.path = path
        connection: Any = apsw.Connection(str(path), vfs=_checksums())
        try:
            connection.set_busy_timeout(self._busy)
            connection.pragma("cache_size", PAGES)
            version = self._version(connection)
            if version == 0:
                connection.pragma("page_size", PAGE_SIZE)
                connection.reserve_bytes(reserve=8)  # room for a checksum in every page
            connection.pragma("journal_mode", "wal")
            connection.pragma("synchronous", "normal")
            if version > SCHEMA_VERSION:
                raise self._refuse("a newer version of clew made it", path)
            if version < SCHEMA_VERSION or not self._is_ours(connection):
                self._make(connection)
                if version > 0:
                    # The pages of the older tables would stay in the file. They are used up where others hold it.
                    with contextlib.suppress(*_BUSY):
                        connection.execute("VACUUM")
        except BaseException:
            connection.close()
            raise
        return connection

    def _version(self, connection: Any) -> int:
        # The first statement is where damage shows.
        version = connection.pragma("user_version")
        assert isinstance(version, int)
        if version == 0 and connection.pragma("page_count") and connection.pragma("application_id") != SIGNATURE:
            raise apsw.NotADBError("the database of something else")
        return version

    def _is_ours(self, connection: Any) -> bool:
        return Sql(connection).one("SELECT value FROM facts WHERE name = 'home'") == str(self.codex_home)

    def _make(self, connection: Any) -> None:
        """Make the tables, in the place of older ones."""
        with Sql(connection).writing():
            version = connection.pragma("user_version")
            assert isinstance(version, int)
            if version == SCHEMA_VERSION and self._is_ours(connection):
                return  # another process was quicker
            for kind, name in list(
                Sql(connection).run(
                    "SELECT type, name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'"
                    " ORDER BY sql LIKE 'CREATE VIRTUAL%' DESC"
                )
            ):
                quoted = str(name).replace('"', '""')
                connection.execute(f'DROP {kind} IF EXISTS "{quoted}"')
            self.rebuilt += 1
            connection.execute(DDL)
            connection.execute("INSERT INTO facts VALUES ('home', ?)", (str(self.codex_home),))
            connection.pragma("application_id", SIGNATURE)
            connection.pragma("user_version", SCHEMA_VERSION)

    # -- what goes wrong

    def _rollback(self) -> None:
        if self._sql is not None and self._sql.connection.in_transaction:
            with contextlib.suppress(apsw.Error):
                self._sql.connection.execute("ROLLBACK")

    def _unavailable(self, error: apsw.Error) -> IndexUnavailable:
        if isinstance(error, _BUSY):
            return IndexUnavailable(f"the index is busy: {error}", kind="busy")
        if isinstance(error, _DAMAGED) or _checksum_failed(error):
            self._set_aside()
            return IndexUnavailable(f"the index was damaged: {error}")
        if isinstance(error, apsw.FullError):
            self.close()
            return self._refuse("no space is left for it")
        if isinstance(error, apsw.ReadOnlyError | apsw.CantOpenError | apsw.PermissionsError | apsw.IOError):
            self.close()
            return self._refuse(f"its folder cannot be written: {error}")
        # Tables that are not what they should be: of somebody who changed them by hand, or of a clew in between.
        self._set_aside()
        return IndexUnavailable(f"the index is not what it should be: {error}")

    def _refuse(self, why: str, path: Path | None = None) -> IndexUnavailable:
        where = path or self.path or self.clew_home / FILE
        notice = f"the index of threads {where} is not used, {why}; lists and searches read the files instead"
        self._refused = IndexUnavailable(why, kind="unusable", notice=notice, lasting=True)
        self._tell(notice)
        return self._refused

    def _set_aside(self) -> None:
        """Rename a damaged index, so that the next use begins a new one. Another process that has it open goes on with
        the old file and finds out by itself."""
        self.close()
        path = self.path
        if path is None:
            return
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        aside = path.with_name(f"{path.name}.damaged-{stamp}-{os.getpid()}")
        try:
            path.rename(aside)
            for name in _files(path)[1:]:
                with contextlib.suppress(FileNotFoundError):
                    name.unlink()
        except FileNotFoundError:
            return  # somebody else did it
        except OSError as error:
            self._refuse(f"it is damaged and cannot be set aside: {error.strerror or error}")
            return
        self._tell(f"the index of threads was damaged and is made anew; the damaged one is {aside}")

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._notify(text)


def index_path(clew_home: Path, codex_home: Path) -> Path:
    """Where the index of a Codex home lies: `index.sqlite3`, or, where that is another home's, a name of its own."""
    path = clew_home / FILE
    own = clew_home / f"index-{hashlib.sha256(str(codex_home).encode()).hexdigest()[:12]}.sqlite3"
    if own.exists():
        return own
    try:
        with contextlib.closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
            connection.set_busy_timeout(BUSY_MILLISECONDS)
            home = Sql(connection).one("SELECT value FROM facts WHERE name = 'home'")
    except apsw.Error:
        return path  # none yet, or one that cannot tell: opening it says more
    return path if home in (None, str(codex_home)) else own


def _files(path: Path) -> list[Path]:
    return [path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")]


def _checksum_failed(error: apsw.Error) -> bool:
    return isinstance(error, apsw.IOError) and getattr(error, "extendedresult", 0) in (
        apsw.SQLITE_IOERR_DATA,
        apsw.SQLITE_IOERR_SHORT_READ,
        apsw.SQLITE_IOERR_CORRUPTFS,
    )


def _checksums() -> str | None:
    """The name of the file layer that keeps a checksum in every page, None where it is not installed: SQLite itself
    does not notice a bit that fell over."""
    with _loading:
        if "cksmvfs" in apsw.vfs_names():
            return "cksmvfs"
        path = _extension("cksumvfs")
        if path is None:
            return None
        with contextlib.closing(apsw.Connection(":memory:")) as connection:
            connection.enable_load_extension(True)
            connection.load_extension(path)
        return "cksmvfs" if "cksmvfs" in apsw.vfs_names() else None


def _extension(name: str) -> str | None:
    """Where an extension lies that apsw brought along. It is asked only where that is not the usual place: the part of
    it that tells takes as long to load as many an answer."""
    usual = (
        Path(apsw.__file__).parent / "sqlite_extra_binaries" / f"{name}.{'dylib' if sys.platform == 'darwin' else 'so'}"
    )
    if usual.is_file():
        return str(usual)
    from apsw import sqlite_extra

    return sqlite_extra.path(name) if sqlite_extra.has(name) else None


def _nobody(text: str) -> None:
    """Told where nobody listens."""
