"""The OpenAI Responses API over HTTP: one request, one stream of server-sent events, any compatible endpoint."""

from __future__ import annotations

import platform
import random
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import msgspec

from clew.agent.model.connections import make_client
from clew.agent.model.contracts import Completed, ModelEvent, ModelRequest, Opened, RateLimits, RateWindow
from clew.agent.model.decoding import ResponseReader
from clew.agent.model.faults import answer_error, shown_url
from clew.agent.model.retries import RequestRetries
from clew.agent.model.sse import EventParser, EventTooLong
from clew.clock import Clock, SystemClock
from clew.config.providers import Provider
from clew.errors import EndpointUnreachable, KeyMissing, ModelError
from clew.release import VERSION

if TYPE_CHECKING:
    import httpx2

__all__ = ["ResponsesClient", "request_body"]

ORIGINATOR = "clew"
CONNECT_TIMEOUT = 15.0
"""Seconds for a connection to open."""
LONGEST_ANSWER = 256 * 1024
"""Bytes read of an answer that is not a stream."""
_SECRET = re.compile(r"key|token|secret|auth|cookie|password|sig", re.I)
DRAIN_TIME = 0.25
"""Seconds granted to a finished stream to end, so that its connection can be used again."""


def request_body(request: ModelRequest) -> dict[str, Any]:
    """The JSON body of a request, with the input as it is."""
    body: dict[str, Any] = {"model": request.model}
    if request.instructions:
        body["instructions"] = request.instructions
    body |= {
        "input": request.input,
        "tools": request.tools,
        "tool_choice": "auto",
        "parallel_tool_calls": request.parallel_tool_calls,
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": request.session_id,
    }
    reasoning: dict[str, str] = {}
    if request.effort:
        # `ultra` is a name of the client side; endpoints know it as `max`.
        reasoning["effort"] = "max" if request.effort == "ultra" else request.effort
    if request.summary and request.summary != "none":
        reasoning["summary"] = request.summary
    if reasoning:
        body["reasoning"] = reasoning
    if request.output_schema is not None:
        schema = {"type": "json_schema", "name": "codex_output_schema", "strict": True, "schema": request.output_schema}
        body["text"] = {"format": schema}
    return body


