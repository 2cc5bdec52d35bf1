"""Approval questions on their way to whoever sits behind the client, and the answers back.

A turn asks through its `Approver`. In the handshake era (up to 2025-11-25) the question goes out at once as an
`elicitation/create` request that carries the standard form and, beside it, the members of the older dialect. In the
2026-07-28 era a server may not ask by itself: the question waits here, the running call is answered with
`input_required`, and the client calls again with the answer. Whoever cannot be asked has refused.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, cast

import anyio
import mcp_types as types

from clew.events import ApprovalRequest, Decision
from clew.ids import is_uuid
from clew.server.mcp.wire import RequestRefused, Wire

__all__ = [
    "Asking",
    "ClientApprover",
    "Question",
    "Questions",
    "RequestState",
    "decision_of",
    "input_request",
    "question_text",
    "script_of",
]

_log = logging.getLogger(__name__)

_CHOICES = {"once": Decision.ONCE, "session": Decision.SESSION, "no": Decision.DENY}
_OLD_WORDS = {
    "approved": Decision.ONCE,
    "approved_for_session": Decision.SESSION,
    "denied": Decision.DENY,
    "abort": Decision.ABORT,
    "timed_out": Decision.DENY,
}


class Asking(Enum):
    """How the caller of a turn can be asked."""

    REQUEST = "by a request to the client"
    RESULT = "by the result of its call"
    NOT = "not at all"


@dataclass(slots=True)
class Question:
    """An approval question that waits for its answer."""

    key: str
    request: ApprovalRequest
    decided: anyio.Event = field(default_factory=anyio.Event)
    decision: Decision = Decision.DENY

    def settle(self, decision: Decision) -> None:
        """Answer it; only the first answer counts."""
        if not self.decided.is_set():
            self.decision = decision
            self.decided.set()


class Questions:
    """The questions that wait, by turn."""

    def __init__(self) -> None:
        self._waiting: dict[str, Question] = {}
        self._asked = anyio.Event()
        self._count = 0
        self._closed = False

    def open(self, request: ApprovalRequest) -> Question:
        self._count += 1
        question = Question(f"approval-{self._count}", request)
        if self._closed:
            question.settle(Decision.DENY)
        else:
            self._waiting[question.key] = question
            self._asked.set()
            self._asked = anyio.Event()
        return question

    async def answer(self, question: Question, *, seconds: float) -> bool:
        """Wait until it is decided, `seconds` at most (0: for ever); tells whether it was."""
        try:
            with anyio.move_on_after(seconds or None):
                await question.decided.wait()
            return question.decided.is_set()
        finally:
            self._waiting.pop(question.key, None)

    def of(self, turn_id: str) -> list[Question]:
        return [
            question
            for question in self._waiting.values()
            if question.request.turn_id == turn_id and not question.decided.is_set()
        ]

    async def asked(self, turn_id: str) -> list[Question]:
        """Wait until the turn has a question."""
        while not (questions := self.of(turn_id)):
            await self._asked.wait()
        return questions

    def get(self, key: str) -> Question | None:
        return self._waiting.get(key)

    def withdraw(self, turn_id: str) -> None:
        """The turn is being stopped: nothing of it is approved any more."""
        for question in self.of(turn_id):
            question.settle(Decision.DENY)

    def close(self) -> None:
        """Nobody is there to answer any more."""
        self._closed = True
        for question in list(self._waiting.values()):
            question.settle(Decision.DENY)


class ClientApprover:
    """Asks the client of one call. `request_id` is that of the call, `timeout` the seconds an answer may take (0: no
    end); `refusals` collects why nobody was asked."""

    def __init__(
        self,
        questions: Questions,
        wire: Wire,
        asking: Asking,
        *,
        request_id: types.RequestId | None,
        timeout: float,
    ) -> None:
        self._questions = questions
        self._wire = wire
        self._asking = asking
        self._request_id = request_id
        self._timeout = timeout
        self.refusals: list[str] = []

    async def decide(self, request: ApprovalRequest) -> Decision:
        if self._asking is Asking.NOT:
            self._refused("this client cannot be asked (it declares no elicitation)")
            return Decision.DENY
        question = self._questions.open(request)
        async with anyio.create_task_group() as group:
            if self._asking is Asking.REQUEST and not question.decided.is_set():
                group.start_soon(self._elicit, question)
            if not await self._questions.answer(question, seconds=self._timeout):
                question.settle(Decision.DENY)
                self._refused(f"nobody answered within {self._timeout:g} s")
            group.cancel_scope.cancel()
        return question.decision

    async def _elicit(self, question: Question) -> None:
        try:
            reply = await self._wire.request("elicitation/create", _elicitation(question.request, self._request_id))
        except RequestRefused as error:
            self._refused(f"the client did not answer: {error}")
            question.settle(Decision.DENY)
            return
        question.settle(decision_of(reply))

    def _refused(self, why: str) -> None:
        _log.info("an approval was refused: %s", why)
        text = f"An approval was refused without asking anyone: {why}."
        if text not in self.refusals:
            self.refusals.append(text)


def decision_of(reply: Mapping[str, Any]) -> Decision:
    """The decision in a reply of either shape. What cannot be understood is a refusal."""
    if "decision" in reply:
        return _old_decision(reply["decision"])
    if reply.get("action") != "accept":
        return Decision.DENY
    content = reply.get("content")
    chosen: Any = cast("dict[str, Any]", content).get("decision", "once") if isinstance(content, dict) else "once"
    if isinstance(chosen, str) and chosen in _CHOICES:
        return _CHOICES[chosen]
    return _old_decision(chosen)


def _old_decision(word: Any) -> Decision:
    if isinstance(word, str):
        return _OLD_WORDS.get(word, Decision.DENY)
    # The older dialect could widen the policy for good; here that holds for the session.
    if isinstance(word, dict) and "approved_execpolicy_amendment" in word:
        return Decision.SESSION
    return Decision.DENY


def question_text(request: ApprovalRequest) -> str:
    """The question as a person reads it."""
    if request.kind == "command":
        return f"Allow Codex to run `{shlex.join(request.command)}` in `{request.cwd}`?"
    asked = "Allow Codex to apply proposed code changes?"
    return f"{request.reason}\n{asked}" if request.reason else asked


def _schema(request: ApprovalRequest) -> dict[str, Any]:
    about = ["Runs outside the sandbox."] if request.escalated else []
    if request.kind == "command" and request.reason:
        about.append(f"Reason given: {request.reason}")
    if request.kind == "patch":
        about.append("Files: " + ", ".join(sorted(request.changes)))
    choice: dict[str, Any] = {
        "type": "string",
        "title": "Decision",
        "description": " ".join(about) or "Whether it may run.",
        "enum": list(_CHOICES),
        "enumNames": ["Yes, this once", "Yes, for the rest of the session", "No"],
        "default": "once",
    }
    return {"type": "object", "properties": {"decision": choice}}


def _elicitation(request: ApprovalRequest, request_id: types.RequestId | None) -> dict[str, Any]:
    """The parameters of `elicitation/create`: the standard form and the older members together."""
    params: dict[str, Any] = {
        "message": question_text(request),
        "requestedSchema": _schema(request),
        "threadId": request.thread_id,
        "codex_elicitation": "exec-approval" if request.kind == "command" else "patch-approval",
        "codex_mcp_tool_call_id": "" if request_id is None else str(request_id),
        "codex_event_id": request.turn_id,
        "codex_call_id": request.call_id,
    }
    if request.kind == "command":
        params["codex_command"] = list(request.command)
        params["codex_cwd"] = request.cwd
        params["codex_parsed_cmd"] = [{"type": "unknown", "cmd": script_of(request.command)}]
    else:
        params["codex_changes"] = request.changes
        if request.reason:
            params["codex_reason"] = request.reason
    return params


def script_of(command: tuple[str, ...] | list[str]) -> str:
    """What a person would have typed: the script of a `bash -lc SCRIPT`, else the quoted command."""
    if len(command) == 3 and command[1] in ("-c", "-lc"):
        return command[2]
    return shlex.join(command)


def input_request(question: Question) -> types.ElicitRequest:
    """The question as a part of an `input_required` result."""
    return types.ElicitRequest(
        params=types.ElicitRequestFormParams(
            message=question_text(question.request), requested_schema=_schema(question.request)
        )
    )


class RequestState:
    """Opaque states that lead a repeated call back to its turn. Signed with a key of this process."""

    _PREFIX = "clew1"

    def __init__(self) -> None:
        self._key = os.urandom(32)

    def seal(self, tool: str, thread_id: str, turn_id: str) -> str:
        return f"{self._PREFIX}.{thread_id}.{turn_id}.{self._mark(tool, thread_id, turn_id)}"

    def unseal(self, tool: str, state: str) -> tuple[str, str, bool] | None:
        """Thread, turn and whether this process made the state for this tool; None for anything else."""
        parts = state.split(".")
        if len(parts) != 4 or parts[0] != self._PREFIX or not (is_uuid(parts[1]) and is_uuid(parts[2])):
            return None
        _, thread_id, turn_id, mark = parts
        ours = hmac.compare_digest(mark.encode(), self._mark(tool, thread_id, turn_id).encode())
        return thread_id, turn_id, ours

    def _mark(self, tool: str, thread_id: str, turn_id: str) -> str:
        digest = hmac.new(self._key, f"{tool}\n{thread_id}\n{turn_id}".encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")
