"""Searching by looking at the files: exact texts, regular expressions, and words where no index helps.

What counts is the decoded text as people see it. ripgrep only says which lines are worth decoding; every hit was read.
Threads are looked at newest first, in growing groups, until the page is full. `docs/search.md` says what is searched.
"""

from __future__ import annotations

import base64
import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from clew.clock import Clock, utc_stamp
from clew.errors import BadRequest
from clew.rollout import Home, ThreadFiles
from clew.store.queries import (
    SearchHit,
    SearchPage,
    SearchProgress,
    SearchQuery,
    ShowProgress,
    Stop,
    ThreadSummary,
)
from clew.store.search.findings import Finding, Findings, Match, Rows, version_of
from clew.store.search.listing import Listed
from clew.store.search.matching import snippet
from clew.store.search.ripgrep import Ripgrep
from clew.store.search.run import Run, match_of
from clew.store.search.sieve import Piece, Sieved

__all__ = ["Key", "Scan", "Searched", "read_cursor", "write_cursor"]

_FIRST_GROUP, _GROWTH, _LARGEST_GROUP = 48, 12, 1 << 14
_GENERATIONS = 64
"""How many copies of copies are followed."""
_WORTH_KEEPING = 0.1
"""Seconds of looking from which on the findings are kept for the next process."""
_NO_RIPGREP = "ripgrep (rg) was not found: every file is read, which takes longer."

Key = tuple[int, str]
"""The place of a thread in a search: when it was written last (nanoseconds since 1970), and its id."""
_Place = tuple[int, int, int]


class Searched:
    """A thread that may be searched: its name, and how its summary is made of its files: None where it does not fit the
    query's `within` after all. That is called in the thread that called the search, where something was found.

    `files` are its files, or the only one of a `home` as it was listed. `key` is its place among the others: when it
    was written last. `version` changes with its files; `size` is that of the current one."""

    __slots__ = ("_files", "_home", "_summary", "archived", "key", "listed", "name", "size", "thread_id")

    def __init__(
        self,
        thread_id: str,
        files: ThreadFiles | Listed,
        name: str | None,
        summary: Callable[[ThreadFiles], ThreadSummary | None],
        *,
        home: Home,
    ) -> None:
        self.thread_id = thread_id
        self.name = name
        self._summary = summary
        self._home = home
        if isinstance(files, ThreadFiles):
            current = files.current
            self.listed = None
            self._files: ThreadFiles | None = files
        else:
            self.listed = current = files
            self._files = None
        self.size = current.size
        self.archived = current.archived
        self.key: Key = current.mtime_ns, thread_id

    @property
    def files(self) -> ThreadFiles:
        if self._files is None:
            assert self.listed is not None
            self._files = ThreadFiles(self.thread_id, (self.listed.file(self._home),))
        return self._files

    def summary(self) -> ThreadSummary | None:
        return self._summary(self.files)

    @property
    def version(self) -> int:
        return version_of(self.files.segments if self.listed is None else (self.listed,))

    @property
    def began(self) -> tuple[str, str]:
        return self.files.segments[0].name.stamp, self.thread_id


