"""Threads in memory, with turns that follow stage directions in their prompts.

[[say:TEXT]]   the last message (default: "reply to PROMPT")
[[hold]]       go on only when `Fake.release` is called, or stop when interrupted
[[run:CMD]]    a command that needs no approval
[[ask:CMD]]    a command that is put to the approver first
[[patch:PATH]] a file that is put to the approver first
[[fail:TEXT]]  the turn fails
[[raise]]      the turn cannot run: its thread is held by another program
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.abc
import msgspec

from clew.engine import Approver
from clew.errors import AmbiguousName, Owner, ThreadArchived, ThreadBusy, ThreadNotFound
from clew.events import (
    ApprovalAsked,
    ApprovalRequest,
    Decision,
    Item,
    ItemCompleted,
    ItemStarted,
    TextDelta,
    TurnEnded,
    TurnError,
    TurnInput,
    TurnResult,
    TurnStarted,
    Usage,
    UsageUpdated,
)
from clew.ids import SystemIds
from clew.keeping import Filed
from clew.settings import Overrides, Settings
from clew.store.contracts import ListQuery, Page, SearchHit, SearchPage, SearchQuery, ThreadSummary
from clew.store.queries import ShowProgress
from clew.threads import Threads, ThreadStatus, Turn, TurnsPage, TurnView

DIRECTION = re.compile(r"\[\[(\w+)(?::(.*?))?\]\]", re.S)
HOLDER = Owner(program="codex", pid=7, since="2026-07-01T12:00:00Z")


class Kept(msgspec.Struct):
    """A thread as the fake keeps it; what was acknowledged is on disk when there is a `folder`."""

    id: str
    settings: Settings
    name: str | None = None
    archived: bool = False
    source: str = "mcp"
    forked_from: str | None = None
    turns: list[TurnView] = []


class FakeThread:
    def __init__(self, fake: Fake, kept: Kept, settings: Settings, notices: tuple[str, ...] = ()) -> None:
        self.fake = fake
        self.kept = kept
        self.id = kept.id
        self.settings = settings
        self.notices = notices

    def run(self, turn: TurnInput, *, approver: Approver) -> Turn:
        return self.fake.ask_for(self, turn, approver)


class Fake:
    """Stands in for `Threads`; `threads` is itself as that type."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.kept: dict[str, Kept] = {}
        self.asked: list[tuple[str, TurnInput, Settings]] = []
        self.released = anyio.Event()
        self.ran: list[str] = []
        """Commands that really ran."""
        self.held: set[str] = set()
        self.opened = anyio.Event()
        self.holding = anyio.Event()
        self.closed = False
        self._ended = anyio.Event()
        self._ids = SystemIds()
        self._turns: dict[str, Turn] = {}
        self._queues: dict[str, list[tuple[FakeThread, Turn]]] = {}
        self._group: anyio.abc.TaskGroup | None = None
        for path in sorted(folder.glob("*.json")) if folder else []:
            kept = msgspec.json.decode(path.read_bytes(), type=Kept)
            self.kept[kept.id] = kept

    @property
    def threads(self) -> Threads:
        return cast("Threads", self)

    @asynccontextmanager
    async def open_home(self) -> AsyncGenerator[Threads]:
        async with anyio.create_task_group() as group:
            self._group = group
            self.opened.set()
            try:
                yield self.threads
            finally:
                with anyio.CancelScope(shield=True):
                    for queue in self._queues.values():
                        for _, turn in queue:
                            turn.interrupt()
                    await self.drain()
                    self.closed = True

    def release(self) -> None:
        self.released.set()

    async def drain(self) -> None:
        while any(self._queues.values()):
            await self._ended.wait()

    async def start(self, settings: Settings, *, source: str, originator: str) -> FakeThread:
        kept = Kept(self._ids.uuid7(), settings, source=source)
        return FakeThread(self, kept, settings)

    async def open(self, reference: str, defaults: Settings, overrides: Overrides | None = None) -> FakeThread:
        kept = self._find(reference)
        if kept.archived:
            raise ThreadArchived(kept.id)
        settings = overrides.over(kept.settings) if overrides else kept.settings
        wider = settings.sandbox.wider_than(kept.settings.sandbox)
        return FakeThread(self, kept, settings, ("the sandbox was widened",) if wider else ())

    def _find(self, reference: str) -> Kept:
        if reference == "last" and self.kept:
            return max(self.kept.values(), key=lambda kept: kept.id)
        found = [
            kept
            for kept in self.kept.values()
            if kept.id == reference or kept.name == reference or (len(reference) >= 8 and kept.id.startswith(reference))
        ]
        if not found:
            raise ThreadNotFound(reference)
        if len(found) > 1:
            raise AmbiguousName(reference, [kept.id for kept in found])
        return found[0]

    def ask_for(self, thread: FakeThread, turn_input: TurnInput, approver: Approver) -> Turn:
        assert self._group is not None
        turn = Turn(thread.id, self._ids.uuid7(), turn_input, approver)
        turn.notices = thread.notices
        self._turns[turn.turn_id] = turn
        queue = self._queues.setdefault(thread.id, [])
        queue.append((thread, turn))
        if len(queue) == 1:
            self._group.start_soon(self._work, queue)
        return turn

    async def _work(self, queue: list[tuple[FakeThread, Turn]]) -> None:
        while queue:
            thread, turn = queue[0]
            if turn.stop.is_set():
                await turn.skip()
            elif "[[raise]]" in turn.input.text:
                turn.fail(ThreadBusy(thread.id, HOLDER))
            else:
                turn.begin()
                turn.finish(await self._play(thread, turn))
            del queue[0]
            self._ended.set()
            self._ended = anyio.Event()

    async def _play(self, thread: FakeThread, turn: Turn) -> TurnResult:
        self.asked.append((thread.id, turn.input, thread.settings))
        self.kept[thread.id] = thread.kept
        thread.kept.settings = thread.settings
        ids = (thread.id, turn.turn_id)
        view = TurnView(id=turn.turn_id, status="inProgress", items=(_user(turn.input.text).to_json(),), started_at=1)
        thread.kept.turns.append(view)
        self._save(thread.kept)
        await turn.emit(TurnStarted(*ids))
        player = _Player(self, thread, turn)
        status, message, error = "interrupted", None, None
        async with anyio.create_task_group() as group:

            async def stopped() -> None:
                await turn.stop.wait()
                group.cancel_scope.cancel()

            group.start_soon(stopped)
            message, error = await player.play()
            status = "failed" if error else "completed"
            group.cancel_scope.cancel()
        if turn.stop.is_set():
            status, message, error = "interrupted", None, None
        if message is not None:
            await player.item(Item("m", "agentMessage", {"text": message}))
        ended = cast("Any", status)
        result = TurnResult(
            thread_id=thread.id,
            turn_id=turn.turn_id,
            status=ended,
            last_message=message,
            error=TurnError(error) if error else None,
        )
        thread.kept.turns[-1] = TurnView(
            id=turn.turn_id,
            status=ended,
            items=(view.items[0], *player.items),
            started_at=1,
            completed_at=2,
            error=error,
        )
        self._save(thread.kept)
        usage = Usage(input_tokens=10, output_tokens=5, total_tokens=15)
        await turn.emit(UsageUpdated(turn.turn_id, usage, usage, 1000))
        await turn.emit(TurnEnded(turn.turn_id, result))
        return result

    def _save(self, kept: Kept) -> None:
        if self.folder is not None:
            (self.folder / f"{kept.id}.json").write_bytes(msgspec.json.encode(kept))

    async def summary(self, reference: str) -> ThreadSummary:
        return _summary(self._find(reference))

    async def list(self, query: ListQuery) -> Page:
        found = sorted(
            (
                kept
                for kept in self.kept.values()
                if query.archived in (None, kept.archived)
                and (query.text is None or query.text.lower() in f"{kept.name} {_preview(kept)}".lower())
                and (query.cwd is None or Path(kept.settings.cwd).is_relative_to(query.cwd))
                and (not query.sources or kept.source in query.sources)
            ),
            key=lambda kept: kept.id,
            reverse=True,
        )
        at = int(query.cursor or 0)
        page = found[at : at + query.limit]
        more = str(at + query.limit) if len(found) > at + query.limit else None
        return Page(threads=tuple(map(_summary, page)), next_cursor=more)

    async def search(self, query: SearchQuery, *, progress: ShowProgress | None = None) -> SearchPage:
        hits = [
            SearchHit(thread=_summary(kept), where="user", snippet=_preview(kept))
            for kept in self.kept.values()
            if query.text.lower() in _preview(kept).lower() and query.within.archived in (None, kept.archived)
        ]
        return SearchPage(hits=tuple(hits[: query.limit]))

    async def read(
        self, reference: str, *, cursor: str | None = None, limit: int = 25, newest_first: bool = False
    ) -> TurnsPage:
        turns = self._find(reference).turns[:: -1 if newest_first else 1]
        at = int(cursor or 0)
        more = str(at + limit) if len(turns) > at + limit else None
        return TurnsPage(turns=tuple(turns[at : at + limit]), next_cursor=more)

    async def fork(self, reference: str, *, after_turn: str | None = None, before_turn: str | None = None) -> str:
        kept = self._find(reference)
        turns = list(kept.turns)
        for index, turn in enumerate(kept.turns):
            if turn.id == after_turn:
                turns = turns[: index + 1]
            if turn.id == before_turn:
                turns = turns[:index]
        new = Kept(self._ids.uuid7(), kept.settings, forked_from=kept.id, turns=turns)
        self.kept[new.id] = new
        return new.id

    async def rename(self, reference: str, name: str | None) -> ThreadSummary:
        kept = self._find(reference)
        kept.name = name
        return _summary(kept)

    async def archive(self, reference: str, *, only: bool = False) -> Filed:
        kept = self._find(reference)
        if self.running(kept.id) is not None:
            raise ThreadBusy(kept.id, HOLDER)
        kept.archived = True
        return Filed(thread=_summary(kept))

    async def unarchive(self, reference: str, *, only: bool = False) -> Filed:
        kept = self._find(reference)
        kept.archived = False
        return Filed(thread=_summary(kept))

    async def status(self, reference: str) -> ThreadStatus:
        kept = self._find(reference)
        running = self.running(kept.id)
        if running is not None:
            queued = len(self._queues[kept.id]) - 1
            return ThreadStatus(
                thread_id=kept.id, state="running", turn_id=running.turn_id, turn_status="inProgress", queued=queued
            )
        last = kept.turns[-1] if kept.turns else None
        held = kept.id in self.held
        return ThreadStatus(
            thread_id=kept.id,
            state="held" if held else "idle",
            owner=HOLDER if held else None,
            turn_id=last.id if last else None,
            turn_status=last.status if last else None,
            last_message=last.items[-1].get("text") if last else None,
        )

    def turn(self, turn_id: str) -> Turn | None:
        return self._turns.get(turn_id)

    def running(self, thread_id: str) -> Turn | None:
        queue = self._queues.get(thread_id)
        return queue[0][1] if queue else None


