"""Connections to endpoints, with proxies and certificates as the caller's environment names them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx2

__all__ = ["make_client", "preload", "proxy_for"]

KEEP_ALIVE = 90.0
"""Seconds an idle connection is kept for the next request."""


def preload() -> None:
    """Import the HTTP library now (about 100 ms): call it in a worker thread while something else is waited for."""
    importlib.import_module("httpx2")


def make_client(scheme: str, host: str, env: Mapping[str, str]) -> httpx2.AsyncClient:
    """A connection pool for one origin. Blocking: loads the library and, for https, the certificates.

    `env` may name proxies (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`) and certificates (`SSL_CERT_FILE`,
    `SSL_CERT_DIR`).
    """
    import ssl

    import httpx2

    # The environment is the caller's, not the process': the library must not look for itself (`trust_env`).
    if scheme == "http":
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # never used, but saves loading the certificates
    elif env.get("SSL_CERT_FILE") or env.get("SSL_CERT_DIR"):
        trust = ssl.create_default_context(cafile=env.get("SSL_CERT_FILE"), capath=env.get("SSL_CERT_DIR"))
    else:
        trust = httpx2.create_ssl_context(trust_env=False)
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=8, keepalive_expiry=KEEP_ALIVE)
    return httpx2.AsyncClient(verify=trust, proxy=proxy_for(scheme, host, env), trust_env=False, limits=limits)


def proxy_for(scheme: str, host: str, env: Mapping[str, str]) -> str | None:
    """The proxy for a host, None to speak to it directly, as to this machine always."""

    def named(name: str) -> str:
        return env.get(name.lower()) or env.get(name.upper()) or ""

    if host == "localhost" or host == "::1" or host.startswith("127."):
        return None
    for entry in named("no_proxy").split(","):
        domain = entry.strip().partition(":")[0].lstrip(".")
        if domain and (domain == "*" or host == domain or host.endswith(f".{domain}")):
            return None
    proxy = named(f"{scheme}_proxy") or named("all_proxy")
    return (proxy if "://" in proxy else f"http://{proxy}") if proxy else None