class Scan:
    """Searches the files of one home. Safe to use from several threads at once.

    `cache` is the folder where what was found is kept for the next page of another process, None for nowhere.
    """

    def __init__(self, home: Home, ripgrep: Path | None, *, cache: Path | None, clock: Clock) -> None:
        self._home = home
        self._ripgrep = Ripgrep(ripgrep) if ripgrep is not None else None
        self._findings = Findings(home.fs, cache, clock)
        self._told = False

    def search(
        self,
        query: SearchQuery,
        threads: Callable[[], Sequence[Searched]],
        *,
        whole: bool = True,
        stop: Stop | None = None,
        progress: ShowProgress | None = None,
    ) -> SearchPage:
        """A page of threads in which the text was found, those that were written last first. `threads` tells which
        there are; meanwhile the files are looked at, if they are those of the `whole` home. Raises `BadRequest`,
        `SearchStopped`."""
        after = read_cursor(query.cursor, Key)
        with Run(self._home, self._ripgrep, query, stop, progress) as run:
            rows = self._findings.of(run.identity)
            if whole and run.in_files and not rows:
                run.sieve.begin()
            ordered = sorted(threads(), key=lambda one: one.key, reverse=True)
            began = time.monotonic()
            known = len(rows)
            page = _Paging(run, rows, ordered).page(after, query.limit)
            if len(rows) > known and (page.next_cursor or time.monotonic() - began > _WORTH_KEEPING):
                self._findings.keep(run.identity, rows)
            return self._with_notices(page, run)

    def occurrences(
        self,
        query: SearchQuery,
        thread: Searched,
        *,
        stop: Stop | None = None,
        progress: ShowProgress | None = None,
    ) -> SearchPage:
        """A page of the places inside one thread, in its order, what it inherited first. `count` is how often the text
        stands there."""
        after = read_cursor(query.cursor, _Place)
        with Run(self._home, self._ripgrep, query, stop, progress) as run:
            return self._with_notices(_inside(run, thread, after, query.limit), run)

    def _with_notices(self, page: SearchPage, run: Run) -> SearchPage:
        notices = list(run.told())
        if self._ripgrep is None and not self._told:
            self._told = True
            notices.append(_NO_RIPGREP)
        return msgspec.structs.replace(page, notices=tuple(notices)) if notices else page


