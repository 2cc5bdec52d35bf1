from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from clew.clock import local_stamp
from clew.ids import uuid7_at
from clew.rollout import Home, RealFileSystem, RolloutFile, RolloutName
from clew.testing.builders import BEGINNING, Call, ThreadBuilder
from clew.testing.disk import MemoryFileSystem
from clew.testing.homes import write_every_shape


def memory(home: Home) -> MemoryFileSystem:
    assert isinstance(home.fs, MemoryFileSystem)
    return home.fs


def test_every_thread_is_found_once_and_by_its_id(home: Home) -> None:
    made = write_every_shape(home)
    threads = {thread.thread_id: thread for thread in home.threads()}
    assert set(threads) == {builder.id for builder in made.values()}
    for builder in made.values():
        thread = threads[builder.id]
        assert home.find(builder.id) == thread
        assert len(thread.segments) == len(builder.segments)
        assert thread.doubles == ()


@pytest.mark.parametrize("spell", [str.upper, "urn:uuid:{}".format, "{{{}}}".format, str])
def test_any_spelling_of_an_id_finds_it(home: Home, spell: Callable[[str], str]) -> None:
    thread = ThreadBuilder().turn("a")
    thread.write(home)
    found = home.find(spell(thread.id))
    assert found is not None
    assert found.thread_id == thread.id


@pytest.mark.parametrize("text", ["", "last", "../../../etc/passwd", "019f", "0" * 36, "x/../y"])
def test_what_is_no_id_finds_nothing(home: Home, text: str) -> None:
    ThreadBuilder().turn("a").write(home)
    assert home.find(text) is None
    assert home.find_segment(text) is None
    if text != "0" * 36:
        with pytest.raises(ValueError, match="UUID"):
            home.thread_lock(text)


def test_an_empty_home_is_empty(home: Home) -> None:
    assert list(home.threads()) == []
    assert home.find(uuid7_at(0, b"x" * 10)) is None


def test_names_and_places_of_new_files(home: Home) -> None:
    thread, segment = uuid7_at(1, b"a" * 10), uuid7_at(2, b"b" * 10)
    stamp = local_stamp(BEGINNING)
    folder = home.path / "sessions" / stamp[:4] / stamp[5:7] / stamp[8:10]
    assert home.new_path(thread, BEGINNING) == folder / f"rollout-{stamp}-{thread}.jsonl"
    assert home.new_path(thread, BEGINNING, segment) == folder / f"rollout-{stamp}-{thread}_{segment}.jsonl"
    assert home.dated_folder(RolloutName(stamp, thread)) == folder
    assert home.session_index == home.path / "session_index.jsonl"
    assert home.coordination_lock == home.path / "thread-writer-locks" / ".coordination.lock"
    assert home.thread_lock(thread.upper()) == home.path / "thread-writer-locks" / f"{thread}.lock"


def test_segments_come_oldest_first_and_the_newest_is_current(home: Home) -> None:
    thread = ThreadBuilder().turn("a").turn("b").revert(1).turn("c").revert(0).turn("d")
    newest = thread.write(home)
    found = home.find(thread.id)
    assert found is not None
    memory(home).set_mtime(found.segments[0].path, 2**62)
    found = home.find(thread.id)
    assert found is not None
    assert [file.name.segment_id for file in found.segments] == [segment.segment_id for segment in thread.segments]
    assert found.current.path == newest
    assert home.find_segment(thread.rollout_id) == found.current
    assert home.find_segment(thread.id) == found.segments[0]


def test_a_later_segment_in_a_much_later_folder_is_found(home: Home) -> None:
    thread = ThreadBuilder().turn("a").turn("b")
    thread._now += 400 * 86400  # pyright: ignore[reportPrivateUsage] - time goes by
    thread.revert(1).turn("c").write(home)
    found = home.find(thread.id)
    assert found is not None
    assert len(found.segments) == 2


def test_plain_hides_its_compressed_sibling(home: Home) -> None:
    thread = ThreadBuilder().turn("a")
    plain = thread.write(home)
    thread.write(home, compressed=True)
    found = home.find(thread.id)
    assert found is not None
    assert (found.current.path, found.doubles) == (plain, ())
    assert [file.path for file in home.files()] == [plain]


