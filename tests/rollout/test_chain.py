from __future__ import annotations

import json
from collections.abc import Iterable

import msgspec
import pytest

from clew.errors import LogDamaged, UnsupportedHistory
from clew.rollout import (
    Head,
    Home,
    Link,
    Record,
    Skipped,
    ThreadFiles,
    lineage,
    parse_head,
    read_head,
    read_thread,
    read_thread_back,
)
from clew.rollout.chain import link_lines
from clew.testing.builders import BEGINNING, ThreadBuilder
from clew.testing.disk import MemoryFileSystem
from clew.testing.homes import write_every_shape


def find(home: Home, thread: ThreadBuilder) -> ThreadFiles:
    found = home.find(thread.id)
    assert found is not None
    return found


def texts(lines: Iterable[Record | Skipped]) -> list[str]:
    """What was said, in the order of the lines."""
    said: list[str] = []
    for line in lines:
        if isinstance(line, Record) and line.type == "response_item":
            item = json.loads(bytes(line.payload))
            if item.get("role") == "assistant":
                said.append(item["content"][0]["text"])
    return said


def put(home: Home, thread: ThreadBuilder, data: bytes) -> ThreadFiles:
    assert isinstance(home.fs, MemoryFileSystem)
    home.fs.write_bytes(home.new_path(thread.id, BEGINNING), data)
    return find(home, thread)


def test_every_shape_reads_the_same_both_ways(home: Home) -> None:
    for name, thread in write_every_shape(home).items():
        files = find(home, thread)
        forward, backward = list(read_thread(home, files)), list(read_thread_back(home, files))
        assert [(line.start, line.end, type(line)) for line in backward[::-1]] == [
            (line.start, line.end, type(line)) for line in forward
        ]
        assert [type(line) for line in forward if isinstance(line, Skipped)] == ([Skipped] if name == "torn" else [])
        metas = [line for line in forward if isinstance(line, Record) and line.type == "session_meta"]
        assert parse_head(metas[0]).id == thread.id
        ordinals = [line.ordinal for line in forward if isinstance(line, Record)]
        if thread.paginated:
            inherited = 1 if ordinals and ordinals[0] == 1 else 0  # the base's session_meta is left out
            assert ordinals == list(range(inherited, inherited + len(ordinals)))


def test_a_fork_inherits_up_to_its_point(home: Home) -> None:
    parent = ThreadBuilder().turn("1", "one").turn("2", "two").turn("3", "three")
    child = parent.fork(before=2).turn("c", "child")
    parent.turn("4", "four").write(home)
    child.write(home)
    assert texts(read_thread(home, find(home, child))) == ["one", "two", "child"]
    assert texts(read_thread_back(home, find(home, child))) == ["child", "two", "one"]
    assert texts(read_thread(home, find(home, parent))) == ["one", "two", "three", "four"]


def test_lines_beyond_what_is_inherited_are_not_offered_for_passing_over(home: Home) -> None:
    parent = ThreadBuilder().turn("1", "one").turn("2", "two")
    parent.write(home)
    whole = [line for line in read_thread(home, find(home, parent)) if isinstance(line, Record)]
    limit = whole[-3].ordinal
    assert limit is not None
    offered: list[int] = []

    def passes(data: bytes, start: int, end: int) -> object:
        ordinal = json.loads(data[start:end]).get("ordinal")
        offered.append(ordinal)
        return None

    link = Link(find(home, parent).current, end=whole[-1].end, ordinal=limit)
    given = [line.ordinal for line in link_lines(home, link, back=True, passes=passes) if isinstance(line, Record)]

    assert offered == list(range(limit - 1, 0, -1))  # the first line is the metadata, which nobody inherits
    assert given == offered


def test_forks_of_forks_and_of_reverted_threads(home: Home) -> None:
    root = ThreadBuilder().turn("1", "one").turn("2", "two").turn("3", "three")
    root.revert(2).turn("3b", "three b").revert(1).turn("2b", "two b")
    child = root.fork().turn("c", "child")
    grandchild = child.fork().turn("g", "grandchild")
    for thread in (root, child, grandchild):
        thread.write(home)
    assert texts(read_thread(home, find(home, root))) == ["one", "two b"]
    assert texts(read_thread(home, find(home, grandchild))) == ["one", "two b", "child", "grandchild"]
    assert texts(read_thread_back(home, find(home, grandchild))) == ["grandchild", "child", "two b", "one"]
    assert [link.file.thread_id for link in lineage(home, find(home, grandchild).current).links] == [
        grandchild.id,
        child.id,
        root.id,
        root.id,
    ]


@pytest.mark.parametrize(("archived", "compressed"), [(True, False), (False, True), (True, True)])
def test_a_base_is_found_wherever_it_is(home: Home, archived: bool, compressed: bool) -> None:
    parent = ThreadBuilder().turn("1", "one").turn("2", "two")
    child = parent.fork(before=1).turn("c", "child")
    parent.write(home, archived=archived, compressed=compressed)
    child.write(home)
    assert texts(read_thread(home, find(home, child))) == ["one", "child"]
    assert texts(read_thread_back(home, find(home, child))) == ["child", "one"]


