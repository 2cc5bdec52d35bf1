"""Group commit: one thread writes and syncs for all open logs, so that nobody else ever waits for a disk.

Whatever asks while a sync runs is collected; the next round writes it with one write and one sync per log.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.lowlevel import current_token

from clew.rollout.envelope import Line
from clew.rollout.writer import LogWriter

__all__ = ["GroupCommitter"]


@dataclass(slots=True)
class _Job:
    writer: LogWriter
    lines: Sequence[Line]
    durable: bool
    closing: bool = False
    done: Future[int] = field(default_factory=Future[int])


class GroupCommitter:
    """Owns the writing thread; logs given to it must not be used from elsewhere until they are closed."""

    def __init__(self, name: str = "clew-writer") -> None:
        self._name = name
        self._jobs: list[_Job] = []
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, writer: LogWriter, lines: Sequence[Line], *, durable: bool = True) -> Future[int]:
        """Hand in lines; the future gives the log's size once they are written, with `durable` once they survive power
        loss. Lines of one log are written in the order they were handed in.

        The future carries `DiskFull`, `SyncFailed`, `LogReplaced` (the lines stay with the writer and go out before
        those of the next call), or `TypeError` for lines that are no JSON (none of them is taken). It cannot be
        cancelled.
        """
        return self._put(_Job(writer, tuple(lines), durable))

    def submit_close(self, writer: LogWriter) -> Future[int]:
        """Sync and close a log behind everything that was handed in before."""
        return self._put(_Job(writer, (), durable=True, closing=True))

    async def append(self, writer: LogWriter, lines: Sequence[Line], *, durable: bool = True) -> int:
        """`submit` for async callers. Cancelling stops the waiting, not the writing."""
        return await _wait(self.submit(writer, lines, durable=durable))

    async def close_writer(self, writer: LogWriter) -> None:
        """`submit_close` for async callers; waits for the end also when cancelled."""
        with anyio.CancelScope(shield=True):
            await _wait(self.submit_close(writer))

    def close(self) -> None:
        """Finish what was handed in, then end the thread. Later calls to `submit` raise `RuntimeError`."""
        with self._wake:
            self._closed = True
            self._wake.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _put(self, job: _Job) -> Future[int]:
        with self._wake:
            if self._closed:
                raise RuntimeError("the committer is closed")
            if self._thread is None:
                # A daemon: whoever leaves without closing was told of nothing that is not on disk.
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            # From here on it cannot be cancelled, so that every answer finds its future waiting.
            job.done.set_running_or_notify_cancel()
            self._jobs.append(job)
            self._wake.notify()
        return job.done

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._jobs and not self._closed:
                    self._wake.wait()
                jobs, self._jobs = self._jobs, []
                if not jobs:
                    return
            groups: dict[int, list[_Job]] = {}
            for job in jobs:
                groups.setdefault(id(job.writer), []).append(job)
            for group in groups.values():
                _commit(group)


def _commit(jobs: Sequence[_Job]) -> None:
    """One round for one log: stage everything, write once, sync once, answer everyone."""
    writer = jobs[0].writer
    waiting: list[_Job] = []
    for job in jobs:
        if job.closing:
            _answer(waiting, _written)
            waiting = []
            _answer([job], _closed)
            continue
        try:
            writer.stage(job.lines)
        except Exception as error:  # one caller's mistake is not the others'
            job.done.set_exception(error)
        else:
            waiting.append(job)
    _answer(waiting, _written)


def _written(writer: LogWriter, jobs: Sequence[_Job]) -> int:
    size = writer.flush()
    if any(job.durable for job in jobs):
        writer.sync()
    return size


def _closed(writer: LogWriter, _: Sequence[_Job]) -> int:
    try:
        writer.flush()
    finally:
        writer.close()
    return writer.size


def _answer(jobs: Sequence[_Job], act: Callable[[LogWriter, Sequence[_Job]], int]) -> None:
    if not jobs:
        return
    try:
        size = act(jobs[0].writer, jobs)
    except BaseException as error:  # everyone who waits hears of it, whatever it is
        for job in jobs:
            job.done.set_exception(error)
    else:
        for job in jobs:
            job.done.set_result(size)


async def _wait(future: Future[int]) -> int:
    """Wait for a future that another thread fulfils, without occupying a thread."""
    done = anyio.Event()
    native: Any = current_token().native_token
    # The loops of both backends take a call from elsewhere without making the caller wait for it.
    post: Callable[[Callable[[], object]], object]
    post = getattr(native, "call_soon_threadsafe", None) or native.run_sync_soon

    def ring(_: Future[int]) -> None:
        try:
            post(done.set)
        except RuntimeError:
            return  # the loop ended; nobody waits any more

    future.add_done_callback(ring)
    await done.wait()
    return future.result()
