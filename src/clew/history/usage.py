"""What was spent in one file: tokens and turns, turn by turn, kept small and extended line by line.

A turn that stands in several files (forks that copied, sub-agents that inherited, reviews that two threads tell of) has
the same key in each, so that `count_once` counts it once. docs/usage.md says by which rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Any, Generic, TypeVar

import msgspec

from clew.history.contextual import is_contextual
from clew.history.payload import part_texts
from clew.rollout.envelope import Record, payload_kind
from clew.rollout.names import canonical_id, id_milliseconds

__all__ = ["NOTHING", "USAGE_KINDS", "Tokens", "TurnUsage", "UsageTally", "count_once"]

USAGE_KINDS = frozenset(
    {
        "session_meta",
        "turn_context",
        "token_usage_record",
        "task_started",
        "turn_started",
        "task_complete",
        "turn_complete",
        "user_message",
        "token_count",
        "thread_settings_applied",
    }
)
"""The lines that a tally always needs: kinds of events, and types of lines that have no kind."""

_STARTS = frozenset({"task_started", "turn_started"})
_ENDS = frozenset({"task_complete", "turn_complete"})
_WRAPPERS = frozenset({"event_msg", "response_item"})
_ANSWERS = frozenset({"reasoning", "function_call", "custom_tool_call", "local_shell_call", "web_search_call"})
_MOST = 1 << 48  # no thread spends as much: a sum of such numbers still fits
_EARLIEST = 1_577_836_800  # 2020: an id whose time lies before it tells no time


class Tokens(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A number of tokens. `cached` and `written` (to the cache) are parts of `input`, `reasoning` is one of
    `output`."""

    input: int = 0
    cached: int = 0
    written: int = 0
    output: int = 0
    reasoning: int = 0
    total: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            self.input + other.input,
            self.cached + other.cached,
            self.written + other.written,
            self.output + other.output,
            self.reasoning + other.reasoning,
            self.total + other.total,
        )

    def since(self, before: Tokens) -> Tokens | None:
        """What came to a running sum since it was `before`; None when it shrank, so that it is another sum."""
        if (
            self.input < before.input
            or self.cached < before.cached
            or self.written < before.written
            or self.output < before.output
            or self.reasoning < before.reasoning
            or self.total < before.total
        ):
            return None
        return Tokens(
            self.input - before.input,
            self.cached - before.cached,
            self.written - before.written,
            self.output - before.output,
            self.reasoning - before.reasoning,
            self.total - before.total,
        )


NOTHING = Tokens()


class TurnUsage(msgspec.Struct, array_like=True, gc=False):
    """One turn's part of a file. `key` is the same wherever the turn stands; `started` in seconds since 1970;
    `model`, `cwd` and `provider` are places in the tally's `names`. `is_turn` is False for tokens of no turn."""

    key: int
    started: int
    is_turn: bool
    model: int
    cwd: int
    provider: int
    tokens: Tokens = NOTHING


