"""The first line of a thread's file: who it is, where it came from, what it runs with."""

from __future__ import annotations

from typing import Any, Literal, cast

import msgspec

from clew.errors import UnsupportedHistory
from clew.history.payload import integer, object_from, text
from clew.rollout.envelope import Record

__all__ = ["Base", "ThreadMeta", "lenient_meta", "read_meta"]


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """The part of another file that this one continues: what stands before `end_ordinal` there, `end_offset` bytes.

    `file_id` is the last UUID in that file's name: its segment id, or its thread id where it has none.
    """

    file_id: str
    end_ordinal: int
    end_offset: int


class ThreadMeta(msgspec.Struct, frozen=True, kw_only=True):
    """A `session_meta` payload, read leniently. `parent_id` also comes from `source`; `source` is one word."""

    id: str | None = None
    session_id: str | None = None
    parent_id: str | None = None
    forked_from: str | None = None
    created_at: str | None = None
    cwd: str | None = None
    originator: str | None = None
    cli_version: str | None = None
    source: str | None = None
    provider: str | None = None
    base_instructions: str | None = None
    history_mode: Literal["legacy", "paginated"] = "legacy"
    window_id: str | None = None
    subagent_start: int | None = None
    base: Base | None = None
    branch: str | None = None
    commit: str | None = None
    repository: str | None = None
    raw: dict[str, Any] = {}


def read_meta(head: Record | None, *, path: str = "") -> ThreadMeta:
    """The metadata of a `session_meta` record; empty without one. Raises `UnsupportedHistory` for an unknown mode.

    `path` only names the file in that error.
    """
    payload = object_from(head.payload) if head is not None else None
    if payload is None:
        return ThreadMeta()
    meta = lenient_meta(payload)
    mode = payload.get("history_mode")
    if mode is not None and mode not in ("legacy", "paginated"):
        raise UnsupportedHistory(path or f"thread {meta.id}", str(mode), thread_id=meta.id)
    return meta


def lenient_meta(payload: dict[str, Any]) -> ThreadMeta:
    """The metadata in a `session_meta` payload; a mode that is not known counts as legacy."""
    mode = payload.get("history_mode")
    thread_id = text(payload.get("id"))
    git = _object(payload.get("git"))
    instructions = payload.get("base_instructions")
    return ThreadMeta(
        id=thread_id,
        session_id=text(payload.get("session_id")) or thread_id,
        parent_id=text(payload.get("parent_thread_id")) or _spawner(payload.get("source")),
        forked_from=text(payload.get("forked_from_id")),
        created_at=text(payload.get("timestamp")),
        cwd=text(payload.get("cwd")),
        originator=text(payload.get("originator")),
        cli_version=text(payload.get("cli_version")),
        source=_source(payload.get("source")),
        provider=text(payload.get("model_provider")),
        base_instructions=text(_object(instructions).get("text")) or text(instructions),
        history_mode="paginated" if mode == "paginated" else "legacy",
        window_id=text(_object(payload.get("context_window")).get("window_id")),
        subagent_start=integer(payload.get("subagent_history_start_ordinal")),
        base=_base(payload.get("history_base")),
        branch=text(git.get("branch")),
        commit=text(git.get("commit_hash")),
        repository=text(git.get("repository_url")),
        raw=payload,
    )


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _spawner(source: Any) -> str | None:
    spawn = _object(_object(_object(source).get("subagent")).get("thread_spawn"))
    return text(spawn.get("parent_thread_id"))


def _source(source: Any) -> str | None:
    """`cli`, `vscode`, `exec`, … as they are; `subagent` or `subagent:review` for the kinds that are objects."""
    if not isinstance(source, dict):
        return text(source)
    for kind, value in cast("dict[str, Any]", source).items():
        if kind == "custom":
            return text(value) or kind
        if isinstance(value, str):
            return f"{kind}:{value}"
        if isinstance(value, dict) and "other" in value:
            return f"{kind}:{cast('dict[str, Any]', value)['other']}"
        return kind
    return None


def _base(value: Any) -> Base | None:
    base = _object(value)
    file_id, ordinal = text(base.get("thread_id")), integer(base.get("end_ordinal_exclusive"))
    offset = integer(base.get("end_byte_offset"))
    if file_id is None or ordinal is None or offset is None:
        return None
    return Base(file_id=file_id, end_ordinal=ordinal, end_offset=offset)