class _Paging:
    """Goes through threads in order and gives one page of those that fit."""

    def __init__(self, run: Run, rows: Rows, ordered: Sequence[Searched]) -> None:
        self._run = run
        self._rows = rows
        self._ordered = ordered
        self._by_id = {one.thread_id: one for one in ordered}
        self._waiting: dict[str, list[Sieved]] = {}  # what may fit in plain files, not decoded yet
        self._steps: Iterator[None] = iter(())  # of the group that is looked at
        self._pending: set[str] = set()
        self._sure: set[str] = set()  # whose rows are of their files as they are
        self._summaries: dict[str, ThreadSummary | None] = {}
        self._all_bytes = sum(one.size for one in ordered)
        self._files = self._bytes = 0

    def page(self, after: Key | None, limit: int) -> SearchPage:
        hits: list[SearchHit] = []
        last: Key | None = None
        with contextlib.closing(self._looked_at(after)) as threads, self._run.ending():
            for thread in threads:
                hit = self._hit(thread)
                if hit is None:
                    continue
                if len(hits) == limit:
                    return SearchPage(hits=tuple(hits), next_cursor=write_cursor(last))
                hits.append(hit)
                last = thread.key
        return SearchPage(hits=tuple(hits))

    # -- looking

    def _looked_at(self, after: Key | None) -> Generator[Searched]:
        """The threads behind a key, newest first, each when it is known which of its lines may fit."""
        behind = [one for one in self._ordered if after is None or one.key < after]
        behind = self._worth_a_look(behind)
        size, start = _FIRST_GROUP, 0
        while start < len(behind):
            group = behind[start : start + size]
            with contextlib.closing(self._look(group)) as steps:
                self._steps = steps
                next(steps)
                for thread in group:
                    self._come_to(thread.thread_id)
                    self._run.check()
                    self._passed((thread,))
                    yield thread
            start, size = start + size, min(size * _GROWTH, _LARGEST_GROUP)

    def _worth_a_look(self, threads: Sequence[Searched]) -> Sequence[Searched]:
        """Without those of which the first look at the whole home tells that there is nothing in them: nearly all,
        so that nothing more is done for them."""
        is_empty = self._run.sieve.told_empty()
        if is_empty is None:
            return threads
        titles = "title" in self._run.roles
        left: list[Searched] = []
        done: list[Searched] = []
        for thread in threads:
            if thread.listed is None or not is_empty(thread.listed):
                left.append(thread)
                continue
            self._rows[thread.thread_id] = thread.version, None
            self._sure.add(thread.thread_id)
            (left if titles and thread.name is not None else done).append(thread)
        self._passed(done)
        return left

    def _come_to(self, thread_id: str) -> None:
        """Go on with the group until a thread in it is known."""
        while thread_id in self._pending:
            next(self._steps)

    def _look(self, group: Sequence[Searched]) -> Generator[None]:
        """Look at the files of some threads, plain ones first and in one step, the others batch by batch; those are
        pending until they are come to."""
        run = self._run
        plain: list[Piece] = []
        packed: list[Piece] = []
        for thread in group:
            if not run.in_files or self._is_known(thread):
                continue
            pieces = run.pieces(thread.files)
            if all(map(run.sieve.is_plain, pieces)):
                plain += pieces
            elif len(pieces) == 1:
                packed += pieces
            else:
                # Rare: what fits is told for all files of a thread at once, and these do not come together.
                self._waiting[thread.thread_id] = [Sieved(piece, None) for piece in pieces]
        pending = self._pending
        pending.update(piece.key for piece in packed)
        self._sieve_plain(plain)
        yield
        with contextlib.closing(run.sieve.unpacked(packed, self._decoded)) as batches:
            for batch, found in batches:
                known = dict(found)
                for piece in batch:
                    self._know(piece.key, known.get(piece.key))
                    pending.discard(piece.key)
                yield

    def _sieve_plain(self, pieces: Sequence[Piece]) -> None:
        found = {id(one.piece): one for one in self._run.sieve.plain(pieces)}
        of: dict[str, list[Piece]] = {}
        for piece in pieces:
            of.setdefault(piece.key, []).append(piece)
        for key, own in of.items():
            if any(id(piece) in found for piece in own):
                self._waiting[key] = [found.get(id(piece)) or Sieved(piece, ()) for piece in own]
            else:
                self._know(key, None)

    def _decoded(self, sieved: Sieved) -> tuple[str, Finding | None]:
        return sieved.piece.key, self._run.finding([sieved])

    def _is_known(self, thread: Searched) -> bool:
        thread_id = thread.thread_id
        if thread_id in self._sure:
            return True
        row = self._rows.get(thread_id)
        if row is None or row[0] != thread.version:
            return False
        self._sure.add(thread_id)
        return True

    def _know(self, thread_id: str, finding: Finding | None) -> None:
        self._rows[thread_id] = self._by_id[thread_id].version, finding
        self._sure.add(thread_id)

    def _passed(self, threads: Sequence[Searched]) -> None:
        self._files += len(threads)
        self._bytes += sum(thread.size for thread in threads)
        if self._run.progress is not None:
            self._run.progress(SearchProgress(self._files, len(self._ordered), self._bytes, self._all_bytes))

    # -- what was found

    def _hit(self, thread: Searched) -> SearchHit | None:
        title = self._title(thread)
        if title is None and not self._may_fit(thread):
            return None
        summary = self._summary(thread)  # before anything is decoded: it may not fit the filters
        if summary is None:
            return None
        finding = self._finding(thread)
        if finding is not None and not finding.count and title is None and self._is_shown_elsewhere(thread, finding):
            return None
        if title is not None and self._run.query.file is not None and finding is None and not self._touches(thread):
            return None
        shown = title or (finding and (finding.shown or finding.shown_copied))
        if shown is None:
            return None
        count = (finding.count or finding.copied if finding else 0) + (title is not None)
        return hit_of(summary, shown, count)

    def _title(self, thread: Searched) -> Match | None:
        """The name, where it fits; where only titles are asked for, also that of a thread without one."""
        run = self._run
        query = run.query
        if "title" not in run.roles or query.tool is not None or run.since is not None or run.until is not None:
            return None
        title = thread.name
        if title is None and not run.in_files:
            summary = self._summary(thread)
            title = summary.preview if summary is not None else None
        spans = run.matcher.spans(title) if title else None
        return None if spans is None or title is None else Match("title", *snippet(title, spans))

    def _touches(self, thread: Searched) -> bool:
        return any(self._run.touches(Sieved(piece, None)) for piece in self._run.pieces(thread.files))

    def _may_fit(self, thread: Searched) -> bool:
        thread_id = thread.thread_id
        return thread_id in self._waiting or (self._is_known(thread) and self._rows[thread_id][1] is not None)

    def _finding(self, thread: Searched) -> Finding | None:
        thread_id = thread.thread_id
        if not self._run.in_files:
            return None
        self._come_to(thread_id)
        if not self._is_known(thread) and thread_id not in self._waiting:
            # Out of its turn: another thread was copied from it.
            for _ in self._look([thread]):
                pass
        if (waiting := self._waiting.pop(thread_id, None)) is not None:
            self._know(thread_id, self._run.finding(waiting))
        return self._rows[thread_id][1]

    def _summary(self, thread: Searched) -> ThreadSummary | None:
        thread_id = thread.thread_id
        if thread_id not in self._summaries:
            self._summaries[thread_id] = thread.summary()
        return self._summaries[thread_id]

    def _is_shown_elsewhere(self, thread: Searched, finding: Finding) -> bool:
        """Whether what a thread only has by copying is found in the thread it was copied from."""
        at = thread
        for _ in range(_GENERATIONS):
            summary = self._summary(at)
            source = self._by_id.get((summary.forked_from or summary.parent_id or "") if summary else "")
            if source is None or source.began >= at.began:
                return False
            there = self._finding(source)
            if there is not None and not set(finding.prints).isdisjoint(there.prints) and self._summary(source):
                return True
            at = source
        return False


