"""What a turn writes: the lines of each step, in either history mode.

Codex keeps two dialects of the same log. *Legacy* files carry `user_message`, `agent_message` and the like beside the
response items; *paginated* ones carry `item_completed` instead. `TurnLines` speaks both; nobody else needs to know.
Pure: every id and every moment comes from the caller.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import msgspec

from clew.events import TurnError, TurnInput, Usage
from clew.history.recorded import RecordedSettings
from clew.rollout.envelope import Line
from clew.settings import Sandbox, SandboxMode, Settings

__all__ = ["HistoryMode", "TurnLines", "sandbox_payload", "session_meta", "settings_lines", "stamped"]

HistoryMode = Literal["legacy", "paginated"]

_PROTECTED = (".git", ".agents", ".codex", ".aws")


def session_meta(
    *,
    thread_id: str,
    timestamp: str,
    settings: Settings,
    base_instructions: str,
    window_id: str,
    source: str,
    originator: str,
    version: str,
    mode: HistoryMode = "paginated",
    session_id: str | None = None,
    git: dict[str, str] | None = None,
    forked_from: dict[str, Any] | None = None,
) -> Line:
    """The first line of a thread's file. `forked_from` holds the lineage members of a fork or a later segment."""
    payload: dict[str, Any] = {
        "session_id": session_id or thread_id,
        "id": thread_id,
        **(forked_from or {}),
        "timestamp": timestamp,
        "cwd": settings.cwd,
        "runtime_workspace_roots": [settings.cwd],
        "originator": originator,
        "cli_version": version,
        "source": source,
        "thread_source": "user",
        "model_provider": settings.provider,
        "base_instructions": {"text": base_instructions, "provenance": {"type": "custom"}},
        "history_mode": mode,
        "context_window": {"window_id": window_id},
    }
    if git:
        payload["git"] = git
    return Line("session_meta", payload)


def sandbox_payload(sandbox: Sandbox, cwd: str) -> dict[str, Any]:
    """The members of `turn_context` that tell the sandbox: the policy, and the profile newer readers use."""
    if sandbox.mode is SandboxMode.FULL_ACCESS:
        return {"permission_profile": {"type": "disabled"}, "sandbox_policy": {"type": sandbox.mode.value}}
    entries: list[dict[str, Any]] = [{"path": {"type": "special", "value": {"kind": "root"}}, "access": "read"}]
    policy: dict[str, Any] = {"type": sandbox.mode.value}
    if sandbox.mode is SandboxMode.WORKSPACE_WRITE:
        policy |= {
            "network_access": sandbox.network_access,
            "exclude_tmpdir_env_var": sandbox.exclude_tmpdir_env_var,
            "exclude_slash_tmp": sandbox.exclude_slash_tmp,
        }
        if sandbox.writable_roots:
            policy["writable_roots"] = list(sandbox.writable_roots)
        roots = [cwd, *(root for root in sandbox.writable_roots if root != cwd)]
        entries += [{"path": {"type": "path", "path": root}, "access": "write"} for root in roots]
        if not sandbox.exclude_slash_tmp:
            entries.append({"path": {"type": "special", "value": {"kind": "slash_tmp"}}, "access": "write"})
        if not sandbox.exclude_tmpdir_env_var:
            entries.append({"path": {"type": "special", "value": {"kind": "tmpdir"}}, "access": "write"})
        entries += [
            {"path": {"type": "path", "path": f"{root}/{name}"}, "access": "read", "missing_path_behavior": "skip"}
            for root in roots
            for name in _PROTECTED
        ]
    network = sandbox.mode is SandboxMode.WORKSPACE_WRITE and sandbox.network_access
    profile = {
        "type": "managed",
        "file_system": {"type": "restricted", "entries": entries},
        "network": "enabled" if network else "restricted",
    }
    return {"permission_profile": profile, "sandbox_policy": policy}


