"""Compressing cold threads: which, in what order, step by step, and what happens when something comes in between."""

from __future__ import annotations

import errno
import fcntl
import signal
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from cold_bench import DAY, NOW, Bench, Program, Still, lines_of, worker
from opentelemetry import metrics

from clew.errors import BadRequest, CompressionRunning
from clew.rollout import FailPoints, Home, LogWriter, MemorySource, RealFileSystem, Record, read_thread
from clew.rollout.envelope import Line
from clew.rollout.framing import read_table
from clew.store.cold import ColdReport, ColdRules, Outcome, Progress
from clew.store.cold_marker import RunMarker, forgotten_temporaries
from clew.store.cold_metrics import ColdMetrics
from clew.store.cold_run import Pace
from clew.testing import ThreadBuilder

STEPS = [
    "after_create",
    "before_write",
    "after_write",
    "before_sync",
    "after_sync",
    "before_link",
    "after_rename",
    "before_folder_sync",
    "after_folder_sync",
    "before_unlink",
]
MARKER = Path("/codex/.tmp/rollout-compression.lock")


@pytest.fixture
def bench() -> Bench:
    return Bench()


def thread(seed: int = 0) -> ThreadBuilder:
    return ThreadBuilder("0.169", seed=seed).turn("Hello?", "Hello. " * 200).turn("And?")


def compress(
    bench: Bench, fail: FailPoints | None = None, *, only: list[str] | None = None, **rules: Any
) -> ColdReport:
    return anyio.run(lambda: bench.worker(fail).compress(ColdRules(**rules), only=only))


def reasons(report: ColdReport) -> list[str]:
    return [outcome.reason for outcome in report.outcomes]


def test_a_cold_thread_is_packed_and_reads_as_before(bench: Bench) -> None:
    made = thread()
    path = bench.add(made)
    bench.fs.set_mode(path, 0o640)
    before, lines = bench.fs.stat(path), bench.lines(made.id)
    report = compress(bench)
    packed = path.with_name(f"{path.name}.zst")
    after = bench.fs.stat(packed)
    assert bench.names(path) == [".zst"]
    assert (after.mtime_ns, after.mode) == (before.mtime_ns, before.mode)
    assert bench.lines(made.id) == lines
    assert read_table(bench.fs.open_read(packed)) is not None
    (outcome,) = report.outcomes
    assert outcome == Outcome(
        thread_id=made.id,
        path=str(path),
        result="compressed",
        before=before.size,
        after=after.size,
        seconds=outcome.seconds,
    )
    assert (report.before, report.after, report.skipped) == (before.size, after.size, Counter())
    assert [entry.name for entry in bench.fs.scan(bench.home.lock_folder)] == [".coordination.lock"]


def test_it_survives_power_loss_when_it_was_told(bench: Bench) -> None:
    path = bench.add(made := thread())
    lines = bench.lines(made.id)
    compress(bench)
    bench.fs.crash()
    assert bench.names(path) == [".zst"]
    assert bench.lines(made.id) == lines


def test_only_what_did_not_change_for_days_is_taken(bench: Bench) -> None:
    old, young = thread(1), thread(2)
    bench.add(old, age=7.1)
    bench.add(young, age=6.9)
    report = compress(bench)
    assert ([each.thread_id for each in report.outcomes], report.skipped) == ([old.id], Counter(recent=1))
    report = compress(bench, older_than=6 * DAY)
    assert ([each.thread_id for each in report.outcomes], report.skipped) == ([young.id], Counter(compressed=1))


def test_a_newer_segment_keeps_the_older_ones_plain(bench: Bench) -> None:
    made = ThreadBuilder("0.169").turn("a").turn("b").turn("c").revert(2).turn("d")
    newest = bench.add(made, age=1)
    assert compress(bench).skipped == Counter(recent=2)
    bench.fs.set_mtime(newest, int((NOW - 8 * DAY) * 1e9))
    lines = bench.lines(made.id)
    assert len(compress(bench).of("compressed")) == 2
    assert bench.lines(made.id) == lines


