"""The HTTP client against an endpoint that fails in every way it can."""

from __future__ import annotations

import json
import socket
from contextlib import aclosing
from typing import Any

import anyio
import anyio.to_thread
import pytest
from model_asking import FrozenClock, Naps, asking, completed, listen

from clew.agent.model import (
    Completed,
    Created,
    ItemAdded,
    ItemDone,
    ModelEvent,
    Opened,
    RateLimits,
    RateWindow,
    ReasoningDelta,
    ResponsesClient,
    TextDelta,
    preload,
)
from clew.agent.model.connections import proxy_for
from clew.config.providers import Provider
from clew.errors import ContextFull, EndpointUnreachable, KeyMissing, ModelError
from clew.events import Usage
from clew.testing.endpoint import Gate, ScriptedEndpoint, Step, call, say, think

pytestmark = pytest.mark.anyio


def client(naps: Naps | None = None, **env: str) -> ResponsesClient:
    return ResponsesClient(env, clock=FrozenClock(), sleep=naps or Naps(), chance=lambda: 0.5)


async def one(endpoint: ScriptedEndpoint, naps: Naps | None = None, **changes: Any) -> list[ModelEvent]:
    asker = client(naps)
    try:
        return await listen(asker, asking(endpoint.provider(**changes)))
    finally:
        await asker.close()


async def failure(endpoint: ScriptedEndpoint, naps: Naps | None = None, **changes: Any) -> ModelError:
    with pytest.raises(ModelError) as raised:
        await one(endpoint, naps, **changes)
    return raised.value


async def test_a_response_arrives_as_events_in_order() -> None:
    usage = {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 3},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 1},
    }
    step = Step(items=[think("hm"), say("hello you"), call("ls", {})], piece=6, usage=usage, extra={"end_turn": False})
    with ScriptedEndpoint([step]) as endpoint:
        events = await one(endpoint)
    kinds = [type(event) for event in events]
    assert kinds == [
        Opened,
        Created,
        ItemAdded,
        ReasoningDelta,
        ItemDone,
        ItemAdded,
        TextDelta,
        TextDelta,
        ItemDone,
        ItemAdded,
        ItemDone,
        Completed,
    ]
    assert events[1] == Created("resp_1")
    assert events[3] == ReasoningDelta("rs_1_0", "hm", 0)
    assert events[6:8] == [TextDelta("msg_1_1", "hello "), TextDelta("msg_1_1", "you")]
    assert events[-1] == Completed(
        response_id="resp_1",
        usage=Usage(input_tokens=7, cached_input_tokens=3, output_tokens=2, reasoning_output_tokens=1, total_tokens=9),
        end_turn=False,
    )


async def test_the_request_carries_what_endpoints_expect() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
    with ScriptedEndpoint([Step()]) as endpoint:
        provider = endpoint.provider(
            env_key="KEY",
            requires_key=True,
            http_headers={"X-Fixed": "1"},
            env_http_headers={"X-Env": "EXTRA", "X-None": "UNSET"},
            query_params={"api-version": "5"},
        )
        asker = client(KEY=" secret-key\n", EXTRA="two")
        request = asking(
            provider,
            "hi",
            tools=[{"type": "function", "name": "ls"}],
            effort="ultra",
            summary="auto",
            output_schema=schema,
            window_number=2,
            turn_state="opaque",
        )
        await listen(asker, request)
        await asker.close()
        [received] = endpoint.requests
    assert received.path == "/v1/responses?api-version=5"
    assert received.body == {
        "model": "m",
        "instructions": "Be brief.",
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
        "tools": [{"type": "function", "name": "ls"}],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "session-1",
        "reasoning": {"effort": "max", "summary": "auto"},
        "text": {"format": {"type": "json_schema", "name": "codex_output_schema", "strict": True, "schema": schema}},
    }
    headers = received.headers
    assert headers.pop("user-agent").startswith("clew/")
    assert {name: headers[name] for name in headers if name not in ("host", "connection", "content-length")} == {
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "authorization": "Bearer secret-key",
        "content-type": "application/json",
        "originator": "clew",
        "session-id": "session-1",
        "thread-id": "thread-1",
        "x-client-request-id": "thread-1",
        "x-codex-turn-state": "opaque",
        "x-codex-window-id": "thread-1:2",
        "x-env": "two",
        "x-fixed": "1",
    }


