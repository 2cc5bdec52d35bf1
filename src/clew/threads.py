"""The front door: start, open, run, find, fork, name and archive threads.

Nothing here knows a protocol or a terminal. `Threads` keeps one queue per thread: its turns run one after the other,
in the order they were asked for, also when several processes share a home (the store's lease decides between them).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import anyio
import anyio.abc
import anyio.to_thread
import msgspec

from clew.clock import Clock, utc_stamp
from clew.engine import Approver, Engine
from clew.errors import BadRequest, FolderGone, LogDamaged, Owner, ProviderUnknown, ThreadArchived
from clew.events import ApprovalRequest, Decision, Notice, TurnInput
from clew.history.context import Context
from clew.history.lines import session_meta
from clew.history.metadata import read_meta
from clew.ids import IdSource
from clew.library import Library, TurnsPage, TurnView
from clew.live import LiveThread, as_record
from clew.rollout.envelope import Line
from clew.settings import ApprovalPolicy, Overrides, Settings
from clew.store.contracts import Catalog, Lease, Ledger, LogStore, TurnPlaces
from clew.store.index_statistics import IndexStatistics
from clew.store.keeper import Keeper
from clew.store.relocations import Relocations
from clew.turn import Turn

__all__ = ["Thread", "ThreadStatus", "Threads", "Turn", "TurnView", "TurnsPage"]

_LOADED = 32
"""How many threads' contexts are kept between turns."""

_ONE_LOOK = 0.001
_SILENT_WAIT = 1.0
"""Seconds that a turn waits for its thread before its listeners are told for whom."""

_REMEMBERED = 512
"""How many ended turns can still be asked for by id."""


class ThreadStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`state`: `running` (a turn runs in this process), `held` (another program writes it; `owner`), `idle`.

    `turn_id` is the running turn here, else the last recorded one; `turn_status` its status; `queued` counts turns
    that wait behind it in this process.
    """

    thread_id: str
    state: Literal["running", "held", "idle"]
    turn_id: str | None = None
    turn_status: str | None = None
    queued: int = 0
    owner: Owner | None = None
    last_message: str | None = None


class _Loaded:
    """A thread's context as of `size` bytes of its log."""

    def __init__(self, context: Context, size: int) -> None:
        self.context = context
        self.size = size


class Thread:
    """One thread, opened. Holds no lease and no file between turns.

    `settings` are the effective ones: recorded, with the overrides of `open` in their place.
    """

    def __init__(
        self,
        threads: Threads,
        thread_id: str,
        settings: Settings,
        *,
        defaults: Settings,
        overrides: Overrides,
        fresh: _Fresh | None = None,
    ) -> None:
        self._threads = threads
        self.id = thread_id
        self.settings = settings
        self.defaults = defaults
        self.overrides = overrides
        self.fresh = fresh

    def run(self, turn: TurnInput, *, approver: Approver) -> Turn:
        """Ask for a turn; comes back at once. Turns of a thread run one after the other."""
        return self._threads.enqueue(self, turn, approver)

    def compact(self, *, trigger: str = "user") -> Turn:
        """Ask for a turn that sums up the thread so far, so that later ones carry less. Nothing recorded is lost.
        Raises `BadRequest` for a thread that has no turn yet."""
        if self.fresh is not None:
            raise BadRequest("thread", "there is nothing to sum up yet")
        return self.run(TurnInput(text="", kind="compaction", trigger=trigger), approver=_Unasked())


class _Unasked:
    """For turns that call no tools: nothing is asked."""

    async def decide(self, request: ApprovalRequest) -> Decision:
        return Decision.DENY


class _Fresh(msgspec.Struct, frozen=True):
    """What only the header of a new thread needs."""

    source: str
    originator: str
    created: float
    window_id: str


class _Queue:
    def __init__(self) -> None:
        self.waiting: deque[tuple[Thread, Turn]] = deque()
        self.running: Turn | None = None


