"""What `clew check` finds: every kind of damage with its line, nothing in what is whole, and never a changed file."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.clock import SystemClock
from clew.errors import Owner, ThreadNotFound
from clew.ids import uuid7_at
from clew.rollout import Home, NameIndex, RealFileSystem, WriterLock
from clew.rollout.packing import pack_bytes
from clew.store.checking import Checker, Progress
from clew.store.findings import CODES, Finding
from clew.store.shelf import Shelf
from clew.testing import Call, MemoryFileSystem, ThreadBuilder, memory_home, write_every_shape

OTHER = uuid7_at(1_782_000_000_000, bytes(10))
CLEW_HOME = Path("/clew")

Found = list[tuple[str, int | None]]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(RealFileSystem(), tmp_path / "codex")


def check(home: Home, clew_home: Path = CLEW_HOME, **options: Any) -> list[Finding]:
    return list(Checker(home, clew_home, clock=SystemClock(), **options).home())


def brief(findings: Iterable[Finding]) -> Found:
    return [(found.code, found.line) for found in findings]


def thread(era: Any = "0.169", **options: Any) -> ThreadBuilder:
    return ThreadBuilder(era, **options).turn("First?", "One.").turn("Second?", "Two.", calls=[Call("ls", "a.txt\n")])


def lines_of(builder: ThreadBuilder) -> list[bytes]:
    return builder.data.splitlines(keepends=True)


def tree(*roots: Path) -> dict[str, tuple[int, int, bytes | None]]:
    """All names with modes, times and bytes."""
    found: dict[str, tuple[int, int, bytes | None]] = {}
    for root in roots:
        for path in sorted([root, *root.rglob("*")]):
            status = path.stat()
            found[str(path)] = status.st_mode, status.st_mtime_ns, None if path.is_dir() else path.read_bytes()
    return found


# -- what is whole


def test_homes_of_every_shape_have_no_errors(home: Home) -> None:
    write_every_shape(home)
    found = [each for each in check(home) if each.severity != "info"]
    assert [(each.code, each.severity) for each in found] == [("torn-tail", "warning")]


@pytest.mark.parametrize("era", ["0.29", "0.104", "0.142", "0.158", "0.169"])
def test_a_whole_thread_has_nothing_but_notes(home: Home, era: Any) -> None:
    thread(era).write(home)
    assert [each for each in check(home) if each.severity != "info"] == []


def test_an_empty_home_has_nothing(home: Home) -> None:
    assert check(home) == []


# -- lines


def _insert(place: int, data: bytes) -> Callable[[list[bytes]], list[bytes]]:
    return lambda lines: [*lines[:place], data, *lines[place:]]


def _meta(builder: ThreadBuilder, **changes: Any) -> bytes:
    line = json.loads(lines_of(builder)[0])
    line["payload"] |= changes
    return msgspec.json.encode(line) + b"\n"


def _ordinal(line: bytes, value: int | None) -> bytes:
    fields = json.loads(line)
    if value is None:
        fields.pop("ordinal", None)
    else:
        fields["ordinal"] = value
    return msgspec.json.encode(fields) + b"\n"


Damage = Callable[[list[bytes]], list[bytes]]

DAMAGES: dict[str, tuple[Damage, Found]] = {
    "garbage": (_insert(3, b"garbage\n"), [("line-damaged", 4)]),
    "half a line": (lambda lines: [*lines[:3], lines[3][:20] + b"\n", *lines[4:]], [("line-damaged", 4)]),
    "zero bytes": (_insert(3, bytes(50) + b"\n"), [("line-damaged", 4)]),
    "not UTF-8": (_insert(3, b'{"a":"\xff"}\n'), [("line-not-utf8", 4)]),
    "byte order mark": (lambda lines: [b"\xef\xbb\xbf" + lines[0], *lines[1:]], [("byte-order-mark", 1)]),
    "garbage first": (_insert(0, b"garbage\n"), [("first-line-damaged", 1)]),
    "only a torn first line": (lambda lines: [lines[0][:40]], [("first-line-damaged", 1), ("no-metadata", 1)]),
    "no newline": (lambda lines: [*lines[:-1], lines[-1][:-1]], [("tail-without-newline", 28)]),
    "empty": (lambda lines: [], [("file-empty", 1)]),
    "blank": (lambda lines: [b"\n", b"  \n"], [("file-empty", 1)]),
    "second": (lambda lines: [lines[1], lines[0], *lines[2:]], [("metadata-not-first", 2), ("ordinal-back", 2)]),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found_in_its_line(home: Home, name: str) -> None:
    damage, expected = DAMAGES[name]
    builder = thread()
    lines = lines_of(builder)
    assert len(lines) == 28
    builder.edit(lambda data: b"".join(damage(lines))).write(home)
    found = check(home)
    wanted = dict(expected)
    assert [each for each in brief(found) if each[0] in wanted or CODES[each[0]].severity == "error"] == expected


def test_every_finding_says_where_it_is(home: Home) -> None:
    builder = thread()
    path = builder.edit(lambda data: b"".join(_insert(3, b"garbage\n")(lines_of(builder)))).write(home)
    assert check(home) == [
        Finding(
            code="line-damaged",
            severity="error",
            why="JSON is malformed: invalid character (byte 0)",
            thread_id=builder.id,
            path=str(path),
            line=4,
            offset=sum(map(len, lines_of(builder)[:3])),
        )
    ]


def test_a_torn_tail_names_its_repair(home: Home) -> None:
    builder = thread()
    whole = len(builder.data)
    last = len(lines_of(builder)[-1])
    path = builder.torn(20).write(home)
    (found,) = [each for each in check(home) if each.severity != "info"]
    assert (found.code, found.path, found.line, found.offset, found.repair) == (
        "torn-tail",
        str(path),
        28,
        whole - last,
        "drop-torn-tail",
    )


def test_a_torn_tail_of_a_thread_that_is_written_is_a_note(home: Home, tmp_path: Path) -> None:
    builder = thread().torn(20)
    builder.write(home)
    lock = WriterLock.acquire(home, tmp_path / "clew", builder.id, Owner("test", os.getpid()))
    try:
        found = check(home, tmp_path / "clew")
    finally:
        lock.release()
    assert [(each.code, each.severity) for each in found if each.code == "torn-tail"] == [("torn-tail", "info")]
    assert {each.severity for each in found} == {"info"}


def test_long_lines_are_told_without_being_held(home: Home) -> None:
    builder = thread()
    builder.edit(lambda data: data + b'{"a":"' + b"x" * 5000 + b'"}\n').write(home)
    (found,) = check(home, longest=4000)
    assert (found.code, found.severity, found.line) == ("line-too-long", "warning", 29)


def test_only_a_hundred_findings_of_a_kind_are_told(home: Home) -> None:
    builder = thread()
    builder.edit(lambda data: data + b"garbage\n" * 150).write(home)
    found = check(home)
    assert [each.count for each in found] == [1] * 100 + [50]


# -- metadata


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"id": OTHER}, "id-differs"),
        ({"history_mode": "future"}, "history-mode-unknown"),
        ({"history_base": {"thread_id": OTHER, "end_ordinal_exclusive": 0}}, "base-incomplete"),
    ],
)
def test_wrong_metadata_are_found(home: Home, changes: dict[str, Any], code: str) -> None:
    builder = thread()
    first = _meta(builder, **changes)
    builder.edit(lambda data: first + data.partition(b"\n")[2]).write(home)
    assert brief(check(home)) == [(code, 1)]


def test_a_file_without_metadata_says_so(home: Home) -> None:
    builder = thread("0.142")
    builder.edit(lambda data: data.partition(b"\n")[2]).write(home)
    assert brief(check(home)) == [("no-metadata", 1)]


@pytest.mark.parametrize(("era", "severity"), [("0.169", "error"), ("0.142", "warning")])
def test_metadata_of_another_thread_are_found(home: Home, era: Any, severity: str) -> None:
    builder = thread(era)
    foreign = thread(era, id=OTHER, seed=1)
    place = len(lines_of(builder)) + 1
    tail = foreign.data
    if builder.paginated:
        lines = foreign.data.splitlines()
        tail = b"".join(_ordinal(line, place - 1 + number) for number, line in enumerate(lines))
    builder.edit(lambda data: data + tail).write(home)
    found = check(home)
    assert [(each.code, each.line, each.severity) for each in found] == [("foreign-metadata", place, severity)]


def test_metadata_in_copied_forks_are_no_damage(home: Home) -> None:
    thread("0.142").fork().turn("Third?").fork().turn("Fourth?").write(home)
    assert check(home) == []


# -- ordinals


ORDINALS: dict[str, tuple[Damage, Found]] = {
    "doubled": (
        lambda lines: [*lines[:5], _ordinal(lines[5], 4), *lines[6:]],
        [("ordinal-doubled", 6), ("ordinal-gap", 7)],
    ),
    "back": (lambda lines: [*lines[:-1], _ordinal(lines[-1], 3)], [("ordinal-back", 28)]),
    "gap": (lambda lines: [*lines[:-1], _ordinal(lines[-1], 30)], [("ordinal-gap", 28)]),
    "missing": (lambda lines: [*lines[:5], _ordinal(lines[5], None), *lines[6:]], [("ordinal-missing", 6)]),
    "none": (lambda lines: [_ordinal(line, None) for line in lines], [("wrong-mode", 1)]),
    "late": (lambda lines: [_ordinal(line, number + 5) for number, line in enumerate(lines)], [("ordinal-gap", 1)]),
    "a damaged line takes its number with it": (lambda lines: [*lines[:5], b"{\n", *lines[6:]], [("line-damaged", 6)]),
    "a line that was begun twice": (
        lambda lines: [*lines[:5], lines[5][:9] + b"\n", *lines[5:]],
        [("line-damaged", 6)],
    ),
}


@pytest.mark.parametrize("name", ORDINALS)
def test_numbering_is_held_against_what_is_due(home: Home, name: str) -> None:
    damage, expected = ORDINALS[name]
    builder = ThreadBuilder().turn("First?", "One.").turn("Second?", "Two.", calls=[Call("ls", "a.txt\n")])
    lines = lines_of(builder)
    builder.edit(lambda data: b"".join(damage(lines))).write(home)
    codes = {"line-damaged", *(code for code in CODES if "ordinal" in code), "wrong-mode"}
    assert [each for each in brief(check(home)) if each[0] in codes] == expected


def test_ordinals_in_a_legacy_file_are_found(home: Home) -> None:
    builder = thread("0.142")
    lines = lines_of(builder)
    builder.edit(lambda data: b"".join([*lines[:-1], _ordinal(lines[-1], 7)])).write(home)
    assert brief(check(home)) == [("ordinal-in-legacy", len(lines))]


# -- forks


def _fork(home: Home, **changes: Any) -> ThreadBuilder:
    parent = thread()
    parent.write(home)
    child = parent.fork(before=1).turn("Other?", "Else.")
    base = json.loads(lines_of(child)[0])["payload"]["history_base"] | changes
    first = _meta(child, history_base=base)
    child.edit(lambda data: first + data.partition(b"\n")[2]).write(home)
    return child


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, None),
        ({"thread_id": OTHER}, "base-missing"),
        ({"end_byte_offset": 10_000_000}, "base-past-end"),
        ({"end_byte_offset": 100}, "base-off-line"),
        ({"end_ordinal_exclusive": 3}, "base-disagrees"),
        ({"end_ordinal_exclusive": 400}, "base-disagrees"),
    ],
)
def test_broken_bases_are_found(home: Home, changes: dict[str, Any], code: str | None) -> None:
    child = _fork(home, **changes)
    found = [each for each in check(home) if each.code.startswith("base-")]
    assert brief(found) == ([] if code is None else [(code, 1)])
    assert {each.thread_id for each in found} <= {child.id}


@pytest.mark.parametrize("compressed", [False, True])
def test_bases_are_found_wherever_they_are(home: Home, compressed: bool) -> None:
    parent = thread()
    parent.write(home, archived=True, compressed=compressed)
    parent.fork(before=1).turn("Other?").write(home)
    reverted = thread(seed=3, start=1_783_000_000.0).revert(1).turn("Again?")
    reverted.write(home, compressed=compressed)
    assert check(home) == []


def test_a_fork_of_itself_is_found(home: Home) -> None:
    builder = thread()
    first = _meta(builder, history_base={"thread_id": builder.id, "end_ordinal_exclusive": 0, "end_byte_offset": 0})
    builder.edit(lambda data: first + data.partition(b"\n")[2]).write(home)
    assert brief(check(home)) == [("base-cycle", 1)]


def test_what_is_wrong_with_the_base_of_a_base_is_wrong_with_the_thread(home: Home) -> None:
    parent = thread()
    child = parent.fork(before=1).turn("Other?", "Else.")
    child.write(home)
    grandchild = child.fork().turn("More?", "Yes.")
    grandchild.write(home)
    found = list(Checker(home, CLEW_HOME, clock=SystemClock()).some([grandchild.id]))
    assert [(each.code, each.thread_id) for each in found] == [("base-missing", child.id)]


# -- files


def test_files_left_behind_are_found(home: Home, tmp_path: Path) -> None:
    builder = thread()
    path = builder.write(home)
    packed = path.with_name(f"{path.name}.zst")
    packed.write_bytes(zstandard.compress(builder.data))
    temporary = path.with_name(f"{path.name}.decompress.17.0.tmp")
    temporary.write_bytes(b"")
    os.utime(temporary, (0, 0))
    young = path.with_name("rollout-compress-abc.tmp")
    young.write_bytes(b"")
    for each in (packed, temporary, young):
        each.chmod(0o600)
    assert [(each.code, each.path, each.severity) for each in check(home)] == [
        ("temporary-file", str(temporary), "warning"),
        ("compressed-beside-plain", str(packed), "warning"),
        ("temporary-file", str(young), "info"),
    ]


def test_copies_of_a_file_are_found(home: Home) -> None:
    builder = thread()
    path = builder.write(home)
    other = home.archived_sessions / path.name
    builder.write(home, archived=True)
    assert [(each.code, each.path) for each in check(home)] == [("duplicate-file", str(other))]


def test_segments_without_their_first_file_are_found(home: Home) -> None:
    builder = thread().revert(1).turn("Again?")
    builder.write(home)
    (files,) = home.threads()
    files.segments[0].path.unlink()
    assert brief(check(home)) == [("segment-without-first", None), ("base-missing", 1)]


def test_a_cut_frame_tells_what_can_still_be_read(home: Home) -> None:
    builder = ThreadBuilder()
    for number in range(300):
        builder.turn(f"Question {number}? " + os.urandom(600).hex(), "Yes.")
    builder.write(home, compressed=True)
    (path,) = home.sessions.rglob("*.zst")
    path.write_bytes(path.read_bytes()[:-5000])
    found = [each for each in check(home) if each.severity == "error"]
    assert [(each.code, each.path) for each in found] == [("frame-damaged", str(path))]
    read = builder.data[: found[0].offset]
    count = read.count(b"\n")
    assert f"{count} lines ({len(read)} bytes) can be read" in found[0].why
    assert len(read) > 0


def test_a_damaged_frame_costs_its_own_lines(home: Home) -> None:
    builder, noise = ThreadBuilder(), Random(7)  # so that the damage falls within a frame, not on where one begins
    for number in range(40):
        builder.turn(f"Question {number}? " + noise.randbytes(20_000).hex(), "Yes.")
    path = home.new_path(builder.id, 1_783_000_000.0).with_suffix(".jsonl.zst")
    path.parent.mkdir(parents=True)
    packed = bytearray(pack_bytes(builder.data, frame=1 << 16))
    place = len(packed) * 3 // 4
    packed[place : place + 50] = bytes(50)
    path.write_bytes(packed)
    path.chmod(0o600)
    found = [each for each in check(home) if each.code != "mode-too-wide" and each.severity == "error"]
    assert {each.code for each in found} == {"frame-damaged"}
    assert "damaged zstd frame" in found[0].why


def test_a_seek_table_that_lies_is_found(home: Home) -> None:
    builder = thread()
    builder.write(home, compressed=True)
    (path,) = home.sessions.rglob("*.zst")
    whole = path.read_bytes()
    path.write_bytes(whole + _table(len(whole), len(builder.data)))
    assert check(home) == []
    path.write_bytes(whole + _table(len(whole) - 1, len(builder.data)))
    assert brief(check(home)) == [("seek-table-wrong", None)]
    path.write_bytes(whole + _table(len(whole), len(builder.data), frames=2))
    assert brief(check(home)) == [("seek-table-wrong", None)]


def _table(packed: int, unpacked: int, frames: int = 1) -> bytes:
    entry = packed.to_bytes(4, "little") + unpacked.to_bytes(4, "little")
    body = entry * frames + frames.to_bytes(4, "little") + b"\0" + b"\xb1\xea\x92\x8f"
    return b"\x5e\x2a\x4d\x18" + len(body).to_bytes(4, "little") + body


def test_open_doors_are_told_once(home: Home) -> None:
    path = thread().write(home)
    thread(seed=4, start=1_783_000_000.0).write(home)
    path.chmod(0o644)
    path.parent.chmod(0o755)
    (found,) = check(home)
    assert (found.code, found.severity) == ("mode-too-wide", "warning")
    assert found.why.startswith(f"others may look into 2 files and folders ({path.parent}")


# -- locks and names


def test_locks_and_owners_that_nobody_holds_are_found(home: Home, tmp_path: Path) -> None:
    clew_home = tmp_path / "clew"
    held, dead, lost = (uuid7_at(1_782_000_000_000 + number, bytes(10)) for number in range(3))
    lock = WriterLock.acquire(home, clew_home, held, Owner("test", os.getpid()))
    home.thread_lock(dead).touch(0o600)
    for name, pid in ((dead, 2**22 + 17), (lost, os.getpid())):
        record = clew_home / "owners" / f"{name}.json"
        record.write_text(json.dumps({"program": "clew exec", "pid": pid}))
    far = clew_home / "owners" / f"{OTHER}.json"
    far.write_text(json.dumps({"program": "clew exec", "pid": 1, "host": "far away"}))
    try:
        found = check(home, clew_home)
    finally:
        lock.release()
    assert [(each.code, each.thread_id, each.repair) for each in found] == [
        ("stale-lock", dead, "drop-stale-locks"),
        ("stale-owner", dead, "drop-stale-locks"),
        ("stale-owner", lost, "drop-stale-locks"),
    ]
    assert [each.why for each in found][1:] == [
        f"clew exec (pid {2**22 + 17}) does not hold the lock: its process has ended",
        f"clew exec (pid {os.getpid()}) does not hold the lock",
    ]


def test_names_of_nobody_are_found(home: Home) -> None:
    builder = thread()
    builder.write(home)
    names = NameIndex(home)
    names.rename(builder.id, "here", SystemClock())
    names.rename(OTHER, "gone", SystemClock())
    with home.session_index.open("ab") as file:
        file.write(b"no row\n")
    names.rename(OTHER, "gone for good", SystemClock())
    found = check(home)
    assert brief(found) == [("name-row-damaged", 3), ("name-orphaned", 4)]
    assert found[1].why == "'gone for good' names a thread that is not there"


def test_saved_sessions_are_looked_at(home: Home) -> None:
    builder = thread()
    path = builder.write(home)
    saved = home.path / "saved_sessions.json"

    def entry(thread_id: str, where: str) -> dict[str, str]:
        return {"conversationId": thread_id, "rolloutPath": where}

    entries = {"good": entry(builder.id, str(path)), "bad": entry(OTHER, "/nowhere")}
    saved.write_text(json.dumps({"entries": entries}))
    saved.chmod(0o600)
    assert [(each.code, each.why) for each in check(home)] == [
        ("saved-session-lost", f"'bad' names thread {OTHER}, which is not there")
    ]
    saved.write_text("{")
    assert brief(check(home)) == [("saved-sessions-damaged", None)]


def test_lines_of_the_journals_that_say_nothing_are_found(home: Home, tmp_path: Path) -> None:
    builder = thread()
    builder.write(home)
    clew_home = tmp_path / "clew-home"
    shelf = Shelf(home.fs, clew_home, clock=SystemClock())
    shelf.tag(builder.id, ["red"])
    with shelf.path.open("ab") as file:
        file.write(b"no row\n")
    shelf.tag(builder.id, ["blue"])
    (clew_home / "trash.jsonl").write_bytes(b'{"at":"2026-07-01T12:00:00.000Z","by":"clew","trash":"20260701T1')
    (clew_home / "relocations.jsonl").mkdir()
    assert [(each.code, Path(each.path or "").name, each.line) for each in check(home, clew_home)] == [
        ("journal-row-damaged", "shelf.jsonl", 2),
        ("journal-row-damaged", "trash.jsonl", 1),
        ("journal-unreadable", "relocations.jsonl", None),
    ]


# -- turns


def test_open_turns_and_calls_are_notes(home: Home) -> None:
    ThreadBuilder().turn("First?").kill_during_call("Second?").write(home)
    assert [(each.code, each.severity) for each in check(home)] == [("turn-open", "info"), ("call-open", "info")]


def test_ends_without_a_beginning_are_found(home: Home) -> None:
    builder = ThreadBuilder().turn("First?")
    lines = len(lines_of(builder))
    builder.line("event_msg", {"type": "task_complete", "turn_id": "nobody"})
    builder.line("response_item", {"type": "function_call_output", "call_id": "nobody", "output": ""})
    builder.write(home)
    assert brief(check(home)) == [("turn-end-without-start", lines + 1), ("output-without-call", lines + 2)]


def test_a_late_end_and_a_second_end_are_no_damage(home: Home) -> None:
    builder = ThreadBuilder().turn("First?", status="open", turn_id="a").turn("Second?", turn_id="b")
    for _ in range(2):
        builder.line("event_msg", {"type": "task_complete", "turn_id": "a"})
    assert builder.write(home)
    assert check(home) == []


# -- the whole


def test_a_check_changes_nothing(home: Home, tmp_path: Path) -> None:
    clew_home = tmp_path / "clew"
    write_every_shape(home)
    _fork(home, end_byte_offset=100)
    NameIndex(home).rename(OTHER, "gone", SystemClock())
    WriterLock.acquire(home, clew_home, OTHER, Owner("test", 2**22 + 17)).release()
    home.thread_lock(OTHER).touch()
    before = tree(home.path, clew_home)
    found = check(home, clew_home)
    assert {each.severity for each in found} == {"error", "warning", "info"}
    assert tree(home.path, clew_home) == before


def test_memory_does_not_grow_with_the_file(home: Home) -> None:
    builder = ThreadBuilder().turn("First?")
    path = builder.write(home)
    filler = builder.line("event_msg", {"type": "token_count", "info": None, "text": "x" * 900})
    line = json.loads(lines_of(filler)[-1])
    with path.open("ab") as file:
        for number in range(40_000):
            file.write(msgspec.json.encode(line | {"ordinal": line["ordinal"] + number}) + b"\n")
    assert path.stat().st_size > 40_000_000
    tracemalloc.start()
    try:
        assert check(home) == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12_000_000


def test_progress_is_told_up_to_the_end(home: Home) -> None:
    for number in range(3):
        thread(seed=number, start=1_783_000_000.0 + number).write(home)
    told: list[Progress] = []
    check(home, progress=told.append)
    total = sum(path.stat().st_size for path in home.sessions.rglob("*.jsonl"))
    assert told == sorted(told)
    assert told[-1] == Progress(3, 3, total, total)


def test_a_quick_check_looks_at_both_ends(home: Home) -> None:
    builder = thread()
    lines = lines_of(builder)
    builder.edit(lambda data: b"".join([lines[0], b"garbage\n", *lines[1:-1], lines[-1][:-9]])).write(home)
    found = check(home, quick=True)
    assert [each.code for each in found] == ["torn-tail"]
    assert brief(check(home))[0] == ("line-damaged", 2)


def test_single_threads_are_checked_alone(home: Home) -> None:
    good, bad = thread(), thread(seed=5, start=1_783_000_000.0)
    good.write(home)
    bad.edit(lambda data: data + b"garbage\n").write(home)
    checker = Checker(home, CLEW_HOME, clock=SystemClock())
    assert list(checker.some([good.id])) == []
    assert brief(checker.some([bad.id])) == [("line-damaged", 29)]
    with pytest.raises(ThreadNotFound):
        checker.some([OTHER])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_bytes_are_too_much(data: st.DataObject) -> None:
    fs = MemoryFileSystem()
    home = memory_home(fs)
    builder = data.draw(st.sampled_from([thread(), thread("0.142"), thread().fork(before=1).turn("x?")]))
    whole = bytearray(builder.data)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(whole)))
        cut = data.draw(st.integers(0, 200))
        whole[place : place + cut] = data.draw(st.binary(max_size=20))
    compressed = data.draw(st.booleans())
    path = home.new_path(builder.id, 1_783_000_000.0)
    packed = zstandard.compress(bytes(whole))
    if compressed and data.draw(st.booleans()):
        packed = packed[: data.draw(st.integers(0, len(packed)))]
    fs.write_bytes(path.with_name(path.name + ".zst") if compressed else path, packed if compressed else bytes(whole))
    for found in check(home):
        assert found.code in CODES


# -- recorded homes

EDGES: dict[str, Found] = {
    "edge_bom": [("byte-order-mark", 1)],
    "edge_compressed_truncated_frame": [("frame-damaged", None)],
    "edge_duplicate_ordinal": [("ordinal-back", 33)],
    "edge_empty_file": [("file-empty", 1)],
    "edge_first_line_garbage": [("first-line-damaged", 1)],
    "edge_garbage_and_blank_in_middle": [("line-damaged", 6)],
    "edge_unknown_history_mode": [("history-mode-unknown", 1)],
}


def test_recorded_homes_are_checked_without_an_error_of_ours(shared: Path) -> None:
    counted = 0
    for path in sorted((shared / "corpus").glob("codex*/*/*/home")):
        if path.parents[2].name not in ("codex", "codex-extra"):
            continue
        counted += 1
        scenario, version = path.parent.name, path.parents[1].name
        found = [each for each in check(Home(RealFileSystem(), path)) if each.code != "mode-too-wide"]
        errors = brief(each for each in found if each.severity == "error")
        if not scenario.startswith("edge_"):
            assert errors == [], path
        elif scenario in EDGES:
            assert errors == EDGES[scenario], path
        lines = {each.code: each.line for each in found}
        last = _line_count(path)
        if scenario == "edge_invalid_utf8_tail":
            assert lines == {"line-not-utf8": last}
        elif scenario == "edge_no_session_meta":
            assert lines["no-metadata"] == 1
        elif scenario == "edge_session_meta_second":
            assert lines == {"metadata-not-first": 2}
        elif scenario == "edge_second_session_meta_other_thread":
            assert lines == {"foreign-metadata": last}
        elif scenario == "edge_torn_last_line":
            assert lines["torn-tail"] == last
        elif scenario == "edge_no_trailing_newline":
            assert lines == {"tail-without-newline": last}
        elif scenario in ("edge_orphan_output", "edge_orphan_custom_output"):
            assert lines == {"output-without-call": last}
        elif scenario.startswith("edge_orphan_") and scenario != "edge_orphan_tool_search":
            assert lines == {"call-open": last}
        elif scenario == "edge_both_plain_and_compressed":
            assert "compressed-beside-plain" in lines
        assert version
    assert counted > 200


def _line_count(home: Path) -> int:
    files = list(home.rglob("rollout-*.jsonl"))
    return len(files[0].read_bytes().splitlines()) if len(files) == 1 else 0


def test_codes_that_name_a_repair_name_one_that_is_there() -> None:
    from clew.store.repair import REPAIRS

    assert {code.repair for code in CODES.values() if code.repair} == set(REPAIRS)
    assert all(repair.codes for repair in REPAIRS.values())
