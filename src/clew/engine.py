"""The contract between the front door and whatever runs a turn: our own agent today, another harness later."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import anyio
import msgspec

from clew.events import ApprovalRequest, Decision, Event, TurnInput, TurnResult
from clew.history.context import Context
from clew.rollout.envelope import Line
from clew.settings import Settings

__all__ = ["Approver", "Emit", "Engine", "Live", "Origin"]

Emit = Callable[[Event], Awaitable[None]]
"""Hands an event to the turn's listeners; never blocks on a slow one."""


class Approver(Protocol):
    """Asks whoever is on the other side of the face. An approver that cannot ask answers DENY."""

    async def decide(self, request: ApprovalRequest) -> Decision: ...


class Live(Protocol):
    """A thread that is leased by this process and loaded: what an engine may see and do.

    `context` is the thread's history as the model sees it; the engine adds to it what it records. `settings` are the
    effective ones of this turn; `widened` says that the caller asked in so many words for more than was recorded.
    """

    @property
    def thread_id(self) -> str: ...

    @property
    def session_id(self) -> str:
        """The id of the tree's root thread; the cache key of model requests."""
        ...

    @property
    def history_mode(self) -> str:
        """`legacy` or `paginated`."""
        ...

    @property
    def context(self) -> Context: ...

    @property
    def settings(self) -> Settings: ...

    @property
    def fresh(self) -> bool:
        """No turn was recorded before this one."""
        ...

    async def record(self, lines: Sequence[Line], *, durable: bool = True) -> None:
        """Append to the log. With `durable`, returns when the bytes (and all before them) survive power loss."""
        ...


class Origin(msgspec.Struct, frozen=True):
    """What the header of a new thread says besides its settings: the whole base instructions, and the git state of its
    folder (`commit_hash`, `branch`, `repository_url`, each where known)."""

    base_instructions: str
    git: dict[str, str] | None = None


class Engine(Protocol):
    """Runs turns.

    `run` records everything before it counts, reports through `emit` (`TurnStarted` first, `TurnEnded` last) and
    always comes back with a result: a model failure is a result with status `failed`, a set `stop` event one with
    status `interrupted`. It raises only what has nothing to do with the turn: `DiskFull`, `LogReplaced`, ….
    """

    def check(self, settings: Settings) -> None:
        """Raise what would keep a turn with these settings from starting: `ProviderUnknown`, `KeyMissing`."""
        ...

    async def origin(self, settings: Settings) -> Origin: ...

    async def run(
        self, live: Live, turn: TurnInput, *, turn_id: str, approver: Approver, emit: Emit, stop: anyio.Event
    ) -> TurnResult: ...

    async def close(self) -> None:
        """End what turns left running (background commands), close connections."""
        ...
