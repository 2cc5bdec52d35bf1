"""The same without async: `clew.open_sync`. An event loop runs in a thread of its own; every call goes there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from os import PathLike
from typing import Any, Literal, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from clew.api.approvers import Approver, deny_all
from clew.api.opening import open_
from clew.api.threads import ApprovalWord, SandboxWord, Thread, Threads
from clew.api.turns import Turn
from clew.events import Event, TurnInput, TurnResult
from clew.keeping import Marks, Saved, TrashedThreads
from clew.kinship import Branch, Comparison
from clew.library import Reverted, TurnView
from clew.settings import Settings
from clew.store.changes import Change
from clew.store.contracts import ListQuery, Page, ThreadSummary
from clew.store.index_statistics import IndexStatistics
from clew.store.queries import SearchHit, SearchPage, SearchQuery
from clew.threads import ThreadStatus

__all__ = ["SyncThread", "SyncThreads", "SyncTurn", "open_sync"]

Value = TypeVar("Value")
_END = object()


@contextmanager
def open_sync(
    *,
    codex_home: str | PathLike[str] | None = None,
    clew_home: str | PathLike[str] | None = None,
    cwd: str | PathLike[str] | None = None,
    model: str | None = None,
    provider: str | None = None,
    sandbox: SandboxWord | None = None,
    approval: ApprovalWord | None = None,
    profile: str | None = None,
    config: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    approver: Approver = deny_all,
    program: str = "python",
) -> Generator[SyncThreads]:
    """As `clew.open`, for programs without async. What it gives may be used from several threads."""
    opening = open_(
        codex_home=codex_home,
        clew_home=clew_home,
        cwd=cwd,
        model=model,
        provider=provider,
        sandbox=sandbox,
        approval=approval,
        profile=profile,
        config=config,
        env=env,
        approver=approver,
        program=program,
    )
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(opening) as threads:
        yield SyncThreads(_Loop(portal), threads)


class _Loop:
    """The event loop's thread, seen from others."""

    def __init__(self, portal: BlockingPortal) -> None:
        self.portal = portal

    def call(self, function: Callable[[], Coroutine[Any, Any, Value]]) -> Value:
        return self.portal.call(function)

    def each(self, iterator: AsyncIterator[Value]) -> Iterator[Value]:
        async def step() -> Value | object:
            return await anext(iterator, _END)

        try:
            while (value := self.portal.call(step)) is not _END:
                yield value  # pyright: ignore[reportReturnType] - all but the mark are values
        finally:
            close: Any = getattr(iterator, "aclose", None)
            if close is not None:
                # An iterator that outlives the block has been closed with it.
                with suppress(RuntimeError):
                    self.portal.call(close)


class SyncTurn:
    """As `Turn`: iterating gives its events."""

    def __init__(self, loop: _Loop, turn: Turn) -> None:
        self._loop = loop
        self._turn = turn

    @property
    def id(self) -> str:
        return self._turn.id

    @property
    def thread_id(self) -> str:
        return self._turn.thread_id

    @property
    def state(self) -> Literal["queued", "running", "done"]:
        return self._turn.state

    @property
    def notices(self) -> Sequence[str]:
        return self._turn.notices

    @property
    def result(self) -> TurnResult | None:
        return self._turn.result

    def interrupt(self) -> None:
        """Stop it; from any thread."""
        self._loop.portal.call(self._turn.interrupt)

    def wait(self) -> TurnResult:
        return self._loop.call(self._turn.wait)

    def __iter__(self) -> Iterator[Event]:
        return self._loop.each(aiter(self._turn))


class SyncThread:
    """As `Thread`."""

    def __init__(self, loop: _Loop, thread: Thread) -> None:
        self._loop = loop
        self._thread = thread

    def __repr__(self) -> str:
        return f"SyncThread({self.id!r})"

    @property
    def id(self) -> str:
        return self._thread.id

    @property
    def settings(self) -> Settings:
        return self._thread.settings

    def reply(self, message: str | TurnInput, *, approver: Approver | None = None) -> AbstractContextManager[SyncTurn]:
        """As `Thread.reply`: `with thread.reply("…") as turn: for event in turn: …`."""
        return self._reply(message, approver)

    @contextmanager
    def _reply(self, message: str | TurnInput, approver: Approver | None) -> Generator[SyncTurn]:
        replying = self._thread.reply(message, approver=approver)
        with self._loop.portal.wrap_async_context_manager(replying) as turn:
            yield SyncTurn(self._loop, turn)

    def ask(self, message: str | TurnInput, *, approver: Approver | None = None) -> TurnResult:
        return self._loop.call(partial(self._thread.ask, message, approver=approver))

    def compact(self) -> TurnResult:
        return self._loop.call(self._thread.compact)

    def fork(
        self, *, after_turn: str | None = None, before_turn: str | None = None, name: str | None = None
    ) -> SyncThread:
        call = partial(self._thread.fork, after_turn=after_turn, before_turn=before_turn, name=name)
        return SyncThread(self._loop, self._loop.call(call))

    def summary(self) -> ThreadSummary:
        return self._loop.call(self._thread.summary)

    def turns(self, *, newest_first: bool = False) -> Iterator[TurnView]:
        return self._loop.each(self._thread.turns(newest_first=newest_first))

    def rename(self, name: str | None) -> ThreadSummary:
        return self._loop.call(partial(self._thread.rename, name))