class ResponsesClient:
    """A `ModelClient` for every provider with a `base_url`.

    `env` is where keys, header values and proxy settings are looked up. Connections are kept and shared between
    streams. `clock`, `sleep` (seconds) and `chance` (0 to 1) exist so that tests need no real time.
    """

    def __init__(
        self,
        env: Mapping[str, str],
        *,
        clock: Clock | None = None,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._env = env
        self._clock = clock or SystemClock()
        self._sleep = sleep
        self._chance = chance
        self._clients: dict[str, httpx2.AsyncClient] = {}
        self._user_agent = ""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        """Ask, and yield events as they come. See `ModelClient`."""
        import httpx2

        provider = request.provider
        secrets = self._secrets(provider)
        response = await self._open(request)
        try:
            async with aclosing(self._read(request, response)) as events:
                async for event in events:
                    yield event
        except httpx2.ReadTimeout as error:
            raise _idle(provider) from error
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            raise ModelError(
                f"the connection broke off before the response was complete: {_why(error)}", kind="stream_ended"
            ) from error
        except EventTooLong as error:
            raise ModelError(str(error), kind="stream") from error
        except ModelError as error:
            _scrub(error, secrets)
            raise
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(1.0):
                await response.aclose()

    async def close(self) -> None:
        """Close the kept connections; the client can be used again afterwards."""
        clients, self._clients = list(self._clients.values()), {}
        with anyio.CancelScope(shield=True):
            for client in clients:
                await client.aclose()

    async def _read(self, request: ModelRequest, response: httpx2.Response) -> AsyncGenerator[ModelEvent]:
        yield _opened(request, response.headers)
        parser, reader = EventParser(), ResponseReader()
        async with aclosing(response.aiter_bytes()) as chunks:
            async for chunk in chunks:
                for event in parser.feed(chunk):
                    for said in reader.read(event):
                        yield said
                        if isinstance(said, Completed):
                            await _drain(chunks)
                            return
        for event in parser.finish():
            for said in reader.read(event):
                yield said
                if isinstance(said, Completed):
                    return
        raise ModelError("the stream ended before the response was complete", kind="stream_ended")

    async def _open(self, request: ModelRequest) -> httpx2.Response:
        # The inner loop: everything that can go wrong before the first event.
        provider = request.provider
        body = msgspec.json.encode(request_body(request))
        headers = self._headers(request)
        client = await self._client(provider)
        retries = RequestRetries(provider, self._chance)
        while True:
            try:
                return await self._send(client, provider, headers, body)
            except ModelError as error:
                _scrub(error, self._secrets(provider))
                delay = retries.next_delay(error)
                if delay is None:
                    raise
            await self._sleep(delay)

    async def _send(
        self, client: httpx2.AsyncClient, provider: Provider, headers: Mapping[str, str], body: bytes
    ) -> httpx2.Response:
        import httpx2

        idle = provider.stream_idle_timeout_ms / 1000 or None
        timeout = httpx2.Timeout(connect=CONNECT_TIMEOUT, read=idle, write=idle, pool=None)
        try:
            outgoing = client.build_request(
                "POST",
                f"{provider.base_url.rstrip('/')}/responses",
                params=provider.query_params or None,
                headers=headers,
                content=body,
                timeout=timeout,
            )
            response = await client.send(outgoing, stream=True)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
            raise EndpointUnreachable(shown_url(provider.base_url), _why(error)) from error
        except (httpx2.ReadTimeout, httpx2.WriteTimeout) as error:
            raise _idle(provider) from error
        except httpx2.TransportError as error:
            raise ModelError(
                f"the connection to the model endpoint was lost before it answered: {_why(error)}", kind="connection"
            ) from error
        try:
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if response.status_code == 200 and kind not in ("application/json", "text/html"):
                return response
            answer = await _answer(response)
        except httpx2.TransportError as error:
            raise ModelError(f"the endpoint's answer broke off: {_why(error)}", kind="connection") from error
        except BaseException:
            with anyio.CancelScope(shield=True), anyio.move_on_after(1.0):
                await response.aclose()
            raise
        if response.status_code == 200:
            raise ModelError(
                f"the model endpoint {shown_url(provider.base_url)} answered with {kind} instead of an event stream",
                kind="not_a_stream",
                status=200,
                hint="Check that `base_url` points at a Responses API.",
            )
        raise answer_error(provider, response.status_code, response.headers, answer, self._clock.now())

    async def _client(self, provider: Provider) -> httpx2.AsyncClient:
        parts = urlsplit(provider.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ModelError(
                f"the model provider {provider.id} has no usable base_url ({shown_url(provider.base_url)!r})",
                kind="config",
                hint=f"Set `base_url` in [model_providers.{provider.id}] of config.toml.",
            )
        origin = f"{parts.scheme}://{parts.netloc}"
        client = self._clients.get(origin)
        if client is None:
            # Loading the library and the certificates takes a while: not on the loop.
            made = await anyio.to_thread.run_sync(make_client, parts.scheme, parts.hostname, self._env)
            client = self._clients.setdefault(origin, made)
            if client is not made:
                await made.aclose()
        return client

    def _headers(self, request: ModelRequest) -> dict[str, str]:
        provider = request.provider
        if not self._user_agent:
            system = f"{platform.system()} {platform.release()}; {platform.machine()}"
            self._user_agent = f"{ORIGINATOR}/{VERSION} ({system})"
        headers = {
            "accept": "text/event-stream",
            # Compressed streams tend to be held back until a block is full.
            "accept-encoding": "identity",
            "content-type": "application/json",
            "originator": ORIGINATOR,
            "user-agent": self._user_agent,
            "session-id": request.session_id,
            "thread-id": request.thread_id,
            "x-client-request-id": request.thread_id,
            "x-codex-window-id": f"{request.thread_id}:{request.window_number}",
        }
        if request.turn_state is not None:
            headers["x-codex-turn-state"] = request.turn_state
        headers |= {name.lower(): value for name, value in provider.http_headers.items()}
        for name, variable in provider.env_http_headers.items():
            if value := self._env.get(variable, "").strip():
                headers[name.lower()] = value
        if "authorization" not in headers and (key := self._key(provider)):
            headers["authorization"] = f"Bearer {key}"
        for name, value in headers.items():
            if not value.isascii() or not value.isprintable():
                raise ModelError(
                    f"the header {name} of the model provider {provider.id} has characters that cannot be sent",
                    kind="config",
                )
        return headers

    def _key(self, provider: Provider) -> str | None:
        # Configured providers carry their key. Only one that cannot do without is looked up here: `env_key` may be
        # inherited by an endpoint that is not to get the key.
        if provider.bearer_token or not provider.requires_key:
            return provider.bearer_token
        variable = provider.env_key or "OPENAI_API_KEY"
        if key := self._env.get(variable, "").strip():
            return key
        raise KeyMissing(variable, provider.id, provider.env_key_instructions or "")

    def _secrets(self, provider: Provider) -> list[str]:
        fixed = {**provider.http_headers, **provider.query_params}
        values = [value for name, value in fixed.items() if _SECRET.search(name)]
        values += [self._env.get(name, "").strip() for name in provider.env_http_headers.values()]
        values += [self._env.get(provider.env_key, "").strip()] if provider.env_key else []
        values += [provider.bearer_token or ""]
        return [value for value in values if len(value) >= 8]


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    import httpx2

    with suppress(httpx2.TransportError, httpx2.DecodingError), anyio.move_on_after(DRAIN_TIME):
        async for _ in chunks:
            pass


async def _answer(response: httpx2.Response) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        async for chunk in response.aiter_bytes():
            parts.append(chunk[: LONGEST_ANSWER - size])
            size += len(parts[-1])
            if size >= LONGEST_ANSWER:
                break
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(1.0):
            await response.aclose()
    return b"".join(parts)


def _opened(request: ModelRequest, headers: Mapping[str, str]) -> Opened:
    model = headers.get("openai-model")
    primary, secondary = _window(headers, "primary"), _window(headers, "secondary")
    return Opened(
        turn_state=headers.get("x-codex-turn-state"),
        rerouted_to=model if model and model.lower() != request.model.lower() else None,
        reasoning_included="x-reasoning-included" in headers,
        rate_limits=RateLimits(primary=primary, secondary=secondary) if primary or secondary else None,
    )


def _window(headers: Mapping[str, str], which: str) -> RateWindow | None:
    def number(name: str) -> float | None:
        try:
            return float(headers[f"x-codex-{which}-{name}"])
        except (KeyError, ValueError):
            return None

    used = number("used-percent")
    if used is None:
        return None
    minutes, resets = number("window-minutes"), number("reset-at")
    return RateWindow(
        used_percent=used,
        window_minutes=None if minutes is None else int(minutes),
        resets_at=None if resets is None else int(resets),
    )


def _idle(provider: Provider) -> ModelError:
    seconds = provider.stream_idle_timeout_ms / 1000
    return ModelError(f"the model endpoint sent nothing for {seconds:g} seconds", kind="idle")


def _why(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _scrub(error: ModelError, secrets: list[str]) -> None:
    """Endpoints like to quote the key they refuse."""
    for secret in secrets:
        error.message = error.message.replace(secret, "***")
        error.detail = error.detail and error.detail.replace(secret, "***")
    error.args = (error.message,)
