"""Appending: what is on disk, what is acknowledged, and what a fault or a crash may take."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.errors import DiskFull, LogReplaced, SyncFailed
from clew.rollout import FailPoints, Line, LogWriter, MemorySource, Record, Skipped, scan_forward
from clew.testing.builders import ThreadBuilder
from clew.testing.disk import MemoryFileSystem

PATH = Path("/home/sessions/2026/07/01/log.jsonl")


class Noon:
    """A clock that stands still."""

    def now(self) -> float:
        return 1_782_907_200.123

    def monotonic(self) -> float:
        return 0.0


def writer(fs: MemoryFileSystem, fail: FailPoints | None = None, *, create: bool = True) -> LogWriter:
    return LogWriter(fs, PATH, Noon(), fail, create=create)


def meta(**fields: object) -> Line:
    return Line("session_meta", {"id": "x", **fields})


def line(number: int) -> Line:
    return Line("event_msg", {"n": number})


def on_disk(fs: MemoryFileSystem) -> list[Record | Skipped]:
    return list(scan_forward(MemorySource(fs.read_bytes(PATH))))


def numbers(fs: MemoryFileSystem) -> list[int]:
    """The numbers of the lines in the file, in their order."""
    return [
        json.loads(bytes(found.payload))["n"]
        for found in on_disk(fs)
        if isinstance(found, Record) and found.type == "event_msg" and b'"n":' in bytes(found.payload)
    ]


def ordinals(fs: MemoryFileSystem) -> list[int | None]:
    return [found.ordinal for found in on_disk(fs) if isinstance(found, Record)]


def test_a_new_log_is_made_with_its_folders_and_is_durable_when_synced() -> None:
    fs = MemoryFileSystem()
    log = writer(fs)
    assert fs.calls.total() == 0
    size = log.append([meta(), line(1)])
    log.sync()
    fs.crash()
    data = fs.read_bytes(PATH)
    assert data == (
        b'{"timestamp":"2026-07-01T12:00:00.123Z","type":"session_meta","payload":{"id":"x"}}\n'
        b'{"timestamp":"2026-07-01T12:00:00.123Z","type":"event_msg","payload":{"n":1}}\n'
    )
    assert size == log.size == log.durable_size == len(data)


def test_one_batch_is_one_write_and_one_sync() -> None:
    fs = MemoryFileSystem()
    log = writer(fs)
    log.append([meta()])
    log.sync()
    fs.calls.clear()
    log.append([line(n) for n in range(50)])
    log.sync()
    log.sync()
    assert (fs.calls["write"], fs.calls["sync"], fs.calls["sync_folder"]) == (1, 1, 0)


def test_unsynced_lines_may_go_in_a_crash() -> None:
    fs = MemoryFileSystem()
    log = writer(fs)
    log.append([meta(), line(1)])
    log.sync()
    log.append([line(2)])
    fs.crash()
    assert numbers(fs) == [1]


def test_paginated_logs_are_numbered_from_their_base() -> None:
    fs = MemoryFileSystem()
    base = {"thread_id": "y", "end_ordinal_exclusive": 7, "end_byte_offset": 100}
    log = writer(fs)
    log.append([meta(history_mode="paginated", history_base=base), line(1)])
    log.append([line(2)])
    log.close()
    writer(fs).append([line(3)])
    assert ordinals(fs) == [7, 8, 9, 10]


def test_legacy_logs_have_no_numbers() -> None:
    fs = MemoryFileSystem()
    writer(fs).append([meta(), line(1)])
    writer(fs).append([line(2)])
    assert ordinals(fs) == [None, None, None]


LINES = {
    "duplicate": ([0, 1, 1], 2),
    "lower": ([0, 5, 2], 3),
    "gap": ([0, 5, 9], 10),
    "last without": ([0, 1, None], 3),
    "two without": ([0, 1, None, None], 4),
    "none has one": ([None, None], 2),
}


@pytest.mark.parametrize(("found", "following"), LINES.values(), ids=LINES.keys())
def test_numbering_goes_on_from_the_last_line(found: list[int | None], following: int) -> None:
    fs = MemoryFileSystem()
    rows: list[bytes] = []
    for place, number in enumerate(found):
        kind = "event_msg" if place else "session_meta"
        payload = {"n": place} if place else {"id": "x", "history_mode": "paginated"}
        row = {"timestamp": "t", "ordinal": number, "type": kind, "payload": payload}
        rows.append(json.dumps({key: value for key, value in row.items() if value is not None}).encode() + b"\n")
    fs.write_bytes(PATH, b"".join(rows))
    writer(fs).append([line(99)])
    assert ordinals(fs)[-1] == following


@pytest.mark.parametrize(
    "tail", [b"rubbish\n", b'{"timestamp":"t","ordinal":90,"type":"brand_new","payload":1}\n', b"\n\n", b'{"or']
)
def test_lines_that_do_not_count_do_not_number(tail: bytes) -> None:
    fs = MemoryFileSystem()
    fs.write_bytes(PATH, ThreadBuilder().data + tail)
    writer(fs).append([line(5)])
    assert ordinals(fs)[-1] == 1
    assert numbers(fs) == [5]


def test_numbers_tell_the_mode_of_a_log_without_metadata() -> None:
    fs = MemoryFileSystem()
    thread = ThreadBuilder().turn("a")
    fs.write_bytes(PATH, b"".join(thread.segments[0].lines[1:]))
    writer(fs).append([line(5)])
    assert ordinals(fs)[-1] == len(thread.segments[0].lines)


def test_lines_whose_file_was_replaced_before_they_were_durable_are_not_acknowledged() -> None:
    fs = MemoryFileSystem()
    log = writer(fs)
    log.append([meta(), line(1)])
    log.sync()
    copy = fs.read_bytes(PATH)
    log.append([line(2)])
    fs.unlink(PATH)
    fs.write_bytes(PATH, copy)
    for _ in range(2):
        with pytest.raises(LogReplaced):
            log.flush()
    log.close()
    assert fs.read_bytes(PATH) == copy


@pytest.mark.parametrize("torn", [ThreadBuilder("0.142").turn("a").torn(), ThreadBuilder("0.142").turn("a").torn(1)])
def test_a_log_without_final_newline_gets_one_first(torn: ThreadBuilder) -> None:
    fs = MemoryFileSystem()
    fs.write_bytes(PATH, torn.data)
    writer(fs).append([line(5)])
    assert fs.read_bytes(PATH).startswith(torn.data + b"\n")
    assert numbers(fs) == [5]


def test_a_log_that_must_be_there_is_not_made() -> None:
    fs = MemoryFileSystem()
    with pytest.raises(LogReplaced):
        writer(fs, create=False).append([line(1)])
    with pytest.raises(FileNotFoundError):
        fs.stat(PATH)


def test_lines_that_are_no_json_are_refused_together_and_harm_nothing() -> None:
    fs = MemoryFileSystem()
    log = writer(fs)
    log.append([meta(history_mode="paginated")])
    with pytest.raises(TypeError):
        log.append([line(1), Line("event_msg", object())])
    log.append([line(2)])
    assert (numbers(fs), ordinals(fs), log.pending) == ([2], [0, 1], ())


@pytest.mark.parametrize("gone", ["replaced", "removed", "truncated"])
def test_a_log_that_is_not_the_same_any_more_takes_nothing(gone: str) -> None:
    fs = MemoryFileSystem()
    log = writer(fs)
    log.append([meta(), line(1)])
    log.sync()
    if gone == "removed":
        fs.unlink(PATH)
    elif gone == "truncated":
        fs.unlink(PATH)
        fs.write_bytes(PATH, b"")
    else:
        fs.write_bytes(PATH, fs.read_bytes(PATH))
    before = None if gone == "removed" else fs.read_bytes(PATH)
    for _ in range(2):
        with pytest.raises(LogReplaced):
            log.append([line(2)])
    assert log.pending == (line(2), line(2))
    if before is None:
        with pytest.raises(FileNotFoundError):
            fs.stat(PATH)
    else:
        assert fs.read_bytes(PATH) == before


def test_lines_of_a_program_without_locks_stay_and_are_counted() -> None:
    fs = MemoryFileSystem()
    log = writer(fs)
    log.append([meta(history_mode="paginated"), line(1)])
    other = fs.open_append(PATH)
    other.write(b'{"timestamp":"t","ordinal":2,"type":"event_msg","payload":{"n":50}}\n{"torn')
    log.append([line(2)])
    assert (numbers(fs), ordinals(fs)) == ([1, 50, 2], [0, 1, 2, 3])


@pytest.mark.parametrize("fits", range(0, 260, 7))
def test_a_full_disk_costs_nothing(fits: int) -> None:
    fs = MemoryFileSystem()
    log = writer(fs)
    log.append([meta(history_mode="paginated")])
    log.sync()
    fs.free = fits
    with pytest.raises(DiskFull):
        log.append([line(1), line(2), line(3)])
    assert 1 <= len(log.pending) <= 3
    fs.free = None
    log.append([line(4)])
    log.sync()
    fs.crash()
    assert (numbers(fs), ordinals(fs), log.pending) == ([1, 2, 3, 4], [0, 1, 2, 3, 4], ())
    assert not [found for found in on_disk(fs) if isinstance(found, Skipped)]


def test_a_line_cut_short_is_sealed_when_others_wrote_behind_it() -> None:
    fs = MemoryFileSystem()
    log = writer(fs)
    log.append([meta()])
    fs.fail("write", error=errno.ENOSPC, written=30)
    with pytest.raises(DiskFull):
        log.append([line(1)])
    fs.open_append(PATH).write(b"foreign\n")
    log.append([line(2)])
    assert numbers(fs) == [1, 2]
    assert len([found for found in on_disk(fs) if isinstance(found, Skipped)]) == 1


def test_a_failed_write_that_is_not_about_space_is_told_and_made_good_later() -> None:
    fs = MemoryFileSystem()
    log = writer(fs)
    fs.fail("write", error=errno.EIO, written=10)
    with pytest.raises(SyncFailed):
        log.append([meta(), line(1)])
    log.flush()
    assert numbers(fs) == [1]


def test_after_a_failed_sync_the_file_is_opened_anew_and_everything_written_again() -> None:
    fs = MemoryFileSystem()
    log = writer(fs)
    log.append([meta(), line(1)])
    log.sync()
    log.append([line(2), line(3)])
    fs.fail("sync")
    log.sync()
    fs.crash()
    assert numbers(fs) == [1, 2, 3]
    assert log.durable_size == len(fs.read_bytes(PATH))


def test_a_sync_that_fails_twice_is_told_and_the_next_one_starts_over() -> None:
    fs = MemoryFileSystem()
    log = writer(fs)
    log.append([meta(), line(1)])
    log.sync()
    fs.fail("sync", times=2)
    log.append([line(2)])
    with pytest.raises(SyncFailed):
        log.sync()
    log.append([line(3)])
    log.sync()
    fs.crash()
    assert numbers(fs) == [1, 2, 3]


def test_a_folder_that_cannot_be_synced_is_told_and_tried_again() -> None:
    fs = MemoryFileSystem()
    log = writer(fs)
    log.append([meta(), line(1)])
    fs.fail("sync_folder")
    with pytest.raises(SyncFailed):
        log.sync()
    log.sync()
    fs.crash()
    assert numbers(fs) == [1]


def test_close_syncs_and_a_closed_log_can_be_taken_up_again() -> None:
    fs = MemoryFileSystem()
    log = writer(fs)
    log.append([meta(), line(1)])
    log.close()
    fs.crash()
    log.append([line(2)])
    log.close()
    fs.crash()
    assert numbers(fs) == [1, 2]


def test_much_that_is_not_synced_is_synced_by_itself() -> None:
    fs = MemoryFileSystem()
    log = writer(fs)
    log.append([meta()])
    for _ in range(5):
        log.append([Line("event_msg", {"n": 0, "text": "x" * 4_000_000})])
    assert log.durable_size > 16_000_000


STEPS = [
    "after_create",
    "before_write",
    "after_write",
    "before_sync",
    "after_sync",
    "before_folder_sync",
    "after_folder_sync",
]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("seed", [None, 1, 2])
def test_a_crash_at_any_step_keeps_what_was_acknowledged(step: str, seed: int | None) -> None:
    """Batches go on until the crash; then a second writer goes on."""
    for hit in (1, 2, 3):
        fs = MemoryFileSystem()
        fail = FailPoints()

        class PowerLoss(Exception):
            pass

        def crash(fs: MemoryFileSystem = fs, error: type[Exception] = PowerLoss) -> None:
            fs.crash(seed)
            raise error

        fail.on(step, crash, at=hit)
        log = writer(fs, fail)
        acknowledged: list[int] = []
        try:
            for number in range(4):
                log.append([meta(history_mode="paginated")] if number == 0 else [line(number)])
                log.sync()
                acknowledged += [number] if number else []
        except PowerLoss:
            pass
        second = writer(fs)
        second.append([meta(history_mode="paginated"), line(100)])
        second.close()
        fs.crash()
        kept = numbers(fs)
        assert kept[: len(acknowledged)] == acknowledged
        assert kept[-1] == 100
        assert kept == sorted(kept)


class Model:
    """A disk and a log writer with faults between the calls; the model is a list of numbers."""

    def __init__(self) -> None:
        self.fs = MemoryFileSystem()
        self.log = writer(self.fs)
        self.accepted: list[int] = []
        self.acknowledged = 0
        self.log.append([meta(history_mode="paginated")])
        self.log.sync()

    def append(self, count: int) -> None:
        first = len(self.accepted)
        self.accepted += range(first, first + count)
        self.log.append([line(number) for number in range(first, first + count)])

    def sync(self) -> None:
        self.log.flush()
        self.log.sync()
        self.acknowledged = len(self.accepted)


FAULTS: list[Callable[[MemoryFileSystem, int], None]] = [
    lambda fs, _: None,
    lambda fs, n: fs.fail("write", at=1, error=errno.ENOSPC, written=n),
    lambda fs, n: fs.fail("write", at=2, written=n),
    lambda fs, n: fs.fail("sync", times=1 + n % 3),
    lambda fs, _: fs.fail("open"),
    lambda fs, n: fs.fail("any", at=1 + n % 5),
]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 120), st.integers(0, 3), st.booleans()), max_size=8),
    st.integers(),
)
def test_whatever_fails_lines_stay_in_order_and_whole(steps: list[tuple[int, int, int, bool]], seed: int) -> None:
    model = Model()
    for fault, number, count, sync in steps:
        FAULTS[fault](model.fs, number)
        try:
            model.append(count)
            if sync:
                model.sync()
        except (DiskFull, SyncFailed, OSError):
            pass
        model.fs.heal()
    model.sync()
    model.fs.crash(seed)
    assert numbers(model.fs) == model.accepted
    assert ordinals(model.fs) == list(range(len(model.accepted) + 1))
