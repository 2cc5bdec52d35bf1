"""Whatever the index says of a thread's files and family: what is done to it is what the disk asks for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from index_bench import IndexBench, agree

from clew.clock import SystemClock
from clew.errors import Owner, ThreadProtected
from clew.ids import SystemIds
from clew.rollout import Home, RealFileSystem
from clew.store import LocalStore
from clew.store.queries import ListQuery
from clew.testing import ThreadBuilder

DAY = "sessions/2026/07/01"


class Family:
    """A home with a complete index: `root` was taken back, and its newest file lies in the folder of a later day; it
    spawned `child`; `fork`, not written yet, reads lines of `other`."""

    def __init__(self, folder: Path) -> None:
        self.bench = IndexBench(folder)
        self.home = self.bench.home
        self.root = self.bench.thread(0).turn("Second?", "Two.").revert(1).turn("Better?", "OK.")
        self.child = self.bench.thread(1, meta={"parent_thread_id": self.root.id})
        self.other = self.bench.thread(2).turn("More?", "Yes.")
        self.fork = self.other.fork(before=1).turn("Otherwise?", "So.")
        for thread in (self.child, self.other):
            thread.write(self.home)
        self.bench.thread(8).write(self.home, archived=True)
        self.newest = self._moved(self.root.write(self.home), "sessions/2026/07/05")
        self.bench.keep()

    def _moved(self, path: Path, folder: str) -> Path:
        target = self.home.path / folder / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        return path.rename(target)

    def move_unseen(self, path: Path, folder: str) -> None:
        """As no program can, without the times of folders telling."""
        target = self.home.path / folder
        target.mkdir(parents=True, exist_ok=True)
        times = [(one, one.stat().st_mtime_ns) for one in (path.parent, target, target.parent)]
        path.rename(target / path.name)
        for one, time in times:
            os.utime(one, ns=(time, time))

    def run(self, *statements: str) -> None:
        with self.bench.open().index_database.using() as sql:
            for statement in statements:
                list(sql.run(statement.format(root=_key(self.root), child=_key(self.child), other=_key(self.other))))


def _key(thread: ThreadBuilder) -> str:
    return f"x'{thread.id.replace('-', '')}'"


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Family]:
    family = Family(tmp_path)
    with closing(family.bench):
        yield family


@pytest.fixture
def settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Family]:
    """The same with folders whose times can be believed at once."""
    monkeypatch.setattr("clew.index.reconcile.RACY_NS", 0)
    family = Family(tmp_path)
    with closing(family.bench):
        yield family


LIES: dict[str, Callable[[Family], None]] = {
    "none": lambda family: None,
    "no file is known": lambda family: family.run("DELETE FROM entries WHERE thread = {root}"),
    "the older file is not known": lambda family: family.run(
        "DELETE FROM entries WHERE thread = {root} AND folder = (SELECT id FROM folders WHERE path LIKE '%07/01')"
    ),
    "the newer file is not known": lambda family: family.run(
        "DELETE FROM entries WHERE thread = {root} AND folder = (SELECT id FROM folders WHERE path LIKE '%07/05')"
    ),
    "a file of another thread": lambda family: family.run("UPDATE entries SET thread = {root} WHERE thread = {other}"),
    "a file that is nowhere": lambda family: family.run(
        "INSERT INTO entries (folder, name, thread, size, mtime_ns, inode, sure)"
        " SELECT folder, replace(name, '2026-', '2027-'), thread, size, mtime_ns, inode, 1 FROM entries"
        " WHERE thread = {root}"
    ),
    "a place outside": lambda family: family.run("UPDATE folders SET path = path || '/../05' WHERE path LIKE '%07/05'"),
    "another file of that name": lambda family: family.run("UPDATE entries SET inode = 7 WHERE thread = {root}"),
    "the row of another thread": lambda family: family.run(
        "UPDATE threads SET content = (SELECT content FROM threads WHERE thread = {other}) WHERE thread = {root}"
    ),
    "the archive": lambda family: family.run("UPDATE folders SET archived = 1"),
    "a foreign child": lambda family: family.run("UPDATE threads SET parent = {root} WHERE thread = {other}"),
    "a child's child": lambda family: family.run("UPDATE threads SET parent = {child} WHERE thread = {other}"),
    "a foreign heir": lambda family: family.run("INSERT INTO bases VALUES ({root}, {other}, 1)"),
    "an unknown base": lambda family: family.run("INSERT INTO bases VALUES (x'00', {root}, 1)"),
    "moved away unseen": lambda family: family.move_unseen(family.newest, "sessions/2026/07/06"),
    "archived unseen": lambda family: family.move_unseen(family.newest, "archived_sessions"),
    "gone": lambda family: shutil.rmtree(family.newest.parent),
    "an index that is not complete": lambda family: family.run("DELETE FROM facts WHERE name = 'complete'"),
    "no index": lambda family: shutil.rmtree(family.bench.clew_home),
}

CHANGES: dict[str, Callable[[LocalStore, str], object]] = {
    "rename": lambda store, one: store.catalog.rename(one, "minotaur"),
    "archive": lambda store, one: store.keeper.archive(one),
    "archive it alone": lambda store, one: store.catalog.archive(one),
    "archive and back": lambda store, one: (store.keeper.archive(one), store.keeper.unarchive(one)),
    "delete": lambda store, one: store.keeper.delete([one]),
    "delete and back": lambda store, one: store.keeper.restore(store.keeper.delete([one]).id),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("lie", LIES)
def test_a_change_is_the_same_whatever_the_index_says(settled: Family, tmp_path: Path, lie: str, change: str) -> None:
    LIES[lie](settled)
    plain = tmp_path / "plain"
    shutil.copytree(settled.home.path, plain / "codex")
    with closing(_plain(plain)) as store:
        CHANGES[change](store, settled.root.id)
        expected = _files(Home(RealFileSystem(), plain / "codex")), _names(store)
    CHANGES[change](settled.bench.open(), settled.root.id)
    with closing(_plain(tmp_path)) as store:
        assert (_files(settled.home), _names(store)) == expected


def _plain(folder: Path) -> LocalStore:
    clock, fs = SystemClock(), RealFileSystem()
    return LocalStore(fs, folder / "codex", folder / "clew", clock=clock, ids=SystemIds(), owner=Owner("plain"))


def _files(home: Home) -> dict[str, bytes]:
    return {str(file.path.relative_to(home.path)): file.path.read_bytes() for file in home.files()}


def _names(store: LocalStore) -> dict[str, str | None]:
    return {one.id: one.name for one in store.catalog.list(ListQuery(archived=None)).threads}


@pytest.mark.parametrize("change", ["archive", "archive it alone", "delete"])
def test_what_another_program_added_a_moment_ago_goes_along(family: Family, tmp_path: Path, change: str) -> None:
    store = family.bench.open()
    store.keeper.archive(family.other.id)
    store.keeper.unarchive(family.other.id)
    later = family.root.revert(0).turn("Once more?", "Fine.").write(Home(RealFileSystem(), tmp_path / "beside"))
    shutil.move(later, family.newest.parent)
    grandchild = family.bench.thread(5, meta={"parent_thread_id": family.child.id})
    grandchild.write(family.home)
    CHANGES[change](store, family.root.id)
    gone = {family.root.id} if change == "archive it alone" else {family.root.id, family.child.id, grandchild.id}
    assert {file.thread_id for file in family.home.files() if not file.archived}.isdisjoint(gone)
    agree([store.catalog], family.bench.plain)


def test_a_thread_that_was_forked_a_moment_ago_is_kept(settled: Family) -> None:
    store = settled.bench.open()
    store.keeper.archive(settled.child.id)
    folder = settled.home.path / DAY
    # As if it had come while the folder was being changed, so that its time does not tell of it.
    time = folder.stat().st_mtime_ns
    settled.fork.write(settled.home)
    os.utime(folder, ns=(time, time))
    with pytest.raises(ThreadProtected) as protected:
        store.keeper.delete([settled.other.id])
    assert protected.value.heirs == (settled.fork.id,)
    store.keeper.delete([settled.other.id], with_forks=True)
    assert settled.home.find(settled.fork.id) is None


def test_a_fork_whose_beginning_came_later_than_its_file_is_seen(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clew.index.reconcile.RACY_NS", 0)
    path = family.fork.write(family.home)
    whole = path.read_bytes()
    path.write_bytes(b"")
    store = family.bench.open()
    assert store.catalog.get(family.fork.id).error is not None
    path.write_bytes(whole)
    with pytest.raises(ThreadProtected):
        store.keeper.delete([family.other.id])


def test_an_answer_after_a_change_has_what_came_beside_it(settled: Family) -> None:
    store = settled.bench.open()
    store.keeper.archive(settled.other.id)
    folder = settled.home.archived_sessions
    time = folder.stat().st_mtime_ns
    settled.bench.thread(6).write(settled.home, archived=True)
    os.utime(folder, ns=(time, time))
    agree([store.catalog], settled.bench.plain)


def test_what_goes_on_beside_a_change_of_ours_is_seen_by_the_next(settled: Family) -> None:
    """A move by others is told by the folder it came from, also where the other one's time tells nothing."""
    store = settled.bench.open()
    store.keeper.archive(settled.child.id)
    folder = settled.home.archived_sessions
    time = folder.stat().st_mtime_ns
    for file in settled.home.find(settled.other.id).segments:  # pyright: ignore[reportOptionalMemberAccess] - it is there
        file.path.rename(folder / file.path.name)
    os.utime(folder, ns=(time, time))
    assert store.keeper.archive(settled.other.id) == ()
    assert store.keeper.unarchive(settled.other.id) == (settled.other.id,)
    agree([store.catalog], settled.bench.plain)