def test_compressed_files_go_by_their_plain_path(home: Home) -> None:
    thread = ThreadBuilder().turn("a")
    plain = thread.write(home, compressed=True)
    found = home.find(thread.id)
    assert found is not None
    assert (found.current.plain_path, found.current.path.name, found.current.compressed) == (
        plain,
        plain.name + ".zst",
        True,
    )


def test_archived_threads_are_told_apart(home: Home) -> None:
    thread = ThreadBuilder().turn("a")
    thread.write(home, archived=True)
    found = home.find(thread.id)
    assert found is not None
    assert found.archived


def test_of_two_copies_the_active_one_counts_and_the_other_is_known(home: Home) -> None:
    thread = ThreadBuilder().turn("a")
    active = thread.write(home)
    archived = thread.write(home, archived=True)
    found = home.find(thread.id)
    assert found is not None
    assert ([file.path for file in found.segments], [file.path for file in found.doubles]) == ([active], [archived])


@pytest.mark.parametrize(
    "place", ["sessions", "sessions/kept", "sessions/2001/01/01", "sessions/a/b/c/d/e", "sessions/1999"]
)
def test_a_file_in_an_odd_place_is_found_all_the_same(home: Home, place: str) -> None:
    thread = ThreadBuilder().turn("a")
    path = home.path / place / home.new_path(thread.id, BEGINNING).name
    memory(home).write_bytes(path, thread.data)
    found = home.find(thread.id)
    assert found is not None
    assert found.current.path == path
    assert home.find_segment(thread.id) == found.current
    assert [each.path for each in home.files()] == [path]


def test_other_files_are_not_taken_for_rollouts(home: Home) -> None:
    thread = ThreadBuilder().turn("a")
    folder = thread.write(home).parent
    for name in (
        "notes.txt",
        f"rollout-x-{thread.id}.jsonl.decompress.1.0.tmp",
        f"rollout-{thread.id}",
        "rollout-.jsonl",
    ):
        memory(home).write_bytes(folder / name, b"")
    memory(home).make_folder(folder / f"rollout-2026-01-01T00-00-00-{uuid7_at(5, b'c' * 10)}.jsonl")
    assert len(list(home.files())) == 1


def test_a_lookup_reads_few_folders_of_a_big_home(home: Home) -> None:
    for day in range(200):
        ThreadBuilder(start=BEGINNING + day * 86400, seed=day).turn("a").write(home)
    newest = ThreadBuilder(start=BEGINNING + 200 * 86400, seed=777).turn("a")
    newest.write(home)
    fs = memory(home)
    fs.calls.clear()
    assert home.find(newest.id) is not None
    assert fs.calls["scan"] < 20
    fs.calls.clear()
    assert home.find_segment(newest.id) is not None
    assert fs.calls["scan"] <= 3


def test_links_do_not_lead_out_of_a_home(tmp_path: Path) -> None:
    outside = Home(RealFileSystem(), tmp_path / "other")
    thread = ThreadBuilder().turn("a", calls=[Call()])
    path = thread.write(outside)
    home = Home(RealFileSystem(), tmp_path / "codex")
    target = home.new_path(thread.id, BEGINNING)
    target.parent.mkdir(parents=True)
    target.symlink_to(path)
    (home.sessions / "all").symlink_to(outside.sessions)
    assert list(home.files()) == []
    assert home.find(thread.id) is None


def test_locate_knows_only_rollouts_of_this_home(home: Home) -> None:
    thread = ThreadBuilder().turn("a")
    path = thread.write(home)
    status = home.fs.stat(path)
    name = RolloutName.parse(path.name)
    assert name is not None
    assert home.locate(path) == RolloutFile(path, name, False, status.size, status.mtime_ns)
    memory(home).write_bytes(Path("/elsewhere") / path.name, b"")
    assert [home.locate(other) for other in (path.with_suffix(".x"), Path("/elsewhere") / path.name, path.parent)] == [
        None,
        None,
        None,
    ]


def test_an_odd_stamp_falls_back_to_the_time_of_the_id(home: Home) -> None:
    thread = uuid7_at(int(BEGINNING * 1000), b"d" * 10)
    day = datetime.fromtimestamp(BEGINNING)
    assert home.dated_folder(RolloutName("odd", thread)) == home.sessions / f"{day:%Y}" / f"{day:%m}" / f"{day:%d}"
