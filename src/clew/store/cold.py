"""Cold threads: compressing what nobody touched for days, and unpacking it again.

No writer and no compressor ever meet. The order in which locks are taken:

    1. the run marker (`.tmp/rollout-compression.lock`), once for a run; it keeps two runs apart
    2. the coordination lock, for the moment in which
    3. one thread's writer lock is taken, without waiting; a thread that is busy is passed over

A thread's lock is held from before its first byte is read until its plain file is gone. Who holds a thread's lock
waits for no other thread's lock and for no marker, and the coordination lock is never held while one waits; so nobody
waits in a circle. Reading takes no lock: at every moment one whole form is there under its name.

The steps for one file: pack into a temporary file beside it; sync; decode all of it and compare; look whether the
original is still what it was; give the packed one its name, never over another, and make the name durable; look once
more; remove the original. A crash at any step leaves the original, or both whole, or the packed one; what is half done
is finished by the next run, temporary files are removed when they are six hours old.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import anyio
import anyio.to_thread

from clew.clock import Clock
from clew.errors import BadRequest, ClewError, DiskFull, LogDamaged, Owner, ThreadBusy
from clew.rollout import (
    ByteSource,
    FailPoints,
    File,
    FileIdentity,
    FileStat,
    Home,
    RolloutFile,
    ThreadFiles,
    WriterLock,
    lock_holder,
    materialise,
)
from clew.rollout.frames import FrameSource
from clew.rollout.framing import read_table
from clew.rollout.packing import LEVELS, pack
from clew.rollout.source import PlainSource
from clew.store.cold_marker import RunMarker, alive, forgotten_temporaries, opened_elsewhere
from clew.store.cold_run import DAY, ColdReport, ColdRules, Job, Outcome, Progress, Run, Skip

if TYPE_CHECKING:
    from clew.store.cold_metrics import ColdMetrics

__all__ = ["DAY", "ColdReport", "ColdRules", "ColdWorker", "Outcome", "Progress"]

_BLOCK = 1 << 20

_Relation = Literal["same", "shorter", "longer", "differs"]


class ColdWorker:
    """Compresses and unpacks threads of one home. `owner` is named to others that find a thread held."""

    def __init__(
        self,
        home: Home,
        clew_home: Path,
        *,
        owner: Owner,
        clock: Clock,
        fail: FailPoints | None = None,
        metrics: ColdMetrics | None = None,
        process: int | None = None,
        is_alive: Callable[[int], bool] = alive,
        is_open: Callable[[Path, FileIdentity], bool] = opened_elsewhere,
    ) -> None:
        self._home = home
        self._fs = home.fs
        self._clew_home = clew_home
        self._owner = owner
        self._clock = clock
        self._fail = fail or FailPoints()
        self._metrics = metrics
        self._process = os.getpid() if process is None else process
        self._is_alive = is_alive
        self._is_open = is_open
        self._temporaries = 0
        self._counting = threading.Lock()

    # -- runs ---------------------------------------------------------------------------------------------------------

    async def compress(
        self,
        rules: ColdRules,
        *,
        only: Collection[str] | None = None,
        report: ColdReport | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> ColdReport:
        """Compress the cold threads, or those of `only` that are cold; archived ones first, the oldest first.

        `report` is filled as the run goes on. `progress` is called in the threads that work, one at a time. A
        cancellation takes effect within a frame; the file at hand stays plain. One file that cannot be compressed does
        not keep the others from it. Raises `CompressionRunning`, `BadRequest`.
        """
        if rules.level not in LEVELS:
            raise BadRequest("level", f"give a number from {LEVELS[0]} to {LEVELS[-1]}")
        if rules.parallel < 1 or rules.older_than < 0 or (rules.rate is not None and rules.rate <= 0):
            raise BadRequest("rules", "parallel and rate are above 0, older_than is not below")
        run = Run("compress", rules, _or_new(report), clock=self._clock, named=only is not None, progress=progress)
        if rules.dry_run:
            return await self._measured(run, lambda: self._planned(run, only))
        return await self._measured(run, lambda: self._marked(run, only))

    async def materialise(
        self,
        only: Collection[str] | None = None,
        *,
        report: ColdReport | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> ColdReport:
        """Unpack the threads of `only`, or all. As `compress`, but without a marker: it comes in nobody's way."""
        run = Run(
            "materialise", ColdRules(), _or_new(report), clock=self._clock, named=only is not None, progress=progress
        )

        async def unpack() -> None:
            jobs = await anyio.to_thread.run_sync(self._packed, only, run)
            await run.work(jobs, lambda job: self._locked(job, run, lambda file, lock: self._unpack(file)))

        return await self._measured(run, unpack)

    async def _measured(self, run: Run, work: Callable[[], Awaitable[None]]) -> ColdReport:
        begin = time.perf_counter()
        outcome = "failed"
        try:
            await work()
            outcome = "done"
        except anyio.get_cancelled_exc_class():
            outcome = "stopped"
            run.report.stopped = True
            raise
        finally:
            run.report.seconds = round(time.perf_counter() - begin, 3)
            if not run.rules.dry_run:
                run.measure(self._measures(), outcome)
        return run.report

    def _measures(self) -> ColdMetrics:
        if self._metrics is None:
            from clew.store.cold_metrics import ColdMetrics

            self._metrics = ColdMetrics()
        return self._metrics

    async def _planned(self, run: Run, only: Collection[str] | None) -> None:
        jobs = await anyio.to_thread.run_sync(self._cold, only, run)
        await run.work(jobs, lambda job: self._say(job, run))

    async def _marked(self, run: Run, only: Collection[str] | None) -> None:
        marker = await anyio.to_thread.run_sync(self._take_marker)
        done = False
        try:
            run.report.cleaned = await anyio.to_thread.run_sync(self._clean)
            jobs = await anyio.to_thread.run_sync(self._cold, only, run)
            await run.work(jobs, lambda job: self._locked(job, run, lambda file, lock: self._compress(file, lock, run)))
            await anyio.to_thread.run_sync(self._sync_removals, run)
            done = True
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(marker.leave if done else marker.remove)

    def _sync_removals(self, run: Run) -> None:
        """Make it durable that plain files are gone: once per folder, as one that comes back after a power cut stands
        beside its packed form and does no harm."""
        for folder in run.folders:
            self._fs.sync_folder(folder)

    def _take_marker(self) -> RunMarker:
        return RunMarker.take(self._home, self._clock, process=self._process, is_alive=self._is_alive)

    def _clean(self) -> int:
        """Remove forgotten temporary files; gives how many."""
        count = 0
        for path in forgotten_temporaries(self._home, self._clock.now(), self._is_alive):
            with contextlib.suppress(OSError):
                self._fs.unlink(path)
                count += 1
        return count

    # -- what there is to do ------------------------------------------------------------------------------------------

    def _threads(self, only: Collection[str] | None) -> Iterator[ThreadFiles]:
        if only is None:
            yield from self._home.threads()
            return
        for thread_id in only:
            if (files := self._home.find(thread_id)) is not None:
                yield files

    def _cold(self, only: Collection[str] | None, run: Run) -> list[Job]:
        rules = run.rules
        latest = self._latest(rules)
        found: list[tuple[bool, int, Job]] = []
        for files in self._threads(only):
            plain = [file for file in files.segments if not file.compressed]
            reason = ""
            if rules.archived_only and not files.archived:
                reason = "active"
            elif not plain:
                reason = "compressed"
            elif max(file.mtime_ns for file in files.segments) > latest:
                # A newer segment makes the older ones part of a thread that somebody works with.
                reason = "recent"
            if reason:
                for file in plain or files.segments:
                    run.skip(file, reason, planned=False)
            else:
                found.append((not files.archived, files.current.mtime_ns, Job(files.thread_id, tuple(plain))))
        return [job for _, _, job in sorted(found, key=lambda each: (each[0], each[1], each[2].thread_id))]

    def _packed(self, only: Collection[str] | None, run: Run) -> list[Job]:
        jobs: list[Job] = []
        for files in self._threads(only):
            if packed := tuple(file for file in files.segments if file.compressed):
                jobs.append(Job(files.thread_id, packed))
            else:
                for file in files.segments:
                    run.skip(file, "plain", planned=False)
        return jobs

    def _latest(self, rules: ColdRules) -> int:
        return int((self._clock.now() - rules.older_than) * 1_000_000_000)

    # -- one thread, in a worker thread -------------------------------------------------------------------------------

    def _say(self, job: Job, run: Run) -> None:
        """What would be done, without doing it."""
        holder = lock_holder(self._home, self._clew_home, job.thread_id)
        for file in job.files:
            if holder is not None:
                run.skip(file, "busy", str(ThreadBusy(job.thread_id, holder)))
            else:
                run.done(file, "planned", before=file.size)

    def _locked(self, job: Job, run: Run, change: _Change) -> None:
        """Change each file of a thread under its writer lock, or none of them when the thread is busy."""
        try:
            lock = WriterLock.acquire(self._home, self._clew_home, job.thread_id, self._owner)
        except ThreadBusy as busy:
            for file in job.files:
                run.skip(file, "busy", str(busy))
            return
        except (ClewError, OSError) as error:
            for file in job.files:
                run.failed(file, _said(file, error))
            return
        try:
            for file in job.files:
                run.check()
                self._changed(file, lock, run, change)
        finally:
            lock.release()

    def _changed(self, file: RolloutFile, lock: WriterLock, run: Run, change: _Change) -> None:
        begin = time.perf_counter()
        try:
            before, after = change(file, lock)
        except Skip as skip:
            run.skip(file, skip.reason, skip.message)
        except FileNotFoundError:
            run.skip(file, "gone")
        except (ClewError, OSError) as error:
            run.failed(file, _said(file, error))
        else:
            result = "compressed" if run.operation == "compress" else "materialised"
            run.done(file, result, before=before, after=after, seconds=time.perf_counter() - begin)

    def _compress(self, file: RolloutFile, lock: WriterLock, run: Run) -> tuple[int, int]:
        """Sizes of the plain and of the packed file, which stands in its place now."""
        plain = file.path
        packed = plain.with_name(f"{plain.name}.zst")
        before = self._fs.stat(plain)
        if not before.size:
            raise Skip("empty")
        if before.mtime_ns > self._latest(run.rules):
            raise Skip("recent")
        if self._is_open(plain, before.identity):
            raise Skip("open", f"{plain} is open in another program")
        if not self._packed_already(plain, packed, run):
            self._pack_beside(plain, packed, before, run)
            self._fail.hit("after_rename")
        self._fs.set_mtime(packed, before.mtime_ns)
        self._fail.hit("before_folder_sync")
        self._fs.sync_folder(plain.parent)
        self._fail.hit("after_folder_sync")
        # The lock keeps out all who know it; the others may have come in between.
        now = self._status(plain)
        if now is None and not self._moved(file, before):
            raise Skip("gone")  # whoever removed it may have done so because the packed form is there
        if now != before or not lock.held or self._is_open(plain, before.identity):
            self._fs.unlink(packed)
            self._fs.sync_folder(plain.parent)
            raise Skip("gone" if now is None else "changed", f"another program was at {plain} meanwhile")
        after = self._fs.stat(packed).size
        self._fail.hit("before_unlink")
        self._fs.unlink(plain)
        run.removed_from(plain.parent)
        return before.size, after

    def _status(self, path: Path) -> FileStat | None:
        try:
            return self._fs.stat(path)
        except FileNotFoundError:
            return None

    def _moved(self, file: RolloutFile, before: FileStat) -> bool:
        """Whether the plain file stands somewhere else in the home now: a program without locks archived it."""
        files = self._home.find(file.thread_id)
        places = (*files.segments, *files.doubles) if files is not None else ()
        statuses = (self._status(place.path) for place in places if not place.compressed)
        return any(status is not None and status.identity == before.identity for status in statuses)

    def _packed_already(self, plain: Path, packed: Path, run: Run) -> bool:
        """Whether a run that was killed left the packed file whole, so that only the plain one has to go. One that is
        an older state of the thread is removed."""
        try:
            with contextlib.closing(self._fs.open_append(packed, create=False)) as file:
                with (
                    contextlib.closing(PlainSource(self._fs.open_read(plain))) as original,
                    contextlib.closing(FrameSource(self._fs.open_read(packed))) as other,
                ):
                    relation = _compare(original, other, run.check)
                if relation == "same":
                    file.sync()
                    self._fs.set_mode(packed, self._fs.stat(plain).mode)
        except FileNotFoundError:
            return False
        if relation in ("differs", "longer"):
            raise Skip("differs", f"{packed} holds something else than the plain file beside it")
        if relation == "shorter":
            self._fs.unlink(packed)
            self._fs.sync_folder(plain.parent)
        return relation == "same"

    def _pack_beside(self, plain: Path, packed: Path, before: FileStat, run: Run) -> None:
        temporary, target = self._temporary(plain.parent)
        try:
            try:
                self._fail.hit("after_create")
                with contextlib.closing(self._fs.open_read(plain)) as original:
                    if original.identity() != before.identity:
                        raise Skip("changed")
                    # A writer may have died with lines that are not durable: the power must not take them from the
                    # plain form, which counts, when they are in the packed one.
                    original.sync()
                    self._fail.hit("before_write")
                    pack(PlainSource(original), target, level=run.rules.level, paced=run.pace)
                    self._fail.hit("after_write")
                    self._fs.set_mode(temporary, before.mode)
                    self._fail.hit("before_sync")
                    target.sync()
                    self._fail.hit("after_sync")
                    self._verify(PlainSource(original), temporary, run)
            finally:
                target.close()
            if self._fs.stat(plain) != before:
                raise Skip("changed")
            self._fail.hit("before_link")
            try:
                self._fs.rename(temporary, packed)
            except FileExistsError as error:
                raise Skip("changed", f"another program made {packed} meanwhile") from error
        finally:
            with contextlib.suppress(FileNotFoundError):
                self._fs.unlink(temporary)

    def _verify(self, original: PlainSource, temporary: Path, run: Run) -> None:
        """Decode all of it, as any reader would, and compare; the seek table must be one that is believed."""
        file = self._fs.open_read(temporary)
        with contextlib.closing(FrameSource(file, seekable=False)) as written:
            table = read_table(file)
            relation = _compare(original, written, run.check)
        if relation in ("shorter", "longer"):
            raise Skip("changed")
        if relation != "same" or table is None or table.size != original.size():
            raise LogDamaged(temporary, 0, "what was written is not what was packed; the original stays")

    def _temporary(self, folder: Path) -> tuple[Path, File]:
        while True:
            with self._counting:
                self._temporaries += 1
                number = self._temporaries
            path = folder / f"rollout-compress-{self._process}-{number}.tmp"
            with contextlib.suppress(FileExistsError):
                return path, self._fs.open_append(path, exclusive=True)

    def _unpack(self, file: RolloutFile) -> tuple[int, int]:
        """Sizes of the packed and of the plain file, which stands in its place now."""
        before = self._fs.stat(file.path).size
        return before, materialise(self._fs, file, fail=self._fail, process=self._process).size


_Change = Callable[[RolloutFile, WriterLock], tuple[int, int]]


def _compare(original: ByteSource, other: ByteSource, check: Callable[[], None]) -> _Relation:
    """How another text stands to the original: `shorter` is a beginning of it, `longer` goes on behind it."""
    at = 0
    while True:
        check()
        expected, found = original.read_at(at, _BLOCK), other.read_at(at, _BLOCK)
        if expected != found:
            common = min(len(expected), len(found))
            if other.damage or expected[:common] != found[:common]:
                return "differs"
            return "shorter" if len(found) < len(expected) else "longer"
        if not expected:
            return "differs" if other.damage else "same"
        at += len(expected)


def _or_new(report: ColdReport | None) -> ColdReport:
    return ColdReport() if report is None else report


def _said(file: RolloutFile, error: ClewError | OSError) -> str:
    if isinstance(error, ClewError):
        return error.explained()
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(file.path).explained()
    return f"{file.plain_path}: {error.strerror or error}"
