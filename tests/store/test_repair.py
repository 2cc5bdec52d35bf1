"""Every surgery: what it makes of a damaged home, what it refuses, and that it can be undone."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from repair_cases import CASES, OTHER, Case, damaged_base, foreign_tail, numbered_badly, reordered, thread, torn

from clew.clock import SystemClock
from clew.errors import BadRequest, ClewError, LogReplaced, Owner, ThreadBusy, ThreadNotFound, Unsupported
from clew.rollout import Home, NameIndex, RealFileSystem, Record, WriterLock, read_thread
from clew.store.backups import Change, Sink, commit
from clew.store.checking import Checker
from clew.store.findings import Finding
from clew.store.repair import REPAIRS, Repairs
from clew.testing import Call, ThreadBuilder


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(RealFileSystem(), tmp_path / "codex")


@pytest.fixture
def clew_home(tmp_path: Path) -> Path:
    return tmp_path / "clew"


def repairs(home: Home, clew_home: Path) -> Repairs:
    return Repairs(home.fs, home.path, clew_home, clock=SystemClock(), owner=Owner("test", os.getpid()))


def found(home: Home, clew_home: Path) -> list[Finding]:
    return [each for each in Checker(home, clew_home, clock=SystemClock()).home() if each.severity != "info"]


def files(home: Home) -> dict[str, tuple[bytes, int, int]]:
    """Everything in the home but locks that were taken."""
    return {
        str(path.relative_to(home.path)): (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode)
        for path in sorted(home.path.rglob("*"))
        if path.is_file() and path.name not in (".coordination.lock", "session_index.jsonl.lock")
    }


def rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


# -- all of them


@pytest.mark.parametrize("name", CASES)
def test_a_repair_helps_and_can_be_undone(home: Home, clew_home: Path, name: str) -> None:
    case: Case = CASES[name](home, clew_home)
    before = files(home)
    owners = sorted((clew_home / "owners").glob("*"))
    helped = REPAIRS[case.repair].codes
    assert helped & {each.code for each in found(home, clew_home)}
    surgeon = repairs(home, clew_home)
    assert surgeon.candidates(case.repair) == [case.thread_id]

    plan = surgeon.plan(case.repair, case.thread_id)
    assert plan.steps
    assert files(home) == before

    done = surgeon.apply(case.repair, case.thread_id)
    assert (done.steps, done.left) == (plan.steps, ())
    assert found(home, clew_home) == []
    assert files(home) != before
    assert surgeon.plan(case.repair, case.thread_id).steps == ()
    assert surgeon.apply(case.repair, case.thread_id).stamp is None

    assert done.stamp is not None
    assert surgeon.undo(done.stamp).state == "undone"
    assert files(home) == before
    assert sorted((clew_home / "owners").glob("*")) == owners
    assert surgeon.undo(done.stamp).state == "undone"
    assert files(home) == before


@pytest.mark.parametrize("name", CASES)
def test_the_backup_holds_every_original_with_its_digest(home: Home, clew_home: Path, name: str) -> None:
    case: Case = CASES[name](home, clew_home)
    there = [path for root in (home.path, clew_home) for path in root.rglob("*") if path.is_file()]
    before = {str(path): path.read_bytes() for path in there}
    done = repairs(home, clew_home).apply(case.repair, case.thread_id)
    assert done.backup is not None
    folder = Path(done.backup)
    assert folder.name == f"{done.stamp}-{case.repair}"
    manifest = json.loads((folder / "manifest.json").read_bytes())
    assert manifest["state"] == "done"
    for kept in manifest["files"]:
        if kept["before"] is None:
            assert kept["path"] not in before
            continue
        data = (folder / kept["original"]).read_bytes()
        assert data == before[kept["path"]]
        assert kept["before"] == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700


def test_what_has_grown_since_is_not_undone(home: Home, clew_home: Path) -> None:
    case = torn(home, clew_home)
    surgeon = repairs(home, clew_home)
    stamp = surgeon.apply("drop-torn-tail", case.thread_id).stamp
    assert stamp is not None
    (path,) = home.sessions.rglob("*.jsonl")
    with path.open("ab") as file:
        file.write(b"12345\n")
    before = files(home)
    with pytest.raises(Unsupported, match="has grown by 6 bytes since"):
        surgeon.undo(stamp)
    assert files(home) == before
    path.write_bytes(b"something else\n")
    with pytest.raises(Unsupported, match="was changed since"):
        surgeon.undo(stamp)
    path.unlink()
    with pytest.raises(Unsupported, match="is gone"):
        surgeon.undo(stamp)


def test_a_backup_that_was_touched_is_not_put_back(home: Home, clew_home: Path) -> None:
    case = torn(home, clew_home)
    surgeon = repairs(home, clew_home)
    done = surgeon.apply("drop-torn-tail", case.thread_id)
    assert done.backup is not None
    (copy,) = Path(done.backup).glob("0-*")
    copy.write_bytes(b"other")
    before = files(home)
    with pytest.raises(Unsupported, match="is not what was kept"):
        surgeon.undo(done.stamp or "")
    assert files(home) == before


def test_a_writer_without_locks_is_not_overwritten(home: Home, clew_home: Path) -> None:
    builder = thread()
    path = builder.write(home)

    def write(put: Sink) -> None:
        put(b"new\n")
        with path.open("ab") as file:
            file.write(b"{}\n")

    with pytest.raises(LogReplaced):
        commit(home.fs, clew_home, "test", [Change(path, "", write)], clock=SystemClock())
    assert path.read_bytes() == builder.data + b"{}\n"
    assert list(path.parent.iterdir()) == [path]
    (backup,) = repairs(home, clew_home).backups()
    assert backup.state == "failed"


def test_a_thread_that_is_written_is_left_alone(home: Home, clew_home: Path) -> None:
    case = torn(home, clew_home)
    surgeon = repairs(home, clew_home)
    stamp = surgeon.apply("drop-torn-tail", case.thread_id).stamp
    surgeon.undo(stamp or "")
    before = files(home)
    assert case.thread_id is not None
    lock = WriterLock.acquire(home, clew_home, case.thread_id, Owner("another", os.getpid()))
    try:
        with pytest.raises(ThreadBusy):
            surgeon.apply("drop-torn-tail", case.thread_id)
        with pytest.raises(ThreadBusy):
            surgeon.undo(stamp or "")
    finally:
        lock.release()
    assert files(home) == before


@pytest.mark.parametrize(
    ("name", "thread_id", "error"),
    [
        ("nonsense", None, BadRequest),
        ("renumber", None, BadRequest),
        ("renumber", OTHER, ThreadNotFound),
        ("rebuild-names", OTHER, BadRequest),
    ],
)
def test_wrong_calls_are_refused(
    home: Home, clew_home: Path, name: str, thread_id: str | None, error: type[ClewError]
) -> None:
    with pytest.raises(error):
        repairs(home, clew_home).apply(name, thread_id)


def test_an_unknown_stamp_is_refused(home: Home, clew_home: Path) -> None:
    with pytest.raises(BadRequest, match="there is no backup"):
        repairs(home, clew_home).undo("20260701T120000.000Z")


def test_backups_of_one_moment_get_stamps_of_their_own(home: Home, clew_home: Path) -> None:
    class Stopped(SystemClock):
        def now(self) -> float:
            return 1_782_907_200.0

    for number in range(2):
        builder = thread(seed=number, start=1_782_907_200.0 + number)
        builder.torn().write(home)
    surgeon = Repairs(home.fs, home.path, clew_home, clock=Stopped(), owner=Owner("test"))
    stamps = [surgeon.apply("drop-torn-tail", each).stamp for each in surgeon.candidates("drop-torn-tail")]
    assert stamps == ["20260701T120000.000Z", "20260701T120000.000.2Z"]
    assert [backup.stamp for backup in surgeon.backups()] == sorted(map(str, stamps))
    for stamp in stamps:
        assert surgeon.undo(str(stamp)).state == "undone"


# -- the torn tail


@pytest.mark.parametrize("compressed", [False, True])
def test_only_the_unfinished_line_is_cut(home: Home, clew_home: Path, compressed: bool) -> None:
    builder = thread()
    whole = builder.data
    cut = whole.rindex(b"\n", 0, -1) + 1
    builder.torn(10).write(home, compressed=compressed)
    repairs(home, clew_home).apply("drop-torn-tail", builder.id)
    (path,) = [path for path in home.sessions.rglob("rollout-*") if path.is_file()]
    data = path.read_bytes()
    assert (zstandard.ZstdDecompressor().decompressobj().decompress(data) if compressed else data) == whole[:cut]


def test_a_tail_that_others_inherit_is_not_cut(home: Home, clew_home: Path) -> None:
    builder = thread()
    child = builder.fork()
    builder.torn(10).write(home)
    child.write(home)
    with pytest.raises(Unsupported, match=child.id):
        repairs(home, clew_home).plan("drop-torn-tail", builder.id)


def test_a_file_that_cannot_be_unpacked_is_left_alone(home: Home, clew_home: Path) -> None:
    builder = thread()
    builder.write(home, compressed=True)
    (path,) = home.sessions.rglob("*.zst")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(Unsupported, match="cannot be unpacked"):
        repairs(home, clew_home).plan("drop-torn-tail", builder.id)


# -- the numbering


def test_numbering_changes_nothing_but_the_ordinals(home: Home, clew_home: Path) -> None:
    builder, path = numbered_badly(home)
    before = rows(path)
    repairs(home, clew_home).apply("renumber", builder.id)
    after = rows(path)
    assert [row.pop("ordinal") for row in after] == list(range(len(after)))
    for row in before:
        row.pop("ordinal", None)
    assert after == before


def test_lines_that_need_no_other_number_stay_to_the_byte(home: Home, clew_home: Path) -> None:
    builder = thread()
    lines = builder.data.splitlines(keepends=True)
    odd = b'  {"timestamp": "x", "more": 1.50, "type": "event_msg", "payload": {"type": "odd", "b":"\\u00e9"}}\r\n'
    builder.edit(lambda data: b"".join([*lines[:9], odd, b"\n", b"garbage\n", *lines[9:]]))
    path = builder.write(home)
    repairs(home, clew_home).apply("renumber", builder.id)
    after = path.read_bytes().splitlines(keepends=True)
    assert after[:9] == lines[:9]
    assert after[9] == (
        b'{"timestamp":"x","ordinal":9,"more":1.50,"type":"event_msg","payload":{"type": "odd", "b":"\\u00e9"}}\r\n'
    )
    assert after[10:12] == [b"\n", b"garbage\n"]
    assert after[12] == lines[9].replace(b'"ordinal":9', b'"ordinal":10')


def test_ordinals_are_taken_out_of_a_legacy_file(home: Home, clew_home: Path) -> None:
    builder = ThreadBuilder("0.142").turn("First?").turn("Second?")
    whole = builder.data
    path = builder.edit(lambda data: data.replace(b'Z","type"', b'Z","ordinal":3,"type"')).write(home)
    assert path.read_bytes() != whole
    repairs(home, clew_home).apply("renumber", builder.id)
    assert path.read_bytes() == whole


def test_a_fork_is_numbered_from_where_its_base_ends(home: Home, clew_home: Path) -> None:
    parent = thread()
    parent.write(home)
    child = parent.fork(before=1).turn("Other?", "Else.")
    whole = child.data
    path = child.edit(lambda data: reordered(data)).write(home)
    repairs(home, clew_home).apply("renumber", child.id)
    assert [row["ordinal"] for row in rows(path)] == [json.loads(line)["ordinal"] for line in whole.splitlines()]


def test_a_thread_that_others_inherit_is_not_numbered(home: Home, clew_home: Path) -> None:
    builder = thread()
    child = builder.fork(before=1).turn("Other?")
    child.write(home)
    builder.edit(lambda data: reordered(data)).write(home)
    with pytest.raises(Unsupported, match=child.id):
        repairs(home, clew_home).plan("renumber", builder.id)


def test_the_beginning_of_a_sub_agents_own_history_moves_along(home: Home, clew_home: Path) -> None:
    builder = ThreadBuilder(meta={"subagent_history_start_ordinal": 15}).turn("First?").turn("Second?")
    lines = builder.data.splitlines(keepends=True)
    # Lines 4 and 5 lost their numbers to nobody: all behind them count two too many.
    path = builder.edit(lambda data: b"".join([*lines[:4], *lines[6:]])).write(home)
    first = json.loads(lines[15])["payload"]
    repairs(home, clew_home).apply("renumber", builder.id)
    after = rows(path)
    assert after[0]["payload"]["subagent_history_start_ordinal"] == 13
    assert after[13]["payload"] == first
    assert [row["ordinal"] for row in after] == list(range(len(after)))


# -- bases


@pytest.mark.parametrize(
    "changes",
    [{"end_byte_offset": 100}, {"end_byte_offset": 10_000_000}, {"end_byte_offset": 0}, {"end_ordinal_exclusive": 3}],
)
def test_an_offset_or_ordinal_is_corrected_by_the_base(home: Home, clew_home: Path, changes: dict[str, int]) -> None:
    child, path, right = damaged_base(home, **changes)
    repairs(home, clew_home).apply("reattach-base", child.id)
    assert rows(path)[0]["payload"]["history_base"] == right
    assert path.read_bytes().splitlines()[1:] == child.data.splitlines()[1:]


def test_what_the_base_does_not_prove_is_not_guessed(home: Home, clew_home: Path) -> None:
    child, path, _ = damaged_base(home, end_byte_offset=100, end_ordinal_exclusive=5)
    before = path.read_bytes()
    with pytest.raises(Unsupported, match="fits neither"):
        repairs(home, clew_home).plan("reattach-base", child.id)
    assert path.read_bytes() == before


@pytest.mark.parametrize("place", ["copy", "renamed", "backup", "packed"])
def test_a_missing_base_is_found_elsewhere(home: Home, clew_home: Path, place: str) -> None:
    parent = thread()
    right = parent.write(home)
    child = parent.fork(before=1).turn("Other?", "Else.")
    child.write(home)
    told = [each.type for each in records(home, child.id)]
    where = {
        "copy": home.path / "old" / right.name,
        "renamed": home.path / "sessions" / "kept.jsonl.bak",
        "backup": clew_home / "backups" / "x-y" / f"0-{right.name}",
        "packed": home.path / f"{right.name}.zst",
    }[place]
    where.parent.mkdir(parents=True, exist_ok=True)
    data = right.read_bytes()
    right.unlink()
    where.write_bytes(zstandard.compress(data) if place == "packed" else data)
    repairs(home, clew_home).apply("reattach-base", child.id)
    assert [each.type for each in records(home, child.id)] == told
    assert where.exists()


def test_a_base_that_is_nowhere_is_said_to_be(home: Home, clew_home: Path) -> None:
    child, _, _ = damaged_base(home, thread_id=OTHER)
    with pytest.raises(Unsupported, match=f"the base {OTHER} is neither in"):
        repairs(home, clew_home).plan("reattach-base", child.id)


def test_a_corrected_line_keeps_its_length_where_others_count_bytes(home: Home, clew_home: Path) -> None:
    child, path, right = damaged_base(home, end_byte_offset=10_000_000)
    size = path.stat().st_size
    grandchild = child.fork().turn("More?")
    grandchild.write(home)
    repairs(home, clew_home).apply("reattach-base", child.id)
    assert path.stat().st_size == size
    assert rows(path)[0]["payload"]["history_base"] == right


def test_a_line_that_would_grow_is_refused_where_others_count_bytes(home: Home, clew_home: Path) -> None:
    child, _, _ = damaged_base(home, end_byte_offset=0)
    grandchild = child.fork().turn("More?")
    grandchild.write(home)
    with pytest.raises(Unsupported, match=grandchild.id):
        repairs(home, clew_home).plan("reattach-base", child.id)


def records(home: Home, thread_id: str) -> list[Record]:
    found = home.find(thread_id)
    assert found is not None
    lines = list(read_thread(home, found))
    assert all(isinstance(line, Record) for line in lines)
    return [line for line in lines if isinstance(line, Record)]


# -- foreign tails


@pytest.mark.parametrize("era", ["0.169", "0.142"])
def test_a_foreign_tail_becomes_the_thread_it_is(home: Home, clew_home: Path, era: Any) -> None:
    mine, foreign, path = foreign_tail(home, era)
    repairs(home, clew_home).apply("split-foreign-tail", mine)
    other = home.find(OTHER)
    assert other is not None
    assert other.current.path.read_bytes() == foreign
    assert OTHER.encode() not in path.read_bytes()


def test_a_tail_in_which_the_thread_goes_on_is_left_alone(home: Home, clew_home: Path) -> None:
    mine, _, path = foreign_tail(home, "0.169")
    (files,) = home.threads()
    own = {"type": "thread_settings_applied", "thread_id": mine}
    with path.open("ab") as file:
        file.write(msgspec.json.encode({"timestamp": "", "ordinal": 99, "type": "event_msg", "payload": own}) + b"\n")
    with pytest.raises(Unsupported, match="is of this thread again"):
        repairs(home, clew_home).plan("split-foreign-tail", files.thread_id)


def test_a_tail_of_a_thread_that_has_a_file_is_left_alone(home: Home, clew_home: Path) -> None:
    mine, _, _ = foreign_tail(home, "0.169")
    ThreadBuilder(id=OTHER).turn("First?").write(home)
    with pytest.raises(Unsupported, match="has a file already"):
        repairs(home, clew_home).plan("split-foreign-tail", mine)


# -- names and locks


def test_names_keep_their_rows_to_the_byte(home: Home, clew_home: Path) -> None:
    builder = ThreadBuilder().turn("First?")
    builder.write(home)
    names = NameIndex(home)
    names.rename(builder.id, "one", SystemClock())
    names.rename(OTHER, "gone", SystemClock())
    names.rename(builder.id, "two", SystemClock())
    good = [line for line in home.session_index.read_bytes().splitlines(keepends=True) if OTHER.encode() not in line]
    with home.session_index.open("ab") as file:
        file.write(b'\n{"id":"torn')
    repairs(home, clew_home).apply("rebuild-names")
    assert home.session_index.read_bytes() == b"".join(good)
    assert names.name_of(builder.id) == "two"


def test_locks_that_are_held_stay(home: Home, clew_home: Path) -> None:
    held = ThreadBuilder().turn("First?", calls=[Call("ls", "a")])
    held.write(home)
    CASES["drop-stale-locks"](home, clew_home)
    lock = WriterLock.acquire(home, clew_home, held.id, Owner("test", os.getpid()))
    try:
        done = repairs(home, clew_home).apply("drop-stale-locks")
        assert len(done.steps) == 2
        assert lock.held
        assert (clew_home / "owners" / f"{held.id}.json").exists()
    finally:
        lock.release()
