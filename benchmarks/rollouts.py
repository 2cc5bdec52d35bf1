"""Threads of any size, built the same way every time: legacy lines as Codex 0.142 wrote them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from clew.clock import utc_stamp
from clew.ids import uuid7_at

__all__ = ["Built", "build"]

_START = 1_780_000_000_000
"""Milliseconds since 1970 at which the first thread begins; every line comes a little later."""

_EVERY = 1_500_000
_BEHIND_THE_LAST = 900_000
"""Bytes between compactions, and behind the last one."""

_WORDS = [
    "the",
    "of",
    "to",
    "and",
    "in",
    "a",
    "is",
    "that",
    "for",
    "it",
    "with",
    "as",
    "on",
    "be",
    "this",
    "error",
    "file",
    "test",
    "function",
    "return",
    "value",
    "list",
    "index",
    "config",
    "update",
    "check",
    "build",
    "import",
    "class",
    "module",
    "path",
    "line",
    "run",
    "fix",
    "add",
    "remove",
    "parser",
    "buffer",
    "socket",
    "worker",
    "queue",
    "thread",
    "record",
    "ledger",
    "window",
    "cursor",
    "digest",
    "kernel",
    "packet",
    "region",
    "vector",
    "matrix",
    "signal",
    "budget",
    "anchor",
    "branch",
    "commit",
    "merge",
]


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """A thread that was built. `live` is how many bytes stand behind its last compaction (all, where there is none)."""

    thread_id: str
    path: Path
    size: int
    turns: int
    calls: int
    compactions: int
    live: int


class _Writer:
    """Lines with a running clock and a running size."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = _START + seed * 86_400_000
        self.size = 0
        self._encoder = msgspec.json.Encoder()
        self._prose = [self._sentence(self.random.randrange(8, 80)) for _ in range(400)]
        self._outputs = [
            "\n".join(self._sentence(12) for _ in range(self.random.randrange(5, 150))) for _ in range(400)
        ]

    def uuid7(self) -> str:
        return uuid7_at(self.now, self.random.randbytes(10))

    def prose(self) -> str:
        return self.random.choice(self._prose)

    def output(self) -> str:
        return self.random.choice(self._outputs)

    def line(self, kind: str, payload: dict[str, Any]) -> bytes:
        self.now += self.random.randrange(1, 40)
        stamp = utc_stamp(self.now / 1000)
        data = self._encoder.encode({"timestamp": stamp, "type": kind, "payload": payload}) + b"\n"
        self.size += len(data)
        return data

    def event(self, kind: str, **fields: Any) -> bytes:
        return self.line("event_msg", {"type": kind, **fields})

    def item(self, kind: str, **fields: Any) -> bytes:
        return self.line("response_item", {"type": kind, **fields})

    def message(self, role: str, text: str) -> bytes:
        part = "output_text" if role == "assistant" else "input_text"
        return self.item("message", role=role, content=[{"type": part, "text": text}])

    def _sentence(self, words: int) -> str:
        return " ".join(self.random.choice(_WORDS) for _ in range(words)) + f" {self.random.randrange(10_000)}"


def build(
    home: Path, cwd: Path, *, megabytes: float, seed: int = 1, provider: str = "mock", model: str = "gpt-5"
) -> Built:
    """Write one thread of that size into a home. It compacts every 1.5 MB, the last time about 0.9 MB before its end;
    smaller ones do not compact."""
    writer = _Writer(seed)
    thread_id = writer.uuid7()
    stamp = utc_stamp(writer.now / 1000)
    day = home / "sessions" / stamp[:4] / stamp[5:7] / stamp[8:10]
    day.mkdir(parents=True, exist_ok=True)
    path = day / f"rollout-{stamp[:19].replace(':', '-')}-{thread_id}.jsonl"
    thread = _Thread(writer, thread_id, str(cwd), provider, model)
    target = int(megabytes * 1_000_000)
    with path.open("wb") as file:
        file.writelines(thread.lines(target))
    return Built(
        thread_id=thread_id,
        path=path,
        size=writer.size,
        turns=thread.turns,
        calls=thread.calls,
        compactions=thread.compactions,
        live=writer.size - thread.compacted_at,
    )


