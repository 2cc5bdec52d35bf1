"""What the disk says against what the index says.

A look before every answer costs a bounded number of stats: folders whose time changed are read anew, and of the files
those that are likely to have changed are looked at, with some of the others in turn. A sweep looks at everything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import apsw

from clew.index.database import Sql
from clew.index.rows import key_of
from clew.rollout import Home, RolloutFile, RolloutName, ThreadFiles
from clew.rollout.filesystem import Entry, Glance
from clew.rollout.layout import DEEPEST

__all__ = ["Changes", "Reconciler", "SeenFile", "files_of", "files_of_all", "forget"]

RACY_NS = 20_000_000
"""A time younger than this when it was read may stay the same while more is written."""
COARSE_NS = 2_000_000_000
"""The same on disks that count whole seconds."""
WHOLE = 300
"""Files of a home that is looked at whole every time."""
HOT, TURN = 96, 32
"""Files of a larger one that are looked at: the newest, and others in turn."""
BEGINNING = 256
"""Bytes that the first line of a file takes at least, where it says whose it is."""
BATCH = 4096
"""Files of one transaction of a sweep."""

OWN_SECONDS = 1.0
"""How long it is believed of a folder that only this process changed it."""

SeenFile = tuple[str, bool, int]
"""A file as it was known: its path within the home, whether it is archived, its size."""

_Row = tuple[int, str, int, int, int, int]


_FOLDERS = "SELECT id, path, archived, mtime_ns FROM folders"
_SELECT = "SELECT e.id, f.path || '/' || e.name, e.size, e.mtime_ns, e.inode, e.sure FROM"
_JOIN = "e JOIN folders f ON f.id = e.folder"
_OF_THREAD = f"{_SELECT.replace(' FROM', ', f.archived FROM')} entries {_JOIN} WHERE e.thread = ?"
_OF_THREADS = (
    _OF_THREAD.replace("SELECT", "SELECT e.thread,", 1).removesuffix("= ?") + "IN (SELECT value FROM carray(?))"
)
_WHOLE = f"{_SELECT} (SELECT * FROM entries LIMIT {WHOLE + 1}) {_JOIN}"
_LIKELY = " UNION ALL ".join(
    f"{_SELECT} (SELECT * FROM entries {chosen}) {_JOIN}"
    for chosen in (
        f"INDEXED BY entries_hot ORDER BY mtime_ns DESC LIMIT {HOT}",
        f"INDEXED BY entries_unsure WHERE NOT sure LIMIT {HOT}",
    )
)
_BEGUN = " UNION ALL ".join(
    f"SELECT * FROM (SELECT thread FROM threads INDEXED BY threads_by_size WHERE archived = {archived} AND NOT stale"
    f" AND size < {BEGINNING} LIMIT {HOT})"
    for archived in (0, 1)
)
"""Threads whose file may have no beginning yet."""
_IN_TURN = f"{_SELECT} (SELECT * FROM entries WHERE id > ? ORDER BY id LIMIT {TURN}) {_JOIN}"


class _Folder(NamedTuple):
    id: int
    text: str
    archived: bool
    mtime_ns: int


class _Own(NamedTuple):
    """A folder that this process changed: its time in the tables then, its own time after that, and since when."""

    known: int
    mtime_ns: int
    since: float


@dataclass
class Changes:
    """What a look found: folders with their entries and time, and entries with their state; None: gone. `new`:
    how many of them are to be written, at most."""

    folders: dict[str, tuple[Sequence[Entry], int] | None] = field(
        default_factory=dict[str, "tuple[Sequence[Entry], int] | None"]
    )
    entries: dict[int, Glance | None] = field(default_factory=dict[int, "Glance | None"])
    new: int = 0

    def __bool__(self) -> bool:
        return bool(self.folders or self.entries)


class Reconciler:
    """Keeps `folders` and `entries` of an index what the disk is, and tells which threads became stale.

    `now_ns` is the clock that the disk's times come from.
    """

    def __init__(self, home: Home, now_ns: Callable[[], int]) -> None:
        self._home = home
        self._now_ns = now_ns
        self._folders: dict[str, _Folder] = {}
        self._seen: tuple[object, ...] = ()
        self._written_to: set[str] = set()  # folders that this connection wrote since
        self._listed: dict[str, dict[str, int]] = {}  # inodes in folders that hold what the tables say
        self._own: dict[str, _Own] = {}
        self._turn = 0
        self._likely: list[_Row] | None = None
        self._all = False

    def look(self, sql: Sql) -> Changes:
        """What changed, as far as a look before an answer finds it. Reads only."""
        changes = self._look_at_folders(sql, None)
        self._look_at_entries(self._chosen(sql), changes)
        return changes

    def look_for_kin(self, sql: Sql, *, own: bool) -> Changes:
        """The same of all that tells which threads there are and who is whose: names, and the beginnings of files,
        which stay what they are once they are written. `own`: folders that nobody but this process changed a moment ago
        are left out, while nothing else changed anywhere."""
        passed: list[str] | None = [] if own else None
        changes = self._look_at_folders(sql, passed)
        if changes.folders and passed:
            # What is gone from elsewhere may have come there.
            for path in passed:
                self._walk(sql, path, changes, path.count("/"))
        rows = [row for (thread,) in list(sql.run(_BEGUN)) for *row, _ in sql.run(_OF_THREAD, (thread,))]
        self._look_at_entries([cast("_Row", tuple(row)) for row in rows], changes)
        return changes

    def _look_at_folders(self, sql: Sql, own: list[str] | None) -> Changes:
        """What changed in them, but for those that this process changed, which are put into `own` where there is
        one."""
        self._know_folders(sql)
        changes = Changes()
        glances = self._home.fs.glance([folder.text for folder in self._folders.values()])
        for (path, folder), glance in zip(self._folders.items(), glances, strict=True):
            if glance is None or not glance[3]:
                changes.folders[path] = None
            elif folder.mtime_ns < 0 or glance[1] != folder.mtime_ns:
                if own is not None and self._is_own(path, folder, glance):
                    own.append(path)
                else:
                    self._walk(sql, path, changes, path.count("/"))
        self._leave_replaced(changes)
        for root in ("sessions", "archived_sessions"):
            if root not in self._folders:
                self._walk(sql, root, changes, 0)
        return changes

    def _is_own(self, path: str, folder: _Folder, glance: Glance) -> bool:
        own = self._own.get(path)
        if own is None or (own.known, own.mtime_ns) != (folder.mtime_ns, glance[1]):
            return False
        return time.monotonic() - own.since < OWN_SECONDS

    def follow(self, sql: Sql, path: str, target: str) -> bool:
        """A file was moved by this process: its entry goes with it. Whether there was one, and a folder to go to;
        within a transaction."""
        above, _, name = path.rpartition("/")
        where, _, new_name = target.rpartition("/")
        entry = sql.one(
            "SELECT e.id FROM entries e JOIN folders f ON f.id = e.folder WHERE f.path = ? AND e.name = ?",
            (above, name),
        )
        folder = sql.one("SELECT id FROM folders WHERE path = ?", (where,))
        glance = self._home.fs.glance((f"{self._home.path}/{target}",))[0]
        if entry is None or folder is None or glance is None or glance[3]:
            return False
        size, mtime_ns, inode, _ = glance
        sql.run("DELETE FROM entries WHERE folder = ? AND name = ?", (folder, new_name))
        # It is as sure as before: moving it, and giving it a time, writes nothing into it.
        sql.run(
            "UPDATE entries SET folder = ?, name = ?, size = ?, mtime_ns = ?, inode = ?, taken = 0 WHERE id = ?",
            (folder, new_name, size, mtime_ns, inode, entry),
        )
        self._written_to.update((above, where))
        self._likely = None
        return True

    def note_own(self, sql: Sql, path: str, before: int, after: int) -> None:
        """This process changed a folder in a way that the tables tell; its times just before and after that."""
        known, own = sql.one("SELECT mtime_ns FROM folders WHERE path = ?", (path,)), self._own.pop(path, None)
        if known is None:
            return
        if own is not None and (own.known, own.mtime_ns) == (known, before):
            self._own[path] = own._replace(mtime_ns=after)
        elif known == before:
            self._own[path] = _Own(known, after, time.monotonic())

    def look_at(self, sql: Sql, thread_ids: Iterable[str]) -> tuple[dict[str, list[SeenFile]], Changes]:
        """The known files of these threads, and what changed of them."""
        seen: dict[str, list[SeenFile]] = {thread_id: [] for thread_id in thread_ids}
        threads = {key_of(thread_id): files for thread_id, files in seen.items()}
        rows: list[_Row] = []
        for thread, *row, archived in sql.run(_OF_THREADS, (_carray(threads),)) if threads else ():
            rows.append(cast("_Row", tuple(row)))
            # A place outside of the home is none.
            threads[thread].append((row[1] if _inside(row[1]) else "", bool(archived), row[2]))
        changes = Changes()
        self._look_at_entries(rows, changes)
        return seen, changes

    def apply(self, sql: Sql, changes: Changes) -> None:
        """Write what a look found; within a transaction."""
        now = self._now_ns()
        self._written_to.update(changes.folders)
        self._likely = None
        affected: set[bytes] = set()
        bases: set[bytes] = set()
        for entry_id, glance in changes.entries.items():
            self._apply_entry(sql, entry_id, glance, now, affected, bases)
        for path, found in changes.folders.items():
            self._apply_folder(sql, path, found, now, affected, bases)
        self._mark(sql, affected, bases)

    def sweep(self, sql: Sql, *, stop: Callable[[], bool]) -> Iterator[Changes]:
        """Every folder of the home, newest names first, in parts; each is to be applied before the next is asked
        for."""
        self._know_folders(sql)
        known = set(self._folders)
        changes, count = Changes(), 0
        for root in ("sessions", "archived_sessions"):
            for path, found, mtime_ns in self._every_folder(root, 0):
                if stop():
                    return
                known.discard(path)
                changes.folders[path] = found, mtime_ns
                count += len(found)
                if count >= BATCH:
                    yield changes
                    changes, count = Changes(), 0
        for path in known:
            changes.folders[path] = None
        yield changes

    # -- looking

    def _know_folders(self, sql: Sql) -> None:
        seen = (sql, sql.version)
        if self._seen != seen:
            rows = list(sql.run(_FOLDERS))
            self._folders.clear()
            self._listed.clear()
        elif self._written_to:
            # Whatever became of it.
            rows = [row for path in self._written_to for row in sql.run(f"{_FOLDERS} WHERE path = ?", (path,))]
            for path in self._written_to:
                self._folders.pop(path, None)
                self._listed.pop(path, None)
        else:
            return
        root = f"{self._home.path}/"
        for number, path, archived, mtime in rows:
            if _inside(path):
                self._folders[path] = _Folder(number, root + path, bool(archived), mtime)
        self._seen = seen
        self._written_to.clear()
        self._likely = None

    def _leave_replaced(self, changes: Changes) -> None:
        """A folder that gave its name to a link or a file is none any more, whatever lies behind the link."""
        listed = {path: found for path, found in changes.folders.items() if found is not None}
        for path in self._folders:
            above, _, name = path.rpartition("/")
            if (found := listed.get(above)) is not None and not any(
                entry.is_dir and entry.name == name for entry in found[0]
            ):
                changes.folders[path] = None

    def _walk(self, sql: Sql, path: str, changes: Changes, depth: int) -> None:
        """Read a folder, and those below it that are new."""
        folder = self._folders.get(path)
        if path in changes.folders or (folder is not None and folder.mtime_ns < 0 and self._is_as_listed(path)):
            return
        known = self._known(sql, path)
        found = self._read(path, known)
        if found is None:
            if folder is not None:
                changes.folders[path] = None
            return
        nothing_new = len(found[0]) == len(known) and all(known.get(entry.name) is entry for entry in found[0])
        if nothing_new and folder is not None and folder.mtime_ns == found[1] < 0:
            # Its time says nothing yet.
            self._listed[path] = {entry.name: entry.inode for entry in found[0]}
            return
        changes.folders[path] = found
        changes.new += sum(known.get(entry.name) is not entry for entry in found[0])
        if depth < DEEPEST:
            for entry in found[0]:
                if entry.is_dir and f"{path}/{entry.name}" not in self._folders:
                    self._walk(sql, f"{path}/{entry.name}", changes, depth + 1)

    def _is_as_listed(self, path: str) -> bool:
        """Whether a folder whose time says nothing yet, nor does now, holds what it held."""
        listed, folder = self._listed.get(path), self._home.path / path
        if listed is None:
            return False
        try:
            now = self._now_ns()
            mtime_ns = self._home.fs.stat(folder).mtime_ns
            entries = self._home.fs.scan(folder, stats=False)
        except OSError:
            return False
        return not _settled(mtime_ns, now) and {entry.name: entry.inode for entry in entries} == listed

    def _known(self, sql: Sql, path: str) -> dict[str, Entry]:
        """The entries of a folder as they were."""
        return {
            name: Entry(name, False, size, mtime_ns, inode)
            for name, size, mtime_ns, inode in sql.run(
                "SELECT e.name, e.size, e.mtime_ns, e.inode FROM folders f JOIN entries e ON e.folder = f.id"
                " WHERE f.path = ?",
                (path,),
            )
        }

    def _read(self, path: str, known: Mapping[str, Entry] | None = None) -> tuple[Sequence[Entry], int] | None:
        """A folder's entries and its time. Where entries are `known`, only those that are new or another file are
        measured: the time of a folder tells of names, and says nothing of what was written."""
        folder = self._home.path / path
        try:
            now = self._now_ns()
            # Its time first: what changes it while it is read makes it differ at the next look.
            mtime_ns = self._home.fs.stat(folder).mtime_ns
            entries = self._home.fs.scan(folder, stats=not known)
        except OSError:
            return None
        if known:
            entries = [self._measured(folder, entry, known.get(entry.name)) for entry in entries]
        return [entry for entry in entries if entry.inode >= 0], mtime_ns if _settled(mtime_ns, now) else -1

    def _measured(self, folder: Path, entry: Entry, known: Entry | None) -> Entry:
        if entry.is_dir:
            return entry
        if known is not None and known.inode == entry.inode:
            return known
        if RolloutName.parse(entry.name) is None:
            return entry
        try:
            status = self._home.fs.stat(folder / entry.name)
        except OSError:
            return entry._replace(inode=-1)  # gone again
        return Entry(entry.name, False, status.size, status.mtime_ns, status.identity.inode)

    def _every_folder(self, path: str, depth: int) -> Iterator[tuple[str, Sequence[Entry], int]]:
        found = self._read(path)
        if found is None:
            return
        if depth < DEEPEST:
            for name in sorted((entry.name for entry in found[0] if entry.is_dir), reverse=True):
                yield from self._every_folder(f"{path}/{name}", depth + 1)
        yield path, *found

    def _chosen(self, sql: Sql) -> list[_Row]:
        if self._likely is None:
            whole: list[_Row] = list(sql.run(_WHOLE))
            self._all = len(whole) <= WHOLE
            self._likely = whole if self._all else list(sql.run(_LIKELY))
        if self._all:
            return self._likely
        others = list(sql.run(_IN_TURN, (self._turn,)))
        self._turn = others[-1][0] if len(others) == TURN else 0
        chosen: dict[int, _Row] = {row[0]: row for row in (*self._likely, *others)}
        for thread_id in self._written():
            for *row, _ in sql.run(_OF_THREAD, (key_of(thread_id),)):
                chosen[row[0]] = cast("_Row", tuple(row))
        return list(chosen.values())

    def _written(self) -> list[str]:
        """Threads that somebody writes now."""
        try:
            names = self._home.fs.names(self._home.lock_folder)[0]
        except OSError:
            return []
        return [name.removesuffix(".lock") for name in names[:HOT] if name.endswith(".lock")]

    def _look_at_entries(self, rows: Sequence[_Row], changes: Changes) -> None:
        root = f"{self._home.path}/"
        glances = self._home.fs.glance([root + row[1] if _inside(row[1]) else "" for row in rows])
        for (number, _, size, mtime_ns, inode, sure), glance in zip(rows, glances, strict=True):
            if glance is None or glance[3]:
                changes.entries[number] = None
            elif not sure or glance[:3] != (size, mtime_ns, inode):
                changes.entries[number] = glance

    # -- writing

    def _apply_folder(
        self,
        sql: Sql,
        path: str,
        found: tuple[Sequence[Entry], int] | None,
        now: int,
        affected: set[bytes],
        bases: set[bytes],
    ) -> None:
        number = sql.one("SELECT id FROM folders WHERE path = ?", (path,))
        if found is None:
            for name, thread in sql.run("SELECT name, thread FROM entries WHERE folder = ?", (number,)):
                affected.add(thread)
                bases.add(_base(name))
            sql.run("DELETE FROM entries WHERE folder = ?", (number,))
            sql.run("DELETE FROM folders WHERE id = ?", (number,))
            return
        entries, mtime_ns = found
        archived = path == "archived_sessions" or path.startswith("archived_sessions/")
        if number is None:
            sql.run("INSERT INTO folders (path, archived, mtime_ns) VALUES (?, ?, ?)", (path, archived, mtime_ns))
            number = sql.last_id
        else:
            sql.run("UPDATE folders SET mtime_ns = ?, archived = ? WHERE id = ?", (mtime_ns, archived, number))
        known = {
            name: (entry_id, size, mtime, inode, thread, sure)
            for entry_id, name, size, mtime, inode, thread, sure in sql.run(
                "SELECT id, name, size, mtime_ns, inode, thread, sure FROM entries WHERE folder = ?", (number,)
            )
        }
        new: list[tuple[object, ...]] = []
        for entry in entries:
            if entry.is_dir:
                continue
            before = known.pop(entry.name, None)
            sure = _settled(entry.mtime_ns, now)
            if before is not None:
                if before[1:4] != (entry.size, entry.mtime_ns, entry.inode) or not before[5]:
                    _changed(before[1], before[3], entry.size, entry.inode, entry.name, bases)
                    affected.add(before[4])
                    sql.run(
                        "UPDATE entries SET size = ?, mtime_ns = ?, inode = ?, sure = ?, taken = 0 WHERE id = ?",
                        (entry.size, entry.mtime_ns, entry.inode, sure, before[0]),
                    )
            elif (name := RolloutName.parse(entry.name)) is not None:
                thread = key_of(name.thread_id)
                affected.add(thread)
                bases.add(key_of(name.rollout_id))
                new.append((number, entry.name, thread, entry.size, entry.mtime_ns, entry.inode, sure))
        sql.many(
            "INSERT INTO entries (folder, name, thread, size, mtime_ns, inode, sure) VALUES (?, ?, ?, ?, ?, ?, ?)", new
        )
        for name, (entry_id, _, _, _, thread, _) in known.items():
            affected.add(thread)
            bases.add(_base(name))
            sql.run("DELETE FROM entries WHERE id = ?", (entry_id,))

    def _apply_entry(
        self,
        sql: Sql,
        number: int,
        glance: Glance | None,
        now: int,
        affected: set[bytes],
        bases: set[bytes],
    ) -> None:
        row = sql.one("SELECT thread, name, size, inode FROM entries WHERE id = ?", (number,))
        if row is None:
            return  # another process was here
        thread, name, size, inode = row
        affected.add(thread)
        if glance is None:
            bases.add(_base(name))
            sql.run("DELETE FROM entries WHERE id = ?", (number,))
            self._listed.clear()
            return
        new_size, mtime_ns, new_inode, _ = glance
        _changed(size, inode, new_size, new_inode, name, bases)
        sql.run(
            "UPDATE entries SET size = ?, mtime_ns = ?, inode = ?, sure = ?, taken = 0 WHERE id = ?",
            (new_size, mtime_ns, new_inode, _settled(mtime_ns, now), number),
        )

    def _mark(self, sql: Sql, affected: set[bytes], bases: set[bytes]) -> None:
        if bases:
            heirs = sql.run("SELECT thread FROM bases WHERE base IN (SELECT value FROM carray(?))", (_carray(bases),))
            affected.update(thread for (thread,) in heirs)
        if not affected:
            return
        rows = sql.run(
            "SELECT DISTINCT thread FROM entries WHERE thread IN (SELECT value FROM carray(?))", (_carray(affected),)
        )
        there = {thread for (thread,) in rows}
        for thread in affected - there:
            forget(sql, thread)
        sql.many(
            "INSERT INTO threads (thread, stale, version) VALUES (?, 1, 1)"
            " ON CONFLICT (thread) DO UPDATE SET stale = 1, version = version + 1",
            [(thread,) for thread in sorted(there)],
        )


def forget(sql: Sql, thread: bytes) -> None:
    """Take a thread out of the index."""
    for number, content in list(sql.run("SELECT id, content FROM threads WHERE thread = ?", (thread,))):
        sql.run("DELETE FROM titles WHERE rowid = ?", (number,))
        sql.run("DELETE FROM contents WHERE id = ?", (content,))
    sql.run("DELETE FROM threads WHERE thread = ?", (thread,))
    sql.run("DELETE FROM bases WHERE thread = ?", (thread,))
    sql.run("DELETE FROM offsets WHERE thread = ?", (thread,))


def files_of(sql: Sql, home: Home, thread_id: str) -> ThreadFiles | None:
    """The files of a thread as the index knows them; None when it knows none."""
    return files_of_all(sql, home, (thread_id,)).get(thread_id)


def files_of_all(
    sql: Sql, home: Home, thread_ids: Collection[str], at_hand: Mapping[str, RolloutFile] | None = None
) -> dict[str, ThreadFiles]:
    """The same for many threads, those alone of which it knows files. Those that are `at_hand`, by their paths, are not
    made again."""
    known = at_hand or {}
    found: dict[str, list[RolloutFile]] = {}
    if thread_ids:
        for folder, archived, name, size, mtime_ns in sql.run(
            "SELECT f.path, f.archived, e.name, e.size, e.mtime_ns FROM entries e JOIN folders f ON f.id = e.folder"
            " WHERE e.thread IN (SELECT value FROM carray(?))",
            (_carray(key_of(thread_id) for thread_id in thread_ids),),
        ):
            path = f"{home.path}/{folder}/{name}"
            file = known.get(path)
            if file is None or (file.size, file.mtime_ns, file.archived) != (size, mtime_ns, archived):
                parsed = RolloutName.parse(name)
                # A row may say anything: the name decides whose file it is.
                if parsed is None or parsed.thread_id not in thread_ids or not _inside(folder) or "/" in name:
                    continue
                file = RolloutFile(Path(path), parsed, bool(archived), size, mtime_ns)
            found.setdefault(file.thread_id, []).append(file)
    return {thread_id: home.thread_of(thread_id, files) for thread_id, files in found.items()}


def _carray(keys: Iterable[bytes]) -> Any:
    return cast("Any", apsw).carray(tuple(keys))


def _changed(size: int, inode: int, new_size: int, new_inode: int, name: str, bases: set[bytes]) -> None:
    # What only grew gives those who inherit from it what it gave before.
    if new_inode != inode or new_size < size:
        bases.add(_base(name))


def _base(name: str) -> bytes:
    parsed = RolloutName.parse(name)
    return key_of(parsed.rollout_id) if parsed is not None else b""


def _inside(path: str) -> bool:
    parts = path.split("/")
    return parts[0] in ("sessions", "archived_sessions") and ".." not in parts and "." not in parts


def _settled(mtime_ns: int, now: int) -> bool:
    window = COARSE_NS if mtime_ns % 1_000_000_000 == 0 else RACY_NS
    return not now - window <= mtime_ns <= now + window
