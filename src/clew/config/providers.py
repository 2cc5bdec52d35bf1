"""Model providers as configured in `config.toml`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from clew.config.reader import Reader
from clew.errors import ConfigInvalid
from clew.settings import Provider

__all__ = ["OFFLINE", "OPENAI", "OPENAI_URL", "PROVIDER_KEYS", "Provider", "read_providers"]

OFFLINE = "offline"
"""The built-in provider that needs no network and no key."""

OPENAI = "openai"
"""The built-in provider that an API key in the environment is enough for."""

OPENAI_URL = "https://api.openai.com/v1"

_OPENAI_HEADERS = {"OpenAI-Organization": "OPENAI_ORGANIZATION", "OpenAI-Project": "OPENAI_PROJECT"}
_RETRIES = 100  # as far as Codex goes


PROVIDER_KEYS: Mapping[str, Literal["plain", "map"]] = {
    "name": "plain",
    "base_url": "plain",
    "wire_api": "plain",
    "env_key": "plain",
    "env_key_instructions": "plain",
    "experimental_bearer_token": "plain",
    "requires_openai_auth": "plain",
    "request_max_retries": "plain",
    "stream_max_retries": "plain",
    "stream_idle_timeout_ms": "plain",
    "http_headers": "map",
    "env_http_headers": "map",
    "query_params": "map",
}
"""The members of a provider's table that clew reads, and whether each is a value or a map of values."""


def read_providers(
    reader: Reader, env: Mapping[str, str], openai_key: str | None
) -> tuple[dict[str, Provider], dict[str, ConfigInvalid]]:
    """All providers by id, resolved; and those that are configured in a way nobody speaks any more, with the reason.

    `openai_key` is the key of the built-in provider, also used by those with `requires_openai_auth`.
    """
    providers = {
        OPENAI: Provider(
            id=OPENAI,
            name="OpenAI",
            base_url=(reader.text("openai_base_url") or env.get("OPENAI_BASE_URL") or OPENAI_URL).rstrip("/"),
            env_key="OPENAI_API_KEY",
            bearer_token=openai_key,
            http_headers=_from_env(
                env, {"OpenAI-Organization": "OPENAI_ORGANIZATION", "OpenAI-Project": "OPENAI_PROJECT"}
            ),
            requires_key=True,
        ),
        "ollama": Provider(id="ollama", name="Ollama", base_url="http://localhost:11434/v1"),
        "lmstudio": Provider(id="lmstudio", name="LM Studio", base_url="http://localhost:1234/v1"),
        OFFLINE: Provider(id=OFFLINE, name="Offline"),
    }
    _check_url(reader, providers[OPENAI].base_url, "openai_base_url")
    refused: dict[str, ConfigInvalid] = {}
    for provider_id in reader.table("model_providers"):
        at = ("model_providers", provider_id)
        if provider_id == OFFLINE:
            reader.problems.append(reader.wrong(at, "the provider `offline` is built in and needs no configuration"))
            continue
        if not reader.table(*at):
            continue
        wire = reader.text(*at, "wire_api")
        if wire is not None and wire != "responses":
            refused[provider_id] = reader.wrong(
                (*at, "wire_api"), f"unknown variant `{wire}`, expected `responses` (no other wire format is spoken)"
            )
        providers[provider_id] = _read(reader, provider_id, providers.get(provider_id), env, openai_key)
    return providers, refused


def _read(
    reader: Reader, provider_id: str, below: Provider | None, env: Mapping[str, str], openai_key: str | None
) -> Provider:
    at = ("model_providers", provider_id)
    fields: dict[str, Any] = {} if below is None else msgspec.structs.asdict(below)
    fields |= {"id": provider_id, "name": reader.text(*at, "name") or (below.name if below else provider_id)}
    url = reader.text(*at, "base_url")
    if url is not None:
        _check_url(reader, url, *at, "base_url")
    fields["base_url"] = (url or (below.base_url if below else OPENAI_URL)).rstrip("/")
    env_key = reader.text(*at, "env_key")
    openai_auth = reader.flag(*at, "requires_openai_auth")
    # The key of one endpoint is never sent to another one that did not ask for it.
    token = env.get(env_key) if env_key else None
    token = token or reader.text(*at, "experimental_bearer_token")
    if not token and (openai_auth or (openai_auth is None and below is not None and not env_key)):
        token = below.bearer_token if below is not None else openai_key
    fields |= {
        "env_key": env_key or (below.env_key if below else None) or ("OPENAI_API_KEY" if openai_auth else None),
        "env_key_instructions": reader.text(*at, "env_key_instructions"),
        "bearer_token": token.strip() if token else None,
        "requires_key": bool(env_key)
        or (openai_auth if openai_auth is not None else bool(below and below.requires_key)),
        "env_http_headers": reader.text_map(*at, "env_http_headers"),
        "query_params": reader.text_map(*at, "query_params"),
    }
    fields["http_headers"] = (
        fields.get("http_headers", {})
        | reader.text_map(*at, "http_headers")
        | _from_env(env, fields["env_http_headers"])
    )
    for name in ("request_max_retries", "stream_max_retries"):
        number = reader.count(*at, name)
        if number is not None:
            fields[name] = min(number, _RETRIES)
    idle = reader.count(*at, "stream_idle_timeout_ms")
    if idle is not None:
        fields["stream_idle_timeout_ms"] = idle
    return Provider(**fields)


def _from_env(env: Mapping[str, str], headers: Mapping[str, str]) -> dict[str, str]:
    """Headers whose values stand in variables; unset and blank ones are left out."""
    return {header: value for header, name in headers.items() if (value := env.get(name, "").strip())}


def _check_url(reader: Reader, url: str, *path: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        good = False
    if not good:
        shown = "an address with a password" if "@" in url else repr(url)
        error = reader.wrong(path, f"invalid value: {shown}, expected an http or https address")
        if not error.line and error.path == "":
            error = ConfigInvalid("OPENAI_BASE_URL", 0, error.why)
        reader.problems.append(error)
