"""All that is kept of one rollout file: who it is, how it began, how long it is, what was used and said in it.

A digest is extended line by line and never looks back: digesting a file in pieces gives the same as digesting it at
once. Most bytes of a log are what tools answered; what a line is, is told by its first bytes, and only lines that say
something here are decoded.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeGuard, cast

import msgspec

from clew.history.contextual import ENVELOPE, envelope_text, is_contextual
from clew.history.metadata import ThreadMeta, lenient_meta
from clew.history.payload import integer, object_from, part_texts, text
from clew.history.said import Said, SaidRole, call_texts, changed_paths, command_line, item_text
from clew.history.summary import goal_text, opening_text, preview_text
from clew.history.turn_count import TurnCount
from clew.history.turn_drafts import COMPLETES, ENDS, EVENT_ITEMS, HOOK_PROMPT, LEGACY_EVENTS, STARTS, TWICE_TOLD
from clew.history.usage import USAGE_KINDS, UsageTally
from clew.history.weights import PICTURE, Weights, plain_cause
from clew.rollout.envelope import STATE_LINE, Skipped, decode_line

__all__ = ["DIGEST_VERSION", "Digest", "digest_lines", "milliseconds", "pass_line"]

DIGEST_VERSION = 2
"""Digests of another version are made anew."""

HEAD_LINES = 210
"""How far the file's own `session_meta` may stand behind a foreign one."""
CALLS = 64
"""How many calls are remembered, to know their ends again."""
BURST_MS = 1000
"""Old logs do not mark turns: there the lines of a copy are those that were written within this time."""


class Digest(msgspec.Struct, kw_only=True, array_like=True):
    """What is known of one file after `offset` bytes of it. Times in milliseconds since 1970.

    `thread_id` is the one in the file's name. `lines` counts those that hold something, `skipped` those among them that
    cannot be read (of lines that nobody needs, only beginning and end are looked at). `unsupported` is the history mode
    that nobody knows, if it is one. `recency` is when the last turn began. `copied_until`: the lines before this offset
    were inherited from another thread by copying. `model` is the last one, `preview` the first thing a user said (or
    the goal) **in this file**, as `history.summary` finds them; so are turns those in this file. `turn_cwd` is the
    folder of the newest turn. An empty `said_preview`: there is one, which whoever stored the digest keeps elsewhere.
    """

    thread_id: str | None = None
    offset: int = 0
    lines: int = 0
    skipped: int = 0
    meta: ThreadMeta | None = None
    unsupported: str | None = None
    model: str | None = None
    recency: int | None = None
    turn_cwd: str | None = None
    copied_until: int = 0
    usage: UsageTally = msgspec.field(default_factory=UsageTally)
    weights: Weights = msgspec.field(default_factory=Weights)

    # What the next line is read with.
    said_preview: str | None = None
    goal: str | None = None
    inferred: str | None = None
    seen_event: bool = False
    applied_cwd: str | None = None
    first_cwd: str | None = None
    turn_id: str | None = None
    marked: bool = False
    counted: TurnCount = msgspec.field(default_factory=TurnCount)
    told_user: bool = False
    begun: bool = False
    copying: bool = False
    copied_at: int | None = None
    calls: list[int] = []

    @property
    def preview(self) -> str | None:
        first = self.said_preview or self.goal
        return self.inferred if first is None and not self.seen_event else first

    @property
    def cwd(self) -> str | None:
        return self.applied_cwd or (self.meta.cwd if self.meta else None) or self.first_cwd

    @property
    def turns(self) -> int:
        return self.counted.count(paginated=self.history_mode == "paginated")

    @property
    def history_mode(self) -> str:
        return self.unsupported or (self.meta.history_mode if self.meta else "legacy")


class _Payload(msgspec.Struct):
    """The members that are looked at, of all kinds of lines together; whatever they hold."""

    type: Any = None
    turn_id: Any = None
    message: Any = None
    images: Any = None
    local_images: Any = None
    text: Any = None
    item: Any = None
    name: Any = None
    arguments: Any = None
    input: Any = None
    action: Any = None
    call_id: Any = None
    command: Any = None
    source: Any = None
    changes: Any = None
    cwd: Any = None
    model: Any = None
    goal: Any = None
    thread_settings: Any = None
    num_turns: Any = None
    role: Any = None
    content: Any = None
    summary: Any = None


def _decoder(*members: str) -> msgspec.json.Decoder[Any]:
    """Reads these members of a line's payload and passes over all others."""
    payload = msgspec.defstruct("Payload", [(name, Any, None) for name in members], gc=False)
    return msgspec.json.Decoder(msgspec.defstruct("Line", [("payload", payload)], gc=False))