class SyncThreads:
    """As `Threads`."""

    def __init__(self, loop: _Loop, threads: Threads) -> None:
        self._loop = loop
        self._threads = threads

    def start(
        self,
        *,
        cwd: str | PathLike[str] | None = None,
        model: str | None = None,
        provider: str | None = None,
        sandbox: SandboxWord | None = None,
        approval: ApprovalWord | None = None,
        instructions: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> SyncThread:
        call = partial(
            self._threads.start,
            cwd=cwd,
            model=model,
            provider=provider,
            sandbox=sandbox,
            approval=approval,
            instructions=instructions,
            config=config,
        )
        return SyncThread(self._loop, self._loop.call(call))

    def resume(
        self,
        reference: str,
        *,
        cwd: str | PathLike[str] | None = None,
        model: str | None = None,
        provider: str | None = None,
        sandbox: SandboxWord | None = None,
        approval: ApprovalWord | None = None,
        instructions: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> SyncThread:
        call = partial(
            self._threads.resume,
            reference,
            cwd=cwd,
            model=model,
            provider=provider,
            sandbox=sandbox,
            approval=approval,
            instructions=instructions,
            config=config,
        )
        return SyncThread(self._loop, self._loop.call(call))

    def fork(
        self,
        reference: str,
        *,
        after_turn: str | None = None,
        before_turn: str | None = None,
        copy: bool = False,
        name: str | None = None,
    ) -> SyncThread:
        call = partial(
            self._threads.fork, reference, after_turn=after_turn, before_turn=before_turn, copy=copy, name=name
        )
        return SyncThread(self._loop, self._loop.call(call))

    def status(self, reference: str) -> ThreadStatus:
        return self._loop.call(partial(self._threads.status, reference))

    def get(self, reference: str) -> ThreadSummary:
        return self._loop.call(partial(self._threads.get, reference))

    def list(self, query: ListQuery | None = None) -> Iterator[ThreadSummary]:
        return self._loop.each(self._threads.list(query))

    def page(self, query: ListQuery) -> Page:
        return self._loop.call(partial(self._threads.page, query))

    def search(self, wanted: str | SearchQuery) -> Iterator[SearchHit]:
        return self._loop.each(self._threads.search(wanted))

    def search_page(self, query: SearchQuery) -> SearchPage:
        return self._loop.call(partial(self._threads.search_page, query))

    def turns(self, reference: str, *, newest_first: bool = False) -> Iterator[TurnView]:
        return self._loop.each(self._threads.turns(reference, newest_first=newest_first))

    def tree(self, reference: str | None = None) -> Sequence[Branch]:
        return self._loop.call(partial(self._threads.tree, reference))

    def compare(self, left: str, right: str | None = None) -> Comparison:
        return self._loop.call(partial(self._threads.compare, left, right))

    def watch(self, *, interval: float = 1.0, poll: bool = False) -> AbstractContextManager[Iterator[Change]]:
        """As `Threads.watch`: `with threads.watch() as changes: for change in changes: …`."""
        return self._watch(interval, poll=poll)

    @contextmanager
    def _watch(self, interval: float, *, poll: bool) -> Generator[Iterator[Change]]:
        watching = self._threads.watch(interval=interval, poll=poll)
        with self._loop.portal.wrap_async_context_manager(watching) as changes:
            yield self._loop.each(changes)

    def rename(self, reference: str, name: str | None) -> ThreadSummary:
        return self._loop.call(partial(self._threads.rename, reference, name))

    def archive(self, reference: str, *, only: bool = False) -> ThreadSummary:
        return self._loop.call(partial(self._threads.archive, reference, only=only))

    def unarchive(self, reference: str, *, only: bool = False) -> ThreadSummary:
        return self._loop.call(partial(self._threads.unarchive, reference, only=only))

    def save(self, name: str, reference: str = "last") -> Saved:
        return self._loop.call(partial(self._threads.save, name, reference))

    def tag(self, reference: str, *tags: str) -> Marks:
        return self._loop.call(partial(self._threads.tag, reference, *tags))

    def untag(self, reference: str, *tags: str) -> Marks:
        return self._loop.call(partial(self._threads.untag, reference, *tags))

    def pin(self, reference: str) -> Marks:
        return self._loop.call(partial(self._threads.pin, reference))

    def unpin(self, reference: str) -> Marks:
        return self._loop.call(partial(self._threads.unpin, reference))

    def note(self, reference: str, text: str | None) -> Marks:
        return self._loop.call(partial(self._threads.note, reference, text))

    def delete(self, *references: str, with_forks: bool = False, why: str | None = None) -> TrashedThreads:
        return self._loop.call(partial(self._threads.delete, *references, with_forks=with_forks, why=why))

    def index_statistics(self) -> IndexStatistics | None:
        return self._loop.call(self._threads.index_statistics)

    def trash(self) -> Sequence[TrashedThreads]:
        return self._loop.call(self._threads.trash)

    def undelete(self, reference: str = "last") -> Sequence[TrashedThreads]:
        return self._loop.call(partial(self._threads.undelete, reference))

    def empty_trash(self, trash_ids: Iterable[str] | None = None) -> Sequence[TrashedThreads]:
        return self._loop.call(partial(self._threads.empty_trash, trash_ids))

    def revert(self, reference: str, before_turn: str) -> Reverted:
        return self._loop.call(partial(self._threads.revert, reference, before_turn))
