"""The settings a thread runs with: one vocabulary for recorded, configured and requested ones."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

__all__ = ["ApprovalPolicy", "Overrides", "Sandbox", "SandboxMode", "Settings"]


class SandboxMode(StrEnum):
    READ_ONLY = "read-only"
    WORKSPACE_WRITE = "workspace-write"
    FULL_ACCESS = "danger-full-access"


class ApprovalPolicy(StrEnum):
    UNTRUSTED = "untrusted"
    ON_REQUEST = "on-request"
    NEVER = "never"


_RANK = {SandboxMode.READ_ONLY: 0, SandboxMode.WORKSPACE_WRITE: 1, SandboxMode.FULL_ACCESS: 2}


class Sandbox(msgspec.Struct, frozen=True, kw_only=True):
    """What commands may touch. The roots, network and temporary-folder switches count for workspace-write only."""

    mode: SandboxMode = SandboxMode.READ_ONLY
    writable_roots: tuple[str, ...] = ()
    network_access: bool = False
    exclude_tmpdir_env_var: bool = False
    exclude_slash_tmp: bool = False

    def wider_than(self, other: Sandbox) -> bool:
        """Whether anything is allowed here that `other` forbids."""
        if _RANK[self.mode] != _RANK[other.mode]:
            return _RANK[self.mode] > _RANK[other.mode]
        if self.mode is not SandboxMode.WORKSPACE_WRITE:
            return False
        return (
            (self.network_access and not other.network_access)
            or not set(self.writable_roots) <= set(other.writable_roots)
            or (other.exclude_tmpdir_env_var and not self.exclude_tmpdir_env_var)
            or (other.exclude_slash_tmp and not self.exclude_slash_tmp)
        )


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a turn needs to know besides its history and its input.

    `cwd` is absolute. `provider` is a key of the configured providers. `effort` and `summary` are the reasoning
    settings (None: the model's own). `base_instructions` None means clew's own text.
    """

    cwd: str
    model: str
    provider: str
    approval: ApprovalPolicy = ApprovalPolicy.ON_REQUEST
    sandbox: Sandbox = Sandbox()
    effort: str | None = None
    summary: str | None = None
    base_instructions: str | None = None
    developer_instructions: str | None = None
    compact_prompt: str | None = None


class Overrides(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller asked for in so many words in this one call; None means: not mentioned."""

    cwd: str | None = None
    model: str | None = None
    provider: str | None = None
    approval: ApprovalPolicy | None = None
    sandbox: Sandbox | None = None
    effort: str | None = None
    summary: str | None = None
    base_instructions: str | None = None
    developer_instructions: str | None = None
    compact_prompt: str | None = None

    def over(self, settings: Settings) -> Settings:
        """`settings` with everything mentioned here in its place."""
        named: dict[str, Any] = {
            name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None
        }
        return msgspec.structs.replace(settings, **named)
