"""The settings a thread recorded, read from every era of the log, and how gaps are filled without widening anything."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from clew.history.metadata import ThreadMeta
from clew.history.payload import objects, path_text, text, words
from clew.settings import ApprovalPolicy, Sandbox, SandboxMode, Settings

__all__ = ["RecordedSettings", "recorded_approval", "recorded_sandbox"]

_NARROWEST = Sandbox(mode=SandboxMode.READ_ONLY)
_WORKSPACE = Sandbox(mode=SandboxMode.WORKSPACE_WRITE)


class RecordedSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the log says; None: it says nothing. `notes` name what could not be taken over as it was recorded."""

    cwd: str | None = None
    model: str | None = None
    provider: str | None = None
    effort: str | None = None
    summary: str | None = None
    approval: ApprovalPolicy | None = None
    sandbox: Sandbox | None = None
    base_instructions: str | None = None
    developer_instructions: str | None = None
    compact_prompt: str | None = None
    notes: tuple[str, ...] = ()

    def settings(self, defaults: Settings) -> Settings:
        """The recorded settings, with `defaults` where nothing was recorded.

        Never wider: a thread without any recorded sandbox gets the default one, but no more than writing in its
        workspace without network.
        """
        sandbox = self.sandbox
        if sandbox is None:
            sandbox = _WORKSPACE if defaults.sandbox.wider_than(_WORKSPACE) else defaults.sandbox
        # Effort and summary belong to the recorded model: a turn that named none used the model's own.
        own_model = self.model is not None
        return Settings(
            cwd=self.cwd or defaults.cwd,
            model=self.model or defaults.model,
            provider=self.provider or defaults.provider,
            approval=self.approval or defaults.approval,
            sandbox=sandbox,
            effort=self.effort if own_model else self.effort or defaults.effort,
            summary=self.summary if own_model else self.summary or defaults.summary,
            base_instructions=self.base_instructions or defaults.base_instructions,
            developer_instructions=self.developer_instructions or defaults.developer_instructions,
            compact_prompt=self.compact_prompt or defaults.compact_prompt,
            endpoint=defaults.endpoint if self.provider in (None, defaults.provider) else None,
        )

    @staticmethod
    def read(
        meta: ThreadMeta, turn: dict[str, Any] | None, applied: dict[str, Any] | None, *, applied_last: bool
    ) -> RecordedSettings:
        """From the metadata, the newest `turn_context` payload and the newest `thread_settings` object.

        `applied_last` tells that the settings were applied after that turn; else only their provider counts, which a
        turn does not repeat.
        """
        turn, applied = turn or {}, applied or {}
        notes: list[str] = []
        cwd = path_text(turn.get("cwd"))
        approval = recorded_approval(turn.get("approval_policy"), notes)
        sandbox = recorded_sandbox(turn, cwd or meta.cwd, notes)
        model, effort = text(turn.get("model")), _effort(turn)
        summary, developer = text(turn.get("summary")), _developer(turn)
        if applied_last:
            cwd = path_text(applied.get("cwd")) or cwd
            approval = recorded_approval(applied.get("approval_policy"), notes) or approval
            sandbox = recorded_sandbox(applied, cwd or meta.cwd, notes) or sandbox
            if model_now := text(applied.get("model")):
                model, effort = model_now, _effort(applied)
            summary = text(applied.get("reasoning_summary")) or summary
            developer = _developer(applied) or developer
        provider = text(applied.get("model_provider_id"))
        if not applied_last:
            provider = text(turn.get("model_provider")) or provider
        return RecordedSettings(
            cwd=cwd or meta.cwd,
            model=model,
            provider=provider or text(turn.get("model_provider")) or meta.provider,
            effort=effort,
            summary=summary,
            approval=approval,
            sandbox=sandbox,
            base_instructions=text(turn.get("base_instructions")) or meta.base_instructions,
            developer_instructions=developer,
            compact_prompt=text(turn.get("compact_prompt")),
            notes=tuple(notes),
        )


def recorded_approval(value: Any, notes: list[str]) -> ApprovalPolicy | None:
    """The approval policy of any era; an unknown word becomes the policy that asks most."""
    if value is None:
        return None
    if isinstance(value, dict) or value == "on-failure":
        return ApprovalPolicy.ON_REQUEST
    try:
        return ApprovalPolicy(value)
    except ValueError:
        notes.append(f"the recorded approval policy {value!r} is not known here; commands are asked about")
        return ApprovalPolicy.UNTRUSTED


