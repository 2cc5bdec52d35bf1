"""How a connection ends, and what a client may say wrongly without ending it."""

from __future__ import annotations

import json
from typing import Any

import anyio
import mcp_types as types
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.shared.message import SessionMessage
from server_world import World

from clew.server.mcp.serve import Life
from clew.server.mcp.stdio import Malformed, parse_line, render

pytestmark = pytest.mark.anyio

NOTHING = {"name": "a", "value": "b"}


async def test_the_end_of_input_lets_the_running_turn_finish_and_answers_it(world: World) -> None:
    async with world.talk() as talk:
        call = await talk.call("codex", prompt="[[hold]][[say:late answer]]")
        await world.fake.holding.wait()
        await talk.leave()
        await talk.ask_nothing()
        assert not talk.ended.is_set()
        world.fake.release()
        answer = await talk.answer(call)
        assert answer["result"]["structuredContent"]["content"] == "late answer"
        await talk.ended.wait()
    assert world.fake.closed


@pytest.mark.parametrize("configured", [True, False])
async def test_the_end_of_input_can_interrupt_and_still_answers(world: World, *, configured: bool) -> None:
    if configured:
        world.write_config('[clew]\non_eof = "interrupt"\n')
    else:
        world.life = Life(on_eof="interrupt")
    async with world.talk() as talk:
        call = await talk.call("codex", prompt="[[hold]]")
        await world.fake.holding.wait()
        await talk.leave()
        answer = await talk.answer(call)
        assert answer["result"]["content"][0]["text"] == "The turn was interrupted."
        await talk.ended.wait()
    assert [turn.status for kept in world.fake.kept.values() for turn in kept.turns] == ["interrupted"]


@pytest.mark.parametrize("configured", [True, False])
async def test_finishing_has_a_bound(world: World, *, configured: bool) -> None:
    if configured:
        world.write_config("[clew]\nfinish_seconds = 0.05\n")
    else:
        world.life = Life(finish_seconds=0.05)
    async with world.talk() as talk:
        call = await talk.call("codex", prompt="[[hold]]")
        background = await talk.answer(await talk.call("codex", prompt="[[hold]]", background=True))
        assert "result" in background
        await talk.leave()
        assert (await talk.answer(call))["result"]["isError"]
        await talk.ended.wait()
    assert [turn.status for kept in world.fake.kept.values() for turn in kept.turns] == ["interrupted"] * 2


async def test_a_background_turn_is_finished_after_the_client_left(world: World) -> None:
    async with world.talk() as talk:
        await talk.answer(await talk.call("codex", prompt="[[hold]][[say:done]]", background=True))
        await talk.leave()
        world.fake.release()
        await talk.ended.wait()
    assert [turn.status for kept in world.fake.kept.values() for turn in kept.turns] == ["completed"]


async def test_nobody_is_asked_after_the_end_of_input(world: World) -> None:
    async with world.talk(capabilities={"elicitation": {}}) as talk:
        call = await talk.call("codex", prompt="[[ask:x]][[say:done]]")
        await talk.until(lambda message: message.get("method") == "elicitation/create")
        await talk.leave()
        answer = await talk.answer(call)
        assert answer["result"]["structuredContent"]["content"] == "done"
    assert world.fake.ran == []


async def test_a_stop_interrupts_records_and_answers(world: World) -> None:
    async with world.talk() as talk:
        call = await talk.call("codex", prompt="[[hold]]")
        await world.fake.holding.wait()
        assert world.stop is not None
        world.stop.set()
        answer = await talk.answer(call)
        assert answer["result"]["isError"]
        await talk.ended.wait()
    assert world.fake.closed
    assert [turn.status for kept in world.fake.kept.values() for turn in kept.turns] == ["interrupted"]


async def test_a_client_that_stops_reading_does_not_hold_the_server(world: World) -> None:
    async with world.streams() as (read, write, ended):
        hello: dict[str, Any] = {"protocolVersion": "2025-06-18", "capabilities": {}}
        hello["clientInfo"] = {"name": "c", "version": "1"}
        await write.send(SessionMessage(types.JSONRPCRequest(jsonrpc="2.0", id=1, method="initialize", params=hello)))
        await read.aclose()
        await ended.wait()


