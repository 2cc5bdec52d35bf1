"""Names, the archive and the trash: what they do to whole families of threads."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
from keeping_bench import CLEW, CODEX, Family, changing_steps, keeper_of, opened

from clew.errors import (
    AmbiguousName,
    BadRequest,
    ClewError,
    HomeUnwritable,
    LogDamaged,
    Owner,
    ThreadBusy,
    ThreadInTheWay,
    ThreadNotFound,
    ThreadProtected,
)
from clew.rollout import FailPoints, WriterLock
from clew.store import alone
from clew.store.keeper import Keeper
from clew.store.queries import ListQuery, Marks
from clew.store.shelf import Saved
from clew.testing import MemoryFileSystem
from clew.testing.disk import ProgramKilled

SAVED = CODEX / "saved_sessions.json"


def listed(fs: MemoryFileSystem, *, archived: bool | None = False) -> set[str]:
    with opened(fs) as store:
        return {thread.id for thread in store.catalog.list(ListQuery(archived=archived, limit=100)).threads}


# -- names ------------------------------------------------------------------------------------------------------------


def test_a_saved_name_leads_to_the_thread_everywhere() -> None:
    family = Family()
    with opened(family.fs) as store:
        for name in ("first", "second"):
            assert store.keeper.save(family.root.id, name) == Saved(name=name, thread_id=family.root.id)
        for name in ("first", "second", " second "):
            assert store.catalog.resolve(name).id == family.root.id
        found = store.catalog.get(family.root.id)
        assert (found.name, found.saved_as) == ("second", ("second", "first"))


def test_the_same_name_again_moves_to_the_newest_thread() -> None:
    family = Family()
    with opened(family.fs) as store:
        store.keeper.save(family.root.id, "before")
        store.keeper.save(family.root.id, "best")
        assert store.keeper.save(family.other.id, "best").moved_from == family.root.id
        assert store.catalog.resolve("best").id == family.other.id
        assert [store.catalog.get(one.id).name for one in (family.root, family.other)] == ["before", "best"]


def test_a_name_that_somebody_else_gave_and_a_saved_one_are_ambiguous() -> None:
    family = Family()
    with opened(family.fs) as store:
        store.keeper.save(family.root.id, "best")
        store.catalog.rename(family.other.id, "best")
        with pytest.raises(AmbiguousName) as ambiguous:
            store.catalog.resolve("best")
        assert set(ambiguous.value.candidates) == {family.root.id, family.other.id}


def test_saved_sessions_of_the_other_program_are_kept_and_added_to() -> None:
    family = Family()
    theirs = {"name": "theirs", "conversationId": family.other.id, "rolloutPath": "/x", "more": [1]}
    mine = {"name": "mine", "conversationId": family.other.id, "rolloutPath": "/x", "colour": "red"}
    family.fs.write_bytes(SAVED, json.dumps({"version": 7, "entries": {"theirs": theirs, "mine": mine}}).encode())
    with opened(family.fs) as store:
        store.keeper.save(family.root.id, "mine")
        path = store.catalog.get(family.root.id).path
    whole = json.loads(family.fs.read_bytes(SAVED))
    saved_at = whole["entries"]["mine"].pop("savedAt")
    assert saved_at.endswith("Z")
    assert list(whole["entries"]) == ["mine", "theirs"]
    assert whole == {
        "version": 7,
        "entries": {
            "theirs": theirs,
            "mine": {
                "name": "mine",
                "conversationId": family.root.id,
                "rolloutPath": path,
                "cwd": "/tmp/demo",
                "model": "gpt-5",
                "modelProvider": "mock",
                "createdAt": "2026-07-01T12:00:00.000Z",
                "colour": "red",
            },
        },
    }


@pytest.mark.parametrize("content", [b"", b"rubbish", b"[]", b'{"entries":[]}', b'{"entries":{}'])
def test_saved_sessions_that_cannot_be_read_are_not_written_over(content: bytes) -> None:
    family = Family()
    family.fs.write_bytes(SAVED, content)
    keeper = keeper_of(family.fs)
    with pytest.raises(LogDamaged):
        keeper.save(family.root.id, "name")
    assert family.fs.read_bytes(SAVED) == content
    assert keeper.shelf.marks() == {}


def test_a_name_is_taken_away_everywhere() -> None:
    family = Family()
    with opened(family.fs) as store:
        store.keeper.save(family.root.id, "one")
        store.keeper.save(family.root.id, "two")
        assert store.keeper.forget_name("two") == family.root.id
        assert store.catalog.get(family.root.id).name == "one"
        with pytest.raises(ThreadNotFound):
            store.catalog.resolve("two")
        with pytest.raises(ThreadNotFound):
            store.keeper.forget_name("two")
    assert list(json.loads(family.fs.read_bytes(SAVED))["entries"]) == ["one"]


def test_no_names_for_threads_that_are_not_there_and_no_unusable_ones() -> None:
    family = Family()
    keeper = keeper_of(family.fs)
    with pytest.raises(ThreadNotFound):
        keeper.save("01990000-0000-7000-8000-000000000000", "name")
    with pytest.raises(BadRequest):
        keeper.save(family.root.id, "a\tb")


def test_a_save_that_was_cut_off_is_completed_by_the_next() -> None:
    def prepare(family: Family) -> str:
        keeper_of(family.fs).save(family.other.id, "name")
        return family.root.id

    for step in changing_steps(prepare, lambda keeper, thread_id: keeper.save(thread_id, "name")):
        family = Family()
        doomed = family.fs.program()
        keeper, thread_id = keeper_of(doomed), prepare(family)
        doomed.kill_at(step)
        with suppress(ProgramKilled):
            keeper.save(thread_id, "name")
        family.fs.crash(step)
        with opened(family.fs) as store:
            assert store.catalog.resolve("name").id in (family.root.id, family.other.id)
            store.keeper.save(family.root.id, "name")
            assert store.catalog.resolve("name").id == family.root.id
            assert store.catalog.get(family.other.id).saved_as == ()
        entry = json.loads(family.fs.read_bytes(SAVED))["entries"]["name"]
        assert entry["conversationId"] == family.root.id


# -- the archive ------------------------------------------------------------------------------------------------------


def test_archiving_takes_along_what_a_thread_spawned_and_back() -> None:
    family = Family()
    keeper, others = keeper_of(family.fs), {family.other.id}
    mine = [family.root.id, family.child.id, family.grandchild.id]
    assert list(keeper.archive(family.root.id)) == [family.root.id, family.grandchild.id]
    assert (listed(family.fs), listed(family.fs, archived=True)) == (others, set(mine))
    assert keeper.archive(family.root.id) == ()
    assert list(keeper.unarchive(family.root.id)) == mine
    assert listed(family.fs) == {*others, *mine}


def test_a_thread_is_archived_alone_when_asked() -> None:
    family = Family()
    keeper = keeper_of(family.fs)
    assert list(keeper.archive(family.root.id, only=True)) == [family.root.id]
    assert listed(family.fs) == {family.other.id, family.grandchild.id}
    assert list(keeper.unarchive(family.root.id, only=True)) == [family.root.id]


def test_nothing_is_moved_while_somebody_writes_any_of_them() -> None:
    family = Family()
    before, keeper = family.files(), keeper_of(family.fs)
    lock = WriterLock.acquire(family.home, CLEW, family.grandchild.id, Owner("writer", 1))
    for change in (Keeper.archive, _CHANGES["delete"][1]):
        with pytest.raises(ThreadBusy) as busy:
            change(keeper, family.root.id)
        assert (busy.value.thread_id, busy.value.owner is not None) == (family.grandchild.id, True)
    assert family.files() == before
    lock.release()
    keeper.archive(family.root.id)


@pytest.mark.parametrize("power", [False, True])
def test_an_archiving_that_was_cut_off_is_harmless_and_completed_by_the_next(power: bool) -> None:
    for step in changing_steps(lambda family: family.root.id, Keeper.archive):
        family = Family()
        contents = sorted(content for content, _ in family.files().values())
        doomed = family.fs.program()
        keeper = keeper_of(doomed)
        doomed.kill_at(step)
        with suppress(ProgramKilled):
            keeper.archive(family.root.id)
        if power:
            family.fs.crash(step)
        mine = {family.root.id, family.child.id, family.grandchild.id}
        assert listed(family.fs, archived=None) == {family.other.id, *mine}
        keeper_of(family.fs).archive(family.root.id)
        assert listed(family.fs) == {family.other.id}
        assert sorted(content for content, _ in family.files().values()) == contents


# -- the trash --------------------------------------------------------------------------------------------------------


def test_deleting_takes_the_whole_family_along_and_restoring_brings_it_back_as_it_was() -> None:
    family = Family()
    before = family.files()
    with opened(family.fs) as store:
        keeper, shelf = store.keeper, store.shelf
        keeper.save(family.root.id, "best")
        shelf.tag(family.grandchild.id, ["red"])
        marks = shelf.marks()
        trashed = keeper.delete([family.root.id], why="no use")
        assert [(thread.id, thread.title, thread.archived, thread.parent) for thread in trashed.threads] == [
            (family.root.id, "best", False, None),
            (family.child.id, "Do it.", True, family.root.id),
            (family.grandchild.id, "Do it.", False, family.child.id),
        ]
        assert (trashed.by, trashed.why, trashed.size) == ("clew test", "no use", _size(before, family.other.id))
        assert listed(family.fs, archived=None) == {family.other.id}
        with pytest.raises(ThreadNotFound):
            store.catalog.resolve("best")
        assert list(keeper.trash()) == [trashed]
        assert list(keeper.restore(trashed.id)) == [trashed]
        assert store.catalog.resolve("best").id == family.root.id
        assert (family.files(), shelf.marks(), list(keeper.trash())) == (before, marks, [])
        with pytest.raises(ThreadNotFound):
            keeper.restore(trashed.id)


def _size(files: dict[str, tuple[bytes, int]], without: str) -> int:
    return sum(len(content) for path, (content, _) in files.items() if without not in path)


def test_a_thread_that_others_inherit_from_is_kept_unless_they_go_too() -> None:
    family = Family()
    family.fork.write(family.home)
    of_fork = family.fork.fork(before=1).turn("Third?", "3.")
    of_fork.write(family.home)
    before, keeper = family.files(), keeper_of(family.fs)
    with pytest.raises(ThreadProtected) as protected:
        keeper.delete([family.root.id])
    assert protected.value.heirs == tuple(sorted(protected.value.heirs))
    assert family.fork.id in protected.value.heirs
    assert "--with-forks" in protected.value.hint
    assert family.files() == before
    trashed = keeper.delete([family.root.id], with_forks=True)
    assert listed(family.fs, archived=None) == {family.other.id}
    keeper.restore(trashed.id)
    assert family.files() == before


def test_a_fork_that_is_deleted_first_frees_its_source_and_brings_it_back_with_it() -> None:
    family = Family()
    family.fork.write(family.home)
    before, keeper = family.files(), keeper_of(family.fs)
    of_fork = keeper.delete([family.fork.id])
    of_root = keeper.delete([family.root.id])
    with pytest.raises(ThreadProtected):
        keeper.empty([of_root.id])
    assert list(keeper.restore(of_fork.id)) == [of_root, of_fork]
    assert family.files() == before


def test_what_goes_for_good_is_held_against_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    family = Family()
    keeper = keeper_of(family.fs)
    trashed = keeper.delete([family.root.id])
    family.fork.write(family.home)

    def lost(*_: object) -> tuple[str, ...]:
        return ()

    # What an index says that lost a row.
    monkeypatch.setattr("clew.store.catalog.HomeCatalog.heirs", lost)
    with pytest.raises(ThreadProtected) as protected:
        keeper.empty([trashed.id])
    assert protected.value.heirs == (family.fork.id,)
    assert list(keeper.trash()) == [trashed]


def test_a_pinned_thread_is_kept() -> None:
    family = Family()
    keeper = keeper_of(family.fs)
    keeper.shelf.pin(family.child.id)
    with pytest.raises(ThreadProtected) as protected:
        keeper.delete([family.root.id])
    assert (protected.value.thread_id, protected.value.pinned) == (family.child.id, True)
    keeper.shelf.unpin(family.child.id)
    keeper.delete([family.root.id])


def test_restoring_writes_over_nothing() -> None:
    family = Family()
    keeper = keeper_of(family.fs)
    trashed = keeper.delete([family.root.id])
    in_the_way = family.root.write(family.home, archived=True)
    before = family.files()
    with pytest.raises(ThreadInTheWay):
        keeper.restore(trashed.id)
    assert (family.files(), list(keeper.trash())) == (before, [trashed])
    for thread in family.home.threads():
        for file in thread.segments:
            if file.thread_id == family.root.id:
                family.fs.unlink(file.path)
    assert in_the_way.parent == family.home.archived_sessions
    assert list(keeper.restore(trashed.id)) == [trashed]


def test_emptying_removes_files_and_marks_for_good() -> None:
    family = Family()
    keeper = keeper_of(family.fs)
    keeper.shelf.tag(family.root.id, ["red"])
    keeper.shelf.tag(family.other.id, ["blue"])
    keeper.save(family.root.id, "best")
    first, second = keeper.delete([family.grandchild.id]), keeper.delete([family.root.id])
    assert list(keeper.trash()) == [second, first]
    with pytest.raises(ThreadNotFound):
        keeper.empty([first.id, "nothing"])
    assert list(keeper.empty([second.id])) == [second]
    assert list(keeper.trash()) == [first]
    keeper.empty([first.id])
    assert family.fs.scan(CLEW / "trash") == []
    assert keeper.shelf.marks() == {family.other.id: Marks(tags=frozenset({"blue"}))}


def test_what_was_deleted_is_found_by_whatever_names_it() -> None:
    family = Family()
    with opened(family.fs) as store:
        keeper = store.keeper
        keeper.save(family.root.id, "best")
        store.catalog.rename(family.other.id, "same")
        store.catalog.rename(family.grandchild.id, "same")
    first, second = keeper.delete([family.root.id]), keeper.delete([family.other.id])
    with pytest.raises(AmbiguousName) as ambiguous:
        keeper.find_trashed("same")
    assert set(ambiguous.value.candidates) == {first.id, second.id}
    for reference in (first.id, family.root.id, family.child.id.upper(), "best", " best "):
        assert keeper.find_trashed(reference) == first
    assert [keeper.find_trashed(reference) for reference in ("last", family.other.id)] == [second, second]
    assert [keeper.find_trashed(one.id[:8]) for one in (family.root, family.other)] == [first, second]
    for reference in ("", "nothing", family.root.id[:7]):
        with pytest.raises(ThreadNotFound):
            keeper.find_trashed(reference)


def test_the_trash_of_another_home_is_not_shown() -> None:
    family = Family()
    trashed = keeper_of(family.fs).delete([family.other.id])
    path = CLEW / "trash.jsonl"
    rows = family.fs.read_bytes(path).replace(b'"/home/codex"', b'"/home/other"')
    family.fs.write_bytes(path, rows)
    assert list(keeper_of(family.fs).trash()) == []
    with pytest.raises(ThreadNotFound):
        keeper_of(family.fs).restore(trashed.id)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "sessions/../../x", "auth.json", "sessions/2026/x.jsonl", "archived_sessions/../auth.json"]
)
def test_a_journal_that_names_other_files_moves_nothing(path: str) -> None:
    family = Family()
    family.fs.write_bytes(CODEX / "auth.json", b"secret")
    row = {
        "at": "2026-07-01T12:00:00.000Z",
        "by": "x",
        "trash": "20260701T120000.000Z",
        "do": "delete",
        "home": str(CODEX),
        "threads": [{"id": family.other.id}],
        "files": [{"path": path, "size": 1}],
    }
    before = family.files()
    family.fs.write_bytes(CLEW / "trash.jsonl", json.dumps(row).encode() + b"\n")
    assert list(keeper_of(family.fs).trash()) == []
    assert (family.files(), family.fs.read_bytes(CODEX / "auth.json")) == (before, b"secret")


def _deleted(family: Family) -> str:
    return keeper_of(family.fs).delete([family.root.id]).id


_CHANGES: dict[str, tuple[Callable[[Family], str], Callable[[Keeper, str], object]]] = {
    "delete": (lambda family: family.root.id, lambda keeper, thread_id: keeper.delete([thread_id])),
    "restore": (_deleted, Keeper.restore),
    "empty": (_deleted, lambda keeper, trash_id: keeper.empty([trash_id])),
}


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("change", _CHANGES)
def test_a_change_of_the_trash_that_was_cut_off_is_completed_by_the_next_call(change: str, power: bool) -> None:
    prepare, run = _CHANGES[change]
    steps = changing_steps(prepare, run)
    assert len(steps) > 20
    acknowledged = False
    for step in steps:
        family = Family()
        before = family.files()
        told = prepare(family)
        mine = {family.root.id, family.child.id, family.grandchild.id}
        doomed = family.fs.program()
        keeper = keeper_of(doomed)
        doomed.kill_at(step, written=step % 50)
        acknowledged = False
        with suppress(ProgramKilled):
            run(keeper, told)
            acknowledged = doomed.alive
        if power:
            family.fs.crash(step)
        after = keeper_of(family.fs)
        entries = after.trash()
        there = listed(family.fs, archived=None) - {family.other.id}
        trashed = {thread.id for entry in entries for thread in entry.threads}
        if change == "empty":
            assert there == set()
            assert trashed == mine or (trashed == set() and family.fs.scan(CLEW / "trash") == [])
        else:
            assert (there, trashed) in ((mine, set()), (set(), mine)), step
        if acknowledged:
            assert trashed == (mine if change == "delete" else set())
        for entry in entries:
            after.restore(entry.id)
        if there or trashed:
            assert family.files() == before
    assert acknowledged


@pytest.mark.parametrize("operation", ["link", "unlink", "sync", "sync_folder", "write", "open", "make_folder", "stat"])
def test_what_the_disk_refuses_is_an_error_of_ours_and_loses_nothing(operation: str) -> None:
    for at in range(1, 12):
        family = Family()
        before, keeper = family.files(), keeper_of(family.fs)
        family.fs.fail(operation, at=at, error=errno.EACCES if operation == "open" else errno.EIO)
        try:
            keeper.delete([family.root.id])
        except ClewError:
            family.fs.heal()
        else:
            family.fs.heal()
        keeper = keeper_of(family.fs)
        for entry in keeper.trash():
            keeper.restore(entry.id)
        assert family.files() == before


def test_what_was_deleted_after_an_archiving_that_was_cut_off_does_not_come_back() -> None:
    for step in changing_steps(lambda family: family.root.id, Keeper.archive):
        family = Family()
        doomed = family.fs.program()
        keeper = keeper_of(doomed)
        doomed.kill_at(step)
        with suppress(ProgramKilled):
            keeper.archive(family.root.id)
        keeper_of(family.fs).delete([family.root.id])
        family.fs.crash()
        assert listed(family.fs, archived=None) == {family.other.id}, step


@pytest.mark.parametrize("do", ["delete", "restore", "empty"])
def test_what_a_killed_program_began_is_completed_for_good(do: str) -> None:
    """Also where it was killed before what it noted was on the disk."""
    killed, step = True, 0
    while killed:
        step += 1
        family = Family()
        before, keeper = family.files(), keeper_of(family.fs)
        told = None if do == "delete" else keeper.delete([family.root.id])
        gone = family.files()
        doomed = family.fs.program()
        dying = keeper_of(doomed)
        doomed.kill_at(step)
        try:
            if told is None:
                dying.delete([family.root.id])
            elif do == "restore":
                dying.restore(told.id)
            else:
                dying.empty([told.id])
            killed = False
        except ProgramKilled:
            pass
        # The next program sees it, and completes it; then the power goes.
        seen = [entry.id for entry in keeper_of(family.fs).trash()]
        family.fs.crash()
        keeper = keeper_of(family.fs)
        assert [entry.id for entry in keeper.trash()] == seen, step
        for entry in seen:
            keeper.restore(entry)
        assert family.files() == (gone if do == "empty" and not seen else before), step


def test_a_thread_is_not_forked_while_it_is_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alone, "LOCK_SECONDS", 0.0)
    family, fail = Family(), FailPoints()
    new = family.fork.id

    def fork() -> None:
        with opened(family.fs) as store, pytest.raises(HomeUnwritable):
            anyio.run(store.fork, family.root.id, new)

    fail.on("before_unlink", fork)
    keeper = keeper_of(family.fs, fail)
    trashed = keeper.delete([family.root.id])
    with opened(family.fs) as store, pytest.raises(ThreadNotFound):
        anyio.run(store.fork, family.root.id, new)
    fail.off("before_unlink")
    keeper.restore(trashed.id)
    with opened(family.fs) as store:
        anyio.run(store.fork, family.root.id, new)
    with pytest.raises(ThreadProtected):
        keeper.delete([family.root.id])


def test_emptying_that_was_cut_off_leaves_none_without_what_it_inherits_from() -> None:
    for step in range(1, 60, 2):
        family = Family()
        family.fork.write(family.home)
        keeper = keeper_of(family.fs)
        both = [keeper.delete([one]).id for one in (family.fork.id, family.root.id)]
        doomed = family.fs.program()
        dying = keeper_of(doomed)
        doomed.kill_at(step)
        with suppress(ProgramKilled):
            dying.empty(both)
        assert [entry.id for entry in keeper.trash()] in ([*reversed(both)], [both[1]], []), step


def test_the_files_of_another_disk_stay_on_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    family = Family()
    stat = MemoryFileSystem.stat

    def two_disks(self: MemoryFileSystem, path: Path):
        found = stat(self, path)
        return found._replace(identity=found.identity._replace(device=7)) if path == CLEW else found

    monkeypatch.setattr(MemoryFileSystem, "stat", two_disks)
    before, keeper = family.files(), keeper_of(family.fs)
    trashed = keeper.delete([family.root.id])
    assert len(family.fs.scan(CODEX / ".clew-trash")) == len(trashed.files)
    assert listed(family.fs, archived=None) == {family.other.id}
    keeper.restore(trashed.id)
    assert family.files() == before


def test_the_steps_of_a_move_have_fail_points() -> None:
    family, fail = Family(), FailPoints()
    keeper_of(family.fs, fail).delete([family.root.id])
    assert {"after_rename", "before_unlink", "before_sync", "after_sync"} <= set(fail.hits)