def recorded_sandbox(payload: dict[str, Any], cwd: str | None, notes: list[str]) -> Sandbox | None:
    """The sandbox of a `turn_context` or of applied settings: its `sandbox_policy`, else its `permission_profile`.

    What is not understood becomes the narrowest sandbox, and `notes` says so. None: neither member is there.
    """
    policy = payload.get("sandbox_policy")
    if policy is not None:
        return _from_policy(policy, notes)
    profile = payload.get("permission_profile")
    if profile is not None:
        return _from_profile(profile, cwd, notes)
    return None


def _from_policy(policy: Any, notes: list[str]) -> Sandbox:
    members: dict[str, Any] = cast("dict[str, Any]", policy) if isinstance(policy, dict) else {}
    # The tag was called `mode` before it was called `type`; a bare word is the oldest form.
    kind = policy if isinstance(policy, str) else members.get("type") or members.get("mode")
    try:
        mode = SandboxMode(kind)
    except ValueError:
        notes.append(f"the recorded sandbox {kind!r} is not known here; read-only is used")
        return _NARROWEST
    if mode is not SandboxMode.WORKSPACE_WRITE:
        return Sandbox(mode=mode)
    return Sandbox(
        mode=mode,
        writable_roots=tuple(path for root in words(members.get("writable_roots")) if (path := path_text(root))),
        network_access=members.get("network_access") is True,
        exclude_tmpdir_env_var=members.get("exclude_tmpdir_env_var") is True,
        exclude_slash_tmp=members.get("exclude_slash_tmp") is True,
    )


def _from_profile(profile: Any, cwd: str | None, notes: list[str]) -> Sandbox:
    members: dict[str, Any] = cast("dict[str, Any]", profile) if isinstance(profile, dict) else {}
    kind = members.get("type")
    if kind == "disabled":
        return Sandbox(mode=SandboxMode.FULL_ACCESS)
    files: Any = members.get("file_system")
    if kind != "managed" or not isinstance(files, dict):
        notes.append(f"the recorded permission profile {kind!r} is not known here; read-only is used")
        return _NARROWEST
    files = cast("dict[str, Any]", files)
    network = members.get("network") == "enabled"
    if files.get("type") == "unrestricted":
        if network:
            return Sandbox(mode=SandboxMode.FULL_ACCESS)
        notes.append("the recorded profile allowed writing everywhere without network; the workspace is allowed here")
        return _WORKSPACE
    roots: list[str] = []
    special: set[str] = set()
    for entry in objects(files.get("entries")):
        if entry.get("access") != "write":
            continue
        path: Any = entry.get("path")
        place: dict[str, Any] = cast("dict[str, Any]", path) if isinstance(path, dict) else {"path": path}
        value: Any = place.get("value")
        if isinstance(value, dict):
            special.add(str(cast("dict[str, Any]", value).get("kind")))
        elif root := path_text(place.get("path")):
            roots.append(root)
    if "root" in special and network:
        return Sandbox(mode=SandboxMode.FULL_ACCESS)
    workspace = cwd in roots or bool(special & {"root", "cwd", "current_working_directory", "project_roots"})
    if not workspace:
        if roots or special:
            notes.append("the recorded profile allowed writing outside of the workspace only; read-only is used")
        return _NARROWEST
    return Sandbox(
        mode=SandboxMode.WORKSPACE_WRITE,
        writable_roots=tuple(root for root in roots if root != cwd),
        network_access=network,
        exclude_tmpdir_env_var="tmpdir" not in special,
        exclude_slash_tmp="slash_tmp" not in special,
    )


def _mode_settings(payload: dict[str, Any]) -> dict[str, Any]:
    mode: Any = payload.get("collaboration_mode")
    inner: Any = cast("dict[str, Any]", mode).get("settings") if isinstance(mode, dict) else None
    return cast("dict[str, Any]", inner) if isinstance(inner, dict) else {}


def _effort(payload: dict[str, Any]) -> str | None:
    named = text(payload.get("effort")) or text(payload.get("reasoning_effort"))
    return named or text(_mode_settings(payload).get("reasoning_effort"))


def _developer(payload: dict[str, Any]) -> str | None:
    return text(payload.get("developer_instructions")) or text(_mode_settings(payload).get("developer_instructions"))
