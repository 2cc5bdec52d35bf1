"""Whatever becomes of the index, answers stay complete, and people are told once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
from index_bench import IndexBench, agree, listed

from clew.errors import ThreadNotFound
from clew.index.schema import SCHEMA_VERSION
from clew.store.index_status import discard_index, index_status
from clew.store.index_worker import IndexWorker
from clew.store.queries import ListQuery


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[IndexBench]:
    """A home of five threads with a complete index."""
    bench = IndexBench(tmp_path)
    for number in range(5):
        bench.thread(number).write(bench.home, archived=number == 4)
    bench.keep()
    assert index_status(bench.home, bench.clew_home).complete
    yield bench
    bench.close()


def _agrees(bench: IndexBench) -> None:
    agree([bench.open().catalog], bench.plain)


def _answered_by_index(bench: IndexBench) -> bool:
    """Only the index counts turns."""
    return all(thread.turns == 1 for thread in bench.open().catalog.list(ListQuery()).threads)


def test_a_complete_index_answers(bench: IndexBench) -> None:
    assert _answered_by_index(bench)
    _agrees(bench)
    assert bench.told == []
    assert (bench.index.stat().st_mode & 0o777, bench.told) == (0o600, [])


def test_a_thread_that_is_called_otherwise_is_not_read_again(bench: IndexBench) -> None:
    store = bench.open()
    one = bench.plain.list(ListQuery()).threads[0]
    for name in ("minotaur", "labyrinth", None):
        store.catalog.rename(one.id, name)
        found = store.catalog.get(one.id)
        assert (found.name, found.turns) == (name, 1)
        _agrees(bench)
    assert _answered_by_index(bench)


def test_a_deleted_index_is_made_anew_under_those_that_have_it_open(bench: IndexBench) -> None:
    catalog = bench.open().catalog
    assert len(listed(catalog, ListQuery())) == 4
    for path in bench.clew_home.glob("index*"):
        path.unlink()
    bench.thread(7).write(bench.home)
    agree([catalog, bench.open().catalog], bench.plain)
    bench.keep()
    assert _answered_by_index(bench)
    assert bench.told == []


@pytest.mark.parametrize("part", [0.0, 0.001, 0.3, 0.9])
def test_a_truncated_index_is_set_aside_and_people_are_told_once(bench: IndexBench, part: float) -> None:
    os.truncate(bench.index, int(bench.index.stat().st_size * part))
    for _ in range(3):
        _agrees(bench)
    bench.keep()
    _agrees(bench)
    assert _answered_by_index(bench)
    # An empty file is simply none.
    assert len(bench.told) == (1 if part else 0), bench.told
    assert all("damaged" in text for text in bench.told)
    assert len(list(bench.clew_home.glob("index.sqlite3.damaged-*"))) == len(bench.told)


@pytest.mark.parametrize("seed", range(6))
def test_flipped_bits_change_no_answer(bench: IndexBench, seed: int) -> None:
    chance = random.Random(seed)
    data = bytearray(bench.index.read_bytes())
    for _ in range(200):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    bench.index.write_bytes(data)
    _agrees(bench)
    bench.keep()
    _agrees(bench)
    assert len(bench.told) <= 1, bench.told


def test_a_locked_index_is_not_waited_for(bench: IndexBench) -> None:
    other: Any = apsw.Connection(str(bench.index))
    with closing(other):
        other.execute("BEGIN IMMEDIATE")
        bench.thread(7).write(bench.home)
        _agrees(bench)
        other.execute("ROLLBACK")
    _agrees(bench)
    assert bench.told == []


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, 900])
def test_the_index_of_a_newer_version_is_left_alone(bench: IndexBench, version: int) -> None:
    _set_version(bench.index, version)
    before = bench.index.read_bytes()
    catalog = bench.open().catalog
    bench.thread(7).write(bench.home)
    for _ in range(3):
        agree([catalog], bench.plain)
    assert bench.index.read_bytes() == before
    assert len(bench.told) == 1
    assert "newer version" in bench.told[0]


def test_the_index_of_an_older_version_is_made_anew(bench: IndexBench) -> None:
    _set_version(bench.index, SCHEMA_VERSION - 1 or -1)
    _agrees(bench)
    assert not index_status(bench.home, bench.clew_home).complete
    bench.keep()
    assert _answered_by_index(bench)
    assert bench.told == []


def test_what_an_older_version_took_is_given_back(bench: IndexBench) -> None:
    from clew.index.database import Database

    database = Database(bench.clew_home, bench.home.path)
    with database.using() as sql:
        sql.run("CREATE TABLE old (data)")
        sql.run("INSERT INTO old VALUES (zeroblob(?))", (1 << 20,))
    database.close()
    _set_version(bench.index, SCHEMA_VERSION - 1)
    with database.using() as sql:
        assert sql.one("PRAGMA freelist_count") == 0
        assert sql.one("PRAGMA page_count") * sql.one("PRAGMA page_size") < 1 << 20
    database.close()


def test_the_database_of_something_else_is_set_aside(bench: IndexBench) -> None:
    for path in bench.clew_home.glob("index*"):
        path.unlink()
    other: Any = apsw.Connection(str(bench.index))
    with closing(other):
        other.execute("CREATE TABLE mine (a)")
    _agrees(bench)
    assert len(bench.told) == 1
    assert [path.exists() for path in bench.clew_home.glob("*.damaged-*")] == [True]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_costs_the_index_only(bench: IndexBench) -> None:
    bench.clew_home.chmod(0o500)
    try:
        _agrees(bench)
    finally:
        bench.clew_home.chmod(0o700)


def test_a_folder_that_cannot_be_made_costs_the_index_only(tmp_path: Path) -> None:
    (tmp_path / "clew").write_text("in the way")
    with closing(IndexBench(tmp_path)) as bench:
        bench.thread(0).write(bench.home)
        catalog = bench.open().catalog
        for _ in range(3):
            assert len(listed(catalog, ListQuery())) == 1
        assert len(bench.told) == 1
        assert "is not used" in bench.told[0]


def test_a_full_disk_costs_the_index_only(bench: IndexBench) -> None:
    store = bench.open()
    catalog = store.catalog
    assert len(listed(catalog, ListQuery())) == 4
    with store.index_database.using() as sql:
        sql.one(f"PRAGMA max_page_count = {sql.one('PRAGMA page_count')}")
    for number in range(10, 40):
        bench.thread(number).write(bench.home)
    for _ in range(3):
        agree([catalog], bench.plain)
    assert len(bench.told) == 1
    assert "no space" in bench.told[0]


def test_an_index_of_another_home_is_not_used(bench: IndexBench, tmp_path: Path) -> None:
    other = IndexBench(tmp_path)
    other.home = type(bench.home)(bench.home.fs, tmp_path / "other")
    other.plain = IndexBench(tmp_path).plain
    other.thread(9).write(other.home)
    store = other.open()
    assert [thread.preview for thread in listed(store.catalog, ListQuery())] == ["Question 9?"]
    IndexWorker(other.home, other.clew_home).run()
    assert [thread.preview for thread in listed(other.open().catalog, ListQuery())] == ["Question 9?"]
    _agrees(bench)
    assert len(list(bench.clew_home.glob("index-*.sqlite3"))) == 1
    other.close()


def test_a_row_cannot_lead_to_the_file_of_another_thread(bench: IndexBench) -> None:
    one, other, *_ = (thread.id for thread in bench.plain.list(ListQuery()).threads)
    with bench.open().index_database.using() as sql:
        first, second = (
            sql.one("SELECT id, content FROM threads WHERE thread = ?", (bytes.fromhex(text.replace("-", "")),))
            for text in (one, other)
        )
        sql.run("UPDATE threads SET content = ? WHERE id = ?", (second[1], first[0]))
        sql.run("UPDATE threads SET content = ? WHERE id = ?", (first[1], second[0]))
    _agrees(bench)


def test_rows_of_files_that_are_nowhere_are_nothing(bench: IndexBench) -> None:
    ghost = "019f1c3a-7b1e-7c44-9d0e-6f5b0c2a1d11"
    with bench.open().index_database.using() as sql:
        sql.run("UPDATE folders SET path = '../../../etc' WHERE path LIKE 'sessions/2026/07/01'")
        sql.run("UPDATE entries SET name = '../' || name WHERE id = 1")
        sql.run(
            "INSERT INTO threads (thread, stale, version, archived, created, updated, recency, name, size, content)"
            " SELECT ?, 0, 1, archived, created, updated, recency, name, size, content FROM threads LIMIT 1",
            (bytes.fromhex(ghost.replace("-", "")),),
        )
    catalog = bench.open().catalog
    with pytest.raises(ThreadNotFound):
        catalog.get(ghost)
    assert ghost not in [thread.id for thread in listed(catalog, ListQuery(archived=None))]
    bench.keep()
    _agrees(bench)


def test_work_that_is_killed_goes_on_where_it_stopped(tmp_path: Path) -> None:
    with closing(IndexBench(tmp_path)) as bench:
        for number in range(30):
            bench.thread(number).write(bench.home)
        script = (
            "import os, signal, sys\n"
            "from pathlib import Path\n"
            "from clew.rollout import Home, RealFileSystem\n"
            "from clew.store import index_worker, intake\n"
            "intake.CHUNK = 7\n"
            "def die(report):\n"
            "    if report.files >= 14: os.kill(os.getpid(), signal.SIGKILL)\n"
            "home = Home(RealFileSystem(), Path(sys.argv[1]))\n"
            "index_worker.IndexWorker(home, Path(sys.argv[2])).run(progress=die)\n"
        )
        done = subprocess.run([sys.executable, "-c", script, bench.home.path, bench.clew_home], check=False, timeout=60)
        assert done.returncode == -signal.SIGKILL
        status = index_status(bench.home, bench.clew_home)
        assert (status.complete, status.files, 0 < status.waiting < 30) == (False, 30, True)
        _agrees(bench)
        report = IndexWorker(bench.home, bench.clew_home).run()
        assert (report.complete, report.total) == (True, status.waiting)
        assert _answered_by_index(bench)
        _agrees(bench)


def test_only_one_process_works_on_it(bench: IndexBench) -> None:
    lock = bench.home.fs.open_append(bench.index.with_name("index.sqlite3.lock"))
    assert lock.try_lock()
    try:
        assert IndexWorker(bench.home, bench.clew_home).run().elsewhere
    finally:
        lock.close()
    assert IndexWorker(bench.home, bench.clew_home).run().complete


def test_an_index_is_discarded_whole(bench: IndexBench) -> None:
    discard_index(bench.home, bench.clew_home)
    assert not bench.index.exists()
    _agrees(bench)


def _set_version(index: Path, version: int) -> None:
    from clew.index.database import Database

    # With the checksums, which anything else would break.
    database = Database(index.parent, index.parent.parent / "codex")
    with database.using() as sql:
        sql.connection.pragma("user_version", version)
        sql.one("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
