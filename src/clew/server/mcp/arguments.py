"""The arguments of the tools, checked by ourselves and refused in the words the older server used.

Older callers compare these texts, so the tools take raw JSON objects and say what is wrong with them as that server's
decoder did: the first wrong field in the order given, then what is missing.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import msgspec

from clew.errors import BadRequest
from clew.server.mcp.errors import Refused

__all__ = [
    "CodexCall",
    "Fields",
    "ReplyCall",
    "canonical_uuid",
    "parse_codex",
    "parse_reply",
    "uuid_fault",
]

_PARSE = "Failed to parse configuration for Codex tool: "
_THREAD_ID = "Failed to parse thread_id: "
_SANDBOXES = ("read-only", "workspace-write", "danger-full-access")
_POLICIES = ("untrusted", "on-request", "never")
_POLICIES_TOLD = ("on-request", "never")
_CODEX_FIELDS_TOLD = (
    "prompt",
    "model",
    "cwd",
    "approval-policy",
    "sandbox",
    "config",
    "base-instructions",
    "developer-instructions",
    "compact-prompt",
)
"""What the older server listed; texts that callers compare name these and no later ones."""


class _TurnOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What both calls may say about the turn. `settings` are the named settings, as `clew.config` takes them."""

    prompt: str
    settings: dict[str, Any]
    profile: str | None = None
    images: tuple[str, ...] = ()
    output_schema: dict[str, Any] | None = None
    background: bool = False
    include_thread_id: bool = False
    events: bool | None = None


class CodexCall(_TurnOptions, frozen=True, kw_only=True):
    """The arguments of `codex`."""


class ReplyCall(_TurnOptions, frozen=True, kw_only=True):
    """The arguments of `codex-reply`. `thread` is a canonical id, or other text that may name a thread."""

    thread: str


_Check = Callable[[Any], Any]


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise Refused(f"{_PARSE}invalid type: {_kind(value)}, expected a string")
    return value


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Refused(f"{_PARSE}invalid type: {_kind(value)}, expected a boolean")
    return value