def settings_lines(thread_id: str, recorded: RecordedSettings) -> list[Line]:
    """A thread's settings said outside of a turn; nothing where too little of them is known to say it."""
    if recorded.cwd is None or recorded.model is None or recorded.sandbox is None or recorded.approval is None:
        return []
    mode = {
        "mode": "default",
        "settings": {
            "model": recorded.model,
            "reasoning_effort": recorded.effort,
            "developer_instructions": recorded.developer_instructions,
        },
    }
    applied = {
        "model": recorded.model,
        "model_provider_id": recorded.provider,
        "approval_policy": recorded.approval.value,
        "approvals_reviewer": "user",
        **sandbox_payload(recorded.sandbox, recorded.cwd),
        "cwd": recorded.cwd,
        "runtime_workspace_roots": [recorded.cwd],
        "collaboration_mode": mode,
    }
    event = {"type": "thread_settings_applied", "thread_id": thread_id, "thread_settings": applied}
    return [Line("event_msg", event)]


def stamped(item: dict[str, Any], turn_id: str) -> dict[str, Any]:
    """A response item with the id of the turn that made it; whatever else it carries is kept."""
    passthrough = cast("dict[str, Any]", item.get("internal_chat_message_metadata_passthrough") or {})
    return {**item, "internal_chat_message_metadata_passthrough": {**passthrough, "turn_id": turn_id}}


