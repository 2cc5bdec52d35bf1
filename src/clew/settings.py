"""The settings a thread runs with: one vocabulary for recorded, configured and requested ones."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from clew.errors import KeyMissing

__all__ = ["ApprovalPolicy", "Overrides", "Provider", "Sandbox", "SandboxMode", "Settings"]


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


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint that speaks the OpenAI Responses API.

    `base_url` ends before `/responses`. `env_key` names the variable with the bearer token; `env_http_headers` map
    header names to variables. `requires_key` False: a missing key is not an error. Times in milliseconds.

    A provider that comes from `Config.provider` is resolved: `bearer_token` holds the key where there is one, and
    `http_headers` hold those of `env_http_headers` too. Nothing else needs the environment.
    """

    id: str
    name: str
    base_url: str = ""
    env_key: str | None = None
    env_key_instructions: str | None = None
    bearer_token: str | None = None
    http_headers: dict[str, str] = {}
    env_http_headers: dict[str, str] = {}
    query_params: dict[str, str] = {}
    requires_key: bool = False
    request_max_retries: int = 4
    stream_max_retries: int = 5
    stream_idle_timeout_ms: int = 300_000

    def __repr__(self) -> str:
        # Secrets never reach logs: neither the token nor header values are shown.
        return f"Provider({self.id!r}, {self.base_url!r})"

    def check_key(self) -> None:
        """Raise `KeyMissing` when requests would go out without the key they need."""
        if self.requires_key and not self.bearer_token:
            raise KeyMissing(self.env_key or "OPENAI_API_KEY", self.id, self.env_key_instructions or "")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a turn needs to know besides its history and its input.

    `cwd` is absolute. `provider` is a key of the configured providers. `effort` and `summary` are the reasoning
    settings (None: the model's own). `base_instructions` None means clew's own text. `endpoint` is the definition of
    `provider` as the caller's configuration has it; it is never recorded, and None where only the name is known.
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
    endpoint: Provider | None = None


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
    endpoint: Provider | None = None

    def over(self, settings: Settings) -> Settings:
        """`settings` with everything mentioned here in its place."""
        named: dict[str, Any] = {
            name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None
        }
        return msgspec.structs.replace(settings, **named)