def hit_of(summary: ThreadSummary, shown: Match, count: int) -> SearchHit:
    return SearchHit(
        thread=summary,
        where=shown.role,
        snippet=shown.snippet,
        marks=shown.marks,
        at=None if shown.at is None else utc_stamp(shown.at / 1000),
        turn_id=shown.turn_id,
        count=count,
    )


def _inside(run: Run, thread: Searched, after: _Place | None, limit: int) -> SearchPage:
    """The texts of one thread that fit, inherited ones first."""
    summary = thread.summary()
    if summary is None:
        return SearchPage(hits=())
    hits: list[SearchHit] = []
    last: _Place | None = None
    for place, shown, count in _places(run, thread, summary, after):
        if len(hits) == limit:
            return SearchPage(hits=tuple(hits), next_cursor=write_cursor(last))
        hits.append(hit_of(summary, shown, count))
        last = place
    return SearchPage(hits=tuple(hits))


def _places(
    run: Run, thread: Searched, summary: ThreadSummary, after: _Place | None
) -> Iterator[tuple[_Place, Match, int]]:
    title = thread.name or ("" if run.in_files else summary.preview)
    if after is None and "title" in run.roles and title and (spans := run.matcher.spans(title)) is not None:
        yield (-1, 0, 0), Match("title", *snippet(title, spans)), len(spans)
    for number, link in enumerate(run.links(thread.files)):
        if after is not None and number < after[0]:
            continue
        same, line = 0, -1
        for text in run.texts(run.sieve.one(Piece(thread.thread_id, link))):
            same = same + 1 if text.offset == line else 0
            line = text.offset
            place = number, line, same
            if (after is None or place > after) and (spans := run.fits(text)) is not None:
                yield place, match_of(text, spans), len(spans)


def write_cursor(place: Key | _Place | None) -> str | None:
    """What leads to the page behind a place."""
    return None if place is None else base64.urlsafe_b64encode(msgspec.json.encode(place)).decode()


_T = TypeVar("_T")


def read_cursor(cursor: str | None, shape: type[_T]) -> _T | None:
    """The place that a cursor tells. Raises `BadRequest`."""
    if cursor is None:
        return None
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(cursor), type=shape)
    except (ValueError, msgspec.DecodeError) as error:
        raise BadRequest("cursor", "this is no cursor of an earlier page") from error