async def test_settings_that_are_not_given_are_not_sent() -> None:
    with ScriptedEndpoint([Step()]) as endpoint:
        asker = client()
        await listen(asker, asking(endpoint.provider(), instructions=None, summary="none"))
        await asker.close()
        body, headers = endpoint.requests[0].body, endpoint.requests[0].headers
    assert not {"instructions", "reasoning", "text"} & set(body)
    assert not {"authorization", "x-codex-turn-state"} & set(headers)


async def test_an_item_keeps_the_servers_own_bytes() -> None:
    odd = b'{"type": "message" , "id":"m1","brand_new":{"b":1.0,"a":1e2},\r\ndata: "content":[]}'
    events: list[bytes] = [
        b'data: {"type":"response.output_item.done","item":' + odd + b"}\n\n",
        b'data: {"type":"response.completed","response":{"id":"r"}}\n\n',
    ]
    with ScriptedEndpoint([Step(events=events)]) as endpoint:
        heard = await one(endpoint)
    assert heard[1:] == [
        ItemDone(
            b'{"type": "message" , "id":"m1","brand_new":{"b":1.0,"a":1e2}, "content":[]}',
            {"type": "message", "id": "m1", "brand_new": {"b": 1.0, "a": 100.0}, "content": []},
        ),
        Completed(response_id="r"),
    ]


async def test_what_cannot_be_read_is_skipped_and_counted() -> None:
    events: list[dict[str, Any] | bytes] = [
        b": hello\n\n",
        b"data: {not json}\n\n",
        b"data: \xff\xfe\n\n",
        {"type": "response.output_item.done", "item": "text"},
        {"type": "response.output_item.done"},
        {"type": "response.brand_new", "item": {"type": "message"}},
        {"type": "response.output_text.delta", "delta": 5},
        b"data: [DONE]\n\n",
        b'event: response.created\ndata: {"response": {"id": "r"}}\n\n',
        {"type": "response.completed", "response": {"id": "r", "usage": None}},
        b"data: after the end\n\n",
    ]
    with ScriptedEndpoint([Step(events=events)]) as endpoint:
        heard = await one(endpoint)
    assert heard == [Opened(), Created("r"), Completed(response_id="r", skipped=4)]


async def test_deltas_without_an_item_belong_to_the_open_one() -> None:
    events: list[dict[str, Any]] = [
        {"type": "response.output_item.added", "item": {"type": "message", "id": "m9"}},
        {"type": "response.output_text.delta", "delta": "x"},
        {"type": "response.completed", "response": {"id": "r"}},
    ]
    with ScriptedEndpoint([Step(events=events)]) as endpoint:
        heard = await one(endpoint)
    assert heard[2] == TextDelta("m9", "x")


async def test_headers_tell_limits_rerouting_and_turn_state() -> None:
    headers = {
        "openai-model": "another",
        "x-codex-turn-state": "s1",
        "x-reasoning-included": "true",
        "x-codex-primary-used-percent": "12.5",
        "x-codex-primary-window-minutes": "300",
        "x-codex-primary-reset-at": "1800000000",
        "x-codex-secondary-used-percent": "odd",
    }
    events: list[dict[str, Any]] = [
        {"type": "response.metadata", "headers": {"x-codex-turn-state": "s2"}},
        {"type": "response.completed", "response": {"id": "r"}},
    ]
    with ScriptedEndpoint([Step(events=events, headers=headers)]) as endpoint:
        heard = await one(endpoint)
    assert heard[:2] == [
        Opened(
            turn_state="s1",
            rerouted_to="another",
            reasoning_included=True,
            rate_limits=RateLimits(primary=RateWindow(used_percent=12.5, window_minutes=300, resets_at=1800000000)),
        ),
        Opened(turn_state="s2"),
    ]


