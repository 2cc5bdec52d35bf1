"""A workbench: a tool box over a temporary project, with people who answer as told and listeners who remember."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import anyio

from clew.agent.sandbox import Confinement
from clew.agent.tools import ToolBox, ToolCall, ToolContext, ToolOutcome
from clew.clock import SystemClock
from clew.events import ApprovalRequest, Decision, Event, ItemCompleted, ItemStarted, OutputDelta
from clew.ids import SystemIds
from clew.settings import ApprovalPolicy, Sandbox, SandboxMode, Settings

Kind = Literal["function", "custom"]


@dataclass
class Person:
    """Answers questions from a list (the last answer goes on), and keeps them."""

    answers: list[Decision] = field(default_factory=lambda: [Decision.DENY])
    asked: list[ApprovalRequest] = field(default_factory=list[ApprovalRequest])

    async def decide(self, request: ApprovalRequest) -> Decision:
        self.asked.append(request)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@dataclass
class Bench:
    """Runs calls in `project` and keeps what listeners heard in `events`."""

    project: Path
    environment: dict[str, str]
    confinement: Confinement | None = None
    mode: SandboxMode = SandboxMode.FULL_ACCESS
    approval: ApprovalPolicy = ApprovalPolicy.NEVER
    person: Person = field(default_factory=Person)
    events: list[Event] = field(default_factory=list[Event])
    sandbox: dict[str, Any] = field(default_factory=dict[str, Any])
    context: dict[str, Any] = field(default_factory=dict[str, Any])
    on_event: Callable[[Event], None] = lambda _event: None
    thread_id: str = "thread-1"
    calls: int = 0

    def __post_init__(self) -> None:
        self.box = ToolBox(self.environment, shell="/bin/bash", confinement=self.confinement)
        self.stop = anyio.Event()

    def ctx(self) -> ToolContext:
        settings = Settings(
            cwd=str(self.project),
            model="demo",
            provider="offline",
            approval=self.approval,
            sandbox=Sandbox(mode=self.mode, **self.sandbox),
        )
        return ToolContext(
            thread_id=self.thread_id,
            turn_id="turn-1",
            settings=settings,
            approver=self.person,
            emit=self.emit,
            ids=SystemIds(),
            clock=SystemClock(),
            stop=self.stop,
            **self.context,
        )

    async def emit(self, event: Event) -> None:
        self.events.append(event)
        self.on_event(event)

    async def call(self, name: str, arguments: Any, kind: Kind = "function") -> ToolOutcome:
        self.calls += 1
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        call = ToolCall(kind=kind, name=name, arguments=text, call_id=f"call-{self.calls}")
        return await self.box.run(call, self.ctx())

    async def run(self, cmd: str, **more: Any) -> ToolOutcome:
        return await self.call("exec_command", {"cmd": cmd, "login": False, **more})

    async def patch(self, text: str) -> ToolOutcome:
        return await self.call("apply_patch", text, "custom")

    @property
    def live(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, OutputDelta))

    @property
    def items(self) -> list[tuple[str, str, str]]:
        """(started or completed, item id, status) in order."""
        return [
            ("started" if isinstance(event, ItemStarted) else "completed", event.item.id, event.item.fields["status"])
            for event in self.events
            if isinstance(event, ItemStarted | ItemCompleted)
        ]


def plain(output: object) -> str:
    """An answer with its changing numbers taken out."""
    assert isinstance(output, str)
    output = re.sub(r"^Chunk ID: [0-9a-f]{6}$", "Chunk ID: C", output, flags=re.MULTILINE)
    return re.sub(r"^Wall time: [0-9.]+ seconds$", "Wall time: T seconds", output, flags=re.MULTILINE)
