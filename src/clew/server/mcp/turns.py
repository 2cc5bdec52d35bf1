"""The tools that run turns, `codex` and `codex-reply`, and `thread_wait`, which listens to one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anyio
import mcp_types as types
from mcp.shared.exceptions import MCPError

from clew.clock import SystemClock
from clew.errors import BadRequest, ClewError, ThreadNotFound
from clew.events import ApprovalAsked, Event, ItemCompleted, OutputDelta, TextDelta, TurnInput, TurnResult
from clew.ids import is_uuid
from clew.server.mcp.approvals import Asking, ClientApprover, Question, decision_of, input_request
from clew.server.mcp.arguments import CodexCall, Fields, ReplyCall, parse_codex, parse_reply, unparsed_thread
from clew.server.mcp.desk import Call, Started
from clew.server.mcp.errors import Refused, result
from clew.server.mcp.events import CodexEvents
from clew.server.mcp.progress import Progress

if TYPE_CHECKING:
    from clew.threads import Thread, Threads, Turn

__all__ = ["Answer", "codex", "codex_reply", "thread_wait"]

Answer = types.CallToolResult | types.InputRequiredResult

_SOURCE = "mcp"
_CATCH_UP = 1.0
"""Seconds that telling what happened before a question may hold it up."""
_BEGIN_WAIT = 2.0
"""Seconds that the answer to a background call waits for its prompt to be recorded."""
_POLL = 0.5
"""Seconds between two looks at a thread that another program writes."""


async def codex(call: Call) -> Answer:
    """Start a thread and run its first turn."""
    asked = parse_codex(call.arguments)
    if (resumed := await _resumed(call)) is not None:
        return await _foreground(call, call.desk.started(resumed), asked)
    config = await call.desk.config(asked.profile)
    settings = config.settings(call.desk.cwd, asked.settings)
    threads = await call.threads()
    given = _input(asked, settings.cwd)
    try:
        thread = await threads.start(settings, source=_SOURCE, originator=_originator(call))
    except ClewError as error:
        raise Refused(f"Failed to start Codex session: {error.explained()}") from error
    return await _turn(call, await _start(call, thread, given, asked, recorded=False), asked)


async def codex_reply(call: Call) -> Answer:
    """Run a further turn of a thread, wherever it came from."""
    asked = parse_reply(call.arguments)
    if (resumed := await _resumed(call)) is not None:
        return await _foreground(call, call.desk.started(resumed), asked)
    async with call.desk.line(asked.thread):
        config = await call.desk.config()
        overrides = config.overrides_named(asked.settings, cwd=call.desk.cwd) if asked.settings else None
        threads = await call.threads()
        try:
            thread = await threads.open(asked.thread, config.settings(call.desk.cwd), overrides)
        except ThreadNotFound as error:
            if is_uuid(asked.thread) or error.nothing_yet:
                raise
            raise unparsed_thread(asked.thread) from None
        started = await _start(call, thread, _input(asked, thread.settings.cwd), asked, recorded=True)
    return await _turn(call, started, asked)


async def thread_wait(call: Call) -> Answer:
    """The result of the running turn of a thread, or of its last one."""
    fields = Fields(call.arguments, ("threadId", "timeout", "include-thread-id"))
    reference, timeout = fields.thread(), fields.seconds("timeout", 60.0)
    named = fields.flag("include-thread-id") or False
    threads = await call.threads()
    turn = await _resumed(call)
    thread_id = turn.thread_id if turn is not None else (await threads.status(reference)).thread_id
    if turn is None:
        turn = threads.running(thread_id)
    progress = await _progress(call, thread_id)
    if turn is not None:
        outcome = await _follow(call, Started(turn), progress, within=timeout)
        if isinstance(outcome, TurnResult):
            return _placed(_ended(outcome, turn.notices, named=named), outcome.turn_id, outcome.status)
        return _input_required(call, turn, outcome) if outcome else _still(turn)
    return await _recorded(threads, thread_id, progress, within=timeout, named=named)


def _originator(call: Call) -> str:
    client = call.context.session.client_params
    return client.client_info.name if client is not None else "mcp"


def _input(asked: CodexCall | ReplyCall, cwd: str) -> TurnInput:
    images, files = list[str](), list[str]()
    for image in asked.images:
        if image.startswith(("data:", "http://", "https://")):
            images.append(image)
            continue
        path = Path(cwd, image.removeprefix("file://"))
        if not path.is_file():
            raise BadRequest("images", f"there is no file {path}")
        files.append(str(path))
    return TurnInput(
        text=asked.prompt,
        images=tuple(images),
        local_images=tuple(files),
        output_schema=asked.output_schema,
        trigger=_SOURCE,
    )


async def _start(
    call: Call, thread: Thread, given: TurnInput, asked: CodexCall | ReplyCall, *, recorded: bool
) -> Started:
    """Ask for a turn. `recorded`: the thread has a rollout already."""
    options = await call.desk.options()
    events: CodexEvents | None = None
    if asked.events if asked.events is not None else options.codex_events:
        events = CodexEvents(call.desk.wire, request_id=call.request_id, thread_id=thread.id, clock=SystemClock())
        summary = await (await call.threads()).summary(thread.id) if recorded else None
        await events.configured(thread.settings, rollout_path=summary.path if summary else None)
    approver = ClientApprover(
        call.desk.questions,
        call.desk.wire,
        call.asking,
        request_id=call.request_id,
        timeout=options.approval_timeout_seconds,
    )
    # No checkpoint from here to the place that interrupts it: a cancelled call leaves no turn behind.
    started = Started(thread.run(given, approver=approver), events, approver.refusals)
    call.desk.remember(started)
    return started


async def _turn(call: Call, started: Started, asked: CodexCall | ReplyCall) -> Answer:
    """Answer for a turn that was asked for: at once, or when it ends or asks."""
    if not asked.background:
        return await _foreground(call, started, asked)
    turn = started.turn
    await _begun(turn)
    text = f"The turn runs in the background; fetch its result with thread_wait for thread {turn.thread_id}."
    return result(
        text,
        thread_id=turn.thread_id,
        notices=turn.notices,
        extra={"turnId": turn.turn_id, "status": _state(turn)},
    )


async def _begun(turn: Turn) -> None:
    """Wait until the prompt is recorded: from then on the turn is on disk, whatever becomes of this process.

    A turn that waits behind others, or for another program, is answered as queued after a moment. Raises what kept it
    from running.
    """
    with anyio.move_on_after(_BEGIN_WAIT):
        async with turn.events() as stream:
            async for event in stream:
                if isinstance(event, ItemCompleted) and event.item.type == "userMessage":
                    return
        await turn.wait()


async def _foreground(call: Call, started: Started, asked: CodexCall | ReplyCall) -> Answer:
    """Answer with the turn's end, or with its question. A call that is cancelled takes its turn along."""
    turn = started.turn
    if started.events is not None:
        started.events.continued(call.request_id)
    try:
        progress = await _progress(call, turn.thread_id)
        outcome = await _follow(call, started, progress, within=None)
    except anyio.get_cancelled_exc_class():
        call.desk.interrupt(turn)
        raise
    if isinstance(outcome, TurnResult):
        return _ended(outcome, [*turn.notices, *started.refusals], named=asked.include_thread_id)
    assert outcome, "without a time limit a turn ends or asks"
    return _input_required(call, turn, outcome)


