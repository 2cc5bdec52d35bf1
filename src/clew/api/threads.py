"""What `clew.open` gives: the threads of a home, and one of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from os import PathLike
from typing import Any, Literal, Protocol

import anyio
import msgspec

from clew.api.approvers import Approver, Asking
from clew.api.turns import Turn
from clew.config import Config
from clew.errors import ClewError, TurnFailed
from clew.events import TurnInput, TurnResult
from clew.keeping import Marks, Saved, TrashedThreads
from clew.kinship import Branch, Comparison
from clew.library import Reverted, TurnView
from clew.settings import ApprovalPolicy, SandboxMode, Settings
from clew.store.changes import Change
from clew.store.contracts import ListQuery, Page, ThreadSummary
from clew.store.index_statistics import IndexStatistics
from clew.store.queries import SearchHit, SearchPage, SearchQuery
from clew.threads import Thread as Opened
from clew.threads import Threads as Inner
from clew.threads import ThreadStatus
from clew.turn import Turn as Asked

__all__ = ["ApprovalWord", "SandboxWord", "Thread", "Threads", "Watching"]

SandboxWord = SandboxMode | Literal["read-only", "workspace-write", "danger-full-access"]
ApprovalWord = ApprovalPolicy | Literal["untrusted", "on-request", "never"]

ORIGINATOR = "clew_python"
_PAGE = 200


class Watching(Protocol):
    """Begins to watch the home; see `Threads.watch`."""

    def __call__(self, *, interval: float, poll: bool) -> AbstractAsyncContextManager[AsyncIterator[Change]]: ...


class Thread:
    """One thread, opened; it holds no file and keeps nobody out between turns. `settings` are those of its turns:
    recorded ones, with what `resume` was told in their place."""

    def __init__(self, threads: Threads, inner: Inner, opened: Opened, approver: Approver) -> None:
        self._threads = threads
        self._inner = inner
        self._opened = opened
        self._approver = approver

    def __repr__(self) -> str:
        return f"Thread({self.id!r})"

    @property
    def id(self) -> str:
        return self._opened.id

    @property
    def settings(self) -> Settings:
        return self._opened.settings

    def reply(self, message: str | TurnInput, *, approver: Approver | None = None) -> AbstractAsyncContextManager[Turn]:
        """A turn with this message, to listen to while it runs:

            async with thread.reply("And now?") as turn:
                async for event in turn: ...
            print(turn.result)

        Leaving the block waits for the end of the turn; leaving it by an exception interrupts the turn first. Turns of
        one thread run one after the other, also those of other programs that use clew. Raises what kept the turn from
        running: `ThreadBusy`, `FolderGone`, `KeyMissing`, ….
        """
        return self._reply(message, approver)

    @asynccontextmanager
    async def _reply(self, message: str | TurnInput, approver: Approver | None) -> AsyncGenerator[Turn]:
        asking = Asking(approver or self._approver)
        given = message if isinstance(message, TurnInput) else TurnInput(text=message, trigger="python")
        asking.turn = asked = self._opened.run(given, approver=asking)
        turn = Turn(asked)
        try:
            yield turn
        except BaseException:
            await _stopped(asked)
            raise
        await _ended(asked)
        if asking.failure is not None:
            raise asking.failure

    async def ask(self, message: str | TurnInput, *, approver: Approver | None = None) -> TurnResult:
        """Run a turn and give its result. Cancelling interrupts it. Raises `TurnFailed` when the model failed, and what
        `reply` raises."""
        async with self.reply(message, approver=approver) as turn:
            result = await turn.wait()
        return _good(result)

    async def compact(self) -> TurnResult:
        """Have the model sum up the thread, so that later turns carry less; nothing recorded is lost. Raises as `ask`
        does, and `BadRequest` for a thread that has no turn yet."""
        return _good(await _ended(self._opened.compact(trigger="python")))

    async def fork(
        self, *, after_turn: str | None = None, before_turn: str | None = None, name: str | None = None
    ) -> Thread:
        """A new thread with this one's history, opened with the same settings; see `Threads.fork`."""
        new_id = await self._inner.fork(self.id, after_turn=after_turn, before_turn=before_turn, name=name)
        opened = self._opened
        forked = await self._inner.open(new_id, opened.defaults, opened.overrides)
        return Thread(self._threads, self._inner, forked, self._approver)

    async def summary(self) -> ThreadSummary:
        return await self._threads.get(self.id)

    def turns(self, *, newest_first: bool = False) -> AsyncIterator[TurnView]:
        """The recorded turns, read as they are asked for."""
        return self._threads.turns(self.id, newest_first=newest_first)

    async def rename(self, name: str | None) -> ThreadSummary:
        """Give it a name, or take it away with None."""
        return await self._threads.rename(self.id, name)


