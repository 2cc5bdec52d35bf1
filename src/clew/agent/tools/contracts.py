"""What a tool call is, what a tool gets to see, and what it answers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import anyio
import msgspec

from clew.agent.tools.truncation import TOOL_POLICY
from clew.clock import Clock
from clew.engine import Approver, Emit
from clew.errors import ClewError
from clew.events import Item
from clew.history.truncation import TruncationPolicy
from clew.ids import IdSource
from clew.settings import Settings

__all__ = ["Finished", "Tool", "ToolCall", "ToolContext", "ToolFailed", "ToolOutcome", "aborted", "parse_arguments"]

Arguments = TypeVar("Arguments")
_MISSING = re.compile(r"Object missing required field (`\w+`)")


class ToolFailed(ClewError):
    """A call that cannot be carried out; the text goes to the model as it is."""


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call as the model wrote it: `arguments` is JSON text for a `function`, free text for a `custom` call.

    `item_id` is the id of the response item, None where the endpoint sent none.
    """

    kind: Literal["function", "custom"]
    name: str
    arguments: str
    call_id: str
    namespace: str | None = None
    item_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolContext:
    """The turn a call runs in.

    `session_id` is the id of the tree's root thread (None: the thread's own). `stop` set means that the turn was
    interrupted. `policy` is the model's limit on tool outputs, `images` whether the model takes images.
    """

    thread_id: str
    turn_id: str
    settings: Settings
    approver: Approver
    emit: Emit
    ids: IdSource
    clock: Clock
    stop: anyio.Event
    policy: TruncationPolicy = TOOL_POLICY
    images: bool = True
    session_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A person-visible item that is over: as clients see it (`item`), and as the log keeps it (`recorded`, the `item`
    of an `item_completed` line). `turn_id` is the turn that started it; the times are milliseconds since 1970."""

    turn_id: str
    item: Item
    recorded: dict[str, Any]
    started_at_ms: int
    completed_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolOutcome:
    """The answer to one call.

    `output` is what the model sees: text, or content parts. `finished` is the item this call brought to its end (its
    `ItemCompleted` was emitted already), None when there is none: a command that still runs, a call that could not be
    read. `aborted` says that the turn must end: the person answered ABORT, or `stop` was set.
    """

    output: str | list[dict[str, Any]]
    success: bool
    finished: Finished | None = None
    aborted: bool = False

    @property
    def item(self) -> Item | None:
        """The finished item as clients see it."""
        return self.finished.item if self.finished else None


class Tool(Protocol):
    """`kinds` are the forms of call it takes; `parallel` tools of one request run side by side, others alone."""

    @property
    def name(self) -> str: ...

    @property
    def kinds(self) -> frozenset[Literal["function", "custom"]]: ...

    @property
    def parallel(self) -> bool: ...

    def spec(self) -> dict[str, Any]:
        """The tool as it is described to the model."""
        ...

    async def run(self, call: ToolCall, ctx: ToolContext) -> ToolOutcome: ...


def aborted(seconds: float, finished: Finished | None = None) -> ToolOutcome:
    """The answer to a call that the person cut short after `seconds`."""
    text = f"Wall time: {max(seconds, 0.1):.1f} seconds\naborted by user"
    return ToolOutcome(output=text, success=False, finished=finished, aborted=True)


def parse_arguments(text: str, kind: type[Arguments]) -> Arguments:
    """The arguments of a function call as `kind`; raises `ToolFailed` with the text for the model."""
    try:
        return msgspec.json.decode(text or "{}", type=kind)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        why = str(error)
        if missing := _MISSING.fullmatch(why):
            lines = text.rstrip().split("\n")
            why = f"missing field {missing[1]} at line {len(lines)} column {len(lines[-1])}"
        raise ToolFailed(f"failed to parse function arguments: {why}") from error
