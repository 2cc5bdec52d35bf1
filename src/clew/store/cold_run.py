"""One run over cold threads: what is asked for, what became of each file, how far it is; two threads at a time."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import anyio
import anyio.to_thread
import msgspec

from clew.clock import Clock
from clew.rollout import RolloutFile
from clew.rollout.packing import LEVEL

if TYPE_CHECKING:
    from clew.store.cold_metrics import ColdMetrics

__all__ = ["DAY", "ColdReport", "ColdRules", "Job", "Operation", "Outcome", "Pace", "Progress", "Result", "Run", "Skip"]

DAY = 86400.0

Operation = Literal["compress", "materialise"]
Result = Literal["compressed", "materialised", "planned", "skipped", "failed"]
_QUIET = frozenset({"active", "compressed", "plain", "recent"})
"""Reasons that say nothing about a file that nobody asked for by name."""


class ColdRules(msgspec.Struct, frozen=True, kw_only=True):
    """What to compress and how. `older_than`: seconds since the last change of any file of a thread. `rate`: bytes of
    text per second over all that run at once, None for as fast as it goes. `parallel`: threads at a time."""

    older_than: float = 7 * DAY
    archived_only: bool = False
    level: int = LEVEL
    rate: float | None = None
    parallel: int = 2
    dry_run: bool = False


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one file. `path` is the plain one; sizes in bytes.

    `reason` of what was skipped: `busy` (another program writes the thread), `open` (another program, perhaps one
    without locks, has the file open), `recent`, `active` (only archived ones were asked for), `compressed` and `plain`
    (it has that form already), `empty`, `changed` (while it was packed), `gone`, `differs` (a packed file that says
    something else stands beside it).
    """

    thread_id: str
    path: str
    result: Result
    reason: str = ""
    message: str = ""
    before: int = 0
    after: int = 0
    seconds: float = 0.0


class Progress(msgspec.Struct, frozen=True):
    """How far a run is: files and bytes on disk, done and in all."""

    files: int
    of_files: int
    bytes: int
    of_bytes: int


@dataclass
class ColdReport:
    """What a run did; it grows while the run goes on, and is true also after one that was ended.

    `outcomes` leaves out what was passed over because it is recent or has its form already, unless it was asked for by
    id; `skipped` counts all of it.
    """

    outcomes: list[Outcome] = field(default_factory=list[Outcome])
    skipped: Counter[str] = field(default_factory=Counter[str])
    cleaned: int = 0
    seconds: float = 0.0
    stopped: bool = False

    def of(self, *results: Result) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.result in results]

    @property
    def before(self) -> int:
        """Bytes of the changed files before."""
        return sum(outcome.before for outcome in self.of("compressed", "materialised", "planned"))

    @property
    def after(self) -> int:
        return sum(outcome.after for outcome in self.of("compressed", "materialised"))


@dataclass(frozen=True)
class Job:
    """The files of one thread that are to be changed, under one lock."""

    thread_id: str
    files: tuple[RolloutFile, ...]


class Stop(Exception):
    """The run was cancelled while a file was at hand."""


class Skip(Exception):
    """The file at hand is passed over. `reason` as in `Outcome`."""

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.message = message


class Pace:
    """At most so many bytes per second, over all who share it; None: as fast as it goes."""

    def __init__(self, rate: float | None, clock: Clock, wait: Callable[[float], object]) -> None:
        self._rate = rate
        self._clock = clock
        self._wait = wait
        self._lock = threading.Lock()
        self._free_at = clock.monotonic()

    def take(self, count: int) -> None:
        """Wait until these bytes are due."""
        if self._rate is None:
            return
        with self._lock:
            now = self._clock.monotonic()
            due = max(self._free_at, now)
            self._free_at = due + count / self._rate
        if due > now:
            self._wait(due - now)