def test_archived_threads_come_first_and_older_ones_before_newer(bench: Bench) -> None:
    made = [thread(seed) for seed in range(4)]
    for each, (age, archived) in zip(made, [(10, False), (20, False), (10, True), (20, True)], strict=True):
        bench.add(each, age=age, archived=archived)
    order = [each.thread_id for each in compress(bench, parallel=1).outcomes]
    assert order == [made[3].id, made[2].id, made[1].id, made[0].id]


def test_archived_threads_only(bench: Bench) -> None:
    bench.add(thread(1))
    bench.add(kept := thread(2), archived=True)
    report = compress(bench, archived_only=True)
    assert ([each.thread_id for each in report.outcomes], report.skipped) == ([kept.id], Counter(active=1))


def test_what_is_asked_for_by_id_is_told_about(bench: Bench) -> None:
    bench.add(thread(1))
    bench.add(asked := thread(2), age=1)
    report = compress(bench, only=[asked.id])
    assert [(each.thread_id, each.result, each.reason) for each in report.outcomes] == [(asked.id, "skipped", "recent")]
    assert [each.result for each in compress(bench, only=[asked.id], older_than=0.0).outcomes] == ["compressed"]
    assert reasons(compress(bench, only=[asked.id], older_than=0.0)) == ["compressed"]


def test_a_dry_run_changes_nothing_and_tells_what_would_be(bench: Bench) -> None:
    path = bench.add(thread(1))
    bench.add(busy := thread(2))
    lock = bench.lock(busy.id)
    calls = bench.fs.calls.copy()
    report = compress(bench, dry_run=True)
    changed = {name: bench.fs.calls[name] - calls[name] for name in ("write", "unlink", "rename", "make_folder")}
    assert set(changed.values()) == {0}
    assert {(each.result, each.reason) for each in report.outcomes} == {("planned", ""), ("skipped", "busy")}
    assert report.before == bench.fs.stat(path).size
    lock.release()


def test_a_busy_thread_is_passed_over_and_its_holder_named(bench: Bench) -> None:
    path = bench.add(made := thread())
    bench.add(thread(1))
    lock = bench.lock(made.id)
    report = compress(bench)
    (busy,) = report.of("skipped")
    assert (busy.thread_id, busy.reason) == (made.id, "busy")
    assert "is being written by other" in busy.message
    assert len(report.of("compressed")) == 1
    assert "" in bench.names(path)
    lock.release()
    assert [each.thread_id for each in compress(bench).outcomes] == [made.id]


def test_a_writer_meets_a_lock_until_the_plain_file_is_gone(bench: Bench) -> None:
    bench.add(made := thread())
    refused: list[str] = []

    def try_to_write(step: str) -> Callable[[], None]:
        def attempt() -> None:
            with pytest.raises(Exception, match="is being written by clew compress"):
                bench.lock(made.id)
            refused.append(step)

        return attempt

    compress(bench, FailPoints({step: try_to_write(step) for step in STEPS}))
    assert sorted(refused) == sorted(STEPS)
    bench.lock(made.id).release()


@pytest.mark.parametrize("how", ["killed", None, 1, 2, 3])
@pytest.mark.parametrize("step", STEPS)
def test_a_kill_or_power_cut_at_any_step_loses_nothing_and_the_next_run_finishes(
    bench: Bench, step: str, how: int | str | None
) -> None:
    path = bench.add(made := thread())
    lines = bench.lines(made.id)
    program = Program(bench.fs)
    end = program.kill if how == "killed" else lambda: program.cut_power(how if isinstance(how, int) else None)
    dying = worker(Home(program, bench.home.path), bench.clock, fail=FailPoints({step: end}))
    with pytest.raises((BaseException, BaseExceptionGroup)):
        anyio.run(lambda: dying.compress(ColdRules()))
    assert program.dead
    assert bench.lines(made.id) == lines
    bench.clock.time += DAY
    compress(bench)
    assert bench.names(path) == [".zst"]
    assert bench.lines(made.id) == lines


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("step", STEPS)
def test_a_failure_at_any_step_costs_that_file_for_now(bench: Bench, step: str, error: int) -> None:
    path = bench.add(made := thread(1))
    bench.add(thread(2), age=8)
    lines = bench.lines(made.id)

    def refuse() -> None:
        raise OSError(error, "refused")

    fail = FailPoints()
    fail.on(step, lambda: None if fail.hits[step] > 1 else refuse())
    report = compress(bench, fail, parallel=1)
    assert [each.result for each in report.outcomes] == ["failed", "compressed"]
    assert ("Free some space" in report.outcomes[0].message) == (error == errno.ENOSPC)
    assert bench.lines(made.id) == lines
    assert not [name for name in bench.names(path) if name.endswith(".tmp")]
    assert len(compress(bench).of("compressed")) == 1
    assert bench.lines(made.id) == lines