class _Player:
    """Plays the directions of one turn."""

    def __init__(self, fake: Fake, thread: FakeThread, turn: Turn) -> None:
        self.fake = fake
        self.thread = thread
        self.turn = turn
        self.items: list[dict[str, Any]] = []
        self._calls = 0

    async def play(self) -> tuple[str | None, str | None]:
        """The last message and the error of the turn."""
        text = self.turn.input.text
        message: str | None = f"reply to {text}"
        await self.turn.emit(ItemCompleted(self.turn.turn_id, _user(text)))
        actions: dict[str, Callable[[str], Any]] = {"run": self._run, "ask": self._ask, "patch": self._patch}
        for word, argument in DIRECTION.findall(text):
            if word == "say":
                message = argument
                await self.turn.emit(TextDelta(self.turn.turn_id, "m", argument))
            elif word == "silent":
                message = None
            elif word == "hold":
                self.fake.holding.set()
                await self.fake.released.wait()
            elif word == "fail":
                return None, argument
            elif word in actions:
                await actions[word](argument)
        return message, None

    async def item(self, item: Item) -> None:
        self.items.append(item.to_json())
        await self.turn.emit(ItemCompleted(self.turn.turn_id, item))

    async def _run(self, command: str, *, call_id: str | None = None) -> None:
        self._calls += 1
        fields: dict[str, Any] = {
            "command": f"/bin/bash -lc '{command}'",
            "cwd": self.thread.settings.cwd,
            "commandActions": [],
        }
        item = Item(call_id or f"call-{self._calls}", "commandExecution", {**fields, "status": "inProgress"})
        await self.turn.emit(ItemStarted(self.turn.turn_id, item))
        self.fake.ran.append(command)
        done: dict[str, Any] = {
            **fields,
            "status": "completed",
            "exitCode": 0,
            "aggregatedOutput": "out\n",
            "durationMs": 1500,
        }
        await self.item(Item(item.id, "commandExecution", done))

    async def _ask(self, command: str) -> None:
        argv = ("/bin/bash", "-lc", command)
        if await self._approved(kind="command", command=argv, reason="needs more access", escalated=True):
            await self._run(command, call_id=f"call-{self._calls}")

    async def _patch(self, path: str) -> None:
        changes: dict[str, Any] = {path: {"type": "add", "content": "hello\n"}}
        if await self._approved(kind="patch", changes=changes):
            self.fake.ran.append(f"patch {path}")
            change = {"path": path, "kind": {"type": "add"}, "diff": "hello\n"}
            await self.item(Item("p", "fileChange", {"changes": [change], "status": "completed"}))

    async def _approved(self, **fields: Any) -> bool:
        self._calls += 1
        request = ApprovalRequest(
            thread_id=self.thread.id,
            turn_id=self.turn.turn_id,
            call_id=f"call-{self._calls}",
            cwd=self.thread.settings.cwd,
            **fields,
        )
        await self.turn.emit(ApprovalAsked(self.turn.turn_id, request))
        decision = await self.turn.approver.decide(request)
        if decision is Decision.ABORT:
            self.turn.interrupt()
            await anyio.sleep_forever()
        return decision in (Decision.ONCE, Decision.SESSION)


def _user(text: str) -> Item:
    return Item("u", "userMessage", {"content": [{"type": "text", "text": text}]})


def _preview(kept: Kept) -> str:
    return kept.turns[0].items[0]["content"][0]["text"] if kept.turns else ""


def _summary(kept: Kept) -> ThreadSummary:
    return ThreadSummary(
        id=kept.id,
        path=f"/home/sessions/{kept.id}.jsonl",
        archived=kept.archived,
        created_at="2026-07-01T12:00:00.000Z",
        updated_at="2026-07-01T12:30:00.000Z",
        size=1,
        name=kept.name,
        preview=_preview(kept) or None,
        cwd=kept.settings.cwd,
        source=kept.source,
        model=kept.settings.model,
        provider=kept.settings.provider,
        forked_from=kept.forked_from,
    )


__all__ = ["HOLDER", "Fake"]