def _map(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused(f"{_PARSE}invalid type: {_kind(value)}, expected a map")
    return cast("dict[str, Any]", value)


def _strings(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise Refused(f"{_PARSE}invalid type: {_kind(value)}, expected a sequence")
    return tuple(_string(entry) for entry in cast("list[Any]", value))


def _variant(allowed: Sequence[str], told: Sequence[str]) -> _Check:
    names = [f"`{name}`" for name in told]
    expected = " or ".join(names) if len(names) == 2 else f"one of {', '.join(names)}"

    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise Refused(f"{_PARSE}invalid type: {_kind(value)}, expected string or map")
        if value not in allowed:
            raise Refused(f"{_PARSE}unknown variant `{value}`, expected {expected}")
        return value

    return check


_SETTINGS: Mapping[str, _Check] = {
    "model": _string,
    "cwd": _string,
    "approval-policy": _variant(_POLICIES, _POLICIES_TOLD),
    "sandbox": _variant(_SANDBOXES, _SANDBOXES),
    "config": _map,
    "effort": _string,
}
_INSTRUCTIONS: Mapping[str, _Check] = {
    "base-instructions": _string,
    "developer-instructions": _string,
    "compact-prompt": _string,
}
_TURN: Mapping[str, _Check] = {
    "images": _strings,
    "output-schema": _map,
    "background": _boolean,
    "include-thread-id": _boolean,
    "events": _boolean,
}
_CODEX: Mapping[str, _Check] = {"prompt": _string, **_SETTINGS, **_INSTRUCTIONS, "profile": _string, **_TURN}
_REPLY: Mapping[str, _Check] = {
    "prompt": _string,
    "threadId": _string,
    "conversationId": _string,
    **_SETTINGS,
    **_TURN,
}
_REPLY_ALIASES = {
    "approvalPolicy": "approval-policy",
    "outputSchema": "output-schema",
    "includeThreadId": "include-thread-id",
}


def parse_codex(arguments: Mapping[str, Any] | None) -> CodexCall:
    """The arguments of `codex`; unknown ones are refused. Raises `Refused`."""
    if arguments is None:
        raise Refused("Missing arguments for codex tool-call; the `prompt` field is required.")
    given: dict[str, Any] = {}
    for name, value in arguments.items():
        if name not in _CODEX:
            known = ", ".join(f"`{field}`" for field in _CODEX_FIELDS_TOLD)
            raise Refused(f"{_PARSE}unknown field `{name}`, expected one of {known}")
        _take(_CODEX, given, name, value)
    return CodexCall(**_options(given, {**_SETTINGS, **_INSTRUCTIONS}))


def parse_reply(arguments: Mapping[str, Any] | None) -> ReplyCall:
    """The arguments of `codex-reply`; unknown ones are passed over. Raises `Refused`."""
    if arguments is None:
        raise Refused("Missing arguments for codex-reply tool-call; the `thread_id` and `prompt` fields are required.")
    given: dict[str, Any] = {}
    for name, value in arguments.items():
        known = _REPLY_ALIASES.get(name, name)
        if known in _REPLY:
            _take(_REPLY, given, known, value)
    options = _options(given, _SETTINGS)
    thread = given.get("threadId")
    if thread is None:
        thread = given.get("conversationId")
    if thread is None:
        raise Refused(f"{_THREAD_ID}either threadId or conversationId must be provided")
    if not thread.strip():
        raise unparsed_thread(thread)
    return ReplyCall(thread=canonical_uuid(thread) or thread, **options)


def _take(table: Mapping[str, _Check], given: dict[str, Any], name: str, value: Any) -> None:
    if value is None and name != "prompt":
        return
    given[name] = table[name](value)


def _options(given: Mapping[str, Any], settings: Mapping[str, _Check]) -> dict[str, Any]:
    if "prompt" not in given:
        raise Refused(f"{_PARSE}missing field `prompt`")
    options: dict[str, Any] = {
        name.replace("-", "_"): given[name] for name in (*_TURN, "prompt", "profile") if name in given
    }
    options["settings"] = {name: given[name] for name in settings if name in given}
    return options


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return f"boolean `{str(value).lower()}`"
        case int() | float():
            return "number"
        case str():
            return f'string "{value}"'
        case list():
            return "sequence"
        case _:
            return "map"


def unparsed_thread(text: str) -> Refused:
    """The answer to text that is no id and names no thread."""
    return Refused(f"{_THREAD_ID}{uuid_fault(text)}")


_GROUPS = (8, 4, 4, 4, 12)
_URN = "urn:uuid:"


def canonical_uuid(text: str) -> str | None:
    """The lower-case form with hyphens of a UUID in any of its spellings, else None."""
    body = text
    if body.startswith(_URN):
        body = body.removeprefix(_URN)
        hyphened = True
    elif body.startswith("{") and body.endswith("}"):
        body = body[1:-1]
        hyphened = True
    else:
        hyphened = "-" in body
    groups = body.split("-")
    if hyphened and tuple(map(len, groups)) != _GROUPS:
        return None
    digits = "".join(groups)
    if len(digits) != 32 or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
        return None
    return str(uuid.UUID(hex=digits))


def uuid_fault(text: str) -> str:
    """Why text is no UUID, in the words of the older server's parser."""
    body, offset, simple = text, 0, True
    if text.startswith("{") and text.endswith("}") and len(text) > 1:
        body, offset, simple = text[1:-1], 1, False
    elif text.startswith(_URN):
        body, offset, simple = text.removeprefix(_URN), len(_URN), False
    # Positions are counted in bytes, from one.
    at = offset + 1
    for character in body:
        if character not in "0123456789abcdefABCDEF-":
            return (
                "invalid character: expected an optional prefix of `urn:uuid:` followed by [0-9a-fA-F-], "
                f"found `{character}` at {at}"
            )
        at += len(character.encode("utf-8", "replace"))
    groups = body.split("-")
    if simple and len(groups) == 1:
        return f"invalid length: expected length 32 for simple format, found {len(text)}"
    if len(groups) != len(_GROUPS):
        return f"invalid group count: expected 5, found {len(groups)}"
    for number, (group, length) in enumerate(zip(groups, _GROUPS, strict=True), start=1):
        if len(group) != length:
            return f"invalid group length in group {number}: expected {length}, found {len(group)}"
    return "not a UUID"


class Fields:
    """The arguments of a thread tool, taken one by one. Raises `BadRequest` that names the field."""

    def __init__(self, arguments: Mapping[str, Any] | None, known: Sequence[str]) -> None:
        self._values = dict(arguments or {})
        for name in self._values:
            if name not in known:
                raise BadRequest(name, f"unknown; known are {', '.join(known)}")

    def text(self, name: str) -> str | None:
        value = self._values.get(name)
        if value is not None and not isinstance(value, str):
            raise BadRequest(name, "expected a string")
        return value

    def required(self, name: str) -> str:
        value = self.text(name)
        if value is None or not value.strip():
            raise BadRequest(name, "required")
        return value

    def thread(self) -> str:
        """The thread a call is about: an id in its canonical form, or other text that may name one."""
        reference = self.required("threadId")
        return canonical_uuid(reference) or reference

    def count(self, name: str, default: int, *, most: int) -> int:
        value = self._values.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
            raise BadRequest(name, "expected a whole number")
        if not 1 <= value <= most:
            raise BadRequest(name, f"expected a number from 1 to {most}")
        return int(value)

    def seconds(self, name: str, default: float) -> float:
        value = self._values.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise BadRequest(name, "expected a number of seconds")
        return float(value)

    def flag(self, name: str) -> bool | None:
        value = self._values.get(name)
        if value is not None and not isinstance(value, bool):
            raise BadRequest(name, "expected true or false")
        return value

    def choice(self, name: str, allowed: Sequence[str]) -> str | None:
        value = self.text(name)
        if value is not None and value not in allowed:
            raise BadRequest(name, f"expected one of {', '.join(allowed)}")
        return value

    def words(self, name: str) -> tuple[str, ...]:
        """One word or a list of them."""
        value = self._values.get(name)
        if value is None:
            return ()
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, list) or not all(isinstance(word, str) for word in cast("list[Any]", value)):
            raise BadRequest(name, "expected a string or a list of strings")
        return tuple(cast("list[str]", value))

    def moment(self, name: str) -> str | None:
        """A point in time as RFC 3339 UTC; a date alone is its first moment."""
        value = self.text(name)
        if value is None:
            return None
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise BadRequest(name, "expected a date or a time like 2026-07-01T12:00:00Z") from None
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