async def _progress(call: Call, thread_id: str) -> Progress:
    options = await call.desk.options()
    token = call.progress_token
    session = call.context.session

    async def report(number: float, message: str) -> None:
        await session.report_progress(number, message=message)

    progress = Progress(
        None if token is None else report, interval=options.progress_interval_seconds, clock=SystemClock()
    )
    await progress.say(f"thread {thread_id}")
    return progress


async def _follow(
    call: Call, started: Started, progress: Progress, *, within: float | None
) -> TurnResult | list[Question]:
    """Listen to a turn until it ends, or asks what only the answer to this call can carry, or the time is over (then
    an empty list). Raises what kept the turn from running."""
    turn = started.turn
    outcome: TurnResult | list[Question] = []
    failure: Exception | None = None

    told: set[str] = set()
    news = anyio.Event()

    async def listen() -> None:
        nonlocal outcome, failure, news
        async with turn.events() as stream:
            replayed = started.heard
            async for event in stream:
                if replayed and not isinstance(event, TextDelta | OutputDelta):
                    replayed -= 1
                else:
                    await tell(event)
                if isinstance(event, ApprovalAsked):
                    told.add(event.request.call_id)
                    news.set()
                    news = anyio.Event()
        try:
            outcome = await turn.wait()
        except Exception as error:  # raised here it would come out as a group
            failure = error
        group.cancel_scope.cancel()

    async def tell(event: Event) -> None:
        if not isinstance(event, TextDelta | OutputDelta):
            started.heard += 1
        if started.events is not None:
            await started.events.see(event)
        await progress.see(event)

    async def asked() -> None:
        nonlocal outcome
        questions = await call.desk.questions.asked(turn.turn_id)
        with anyio.move_on_after(_CATCH_UP):
            # What happened before the question belongs before it.
            while not {question.request.call_id for question in questions} <= told:
                await news.wait()
        outcome = questions
        group.cancel_scope.cancel()

    with anyio.move_on_after(within):
        async with anyio.create_task_group() as group:
            group.start_soon(progress.keep_alive)
            if call.asking is Asking.RESULT:
                group.start_soon(asked)
            group.start_soon(listen)
    if failure is not None:
        raise failure
    return outcome


