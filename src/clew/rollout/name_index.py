"""Thread names: the append-only `session_index.jsonl`, and the `saved_sessions.json` that one fork kept beside it."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Generator, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import msgspec

from clew.clock import Clock
from clew.errors import DiskFull, LogDamaged, SyncFailed
from clew.rollout.failpoints import FailPoints
from clew.rollout.filesystem import File, FileIdentity, lock_within
from clew.rollout.layout import Home
from clew.rollout.names import canonical_id

__all__ = ["NameIndex", "NameRow", "SavedSession", "read_saved_sessions"]

BLOCK = 1 << 20
LOCK_SECONDS = 5.0


class NameRow(msgspec.Struct, frozen=True):
    """One change of a name. An empty `thread_name` takes the name away. `updated_at` is RFC 3339, empty if it was not
    readable."""

    id: str
    thread_name: str
    updated_at: str = ""


class SavedSession(msgspec.Struct, frozen=True, rename="camel"):
    """An entry of `saved_sessions.json`. `saved_at` and `created_at` are RFC 3339."""

    name: str
    conversation_id: str
    rollout_path: str
    cwd: str = ""
    model: str = ""
    model_provider: str | None = None
    saved_at: str = ""
    created_at: str | None = None


class _WireRow(msgspec.Struct):
    id: str
    thread_name: str | None = None
    updated_at: msgspec.Raw = msgspec.Raw(b"null")


class NameIndex:
    """The names of a home. Rows that cannot be read are passed over; they never hide the others. The file is read at
    every call, and decoded as far as it is not what it was at the last one."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._named: FileIdentity | None = None  # the file whose own name is known to be durable
        self._lock = threading.Lock()
        self._data = b""  # lines that have an end
        self._whole: dict[str, str] = {}  # and what they say
        self._last = frozenset[str]()  # whom a line without one names

    def rows_back(self) -> Iterator[NameRow]:
        """All rows, newest (last in the file) first."""
        yield from _rows(reversed(self._read().split(b"\n")))

    def look(self) -> tuple[dict[str, str], frozenset[str] | None]:
        """The current name of every thread that has one, most lately named last; and which threads may be called
        otherwise than at the last look (None: any)."""
        data = self._read()
        with self._lock:
            # A last line without an end, if there is one, is decoded once more with what comes behind it.
            end = data.rfind(b"\n") + 1
            last = list(_rows((data[end:],)))
            if data.startswith(self._data):
                new = list(_rows(data[len(self._data) : end].split(b"\n")))
                touched = frozenset(row.id for row in (*new, *last)) | self._last
                _apply(self._whole, new)
            else:
                self._whole, touched = {}, None
                _apply(self._whole, _rows(data[:end].split(b"\n")))
            self._data = data if end == len(data) else data[:end]
            self._last = frozenset(row.id for row in last)
            named = dict(self._whole)
        _apply(named, last)
        return named, touched

    def names(self) -> dict[str, str]:
        """The current name of every thread that has one."""
        return self.look()[0]

    def name_of(self, thread_id: str) -> str | None:
        """The current name of one thread."""
        return self.look()[0].get(canonical_id(thread_id) or "")

    def resolve(self, name: str) -> list[str]:
        """The threads that are called so now, most lately named first. Names they had before do not count."""
        wanted = name.strip()
        return [thread_id for thread_id, called in reversed(self.look()[0].items()) if wanted and called == wanted]

    def rename(self, thread_id: str, name: str | None, clock: Clock, fail: FailPoints | None = None) -> NameRow:
        """Append a name (None or blank: take it away); durable when this returns.

        Blocks for at most a few seconds while another program appends. Raises `ValueError` for what is no id,
        `DiskFull`, `SyncFailed`.
        """
        wanted = canonical_id(thread_id)
        if wanted is None:
            raise ValueError(f"{thread_id!r} is no UUID")
        fail = fail or FailPoints()
        path = self._home.session_index
        # What cannot be text in a file goes as a mark in its place.
        clean = (name or "").strip().encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        row = NameRow(wanted, clean, _nanosecond_stamp(clock.now()))
        data = msgspec.json.encode(row) + b"\n"
        try:
            self._home.fs.make_folder(path.parent)
            with self._locked():
                self._append(path, data, fail)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull(path) from error
            raise SyncFailed(path, error.strerror or str(error)) from error
        return row

    def _append(self, path: Path, data: bytes, fail: FailPoints) -> None:
        fs = self._home.fs
        file = fs.open_append(path)
        try:
            identity, size = file.identity(), file.size()
            if size and file.read_at(size - 1, 1) != b"\n":
                data = b"\n" + data
            fail.hit("before_write")
            file.write(data)
            fail.hit("before_sync")
            file.sync()
            fail.hit("after_sync")
        finally:
            file.close()
        if self._named != identity:
            # Also when the file was there: whoever made it may not have got to this.
            fail.hit("before_folder_sync")
            fs.sync_folder(path.parent)
            self._named = identity

    @contextlib.contextmanager
    def _locked(self) -> Generator[None]:
        """The lock that Codex takes for the same file. A lock that does not come free does not stop us: one row is
        appended in one write either way."""
        path = self._home.session_index
        file: File = self._home.fs.open_append(path.with_name(path.name + ".lock"))
        try:
            lock_within(file, LOCK_SECONDS)
            yield
        finally:
            file.close()

    def _read(self) -> bytes:
        try:
            file = self._home.fs.open_read(self._home.session_index)
        except OSError:
            return b""
        try:
            parts: list[bytes] = []
            offset = 0
            with contextlib.suppress(OSError):
                while block := file.read_at(offset, BLOCK):
                    parts.append(block)
                    offset += len(block)
            return b"".join(parts)
        finally:
            file.close()


