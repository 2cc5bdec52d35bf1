"""Which client speaks to which provider."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping

import anyio

from clew.agent.model.contracts import ModelClient, ModelEvent, ModelRequest
from clew.agent.model.responses import ResponsesClient
from clew.config.providers import OFFLINE, Provider
from clew.errors import ModelError

__all__ = ["Models"]


class Models:
    """All clients of a program, itself a `ModelClient` that picks by the request's provider.

    `env` is where keys are looked up. `clients` maps provider ids to clients of their own (the offline model, a
    stand-in in tests); every other provider is spoken to over HTTP.
    """

    def __init__(self, env: Mapping[str, str], clients: Mapping[str, ModelClient] | None = None) -> None:
        self._own = dict(clients or {})
        self._http = ResponsesClient(env)

    def of(self, provider: Provider) -> ModelClient:
        """The client for `provider`. Raises `ModelError` for the offline model where it was not given."""
        client = self._own.get(provider.id)
        if client is not None:
            return client
        if provider.id == OFFLINE and not provider.base_url:
            raise ModelError("the offline model is not part of this program", kind="config")
        return self._http

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        """Stream from the client of the request's provider. See `ModelClient`."""
        events = self.of(request.provider).stream(request)
        try:
            async for event in events:
                yield event
        finally:
            await events.aclose()

    async def close(self) -> None:
        """Close every client."""
        with anyio.CancelScope(shield=True):
            await self._http.close()
            for client in self._own.values():
                await client.close()