def _ended(ended: TurnResult, notices: Sequence[str], *, named: bool) -> types.CallToolResult:
    match ended.status:
        case "failed":
            text = ended.error.message if ended.error else "The turn failed."
        case "interrupted":
            text = "The turn was interrupted."
            if ended.last_message:
                text += f" Its last message was: {ended.last_message}"
        case _:
            text = ended.last_message or ""
    return result(
        text,
        thread_id=ended.thread_id,
        error=ended.status != "completed",
        notices=notices,
        shown=f"{text}\n\nthread {ended.thread_id}".lstrip() if named else None,
    )


def _placed(answer: types.CallToolResult, turn_id: str, status: str) -> types.CallToolResult:
    """The answer with its turn and that turn's status in the structured part."""
    structured: dict[str, Any] = {**answer.structured_content, "turnId": turn_id, "status": status}
    return answer.model_copy(update={"structured_content": structured})


def _state(turn: Turn) -> str:
    return "queued" if turn.state == "queued" else "running"


def _still(turn: Turn) -> types.CallToolResult:
    return result(
        f"The turn is still {_state(turn)}; call thread_wait again.",
        thread_id=turn.thread_id,
        extra={"turnId": turn.turn_id, "status": _state(turn)},
    )


def _input_required(call: Call, turn: Turn, questions: Sequence[Question]) -> types.InputRequiredResult:
    requests: dict[str, types.InputRequest] = {question.key: input_request(question) for question in questions}
    return types.InputRequiredResult(
        input_requests=requests, request_state=call.desk.states.seal(call.tool, turn.thread_id, turn.turn_id)
    )


async def _resumed(call: Call) -> Turn | None:
    """The turn a repeated call belongs to, after the answers it brings were handed over; None for a first call.

    The answers count only with a state that this process signed: it is what ties them to a turn.
    """
    state: Any = call.raw.get("requestState")
    if state is None or not call.modern:
        return None
    opened = call.desk.states.unseal(call.tool, state) if isinstance(state, str) else None
    if opened is None:
        raise MCPError(code=types.INVALID_PARAMS, message="requestState was not made by this server")
    thread_id, turn_id, ours = opened
    turn = (await call.threads()).turn(turn_id) if ours else None
    if turn is None:
        raise LostTurn(thread_id)
    responses: Any = call.raw.get("inputResponses")
    for key, reply in cast("dict[str, Any]", responses if isinstance(responses, dict) else {}).items():
        question = call.desk.questions.get(key)
        if question is not None and question.request.turn_id == turn_id and isinstance(reply, dict):
            question.settle(decision_of(cast("dict[str, Any]", reply)))
    return turn


class LostTurn(ClewError):
    """The turn that waited for an answer is gone, with the process it ran in or long since ended."""

    def __init__(self, thread_id: str) -> None:
        super().__init__(
            f"the turn that waited for this answer is gone: the server was restarted since, or it ended long ago. "
            f"What it had asked for was not run because of this answer. Thread {thread_id} can be continued",
            hint="Call codex-reply with its threadId.",
            thread_id=thread_id,
        )


async def _recorded(
    threads: Threads, thread_id: str, progress: Progress, *, within: float, named: bool
) -> types.CallToolResult:
    """The last recorded result; waits while another program still writes the thread."""
    status = await threads.status(thread_id)
    with anyio.move_on_after(within):
        async with anyio.create_task_group() as group:
            group.start_soon(progress.keep_alive)
            while status.state == "held":
                await anyio.sleep(_POLL)
                status = await threads.status(thread_id)
            group.cancel_scope.cancel()
    if status.state == "held":
        holder = str(status.owner) if status.owner else "another program"
        return result(
            f"The thread is being written by {holder}; call thread_wait again.",
            thread_id=thread_id,
            extra={"status": "running", **({"turnId": status.turn_id} if status.turn_id else {})},
        )
    if status.turn_id is None:
        return result("The thread has no turn yet.", thread_id=thread_id)
    page = await threads.read(thread_id, limit=1, newest_first=True)
    last = page.turns[0] if page.turns else None
    recorded = last.status if last is not None else status.turn_status
    # Nothing writes the thread: a turn without an end was cut off with its process.
    ending = recorded if recorded in ("completed", "failed") else "interrupted"
    message = _last_message(last.items) if last is not None else status.last_message
    answer = _ended(
        TurnResult(thread_id=thread_id, turn_id=status.turn_id, status=ending, last_message=message), (), named=named
    )
    if ending == "failed" and last is not None and last.error:
        answer = result(last.error, thread_id=thread_id, error=True)
    return _placed(answer, status.turn_id, ending)


def _last_message(items: Sequence[dict[str, Any]]) -> str | None:
    texts = [item.get("text") for item in items if item.get("type") == "agentMessage"]
    return texts[-1] if texts else None
