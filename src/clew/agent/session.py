"""One turn, from the user's message to its end: everything is recorded before it counts.

    record the message ─► request ─► stream ─► tools ─► follow-up? ─► … ─► record the end
                             ▲                    │
                             └── compact when the window is full

* The user's message is durable before anything else happens with it.
* A finished item is recorded at once; a call is durable *before* its tool runs; outputs are recorded as they finish,
  and are durable before the request that carries them.
* A broken stream is taken up again with the history as it is by then; finished calls are not run twice.
* An interruption closes what runs, tells the model in a marker message, and ends the turn durably.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import aclosing, contextmanager
from typing import Any, Literal, cast

import anyio
import anyio.abc
import anyio.to_thread
import msgspec

from clew.agent.compaction import Compaction, summarise
from clew.agent.model.contracts import (
    Completed,
    ItemAdded,
    ItemDone,
    ModelClient,
    ModelEvent,
    ModelRequest,
    Opened,
    ReasoningDelta,
)
from clew.agent.model.contracts import TextDelta as ModelText
from clew.agent.model.retries import StreamRetries
from clew.agent.prompt import user_content
from clew.agent.surroundings import Surroundings, changed, initial
from clew.agent.tools import Finished, ToolBox, ToolCall, ToolContext, ToolOutcome
from clew.clock import Clock
from clew.config.providers import Provider
from clew.engine import Approver, Emit, Live
from clew.errors import ContextFull, ModelError
from clew.events import (
    Item,
    ItemCompleted,
    ItemStarted,
    Notice,
    TextDelta,
    TurnEnded,
    TurnError,
    TurnInput,
    TurnResult,
    TurnStarted,
    Usage,
    UsageUpdated,
)
from clew.history.lines import HistoryMode, TurnLines
from clew.history.response_items import ContextItem, estimated_tokens
from clew.history.truncation import TruncationPolicy
from clew.ids import IdSource
from clew.rollout.envelope import Line

__all__ = ["TurnRun", "Window", "Workbench"]

_CALLS: dict[str, Literal["function", "custom"]] = {"function_call": "function", "custom_tool_call": "custom"}
_OUTPUTS = {"function": ("function_call_output", "fco"), "custom": ("custom_tool_call_output", "ctco")}

_MARKER = (
    "<turn_aborted>\nThe user interrupted this turn on purpose. Commands that were running were stopped; they may have "
    "done part of their work.\n</turn_aborted>"
)


class Window(msgspec.Struct, frozen=True):
    """The model's window in tokens: its whole size, what of it is used at most, and where compaction sets in."""

    size: int
    usable: int
    compact_at: int


class Workbench(msgspec.Struct, frozen=True, kw_only=True):
    """What a turn works with: the model behind its provider, the tools and the limit of what they answer, the window,
    clocks and ids."""

    provider: Provider
    model: ModelClient
    tools: ToolBox
    window: Window
    output_policy: TruncationPolicy
    surroundings: Surroundings
    base_instructions: str
    compact_prompt: str
    clock: Clock
    ids: IdSource