class Threads(Library):
    """The threads of one home. `busy_wait` bounds in seconds how long a turn waits for a program that is not clew and
    holds its thread; other clews are waited for as long as they work."""

    def __init__(
        self,
        logs: LogStore,
        catalog: Catalog,
        engine: Engine,
        *,
        owner: Owner,
        clock: Clock,
        ids: IdSource,
        version: str,
        busy_wait: float | None = 2.0,
        ledger: Callable[[], Ledger] | None = None,
        folders: Relocations | None = None,
        keeper: Keeper | None = None,
        places: TurnPlaces | None = None,
        index: Callable[[], IndexStatistics | None] | None = None,
    ) -> None:
        super().__init__(
            logs,
            catalog,
            owner=owner,
            clock=clock,
            ids=ids,
            version=version,
            ledger=ledger,
            folders=folders,
            keeper=keeper,
            places=places,
            index=index,
        )
        self._engine = engine
        # A look at least: whether the holder is a clew, which is waited for, must be known.
        self._busy_wait = None if busy_wait is None else max(busy_wait, _ONE_LOOK)
        self._leaving = False
        self._queues: dict[str, _Queue] = {}
        self._loaded: OrderedDict[str, _Loaded] = OrderedDict()
        self._loading: dict[str, anyio.Lock] = {}
        self._turns: OrderedDict[str, Turn] = OrderedDict()
        self._idle = anyio.Event()
        self._idle.set()
        self._tasks: anyio.abc.TaskGroup | None = None

    async def __aenter__(self) -> Self:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Interrupts what still runs, waits for it to be recorded, and closes the engine."""
        assert self._tasks is not None
        self._leaving = True
        with anyio.CancelScope(shield=True):
            for queue in self._queues.values():
                for _, turn in queue.waiting:
                    turn.interrupt()
                if queue.running is not None:
                    queue.running.interrupt()
            await self.drain()
            await self._engine.close()
        # Every task has ended. What went wrong in the block leaves it as itself, not as a group.
        await self._tasks.__aexit__(None, None, None)
        return None

    async def drain(self) -> None:
        """Wait until every turn that was asked for has ended."""
        while self._queues:
            await self._idle.wait()

    # -- starting and running

    async def start(self, settings: Settings, *, source: str, originator: str) -> Thread:
        """A new thread. Nothing is on disk before its first turn. `source` as in `session_meta` (`mcp`, `exec`, …)."""
        fresh = _Fresh(source, originator, self._clock.now(), self._ids.uuid7())
        return Thread(self, self._ids.uuid7(), settings, defaults=settings, overrides=Overrides(), fresh=fresh)

    async def open(self, reference: str, defaults: Settings, overrides: Overrides | None = None) -> Thread:
        """Open a recorded thread by id, unique prefix, name or `last`.

        Settings come from its last recorded turn; `defaults` fill what was never recorded; `overrides` are what the
        caller named in this call and may change (also widen) them. Raises `ThreadNotFound`, `AmbiguousName`,
        `ThreadArchived`, `LogDamaged`, `UnsupportedHistory`.
        """
        summary = await self.summary(reference)
        if summary.archived:
            raise ThreadArchived(summary.id)
        overrides = overrides or Overrides()
        context = await self._load(summary.id)
        recorded, _ = self._relocated(context.recorded.settings(defaults))
        settings = overrides.over(recorded)
        return Thread(self, summary.id, settings, defaults=defaults, overrides=overrides)

    def enqueue(self, thread: Thread, turn_input: TurnInput, approver: Approver) -> Turn:
        """Put a turn at the end of its thread's queue."""
        assert self._tasks is not None, "Threads is used with `async with`"
        turn = Turn(thread.id, self._ids.uuid7(), turn_input, approver)
        if self._leaving:
            turn.interrupt()
        self._turns[turn.turn_id] = turn
        queue = self._queues.get(thread.id)
        if queue is None:
            queue = self._queues[thread.id] = _Queue()
            self._idle = anyio.Event() if self._idle.is_set() else self._idle
            self._tasks.start_soon(self._work, thread.id, queue)
        queue.waiting.append((thread, turn))
        return turn

    async def _work(self, thread_id: str, queue: _Queue) -> None:
        # Shielded: a turn ends by its own means, which record how. `__aexit__` sees to it that it does.
        with anyio.CancelScope(shield=True):
            await self._work_off(thread_id, queue)

    async def _work_off(self, thread_id: str, queue: _Queue) -> None:
        try:
            while queue.waiting:
                thread, turn = queue.waiting.popleft()
                queue.running = turn
                try:
                    await self._run(thread, turn)
                except Exception as error:
                    # It belongs to whoever waits for the turn; the queue goes on. What was recorded of the turn is on
                    # disk, what is in memory may be ahead of it.
                    self._loaded.pop(thread_id, None)
                    turn.fail(error)
                except BaseException as error:
                    turn.fail(error)
                    raise
                finally:
                    queue.running = None
                    self._forget_old_turns()
        finally:
            del self._queues[thread_id]
            if not self._queues:
                self._idle.set()

    def _forget_old_turns(self) -> None:
        while len(self._turns) > _REMEMBERED:
            oldest = next((key for key, turn in self._turns.items() if turn.state == "done"), None)
            if oldest is None:
                return
            del self._turns[oldest]

    async def _run(self, thread: Thread, turn: Turn) -> None:
        if turn.stop.is_set():
            await turn.skip()
            return
        new = thread.fresh is not None
        # Others that want the thread stand in a line by now, if there are any; this turn goes behind them.
        owner = replace(self._owner, turn=turn.turn_id)
        leasing = self._logs.lease(thread.id, owner, create=new, wait=self._busy_wait)
        lease = await _unless_stopped(leasing, turn, self._tell_holder)
        if lease is None:
            await turn.skip()
            return
        try:
            if new and not lease.existed:
                settings = thread.settings
                self._check(settings, None)
                header = await self._header(thread)
                live = LiveThread(lease, Context(read_meta(as_record(header))), settings, header=header)
            else:
                context = await self._load(thread.id)
                recorded, moved = self._relocated(context.recorded.settings(thread.defaults))
                # A first turn that broke off may have recorded less than it was asked for.
                settings = thread.settings if new else thread.overrides.over(recorded)
                self._check(settings, thread.id)
                turn.notices = () if new else (*_widened(recorded, settings), *context.recorded.notes, *moved)
                live = LiveThread(lease, context, settings)
            turn.begin()
            result = await self._engine.run(
                live, turn.input, turn_id=turn.turn_id, approver=turn.approver, emit=turn.emit, stop=turn.stop
            )
            thread.fresh = None
            self._keep(thread.id, live.context, live.size)
        finally:
            with anyio.CancelScope(shield=True):
                await leasing.__aexit__(None, None, None)
        # Only now: whoever hears of the result may ask another program to go on at once.
        turn.finish(result)

    async def _tell_holder(self, turn: Turn) -> None:
        """Say for whom a turn waits, once it waits noticeably."""
        await anyio.sleep(_SILENT_WAIT)
        owner = await anyio.to_thread.run_sync(self._logs.holder, turn.thread_id)
        if owner is not None:
            await turn.emit(Notice(turn.turn_id, f"Waiting for {owner}, which holds the thread", "info"))

    def _check(self, settings: Settings, recorded_in: str | None) -> None:
        """Raise what keeps a turn from starting; `recorded_in` is the thread that these settings come from."""
        if not Path(settings.cwd).is_dir():
            raise FolderGone(settings.cwd, thread_id=recorded_in)
        try:
            self._engine.check(settings)
        except ProviderUnknown as error:
            raise ProviderUnknown(error.provider, error.known, thread_id=recorded_in) from error

    async def _header(self, thread: Thread) -> Line:
        fresh, settings = thread.fresh, thread.settings
        assert fresh is not None
        origin = await self._engine.origin(settings)
        return session_meta(
            thread_id=thread.id,
            timestamp=utc_stamp(fresh.created),
            settings=settings,
            base_instructions=origin.base_instructions,
            window_id=fresh.window_id,
            source=fresh.source,
            originator=fresh.originator,
            version=self._version,
            git=origin.git,
        )

    async def _load(self, thread_id: str) -> Context:
        """The thread's context: as kept, if its log did not grow since, else rebuilt from the log. Loaded once,
        however many ask."""
        lock = self._loading.setdefault(thread_id, anyio.Lock())
        try:
            async with lock:
                return await self._load_alone(thread_id)
        finally:
            if not lock.locked():
                self._loading.pop(thread_id, None)

    async def _load_alone(self, thread_id: str) -> Context:
        kept = self._loaded.get(thread_id)
        queue = self._queues.get(thread_id)
        running = queue.running if queue is not None else None
        if kept is not None and running is not None and running.state == "running":
            return kept.context
        size = await anyio.to_thread.run_sync(self._logs.size, thread_id)
        if kept is not None and kept.size == size:
            self._loaded.move_to_end(thread_id)
            return kept.context
        context = await anyio.to_thread.run_sync(self._rebuilt, thread_id)
        self._keep(thread_id, context, size)
        return context

    def _keep(self, thread_id: str, context: Context, size: int) -> None:
        self._loaded[thread_id] = _Loaded(context, size)
        self._loaded.move_to_end(thread_id)
        while len(self._loaded) > _LOADED:
            self._loaded.popitem(last=False)

    # -- how they are

    async def status(self, reference: str) -> ThreadStatus:
        summary = await self.summary(reference)
        queue = self._queues.get(summary.id)
        running = self.running(summary.id)
        if running is not None:
            waiting = len(queue.waiting) if queue is not None else 0
            return ThreadStatus(
                thread_id=summary.id,
                state="running",
                turn_id=running.turn_id,
                turn_status="inProgress" if running.state == "running" else "queued",
                queued=waiting - (running.state == "queued"),
            )
        owner = await anyio.to_thread.run_sync(self._logs.holder, summary.id)
        try:
            page = await self.read(summary.id, limit=1, newest_first=True)
        except LogDamaged:
            page = TurnsPage(turns=())
        last = page.turns[0] if page.turns else None
        return ThreadStatus(
            thread_id=summary.id,
            state="held" if owner else "idle",
            owner=owner,
            turn_id=last.id if last else None,
            turn_status=last.status if last else None,
            last_message=_last_message(last) if last else None,
        )

    def turn(self, turn_id: str) -> Turn | None:
        """A turn that was asked for in this process (the last few hundred are remembered)."""
        return self._turns.get(turn_id)

    def running(self, thread_id: str) -> Turn | None:
        """The turn of this thread that runs or waits first in this process."""
        queue = self._queues.get(thread_id)
        if queue is None:
            return None
        if queue.running is not None:
            return queue.running
        return queue.waiting[0][1] if queue.waiting else None

    def _at_work(self, thread_id: str) -> tuple[str, bool] | None:
        turn = self.running(thread_id)
        return None if turn is None else (turn.turn_id, turn.state == "running")

    def _changed(self, thread_id: str) -> None:
        self._loaded.pop(thread_id, None)


