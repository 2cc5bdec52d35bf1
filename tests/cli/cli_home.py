"""A home in memory with turns that follow a script."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import anyio.abc
import msgspec

from clew.engine import Approver
from clew.errors import ThreadNotFound
from clew.events import TurnEnded, TurnInput, TurnResult, TurnStarted
from clew.keeping import Filed
from clew.library import Reverted
from clew.settings import Overrides, Settings
from clew.store.contracts import ListQuery, Page, SearchHit, SearchPage, SearchQuery, ThreadSummary
from clew.store.queries import ShowProgress
from clew.turn import Turn

Script = Callable[[Turn], Awaitable[TurnResult]]
"""What a turn does between its start and its end; it reports through `turn.emit`."""


def summary(thread_id: str, **fields: Any) -> ThreadSummary:
    """A summary with everything that a test does not care about."""
    known: dict[str, Any] = {
        "path": f"/home/me/.codex/sessions/{thread_id}.jsonl",
        "archived": False,
        "created_at": "2026-07-01T10:00:00.000Z",
        "updated_at": "2026-07-01T11:00:00.000Z",
        "size": 1234,
    }
    return ThreadSummary(id=thread_id, **{**known, **fields})


async def answer(turn: Turn) -> TurnResult:
    """A turn that says nothing on the way and answers at once."""
    return TurnResult(thread_id=turn.thread_id, turn_id=turn.turn_id, status="completed", last_message="done")


async def wait_for_stop(turn: Turn) -> TurnResult:
    """A turn that goes on until it is interrupted."""
    await turn.stop.wait()
    return TurnResult(thread_id=turn.thread_id, turn_id=turn.turn_id, status="interrupted")


class FakeThread:
    """A thread whose turns run by the script of its home."""

    def __init__(self, home: FakeThreads, thread_id: str, settings: Settings) -> None:
        self.home = home
        self.id = thread_id
        self.settings = settings

    def run(self, turn: TurnInput, *, approver: Approver) -> Turn:
        self.home.inputs.append(turn)
        asked = Turn(self.id, "turn-1", turn, approver)
        self.home.tasks.start_soon(self._run, asked)
        return asked

    async def _run(self, turn: Turn) -> None:
        turn.begin()
        await turn.emit(TurnStarted(turn.thread_id, turn.turn_id))
        try:
            result = await self.home.script(turn)
        except Exception as error:
            turn.fail(error)
        else:
            await turn.emit(TurnEnded(turn.turn_id, result))
            turn.finish(result)


class FakeThreads:
    """What `clew.threads.Threads` offers, for the commands; `calls` tells what was done to threads."""

    def __init__(self, *known: ThreadSummary, script: Script = answer, hits: Sequence[SearchHit] = ()) -> None:
        self.known = list(known)
        self.script = script
        self.hits = hits
        self.notices: tuple[str, ...] = ()
        self.searches: list[SearchQuery] = []
        self.inputs: list[TurnInput] = []
        self.queries: list[ListQuery] = []
        self.calls: list[tuple[Any, ...]] = []
        self.children = 0
        """How many threads go to the archive with any."""
        self.stack = contextlib.AsyncExitStack()
        self.tasks: anyio.abc.TaskGroup

    async def __aenter__(self) -> FakeThreads:
        # Commands that run no turns come without an event loop.
        with contextlib.suppress(anyio.NoEventLoopError):
            self.tasks = await self.stack.enter_async_context(anyio.create_task_group())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stack.aclose()

    async def start(self, settings: Settings, *, source: str, originator: str) -> FakeThread:
        self.calls.append(("start", source, originator))
        return FakeThread(self, "new-thread", settings)

    async def open(self, reference: str, defaults: Settings, overrides: Overrides | None = None) -> FakeThread:
        self.calls.append(("open", reference))
        found = self._find(reference)
        return FakeThread(self, found.id, (overrides or Overrides()).over(defaults))

    async def summary(self, reference: str) -> ThreadSummary:
        return self._find(reference)

    async def list(self, query: ListQuery) -> Page:
        self.queries.append(query)
        start = int(query.cursor or 0)
        fitting = [thread for thread in self.known if query.cwd is None or thread.cwd == query.cwd]
        end = start + query.limit
        return Page(threads=tuple(fitting[start:end]), next_cursor=str(end) if end < len(fitting) else None)

    async def search(self, query: SearchQuery, *, progress: ShowProgress | None = None) -> SearchPage:
        self.searches.append(query)
        return SearchPage(hits=tuple(self.hits[: query.limit]), notices=self.notices)

    async def fork(self, reference: str, **options: Any) -> str:
        self.calls.append(("fork", reference, {name: value for name, value in options.items() if value}))
        source = self._find(reference)
        self.known.append(msgspec.structs.replace(source, id="forked", forked_from=source.id))
        return "forked"

    async def revert(self, reference: str, before_turn: str) -> Reverted:
        self.calls.append(("revert", reference, before_turn))
        return Reverted(thread=self._find(reference), turns=2)

    async def restore(self, reference: str) -> Reverted:
        self.calls.append(("restore", reference))
        return Reverted(thread=self._find(reference), turns=1)

    async def rename(self, reference: str, name: str | None) -> ThreadSummary:
        self.calls.append(("rename", reference, name))
        return msgspec.structs.replace(self._find(reference), name=name)

    async def archive(self, reference: str, *, only: bool = False) -> Filed:
        also = () if only else ("child-1", "child-2")[: self.children]
        return Filed(thread=msgspec.structs.replace(self._find(reference), archived=True), also=also)

    async def unarchive(self, reference: str, *, only: bool = False) -> Filed:
        return Filed(thread=msgspec.structs.replace(self._find(reference), archived=False))

    def _find(self, reference: str) -> ThreadSummary:
        for thread in self.known:
            if reference in (thread.id, thread.name):
                return thread
        raise ThreadNotFound(reference)
