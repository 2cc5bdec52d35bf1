"""Rollout files and homes of every era and shape, made in code.

    thread = ThreadBuilder("0.169").turn("Hello?", "Hello.").turn("And?", "Done.", calls=[Call("ls", output="a.txt")])
    thread.write(home)

A builder is deterministic: the same calls give the same bytes. What differs between eras (envelope, turn markers,
events or items, ordinals, ids) follows the version it is made for; texts and ids are made up.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import msgspec

from clew.clock import utc_stamp
from clew.ids import uuid7_at
from clew.rollout.envelope import Line, encode_line
from clew.rollout.layout import Home

__all__ = ["ERAS", "Call", "Era", "ThreadBuilder"]

Era = Literal["0.29", "0.36", "0.47", "0.60", "0.79", "0.104", "0.118", "0.142", "0.158", "0.169"]
ERAS: tuple[Era, ...] = ("0.29", "0.36", "0.47", "0.60", "0.79", "0.104", "0.118", "0.142", "0.158", "0.169")

Json = dict[str, Any]

BEGINNING = 1_782_907_200.0  # 2026-07-01T12:00:00Z
STEP = 0.125
WINDOW = 258_400


@dataclass(frozen=True)
class Call:
    """A tool call. `output` None leaves it open. A plain command gets the arguments a shell tool has."""

    command: str = "true"
    output: str | list[Json] | None = ""
    name: str = "exec_command"
    arguments: Json | None = None
    exit_code: int = 0
    custom: bool = False

    def arguments_json(self) -> str:
        return msgspec.json.encode({"cmd": self.command} if self.arguments is None else self.arguments).decode()


@dataclass
class _Segment:
    """One file: its id (None: the first) and when it began, and its lines as they will stand there."""

    segment_id: str | None
    began: float
    lines: list[bytes] = field(default_factory=list[bytes])
    payloads: list[tuple[str, Json]] = field(default_factory=list[tuple[str, Json]])
    tail: bytes = b""

    @property
    def data(self) -> bytes:
        return b"".join(self.lines) + self.tail

    @property
    def size(self) -> int:
        return sum(map(len, self.lines))


@dataclass(frozen=True)
class _Mark:
    """Where a turn begins: the file by the last id of its name, and the place in it."""

    turn_id: str
    rollout_id: str
    offset: int
    ordinal: int
    line: int
    users: int
    tokens: int


class ThreadBuilder:
    """Builds one thread turn by turn. Every method that adds something gives the builder back.

    `meta` is merged into `session_meta`. `start` is the first moment (seconds since 1970). `paginated` decides the
    history mode of eras that know both (default: what the era does by itself).
    """

    def __init__(
        self,
        era: Era = "0.169",
        *,
        id: str | None = None,  # noqa: A002 - what everyone calls it
        cwd: str = "/tmp/demo",  # noqa: S108 - only a text in the file
        model: str = "gpt-5",
        provider: str = "mock",
        source: Any = "exec",
        approval: str = "never",
        sandbox: str | Json = "danger-full-access",
        base_instructions: str | None = "You are a helper.",
        paginated: bool | None = None,
        start: float = BEGINNING,
        seed: int = 0,
        meta: Mapping[str, Any] | None = None,
        _head: bool = True,
    ) -> None:
        self.era: Era = era
        self._level = ERAS.index(era)
        self._now = start
        self._random = random.Random(f"{seed} {start} {era}")  # noqa: S311 - made to be repeated
        self._count = 0
        self.id = id or (self._uuid4() if self._level < ERAS.index("0.47") else self.new_id())
        self.cwd, self.model, self.provider, self.source = cwd, model, provider, source
        self._approval = approval
        self._sandbox: Json = {"type": sandbox} if isinstance(sandbox, str) else dict(sandbox)
        self._instructions = base_instructions
        self.paginated = self._since("0.158") if paginated is None else paginated
        self._meta = dict(meta or {})
        self._ordinal = 0
        self._tokens = 0
        self._window = 0
        self._windows = [self.new_id()] if self._since("0.142") else [""]
        self._fresh = True  # the next turn sends the initial context
        self._turns: list[_Mark] = []
        self._user_items: list[Json] = []
        self.segments = [_Segment(None, self._now)]
        if _head:
            self._write_head()

    # -- what others ask for ------------------------------------------------------------------------------------------

    @property
    def turn_ids(self) -> list[str]:
        """The ids of the turns that count, oldest first (empty texts in eras without turn ids)."""
        return [mark.turn_id for mark in self._turns]

    @property
    def rollout_id(self) -> str:
        """The id by which others inherit from the newest file."""
        return self.segments[-1].segment_id or self.id

    @property
    def data(self) -> bytes:
        """The bytes of the newest file."""
        return self.segments[-1].data

    @property
    def records(self) -> list[tuple[str, Json]]:
        """Type and payload of every line of the newest file."""
        return list(self.segments[-1].payloads)

    def new_id(self) -> str:
        """A UUIDv7 of the moment the builder has reached."""
        self._count += 1
        noise = (self._count & 0x7FF).to_bytes(2, "big") + self._random.randbytes(8)
        return uuid7_at(int(self._now * 1000), noise)

    def write(self, home: Home, *, archived: bool = False, compressed: bool = False) -> Path:
        """Put all files of the thread into a home, with the thread's times; gives the plain path of the newest."""
        path = home.path
        for segment in self.segments:
            path = home.new_path(self.id, segment.began, segment.segment_id)
            if archived:
                path = home.archived_sessions / path.name
            data, target = segment.data, path
            if compressed:
                import zstandard

                data, target = zstandard.ZstdCompressor(level=3).compress(data), path.with_name(path.name + ".zst")
            home.fs.make_folder(target.parent)
            file = home.fs.open_append(target, exclusive=True)
            try:
                file.write(data)
                file.sync()
            finally:
                file.close()
            home.fs.sync_folder(target.parent)
            home.fs.set_mtime(target, int(self._now * 1_000_000_000))
        return path

    # -- turns --------------------------------------------------------------------------------------------------------

    def turn(
        self,
        user: str,
        assistant: str | None = "Done.",
        *,
        calls: Sequence[Call] = (),
        reasoning: str | None = None,
        status: Literal["completed", "interrupted", "failed", "open"] = "completed",
        turn_id: str | None = None,
    ) -> Self:
        """A turn: user message, reasoning, calls with their outputs, assistant message. `open` ends without an end, as
        after a kill; so does every turn with an open call unless it is interrupted."""
        turn_id = turn_id or self.new_id()
        if any(call.output is None for call in calls) and status == "completed":
            status, assistant = "open", None
        self._begin_turn(turn_id, user)
        if reasoning is not None:
            self._reason(turn_id, reasoning)
        for call in calls:
            self._call(turn_id, call)
        if assistant is not None and status in ("completed", "open"):
            self._say(turn_id, assistant)
        self._end_turn(turn_id, status, assistant)
        return self

    def kill_during_call(self, user: str, call: Call | None = None, *, turn_id: str | None = None) -> Self:
        """A turn that was killed while its call ran: the call is there, its output and the turn's end are not."""
        open_call = call or Call("sleep 60", output=None)
        return self.turn(
            user,
            None,
            calls=[Call(open_call.command, None, open_call.name, open_call.arguments)],
            status="open",
            turn_id=turn_id,
        )

    def compact(self, summary: str, *, replacement: bool | None = None, keep: Sequence[str] | None = None) -> Self:
        """A compaction. `replacement` (default: as the era does): with a replacement history, made of the texts `keep`
        (default: all user messages so far) and the summary."""
        self._need_envelope()
        turn_id = self.new_id()
        if self._since("0.104"):
            self._event("task_started", turn_id=turn_id, **self._turn_start())
        self._item({"type": "message", "role": "assistant", "content": [_output(summary)]}, turn_id, "msg")
        self._count_tokens(turn_id)
        payload: Json = {"message": summary}
        texts = [item["content"][0]["text"] for item in self._user_items] if keep is None else keep
        history = [{"type": "message", "role": "user", "content": [_input(text)]} for text in (*texts, summary)]
        if self._since("0.104") if replacement is None else replacement:
            payload["replacement_history"] = history
        if self._since("0.142"):
            self._window += 1
            self._windows.append(self.new_id())
            payload |= {
                "window_number": self._window,
                "first_window_id": self._windows[0],
                "previous_window_id": self._windows[-2],
                "window_id": self._windows[-1],
            }
        self.line("compacted", payload)
        self._fresh = True
        if self.paginated:
            self.line("world_state", {"full": True, "state": self._state()})
            self.line("turn_context", self._context(turn_id))
            self._completed(turn_id, {"type": "ContextCompaction", "id": self.new_id()})
        elif self._since("0.79"):
            self._event("context_compacted")
        if self._since("0.104"):
            self._event("task_complete", turn_id=turn_id, last_agent_message=None, **self._turn_end())
        return self

    def rollback(self, turns: int = 1) -> Self:
        """The marker that takes the last turns away."""
        self._need_envelope()
        self._event("thread_rolled_back", num_turns=turns)
        if turns:
            del self._turns[-turns:]
        return self

    def revert(self, before: int) -> Self:
        """Go back to before the turn with this index (0-based, of those that count): a new segment."""
        if not self.paginated:
            raise ValueError("only paginated threads are reverted")
        mark = self._turns[before]
        self._now += 1
        segment = _Segment(self.new_id(), self._now)
        del self._turns[before:]
        del self._user_items[mark.users :]
        self._fresh = before == 0
        self.segments.append(segment)
        self._ordinal, self._tokens = mark.ordinal, mark.tokens
        self._write_head(history_base=_base(mark))
        self._applied()
        return self

    def fork(self, *, before: int | None = None, id: str | None = None) -> ThreadBuilder:  # noqa: A002 - as above
        """A new thread that inherits everything, or what stands before the turn with this index: by reference for
        paginated threads, else as a copy. The source must be written too for a reference to be found."""
        child = ThreadBuilder(
            self.era,
            id=id or self.new_id(),
            cwd=self.cwd,
            model=self.model,
            provider=self.provider,
            source=self.source,
            approval=self._approval,
            sandbox=self._sandbox,
            base_instructions=self._instructions,
            paginated=self.paginated,
            start=self._now + 1,
            seed=self._count,
            _head=False,
        )
        mark = None if before is None else self._turns[before]
        child._turns = list(self._turns if before is None else self._turns[:before])
        child._user_items = list(self._user_items)
        child._fresh = False
        child._tokens = mark.tokens if mark else self._tokens
        if self.paginated:
            users, size = len(self._user_items), self.segments[-1].size
            mark = mark or _Mark("", self.rollout_id, size, self._ordinal, 0, users, self._tokens)
            child._ordinal = mark.ordinal
            child._write_head(
                forked_from_id=self.id, forked_from_ordinal_exclusive=mark.ordinal, history_base=_base(mark)
            )
            child._applied()
        else:
            child._write_head(forked_from_id=self.id)
            for kind, payload in self.records[: mark.line if mark else None]:
                child.line(kind, payload)
        return child

    # -- damage and other odd things ----------------------------------------------------------------------------------

    def line(self, kind: str, payload: Any, *, ordinal: int | None = None, metadata: Any = None) -> Self:
        """Any line. `ordinal` instead of the one that is due (the next counts on from it)."""
        segment = self.segments[-1]
        self._now += STEP
        if self.era == "0.29":
            segment.lines.append(msgspec.json.encode(payload) + b"\n")
        else:
            if ordinal is not None:
                self._ordinal = ordinal
            stamp = utc_stamp(self._now)
            number = self._ordinal if self.paginated else None
            segment.lines.append(encode_line(Line(kind, payload, metadata), timestamp=stamp, ordinal=number))
            self._ordinal += 1
        segment.payloads.append((kind, payload))
        return self

    def raw(self, data: bytes) -> Self:
        """Any bytes; a newline is part of them or missing."""
        self.segments[-1].lines.append(data)
        return self

    def edit(self, change: Callable[[bytes], bytes]) -> Self:
        """Rewrite the newest file as bytes (for CRLF, byte order marks and the like)."""
        segment = self.segments[-1]
        segment.lines = change(segment.data).splitlines(keepends=True)
        segment.tail = b""
        return self

    def torn(self, missing: int = 20) -> Self:
        """Cut the last bytes off, as a crash in the middle of a write does."""
        segment = self.segments[-1]
        segment.tail = segment.lines.pop()[:-missing]
        return self

    # -- the parts of a turn ------------------------------------------------------------------------------------------

    def _since(self, era: Era) -> bool:
        return self._level >= ERAS.index(era)

    def _need_envelope(self) -> None:
        if self.era == "0.29":
            raise ValueError("the bare format has only messages and calls")

    def _uuid4(self) -> str:
        return str(uuid.UUID(bytes=self._random.randbytes(16), version=4))

    def _write_head(self, **extra: Any) -> None:
        stamp = utc_stamp(self._now)
        meta: Json = {"id": self.id, "timestamp": stamp}
        if self.era == "0.29":
            self.line("session_meta", meta | {"instructions": None} | self._meta)
            self._state_line()
            return
        if self._since("0.142"):
            meta = {"session_id": self.id, **meta}
        meta |= {"cwd": self.cwd, "originator": "clew_test", "cli_version": f"{self.era}.0"}
        if not self._since("0.104"):
            meta["instructions"] = None
        if self._since("0.47"):
            meta["source"] = self.source
        if self._since("0.60"):
            meta["model_provider"] = self.provider
        if self._since("0.104") and self._instructions is not None:
            meta["base_instructions"] = {"text": self._instructions}
        if self.paginated:
            meta |= {"history_mode": "paginated", "context_window": {"window_id": self._windows[0]}}
        self.line("session_meta", meta | extra | self._meta)

    def _begin_turn(self, turn_id: str, user: str) -> None:
        message: Json = {"type": "message", "role": "user", "content": [_input(user)]}
        mark = _Mark(
            turn_id if self._since("0.104") else "",
            self.rollout_id,
            self.segments[-1].size,
            self._ordinal,
            len(self.segments[-1].lines),
            len(self._user_items),
            self._tokens,
        )
        self._turns.append(mark)
        if self._since("0.104"):
            self._event("task_started", turn_id=turn_id, **self._turn_start())
        first = self._fresh
        if first:
            self._initial_context(turn_id)
        if self.paginated and first:
            self.line("world_state", {"full": True, "state": self._state()})
        if self._since("0.118"):
            self.line("turn_context", self._context(turn_id))
        if self.paginated and first:
            self._applied()
        self._user_items.append(self._item(message, turn_id, "msg"))
        if self.paginated:
            content: list[Json] = [{"type": "text", "text": user, "text_elements": []}]
            self._completed(turn_id, {"type": "UserMessage", "id": self.new_id(), "content": content})
        elif self._since("0.104"):
            self._event("user_message", message=user, images=[], local_images=[], text_elements=[])
        elif self._since("0.60"):
            self._event("user_message", message=user, images=[])
        elif self._since("0.36"):
            self._event("user_message", message=user, kind="plain")
        if self._since("0.36") and not self._since("0.118"):
            self.line("turn_context", self._context(turn_id))
        self._fresh = False

    def _initial_context(self, turn_id: str) -> None:
        if self._since("0.104"):
            text = f"<permissions instructions>\nThe sandbox is {self._sandbox['type']}.\n</permissions instructions>"
            self._item({"type": "message", "role": "developer", "content": [_input(text)]}, turn_id, "msg")
        text = f"<environment_context>\n  <cwd>{self.cwd}</cwd>\n  <shell>bash</shell>\n</environment_context>"
        self._item({"type": "message", "role": "user", "content": [_input(text)]}, turn_id, "msg")

    def _reason(self, turn_id: str, text: str) -> None:
        summary = [{"type": "summary_text", "text": text}]
        if self.paginated:
            item = {"type": "Reasoning", "id": self.new_id(), "summary_text": [text], "raw_content": []}
            self._completed(turn_id, item)
        elif self._since("0.36"):
            self._event("agent_reasoning", text=text)
        self._item({"type": "reasoning", "summary": summary, "encrypted_content": None}, turn_id, "rs")

    def _call(self, turn_id: str, call: Call) -> None:
        call_id = f"call_{len(self.segments[-1].lines)}"
        if call.custom:
            item: Json = {"type": "custom_tool_call", "call_id": call_id, "name": call.name, "input": call.command}
        else:
            item = {"type": "function_call", "name": call.name, "arguments": call.arguments_json(), "call_id": call_id}
        self._item(item, turn_id, "ctc" if call.custom else "fc")
        self._count_tokens(turn_id)
        if call.output is None:
            return
        if self.paginated and call.name == "exec_command":
            output = call.output if isinstance(call.output, str) else ""
            item = {
                "type": "CommandExecution",
                "id": call_id,
                "command": ["/bin/bash", "-lc", call.command],
                "cwd": f"file://{self.cwd}",
                "parsed_cmd": [{"type": "unknown", "cmd": call.command}],
                "source": "unified_exec_startup",
                "status": "failed" if call.exit_code else "completed",
                "aggregated_output": output,
                "exit_code": call.exit_code,
                "duration": {"secs": 0, "nanos": 1_000_000},
            }
            self._completed(turn_id, item)
        kind = "custom_tool_call_output" if call.custom else "function_call_output"
        prefix = "ctco" if call.custom else "fco"
        self._item({"type": kind, "call_id": call_id, "output": call.output}, turn_id, prefix)

    def _say(self, turn_id: str, text: str) -> None:
        item: Json = {"type": "message", "role": "assistant", "content": [_output(text)]}
        if self.paginated:
            item["id"] = f"msg_{self.new_id()}"
            said = {"type": "AgentMessage", "id": item["id"], "content": [{"type": "Text", "text": text}]}
            self._completed(turn_id, said)
        elif self._since("0.118"):
            self._event("agent_message", message=text, phase=None, memory_citation=None)
        elif self._since("0.36"):
            self._event("agent_message", message=text)
        self._item(item, turn_id, "msg")
        self._count_tokens(turn_id)

    def _end_turn(self, turn_id: str, status: str, assistant: str | None) -> None:
        if status == "open" or self.era == "0.29":
            return
        if status == "interrupted":
            text = "<turn_aborted>\nThe turn was interrupted.\n</turn_aborted>"
            self._item({"type": "message", "role": "user", "content": [_input(text)]}, turn_id, "msg")
            named = {"turn_id": turn_id} if self._since("0.104") else {}
            self._event("turn_aborted", **named, reason="interrupted", **self._turn_end())
        elif self._since("0.104"):
            error = (
                {"error": {"message": "The model failed.", "codex_error_info": "other"}} if status == "failed" else {}
            )
            said = assistant if status == "completed" else None
            self._event("task_complete", turn_id=turn_id, last_agent_message=said, **error, **self._turn_end())

    def _item(self, item: Json, turn_id: str, prefix: str) -> Json:
        if self.era == "0.29":
            item = {"type": item["type"], "id": None, **{key: value for key, value in item.items() if key != "type"}}
            self.line("response_item", item)
            self._state_line()
            return item
        if self._since("0.158") and "id" not in item:
            item = {"type": item["type"], "id": f"{prefix}_{self.new_id()}", **item}
        if self._since("0.142"):
            item = {**item, "internal_chat_message_metadata_passthrough": {"turn_id": turn_id}}
        metadata = {"client_authored": False} if self.paginated else None
        self.line("response_item", item, metadata=metadata)
        return item

    def _state_line(self) -> None:
        self.segments[-1].lines.append(b'{"record_type":"state"}\n')

    def _event(self, kind: str, /, **fields: Any) -> None:
        self.line("event_msg", {"type": kind, **fields})

    def _completed(self, turn_id: str, item: Json) -> None:
        moment = int(self._now * 1000)
        self._event(
            "item_completed",
            thread_id=self.id,
            turn_id=turn_id,
            item=item,
            started_at_ms=moment,
            completed_at_ms=moment,
        )

    def _applied(self) -> None:
        context = self._context("")
        settings = {key: context[key] for key in ("model", "approval_policy", "cwd")} | {
            "model_provider_id": self.provider,
            "permission_profile": {"type": "disabled"},
        }
        self._event("thread_settings_applied", thread_id=self.id, thread_settings=settings)

    def _count_tokens(self, turn_id: str) -> None:
        if not self._since("0.36"):
            return
        self._tokens += 120
        last = _usage(120)
        total = _usage(self._tokens)
        if self.paginated:
            self.line(
                "token_usage_record",
                {
                    "thread_id": self.id,
                    "turn_id": turn_id,
                    "session_id": self.id,
                    "root_turn_id": turn_id,
                    "response_id": f"resp_{self._tokens}",
                    "usage": last,
                    "turn_token_usage": last,
                    "thread_token_usage": total,
                },
            )
        info = {"total_token_usage": total, "last_token_usage": last, "model_context_window": WINDOW}
        self._event("token_count", info=info, rate_limits=None)

    def _turn_start(self) -> Json:
        timing = {"started_at": int(self._now)} if self._since("0.142") else {}
        return {**timing, "model_context_window": WINDOW, "collaboration_mode_kind": "default"}

    def _turn_end(self) -> Json:
        return {"completed_at": int(self._now), "duration_ms": 1000} if self._since("0.142") else {}

    def _context(self, turn_id: str) -> Json:
        sandbox = self._sandbox
        if not self._since("0.60"):
            sandbox = {"mode" if key == "type" else key: value for key, value in sandbox.items()}
        context: Json = {
            "cwd": self.cwd,
            "approval_policy": self._approval,
            "sandbox_policy": sandbox,
            "model": self.model,
            "summary": "auto",
        }
        return {"turn_id": turn_id, **context} if self._since("0.104") else context

    def _state(self) -> Json:
        return {"model": self.model, "environments": {"environments": {"local": {"cwd": self.cwd, "shell": "bash"}}}}


def _base(mark: _Mark) -> Json:
    return {"thread_id": mark.rollout_id, "end_ordinal_exclusive": mark.ordinal, "end_byte_offset": mark.offset}


def _input(text: str) -> Json:
    return {"type": "input_text", "text": text}


def _output(text: str) -> Json:
    return {"type": "output_text", "text": text}


def _usage(total: int) -> Json:
    put_in = total * 2 // 3
    counts = {"input_tokens": put_in, "cached_input_tokens": 0, "output_tokens": total - put_in}
    return {**counts, "reasoning_output_tokens": 0, "total_tokens": total}
