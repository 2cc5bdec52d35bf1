from __future__ import annotations

import contextlib
import errno
from pathlib import Path

import msgspec
import pytest

from clew.errors import ClewError, DiskFull, HomeUnwritable, SyncFailed
from clew.rollout import FailPoints, RealFileSystem
from clew.store.journal import Journal
from clew.testing import MemoryFileSystem
from clew.testing.disk import ProgramKilled

PATH = Path("/clew/some.jsonl")


class Row(msgspec.Struct, frozen=True):
    n: int


def journal(fs: MemoryFileSystem, fail: FailPoints | None = None) -> Journal[Row]:
    return Journal(fs, PATH, Row, fail=fail)


def put(journal: Journal[Row], *numbers: int) -> None:
    with journal.writing() as pen:
        pen.append(*map(Row, numbers))


def numbers(journal: Journal[Row]) -> list[int]:
    return [row.n for row in journal.read().rows]


def test_rows_are_lines_of_json_in_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "new" / "some.jsonl"
    put(Journal(RealFileSystem(), path, Row), 1, 2)
    assert path.read_bytes() == b'{"n":1}\n{"n":2}\n'
    assert [place.stat().st_mode & 0o777 for place in (path, path.parent)] == [0o600, 0o700]


def test_a_journal_that_is_not_there_has_no_rows_and_no_version() -> None:
    empty = journal(MemoryFileSystem())
    assert (numbers(empty), empty.version) == ([], None)


def test_what_is_acknowledged_survives_a_loss_of_power() -> None:
    fs = MemoryFileSystem()
    ours = journal(fs)
    for number in range(3):
        put(ours, number)
        fs.crash()
        assert numbers(journal(fs)) == list(range(number + 1))


def test_damage_costs_the_line_it_is_in_and_is_counted() -> None:
    fs = MemoryFileSystem()
    fs.write_bytes(PATH, b'{"n":1}\nrubbish\n\xff\n{"n":"x"}\n\n\0\0\0\0{"n":2}\n[]\n{"n":3,"more":[1]}\n{"n":4')
    found = journal(fs).read()
    assert ([row.n for row in found.rows], found.damaged) == ([1, 2, 3], 4)


def test_a_torn_line_is_not_continued_and_not_counted_until_it_is_damage() -> None:
    fs = MemoryFileSystem()
    fs.write_bytes(PATH, b'{"n":1}\n{"n":')
    ours = journal(fs)
    assert ours.read().damaged == 0
    put(ours, 2)
    found = ours.read()
    assert ([row.n for row in found.rows], found.damaged) == ([1, 2], 1)


def test_a_whole_line_without_its_end_counts_before_and_after_the_next_append() -> None:
    fs = MemoryFileSystem()
    fs.write_bytes(PATH, b'{"n":1}\n{"n":2}')
    ours = journal(fs)
    assert numbers(ours) == [1, 2]
    put(ours, 3)
    assert numbers(ours) == [1, 2, 3]


def test_reading_on_gives_what_came_since() -> None:
    fs = MemoryFileSystem()
    ours = journal(fs)
    put(ours, 1, 2)
    first = ours.read()
    put(journal(fs), 3)
    more = ours.read(first.place)
    assert (first.afresh, [row.n for row in more.rows], more.afresh) == (True, [3], False)
    nothing = ours.read(more.place)
    assert (list(nothing.rows), nothing.afresh, nothing.place) == ([], False, more.place)


@pytest.mark.parametrize("now", [b'{"n":7}\n{"n":8}\n{"n":9}\n', b'{"n":7}\n', b""])
@pytest.mark.parametrize("in_place", [True, False])
def test_a_file_that_was_put_in_its_place_is_read_from_its_beginning(
    tmp_path: Path, now: bytes, in_place: bool
) -> None:
    path = tmp_path / "some.jsonl"
    ours = Journal(RealFileSystem(), path, Row)
    put(ours, 1, 2)
    place = ours.read().place
    if in_place:
        path.write_bytes(now)
    else:
        (tmp_path / "other").write_bytes(now)
        (tmp_path / "other").replace(path)
    found = ours.read(place)
    assert found.afresh
    assert [row.n for row in found.rows] == [row.n for row in Journal(RealFileSystem(), path, Row).read().rows]


def test_only_one_program_has_the_pen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clew.store.journal.LOCK_SECONDS", 0.0)
    fs = MemoryFileSystem()
    with journal(fs).writing() as pen:
        with pytest.raises(HomeUnwritable, match="another program"), journal(fs.program()).writing():
            pass
        pen.append(Row(1))
    put(journal(fs.program()), 2)
    assert numbers(journal(fs)) == [1, 2]


@pytest.mark.parametrize("free", [0, 3, 8, 12])
def test_a_full_disk_loses_nothing_that_was_acknowledged(free: int) -> None:
    fs = MemoryFileSystem()
    ours = journal(fs)
    put(ours, 1)
    fs.free = free
    with pytest.raises(DiskFull):
        put(ours, 2, 3)
    fs.free = None
    put(ours, 4)
    fs.crash()
    found = numbers(journal(fs))
    assert [found[0], found[-1]] == [1, 4]
    assert found in ([1, 4], [1, 2, 4])


@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_a_failed_sync_is_told_and_later_rows_are_durable(seed: int, dropped: bool) -> None:
    fs = MemoryFileSystem()
    ours = journal(fs)
    put(ours, 1)
    fs.fail("sync", dropped=dropped)
    with pytest.raises(SyncFailed):
        put(ours, 2)
    put(ours if seed % 2 else journal(fs), 3)
    fs.crash(seed)
    found = numbers(journal(fs))
    assert found in ([1, 3], [1, 2, 3])


@pytest.mark.parametrize("operation", ["open", "write", "sync", "sync_folder", "make_folder", "lock", "read"])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_every_refusal_of_the_disk_is_an_error_of_ours(operation: str, error: int) -> None:
    fs = MemoryFileSystem()
    put(journal(fs), 1)
    fs.fail(operation, error=error)
    with pytest.raises(ClewError):
        put(journal(fs), 2)
    fs.heal()
    put(journal(fs), 3)
    assert numbers(journal(fs))[-1] == 3


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_a_kill_at_any_step_leaves_what_was_acknowledged(seed: int | None) -> None:
    for step in range(1, 100):
        fs = MemoryFileSystem()
        put(journal(fs), 1)
        doomed = fs.program()
        doomed.kill_at(step, written=step % 9)
        acknowledged = False
        with contextlib.suppress(ProgramKilled):
            put(journal(doomed), 2)
            acknowledged = True
        done = acknowledged and doomed.alive
        if seed is not None:
            fs.crash(seed)
        put(journal(fs), 3)
        found = numbers(journal(fs))
        assert found in ([1, 2, 3], *([] if acknowledged else [[1, 3]]))
        if done:
            return
    raise AssertionError("it never came to its end")
