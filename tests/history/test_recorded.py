from __future__ import annotations

from typing import Any

import pytest

from clew.history import RecordedSettings, ThreadMeta
from clew.settings import ApprovalPolicy, Sandbox, SandboxMode, Settings

FULL = Sandbox(mode=SandboxMode.FULL_ACCESS)
WORKSPACE = Sandbox(mode=SandboxMode.WORKSPACE_WRITE)
READ_ONLY = Sandbox()
DEFAULTS = Settings(cwd="/d", model="dm", provider="dp", effort="high", summary="detailed", sandbox=FULL)


def read(turn: dict[str, Any] | None = None, applied: dict[str, Any] | None = None, **meta: Any) -> RecordedSettings:
    return RecordedSettings.read(ThreadMeta(**meta), turn, applied, applied_last=applied is not None)


def root(access: str) -> dict[str, Any]:
    return {"path": {"type": "special", "value": {"kind": "root"}}, "access": access}


def special(kind: str) -> dict[str, Any]:
    return {"path": {"type": "special", "value": {"kind": kind}}, "access": "write"}


def path(where: str, access: str = "write") -> dict[str, Any]:
    return {"path": {"type": "path", "path": where}, "access": access}


def managed(*entries: dict[str, Any], network: str = "restricted") -> dict[str, Any]:
    return {
        "cwd": "/w",
        "permission_profile": {
            "type": "managed",
            "file_system": {"type": "restricted", "entries": list(entries)},
            "network": network,
        },
    }


@pytest.mark.parametrize(
    ("turn", "sandbox"),
    [
        ({"sandbox_policy": {"type": "danger-full-access"}}, FULL),
        ({"sandbox_policy": {"mode": "danger-full-access"}}, FULL),
        ({"sandbox_policy": {"type": "read-only", "network_access": True}}, READ_ONLY),
        ({"sandbox_policy": "workspace-write"}, WORKSPACE),
        (
            {
                "sandbox_policy": {
                    "type": "workspace-write",
                    "writable_roots": ["/x"],
                    "network_access": True,
                    "exclude_tmpdir_env_var": True,
                    "exclude_slash_tmp": True,
                }
            },
            Sandbox(
                mode=SandboxMode.WORKSPACE_WRITE,
                writable_roots=("/x",),
                network_access=True,
                exclude_tmpdir_env_var=True,
                exclude_slash_tmp=True,
            ),
        ),
        ({"sandbox_policy": {"type": "read-only"}, "permission_profile": {"type": "disabled"}}, READ_ONLY),
        ({"permission_profile": {"type": "disabled"}}, FULL),
        (managed(root("read")), READ_ONLY),
        (
            managed(root("read"), path("/w"), special("slash_tmp"), special("tmpdir"), path("/w/.git", "read")),
            WORKSPACE,
        ),
        (
            managed(root("read"), path("/w"), path("/x"), network="enabled"),
            Sandbox(
                mode=SandboxMode.WORKSPACE_WRITE,
                writable_roots=("/x",),
                network_access=True,
                exclude_tmpdir_env_var=True,
                exclude_slash_tmp=True,
            ),
        ),
        (managed(root("write"), network="enabled"), FULL),
    ],
)
def test_the_sandbox_of_every_era_is_understood(turn: dict[str, Any], sandbox: Sandbox) -> None:
    found = read(turn)

    assert (found.sandbox, found.notes) == (sandbox, ())


@pytest.mark.parametrize(
    "turn",
    [
        {"sandbox_policy": {"type": "external-sandbox"}},
        {"sandbox_policy": {}},
        {"permission_profile": {"type": "external"}},
        managed(root("read"), path("/elsewhere")),
    ],
)
def test_what_is_not_understood_becomes_the_narrowest_and_says_so(turn: dict[str, Any]) -> None:
    found = read(turn)

    assert found.sandbox == READ_ONLY
    assert "read-only is used" in found.notes[0]


def test_writing_everywhere_without_network_is_narrowed_to_the_workspace() -> None:
    profile = {"type": "managed", "file_system": {"type": "unrestricted"}, "network": "restricted"}

    assert read({"permission_profile": profile}).sandbox == WORKSPACE


@pytest.mark.parametrize(
    ("recorded", "policy"),
    [
        ("never", ApprovalPolicy.NEVER),
        ("untrusted", ApprovalPolicy.UNTRUSTED),
        ("on-failure", ApprovalPolicy.ON_REQUEST),
        ({"granular": {"rules": True}}, ApprovalPolicy.ON_REQUEST),
        ("sometimes", ApprovalPolicy.UNTRUSTED),
        (None, None),
    ],
)
def test_approval_policies_of_every_era(recorded: Any, policy: ApprovalPolicy | None) -> None:
    assert read({"approval_policy": recorded}).approval == policy


@pytest.mark.parametrize(
    ("default", "given"),
    [
        (FULL, WORKSPACE),
        (READ_ONLY, READ_ONLY),
        (Sandbox(mode=SandboxMode.WORKSPACE_WRITE, network_access=True), WORKSPACE),
    ],
)
def test_without_a_recorded_sandbox_the_default_is_not_trusted_beyond_the_workspace(
    default: Sandbox, given: Sandbox
) -> None:
    defaults = Settings(cwd="/d", model="dm", provider="dp", sandbox=default)

    assert read().settings(defaults).sandbox == given


def test_a_recorded_sandbox_is_kept_also_when_it_is_wider_than_the_default() -> None:
    defaults = Settings(cwd="/d", model="dm", provider="dp", sandbox=READ_ONLY)

    assert read({"sandbox_policy": {"type": "danger-full-access"}}).settings(defaults).sandbox == FULL


def test_gaps_are_filled_from_the_defaults_but_not_with_another_models_effort() -> None:
    recorded = read({"model": "m", "sandbox_policy": {"type": "read-only"}}, base_instructions="base")

    assert recorded.settings(DEFAULTS) == Settings(
        cwd="/d", model="m", provider="dp", sandbox=READ_ONLY, base_instructions="base"
    )
    assert read().settings(DEFAULTS).effort == "high"


def test_the_turn_speaks_for_itself_and_the_metadata_for_the_rest() -> None:
    turn = {
        "cwd": "/w",
        "model": "m",
        "summary": "auto",
        "base_instructions": "turn's",
        "compact_prompt": "shorter",
        "collaboration_mode": {"settings": {"reasoning_effort": "low", "developer_instructions": "be kind"}},
    }

    assert read(turn, provider="p", cwd="/start", base_instructions="base") == RecordedSettings(
        cwd="/w",
        model="m",
        provider="p",
        effort="low",
        summary="auto",
        base_instructions="turn's",
        developer_instructions="be kind",
        compact_prompt="shorter",
    )


def test_settings_applied_later_replace_the_turns() -> None:
    turn = {"cwd": "/w", "model": "m", "effort": "low", "sandbox_policy": {"type": "danger-full-access"}}
    applied = {
        "model": "n",
        "model_provider_id": "q",
        "cwd": "/x",
        "approval_policy": "untrusted",
        "reasoning_summary": "none",
        "permission_profile": managed(root("read"))["permission_profile"],
        "collaboration_mode": {"settings": {"reasoning_effort": None}},
    }

    assert read(turn, applied, provider="p") == RecordedSettings(
        cwd="/x",
        model="n",
        provider="q",
        summary="none",
        approval=ApprovalPolicy.UNTRUSTED,
        sandbox=READ_ONLY,
    )
