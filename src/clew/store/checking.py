"""`clew check`: one pass over the files of a home that says what is wrong with them, and changes nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from clew.clock import Clock
from clew.errors import ThreadNotFound
from clew.rollout import ByteSource, Home, RolloutFile, ThreadFiles, lock_holder, open_source
from clew.store.backups import unfinished
from clew.store.base_check import BaseCheck
from clew.store.findings import Finding, finding
from clew.store.home_check import HomeCheck, check_seek_table
from clew.store.line_check import LONGEST_CHECKED, LineCheck

__all__ = ["Checker", "Progress"]


class Progress(NamedTuple):
    """How far a check is: files and bytes (as they lie on disk) looked at, and how many there are."""

    files: int
    files_total: int
    bytes: int
    bytes_total: int


class Checker:
    """Checks threads of one home. `quick`: only names, beginnings and last lines, not what is between.

    `progress` is called for every block that was read.
    """

    def __init__(
        self,
        home: Home,
        clew_home: Path,
        *,
        clock: Clock,
        quick: bool = False,
        progress: Callable[[Progress], None] | None = None,
        longest: int = LONGEST_CHECKED,
    ) -> None:
        self._home = home
        self._clew_home = clew_home
        self._clock = clock
        self._quick = quick
        self._progress = progress
        self._longest = longest
        self._at = Progress(0, 0, 0, 0)
        self.threads = 0

    @property
    def seen(self) -> Progress:
        """How much was looked at so far."""
        return self._at

    def home(self) -> Iterator[Finding]:
        """Everything: thread by thread, then what lies around them. Findings of one thread come one after the other."""
        threads = sorted(self._home.threads(), key=lambda files: str(files.current.path))
        places: dict[str, list[RolloutFile]] = {}
        for files in threads:
            for file in (*files.segments, *files.doubles):
                places.setdefault(file.name.rollout_id, []).append(file)

        def find(rollout_id: str) -> RolloutFile | None:
            found = places.get(rollout_id, [])
            return found[0] if len(found) == 1 else self._home.find_segment(rollout_id)

        bases = BaseCheck(self._home, find)
        self._begin(threads)
        for files in threads:
            yield from self._thread(files, bases)
        known = {files.thread_id for files in threads}
        yield from HomeCheck(self._home, self._clew_home, known, self._clock).run()
        yield from unfinished(self._home.fs, self._clew_home)

    def some(self, thread_ids: Sequence[str]) -> Iterator[Finding]:
        """These threads, with the files they inherit from. Raises `ThreadNotFound` when called, before anything is
        read."""
        found: list[ThreadFiles] = []
        for thread_id in dict.fromkeys(thread_ids):
            files = self._home.find(thread_id)
            if files is None:
                raise ThreadNotFound(thread_id)
            found.append(files)
        return self._some(found)

    def _some(self, threads: Sequence[ThreadFiles]) -> Iterator[Finding]:
        bases = BaseCheck(self._home)
        self._begin(threads)
        for files in threads:
            yield from self._thread(files, bases)
            yield from self._inherited(files, bases)
            around = HomeCheck(self._home, self._clew_home, {files.thread_id}, self._clock, {files.thread_id})
            yield from around.run()

    def _begin(self, threads: Sequence[ThreadFiles]) -> None:
        files = [file for thread in threads for file in (*thread.segments, *thread.doubles)]
        self._at = Progress(0, len(files), 0, sum(file.size for file in files))

    def _thread(self, files: ThreadFiles, bases: BaseCheck) -> Iterator[Finding]:
        self.threads += 1
        if files.segments[0].name.segment_id is not None:
            why = f"there are {len(files.segments)} later segments, but not the file they go back to"
            where = str(files.segments[0].path)
            yield finding("segment-without-first", why, thread_id=files.thread_id, path=where)
        held = lock_holder(self._home, self._clew_home, files.thread_id) is not None
        for file in files.segments:
            yield from self._file(file, bases, held=held)
        for file in files.doubles:
            rollout_id = file.name.rollout_id
            best = next(segment for segment in files.segments if segment.name.rollout_id == rollout_id)
            why = f"{best.path} is read in its place"
            yield finding("duplicate-file", why, thread_id=files.thread_id, path=str(file.path))
            yield from self._file(file, bases, held=held)

    def _file(self, file: RolloutFile, bases: BaseCheck, *, held: bool) -> Iterator[Finding]:
        look = LineCheck(file, held=held, quick=self._quick, longest=self._longest)
        before = self._at
        try:
            with contextlib.closing(open_source(self._home.fs, file)) as source:
                yield from look.run(_Counted(source, self._report, file) if self._progress is not None else source)
        except OSError as error:
            why = error.strerror or str(error)
            yield finding("file-unreadable", why, thread_id=file.thread_id, path=str(file.path))
        if look.base is not None:
            yield from bases.run(file, look.base, look.head_line)
        if file.compressed:
            yield from check_seek_table(self._home, file)
        self._at = before._replace(files=before.files + 1, bytes=before.bytes + file.size)
        if self._progress is not None:
            self._progress(self._at)

    def _inherited(self, files: ThreadFiles, bases: BaseCheck) -> Iterator[Finding]:
        """The bases of bases: what is wrong with them is wrong with this thread too. Their lines are not looked at."""
        seen = {file.name.rollout_id for file in files.segments}
        waiting = list(files.segments)
        while waiting:
            look = LineCheck(waiting.pop(), quick=True)
            with contextlib.suppress(OSError), contextlib.closing(open_source(self._home.fs, look.file)) as source:
                look.run(source)
            if look.base is None:
                continue
            if look.file.thread_id != files.thread_id:
                yield from bases.run(look.file, look.base, look.head_line)
            base = self._home.find_segment(look.base.thread_id)
            if base is not None and base.name.rollout_id not in seen:
                seen.add(base.name.rollout_id)
                waiting.append(base)

    def _report(self, done: int, file: RolloutFile) -> None:
        if self._progress is not None:
            self._progress(self._at._replace(bytes=self._at.bytes + min(done, file.size)))


class _Counted:
    """A source that tells how far it was read."""

    def __init__(self, source: ByteSource, report: Callable[[int, RolloutFile], None], file: RolloutFile) -> None:
        self._source = source
        self._report = report
        self._file = file

    def size(self) -> int:
        return self._source.size()

    def read_at(self, offset: int, length: int) -> bytes:
        data = self._source.read_at(offset, length)
        self._report(offset + len(data), self._file)
        return data

    @property
    def damage(self) -> str | None:
        return self._source.damage

    def close(self) -> None:
        self._source.close()