async def test_server_errors_are_repeated_unseen() -> None:
    naps = Naps()
    with ScriptedEndpoint([Step(status=503, times=2), Step(items=[say("recovered")])]) as endpoint:
        completed(await one(endpoint, naps))
        assert len({received.raw for received in endpoint.requests}) == 1
    assert naps.taken == pytest.approx([0.2, 0.4])


async def test_lasting_server_errors_end_after_all_tries() -> None:
    with ScriptedEndpoint([Step(status=500, body={"error": {"message": "boom"}}, times=-1)]) as endpoint:
        error = await failure(endpoint, request_max_retries=2)
        assert (error.message, error.kind, error.status, len(endpoint.requests)) == ("boom", "http_500", 500, 3)
        assert (await failure(endpoint, request_max_retries=0)).kind == "http_500"
        assert len(endpoint.requests) == 4


@pytest.mark.parametrize("status", [429, 503])
async def test_a_named_wait_is_kept(status: int) -> None:
    naps = Naps()
    with ScriptedEndpoint([Step(status=status, headers={"Retry-After": "2"}), Step()]) as endpoint:
        completed(await one(endpoint, naps))
    assert naps.taken == [2.0]


async def test_a_limit_without_a_time_fails_at_once() -> None:
    with ScriptedEndpoint([Step(status=429, body={"error": {"message": "slower"}})]) as endpoint:
        error = await failure(endpoint)
    assert (error.message, error.kind, error.retry_after) == ("slower", "http_429", None)


async def test_a_request_lost_before_its_answer_is_repeated() -> None:
    naps = Naps()
    with ScriptedEndpoint([Step(drop="before_headers", times=2), Step()]) as endpoint:
        completed(await one(endpoint, naps))
        assert len(endpoint.requests) == 3
    assert naps.taken == pytest.approx([0.2, 0.4])


@pytest.mark.parametrize("drop", ["reset", "mid_event", "clean_end"])
@pytest.mark.parametrize("after", [0, 1, 3])
async def test_a_stream_that_breaks_off_says_so_and_is_not_repeated_by_itself(drop: Any, after: int) -> None:
    with ScriptedEndpoint([Step(items=[say("never whole")], drop=drop, drop_after=after)]) as endpoint:
        error = await failure(endpoint)
        assert (error.kind, error.status, len(endpoint.requests)) == ("stream_ended", None, 1)


async def test_items_before_a_break_are_handed_over() -> None:
    heard: list[ModelEvent] = []
    with ScriptedEndpoint([Step(items=[call("ls", {})], drop="mid_event", drop_after=4)]) as endpoint:
        asker = client()
        with pytest.raises(ModelError):
            await listen(asker, asking(endpoint.provider()), heard)
        await asker.close()
    assert isinstance(heard[-1], ItemDone)


async def test_a_reset_after_the_final_event_harms_nothing() -> None:
    with ScriptedEndpoint([Step(drop="reset", drop_after=2)]) as endpoint:
        assert completed(await one(endpoint)).response_id == "resp_1"


async def test_silence_ends_the_stream() -> None:
    for after in (1, None):
        with ScriptedEndpoint([Step(gate=Gate(), gate_after=after)]) as endpoint:
            error = await failure(endpoint, stream_idle_timeout_ms=60)
            assert (error.message, error.kind) == ("the model endpoint sent nothing for 0.06 seconds", "idle")
            await anyio.to_thread.run_sync(endpoint.requests[0].wait_gone)


async def test_failure_events_fail_at_once_with_the_servers_words() -> None:
    gate = Gate()
    step = Step(
        finish="failed", error={"code": "rate_limit_exceeded", "message": "Try again in 1.5s."}, gate=gate, gate_after=2
    )
    with ScriptedEndpoint([step]) as endpoint:
        error = await failure(endpoint)
    assert (error.message, error.kind, error.retry_after) == ("Try again in 1.5s.", "rate_limit_exceeded", 1.5)
    with ScriptedEndpoint(
        [Step(finish="failed", error={"code": "context_length_exceeded", "message": "full"})]
    ) as endpoint:
        assert isinstance(await failure(endpoint), ContextFull)
    with ScriptedEndpoint([Step(events=[{"type": "error", "code": "odd", "message": "top level"}])]) as endpoint:
        error = await failure(endpoint)
        assert (error.message, error.kind) == ("top level", "odd")