@pytest.mark.parametrize("step", ["after_write", "after_sync", "before_link", "after_rename", "after_folder_sync"])
def test_a_program_without_locks_that_writes_meanwhile_keeps_its_plain_file(bench: Bench, step: str) -> None:
    path = bench.add(made := thread())

    def append() -> None:
        with closing(bench.fs.open_append(path, create=False)) as file:
            file.write(b'{"timestamp":"t","type":"event_msg","payload":{"type":"late"}}\n')

    report = compress(bench, FailPoints({step: append}))
    assert reasons(report) == ["changed"]
    assert bench.names(path) == [""]
    assert bench.lines(made.id)[-1] == ("event_msg", b'{"type":"late"}')


def test_a_file_that_was_replaced_meanwhile_stays(bench: Bench) -> None:
    path = bench.add(thread())
    data = bench.fs.read_bytes(path)
    mtime = bench.fs.stat(path).mtime_ns

    def replace() -> None:
        bench.fs.write_bytes(path, data)
        bench.fs.set_mtime(path, mtime)

    assert reasons(compress(bench, FailPoints({"before_link": replace}))) == ["changed"]
    assert bench.names(path) == [""]


def test_a_thread_that_was_moved_meanwhile_is_left_alone(bench: Bench) -> None:
    path = bench.add(thread())
    bench.fs.make_folder(bench.home.archived_sessions)
    target = bench.home.archived_sessions / path.name
    report = compress(bench, FailPoints({"after_sync": lambda: bench.fs.rename(path, target)}))
    assert reasons(report) == ["gone"]
    assert bench.names(path) == []
    assert bench.fs.stat(target).size > 0


@pytest.mark.parametrize("step", ["after_rename", "after_folder_sync"])
def test_a_thread_that_was_moved_when_it_was_packed_has_one_place(bench: Bench, step: str) -> None:
    path = bench.add(made := thread())
    lines = bench.lines(made.id)
    bench.fs.make_folder(bench.home.archived_sessions)
    target = bench.home.archived_sessions / path.name
    report = compress(bench, FailPoints({step: lambda: bench.fs.rename(path, target)}))
    assert reasons(report) == ["gone"]
    assert bench.names(path) == []
    assert bench.lines(made.id) == lines


def test_a_packed_file_stays_when_the_plain_one_vanished(bench: Bench) -> None:
    path = bench.add(made := thread())
    lines = bench.lines(made.id)
    assert reasons(compress(bench, FailPoints({"after_folder_sync": lambda: bench.fs.unlink(path)}))) == ["gone"]
    assert bench.names(path) == [".zst"]
    assert bench.lines(made.id) == lines


def test_a_packed_file_that_another_program_made_meanwhile_is_not_overwritten(bench: Bench) -> None:
    path = bench.add(thread())
    packed = path.with_name(f"{path.name}.zst")
    report = compress(bench, FailPoints({"before_link": lambda: bench.fs.write_bytes(packed, b"theirs")}))
    assert reasons(report) == ["changed"]
    assert (bench.names(path), bench.fs.read_bytes(packed)) == (["", ".zst"], b"theirs")