class Threads:
    """The threads of one home. A `reference` is an id, the beginning of one (8 characters or more), a name, or `last`.

    Every error is a `ClewError`: `ThreadNotFound`, `AmbiguousName`, `ThreadBusy`, ….
    """

    def __init__(self, inner: Inner, config: Config, folder: str, approver: Approver, watch: Watching) -> None:
        self._inner = inner
        self._approver = approver
        self._config = config
        self._folder = folder
        self._watch = watch

    @property
    def config(self) -> Config:
        return self._config

    # -- running

    async def start(
        self,
        *,
        cwd: str | PathLike[str] | None = None,
        model: str | None = None,
        provider: str | None = None,
        sandbox: SandboxWord | None = None,
        approval: ApprovalWord | None = None,
        instructions: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> Thread:
        """A new thread; nothing is on disk before its first turn. What is not named here is as `clew.open` says.
        `instructions` are developer instructions; `config` maps keys of config.toml to values."""
        named = _named(cwd, model, provider, sandbox, approval, instructions, config)
        settings = self._config.settings(self._folder, named)
        return self._opened(await self._inner.start(settings, source="exec", originator=ORIGINATOR))

    async def resume(
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
    ) -> Thread:
        """Open a recorded thread. It keeps its recorded settings; only what is named in this very call is changed, also
        to more rights (`Turn.notices` tells). Raises `ThreadNotFound`, `AmbiguousName`, `ThreadArchived`, `LogDamaged`,
        `UnsupportedHistory`."""
        named = _named(cwd, model, provider, sandbox, approval, instructions, config)
        overrides = self._config.overrides_named(named, cwd=self._folder)
        return self._opened(await self._inner.open(reference, self._config.settings(self._folder), overrides))

    def _opened(self, thread: Opened) -> Thread:
        return Thread(self, self._inner, thread, self._approver)

    async def fork(
        self,
        reference: str,
        *,
        after_turn: str | None = None,
        before_turn: str | None = None,
        copy: bool = False,
        name: str | None = None,
    ) -> Thread:
        """A new thread with the history of another: all of it, up to and including `after_turn`, or up to
        `before_turn` (ids, or numbers: 1 is the first, -1 the last). The source is not touched. `copy`: as a file that
        needs no other."""
        new_id = await self._inner.fork(reference, after_turn=after_turn, before_turn=before_turn, copy=copy, name=name)
        return await self.resume(new_id)

    async def status(self, reference: str) -> ThreadStatus:
        """Whether it runs here, is held by another program, or rests."""
        return await self._inner.status(reference)

    # -- finding and reading

    async def get(self, reference: str) -> ThreadSummary:
        return await self._inner.summary(reference)

    async def list(self, query: ListQuery | None = None) -> AsyncIterator[ThreadSummary]:
        """All threads that a query fits, in its order, page after page as they are asked for."""
        query = query or ListQuery(limit=_PAGE)
        while True:
            page = await self._inner.list(query)
            for thread in page.threads:
                yield thread
            if page.next_cursor is None:
                return
            query = msgspec.structs.replace(query, cursor=page.next_cursor)

    async def page(self, query: ListQuery) -> Page:
        """One page of a list, for programs that show pages themselves."""
        return await self._inner.list(query)

    async def search(self, wanted: str | SearchQuery) -> AsyncIterator[SearchHit]:
        """Where something was said: words, or what a `SearchQuery` asks for; page after page as they are asked for."""
        query = wanted if isinstance(wanted, SearchQuery) else SearchQuery(text=wanted)
        while True:
            page = await self._inner.search(query)
            for hit in page.hits:
                yield hit
            if page.next_cursor is None:
                return
            query = msgspec.structs.replace(query, cursor=page.next_cursor)

    async def search_page(self, query: SearchQuery) -> SearchPage:
        """One page of hits, with what could not be looked at."""
        return await self._inner.search(query)

    async def turns(self, reference: str, *, newest_first: bool = False) -> AsyncIterator[TurnView]:
        """The recorded turns of a thread, read as they are asked for."""
        cursor: str | None = None
        while True:
            page = await self._inner.read(reference, cursor=cursor, newest_first=newest_first)
            for turn in page.turns:
                yield turn
            cursor = page.next_cursor
            if cursor is None:
                return

    async def tree(self, reference: str | None = None) -> Sequence[Branch]:
        """Threads with those that were forked from them or spawned by them."""
        return await self._inner.tree(reference)

    async def compare(self, left: str, right: str | None = None) -> Comparison:
        """Where two threads part, and what each did after that."""
        return await self._inner.compare(left, right)

    def watch(self, *, interval: float = 1.0, poll: bool = False) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
        """Changes of the home from now on, whoever makes them:

            async with threads.watch() as changes:
                async for change in changes: ...

        A slow reader misses nothing: what happens meanwhile to one thread is told together. `poll`: look every
        `interval` seconds and rely on no notices of the operating system (network disks)."""
        return self._watch(interval=interval, poll=poll)

    # -- keeping

    async def rename(self, reference: str, name: str | None) -> ThreadSummary:
        """Give a thread a name, or take it away with None."""
        return await self._inner.rename(reference, name)

    async def archive(self, reference: str, *, only: bool = False) -> ThreadSummary:
        """Put a thread away with all that it spawned (`only`: alone); it stays on disk. Raises `ThreadBusy` while
        anybody writes one of them."""
        return (await self._inner.archive(reference, only=only)).thread

    async def unarchive(self, reference: str, *, only: bool = False) -> ThreadSummary:
        return (await self._inner.unarchive(reference, only=only)).thread

    async def save(self, name: str, reference: str = "last") -> Saved:
        """Save a thread under a name, which leads to it from now on; `moved_from` is the thread that it led to."""
        return await self._inner.save(name, reference)

    async def tag(self, reference: str, *tags: str) -> Marks:
        return await self._inner.tag(reference, *tags)

    async def untag(self, reference: str, *tags: str) -> Marks:
        return await self._inner.untag(reference, *tags)

    async def pin(self, reference: str) -> Marks:
        """A pinned thread is not deleted."""
        return await self._inner.pin(reference)

    async def unpin(self, reference: str) -> Marks:
        return await self._inner.unpin(reference)

    async def note(self, reference: str, text: str | None) -> Marks:
        """Put a note on a thread in the place of the one before, or take it away with None."""
        return await self._inner.note(reference, text)

    async def delete(self, *references: str, with_forks: bool = False, why: str | None = None) -> TrashedThreads:
        """Move threads with all that they spawned into the trash: all of them or none. Raises `ThreadBusy`, and
        `ThreadProtected` for one that is pinned or that others were forked from (`with_forks`: these go, too)."""
        return await self._inner.delete(*references, with_forks=with_forks, why=why)

    async def index_statistics(self) -> IndexStatistics | None:
        """How it stands with the index of threads, and what came of asking it in this process; None without one."""
        return await self._inner.index_statistics()

    async def trash(self) -> Sequence[TrashedThreads]:
        """What was deleted and can come back, newest first."""
        return await self._inner.trash()

    async def undelete(self, reference: str = "last") -> Sequence[TrashedThreads]:
        """Put back what one call deleted: its id, or any of its threads. Raises `ThreadInTheWay`."""
        return await self._inner.undelete(reference)

    async def empty_trash(self, trash_ids: Iterable[str] | None = None) -> Sequence[TrashedThreads]:
        """Remove what was deleted for good: these entries, or all."""
        return await self._inner.empty_trash(trash_ids)

    async def revert(self, reference: str, before_turn: str) -> Reverted:
        """Take a thread back to where a turn began; what came since stays on disk and is not part of it any more."""
        return await self._inner.revert(reference, before_turn)


def _named(
    cwd: str | PathLike[str] | None,
    model: str | None,
    provider: str | None,
    sandbox: SandboxWord | None,
    approval: ApprovalWord | None,
    instructions: str | None,
    config: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The arguments of a call as the configuration reads them; None means: not mentioned."""
    named: dict[str, Any] = {
        "cwd": None if cwd is None else str(cwd),
        "model": model,
        "provider": provider,
        "sandbox": None if sandbox is None else str(sandbox),
        "approval_policy": None if approval is None else str(approval),
        "developer_instructions": instructions,
        "config": config,
    }
    return {name: value for name, value in named.items() if value is not None}


async def _ended(asked: Asked) -> TurnResult:
    """The result of a turn; when nobody waits for it any more, it is interrupted."""
    try:
        return await asked.wait()
    except anyio.get_cancelled_exc_class():
        await _stopped(asked)
        raise


async def _stopped(asked: Asked) -> None:
    """Interrupt a turn and wait until that is recorded. What it fails with is not what the caller has to hear."""
    asked.interrupt()
    with anyio.CancelScope(shield=True), suppress(ClewError):
        await asked.wait()


def _good(result: TurnResult) -> TurnResult:
    if result.status == "failed":
        error = result.error
        raise TurnFailed(
            error.message if error is not None else "the turn failed",
            thread_id=result.thread_id,
            turn_id=result.turn_id,
            kind=error.kind if error is not None else "other",
        )
    return result