class Run:
    """The state of a run, for the threads that work on it."""

    def __init__(
        self,
        operation: Operation,
        rules: ColdRules,
        report: ColdReport,
        *,
        clock: Clock,
        named: bool,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.operation: Operation = operation
        self.rules = rules
        self.report = report
        self._named = named
        self._progress = progress
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._pace = Pace(rules.rate, clock, self._stop.wait)
        self._working = 0
        self.folders: set[Path] = set()
        """Where files were removed, and nobody made that durable yet."""
        self._files = self._bytes = self._of_files = self._of_bytes = 0

    async def work(self, jobs: list[Job], change: Callable[[Job], None]) -> None:
        """Call `change` for every job in threads, as many at a time as the rules allow. A cancellation stops what is at
        hand and is waited for."""
        self._of_files = sum(len(job.files) for job in jobs)
        self._of_bytes = sum(file.size for job in jobs for file in job.files)
        waiting = iter(jobs)
        self._working = min(self.rules.parallel, len(jobs))
        if not self._working:
            return
        # One group for all: who waits for the end of a cancelled run must have told the threads to stop before.
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._stop_when_cancelled)
            for _ in range(self._working):
                tasks.start_soon(self._take, waiting, change, tasks.cancel_scope)

    async def _take(self, waiting: Iterator[Job], change: Callable[[Job], None], scope: anyio.CancelScope) -> None:
        for job in waiting:
            await anyio.to_thread.run_sync(self._until_stopped, change, job)
        self._working -= 1
        if not self._working:
            scope.cancel()

    def _until_stopped(self, change: Callable[[Job], None], job: Job) -> None:
        try:
            self.check()
            change(job)
        except Stop:
            return

    async def _stop_when_cancelled(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self._stop.set()

    # -- called by who does the work ----------------------------------------------------------------------------------

    def check(self) -> None:
        """Raises `Stop` when the run was cancelled."""
        if self._stop.is_set():
            raise Stop

    def pace(self, count: int) -> None:
        """Wait until so many bytes are due. Raises `Stop`."""
        self._pace.take(count)
        self.check()

    def removed_from(self, folder: Path) -> None:
        with self._lock:
            self.folders.add(folder)

    def done(self, file: RolloutFile, result: Result, *, before: int, after: int = 0, seconds: float = 0.0) -> None:
        outcome = Outcome(
            thread_id=file.thread_id,
            path=str(file.plain_path),
            result=result,
            before=before,
            after=after,
            seconds=round(seconds, 3),
        )
        self._note(file, outcome)

    def failed(self, file: RolloutFile, message: str) -> None:
        outcome = Outcome(thread_id=file.thread_id, path=str(file.plain_path), result="failed", message=message)
        self._note(file, outcome)

    def skip(self, file: RolloutFile, reason: str, message: str = "", *, planned: bool = True) -> None:
        """`planned` False: it never was to be changed."""
        outcome = Outcome(
            thread_id=file.thread_id, path=str(file.plain_path), result="skipped", reason=reason, message=message
        )
        self._note(file, outcome, planned=planned)

    def _note(self, file: RolloutFile, outcome: Outcome, *, planned: bool = True) -> None:
        with self._lock:
            if outcome.reason:
                self.report.skipped[outcome.reason] += 1
            if self._named or outcome.reason not in _QUIET:
                self.report.outcomes.append(outcome)
            if not planned:
                return
            self._files += 1
            self._bytes += file.size
            if self._progress is not None:
                self._progress(Progress(self._files, self._of_files, self._bytes, self._of_bytes))

    def measure(self, metrics: ColdMetrics, outcome: str) -> None:
        """Hand the figures of the run to OpenTelemetry."""
        report = self.report
        for each in report.outcomes:
            if each.result in ("compressed", "materialised"):
                metrics.file(self.operation, each.before, each.after, each.seconds)
            elif each.result == "failed":
                metrics.failed(self.operation)
        metrics.run(self.operation, outcome, report.seconds, report.skipped, report.cleaned)
