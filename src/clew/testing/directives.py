"""Prompts that say what the scripted endpoint answers: for tests that go through a whole program.

    script = Directives()
    with ScriptedEndpoint(script) as endpoint:
        ...   # prompt: "Please go on\\n@exec touch a.txt\\n@say done"

Lines of the newest user message that begin with `@` are followed, one call per request and in order:

    @exec CMD            run a command                  @say TEXT            the final message
    @escalate CMD        ask for full access for it     @think TEXT          reasoning in front of the first answer
    @write PATH TEXT     add a file by a patch          @together            all calls in one response
    @patch               the lines below, up to the     @more                go on once more after the final message
                         next `@`, are a patch          @usage IN OUT        token counts of every response
    @call NAME JSON      any function                   @wait NAME           hold the first answer at gate(NAME)
    @status CODE [N]     an HTTP error, N times         @fail CODE TEXT      a failure event, always
    @drop [N]            break the stream off, N times  @incomplete REASON   an incomplete response, always

N is 1 where it is missing and `-1` for always. A message without directives is answered `reply N`, with the number of
the request.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from clew.history.compaction import is_summary
from clew.history.contextual import is_contextual
from clew.testing.endpoint import Gate, Received, Step, call, custom, say, think

__all__ = ["Directives"]


@dataclass
class _Wish:
    """What one message asks for."""

    calls: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    thoughts: list[str] = field(default_factory=list[str])
    words: list[str] = field(default_factory=list[str])
    faults: list[tuple[Step, int]] = field(default_factory=list[tuple[Step, int]])
    together: bool = False
    more: int = 0
    usage: Mapping[str, Any] | None = None
    gate: str | None = None


class Directives:
    """The script of a `ScriptedEndpoint` that follows directives."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gates: dict[str, Gate] = {}
        self._counts: dict[tuple[str, ...], int] = {}

    def gate(self, name: str) -> Gate:
        """The gate of `@wait NAME`."""
        with self._lock:
            return self._gates.setdefault(name, Gate())

    def __call__(self, received: Received) -> Step:
        """The answer to a request."""
        text, outputs = _newest(received.body)
        wish = _read(text)
        thread = received.headers.get("thread-id", "")
        for place, (step, times) in enumerate(wish.faults):
            if self._count(thread, text, f"fault {place}", times):
                return step
        gate = None
        if wish.gate is not None and self._count(thread, text, "gate", 1):
            gate = self.gate(wish.gate)
        thoughts = [think(thought) for thought in wish.thoughts] if outputs == 0 else []
        if outputs < len(wish.calls):
            due = wish.calls if wish.together else wish.calls[outputs : outputs + 1]
            return Step(items=[*thoughts, *due], usage=wish.usage, gate=gate, gate_after=1)
        said = "\n".join(wish.words) or f"reply {received.number}"
        extra = {"end_turn": False} if wish.more and self._count(thread, text, "more", wish.more) else {}
        return Step(items=[*thoughts, say(said)], usage=wish.usage, extra=extra, gate=gate, gate_after=1)

    def _count(self, thread: str, text: str, what: str, times: int) -> bool:
        """Whether this may happen (again), `times` times for this message of this thread."""
        if times < 0:
            return True
        with self._lock:
            key = (thread, text, what)
            self._counts[key] = self._counts.get(key, 0) + 1
            return self._counts[key] <= times


def _newest(body: object) -> tuple[str, int]:
    """The newest message of the user, and how many tool outputs came after it."""
    text, outputs = "", 0
    fields = cast("dict[str, Any]", body) if isinstance(body, dict) else {}
    for item in cast("Sequence[dict[str, Any]]", fields.get("input") or ()):
        kind = item.get("type", "message")
        if kind == "message" and item.get("role") == "user" and not is_contextual(item) and not is_summary(item):
            content: object = item.get("content")
            parts = cast("Sequence[dict[str, Any]]", content) if isinstance(content, list) else [{"text": content}]
            text, outputs = "\n".join(str(part.get("text") or "") for part in parts), 0
        elif str(kind).endswith("_output"):
            outputs += 1
    return text, outputs


def _read(text: str) -> _Wish:
    wish = _Wish()
    patch: list[str] | None = None
    for line in [*text.splitlines(), "@end"]:
        if not line.startswith("@"):
            if patch is not None:
                patch.append(line)
            continue
        if patch is not None:
            wish.calls.append(custom("apply_patch", "\n".join(patch)))
            patch = None
        name, _, rest = line[1:].partition(" ")
        first, _, others = rest.partition(" ")
        match name:
            case "say":
                wish.words.append(rest)
            case "think":
                wish.thoughts.append(rest)
            case "exec":
                wish.calls.append(call("exec_command", {"cmd": rest}))
            case "escalate":
                asked = {"sandbox_permissions": "require_escalated", "justification": "The test asks for it."}
                wish.calls.append(call("exec_command", {"cmd": rest, **asked}))
            case "write":
                wish.calls.append(
                    custom("apply_patch", f"*** Begin Patch\n*** Add File: {first}\n+{others}\n*** End Patch\n")
                )
            case "patch":
                patch = []
            case "call":
                wish.calls.append(call(first, others or "{}"))
            case "together":
                wish.together = True
            case "more":
                wish.more = 1
            case "usage":
                sent, received = int(first), int(others)
                wish.usage = {"input_tokens": sent, "output_tokens": received, "total_tokens": sent + received}
            case "wait":
                wish.gate = rest
            case "status":
                body = {"error": {"message": f"the script answers {first}"}}
                wish.faults.append((Step(status=int(first), body=body), int(others or 1)))
            case "drop":
                wish.faults.append((Step(items=[say("lost")], drop="reset", drop_after=2), int(rest or 1)))
            case "fail":
                error = {"code": first, "message": others or "the script fails"}
                wish.faults.append((Step(finish="failed", error=error), -1))
            case "incomplete":
                wish.faults.append((Step(items=[say("half")], finish="incomplete", reason=rest), -1))
            case _:
                pass
    return wish
