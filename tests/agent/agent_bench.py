"""A whole house with clew's own agent, a store in memory and a scripted model; and eyes for what is recorded when."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from clew.agent import Agent
from clew.agent.model import Models
from clew.clock import SystemClock
from clew.config import Config, load
from clew.errors import Owner
from clew.events import ApprovalRequest, Decision, Event, TurnInput, TurnResult
from clew.history.context import Context, rebuild_forward
from clew.history.rebuilding import rebuild
from clew.ids import SystemIds
from clew.rollout import Record
from clew.settings import ApprovalPolicy, Overrides, Sandbox, SandboxMode, Settings
from clew.store import LocalStore
from clew.testing import (
    Directives,
    MemoryFileSystem,
    Received,
    ScriptedEndpoint,
    Step,
    ThreadBuilder,
    memory_home,
    memory_store,
)
from clew.threads import Thread, Threads
from clew.turn import Turn

PROVIDER = "scripted"


class Script:
    """Steps first, as long as there are some; then what the prompts say."""

    def __init__(self, directives: Directives) -> None:
        self.steps: deque[Step | Callable[[Received], Step]] = deque()
        self.directives = directives

    def __call__(self, received: Received) -> Step:
        if not self.steps:
            return self.directives(received)
        step = self.steps.popleft()
        return step if isinstance(step, Step) else step(received)


class Person:
    """Answers every question the same way."""

    def __init__(self, answer: Decision = Decision.DENY) -> None:
        self.answer = answer
        self.asked: list[ApprovalRequest] = []

    async def decide(self, request: ApprovalRequest) -> Decision:
        self.asked.append(request)
        return self.answer


class Workshop:
    """Homes and project below `folder`; `config` is added to config.toml. The disk of the threads is in memory."""

    def __init__(self, folder: Path, endpoint: ScriptedEndpoint, script: Script) -> None:
        self.endpoint = endpoint
        self.script = script
        self.fs = MemoryFileSystem()
        self.home = memory_home(self.fs)
        self.project = folder / "project"
        self.codex_home = folder / "home"
        for path in (self.project, self.codex_home):
            path.mkdir()
        self.config = ""
        self.provider = ""
        self.person = Person()

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The bodies of all requests so far."""
        return [request.body for request in self.endpoint.requests]

    def load_config(self) -> Config:
        text = (
            f"{self.config}\n[model_providers.{PROVIDER}]\nname = {PROVIDER!r}\nbase_url = {self.endpoint.base_url!r}\n"
        )
        (self.codex_home / "config.toml").write_text(f"{text}{self.provider}\n")
        env = {"HOME": str(self.codex_home)}
        return load(env, codex_home=self.codex_home, clew_home=self.codex_home / "clew")

    def settings(self, **more: Any) -> Settings:
        fields: dict[str, Any] = {
            "cwd": str(self.project),
            "model": "m",
            "provider": PROVIDER,
            "approval": ApprovalPolicy.NEVER,
            "sandbox": Sandbox(mode=SandboxMode.FULL_ACCESS),
            "base_instructions": "Be brief.",
        }
        return Settings(**{**fields, **more})

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[House]:
        """A program; it ends with the block."""
        config = self.load_config()
        clock = SystemClock()
        env = {"PATH": os.environ.get("PATH", ""), "HOME": str(self.codex_home), "SHELL": "/bin/bash", "TZ": "UTC"}
        models = Models(env)
        store = memory_store(self.fs)
        agent = Agent(config, models, env=env, clock=clock, ids=SystemIds(clock))
        threads = Threads(
            store,
            store.catalog,
            agent,
            owner=Owner("clew test", os.getpid()),
            clock=clock,
            ids=SystemIds(clock),
            version="1.2.3",
            keeper=store.keeper,
        )
        house = House(self, store, threads)
        with anyio.fail_after(15):
            try:
                async with threads:
                    yield house
                    await threads.drain()
            finally:
                await models.close()
                store.close()