_HEAD = re.compile(
    rb'\{"timestamp":"([ !#-\[\]-~]{24})",(?:"ordinal":(\d{1,15}),)?"type":"(\w+(?:","payload":\{"type":"\w+)?)"'
)
_INNER = b'","payload":{"type":"'
_BLANK = b" \t\r\n\v\f"
_BOM = b"\xef\xbb\xbf"
_EPOCH, _MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)

_CALLS = frozenset({"function_call", "custom_tool_call", "local_shell_call"})
_NAMELESS = frozenset({"context_compacted", "entered_review_mode", "exited_review_mode"})
_EVENTS = LEGACY_EVENTS | {"thread_goal_updated", "thread_settings_applied"}
_REASONING = ("agent_reasoning", "agent_reasoning_raw_content")
_ITEMS = (*_CALLS, "agent_message", "message", "reasoning")
_WHOLE = ("session_meta", "turn_context", "compacted", "inter_agent_communication")
_META = (
    "id", "session_id", "parent_thread_id", "source", "forked_from_id", "timestamp", "cwd", "originator",
    "cli_version", "model_provider", "history_mode", "context_window", "subagent_history_start_ordinal",
    "history_base", "git",
)  # fmt: skip
_whole = _decoder(*(name for name in _Payload.__struct_fields__ if name != "type"))
_by_name = {
    "session_meta": _decoder(*_META),
    "turn_context": _decoder("turn_id", "cwd", "model"),
    "user_message": _decoder("turn_id", "message", "images", "local_images"),
    "agent_message": _decoder("turn_id", "message", "content"),
    **dict.fromkeys((*STARTS, *ENDS), _decoder("turn_id")),
    **dict.fromkeys(_CALLS, _decoder("name", "arguments", "input", "action", "call_id")),
    **dict.fromkeys(_REASONING, _decoder("turn_id", "text")),
}


_MetaPayload = msgspec.defstruct("_MetaPayload", [(name, Any, None) for name in _META])


class _Plan(msgspec.Struct, frozen=True):
    """What to do with a line of one kind: `kind` is its type, `name` the inner one or `kind`, `needed`: that it may say
    something, `decoder` what reads it; `always`: whatever was read before. `cause`: where its bytes belong, if that
    needs no look into the line; `pictures`: if there is no picture in it."""

    kind: str
    name: str
    decoder: msgspec.json.Decoder[Any]
    needed: bool = False
    always: bool = False
    usage: bool = False
    cause: str | None = None
    pictures: bool = False


def _plan(kind: str, name: str) -> _Plan:
    cause, pictures = plain_cause(name)
    needed = name in _EVENTS if kind == "event_msg" else name in _ITEMS if kind == "response_item" else name in _WHOLE
    return _Plan(
        kind=kind,
        name=name,
        decoder=_by_name.get(name, _whole),
        needed=needed,
        always=needed and name not in ("message", "reasoning", *_REASONING),
        usage=name in USAGE_KINDS,
        cause=cause,
        pictures=pictures,
    )


def _unknown(key: bytes) -> _Plan:
    kind, _, name = key.decode().partition(_INNER.decode())
    return _plan(kind, name or kind)


def _key(kind: str, name: str) -> bytes:
    return kind.encode() if kind == name else kind.encode() + _INNER + name.encode()


_KNOWN = [
    *(("event_msg", name) for name in (*_EVENTS, "token_count")),
    *(("response_item", name) for name in (*_ITEMS, "function_call_output", "custom_tool_call_output")),
    *((name, name) for name in (*_WHOLE, "token_usage_record", "world_state")),
]
_plans = {_key(kind, name): _plan(kind, name) for kind, name in _KNOWN}


def digest_lines(digest: Digest, data: bytes, said: list[Said] | None = None) -> int:
    """Extend `digest` by the lines in `data`, whose first byte is the one at `digest.offset`, and `said` by their
    texts. Takes whole lines only, those that a newline ends; returns the bytes taken. Never raises."""
    lines = data.split(b"\n")
    rest = lines.pop()
    digest.offset = _Reader(digest, said).read(lines)
    return len(data) - len(rest)


def pass_line(digest: Digest, length: int) -> None:
    """Extend `digest` by a line of so many bytes, its newline included, that is too long to be read."""
    digest.lines += 1
    digest.skipped += 1
    digest.offset += length
    digest.weights.damaged += length


