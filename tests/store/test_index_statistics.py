"""What a process tells of its use of the index."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
from index_bench import IndexBench

from clew.index.schema import SCHEMA_VERSION
from clew.store.index_statistics import IndexStatistics
from clew.store.index_status import IndexStatus
from clew.store.local import LocalStore
from clew.store.queries import ListQuery


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[IndexBench]:
    bench = IndexBench(tmp_path)
    for number in range(3):
        bench.thread(number).write(bench.home)
    yield bench
    bench.close()


def _told(store: LocalStore) -> IndexStatistics:
    told = store.index_statistics()
    assert told is not None
    return told


def test_answers_are_counted_by_where_they_come_from(bench: IndexBench) -> None:
    store = bench.open()
    store.catalog.list(ListQuery())
    assert (_told(store).not_answered, _told(store).answered) == ({"incomplete": 1}, 0)
    bench.keep()
    store.catalog.list(ListQuery())
    store.catalog.list(ListQuery(text="question"))
    told = _told(store)
    assert told.status is not None
    assert told.status == IndexStatus(
        path=str(bench.index),
        complete=True,
        threads=3,
        files=3,
        waiting=0,
        bytes=told.status.bytes,
        swept_at=told.status.swept_at,
    )
    assert told.status.bytes >= bench.index.stat().st_size
    assert told == IndexStatistics(status=told.status, answered=2, not_answered={"incomplete": 1}, opened=1, rebuilt=1)


def test_answers_that_the_disk_contradicts_are_counted(bench: IndexBench) -> None:
    bench.keep()
    store = bench.open()
    path = max(file.path for file in bench.home.files())
    store.catalog.list(ListQuery())
    before = _told(store).made_anew
    with store.index_database.using() as sql:
        sql.run("UPDATE threads SET size = size + 1, content = (SELECT content FROM threads ORDER BY id LIMIT 1)")
    assert path.stem[-36:] in [thread.id for thread in store.catalog.list(ListQuery()).threads]
    assert _told(store).made_anew > before


def test_who_writes_or_refuses_the_index_is_told(bench: IndexBench) -> None:
    bench.keep()
    busy = bench.open()
    busy.catalog.list(ListQuery())
    other: Any = apsw.Connection(str(bench.index))
    with closing(other):
        other.execute("BEGIN IMMEDIATE")
        bench.thread(7).write(bench.home)
        busy.catalog.list(ListQuery())
        other.execute("ROLLBACK")
        assert _told(busy).not_answered == {"busy": 1}
        other.pragma("user_version", SCHEMA_VERSION + 1)
    newer = bench.open()
    newer.catalog.list(ListQuery())
    assert _told(newer) == IndexStatistics(
        status=None,
        unusable="a newer version of clew made it",
        not_answered={"unusable": 1},
    )


def test_work_on_the_index_is_seen(bench: IndexBench) -> None:
    bench.keep()
    store = bench.open()
    lock = bench.home.fs.open_append(bench.index.with_name("index.sqlite3.lock"))
    with closing(lock):
        assert lock.try_lock()
        status = _told(store).status
        assert status is not None
        assert status.working
    status = _told(store).status
    assert status is not None
    assert not status.working


def test_a_store_without_an_index_has_no_statistics(bench: IndexBench) -> None:
    assert bench.open("off").index_statistics() is None