class TurnRun:
    """Runs one turn and is gone with it."""

    def __init__(
        self,
        bench: Workbench,
        live: Live,
        turn: TurnInput,
        *,
        turn_id: str,
        approver: Approver,
        emit: Emit,
        stop: anyio.Event,
    ) -> None:
        self._bench = bench
        self._live = live
        self._turn = turn
        self._turn_id = turn_id
        self._emit = emit
        self._stop = stop
        self._scope: anyio.CancelScope | None = None
        self._started = bench.clock.now()
        self._first_token: float | None = None
        self._last_message: str | None = None
        self._usage = Usage()
        self._turn_state: str | None = None
        self._lines = TurnLines(
            thread_id=live.thread_id,
            session_id=live.session_id,
            turn_id=turn_id,
            mode=cast("HistoryMode", live.history_mode),
        )
        self._tool_context = ToolContext(
            thread_id=live.thread_id,
            turn_id=turn_id,
            settings=live.settings,
            approver=approver,
            emit=emit,
            ids=bench.ids,
            clock=bench.clock,
            stop=stop,
            session_id=live.session_id,
            policy=bench.output_policy,
        )

    async def run(self) -> TurnResult:
        result: TurnResult | None = None
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch_stop)
            try:
                result = await self._run()
            except Exception as error:  # it must leave as itself, not as a group
                failure = error
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure
        assert result is not None
        return result

    async def _watch_stop(self) -> None:
        await self._stop.wait()
        if self._scope is not None:
            self._scope.cancel()

    @contextmanager
    def _stoppable(self) -> Generator[None]:
        """What runs inside is cancelled when the turn is stopped; what is recorded never is."""
        with anyio.CancelScope() as self._scope:
            if self._stop.is_set():
                self._scope.cancel()
            try:
                yield
            finally:
                self._scope = None

    async def _run(self) -> TurnResult:
        await self._emit(TurnStarted(self._live.thread_id, self._turn_id))
        for notice in self._bench.surroundings.notices:
            await self._emit(Notice(self._turn_id, notice))
        error: ModelError | None = None
        try:
            if self._turn.kind == "compaction":
                await self._live.record(self._started_lines(self._started))
                await self._compact()
            else:
                await self._record_prompt()
                await self._converse()
        except ModelError as failure:
            error = failure
        if self._stop.is_set():
            result = await self._interrupted()
        else:
            result = await self._completed(error)
        await self._emit(TurnEnded(self._turn_id, result))
        return result

    # -- the beginning

    def _started_lines(self, now: float) -> list[Line]:
        return self._lines.started(now=now, trigger=self._turn.trigger, context_window=self._bench.window.usable)

    async def _record_prompt(self) -> None:
        now = self._bench.clock.now()
        live, context = self._live, self._live.context
        lines = self._started_lines(now)
        state: dict[str, Any] | None = None
        patch: dict[str, Any] | None = None
        if context.baseline is None or context.world_state is None:
            messages, state = initial(self._bench.surroundings)
        else:
            messages, patch = changed(self._bench.surroundings, context.world_state)
        lines += self._lines.context(
            live.settings,
            [self._with_id(message) for message in messages],
            state=state,
            patch=patch,
            settings_changed=live.fresh or context.recorded.settings(live.settings) != live.settings,
        )
        content = await anyio.to_thread.run_sync(user_content, self._turn)
        prompt = self._with_id({"type": "message", "role": "user", "content": content})
        item_id = self._bench.ids.uuid7()
        lines += self._lines.user_message(prompt, self._turn, item_id=item_id, now=now)
        await live.record(lines)
        shown: list[dict[str, Any]] = [{"type": "text", "text": self._turn.text}]
        shown += [{"type": "image", "url": url} for url in self._turn.images]
        shown += [{"type": "localImage", "path": path} for path in self._turn.local_images]
        await self._emit(ItemCompleted(self._turn_id, Item(item_id, "userMessage", {"content": shown})))

    # -- requests and answers

    async def _converse(self) -> None:
        retries = self._new_retries()
        compacted_for_space = False
        while not self._stop.is_set():
            try:
                if self._live.context.estimate_tokens() >= self._bench.window.compact_at:
                    await self._compact()
                    if self._stop.is_set():
                        return
                follow_up = await self._step()
            except ContextFull:
                # The estimate was too low. One compaction makes room; when that does not help, nothing here will.
                if compacted_for_space:
                    raise
                compacted_for_space = True
                await self._compact()
                continue
            except ModelError as error:
                delay = retries.next_delay(error)
                if delay is None or self._stop.is_set():
                    raise
                await self._emit(Notice(self._turn_id, retries.notice(error)))
                with anyio.move_on_after(delay):
                    await self._stop.wait()
                continue
            if not follow_up:
                return
            retries = self._new_retries()

    def _new_retries(self) -> StreamRetries:
        return StreamRetries(self._bench.provider)

    def _request(self, items: list[dict[str, Any]], *, kind: Literal["turn", "compaction"]) -> ModelRequest:
        live, settings = self._live, self._live.settings
        turn = kind == "turn"
        return ModelRequest(
            provider=self._bench.provider,
            model=settings.model,
            input=items,
            thread_id=live.thread_id,
            session_id=live.session_id,
            turn_id=self._turn_id,
            instructions=self._bench.base_instructions,
            tools=self._bench.tools.specs() if turn else (),
            parallel_tool_calls=turn,
            effort=settings.effort,
            summary=settings.summary if settings.summary != "none" else None,
            output_schema=self._turn.output_schema if turn else None,
            window_number=live.context.window.number,
            request_kind=kind,
            turn_state=self._turn_state if turn else None,
        )

    async def _step(self) -> bool:
        """One request and the calls it leads to. Gives whether another request must follow."""
        response = _Response()
        broken: ModelError | None = None
        fatal: list[BaseException] = []
        async with anyio.create_task_group() as calls:
            with self._stoppable():
                try:
                    async with aclosing(self._bench.model.stream(self._request(self._items(), kind="turn"))) as stream:
                        async for event in stream:
                            await self._heard(event, response, calls, fatal)
                except ModelError as error:
                    broken = error
                except Exception as error:  # the log could not take it: calls must not go on unrecorded
                    fatal.append(error)
                    calls.cancel_scope.cancel()
        if fatal:
            raise fatal[0]
        await self._account(response.completed)
        if broken is not None:
            raise broken
        completed = response.completed
        return response.called or (completed is not None and completed.end_turn is False)

    async def _heard(
        self, event: ModelEvent, response: _Response, calls: anyio.abc.TaskGroup, fatal: list[BaseException]
    ) -> None:
        match event:
            case Opened():
                self._turn_state = event.turn_state or self._turn_state
                if event.rerouted_to:
                    await self._emit(Notice(self._turn_id, f"Answered by the model {event.rerouted_to}"))
            case ItemAdded(item) if item.get("type") == "message":
                self._saw_token()
            case ModelText(item_id, text):
                self._saw_token()
                await self._emit(TextDelta(self._turn_id, item_id, text))
            case ReasoningDelta(item_id, text):
                self._saw_token()
                await self._emit(TextDelta(self._turn_id, item_id, text, "reasoning"))
            case ItemDone(_, item):
                self._saw_token()
                await self._finished(item, response, calls, fatal)
            case Completed():
                response.completed = event
            case _:
                pass

    def _saw_token(self) -> None:
        if self._first_token is None:
            self._first_token = self._bench.clock.now()

    async def _finished(
        self, item: dict[str, Any], response: _Response, calls: anyio.abc.TaskGroup, fatal: list[BaseException]
    ) -> None:
        kind = str(item.get("type"))
        if kind == "message" and not item.get("id"):
            item = {**item, "id": self._id("msg")}
        call_kind = _CALLS.get(kind)
        # A call is durable before its tool runs. Messages and reasoning ride with the next durable record: losing
        # them in a power cut loses nothing that anybody acted upon.
        await self._live.record(
            self._lines.model_item(item, now=self._bench.clock.now()), durable=call_kind is not None
        )
        if call_kind is not None:
            response.called = True
            call = ToolCall(
                kind=call_kind,
                name=str(item.get("name") or ""),
                namespace=item.get("namespace"),
                arguments=str(item.get("arguments" if call_kind == "function" else "input") or ""),
                call_id=str(item.get("call_id") or ""),
                item_id=item.get("id"),
            )
            calls.start_soon(self._answer, call, calls, fatal)
            return
        shown = _visible(item)
        if shown is None:
            return
        if shown.type == "agentMessage":
            self._last_message = str(shown.fields["text"]) or self._last_message
        await self._emit(ItemCompleted(self._turn_id, shown))

    async def _answer(self, call: ToolCall, calls: anyio.abc.TaskGroup, fatal: list[BaseException]) -> None:
        try:
            outcome = await self._bench.tools.run(call, self._tool_context)
            await self._record_output(call, outcome)
        except Exception as error:
            # Raised here it would come out of the task group as a group, and the other calls would go on unrecorded.
            fatal.append(error)
            calls.cancel_scope.cancel()

    async def _record_output(self, call: ToolCall, outcome: ToolOutcome) -> None:
        kind, prefix = _OUTPUTS[call.kind]
        output: dict[str, Any] = {
            "type": kind,
            "id": self._id(prefix),
            "call_id": call.call_id,
            "output": outcome.output,
        }
        lines = [self._lines.response_item(output)]
        if outcome.finished is not None:
            # People see the item before the model sees the output, as in Codex' own order.
            lines = [*self._finished_lines(outcome.finished), *lines]
        await self._live.record(lines, durable=False)
        if outcome.aborted:
            self._stop.set()

    def _finished_lines(self, done: Finished) -> list[Line]:
        # A command that an earlier turn left running may end in this one; its item belongs to the turn it began in.
        owner = msgspec.structs.replace(self._lines, turn_id=done.turn_id)
        return owner.finished(done.recorded, started_ms=done.started_at_ms, completed_ms=done.completed_at_ms)

    async def _collect(self) -> list[Line]:
        """What became of commands that were left running."""
        ended = await self._bench.tools.collect(self._tool_context)
        return [line for done in ended for line in self._finished_lines(done)]

    async def _account(self, completed: Completed | None) -> None:
        """Record the token counts of a step; the record also makes everything of the step durable."""
        usage = completed.usage if completed is not None else None
        context = self._live.context
        if completed is None or usage is None:
            await self._live.record([])
            return
        await self._live.record(self._used(completed.response_id, usage))
        await self._emit(UsageUpdated(self._turn_id, usage, context.usage, self._bench.window.usable))

    def _used(self, response_id: str, usage: Usage | None) -> list[Line]:
        """The token counts of a response, added to those of the turn."""
        if usage is None:
            return []
        self._usage = self._usage.plus(usage)
        return self._lines.usage(
            response_id,
            last=usage,
            turn=self._usage,
            total=self._live.context.usage.plus(usage),
            context_window=self._bench.window.usable,
        )

    # -- compaction

    async def _compact(self) -> None:
        started = self._bench.clock.now()
        shown = Item(self._bench.ids.uuid7(), "contextCompaction", {})
        await self._emit(ItemStarted(self._turn_id, shown))
        context, settings = self._live.context, self._live.settings
        messages, state = initial(self._bench.surroundings)
        made: list[Compaction] = []
        with self._stoppable():
            compaction = await summarise(
                self._bench.model,
                self._items(),
                lambda items: self._request(items, kind="compaction"),
                prompt=settings.compact_prompt or self._bench.compact_prompt,
                context_messages=[self._with_id(message) for message in messages],
                new_id=lambda: self._id("msg"),
                retries=self._new_retries(),
                notify=lambda text: self._emit(Notice(self._turn_id, text)),
            )
            made.append(compaction)
        if not made:
            return  # the turn was stopped meanwhile
        compaction = made[0]
        window = context.window
        lines = self._used(compaction.response_id, compaction.usage)
        total = context.usage.plus(compaction.usage) if compaction.usage is not None else context.usage
        lines += self._lines.compacted(
            compaction.message,
            compaction.replacement,
            window_number=window.number + 1,
            first_window_id=window.first_id or window.id,
            previous_window_id=window.id,
            window_id=self._bench.ids.uuid7(),
            state=state,
            settings=settings,
            item_id=shown.id,
            total=total,
            last=Usage(total_tokens=sum(estimated_tokens(ContextItem.of(item)) for item in compaction.replacement)),
            context_window=self._bench.window.usable,
            started=started,
            now=self._bench.clock.now(),
        )
        await self._live.record(lines)
        if compaction.usage is not None:
            await self._emit(UsageUpdated(self._turn_id, compaction.usage, total, self._bench.window.usable))
        await self._emit(ItemCompleted(self._turn_id, shown))

    # -- ends

    async def _completed(self, error: ModelError | None) -> TurnResult:
        now = self._bench.clock.now()
        failed = TurnError(error.message, error.kind) if error is not None else None
        lines = await self._collect()
        lines += self._lines.completed(
            None if error is not None else self._last_message,
            started=self._started,
            now=now,
            first_token=self._first_token,
            error=failed,
        )
        await self._live.record(lines)
        return TurnResult(
            thread_id=self._live.thread_id,
            turn_id=self._turn_id,
            status="failed" if error is not None else "completed",
            last_message=self._last_message,
            error=TurnError(error.explained(), error.kind, error.detail) if error is not None else None,
            usage=self._usage,
        )

    async def _interrupted(self) -> TurnResult:
        marker = self._with_id(
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": _MARKER}]}
        )
        lines = await self._collect()
        lines += self._lines.aborted(marker, started=self._started, now=self._bench.clock.now())
        await self._live.record(lines)
        return TurnResult(
            thread_id=self._live.thread_id,
            turn_id=self._turn_id,
            status="interrupted",
            last_message=self._last_message,
            usage=self._usage,
        )

    def _id(self, prefix: str) -> str:
        return f"{prefix}_{self._bench.ids.uuid7()}"

    def _with_id(self, message: dict[str, Any]) -> dict[str, Any]:
        return {"type": "message", "id": self._id("msg"), **message}

    def _items(self) -> list[dict[str, Any]]:
        return self._live.context.request_items(
            openai=self._bench.provider.name == "OpenAI", policy=self._bench.output_policy
        )


class _Response:
    """What is known of the response that streams now."""

    def __init__(self) -> None:
        self.called = False
        self.completed: Completed | None = None


def _visible(item: dict[str, Any]) -> Item | None:
    """What a person sees of an item the model finished."""
    if item.get("type") == "message" and item.get("role") == "assistant":
        parts = cast("list[dict[str, Any]]", item.get("content") or [])
        text = "".join(str(part.get("text", "")) for part in parts if part.get("type") == "output_text")
        return Item(str(item.get("id")), "agentMessage", {"text": text, "phase": item.get("phase")})
    if item.get("type") == "reasoning":
        summary = [str(part.get("text", "")) for part in cast("list[dict[str, Any]]", item.get("summary") or [])]
        content = [str(part.get("text", "")) for part in cast("list[dict[str, Any]]", item.get("content") or [])]
        return Item(str(item.get("id")), "reasoning", {"summary": summary, "content": content})
    return None
