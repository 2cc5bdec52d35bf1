"""Finding threads in a Codex home by looking at the disk: names, heads of files, and texts.

The disk decides what exists. A thread that is damaged is listed with its error.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from clew.clock import Clock
from clew.errors import AmbiguousName, Owner, ThreadNotFound
from clew.rollout import (
    FailPoints,
    Home,
    NameIndex,
    RealFileSystem,
    ThreadFiles,
    canonical_id,
    read_saved_sessions,
)
from clew.store.filters import Filter
from clew.store.kin import descendants_on_disk, heirs_on_disk
from clew.store.moves import Moved, Moves, all_locked
from clew.store.order import Order, Place
from clew.store.queries import (
    ListQuery,
    Look,
    Marks,
    Page,
    SearchPage,
    SearchQuery,
    ShowProgress,
    Stop,
    ThreadSummary,
)
from clew.store.refusals import refusal
from clew.store.summaries import marked, summarise_files
from clew.store.walks import threads_in_order

if TYPE_CHECKING:
    from clew.store.search import Scan

__all__ = ["HomeCatalog", "MarksSource"]

_SHORTEST_PREFIX = 8
_TOLD, _TITLE = 20, 60
"""Of how many threads that a name fits a person is told, and how many characters of their titles."""


class MarksSource(Protocol):
    """Where marks are kept; `clew.store.shelf` is one."""

    def marks(self) -> Mapping[str, Marks]:
        """The threads that have any."""
        ...


class HomeCatalog:
    """The threads of one home, read from its files at every call."""

    def __init__(
        self,
        home: Home,
        clew_home: Path,
        *,
        owner: Owner,
        clock: Clock,
        fail: FailPoints,
        shelf: MarksSource | None = None,
        scan: Callable[[], Scan] | None = None,
    ) -> None:
        self._home = home
        self._clew_home = clew_home
        self._owner = owner
        self._clock = clock
        self._fail = fail
        self._names = NameIndex(home)
        self.moves = Moves(home, clock=clock, fail=fail, find=self.find, told=self._on_move())
        self._shelf = shelf
        self._scan = scan or self._plain_scan

    def _on_move(self) -> Callable[[Moved], None] | None:
        """Who is to hear of threads that were put into the archive or taken out."""
        return None

    @contextmanager
    def steady(self, look: Look | None = None) -> Generator[None]:
        """All that this thread asks inside is answered from one look at the disk, taken when something is asked for the
        first time; without `look` from the last one, but for the files of threads that are named, which are always
        looked at."""
        yield

    # -- one of them

    def find(self, thread_id: str, *, absent: bool = False) -> ThreadFiles | None:
        """The files of a thread, None when there are none. `absent`: an index that is complete is believed that there
        are none."""
        return self._home.find(thread_id)

    def get(self, thread_id: str) -> ThreadSummary:
        return self._summary(self._files(thread_id), self._names.name_of(thread_id))

    def _files(self, thread_id: str) -> ThreadFiles:
        files = self._home.find(thread_id)
        if files is None:
            raise ThreadNotFound(thread_id)
        return files

    def resolve(self, reference: str) -> ThreadSummary:
        wanted = reference.strip()
        if canonical_id(wanted) is not None:
            return self.get(wanted)
        if not wanted:
            raise ThreadNotFound(reference)
        if wanted == "last":
            page = self.list(ListQuery(limit=1))
            if not page.threads:
                raise ThreadNotFound(reference)
            return page.threads[0]
        named = self._called(wanted)
        if len(named) == 1:
            return self.get(named[0])
        if named:
            raise self._ambiguous(reference, named)
        prefixed = self._beginning_with(wanted.lower())
        if len(prefixed) == 1:
            return self.get(prefixed[0])
        if prefixed:
            raise self._ambiguous(reference, prefixed)
        raise ThreadNotFound(reference)

    def _ambiguous(self, reference: str, candidates: Sequence[str]) -> AmbiguousName:
        told: list[str] = []
        for one in candidates[:_TOLD]:
            thread = self.get(one)
            title = " ".join((thread.name or thread.preview or "").split())[:_TITLE]
            told.append(f"{one}  {thread.updated_at[:16].replace('T', ' ')}  {title}".rstrip())
        if len(candidates) > _TOLD:
            told.append(f"and {len(candidates) - _TOLD} more")
        return AmbiguousName(reference, candidates, told)

    def _called(self, name: str) -> list[str]:
        """The threads that exist and have this name now, or were saved under it; what the other file of saved names
        says counts where there are none."""
        saved = [thread_id for thread_id, marks in self._marks().items() if name in marks.names]
        called = dict.fromkeys([*self._names.resolve(name), *saved])
        found = [thread_id for thread_id in called if self._home.find(thread_id) is not None]
        if found:
            return found
        return [
            thread_id
            for entry in read_saved_sessions(self._home)
            if entry.name == name
            and (thread_id := canonical_id(entry.conversation_id)) is not None
            and self._home.find(thread_id) is not None
        ]

    def _beginning_with(self, prefix: str) -> list[str]:
        if len(prefix) < _SHORTEST_PREFIX or not set(prefix) <= set("0123456789abcdef-"):
            return []
        return sorted({file.thread_id for file in self._home.files() if file.thread_id.startswith(prefix)})

    # -- many of them

    def list(self, query: ListQuery) -> Page:
        """A page. Orders by what names and sizes tell cost the names in the folders and the beginnings and ends of the
        files that come into the page; the others read all threads."""
        wanted, order = Filter(query), Order(query)
        names, marks = self._names.names(), self._marks()
        descendants = self._descendants(wanted.ancestor)
        found: list[ThreadSummary] = []
        last: Place | None = None
        for place, files, known in self._in_order(order, query.archived, names):
            if len(found) == query.limit:
                # There is one more that may fit: the next page will tell.
                assert last is not None
                return Page(threads=tuple(found), next_cursor=order.cursor(last))
            summary = known or summarise_files(self._home, files, names.get(files.thread_id))
            summary = marked(summary, marks.get(files.thread_id))
            if wanted.fits(summary, descendants):
                found.append(summary)
                last = place
        return Page(threads=tuple(found))

    def _in_order(
        self, order: Order, archived: bool | None, names: Mapping[str, str]
    ) -> Iterator[tuple[Place, ThreadFiles, ThreadSummary | None]]:
        if order.sort not in ("recency", "name"):
            for place, files in threads_in_order(self._home, order, archived=archived):
                yield place, files, None
            return
        found: list[tuple[Place, ThreadFiles, ThreadSummary]] = []
        for files in self._home.threads():
            if archived in (None, files.archived):
                summary = summarise_files(self._home, files, names.get(files.thread_id))
                place = order.place(files, summary)
                if not order.passed(place):
                    found.append((place, files, summary))
        found.sort(key=lambda one: one[0], reverse=not order.ascending)
        yield from found

    def _descendants(self, ancestor: str | None) -> frozenset[str]:
        return frozenset() if ancestor is None else frozenset(self.descendants(ancestor))

    def _marks(self) -> Mapping[str, Marks]:
        try:
            return {} if self._shelf is None else self._shelf.marks()
        except OSError:
            # A disk that does not give what people noted must not hide the threads they noted it of.
            return {}

    def search(
        self, query: SearchQuery, *, stop: Stop | None = None, progress: ShowProgress | None = None
    ) -> SearchPage:
        """Looks at the files, those of the thread that was written last first."""
        return self._scanned(query, None, stop, progress)

    def _scanned(
        self,
        query: SearchQuery,
        only: Sequence[str] | None,
        stop: Stop | None,
        progress: ShowProgress | None = None,
    ) -> SearchPage:
        """`only` these threads, if they are named."""
        from clew.store.search import Listed, Searched, listed_threads

        scan, names = self._scan(), self._names.names()
        within = Filter(query.within)
        descendants = self._descendants(within.ancestor)

        def summary(files: ThreadFiles) -> ThreadSummary | None:
            found = self._summary(files, names.get(files.thread_id))
            return found if query.thread_id is not None or within.fits(found, descendants) else None

        def searched(thread_id: str, files: ThreadFiles | Listed) -> Searched:
            return Searched(thread_id, files, names.get(thread_id), summary, home=self._home)

        if query.thread_id is not None:
            files = self._files(query.thread_id)
            thread = searched(files.thread_id, files)
            return scan.occurrences(query, thread, stop=stop, progress=progress)
        archived = query.within.archived

        def threads() -> Sequence[Searched]:
            if only is not None:
                found = (searched(files.thread_id, files) for files in map(self._home.find, only) if files is not None)
            elif isinstance(self._home.fs, RealFileSystem):
                found = itertools.starmap(searched, listed_threads(self._home))
            else:
                found = (searched(files.thread_id, files) for files in self._home.threads())
            return [thread for thread in found if archived in (None, thread.archived)]

        return scan.search(query, threads, whole=only is None, stop=stop, progress=progress)

    def _plain_scan(self) -> Scan:
        from clew.store.search import Scan, bundled_ripgrep

        return Scan(self._home, bundled_ripgrep(), cache=self._clew_home / "cache", clock=self._clock)

    def _summary(self, files: ThreadFiles, name: str | None) -> ThreadSummary:
        return marked(summarise_files(self._home, files, name), self._marks().get(files.thread_id))

    # -- who hangs together with whom

    def descendants(self, thread_id: str) -> Sequence[str]:
        return descendants_on_disk(self._home, thread_id)

    def heirs(self, rollout_ids: Collection[str]) -> Sequence[str]:
        return heirs_on_disk(self._home, rollout_ids)

    # -- changing them

    def rename(self, thread_id: str, name: str | None) -> None:
        files = self.find(thread_id)
        if files is None:
            raise ThreadNotFound(thread_id)
        self._names.rename(files.thread_id, name, self._clock, self._fail)

    def archive(self, thread_id: str) -> ThreadSummary:
        return self._moved(thread_id, self.moves.archive)

    def unarchive(self, thread_id: str) -> ThreadSummary:
        return self._moved(thread_id, self.moves.unarchive)

    def _moved(self, thread_id: str, move: Callable[[str], bool]) -> ThreadSummary:
        with self.steady():
            files = self.find(thread_id)
        if files is None:
            raise ThreadNotFound(thread_id)
        thread_id = files.thread_id
        with all_locked(self._home, self._clew_home, (thread_id,), self._owner), self.steady("others"):
            try:
                move(thread_id)
            except OSError as error:
                raise refusal(error, self._home.path, thread_id) from error
        with self.steady():
            return self.get(thread_id)