class _Reader:
    """One run over some lines of a digest."""

    def __init__(self, digest: Digest, said: list[Said] | None) -> None:
        self._digest = digest
        self._said = said
        self._at: int | None = None
        self._start = 0
        self._paginated = False
        self._legacy = True

    def read(self, lines: Iterable[bytes]) -> int:
        """Read the lines that stand behind what is digested; gives the offset behind them."""
        digest = self._digest
        usage, weights = digest.usage, digest.weights
        head, plans, sizes = _HEAD.match, _plans, dict[str, int]()
        offset = digest.offset
        for line in lines:
            start, offset = offset, offset + len(line) + 1
            found = head(line)
            if found is None or line[-1] != 0x7D:
                self._read_odd(line, start, offset)
                continue
            stamp, number, key = found.groups()
            plan = plans.get(key) or _unknown(key)
            at = None
            if plan.needed and (plan.always or self._wanted(plan, line)):
                try:
                    payload = plan.decoder.decode(line).payload
                except (msgspec.DecodeError, ValueError, RecursionError):
                    self._read_odd(line, start, offset)
                    continue
                digest.lines += 1
                at = milliseconds(stamp.decode())
                self._take(plan.kind, plan.name, payload, at, None if number is None else int(number), start, offset)
            else:
                digest.lines += 1
                if digest.copying or not digest.begun:
                    self._place(None if number is None else int(number), start, offset)
            if plan.usage or usage.asked or usage.bare:
                usage.take(plan.name, line, at=milliseconds(stamp.decode()) if at is None else at)
            if plan.cause is None or digest.copying or (plan.pictures and PICTURE in line):
                weights.take(plan.name, line, copied=digest.copying)
            else:
                sizes[plan.cause] = sizes.get(plan.cause, 0) + len(line) + 1
        for cause, size in sizes.items():
            setattr(weights, cause, getattr(weights, cause) + size)
        return offset

    def _read_odd(self, line: bytes, start: int, end: int) -> None:
        """A line that is not laid out as Codex lays it out: blank, damaged, of the bare format, or just another way."""
        if line[:1] != b"{" and (not line.strip(_BLANK) or line == _BOM):
            return
        record = decode_line(line)
        digest = self._digest
        if isinstance(record, Skipped):
            digest.lines += 1
            digest.skipped += 1
            self._place(None, start, end)
            self._weigh("", line, None)
            return
        if record.type == STATE_LINE:
            return
        digest.lines += 1
        members = object_from(record.payload) or {}
        kind, inner = record.type, text(members.get("type"))
        name = (inner if inner is not None and kind in ("event_msg", "response_item") else kind) or kind
        plan = _plan(kind, name)
        if plan.needed:
            payload = msgspec.convert(members, _MetaPayload if kind == "session_meta" else _Payload)
            self._take(kind, name, payload, milliseconds(record.timestamp), record.ordinal, start, end)
        else:
            self._place(record.ordinal, start, end)
        self._weigh(name, line, record.timestamp)

    def _weigh(self, name: str, line: bytes, stamp: str | None) -> None:
        digest = self._digest
        digest.weights.take(name, line, copied=digest.copying)
        if digest.usage.wants(name):
            digest.usage.take(name, line, at=milliseconds(stamp))

    def _wanted(self, plan: _Plan, line: bytes) -> bool:
        """Whether a line of a kind that may say something has to be decoded as things stand."""
        told = self._digest.counted.told
        if plan.kind == "event_msg":
            return not self._digest.counted.settled
        return not told or (plan.name == "message" and (b"<hook_prompt" in line or ENVELOPE in line))

    def _place(self, ordinal: int | None, start: int, end: int) -> None:
        """Where the lines of a copy end is told by an ordinal, or by the first turn of the thread's own."""
        digest = self._digest
        if digest.copying:
            first = digest.meta.subagent_start if digest.meta is not None else None
            if first is not None and ordinal is not None and ordinal >= first:
                digest.copying, digest.copied_until = False, start
            else:
                digest.copied_until = end
        digest.begun = True

    def _take(
        self,
        kind: str,
        name: str,
        payload: Any,
        at: int | None,
        ordinal: int | None,
        start: int,
        end: int,
    ) -> None:
        digest = self._digest
        self._at = at
        self._start = start
        meta = digest.meta
        self._paginated = meta.history_mode == "paginated" if meta is not None else ordinal is not None
        self._legacy = meta is None or not self._paginated
        if kind == "session_meta":
            self._session_meta(msgspec.structs.asdict(payload), end)
        else:
            if digest.copying and self._ends_copy(name, payload):
                digest.copying, digest.copied_until = False, start
            self._place(ordinal, start, end)
        inherited = (
            meta is not None
            and meta.subagent_start is not None
            and ordinal is not None
            and ordinal < meta.subagent_start
        )
        match kind:
            case "event_msg":
                self._event(name, payload, inherited=inherited)
            case "response_item":
                self._item(name, payload)
            case "turn_context":
                self._turn_context(payload)
            case "compacted":
                if self._legacy:
                    digest.counted.compaction()
            case "inter_agent_communication":
                self._say("agent", text(payload.content) or "")
            case _:
                pass

    # -- who it is

    def _session_meta(self, members: dict[str, Any], end: int) -> None:
        digest = self._digest
        meta = lenient_meta(members)
        known = digest.meta
        own = digest.thread_id
        if known is None or (known.id != own and meta.id == own and digest.lines <= HEAD_LINES):
            mode = members["history_mode"]
            digest.unsupported = None if mode in (None, "legacy", "paginated") else str(mode)
            digest.meta = msgspec.structs.replace(meta, raw={})
            digest.copying = meta.forked_from is not None and meta.base is None and not digest.begun
        elif meta.id != known.id and known.base is None and not digest.begun:
            digest.copying = True
        if digest.copying:
            digest.copied_until = end
            digest.copied_at = digest.copied_at or self._at

    def _ends_copy(self, name: str, payload: _Payload) -> bool:
        """Whether this line begins what the thread did itself: a turn whose id is younger than the thread. Where turns
        have no ids, something that was written later than the copy."""
        digest = self._digest
        if name in STARTS:
            turn, own = text(payload.turn_id), digest.meta.id if digest.meta else None
            if _tells_time(turn) and _tells_time(own):
                return turn[:13].lower() >= own[:13].lower()
        elif name != "user_message" or digest.marked:
            return False
        return digest.copied_at is not None and self._at is not None and self._at > digest.copied_at + BURST_MS

    # -- what happened

    def _event(self, name: str, payload: _Payload, *, inherited: bool) -> None:
        digest = self._digest
        counted = digest.counted
        turn_id = text(payload.turn_id)
        legacy = self._legacy
        if self._paginated and (name in STARTS or name in ENDS) and turn_id is not None and not inherited:
            counted.marker(turn_id)
        if name in LEGACY_EVENTS:
            counted.by_events()
        if name in STARTS:
            digest.seen_event = digest.marked = True
            digest.turn_id = turn_id
            if self._at is not None:
                digest.recency = self._at
            if legacy:
                counted.started(turn_id)
        elif name in ENDS:
            if legacy and name in COMPLETES:
                counted.completed(turn_id)
            if turn_id is None or turn_id == digest.turn_id:
                digest.turn_id = None
        elif name == "user_message":
            self._user_message(payload)
        elif name == "agent_message":
            digest.seen_event = True
            if said := text(payload.message):
                if legacy:
                    counted.item()
                self._say("agent", said)
        elif name in _REASONING:
            if legacy and text(payload.text):
                counted.item()
        elif name == "item_completed":
            self._item_completed(payload, turn_id)
        elif name == "thread_rolled_back":
            if legacy:
                counted.rolled_back(integer(payload.num_turns) or 0)
        elif name == "thread_goal_updated":
            if digest.said_preview is None:
                digest.goal = digest.goal or goal_text({"goal": payload.goal})
                digest.seen_event = True
        elif name == "thread_settings_applied":
            applied: Any = payload.thread_settings
            if isinstance(applied, dict):
                settings = cast("dict[str, Any]", applied)
                digest.model = text(settings.get("model")) or digest.model
                digest.applied_cwd = text(settings.get("cwd")) or digest.applied_cwd
        elif name in EVENT_ITEMS:
            if legacy:
                counted.item(None if name in _NAMELESS else turn_id)
            self._ended_item(name, payload)

    def _user_message(self, payload: _Payload) -> None:
        digest = self._digest
        if self._legacy:
            digest.counted.user_message()
        said = text(payload.message) or ""
        if digest.said_preview is None:
            digest.said_preview = preview_text(said, images=bool(payload.images or payload.local_images))
            digest.seen_event = digest.seen_event or digest.said_preview is not None
        if not digest.marked and self._at is not None:
            digest.recency = self._at
        if not digest.told_user:
            self._say("user", said)
        digest.told_user = False

    def _item_completed(self, payload: _Payload, turn_id: str | None) -> None:
        digest = self._digest
        found: Any = payload.item
        if not isinstance(found, dict):
            return
        item = cast("dict[str, Any]", found)
        kind = item.get("type")
        if digest.said_preview is None and kind == "UserMessage":
            digest.said_preview = opening_text({"item": item})
            digest.seen_event = digest.seen_event or digest.said_preview is not None
        if self._legacy and kind not in TWICE_TOLD:
            whole = text(kind) is not None and text(item.get("id")) is not None
            (digest.counted.item if whole else digest.counted.touched)(turn_id)
        if not self._paginated and kind in TWICE_TOLD:
            return
        if kind == "UserMessage":
            if not digest.marked and self._at is not None:
                digest.recency = self._at
            if not digest.told_user:
                self._say("user", item_text(item), turn_id)
            digest.told_user = False
        elif kind in ("AgentMessage", "Plan"):
            self._say("agent", item_text(item), turn_id)
        elif kind == "CommandExecution":
            self._command_ended(text(item.get("id")), item.get("command"), item.get("source"), turn_id)
        elif kind == "FileChange":
            self._patch_ended(text(item.get("id")), item.get("changes"), turn_id)

    def _ended_item(self, name: str, payload: _Payload) -> None:
        turn_id = text(payload.turn_id)
        if name == "exec_command_end":
            self._command_ended(text(payload.call_id), payload.command, payload.source, turn_id)
        elif name == "patch_apply_end":
            self._patch_ended(text(payload.call_id), payload.changes, turn_id)

    def _command_ended(self, call_id: str | None, command: Any, source: Any, turn_id: str | None) -> None:
        if call_id is None or _sum(call_id) not in self._digest.calls:
            self._say("command", command_line(command), turn_id, "shell" if source == "user_shell" else "exec_command")

    def _patch_ended(self, call_id: str | None, changes: Any, turn_id: str | None) -> None:
        if call_id is None or _sum(call_id) not in self._digest.calls:
            for path in changed_paths(changes):
                self._say("file", path, turn_id, "apply_patch")

    # -- what the model sees

    def _item(self, name: str, payload: _Payload) -> None:
        digest = self._digest
        if name in _CALLS:
            tool = text(payload.name)
            for role, said, used in call_texts(name, tool, payload.arguments, payload.input, payload.action):
                self._say(role, said, None, used)
            call_id = text(payload.call_id)
            if call_id is not None:
                digest.calls.append(_sum(call_id))
                if len(digest.calls) > CALLS:
                    del digest.calls[0]
        elif name == "agent_message":
            self._say("agent", "\n".join(part_texts(payload.content)))
        elif name == "message":
            self._message(payload)
        elif name == "reasoning" and not digest.counted.told and self._legacy and any(part_texts(payload.summary)):
            digest.counted.item()

    def _message(self, payload: _Payload) -> None:
        digest = self._digest
        counted = digest.counted
        said = "\n".join(part_texts(payload.content))
        user = payload.role == "user"
        if user and self._legacy and HOOK_PROMPT.search(said):
            counted.item()
            return
        if not (user or payload.role == "assistant"):
            return
        if user and is_contextual({"type": "message", "role": "user", "content": payload.content}):
            return
        if user and not digest.seen_event and digest.inferred is None:
            digest.inferred = preview_text(said)
        letter = None if user else envelope_text(said)
        if letter is not None:
            # No event tells of these.
            self._say("agent", letter)
        if counted.told:
            return
        if user:
            if self._legacy:
                counted.user_message()
            if not digest.marked and self._at is not None:
                digest.recency = self._at
            self._say("user", said)
        elif said:
            if self._legacy:
                counted.item()
            if letter is None:
                self._say("agent", said)
        digest.told_user = user

    def _turn_context(self, payload: _Payload) -> None:
        digest = self._digest
        digest.model = text(payload.model) or digest.model
        cwd = text(payload.cwd)
        digest.first_cwd = digest.first_cwd or cwd
        digest.turn_cwd = cwd or digest.turn_cwd
        digest.turn_id = text(payload.turn_id) or digest.turn_id

    def _say(self, role: SaidRole, said: str, turn_id: str | None = None, tool: str | None = None) -> None:
        if self._said is not None and said and not said.isspace():
            digest = self._digest
            self._said.append(Said(role, said, self._start, self._at, turn_id or digest.turn_id, tool, digest.copying))


def milliseconds(stamp: str | None) -> int | None:
    """Since 1970; a time without zone is UTC."""
    if stamp is None:
        return None
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    return ((moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)) - _EPOCH) // _MILLISECOND


def _tells_time(uuid: str | None) -> TypeGuard[str]:
    """Whether an id is a UUIDv7, whose first 48 bits are its time."""
    return uuid is not None and len(uuid) == 36 and uuid[14] == "7"


def _sum(call_id: str) -> int:
    return zlib.crc32(call_id.encode("utf-8", "surrogatepass"))