def test_a_run_that_was_killed_between_name_and_removal_is_finished(bench: Bench) -> None:
    path = bench.add(made := thread())
    made.write(bench.home, compressed=True)  # the same text, in one frame
    report = compress(bench)
    assert [each.result for each in report.outcomes] == ["compressed"]
    assert bench.names(path) == [".zst"]
    assert bench.fs.stat(path.with_name(f"{path.name}.zst")).mtime_ns > 0


def test_a_packed_older_state_gives_way(bench: Bench) -> None:
    made = thread()
    made.write(bench.home, compressed=True)
    made.turn("And now?")
    path = bench.add(made)
    lines = bench.lines(made.id)
    assert [each.result for each in compress(bench).outcomes] == ["compressed"]
    assert bench.names(path) == [".zst"]
    assert bench.lines(made.id) == lines


def test_a_packed_file_that_says_something_else_is_kept_with_the_plain_one(bench: Bench) -> None:
    path = bench.add(thread())
    for theirs in (b"no zstd", b""):
        bench.fs.write_bytes(path.with_name(f"{path.name}.zst"), theirs)
        assert reasons(compress(bench)) == ["differs"]
        assert bench.names(path) == ["", ".zst"]


def test_an_empty_file_is_passed_over(bench: Bench) -> None:
    path = bench.add(thread())
    bench.fs.write_bytes(path, b"")
    bench.fs.set_mtime(path, 0)
    assert compress(bench).skipped == Counter(empty=1)
    assert bench.names(path) == [""]