@pytest.mark.parametrize("reason", ["max_output_tokens", "content_filter"])
async def test_an_incomplete_response_is_an_error_of_its_reason(reason: str) -> None:
    with ScriptedEndpoint([Step(items=[say("half")], finish="incomplete", reason=reason)]) as endpoint:
        assert (await failure(endpoint)).kind == reason


async def test_a_final_event_without_id_can_be_asked_for_again() -> None:
    with ScriptedEndpoint([Step(events=[{"type": "response.completed", "response": {}}])]) as endpoint:
        assert (await failure(endpoint)).kind == "stream"


async def test_a_refused_key_is_asked_once_and_never_shown() -> None:
    key = "sk-very-secret-0123"
    body = {"error": {"message": f"Incorrect API key provided: {key}"}}
    with ScriptedEndpoint([Step(status=401, body=body)]) as endpoint:
        asker = client(MY_KEY=key)
        with pytest.raises(ModelError) as raised:
            await listen(asker, asking(endpoint.provider(env_key="MY_KEY", requires_key=True)))
        await asker.close()
    assert "MY_KEY" in str(raised.value)
    assert raised.value.status == 401
    assert key not in repr(raised.value) + raised.value.explained()
    url = f"{endpoint.base_url}/responses"
    assert raised.value.detail == (f"unexpected status 401 Unauthorized: Incorrect API key provided: ***, url: {url}")


async def test_a_missing_key_is_found_before_anything_is_sent() -> None:
    with ScriptedEndpoint([]) as endpoint:
        provider = endpoint.provider(env_key="MY_KEY", requires_key=True, env_key_instructions="Get one at the desk.")
        with pytest.raises(KeyMissing) as raised:
            await listen(client(), asking(provider))
        assert endpoint.requests == []
    assert raised.value.variable == "MY_KEY"
    assert raised.value.hint.startswith("Get one at the desk. Set MY_KEY")


async def test_a_key_that_is_not_required_is_not_looked_for() -> None:
    with ScriptedEndpoint([Step()]) as endpoint:
        asker = client(MY_KEY="of somebody else")
        completed(await listen(asker, asking(endpoint.provider(env_key="MY_KEY"))))
        await asker.close()
        assert "authorization" not in endpoint.requests[0].headers


async def test_a_configured_token_is_used() -> None:
    with ScriptedEndpoint([Step()]) as endpoint:
        completed(await one(endpoint, bearer_token="token-1"))
        assert endpoint.requests[0].headers["authorization"] == "Bearer token-1"


async def test_no_endpoint_is_said_without_waiting() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
    naps = Naps()
    asker = client(naps)
    with pytest.raises(EndpointUnreachable) as raised:
        await listen(asker, asking(Provider(id="p", name="p", base_url=url.replace("//", "//user:word@"))))
    await asker.close()
    assert naps.taken == []
    assert url in str(raised.value)


@pytest.mark.parametrize("url", ["", "ftp://example", "http://", "somewhere"])
async def test_an_unusable_address_is_a_matter_of_configuration(url: str) -> None:
    with pytest.raises(ModelError) as raised:
        await listen(client(), asking(Provider(id="p", name="p", base_url=url)))
    assert raised.value.kind == "config"


async def test_a_header_that_cannot_be_sent_is_named_without_its_value() -> None:
    provider = Provider(id="p", name="p", base_url="http://127.0.0.1:9/v1", bearer_token="sk-ключ-secret")
    with pytest.raises(ModelError) as raised:
        await listen(client(), asking(provider))
    assert "authorization" in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("kind", ["text/html", "application/json"])
async def test_an_answer_that_is_no_stream_is_refused(kind: str) -> None:
    with ScriptedEndpoint([Step(body=b"<html>", headers={"content-type": kind})]) as endpoint:
        error = await failure(endpoint)
    assert (error.kind, error.status) == ("not_a_stream", 200)


async def test_connections_are_used_again() -> None:
    with ScriptedEndpoint([Step(times=2), Step(status=500), Step()]) as endpoint:
        asker = client()
        for _ in range(3):
            completed(await listen(asker, asking(endpoint.provider())))
        await asker.close()
        assert {received.connection for received in endpoint.requests} == {1}


