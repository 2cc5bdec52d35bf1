"""A model that follows a script, and what it was told.

The script is a function of the newest user text, not of the order of requests: the same request is answered the same
way by whichever program sends it, also after a kill, and any number of threads can talk to it at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, cast

from clew.testing.endpoint import Gate, Received, ScriptedEndpoint, Step, call, say

__all__ = ["Act", "Endpoint", "Request", "Run", "Say", "Told", "answer"]


@dataclass(frozen=True, slots=True)
class Say:
    """The final message; waits at `gate`, if there is one."""

    text: str
    gate: Gate | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A call that runs a shell command."""

    command: str


Act = Say | Run
Script = Callable[[str], Sequence[Act]]
Told = tuple[str, ...]
"""`("user", text)`, `("assistant", text)`, `("call", call id)` or `("output", call id, text)`."""


def answer(text: str) -> str:
    """What the model says to a text that no script knows."""
    return f"Re: {text}"


@dataclass(frozen=True, slots=True)
class Request:
    """One request to the model."""

    body: dict[str, Any]

    @property
    def told(self) -> list[Told]:
        """What the model is told of the conversation, in order: what people and the model said, calls and outputs.
        Instructions and context messages, which every program words in its own way, are left out."""
        lines = [_line(item) for item in cast("list[dict[str, Any]]", self.body.get("input") or [])]
        return [line for line in lines if line]

    @property
    def users(self) -> list[str]:
        return [line[1] for line in self.told if line[0] == "user"]


class Endpoint:
    """Used with `with`; `url` is the base URL of a provider. `script` gives the acts for a user text; the default
    answers every text with `answer(text)`."""

    def __init__(self, script: Script | None = None) -> None:
        self._scripts: dict[str, Sequence[Act]] = {}
        self._refused: set[str] = set()
        self._default: Script = script or (lambda text: (Say(answer(text)),))
        self._server = ScriptedEndpoint(self._step)

    @property
    def url(self) -> str:
        return self._server.base_url

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()

    def on(self, text: str, *acts: Act) -> str:
        """Script the answer to a user text: calls run in order, then the message. Gives the text back."""
        self._scripts[text] = acts
        return text

    def refuse(self, text: str) -> None:
        """Answer this user text with an error that no retry helps against."""
        self._refused.add(text)

    @property
    def requests(self) -> list[Request]:
        """Every request so far that wanted an answer of the model."""
        return [Request(each.body) for each in self._server.requests if each.path.endswith("/responses")]

    def wait_for_text(self, text: str, *, seconds: float = 20) -> Request:
        """The first request whose newest user text is `text`, waiting for it."""
        deadline = time.monotonic() + seconds
        seen = 0
        while True:
            requests = self.requests
            for request in requests[seen:]:
                if request.users[-1:] == [text]:
                    return request
            seen = len(requests)
            self._server.wait_for_requests(len(self._server.requests) + 1, deadline - time.monotonic())

    def _step(self, received: Received) -> Step:
        request = Request(cast("dict[str, Any]", received.body))
        told = request.told
        newest = max((position for position, line in enumerate(told) if line[0] == "user"), default=-1)
        text = told[newest][1] if newest >= 0 else ""
        if text in self._refused:
            return Step(
                status=400, body={"error": {"message": "refused by the script", "type": "invalid_request_error"}}
            )
        acts = self._scripts.get(text) or self._default(text)
        done = sum(line[0] == "output" for line in told[newest + 1 :])
        act = acts[min(done, len(acts) - 1)]
        if isinstance(act, Run):
            return Step(items=[_shell(act.command, request.body)], deltas=False)
        return Step(items=[say(act.text)], gate=act.gate, piece=8)


def _shell(command: str, body: dict[str, Any]) -> dict[str, Any]:
    """A call of the shell tool that this program offers; a minute is enough for every command of a test."""
    offered = {tool.get("name") for tool in cast("list[dict[str, Any]]", body.get("tools") or [])}
    if "exec_command" in offered:
        return call("exec_command", {"cmd": command, "yield_time_ms": 30_000})
    assert "shell_command" in offered, f"no shell tool among {sorted(str(name) for name in offered)}"
    return call("shell_command", {"command": command, "timeout_ms": 60_000})


def _line(item: dict[str, Any]) -> Told:
    kind = str(item.get("type", "message"))
    if kind == "message":
        role, text = str(item.get("role")), _text(item.get("content"))
        return () if role not in {"user", "assistant"} or (role == "user" and _context(item)) else (role, text)
    if kind.endswith("_call"):
        return ("call", str(item.get("call_id")))
    if kind.endswith("_output"):
        return ("output", str(item.get("call_id")), _text(item.get("output")))
    return ()


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in cast("list[dict[str, Any]]", content or []))


_CONTEXT = ("<environment_context>", "<turn_aborted>", "<user_instructions>", "<skill>", "# AGENTS.md instructions")


def _context(item: dict[str, Any]) -> bool:
    content = cast("list[dict[str, Any]] | str | None", item.get("content"))
    texts = [content] if isinstance(content, str) else [str(part.get("text", "")) for part in content or []]
    return any(text.lstrip().startswith(_CONTEXT) for text in texts)