class _Listening(RealFileSystem):
    """Notes which folders are listed."""

    def __init__(self) -> None:
        self.listed: list[str] = []

    def scan(self, folder: Path, *, stats: bool = True) -> Any:
        self.listed.append(folder.name)
        return super().scan(folder, stats=stats)

    def names(self, folder: Path) -> tuple[list[str], list[str]]:
        self.listed.append(folder.name)
        return super().names(folder)


def test_folders_that_nothing_happened_to_are_not_read(settled: Family) -> None:
    """What an operation costs must not grow with the home."""
    fs = _Listening()
    clock = SystemClock()
    store = LocalStore(
        fs,
        settled.home.path,
        settled.bench.clew_home,
        clock=clock,
        ids=SystemIds(clock),
        owner=Owner("clew test"),
        index="use",
    )
    with closing(store):
        store.catalog.list(ListQuery())
        for change in ("rename", "archive and back", "archive", "archive it alone"):
            fs.listed.clear()
            CHANGES[change](store, settled.other.id)
            assert fs.listed == [], change
        store.keeper.unarchive(settled.other.id)
        trashed = store.keeper.delete([settled.other.id])
        store.keeper.restore(trashed.id)
        # Who inherits from a thread is looked for in all folders that changed.
        assert set(fs.listed) <= {"01", "archived_sessions"}