class UsageTally(msgspec.Struct, array_like=True):
    """Turns and tokens of one file's own lines.

    `names[0]` is "": not known. What stands behind `turns` is what extending needs: the settings in force, the running
    sum of the last `token_count`, whether a record told of it already, and which kind of turn is open.
    """

    thread_id: str = ""
    began: int = 0
    names: list[str] = msgspec.field(default_factory=lambda: [""])
    turns: list[TurnUsage] = msgspec.field(default_factory=list[TurnUsage])
    model: int = 0
    cwd: int = 0
    provider: int = 0
    sum: Tokens | None = None
    recorded: bool = False
    told: bool = False
    """Whether a turn is open that the log named when it began."""
    asked: bool = False
    """Whether the last turn has no name in the log and waits for its first answer, which becomes part of its key."""
    bare: bool = False
    chain: int = 0

    @property
    def tokens(self) -> Tokens:
        """All that this file tells of, copies included."""
        found = NOTHING
        for turn in self.turns:
            found += turn.tokens
        return found

    def wants(self, kind: str) -> bool:
        """Whether a line of this kind (the `type` inside its payload, or its own where there is none) says something
        here now. Other lines may be left out."""
        return kind in USAGE_KINDS or ((self.asked or self.bare) and (kind == "message" or kind in _ANSWERS))

    def add(self, record: Record) -> None:
        """Count one more line of the file."""
        kind = record.type
        if kind in _WRAPPERS:
            kind = payload_kind(record.payload) or ""
        if self.wants(kind):
            stamp = record.timestamp
            self._add(kind, _read(_payloads.get(kind, _any), record.payload), _milliseconds(stamp), stamp is None)

    def take(self, kind: str, line: bytes, *, at: int | None) -> None:
        """The same for a line as it stands there, without its newline: for who knows its kind from its first bytes.
        `at`: milliseconds since 1970."""
        if self.wants(kind):
            found = _read(_lines.get(kind, _any_line), line)
            if found is not None and found.payload is None:
                # A line of the oldest files, which have nothing around the payload.
                self._add(kind, _read(_payloads.get(kind, _any), line), at, True)
            elif found is not None:
                self._add(kind, found.payload, at, False)

    def _add(self, kind: str, payload: Any, at: int | None, bare: bool) -> None:
        if payload is None:
            return
        seconds = 0 if at is None else at // 1000
        match kind:
            case "token_count":
                self._count(payload.info, seconds)
            case "token_usage_record":
                self._record(payload, seconds)
            case "turn_context":
                self._context(payload)
            case "session_meta":
                self._head(payload, seconds)
            case "user_message":
                if not self.told:
                    self._ask(payload.message or "", seconds)
            case "thread_settings_applied":
                self._settings(payload)
            case "message":
                self._message(payload, seconds, bare)
            case _ if kind in _STARTS:
                self.told, self.asked = True, False
                turn_id = payload.turn_id or ""
                told = payload.started_at
                started = int(told) if isinstance(told, int | float) and 0 < told < _MOST else 0
                self._begin(_key(turn_id), started or _begun(turn_id, seconds))
            case _ if kind in _ENDS:
                self.told = False
            case _:
                self._answered(str(payload.get("call_id") or payload.get("encrypted_content") or kind))

    # -- who and with what

    def _head(self, meta: _Head, at: int) -> None:
        if not meta.id:
            return
        if not self.thread_id:
            self.thread_id = meta.id
            self.began = (_milliseconds(meta.timestamp) or 0) // 1000 or at
            self.chain = _mixed(0, meta.id)
            self.bare = meta.cli_version is None and meta.cwd is None
            self.cwd = self._name(meta.cwd)
            self.provider = self._name(meta.model_provider)
        elif meta.id != self.thread_id and not self.turns:
            # A copy: its turns are those of the thread that stands deepest.
            self.chain = _mixed(0, meta.id)

    def _settings(self, event: _Applied) -> None:
        applied = event.thread_settings
        if applied is None:
            return
        self.model = self._name(applied.model) or self.model
        self.cwd = self._name(applied.cwd) or self.cwd
        self.provider = self._name(applied.model_provider_id) or self.provider

    def _context(self, context: _Context) -> None:
        self.model = self._name(context.model) or self.model
        self.cwd = self._name(context.cwd) or self.cwd
        if self.turns and (self.told or context.turn_id is None or _key(context.turn_id) == self.turns[-1].key):
            self.turns[-1].model, self.turns[-1].cwd = self.model, self.cwd

    # -- turns

    def _ask(self, message: str, at: int) -> None:
        """A turn that the log gives no name: eras without turn ids."""
        self.chain = _mixed(self.chain, message)
        self._begin(self.chain, at or self.began)
        self.asked = True

    def _message(self, item: dict[str, Any], at: int, bare: bool) -> None:
        role, said = item.get("role"), "".join(part_texts(item.get("content")))
        if role == "assistant":
            self._answered(said)
        elif bare and role == "user" and not is_contextual(item):
            self._ask(said, at)

    def _answered(self, answer: str) -> None:
        if self.asked:
            # The same words may be asked again in a fork; that the answer is the same again, too, is a copy.
            self.chain = self.turns[-1].key = _mixed(self.chain, answer)
            self.asked = False

    def _begin(self, key: int, started: int, *, is_turn: bool = True) -> TurnUsage:
        turn = TurnUsage(key, started, is_turn, self.model, self.cwd, self.provider)
        self.turns.append(turn)
        return turn

    # -- tokens

    def _count(self, info: _Info | None, at: int) -> None:
        if info is None:
            # A program that knows of nothing spent yet: its sum begins anew.
            self.sum, self.recorded = None, False
            return
        before, now = self.sum, _tokens(info.total_token_usage)
        recorded, self.sum, self.recorded = self.recorded, now, False
        if recorded or now == before:
            return
        last = now if info.last_token_usage is None else _tokens(info.last_token_usage)
        # What an inherited sum began with stands in another file, so that of the first one only `last` is ours.
        spent = last if before is None or now == last else now.since(before) or last
        # An estimate of what the context holds: nothing was asked of a model.
        if spent.input or spent.output:
            self._spend(spent, at)

    def _record(self, found: _Record, at: int) -> None:
        if found.usage is None:
            return
        self.recorded = True
        key = _key(found.turn_id) if found.turn_id else None
        if key is not None and not any(turn.key == key for turn in self.turns[-4:]):
            self._begin(key, _begun(found.turn_id or "", at), is_turn=False)
        self._spend(_tokens(found.usage), at, key)

    def _spend(self, spent: Tokens, at: int, key: int | None = None) -> None:
        if not self.turns:
            self._begin(_mixed(self.began, self.thread_id), at or self.began, is_turn=False)
        turn = self.turns[-1] if key is None else next(turn for turn in reversed(self.turns) if turn.key == key)
        turn.tokens += spent

    def _name(self, name: str | None) -> int:
        if not name:
            return 0
        try:
            return self.names.index(name)
        except ValueError:
            self.names.append(name)
            return len(self.names) - 1