class TurnLines(msgspec.Struct, frozen=True, kw_only=True):
    """The lines of one turn. Methods give the lines of a step in the order they belong on disk."""

    thread_id: str
    session_id: str
    turn_id: str
    mode: HistoryMode

    def _event(self, kind: str, **members: Any) -> Line:
        return Line("event_msg", {"type": kind, **members})

    def _item_completed(self, item: dict[str, Any], started_ms: int, completed_ms: int) -> Line:
        return self._event(
            "item_completed",
            thread_id=self.thread_id,
            turn_id=self.turn_id,
            item=item,
            started_at_ms=started_ms,
            completed_at_ms=completed_ms,
        )

    def response_item(self, item: dict[str, Any]) -> Line:
        return Line("response_item", stamped(item, self.turn_id))

    def started(self, *, now: float, trigger: str, context_window: int | None) -> list[Line]:
        attribution = {
            "turn_id": self.turn_id,
            "turn_trigger": trigger,
            "parent_turn_id": None,
            "initiating_agent_path": None,
            "root_turn_id": self.turn_id,
        }
        return [
            self._event(
                "task_started",
                turn_attribution=attribution,
                turn_id=self.turn_id,
                root_turn_id=self.turn_id,
                started_at=int(now),
                model_context_window=context_window,
                collaboration_mode_kind="default",
            )
        ]

    def context(
        self,
        settings: Settings,
        messages: list[dict[str, Any]],
        *,
        state: dict[str, Any] | None,
        patch: dict[str, Any] | None,
        settings_changed: bool,
    ) -> list[Line]:
        """Messages about the surroundings, then the bookkeeping that describes them, then the settings of the turn.

        `state` is a whole world state (first context, after a compaction), `patch` a merge patch to the last one.
        """
        lines = [self.response_item(message) for message in messages]
        if state is not None:
            lines.append(Line("world_state", {"full": True, "state": state}))
        elif patch:
            lines.append(Line("world_state", {"full": False, "state": patch}))
        lines.append(Line("turn_context", self._turn_context(settings)))
        if settings_changed:
            lines.append(self._event("thread_settings_applied", **self._settings_applied(settings)))
        return lines

    def _collaboration_mode(self, settings: Settings) -> dict[str, Any]:
        return {
            "mode": "default",
            "settings": {
                "model": settings.model,
                "reasoning_effort": settings.effort,
                "developer_instructions": None,
            },
        }

    def _turn_context(self, settings: Settings) -> dict[str, Any]:
        payload: dict[str, Any] = {
            "turn_id": self.turn_id,
            "root_turn_id": self.turn_id,
            "cwd": settings.cwd,
            "approval_policy": settings.approval.value,
            "approvals_reviewer": "user",
            "model": settings.model,
            "collaboration_mode": self._collaboration_mode(settings),
            "realtime_active": False,
            "summary": settings.summary or "none",
            **sandbox_payload(settings.sandbox, settings.cwd),
        }
        if settings.effort is not None:
            payload["effort"] = settings.effort
        # Codex records neither of these; without them a restart after a compaction would forget what the caller said.
        if settings.developer_instructions is not None:
            payload["developer_instructions"] = settings.developer_instructions
        if settings.compact_prompt is not None:
            payload["compact_prompt"] = settings.compact_prompt
        return payload

    def _settings_applied(self, settings: Settings) -> dict[str, Any]:
        applied: dict[str, Any] = {
            "model": settings.model,
            "model_provider_id": settings.provider,
            "approval_policy": settings.approval.value,
            "approvals_reviewer": "user",
            "permission_profile": sandbox_payload(settings.sandbox, settings.cwd)["permission_profile"],
            "cwd": settings.cwd,
            "runtime_workspace_roots": [settings.cwd],
            "collaboration_mode": self._collaboration_mode(settings),
        }
        if settings.effort is not None:
            applied["reasoning_effort"] = settings.effort
        return {"thread_id": self.thread_id, "thread_settings": applied}

    def user_message(self, message: dict[str, Any], turn: TurnInput, *, item_id: str, now: float) -> list[Line]:
        """The user's message: the response item `message`, and the record by which people find it again."""
        line = self.response_item(message)
        if self.mode == "legacy":
            return [
                line,
                self._event(
                    "user_message",
                    message=turn.text,
                    images=list(turn.images),
                    local_images=list(turn.local_images),
                    text_elements=[],
                ),
            ]
        content: list[dict[str, Any]] = [{"type": "text", "text": turn.text, "text_elements": []}]
        content += [{"type": "image", "image_url": url} for url in turn.images]
        content += [{"type": "local_image", "path": path} for path in turn.local_images]
        at = int(now * 1000)
        return [line, self._item_completed({"type": "UserMessage", "id": item_id, "content": content}, at, at)]

    def model_item(self, item: dict[str, Any], *, now: float) -> list[Line]:
        """An item the model finished. What people see of it (messages, reasoning) stands directly before it."""
        visible: Line | None = None
        at = int(now * 1000)
        kind = item.get("type")
        if kind == "message" and item.get("role") == "assistant":
            text = _texts(item.get("content"), "output_text")
            phase = item.get("phase")
            if self.mode == "legacy":
                if text:
                    visible = self._event("agent_message", message=text, phase=phase, memory_citation=None)
            else:
                shown: dict[str, Any] = {
                    "type": "AgentMessage",
                    "id": item.get("id"),
                    "content": [{"type": "Text", "text": text}],
                }
                if phase is not None:
                    shown["phase"] = phase
                visible = self._item_completed(shown, at, at)
        elif kind == "reasoning":
            summary = _parts(item.get("summary"))
            raw = _parts(item.get("content"))
            if self.mode == "legacy":
                lines = [self._event("agent_reasoning", text=text) for text in summary]
                lines += [self._event("agent_reasoning_raw_content", text=text) for text in raw]
                return [*lines, self.response_item(item)]
            shown = {"type": "Reasoning", "id": item.get("id"), "summary_text": summary, "raw_content": raw}
            visible = self._item_completed(shown, at, at)
        line = self.response_item(item)
        return [line] if visible is None else [visible, line]

    def finished(self, shown: dict[str, Any], *, started_ms: int, completed_ms: int) -> list[Line]:
        """A command or a patch that is over, in the log's own spelling, as people see it. Legacy files have no record
        of commands."""
        if self.mode == "paginated":
            return [self._item_completed(shown, started_ms, completed_ms)]
        if shown.get("type") != "FileChange":
            return []
        return [
            self._event(
                "patch_apply_end",
                call_id=shown.get("id"),
                turn_id=self.turn_id,
                stdout=shown.get("stdout") or "",
                stderr=shown.get("stderr") or "",
                success=shown.get("status") == "completed",
                changes=shown.get("changes") or {},
                status=shown.get("status"),
            )
        ]

    def usage(
        self, response_id: str, *, last: Usage, turn: Usage, total: Usage, context_window: int | None
    ) -> list[Line]:
        record = {
            "thread_id": self.thread_id,
            "turn_id": self.turn_id,
            "session_id": self.session_id,
            "root_turn_id": self.turn_id,
            "response_id": response_id,
            "usage": msgspec.to_builtins(last),
            "turn_token_usage": msgspec.to_builtins(turn),
            "thread_token_usage": msgspec.to_builtins(total),
        }
        return [
            Line("token_usage_record", record),
            self.token_count(last=last, total=total, context_window=context_window),
        ]

    def token_count(self, *, last: Usage, total: Usage, context_window: int | None) -> Line:
        return self._event(
            "token_count",
            info={
                "total_token_usage": msgspec.to_builtins(total),
                "last_token_usage": msgspec.to_builtins(last),
                "model_context_window": context_window,
            },
            rate_limits=None,
        )

    def compacted(
        self,
        message: str,
        replacement: list[dict[str, Any]],
        *,
        window_number: int,
        first_window_id: str | None,
        previous_window_id: str | None,
        window_id: str,
        state: dict[str, Any],
        settings: Settings,
        item_id: str,
        last: Usage,
        total: Usage,
        context_window: int | None,
        started: float,
        now: float,
    ) -> list[Line]:
        """A new window: what replaces the context, the world as just told, the settings, and the item people see.

        `last` estimates what the new window holds, in place of the counts of a response; `total` is the thread's.
        """
        payload = {
            "message": message,
            "replacement_history": replacement,
            "window_number": window_number,
            "first_window_id": first_window_id,
            "previous_window_id": previous_window_id,
            "window_id": window_id,
        }
        lines = [
            Line("compacted", payload),
            Line("world_state", {"full": True, "state": state}),
            Line("turn_context", self._turn_context(settings)),
            # Only these repeat the provider: without them a reader that stops at the compaction would miss it.
            self._event("thread_settings_applied", **self._settings_applied(settings)),
            self.token_count(last=last, total=total, context_window=context_window),
        ]
        if self.mode == "legacy":
            return [*lines, self._event("context_compacted")]
        shown = {"type": "ContextCompaction", "id": item_id}
        return [*lines, self._item_completed(shown, int(started * 1000), int(now * 1000))]

    def completed(
        self,
        last_message: str | None,
        *,
        started: float,
        now: float,
        first_token: float | None = None,
        error: TurnError | None = None,
    ) -> list[Line]:
        """The end of a turn; with `error`, of a failed one. All times in seconds since 1970."""
        members: dict[str, Any] = {
            "root_turn_id": self.turn_id,
            "turn_id": self.turn_id,
            "last_agent_message": last_message,
            "started_at": int(started),
            "completed_at": int(now),
            "duration_ms": round((now - started) * 1000),
        }
        if first_token is not None:
            members["time_to_first_token_ms"] = round((first_token - started) * 1000)
        if error is not None:
            members["error"] = {"message": error.message, "codex_error_info": _error_info(error)}
        return [self._event("task_complete", **members)]

    def aborted(self, marker: dict[str, Any], *, started: float, now: float) -> list[Line]:
        """An interruption: the marker message that tells the model, then the record that ends the turn."""
        return [
            self.response_item(marker),
            self._event(
                "turn_aborted",
                root_turn_id=self.turn_id,
                turn_id=self.turn_id,
                reason="interrupted",
                started_at=int(started),
                completed_at=int(now),
                duration_ms=round((now - started) * 1000),
            ),
        ]


def _parts(value: Any) -> list[str]:
    parts = cast("list[dict[str, Any]]", value) if isinstance(value, list) else []
    return [str(part.get("text", "")) for part in parts]


def _texts(value: Any, kind: str) -> str:
    parts = cast("list[dict[str, Any]]", value) if isinstance(value, list) else []
    return "".join(str(part.get("text", "")) for part in parts if part.get("type") == kind)


_ERROR_INFO = {
    "context_length_exceeded": "context_window_exceeded",
    "insufficient_quota": "usage_limit_exceeded",
    "usage_limit_reached": "usage_limit_exceeded",
    "server_is_overloaded": "server_overloaded",
    "unauthorized": "unauthorized",
    "invalid_prompt": "bad_request",
}


def _error_info(error: TurnError) -> str:
    """The word for the kind of failure that Codex' readers know; `other` for the rest."""
    return _ERROR_INFO.get(error.kind, "other")