class House:
    """One program."""

    def __init__(self, workshop: Workshop, store: LocalStore, threads: Threads) -> None:
        self.workshop = workshop
        self.store = store
        self.threads = threads

    async def start(self, **settings: Any) -> Thread:
        return await self.threads.start(self.workshop.settings(**settings), source="exec", originator="test")

    async def seeded(self, builder: ThreadBuilder, overrides: Overrides | None = None) -> Thread:
        """A thread of another program, opened."""
        builder.write(self.workshop.home)
        return await self.threads.open(builder.id, self.workshop.settings(), overrides)

    async def legacy(self) -> Thread:
        """A thread of the old history mode, with one turn and the settings of this workshop."""
        builder = ThreadBuilder("0.142", cwd=str(self.workshop.project), model="m", provider=PROVIDER)
        return await self.seeded(builder.turn("Before?", "Before."))

    def ask(self, thread: Thread, text: str | TurnInput) -> Turn:
        given = text if isinstance(text, TurnInput) else TurnInput(text=text)
        return thread.run(given, approver=self.workshop.person)

    async def say(self, thread: Thread, text: str | TurnInput) -> TurnResult:
        """Run a turn, and hold what is in memory against what the log says."""
        result = await self.ask(thread, text).wait()
        await self.check(thread)
        return result

    async def check(self, thread: Thread) -> None:
        kept = await self.threads._load(thread.id)  # pyright: ignore[reportPrivateUsage] - what is in memory
        loaded = self.threads._loaded[thread.id]  # pyright: ignore[reportPrivateUsage]
        assert loaded.size == self.store.size(thread.id), "what is kept belongs to this log"
        head = self.store.head(thread.id)
        for context in (
            rebuild(self.store.read_back(thread.id), head),
            rebuild_forward(self.store.read(thread.id), head),
        ):
            assert told_by(kept) == told_by(context)

    def lines(self, thread: Thread) -> list[tuple[str, Any]]:
        return [
            (line.type, msgspec.json.decode(line.payload))
            for line in self.store.read(thread.id)
            if isinstance(line, Record)
        ]

    def kinds(self, thread: Thread, skip: int = 0) -> list[str]:
        """The kinds of the lines, after the first `skip`."""
        return [kind_of(*line) for line in self.lines(thread)[skip:]]


def told_by(context: Context) -> dict[str, Any]:
    """Everything a context says."""
    return {
        "items": [item.raw for item in context.items],
        "baseline": context.baseline,
        "world_state": context.world_state,
        "window": context.window,
        "usage": context.usage,
        "last_usage": context.last_usage,
        "last_turn_id": context.last_turn_id,
        "open_turn_id": context.open_turn_id,
        "recorded": context.recorded,
        "mode": context.history_mode,
        "session": context.session_id,
        "tokens": context.estimate_tokens(),
    }


def kind_of(kind: str, payload: Any) -> str:
    inner = payload.get("type")
    if kind == "event_msg" and inner == "item_completed":
        return f"shown {payload['item']['type']}"
    if kind == "response_item":
        return f"{payload['role']} message" if inner == "message" else inner
    return inner if kind == "event_msg" else kind


_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def plain(lines: Sequence[tuple[str, Any]], cwd: Path) -> list[Any]:
    """Lines with ids numbered by their first appearance, without times, hashes, and the insides of long texts."""
    seen: dict[str, str] = {}

    def text(value: str) -> str:
        value = _UUID.sub(lambda found: seen.setdefault(found[0], f"ID{len(seen)}"), value.replace(str(cwd), "CWD"))
        value = re.sub(r"\b[0-9a-f]{40}\b", "SHA1", value)
        value = re.sub(r"Chunk ID: [0-9a-f]{6}", "Chunk ID: C", re.sub(r"Wall time: [0-9.]+", "Wall time: T", value))
        return value if len(value) <= 60 else f"{value[:28]}…"

    def shown(value: Any, key: str = "") -> Any:
        if isinstance(value, dict) and "total_tokens" in value:
            return f"{value['input_tokens']} in, {value['output_tokens']} out, {value['total_tokens']} total"
        if isinstance(value, dict):
            return {text(name): shown(member, name) for name, member in value.items()}  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType] - JSON
        if isinstance(value, list):
            return [shown(member) for member in value]  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType] - JSON
        if key.endswith(("_at", "_ms")) or key in ("nanos", "secs"):
            return 0
        if key in ("current_date", "timezone", "timestamp", "process_id"):
            return key
        return text(value) if isinstance(value, str) else value

    return [(kind, shown(payload)) for kind, payload in lines]


def inputs(body: dict[str, Any]) -> list[str]:
    """A request's items in short: who said what, calls and outputs."""
    told: list[str] = []
    for item in body["input"]:
        kind = item.get("type", "message")
        if kind == "message":
            content = item["content"]
            text = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
            told.append(f"{item['role']}: {re.sub(r' /.*', ' PATH', text.splitlines()[0])[:60] if text else ''}")
        elif kind.endswith("_output"):
            output = item["output"] if isinstance(item["output"], str) else "parts"
            told.append(f"output {item['call_id']}: {output.strip().splitlines()[-1]}")
        else:
            told.append(f"{kind} {item.get('call_id', '')}".strip())
    return told


async def heard(turn: Turn) -> list[Event]:
    async with turn.events() as events:
        return [event async for event in events]


async def reached(gate: Any) -> None:
    await anyio.to_thread.run_sync(gate.wait_reached)