def count_once(tallies: Sequence[UsageTally]) -> Iterator[tuple[int, TurnUsage]]:
    """All turns of several files, each once, with the place of the tally that it is taken from.

    Of a turn that stands in several, the file that knows of most tokens counts; among equals the one that began first:
    a copy is younger than what it was copied from.
    """
    best: dict[int, tuple[int, TurnUsage]] = {}
    order = sorted(range(len(tallies)), key=lambda place: tallies[place].began)
    for place in order:
        for turn in _merged(tallies[place].turns):
            known = best.get(turn.key)
            if known is None or turn.tokens.total > known[1].tokens.total:
                if known is not None and known[1].is_turn and not turn.is_turn:
                    turn = msgspec.structs.replace(turn, is_turn=True)
                best[turn.key] = place, turn
    yield from best.values()


def _merged(turns: Sequence[TurnUsage]) -> Sequence[TurnUsage]:
    """One entry per key: a file may tell of a turn in two places."""
    if len({turn.key for turn in turns}) == len(turns):
        return turns
    found: dict[int, TurnUsage] = {}
    for turn in turns:
        known = found.get(turn.key)
        if known is None:
            found[turn.key] = turn
        else:
            found[turn.key] = msgspec.structs.replace(
                known, tokens=known.tokens + turn.tokens, is_turn=known.is_turn or turn.is_turn
            )
    return list(found.values())


# -- what is read of the lines; everything else in them is passed over


class _Head(msgspec.Struct, gc=False):
    id: str | None = None
    timestamp: str | None = None
    cwd: str | None = None
    cli_version: str | None = None
    model_provider: str | None = None


class _Context(msgspec.Struct, gc=False):
    turn_id: str | None = None
    cwd: str | None = None
    model: str | None = None


class _Usage(msgspec.Struct, gc=False):
    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_output_tokens: int | None = None
    total_tokens: int | None = None


class _Info(msgspec.Struct, gc=False):
    total_token_usage: _Usage | None = None
    last_token_usage: _Usage | None = None


class _Settings(msgspec.Struct, gc=False):
    model: str | None = None
    cwd: str | None = None
    model_provider_id: str | None = None


class _Start(msgspec.Struct, gc=False):
    turn_id: str | None = None
    started_at: int | float | None = None


class _Said(msgspec.Struct, gc=False):
    message: str | None = None


class _Counted(msgspec.Struct, gc=False):
    info: _Info | None = None


class _Applied(msgspec.Struct, gc=False):
    thread_settings: _Settings | None = None


class _Record(msgspec.Struct, gc=False):
    turn_id: str | None = None
    usage: _Usage | None = None


_T = TypeVar("_T")


class _Line(msgspec.Struct, Generic[_T], gc=False):
    payload: _T | None = None


_shapes: dict[str, Any] = {
    "session_meta": _Head,
    "turn_context": _Context,
    "token_usage_record": _Record,
    "user_message": _Said,
    "token_count": _Counted,
    "thread_settings_applied": _Applied,
    **dict.fromkeys((*_STARTS, *_ENDS), _Start),
}
_payloads = {kind: msgspec.json.Decoder(shape) for kind, shape in _shapes.items()}
_lines = {kind: msgspec.json.Decoder(_Line[shape]) for kind, shape in _shapes.items()}
_any = msgspec.json.Decoder(dict[str, Any])
_any_line = msgspec.json.Decoder(_Line[dict[str, Any]])


def _read(decoder: msgspec.json.Decoder[Any], data: bytes | msgspec.Raw) -> Any:
    """None for what is not as its kind should be: such a line tells nothing about usage."""
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _tokens(usage: _Usage | None) -> Tokens:
    if usage is None:
        return NOTHING
    told = (
        usage.input_tokens or 0,
        usage.cached_input_tokens or 0,
        usage.cache_write_input_tokens or 0,
        usage.output_tokens or 0,
        usage.reasoning_output_tokens or 0,
        usage.total_tokens or 0,
    )
    if min(told) < 0 or max(told) > _MOST:
        return Tokens(*(min(max(number, 0), _MOST) for number in told))
    return Tokens(*told)


def _mixed(before: int, text: str) -> int:
    data = before.to_bytes(8, "big", signed=False) + text.encode(errors="surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


def _key(turn_id: str) -> int:
    return _mixed(1, turn_id)


def _milliseconds(stamp: str | None) -> int | None:
    """RFC 3339 as milliseconds since 1970; None for what is none."""
    if not stamp:
        return None
    try:
        moment = datetime.fromisoformat(stamp)
        return max(0, int(moment.timestamp() * 1000)) if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def _begun(turn_id: str, written: int) -> int:
    """When a turn began: what its id says survives being copied, the time of its line does not."""
    milliseconds = id_milliseconds(turn_id) if canonical_id(turn_id) else None
    told = 0 if milliseconds is None else milliseconds // 1000
    return told if _EARLIEST <= told <= written or not written else written