def test_a_base_is_opened_only_when_it_is_reached(home: Home) -> None:
    parent = ThreadBuilder().turn("1", "one")
    child = parent.fork().turn("c", "child")
    parent.write(home)
    child.write(home)
    files = find(home, child)
    assert isinstance(home.fs, MemoryFileSystem)
    home.fs.calls.clear()
    next(read_thread_back(home, files))
    assert home.fs.calls["scan"] == 0


def test_a_missing_base_costs_no_own_line_and_is_named(home: Home) -> None:
    parent = ThreadBuilder().turn("1", "one")
    child = parent.fork().turn("c", "child")
    child.write(home)
    files = find(home, child)
    damage = lineage(home, files.current).damage
    assert isinstance(damage, LogDamaged)
    assert parent.id in str(damage)
    for lines in (list(read_thread(home, files)), list(read_thread_back(home, files))):
        assert texts(lines) == ["child"]
        assert isinstance(lines[-1], Skipped)
        assert parent.id in lines[-1].why


def test_a_circle_ends_with_a_note(home: Home) -> None:
    first, second = ThreadBuilder(seed=1).turn("1", "one"), ThreadBuilder(seed=2).turn("2", "two")
    for thread, other in ((first, second), (second, first)):
        base = {"thread_id": other.id, "end_ordinal_exclusive": 100, "end_byte_offset": 10**6}
        meta = thread.records[0][1] | {"history_base": base}
        head = json.dumps({"timestamp": "t", "ordinal": 0, "type": "session_meta", "payload": meta}).encode()
        put(home, thread, head + b"\n" + b"".join(thread.segments[0].lines[1:]))
    lines = list(read_thread(home, find(home, first)))
    assert texts(lines) == ["two", "one"]
    assert isinstance(lines[-1], Skipped)
    assert "itself" in lines[-1].why


def test_an_offset_beyond_the_base_is_told(home: Home) -> None:
    parent = ThreadBuilder().turn("1", "one")
    child = parent.fork().turn("c", "child")
    child.write(home)
    put(home, parent, parent.data[:-1])
    lines = list(read_thread(home, find(home, child)))
    assert texts(lines) == ["one", "child"]
    path, size = find(home, parent).current.path, len(parent.data)
    assert [line.why for line in lines if isinstance(line, Skipped)] == [
        f"{path} has {size - 1} bytes, but {size} of them are inherited"
    ]


def test_an_unknown_history_mode_is_refused(home: Home) -> None:
    thread = ThreadBuilder(meta={"history_mode": "future"}).turn("a")
    thread.write(home)
    for read in (read_thread, read_thread_back):
        with pytest.raises(UnsupportedHistory, match="future"):
            read(home, find(home, thread))


@pytest.mark.parametrize(("data", "why"), [(b"", "empty"), (b"\n\n", "nothing"), (b"rubbish\n", "nothing")])
def test_a_file_with_nothing_in_it_is_damaged(home: Home, data: bytes, why: str) -> None:
    thread = ThreadBuilder()
    with pytest.raises(LogDamaged, match=why):
        read_thread(home, put(home, thread, data))


def test_the_head_is_found_behind_rubbish_and_is_the_files_own(home: Home) -> None:
    thread, other = ThreadBuilder(seed=1).turn("a"), ThreadBuilder(seed=2).turn("b")
    meta, rest = thread.segments[0].lines[0], b"".join(thread.segments[0].lines[1:])
    foreign = other.segments[0].lines[0]
    for data in (
        b"\xef\xbb\xbf" + meta + rest,
        b"rubbish\n" + meta + rest,
        rest + meta,
        foreign + meta + rest,
        meta + rest + foreign,
    ):
        head = read_head(home, put(home, thread, data).current)
        assert head is not None
        assert parse_head(head).id == thread.id
    only_foreign = read_head(home, put(home, thread, foreign + rest).current)
    assert only_foreign is not None
    assert parse_head(only_foreign).id == other.id
    assert read_head(home, put(home, thread, rest).current) is None


def test_reading_the_head_reads_little(home: Home) -> None:
    thread = ThreadBuilder(base_instructions="x" * 50_000)
    for _ in range(50):
        thread.turn("a" * 10_000)
    thread.write(home)
    files = find(home, thread)
    assert isinstance(home.fs, MemoryFileSystem)
    home.fs.calls.clear()
    assert read_head(home, files.current) is not None
    assert home.fs.calls["read"] <= 5


def test_odd_metadata_counts_as_absent() -> None:
    head = ThreadBuilder().line("session_meta", {"id": 5, "history_base": {"thread_id": 1}, "history_mode": None})
    record = Record(type="session_meta", payload=msgspec.Raw(json.dumps(head.records[-1][1]).encode()))
    assert parse_head(record) == Head()


def test_the_bare_format_reads_as_a_thread(home: Home) -> None:
    thread = ThreadBuilder("0.29").turn("Hello?", "Hello.")
    thread.write(home)
    lines = list(read_thread(home, find(home, thread)))
    assert [line.type for line in lines if isinstance(line, Record)] == ["session_meta"] + ["response_item"] * 3
    assert texts(lines) == ["Hello."]