def test_what_does_not_decode_to_the_same_text_is_thrown_away(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from clew.rollout import packing
    from clew.store import cold

    def flawed(source: Any, sink: Any, **options: Any) -> Any:
        return packing.pack(MemorySource(source.read_at(0, 1 << 20).replace(b"Hello", b"Hallo")), sink)

    path = bench.add(thread())
    monkeypatch.setattr(cold, "pack", flawed)
    (outcome,) = compress(bench).outcomes
    assert outcome.result == "failed"
    assert "what was written is not what was packed" in outcome.message
    assert bench.names(path) == [""]


def test_forks_read_what_they_inherit_from_a_compressed_thread(bench: Bench) -> None:
    source = ThreadBuilder("0.169").turn("a", "x" * 3000).turn("b").turn("c")
    fork = source.fork(before=2).turn("d")
    bench.add(source, age=10)
    bench.add(fork, age=1)
    files = bench.home.find(fork.id)
    assert files is not None
    before = [(each.start, each.end) for each in read_thread(bench.home, files) if isinstance(each, Record)]
    lines = bench.lines(fork.id)
    assert [each.thread_id for each in compress(bench).outcomes] == [source.id]
    assert bench.lines(fork.id) == lines
    after = [(each.start, each.end) for each in read_thread(bench.home, files) if isinstance(each, Record)]
    assert after == before


def test_levels_and_rules_that_make_no_sense_are_refused(bench: Bench) -> None:
    wrongs: list[dict[str, Any]] = [{"level": 20}, {"level": 0}, {"parallel": 0}, {"rate": 0.0}, {"older_than": -1.0}]
    for wrong in wrongs:
        with pytest.raises(BadRequest):
            compress(bench, **wrong)


# -- many at a time, progress, stopping


def test_two_threads_are_compressed_at_a_time(bench: Bench) -> None:
    for seed in range(4):
        bench.add(thread(seed))
    both = threading.Barrier(2, timeout=5)
    inside = Counter[str]()

    def meet() -> None:
        both.wait()
        inside["now"] += 1

    report = compress(bench, FailPoints({"after_create": meet}))
    assert (len(report.of("compressed")), inside["now"]) == (4, 4)


def test_progress_ends_with_everything(bench: Bench) -> None:
    for seed in range(3):
        bench.add(thread(seed))
    bench.add(thread(9), age=1)
    told: list[Progress] = []
    report = anyio.run(lambda: bench.worker().compress(ColdRules(), progress=told.append))
    assert [each.files for each in told] == [1, 2, 3]
    assert told[-1] == Progress(3, 3, report.before, report.before)


def test_a_cancelled_run_leaves_things_clean_and_tells_what_was_done(bench: Bench) -> None:
    made = [thread(seed) for seed in range(5)]
    paths = [bench.add(each, age=10 + number) for number, each in enumerate(made)]
    lines = [bench.lines(each.id) for each in made]
    report = ColdReport()

    async def main() -> None:
        with anyio.CancelScope() as scope:

            def stop() -> None:
                if fail.hits["before_write"] == 3:
                    anyio.from_thread.run_sync(scope.cancel)

            fail = FailPoints({"before_write": stop})
            await bench.worker(fail).compress(ColdRules(parallel=1), report=report)

    anyio.run(main)
    assert report.stopped
    done = len(report.of("compressed"))
    assert done in (2, 3)  # the file at hand may be through before the news arrives
    assert not [name for path in paths for name in bench.names(path) if name.endswith(".tmp")]
    assert [bench.lines(each.id) for each in made] == lines
    with pytest.raises(FileNotFoundError):
        bench.fs.stat(MARKER)
    assert [entry.name for entry in bench.fs.scan(bench.home.lock_folder)] == [".coordination.lock"]
    assert len(compress(bench).of("compressed")) == 5 - done


def test_the_pace_is_shared_and_lets_what_is_due_pass() -> None:
    clock = Still()
    waited: list[float] = []
    pace = Pace(100.0, clock, waited.append)
    pace.take(50)
    pace.take(100)
    pace.take(10)
    assert waited == [0.5, 1.5]
    clock.time += 10
    pace.take(10)
    assert len(waited) == 2
    Pace(None, clock, waited.append).take(10**9)
    assert len(waited) == 2


# -- the marker of a run, and what killed runs left


def mark(bench: Bench, text: str, *, age: float) -> None:
    bench.fs.write_bytes(MARKER, text.encode())
    bench.fs.set_mtime(MARKER, int((bench.clock.now() - age) * 1e9))


def test_a_run_leaves_its_marker_for_codex(bench: Bench) -> None:
    bench.add(thread())
    compress(bench)
    assert bench.fs.read_bytes(MARKER) == f"pid=7 started_at={int(NOW)} program=clew\n".encode()
    assert [entry.name for entry in bench.fs.scan(MARKER.parent)] == [MARKER.name]


@pytest.mark.parametrize(
    ("text", "age", "living", "runs"),
    [
        ("pid=4711 started_at=1", 60, True, False),
        ("pid=4711 started_at=1", 5.9 * 3600, True, False),
        ("pid=4711 started_at=1", 6 * 3600, True, True),
        ("pid=4711 started_at=1", 60, False, True),
        ("", 60, False, False),
        ("", 7 * 3600, False, True),
        ("pid=4711 started_at=1 program=clew", 60, True, True),
    ],
)
def test_a_run_of_another_program_is_given_way(bench: Bench, text: str, age: float, living: bool, runs: bool) -> None:
    bench.add(thread())
    mark(bench, text, age=age)
    if living:
        bench.alive.add(4711)
    if runs:
        assert len(compress(bench).of("compressed")) == 1
        return
    with pytest.raises(CompressionRunning, match="another run compresses the threads of this home") as refused:
        compress(bench)
    assert refused.value.pid == (4711 if text else None)
    assert bench.fs.read_bytes(MARKER) == text.encode()
    assert [entry.name for entry in bench.fs.scan(MARKER.parent)] == [MARKER.name]


def test_two_runs_of_clew_never_work_at_once(bench: Bench) -> None:
    bench.add(thread())
    first = RunMarker.take(bench.home, bench.clock, process=1)
    with pytest.raises(CompressionRunning):
        compress(bench)
    first.leave()
    second = RunMarker.take(bench.home, bench.clock, process=2)
    assert bench.fs.read_bytes(MARKER).startswith(b"pid=2 ")
    second.remove()
    with pytest.raises(FileNotFoundError):
        bench.fs.stat(MARKER)


def test_what_killed_runs_left_is_removed_after_six_hours(bench: Bench) -> None:
    folder = bench.add(thread(), age=1).parent
    plain = "rollout-2026-07-01T12-00-00-019f1866-8600-7001-a920-835d98d81eb9.jsonl"
    old = {"rollout-compress-4711-1.tmp", "rollout-compress-abc.tmp", f"{plain}.decompress.4711.0.tmp"}
    kept = {
        "rollout-compress-5-1.tmp",  # its process lives
        f"{plain}.decompress.5.0.tmp",
        "notes.tmp",
        "rollout-compress-4711-2.tmp",  # young
    }
    bench.alive.add(5)
    for name in old | kept:
        bench.fs.write_bytes(folder / name, b"")
        age = 3600 if name.endswith("-2.tmp") else 6 * 3600
        bench.fs.set_mtime(folder / name, int((NOW - age) * 1e9))
    found = forgotten_temporaries(bench.home, NOW, bench.alive.__contains__)
    assert {path.name for path in found} == old
    assert compress(bench).cleaned == 3
    assert {entry.name for entry in bench.fs.scan(folder)} >= kept
    assert compress(bench).cleaned == 0


# -- unpacking


def test_threads_become_plain_again(bench: Bench) -> None:
    made = [thread(seed) for seed in range(3)]
    paths = [bench.add(each) for each in made]
    before = {path: (bench.fs.read_bytes(path), bench.fs.stat(path)[1:3]) for path in paths}
    compress(bench)
    report = anyio.run(lambda: bench.worker().materialise([made[0].id]))
    assert [(each.thread_id, each.result) for each in report.outcomes] == [(made[0].id, "materialised")]
    report = anyio.run(lambda: bench.worker().materialise())
    assert (len(report.of("materialised")), report.skipped) == (2, Counter(plain=1))
    assert {path: (bench.fs.read_bytes(path), bench.fs.stat(path)[1:3]) for path in paths} == before
    assert {name for path in paths for name in bench.names(path) if "zst" in name} == set()


def test_unpacking_passes_over_what_is_busy_and_tells_what_is_damaged(bench: Bench) -> None:
    busy, damaged = thread(1), thread(2)
    bench.add(busy)
    path = bench.add(damaged)
    compress(bench)
    packed = path.with_name(f"{path.name}.zst")
    bench.fs.write_bytes(packed, bench.fs.read_bytes(packed)[:100])
    lock = bench.lock(busy.id)
    report = anyio.run(lambda: bench.worker().materialise())
    assert {(each.thread_id, each.result, each.reason) for each in report.outcomes} == {
        (busy.id, "skipped", "busy"),
        (damaged.id, "failed", ""),
    }
    assert "damaged zstd file" in report.of("failed")[0].message
    lock.release()


def test_a_thread_goes_on_behind_what_was_packed(bench: Bench) -> None:
    made = thread()
    path = bench.add(made)
    lines = bench.lines(made.id)
    compress(bench)
    anyio.run(lambda: bench.worker().materialise([made.id]))
    writer = LogWriter(bench.fs, path, bench.clock, create=False)
    writer.append([Line("event_msg", {"type": "later"})])
    writer.close()
    assert bench.lines(made.id) == [*lines, ("event_msg", b'{"type":"later"}')]


# -- the real disk


@pytest.fixture
def disk(tmp_path: Path) -> tuple[Home, Still]:
    return Home(RealFileSystem(), tmp_path / "codex"), Still()


def test_on_a_real_disk_what_another_program_has_open_is_passed_over(disk: tuple[Home, Still]) -> None:
    home, clock = disk
    made = thread()
    path = made.write(home)
    lines = lines_of(home, made.id)

    def run() -> ColdReport:
        return anyio.run(lambda: worker(home, clock).compress(ColdRules()))

    with path.open("ab"):
        assert reasons(run()) == ["open"]
    with path.open("rb"):
        assert reasons(run()) == ["open"]
    path.chmod(0o640)
    assert [each.result for each in run().outcomes] == ["compressed"]
    (packed,) = path.parent.iterdir()
    assert (packed.name, packed.stat().st_mode & 0o777) == (f"{path.name}.zst", 0o640)
    assert lines_of(home, made.id) == lines


@pytest.mark.skipif(not hasattr(fcntl, "F_SETLEASE"), reason="only Linux has leases")
def test_a_reader_that_comes_while_somebody_looks_whether_a_file_is_open_waits_for_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"text")
    with path.open("rb") as looking:
        fcntl.fcntl(looking, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(looking, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        opened: list[bytes] = []

        def read() -> None:
            with closing(RealFileSystem().open_read(path)) as file:
                opened.append(file.read_at(0, 9))

        reader = threading.Thread(target=read)
        reader.start()
        while fcntl.fcntl(looking, fcntl.F_GETLEASE) == fcntl.F_WRLCK:
            assert reader.is_alive()
        assert opened == []
        fcntl.fcntl(looking, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        reader.join(5)
    assert opened == [b"text"]


def test_on_a_real_disk_two_at_a_time_do_not_disturb_each_other(disk: tuple[Home, Still]) -> None:
    home, clock = disk
    made = [thread(seed) for seed in range(30)]
    for each in made:
        each.write(home)
    lines = [lines_of(home, each.id) for each in made]
    report = anyio.run(lambda: worker(home, clock).compress(ColdRules()))
    assert (len(report.of("compressed")), report.skipped) == (30, Counter())
    assert [lines_of(home, each.id) for each in made] == lines
    report = anyio.run(lambda: worker(home, clock).materialise())
    assert (len(report.of("materialised")), report.skipped) == (30, Counter())
    assert [lines_of(home, each.id) for each in made] == lines


# -- figures


class Instrument:
    def __init__(self, name: str, told: list[tuple[str, Any, Any]]) -> None:
        self._name = name
        self._told = told

    def add(self, amount: float, attributes: Any = None) -> None:
        self._told.append((self._name, amount, attributes))

    record = add


class Meter(metrics.NoOpMeter):
    def __init__(self) -> None:
        super().__init__("test")
        self.told: list[tuple[str, Any, Any]] = []

    def create_counter(self, name: str, unit: str = "", description: str = "") -> Any:
        return Instrument(name, self.told)

    create_histogram = create_counter  # pyright: ignore[reportAssignmentType] - the same for what is noted here


def test_figures_are_handed_to_opentelemetry(bench: Bench) -> None:
    bench.add(thread(1))
    bench.add(thread(2), age=1)
    path = bench.add(thread(3))
    bench.fs.write_bytes(path.with_name(f"{path.name}.zst"), b"x")
    bench.fs.set_mtime(path, int((NOW - 9 * DAY) * 1e9))
    bench.fs.write_bytes(path.parent / "rollout-compress-1-1.tmp", b"")
    bench.fs.set_mtime(path.parent / "rollout-compress-1-1.tmp", 0)
    meter = Meter()
    report = anyio.run(lambda: bench.worker(metrics=ColdMetrics(meter)).compress(ColdRules()))
    (done,) = report.of("compressed")
    tags = {"operation": "compress"}
    assert meter.told == [
        ("clew.cold.files", 1, tags),
        ("clew.cold.bytes.in", done.before, tags),
        ("clew.cold.bytes.out", done.after, tags),
        ("clew.cold.file.duration", done.seconds, tags),
        ("clew.cold.ratio", done.before / done.after, tags),
        ("clew.cold.runs", 1, {**tags, "outcome": "done"}),
        ("clew.cold.run.duration", report.seconds, tags),
        ("clew.cold.skipped", 1, {**tags, "reason": "differs"}),
        ("clew.cold.skipped", 1, {**tags, "reason": "recent"}),
        ("clew.cold.cleaned", 1, tags),
    ]


def test_a_run_that_was_refused_is_counted_as_one_that_failed(bench: Bench) -> None:
    mark(bench, "pid=4711", age=1)
    bench.alive.add(4711)
    meter = Meter()
    with pytest.raises(CompressionRunning):
        anyio.run(lambda: bench.worker(metrics=ColdMetrics(meter)).compress(ColdRules()))
    assert ("clew.cold.runs", 1, {"operation": "compress", "outcome": "failed"}) in meter.told