@pytest.mark.parametrize(
    ("line", "replies"),
    [
        ("this is not json", [(None, -32700)]),
        ('{"jsonrpc":"2.0","id":7,"method":"ping","params":[1]}', [(7, -32602)]),
        ('{"id":7,"method":"ping"}', [(7, -32600)]),
        ('{"jsonrpc":"2.0","id":7}', [(7, -32600)]),
        ('{"jsonrpc":"2.0","id":{"a":1},"method":"ping"}', [(None, -32600)]),
        ('{"jsonrpc":"2.0","id":null,"method":"ping"}', [(None, -32600)]),
        ("[]", [(None, -32600)]),
        ('[{"id":7,"method":"ping"},{"id":"8","method":"x"},{"method":"y"}]', [(7, -32600), ("8", -32600)]),
        ("5", [(None, -32600)]),
        ('{"jsonrpc":"2.0","id":7,"result":5}', []),
        ('{"jsonrpc":"2.0","method":"notifications/x","params":[1]}', []),
        ('{"jsonrpc":"2.0","id":7,"method":"\\ud800"}', [(7, -32600)]),
        ("[" * 5000, [(None, -32700)]),
    ],
)  # fmt: skip
def test_each_malformed_request_has_an_answer(line: str, replies: list[tuple[Any, int]]) -> None:
    item = parse_line(line.encode())
    assert isinstance(item, Malformed)
    assert [(reply.id, reply.error.code) for reply in item.replies] == replies


@given(st.binary(max_size=200).filter(lambda line: b"\n" not in line))
def test_no_line_breaks_the_reader(line: bytes) -> None:
    item = parse_line(line)
    assert item is None or isinstance(item, Malformed | SessionMessage)


def test_text_that_is_no_unicode_still_goes_out() -> None:
    message = types.JSONRPCNotification(jsonrpc="2.0", method="m", params={"a": ["\ud800x", {"\udfff": 1}]})
    assert json.loads(render(message))["params"] == {"a": ["?x", {"?": 1}]}


async def test_garbage_is_answered_and_the_connection_goes_on(world: World) -> None:
    async with world.talk() as talk:
        await talk.say("garbage")
        await talk.say('[{"jsonrpc":"2.0","id":99,"method":"ping"}]')
        assert (await talk.answer(99))["error"]["code"] == -32600
        await talk.say('{"jsonrpc":"2.0","id":0,"result":{"decision":"approved"}}')
        assert (await talk.ask("ping"))["result"] == {}
        assert [message["error"]["code"] for message in talk.answers(None) if "error" in message] == [-32700]


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("no/such/method", {}, -32601),
        ("prompts/list", {}, -32601),
        ("prompts/get", {"name": "x"}, -32601),
        ("resources/subscribe", {"uri": "clew://threads"}, -32601),
        ("logging/setLevel", {"level": "info"}, -32601),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "x"}, "argument": NOTHING}, -32601),
        ("tasks/list", {}, -32601),
        ("tasks/get", {"taskId": "t"}, -32601),
        ("server/discover", {}, -32601),
        ("tools/call", {"arguments": {}}, -32602),
        ("tools/call", {"name": "codex", "arguments": [1]}, -32602),
        ("resources/read", {}, -32602),
    ],
)  # fmt: skip
async def test_what_is_not_served_or_does_not_fit_has_its_code(
    world: World, method: str, params: dict[str, Any], code: int
) -> None:
    async with world.talk() as talk:
        assert (await talk.ask(method, params))["error"]["code"] == code


async def test_string_ids_are_answered_as_they_came(world: World) -> None:
    async with world.talk() as talk:
        for request_id in ("string-id", "7"):
            await talk.say({"jsonrpc": "2.0", "id": request_id, "method": "ping"})
        await talk.until(lambda message: message.get("id") == "7")
        assert [message["id"] for message in talk.heard if message.get("result") == {}] == ["string-id", "7"]


async def test_threads_are_opened_behind_the_first_answer(world: World) -> None:
    async with world.talk():
        with anyio.fail_after(1):
            await world.fake.opened.wait()