async def _unless_stopped(
    leasing: AbstractAsyncContextManager[Lease], turn: Turn, waiting: Callable[[Turn], Coroutine[Any, Any, None]]
) -> Lease | None:
    """Enter the lease, or give up waiting for it when the turn is not wanted any more (None). `waiting` runs
    meanwhile."""
    taken: Lease | None = None
    failed: Exception | None = None
    async with anyio.create_task_group() as tasks:

        async def watch() -> None:
            await turn.stop.wait()
            tasks.cancel_scope.cancel()

        tasks.start_soon(watch)
        tasks.start_soon(waiting, turn)
        try:
            taken = await leasing.__aenter__()
        except Exception as error:  # raised here it would come out as a group
            failed = error
        tasks.cancel_scope.cancel()
    if failed is not None:
        raise failed
    return taken


_ASKS = {ApprovalPolicy.UNTRUSTED: 2, ApprovalPolicy.ON_REQUEST: 1, ApprovalPolicy.NEVER: 0}
"""How much a policy asks a person."""


def _widened(recorded: Settings, settings: Settings) -> tuple[str, ...]:
    told: list[str] = []
    if settings.sandbox.wider_than(recorded.sandbox):
        before, now = recorded.sandbox.mode.value, settings.sandbox.mode.value
        what = f"from {before} to {now}" if before != now else f"({now} with more roots or network access)"
        told.append(f"The sandbox was widened {what}, as this call asked.")
    if _ASKS[settings.approval] < _ASKS[recorded.approval]:
        before, now = recorded.approval.value, settings.approval.value
        told.append(f"Fewer questions are asked before commands run ({now} instead of {before}), as this call asked.")
    return tuple(told)


def _last_message(turn: TurnView) -> str | None:
    texts = [str(item.get("text", "")) for item in turn.items if item.get("type") == "agentMessage"]
    return texts[-1] if texts else None