async def test_leaving_a_stream_closes_its_connection_at_once() -> None:
    gate = Gate()
    with ScriptedEndpoint([Step(items=[say("a")], gate=gate, gate_after=2)]) as endpoint:
        asker = client()
        async with aclosing(asker.stream(asking(endpoint.provider()))) as events:
            async for event in events:
                if isinstance(event, ItemAdded):
                    break
        await anyio.to_thread.run_sync(endpoint.requests[0].wait_gone)
        await asker.close()


@pytest.mark.parametrize("after", [None, 0, 2])
async def test_a_cancelled_stream_closes_its_connection_at_once(after: int | None) -> None:
    gate = Gate()
    with ScriptedEndpoint([Step(items=[say("a")], gate=gate, gate_after=after), Step()]) as endpoint:
        asker = client()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen, asker, asking(endpoint.provider()))
            await anyio.to_thread.run_sync(gate.wait_reached)
            tasks.cancel_scope.cancel()
        await anyio.to_thread.run_sync(endpoint.requests[0].wait_gone)
        completed(await listen(asker, asking(endpoint.provider())))
        await asker.close()


async def test_streams_run_side_by_side() -> None:
    gate = Gate()
    with ScriptedEndpoint([Step(gate=gate, gate_after=1), Step(items=[say("fast")])]) as endpoint:
        asker = client()
        slow: list[ModelEvent] = []

        async def wait_for_slow() -> None:
            slow.extend(await listen(asker, asking(endpoint.provider())))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait_for_slow)
            await anyio.to_thread.run_sync(gate.wait_reached)
            completed(await listen(asker, asking(endpoint.provider())))
            assert slow == []
            gate.release()
        completed(slow)
        await asker.close()


@pytest.mark.parametrize(
    ("scheme", "host", "env", "proxy"),
    [
        ("https", "api.example", {}, None),
        ("https", "api.example", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("https", "api.example", {"https_proxy": "p:1", "HTTPS_PROXY": "http://q:1"}, "http://p:1"),
        ("http", "api.example", {"HTTPS_PROXY": "http://p:1"}, None),
        ("http", "api.example", {"ALL_PROXY": "http://p:1"}, "http://p:1"),
        ("https", "api.example", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "other, .example:443"}, None),
        ("https", "api.example", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "pi.example"}, "http://p:1"),
        ("https", "api.example", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, None),
        ("http", "127.0.0.1", {"ALL_PROXY": "http://p:1"}, None),
        ("http", "localhost", {"ALL_PROXY": "http://p:1"}, None),
    ],
)
def test_proxies_come_from_the_environment_that_was_given(
    scheme: str, host: str, env: dict[str, str], proxy: str | None
) -> None:
    assert proxy_for(scheme, host, env) == proxy


async def test_a_proxy_is_asked_for_the_whole_address() -> None:
    with ScriptedEndpoint([Step()]) as endpoint:
        asker = client(HTTP_PROXY=endpoint.base_url.removesuffix("/v1"))
        await listen(asker, asking(Provider(id="p", name="p", base_url="http://models.invalid/v1")))
        await asker.close()
        assert endpoint.requests[0].path == "http://models.invalid/v1/responses"


async def test_ordinary_parameters_are_not_taken_for_secrets() -> None:
    body = {"error": {"message": "api-version 2026-01-preview is unknown to key-0123456789"}}
    with ScriptedEndpoint([Step(status=400, body=body)]) as endpoint:
        params = {"api-version": "2026-01-preview", "subscription-key": "key-0123456789"}
        error = await failure(endpoint, query_params=params)
    assert error.message == "api-version 2026-01-preview is unknown to ***"
    assert json.loads(error.detail or "") == {"error": {"message": "api-version 2026-01-preview is unknown to ***"}}


async def test_a_closed_client_can_be_used_again() -> None:
    preload()
    with ScriptedEndpoint([Step(times=2)]) as endpoint:
        asker = client()
        for _ in range(2):
            completed(await listen(asker, asking(endpoint.provider())))
            await asker.close()
