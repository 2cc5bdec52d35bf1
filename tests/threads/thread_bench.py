"""A front door over a store in memory, with an engine that does what the prompt says and records it as a real one."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import anyio

from clew.clock import SystemClock
from clew.engine import Approver, Emit, Live, Origin
from clew.errors import KeyMissing, Owner, ProviderUnknown
from clew.events import ApprovalRequest, Decision, TextDelta, TurnEnded, TurnInput, TurnResult, TurnStarted
from clew.history.context import Context
from clew.history.lines import HistoryMode, TurnLines
from clew.history.rebuilding import rebuild
from clew.ids import SystemIds
from clew.rollout import FailPoints
from clew.settings import Overrides, Sandbox, SandboxMode, Settings
from clew.store import LocalStore
from clew.testing import MemoryFileSystem, memory_store
from clew.threads import Thread, Threads
from clew.turn import Turn


class Nobody:
    async def decide(self, request: ApprovalRequest) -> Decision:
        return Decision.DENY


def message(role: str, text: str) -> dict[str, object]:
    part = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "role": role, "content": [{"type": part, "text": text}]}


class ScriptEngine:
    """Answers `re: PROMPT`. A prompt `wait NAME` waits at `gates[NAME]` first, `deltas N` streams N deltas, `raise`
    raises. `ran` lists the prompts in the order they were started; `most` is how many ran at once."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.heard: list[list[str]] = []
        self.lives: list[Live] = []
        self.gates: dict[str, anyio.Event] = {}
        self.reached: dict[str, anyio.Event] = {}
        self.now = self.most = 0
        self.closed = False

    def gate(self, name: str) -> anyio.Event:
        return self.gates.setdefault(name, anyio.Event())

    def at(self, name: str) -> anyio.Event:
        return self.reached.setdefault(name, anyio.Event())

    def check(self, settings: Settings) -> None:
        if settings.provider == "unknown":
            raise ProviderUnknown("unknown", ["scripted"])
        if settings.provider == "keyless":
            raise KeyMissing("SOME_KEY", "keyless")

    async def origin(self, settings: Settings) -> Origin:
        return Origin("Be brief.")

    async def run(
        self, live: Live, turn: TurnInput, *, turn_id: str, approver: Approver, emit: Emit, stop: anyio.Event
    ) -> TurnResult:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            return await self._run(live, turn.text, turn_id, emit, stop)
        finally:
            self.now -= 1

    async def _run(self, live: Live, text: str, turn_id: str, emit: Emit, stop: anyio.Event) -> TurnResult:
        self.ran.append(text)
        self.lives.append(live)
        mode = cast("HistoryMode", live.history_mode)
        lines = TurnLines(thread_id=live.thread_id, session_id=live.session_id, turn_id=turn_id, mode=mode)
        await emit(TurnStarted(live.thread_id, turn_id))
        begun = lines.started(now=1.0, trigger="test", context_window=None)
        changed = live.fresh or live.context.recorded.settings(live.settings) != live.settings
        begun += lines.context(live.settings, [], state={"model": "m"}, patch=None, settings_changed=changed)
        prompt = message("user", text)
        await live.record([*begun, *lines.user_message(prompt, TurnInput(text=text), item_id="u", now=1.0)])
        self.heard.append(texts(live.context))
        word, _, rest = text.partition(" ")
        if word == "raise":
            raise RuntimeError("the engine broke")
        if word == "deltas":
            for number in range(int(rest)):
                await emit(TextDelta(turn_id, "m", str(number)))
        if word == "wait":
            self.at(rest).set()
            async with anyio.create_task_group() as tasks:

                async def until(event: anyio.Event) -> None:
                    await event.wait()
                    tasks.cancel_scope.cancel()

                tasks.start_soon(until, stop)
                tasks.start_soon(until, self.gate(rest))
        if stop.is_set():
            await live.record(lines.aborted(message("user", "<turn_aborted></turn_aborted>"), started=1.0, now=2.0))
            result = TurnResult(thread_id=live.thread_id, turn_id=turn_id, status="interrupted")
        else:
            said = f"re: {text}"
            await live.record(lines.model_item({**message("assistant", said), "id": f"msg_{turn_id}"}, now=2.0))
            await live.record(lines.completed(said, started=1.0, now=2.0))
            result = TurnResult(thread_id=live.thread_id, turn_id=turn_id, status="completed", last_message=said)
        await emit(TurnEnded(turn_id, result))
        return result

    async def close(self) -> None:
        self.closed = True


def texts(context: Context) -> list[str]:
    return [str(item.value()["content"][0]["text"]) for item in context.items if item.type == "message"]


class Front:
    """One program: its store, engine and threads."""

    def __init__(self, fs: MemoryFileSystem, project: Path, program: str, fail: FailPoints | None = None) -> None:
        self.fs = fs
        self.project = project
        self.owner = Owner(program, 1)
        self.engine = ScriptEngine()
        self.store: LocalStore = memory_store(fs, fail=fail)
        self.threads = Threads(
            self.store,
            self.store.catalog,
            self.engine,
            owner=self.owner,
            clock=SystemClock(),
            ids=SystemIds(),
            version="1.2.3",
            busy_wait=0.05,
            keeper=self.store.keeper,
        )

    def settings(self, mode: SandboxMode = SandboxMode.READ_ONLY, **more: object) -> Settings:
        fields: dict[str, object] = {"cwd": str(self.project), "model": "m", "provider": "scripted"}
        return Settings(**{**fields, "sandbox": Sandbox(mode=mode), **more})  # pyright: ignore[reportArgumentType] - named by tests

    async def start(self, **more: object) -> Thread:
        return await self.threads.start(self.settings(**more), source="exec", originator="test")  # pyright: ignore[reportArgumentType] - as above

    async def open(self, reference: str, overrides: Overrides | None = None) -> Thread:
        return await self.threads.open(reference, self.settings(), overrides)

    def run(self, thread: Thread, text: str) -> Turn:
        return thread.run(TurnInput(text=text), approver=Nobody())

    async def say(self, thread: Thread, text: str) -> TurnResult:
        return await self.run(thread, text).wait()

    def told(self, thread_id: str) -> list[str]:
        """The messages of a thread as the log has them."""
        return texts(rebuild(self.store.read_back(thread_id), self.store.head(thread_id)))


@asynccontextmanager
async def front(
    project: Path, fs: MemoryFileSystem | None = None, program: str = "clew test", fail: FailPoints | None = None
) -> AsyncGenerator[Front]:
    made = Front(fs or MemoryFileSystem(), project, program, fail)
    with anyio.fail_after(10):
        try:
            async with made.threads:
                yield made
        finally:
            made.store.close()