def _rows(lines: Iterable[bytes]) -> Iterator[NameRow]:
    for line in lines:
        row = _row(line)
        if row is not None:
            yield row


def _apply(names: dict[str, str], rows: Iterable[NameRow]) -> None:
    for row in rows:
        names.pop(row.id, None)
        if row.thread_name:
            names[row.id] = row.thread_name


def read_saved_sessions(home: Home) -> list[SavedSession]:
    """The entries of `saved_sessions.json`, last saved first; none without the file.

    Entries that are no entries are passed over. Raises `LogDamaged` for a file that is no JSON object.
    """
    path = home.path / "saved_sessions.json"
    try:
        file = home.fs.open_read(path)
    except FileNotFoundError:
        return []
    try:
        data = file.read_at(0, file.size())
    finally:
        file.close()
    try:
        whole: Any = msgspec.json.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise LogDamaged(path, 0, f"not JSON: {error}") from error
    entries: Any = cast("dict[str, Any]", whole).get("entries", {}) if isinstance(whole, dict) else None
    if not isinstance(entries, dict):
        raise LogDamaged(path, 0, "no object of entries in it")
    found: list[SavedSession] = []
    for name, entry in cast("dict[str, Any]", entries).items():
        with contextlib.suppress(msgspec.ValidationError):
            whole_entry = {"name": name, **cast("dict[str, Any]", entry)} if isinstance(entry, dict) else entry
            found.append(msgspec.convert(whole_entry, SavedSession))
    return sorted(found, key=lambda entry: entry.saved_at, reverse=True)


def _row(line: bytes) -> NameRow | None:
    if not line.strip():
        return None
    try:
        wire = msgspec.json.decode(line.removeprefix(b"\xef\xbb\xbf"), type=_WireRow)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    thread_id = canonical_id(wire.id)
    if thread_id is None:
        return None
    try:
        updated_at = msgspec.json.decode(wire.updated_at, type=str)
    except (msgspec.DecodeError, ValueError):
        updated_at = ""
    return NameRow(thread_id, (wire.thread_name or "").strip(), updated_at)


def _nanosecond_stamp(seconds: float) -> str:
    whole = int(seconds)
    nanoseconds = round((seconds - whole) * 1_000_000_000)
    if nanoseconds >= 1_000_000_000:
        whole, nanoseconds = whole + 1, 0
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"