class _Thread:
    def __init__(self, writer: _Writer, thread_id: str, cwd: str, provider: str, model: str) -> None:
        self._writer = writer
        self._id = thread_id
        self._cwd = cwd
        self._provider = provider
        self._model = "gpt-5"
        self._users: list[str] = []
        self._windows = [writer.uuid7()]
        self.turns = 0
        self.calls = 0
        self.compactions = 0
        self.compacted_at = 0

    def lines(self, target: int) -> Iterator[bytes]:
        writer = self._writer
        yield self._header()
        last = target - _BEHIND_THE_LAST
        while writer.size < target:
            before = writer.size
            yield from self._turn()
            if last > _EVERY and (
                before < last <= writer.size or (writer.size < last and writer.size - self.compacted_at > _EVERY)
            ):
                yield from self._compaction()

    def _header(self) -> bytes:
        writer = self._writer
        instructions = "You are a coding agent. Be precise.\n\n" + "\n".join(writer.prose() for _ in range(60))
        return writer.line(
            "session_meta",
            {
                "session_id": self._id,
                "id": self._id,
                "timestamp": utc_stamp(writer.now / 1000),
                "cwd": self._cwd,
                "originator": "codex_cli_rs",
                "cli_version": "0.142.5",
                "source": "cli",
                "model_provider": self._provider,
                "base_instructions": {"text": instructions},
            },
        )

    def _begin(self) -> Iterator[bytes]:
        self._turn_id = self._writer.uuid7()
        self._writer.now += self._writer.random.randrange(2_000, 60_000)
        yield self._writer.event(
            "task_started",
            turn_id=self._turn_id,
            started_at=self._writer.now // 1000,
            model_context_window=258_400,
            collaboration_mode_kind="default",
        )

    def _settings(self) -> bytes:
        return self._writer.line(
            "turn_context",
            {
                "turn_id": self._turn_id,
                "cwd": self._cwd,
                "approval_policy": "never",
                "sandbox_policy": {"type": "danger-full-access"},
                "model": self._model,
                "summary": "auto",
            },
        )

    def _end(self, last: str | None) -> bytes:
        return self._writer.event(
            "task_complete",
            turn_id=self._turn_id,
            last_agent_message=last,
            completed_at=self._writer.now // 1000,
            duration_ms=4_000,
        )

    def _turn(self) -> Iterator[bytes]:
        writer = self._writer
        yield from self._begin()
        if self.turns == 0:
            environment = f"<environment_context>\n  <cwd>{self._cwd}</cwd>\n</environment_context>"
            yield writer.message("user", environment)
        self.turns += 1
        yield self._settings()
        asked = writer.prose()
        self._users.append(asked)
        yield writer.message("user", asked)
        yield writer.event("user_message", message=asked, images=[], local_images=[], text_elements=[])
        for _ in range(writer.random.randrange(2, 20)):
            yield from self._call()
        said = writer.prose()
        yield writer.event("agent_message", message=said, phase=None, memory_citation=None)
        yield writer.message("assistant", said)
        yield self._tokens()
        yield self._end(said)

    def _call(self) -> Iterator[bytes]:
        writer = self._writer
        self.calls += 1
        if writer.random.random() < 0.5:
            thought = writer.prose()
            secret = writer.random.randbytes(writer.random.randrange(150, 1100)).hex()
            yield writer.event("agent_reasoning", text=thought)
            summary = [{"type": "summary_text", "text": thought}]
            yield writer.item("reasoning", summary=summary, content=None, encrypted_content=secret)
        call_id = f"call_{self.calls}"
        arguments = msgspec.json.encode({"cmd": f"rg -n {writer.random.choice(_WORDS)} src"}).decode()
        yield writer.item("function_call", name="exec_command", arguments=arguments, call_id=call_id)
        head = "Wall time: 0.1000 seconds\nProcess exited with code 0\nOutput:\n"
        yield writer.item("function_call_output", call_id=call_id, output=head + writer.output())
        yield self._tokens()

    def _tokens(self) -> bytes:
        used = {
            "input_tokens": 20_000 + self.calls % 50_000,
            "cached_input_tokens": 0,
            "output_tokens": 120,
            "reasoning_output_tokens": 0,
            "total_tokens": 20_120 + self.calls % 50_000,
        }
        info = {"total_token_usage": used, "last_token_usage": used, "model_context_window": 258_400}
        return self._writer.event("token_count", info=info, rate_limits=None)

    def _compaction(self) -> Iterator[bytes]:
        writer = self._writer
        yield from self._begin()
        self.compactions += 1
        self.compacted_at = writer.size
        summary = "Summary of the work so far: " + " ".join(writer.prose() for _ in range(20))
        kept = [*self._users[-80:], summary]
        self._windows.append(writer.uuid7())
        yield writer.line(
            "compacted",
            {
                "message": summary,
                "replacement_history": [
                    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
                    for text in kept
                ],
                "window_number": self.compactions,
                "first_window_id": self._windows[0],
                "previous_window_id": self._windows[-2],
                "window_id": self._windows[-1],
            },
        )
        yield self._settings()
        yield writer.event("context_compacted")
        yield self._tokens()
        yield self._end(None)
