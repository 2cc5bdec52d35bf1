"""Model providers as configured in `config.toml`."""

from __future__ import annotations

import msgspec

__all__ = ["OFFLINE", "Provider"]

OFFLINE = "offline"
"""The built-in provider that needs no network and no key."""


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint that speaks the OpenAI Responses API.

    `base_url` ends before `/responses`. `env_key` names the variable with the bearer token; `env_http_headers` map
    header names to variables. `requires_key` False: a missing key is not an error. Times in milliseconds.
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
