"""Cases to begin with, and ways to damage them: of bytes, of lines, and of the values in a line."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from reader_target import Case, CaseFile, is_rollout

from clew.rollout import Home
from clew.testing.builders import ERAS, Call, ThreadBuilder
from clew.testing.disk import MemoryFileSystem
from clew.testing.homes import write_every_shape

__all__ = ["built_cases", "mutated", "recorded_cases"]

_BIGGEST = 120_000
_BYTES = [b"\n", b"\0", b"\xff", b'"', b"{", b"}", b"[", b"\\", b"\r\n", b"\xef\xbb\xbf", b",", b"9", b"\xed\xa0\x80"]
_VALUES: list[Any] = [
    None, True, False, 0, -1, 1.5, 2**53, 2**63, 2**64, -(2**63), 10**400, 1e308, float("inf"), float("nan"), "", "x",
    "\ud800", "a\udc00b", "\0", [], {}, [[]], [{}], {"type": None}, {"type": "message"}, ["a", None, {"text": "b"}],
]  # fmt: skip
_WORDS = [
    "session_meta", "response_item", "event_msg", "turn_context", "compacted", "world_state", "token_usage_record",
    "inter_agent_communication", "task_started", "task_complete", "turn_aborted", "user_message", "agent_message",
    "item_completed", "thread_rolled_back", "token_count", "thread_settings_applied", "error", "patch_apply_end",
    "context_compacted", "entered_review_mode", "exited_review_mode", "web_search_end", "mcp_tool_call_end",
    "exec_command_end", "sub_agent_activity", "agent_reasoning", "message", "reasoning", "function_call",
    "function_call_output", "custom_tool_call", "tool_search_call", "local_shell_call", "compaction", "user",
    "assistant", "developer", "system", "paginated", "legacy", "state", "UserMessage", "AgentMessage", "FileChange",
    "CommandExecution", "McpToolCall", "WebSearch", "Reasoning", "HookPrompt", "CollabAgentToolCall", "input_text",
    "input_image", "danger-full-access", "managed", "disabled", "file:///tmp/%ff", "file://[", "future_thing",
    "<environment_context>x</environment_context>", '<hook_prompt hook_run_id="a">b</hook_prompt>',
]  # fmt: skip
_KEYS = [
    "type", "payload", "ordinal", "timestamp", "metadata", "record_type", "id", "turn_id", "item", "content", "text",
    "role", "call_id", "output", "history_base", "history_mode", "replacement_history", "num_turns", "thread_settings",
    "error", "changes", "result", "invocation", "summary", "state", "full", "window_id", "window_number", "images",
    "git", "source", "subagent_history_start_ordinal", "sandbox_policy", "permission_profile", "action", "usage",
    "info", "images", "status", "codex_error_info", "agents_states", "fragments", "target", "review_output", "cwd",
]  # fmt: skip

_Rng = random.Random


def built_cases() -> list[Case]:
    """Every era and shape, each with the files it refers to, plain and compressed, in memory and on disk."""
    home = Home(MemoryFileSystem(), Path("/seeds"))
    made = write_every_shape(home)
    cases: list[Case] = []
    groups = [[thread] for thread in made.values()]
    groups.append([made["forked"], made["referencing fork"]])
    source = ThreadBuilder("0.169", seed=77).turn("First?", "One.").compact("Sum.").turn("Second?", calls=[Call("ls")])
    child = source.fork(before=1).turn("First? again", "Two.")
    groups.append([source, child, child.fork().turn("Third?", "Three.", reasoning="Hm.")])
    for number, era in enumerate(ERAS):
        calls = [Call("ls", "a.txt"), Call("patch", [{"type": "input_text", "text": "done"}], custom=True)]
        thread = ThreadBuilder(era, seed=90 + number).turn("First?", "One.", calls=calls, reasoning="Thinking.")
        groups.append([thread.turn("Second?", None, status="interrupted").turn("Third?", None, status="failed")])
    groups.append([_events()])
    for group in groups:
        files = [
            CaseFile(
                str(home.new_path(thread.id, segment.began, segment.segment_id).relative_to(home.path)), segment.data
            )
            for thread in group
            for segment in thread.segments
        ][:3]
        cases.append(Case(tuple(files)))
        cases.append(Case(tuple(CaseFile(f"{file.path}.zst", file.data) for file in files)))
    named = cases[0].files[0]
    row = json.dumps({"id": named.path[-42:-6], "thread_name": "a name", "updated_at": "2026-07-01T12:00:00Z"})
    cases.append(Case((named, CaseFile("session_index.jsonl", row.encode() + b"\n")), on_disk=True))
    saved = {"entries": {"a name": {"name": "a name", "conversationId": named.path[-42:-6], "rolloutPath": "/x"}}}
    cases.append(Case((named, CaseFile("saved_sessions.json", json.dumps(saved).encode())), on_disk=True))
    import zstandard

    packed = CaseFile(f"{named.path}.zst!", zstandard.ZstdCompressor().compress(named.data))
    return [*cases, Case((packed,)), Case((packed,), on_disk=True)]


def _events() -> ThreadBuilder:
    """A legacy thread with the events that ordinary turns do not have."""
    thread = ThreadBuilder("0.142", seed=66).turn("First?", "One.")
    thread.line("event_msg", {"type": "task_started", "turn_id": "t"})
    events: list[dict[str, Any]] = [
        {"type": "patch_apply_end", "call_id": "p", "success": True, "changes": {"a": {"type": "update"}}},
        {"type": "exec_command_end", "call_id": "e", "command": ["ls"], "exit_code": 1, "duration": {"secs": 1}},
        {"type": "mcp_tool_call_end", "call_id": "m", "invocation": {"server": "s"}, "result": {"Ok": {"is_error": 1}}},
        {"type": "web_search_end", "call_id": "w", "query": "q", "action": {"type": "search"}},
        {"type": "sub_agent_activity", "id": "a", "agents_states": {"x": "running"}},
        {"type": "entered_review_mode", "target": {"instructions": "i"}},
        {"type": "exited_review_mode", "review_output": {"findings": [{"title": "t", "code_location": {}}]}},
        {"type": "agent_reasoning_raw_content", "text": "raw"},
        {"type": "item_completed", "turn_id": "t", "item": {"type": "Plan", "id": "i", "text": "p"}},
        {"type": "error", "message": "m", "codex_error_info": {"http": 1}},
        {"type": "thread_rolled_back", "num_turns": 0},
    ]
    for event in events:
        thread.line("event_msg", event)
    thread.line("inter_agent_communication", {"author": "a", "recipient": "b", "content": "c"})
    return thread.line("event_msg", {"type": "task_complete", "turn_id": "t", "error": {"message": "m"}})


def recorded_cases(corpus: Path) -> Iterator[Case]:
    """The homes of the corpus that are small enough."""
    for part in ("codex", "codex-extra"):
        for home in sorted((corpus / part).glob("*/*/home")):
            files: list[CaseFile] = []
            for path in sorted(home.rglob("rollout-*"))[:3]:
                name = str(path.relative_to(home))
                if is_rollout(name) and path.is_file():
                    files.append(CaseFile(name + "!" * name.endswith(".zst"), path.read_bytes()))
            if files and sum(len(file.data) for file in files) < _BIGGEST:
                yield Case(tuple(files))


def mutated(case: Case, rng: _Rng, others: list[Case]) -> Case:
    """The case with one to eight changes, most of them in one file."""
    files = list(case.files)
    place = rng.randrange(len(files))
    data = files[place].data
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        if rng.random() < 0.1:
            files[place] = CaseFile(files[place].path, data)
            place = rng.randrange(len(files))
            data = files[place].data
        data = rng.choice(_CHANGES)(data, rng, others)[: 2 * _BIGGEST]
    files[place] = CaseFile(files[place].path, data)
    return Case(tuple(files), on_disk=case.on_disk if rng.random() < 0.9 else not case.on_disk)


def _byte(data: bytes, rng: _Rng, _: list[Case]) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice((rng.randbytes(1), rng.choice(_BYTES))) + data[at + rng.randrange(2) :]


def _cut(data: bytes, rng: _Rng, _: list[Case]) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at + rng.choice((1, 2, 7, 64, 512, 4096)) :]


def _end(data: bytes, rng: _Rng, _: list[Case]) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _zeros(data: bytes, rng: _Rng, _: list[Case]) -> bytes:
    at = rng.randrange(len(data) + 1)
    length = rng.choice((1, 16, 512))
    return data[:at] + bytes(length) + data[at + length * rng.randrange(2) :]


def _lines(data: bytes, rng: _Rng, others: list[Case]) -> bytes:
    lines = data.splitlines(keepends=True)
    if not lines:
        return data
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(6):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, lines[other])
        case 2:
            lines[at], lines[other] = lines[other], lines[at]
        case 3:
            lines[at] = lines[at].rstrip(b"\n")
        case 4:
            strange = rng.choice(rng.choice(others).files).data.splitlines(keepends=True) or [b"\n"]
            lines.insert(at, rng.choice(strange))
        case _:
            lines[at:at] = lines[min(at, other) : max(at, other)]
    return b"".join(lines)


def _value(data: bytes, rng: _Rng, _: list[Case]) -> bytes:
    """One value of one line becomes another one."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    try:
        value: Any = json.loads(lines[at])
    except (ValueError, RecursionError):
        return data
    if not isinstance(value, dict):
        return data
    parent: Any = cast("dict[str, Any]", value)
    while True:
        named = cast("dict[str, Any]", parent) if isinstance(parent, dict) else cast("dict[str, Any]", {})
        places: list[Any] = list(named or range(len(cast("list[Any]", parent))))
        if not places:
            break
        place: Any = rng.choice(places)
        if isinstance(parent[place], dict | list) and parent[place] and rng.random() < 0.75:
            parent = cast("Any", parent[place])
            continue
        match rng.randrange(8):
            case 0:
                del parent[place]
            case 1 | 2 | 3:
                parent[place] = rng.choice(_WORDS)
            case 4:
                parent[place] = json.loads("[" * 900 + "]" * 900) if rng.random() < 0.2 else [parent[place]]
            case 5 if named:
                named[rng.choice(_KEYS)] = named.pop(place)
            case 6 if named:
                named[rng.choice(_KEYS)] = rng.choice((rng.choice(_WORDS), rng.choice(_VALUES)))
            case _:
                parent[place] = rng.choice(_VALUES)
        break
    lines[at] = json.dumps(value, separators=(",", ":"), ensure_ascii=rng.random() < 0.5).encode(
        "utf-8", "surrogatepass"
    )
    return b"\n".join(lines)


_CHANGES: list[Callable[[bytes, _Rng, list[Case]], bytes]] = [
    _byte, _byte, _cut, _end, _zeros, _lines, _lines, _lines, _value, _value, _value, _value, _value, _value
]  # fmt: skip
