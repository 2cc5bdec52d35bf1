"""Turns in brief: what was asked, what was answered, which commands ran and which files changed."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import Any, cast

import msgspec

from clew.history.payload import integer, object_from, objects, text
from clew.history.said import call_texts, command_line
from clew.history.turn_drafts import Draft, LegacyBuilder, Projection, Turn, TurnStatus
from clew.rollout.envelope import Record, Skipped

__all__ = ["CommandBrief", "TurnBrief", "same_turns", "turn_briefs"]

_CALLS = ("function_call", "custom_tool_call", "local_shell_call")


class CommandBrief(msgspec.Struct, frozen=True):
    """A command line that ran. `exit_code` is None where the log does not tell it."""

    line: str
    exit_code: int | None = None


class TurnBrief(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded turn. `number` counts from 1; `user` and `agent` are the first thing the user said and the agent's
    last word; `files` are the paths that changed; times in seconds since 1970."""

    number: int
    id: str
    status: TurnStatus
    user: str | None = None
    agent: str | None = None
    commands: tuple[CommandBrief, ...] = ()
    files: tuple[str, ...] = ()
    started_at: int | None = None


def turn_briefs(
    records: Iterable[Record | Skipped], history_mode: str, *, first: int = 1, subagent_start: int | None = None
) -> list[TurnBrief]:
    """The turns that begin in `records`, oldest first; the oldest has the number `first`.

    Legacy logs have no record of commands as people see them: there the calls of the model are told.
    """
    if history_mode == "paginated":
        projection = Projection(subagent_start)
        for record in records:
            if isinstance(record, Record) and record.type == "event_msg":
                projection.read(record)
        return [_brief(number, draft.turn(None)) for number, draft in enumerate(projection.ordered(), first)]
    builder = LegacyBuilder()
    calls: dict[Draft, list[tuple[str, str]]] = {}
    for record in records:
        if isinstance(record, Record):
            builder.read(record)
            if record.type == "response_item" and builder.open is not None:
                calls.setdefault(builder.open, []).extend(_called(record))
    return [
        _brief(number, draft.turn(None), calls.get(draft, ())) for number, draft in enumerate(builder.finish(), first)
    ]


def same_turns(one: TurnBrief, other: TurnBrief) -> bool:
    """Whether two threads tell the same of a turn, as far as one can see; where they count it does not matter."""
    return (one.user, one.agent, one.status == other.status) == (other.user, other.agent, True)


def _called(record: Record) -> list[tuple[str, str]]:
    item = object_from(record.payload) or {}
    kind = text(item.get("type")) or ""
    if kind not in _CALLS:
        return []
    said = call_texts(kind, text(item.get("name")), item.get("arguments"), item.get("input"), item.get("action"))
    return [(role, what) for role, what, _ in said]


def _brief(number: int, turn: Turn, calls: Sequence[tuple[str, str]] = ()) -> TurnBrief:
    user = agent = None
    commands: list[CommandBrief] = []
    files: dict[str, None] = {}
    for item in turn.items:
        match item.get("type"):
            case "userMessage":
                user = user or _said(item)
            case "agentMessage":
                agent = text(item.get("text")) or agent
            case "commandExecution":
                commands.append(CommandBrief(_typed(text(item.get("command")) or ""), integer(item.get("exitCode"))))
            case "fileChange":
                for change in objects(item.get("changes")):
                    files[text(change.get("path")) or ""] = None
                    kind = change.get("kind")
                    if isinstance(kind, dict) and (moved := text(cast("dict[str, Any]", kind).get("move_path"))):
                        files[moved] = None
            case _:
                pass
    for role, what in calls:
        if role == "command":
            commands.append(CommandBrief(what))
        elif not any(path == what or path.endswith(f"/{what}") for path in files):
            files[what] = None
    return TurnBrief(
        number=number,
        id=turn.id,
        status=turn.status,
        user=user,
        agent=agent,
        commands=tuple(commands),
        files=tuple(files),
        started_at=turn.started_at,
    )


def _typed(line: str) -> str:
    """A command line without the shell that was started to run it."""
    if " -" not in line:
        return line
    try:
        parts = shlex.split(line)
    except ValueError:
        return line
    script = command_line(parts)
    return line if script == " ".join(parts) else script


def _said(item: dict[str, Any]) -> str | None:
    parts = [text(part.get("text")) or "" for part in objects(item.get("content")) if part.get("type") == "text"]
    return "\n".join(parts) or None
