"""Approvals: both reply shapes, both eras, and everything that means no."""

from __future__ import annotations

from typing import Any

import anyio
import mcp_types as types
import pytest
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError
from server_world import Talk, World, structured, text_of

from clew.events import Decision
from clew.server.mcp.approvals import RequestState, decision_of

pytestmark = pytest.mark.anyio

ASKS: dict[str, Any] = {"elicitation": {}}


def _asked(talk: Talk) -> list[dict[str, Any]]:
    return [message for message in talk.heard if message.get("method") == "elicitation/create"]


async def _question(talk: Talk) -> dict[str, Any]:
    return await talk.until(lambda message: message.get("method") == "elicitation/create")


async def _reply(talk: Talk, question: dict[str, Any], **members: Any) -> None:
    await talk.say({"jsonrpc": "2.0", "id": question["id"], **members})


async def test_the_question_carries_the_standard_form_and_the_older_members(world: World) -> None:
    async with world.talk(capabilities=ASKS) as talk:
        call = await talk.call("codex", prompt="[[ask:touch made.txt]][[say:done]]")
        question = await _question(talk)
        params = question["params"]
        assert question["id"] == 0
        assert params["message"] == f"Allow Codex to run `/bin/bash -lc 'touch made.txt'` in `{world.work}`?"
        assert params["requestedSchema"] == {
            "type": "object",
            "properties": {
                "decision": {
                    "type": "string",
                    "title": "Decision",
                    "description": "Runs outside the sandbox. Reason given: needs more access",
                    "enum": ["once", "session", "no"],
                    "enumNames": ["Yes, this once", "Yes, for the rest of the session", "No"],
                    "default": "once",
                }
            },
        }
        await _reply(talk, question, result={"decision": "approved"})
        thread = (await talk.answer(call))["result"]["structuredContent"]["threadId"]
        assert {name: value for name, value in params.items() if name not in ("message", "requestedSchema")} == {
            "threadId": thread,
            "codex_elicitation": "exec-approval",
            "codex_mcp_tool_call_id": str(call),
            "codex_event_id": world.fake.kept[thread].turns[0].id,
            "codex_call_id": "call-1",
            "codex_command": ["/bin/bash", "-lc", "touch made.txt"],
            "codex_cwd": str(world.work),
            "codex_parsed_cmd": [{"type": "unknown", "cmd": "touch made.txt"}],
        }
    assert world.fake.ran == ["touch made.txt"]


async def test_a_patch_is_asked_for_in_the_older_words(world: World) -> None:
    async with world.talk(capabilities=ASKS) as talk:
        call = await talk.call("codex", prompt="[[patch:/w/new.txt]]")
        question = await _question(talk)
        assert question["params"]["message"] == "Allow Codex to apply proposed code changes?"
        assert question["params"]["codex_elicitation"] == "patch-approval"
        assert question["params"]["codex_changes"] == {"/w/new.txt": {"type": "add", "content": "hello\n"}}
        await _reply(talk, question, result={"action": "accept", "content": {}})
        await talk.answer(call)
    assert world.fake.ran == ["patch /w/new.txt"]


@pytest.mark.parametrize(
    ("members", "ran"),
    [
        ({"result": {"action": "accept", "content": {}}}, True),
        ({"result": {"action": "accept"}}, True),
        ({"result": {"action": "accept", "content": {"decision": "session"}}}, True),
        ({"result": {"action": "accept", "content": {"decision": "no"}}}, False),
        ({"result": {"action": "decline"}}, False),
        ({"result": {"action": "cancel"}}, False),
        ({"result": {"decision": "approved"}}, True),
        ({"result": {"decision": "approved_for_session"}}, True),
        ({"result": {"decision": "denied"}}, False),
        ({"result": {}}, False),
        ({"error": {"code": -32601, "message": "Method not found"}}, False),
    ],
)
async def test_a_reply_of_either_shape_decides_and_the_turn_goes_on(
    world: World, members: dict[str, Any], ran: bool
) -> None:
    async with world.talk(capabilities=ASKS) as talk:
        call = await talk.call("codex", prompt="[[ask:x]][[say:done]]")
        await _reply(talk, await _question(talk), **members)
        answer = await talk.answer(call)
        assert answer["result"]["structuredContent"]["content"] == "done"
    assert world.fake.ran == (["x"] if ran else [])


async def test_abort_ends_the_turn_and_the_call_is_answered(world: World) -> None:
    async with world.talk(capabilities=ASKS) as talk:
        call = await talk.call("codex", prompt="[[ask:x]][[say:done]]")
        await _reply(talk, await _question(talk), result={"decision": "abort"})
        answer = (await talk.answer(call))["result"]
        assert (answer["isError"], answer["content"][0]["text"]) == (True, "The turn was interrupted.")
    assert world.fake.ran == []


@pytest.mark.parametrize("capabilities", [{}, {"elicitation": {"url": {}}}])
async def test_a_client_that_cannot_be_asked_has_refused(world: World, capabilities: dict[str, Any]) -> None:
    async with world.talk(capabilities=capabilities) as talk:
        answer = await talk.answer(await talk.call("codex", prompt="[[ask:x]][[say:done]]"))
        assert answer["result"]["structuredContent"]["content"] == "done"
        assert "cannot be asked" in answer["result"]["structuredContent"]["notices"][0]
        assert _asked(talk) == []
    assert world.fake.ran == []


async def test_nobody_answering_in_time_is_a_refusal_and_the_question_is_withdrawn(world: World) -> None:
    world.write_config("[clew]\napproval_timeout_seconds = 0.05\ncodex_events = false\n")
    async with world.talk(capabilities=ASKS) as talk:
        answer = await talk.answer(await talk.call("codex", prompt="[[ask:x]][[say:done]]"))
        assert answer["result"]["structuredContent"]["content"] == "done"
        assert "nobody answered within 0.05 s" in answer["result"]["structuredContent"]["notices"][0]
        withdrawn = await talk.until(lambda message: message.get("method") == "notifications/cancelled")
        assert withdrawn["params"]["requestId"] == (await _question(talk))["id"]
        await _reply(talk, await _question(talk), result={"action": "accept", "content": {}})
        await talk.ask("ping")
    assert world.fake.ran == []


async def test_cancelling_the_call_withdraws_its_question(world: World) -> None:
    async with world.talk(capabilities=ASKS) as talk:
        call = await talk.call("codex", prompt="[[ask:x]]")
        question = await _question(talk)
        await talk.tell("notifications/cancelled", {"requestId": call})
        withdrawn = await talk.until(lambda message: message.get("method") == "notifications/cancelled")
        assert withdrawn["params"]["requestId"] == question["id"]
        assert talk.answers(call) == []
        thread = question["params"]["threadId"]
        assert (await talk.answer(await talk.call("codex-reply", threadId=thread, prompt="y")))["result"]
    assert world.fake.ran == []


async def test_a_background_turn_can_ask_after_its_call_was_answered(world: World) -> None:
    async with world.talk(capabilities=ASKS) as talk:
        await talk.answer(await talk.call("codex", prompt="[[hold]][[ask:x]][[say:done]]", background=True))
        world.fake.release()
        question = await _question(talk)
        status = await talk.answer(await talk.call("thread_status", threadId="last"))
        assert status["result"]["structuredContent"]["waitingFor"] == [question["params"]["message"]]
        await _reply(talk, question, result={"action": "accept", "content": {}})
        waited = await talk.answer(await talk.call("thread_wait", threadId="last"))
        assert waited["result"]["structuredContent"]["content"] == "done"
    assert world.fake.ran == ["x"]


async def test_the_official_client_of_the_handshake_era_can_approve(world: World) -> None:
    async def accept(context: Any, params: Any) -> types.ElicitResult:
        return types.ElicitResult(action="accept", content={})

    async with world.session(elicitation_callback=accept) as session:
        result = await session.call_tool("codex", {"prompt": "[[ask:x]][[say:done]]"})
        assert text_of(result) == "done"
    assert world.fake.ran == ["x"]


@pytest.mark.parametrize(
    ("reply", "decision"),
    [
        ({"decision": {"approved_execpolicy_amendment": {}}}, Decision.SESSION),
        ({"decision": {"network_policy_amendment": {}}}, Decision.DENY),
        ({"decision": "timed_out"}, Decision.DENY),
        ({"decision": 5}, Decision.DENY),
        ({"action": "accept", "content": {"decision": "denied"}}, Decision.DENY),
        ({"action": "accept", "content": {"decision": ["once"]}}, Decision.DENY),
        ({"action": "accept", "content": None}, Decision.ONCE),
        ({"action": "accept", "decision": "denied"}, Decision.DENY),
    ],
)
def test_what_cannot_be_understood_is_a_refusal(reply: dict[str, Any], decision: Decision) -> None:
    assert decision_of(reply) is decision


class _Streams:
    """A transport of the library over the streams of a world."""

    def __init__(self, world: World) -> None:
        self._context = world.streams()

    async def __aenter__(self) -> Any:
        read, write, _ = await self._context.__aenter__()
        return read, write

    async def __aexit__(self, *problem: Any) -> None:
        await self._context.__aexit__(*problem)


async def test_the_official_client_of_the_later_era_approves_by_calling_again(world: World) -> None:
    asked: list[str] = []

    async def accept(context: Any, params: Any) -> types.ElicitResult:
        asked.append(params.message)
        return types.ElicitResult(action="accept", content={})

    async with Client(_Streams(world), elicitation_callback=accept) as client:
        result = await client.call_tool("codex", {"prompt": "[[ask:x]][[ask:y]][[say:done]]"})
        assert text_of(result) == "done"
        thread = structured(result)["threadId"]
        reply = await client.call_tool("codex-reply", {"threadId": thread, "prompt": "[[ask:z]][[say:more]]"})
        assert text_of(reply) == "more"
    assert len(asked) == 3
    assert world.fake.ran == ["x", "y", "z"]
    assert len(world.fake.asked) == 2


META: dict[str, Any] = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "talk", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}},
}


class _Later(Talk):
    """Speaks the later era: each request carries its envelope."""

    async def again(self, tool: str, arguments: dict[str, Any], **more: Any) -> dict[str, Any]:
        params: dict[str, Any] = {"name": tool, "arguments": arguments, "_meta": META, **more}
        return await self.ask("tools/call", params)


async def _later(world: World, tasks: anyio.abc.TaskGroup, streams: Any) -> _Later:
    read, write, ended = streams
    talk = _Later(read, write, ended)
    tasks.start_soon(talk.listen)
    return talk


async def test_a_repeated_answer_runs_nothing_twice(world: World) -> None:
    async with world.streams() as streams, anyio.create_task_group() as tasks:
        talk = await _later(world, tasks, streams)
        arguments = {"prompt": "[[ask:x]][[say:done]]"}
        first = (await talk.again("codex", arguments))["result"]
        assert first["resultType"] == "input_required"
        (key, request), state = next(iter(first["inputRequests"].items())), first["requestState"]
        assert request["method"] == "elicitation/create"
        yes: dict[str, Any] = {"inputResponses": {key: {"action": "accept", "content": {}}}, "requestState": state}
        for _ in range(2):
            done = (await talk.again("codex", arguments, **yes))["result"]
            assert done["structuredContent"]["content"] == "done"
        assert (world.fake.ran, len(world.fake.asked)) == (["x"], 1)
        await talk.leave()
        await talk.ended.wait()


async def test_events_go_on_where_they_stopped_when_the_call_is_made_again(world: World) -> None:
    async with world.streams() as streams, anyio.create_task_group() as tasks:
        talk = await _later(world, tasks, streams)
        arguments = {"prompt": "[[ask:x]][[say:done]]", "events": True}
        first = (await talk.again("codex", arguments))["result"]
        key = next(iter(first["inputRequests"]))
        yes: dict[str, Any] = {"inputResponses": {key: {"action": "accept"}}, "requestState": first["requestState"]}
        await talk.again("codex", arguments, **yes)
        assert [(event["_meta"]["requestId"], event["msg"]["type"]) for event in talk.events()] == [
            (1, "session_configured"),
            (1, "task_started"),
            (1, "user_message"),
            (1, "exec_approval_request"),
            (2, "exec_command_begin"),
            (2, "exec_command_end"),
            (2, "agent_message"),
            (2, "token_count"),
            (2, "task_complete"),
        ]
        await talk.leave()
        await talk.ended.wait()


async def test_an_unanswered_question_is_put_again_with_the_same_key(world: World) -> None:
    async with world.streams() as streams, anyio.create_task_group() as tasks:
        talk = await _later(world, tasks, streams)
        arguments = {"prompt": "[[ask:x]][[say:done]]"}
        first = (await talk.again("codex", arguments))["result"]
        same = (await talk.again("codex", arguments, requestState=first["requestState"]))["result"]
        assert same["inputRequests"] == first["inputRequests"]
        key = next(iter(first["inputRequests"]))
        no: dict[str, Any] = {"inputResponses": {key: {"action": "decline"}}, "requestState": first["requestState"]}
        done = (await talk.again("codex", arguments, **no))["result"]
        assert done["structuredContent"]["content"] == "done"
        assert world.fake.ran == []
        await talk.leave()
        await talk.ended.wait()


async def test_a_background_turn_asks_through_a_wait(world: World) -> None:
    async with world.streams() as streams, anyio.create_task_group() as tasks:
        talk = await _later(world, tasks, streams)
        started = await talk.again("codex", {"prompt": "[[ask:x]][[say:done]]", "background": True})
        thread = started["result"]["structuredContent"]["threadId"]
        arguments = {"threadId": thread}
        asked = (await talk.again("thread_wait", arguments))["result"]
        key = next(iter(asked["inputRequests"]))
        yes: dict[str, Any] = {
            "inputResponses": {key: {"action": "accept", "content": {}}},
            "requestState": asked["requestState"],
        }
        done = (await talk.again("thread_wait", arguments, **yes))["result"]
        assert done["structuredContent"]["content"] == "done"
        assert world.fake.ran == ["x"]
        await talk.leave()
        await talk.ended.wait()


async def test_a_state_of_an_earlier_process_gets_a_clear_answer(world: World) -> None:
    async with world.streams() as streams, anyio.create_task_group() as tasks:
        talk = await _later(world, tasks, streams)
        done = (await talk.again("codex", {"prompt": "[[say:done]]"}))["result"]
        thread = done["structuredContent"]["threadId"]
        turn = world.fake.kept[thread].turns[0].id
        old = RequestState().seal("codex", thread, turn)
        yes: dict[str, Any] = {
            "inputResponses": {"approval-1": {"action": "accept", "content": {}}},
            "requestState": old,
        }
        lost = (await talk.again("codex", {"prompt": "[[say:done]]"}, **yes))["result"]
        assert lost["isError"]
        assert lost["structuredContent"]["threadId"] == thread
        assert "codex-reply" in lost["content"][0]["text"]
        junk = await talk.again("codex", {"prompt": "x"}, requestState="junk")
        assert junk["error"]["code"] == -32602
        assert len(world.fake.asked) == 1
        await talk.leave()
        await talk.ended.wait()


async def test_the_later_era_has_its_own_code_for_a_resource_that_is_not_there(world: World) -> None:
    async with Client(_Streams(world)) as client:
        with pytest.raises(MCPError) as caught:
            await client.read_resource("clew://threads/nobody")
        assert caught.value.error.code == -32602


async def test_a_later_client_without_elicitation_has_refused(world: World) -> None:
    async with Client(_Streams(world)) as client:
        result = await client.call_tool("codex", {"prompt": "[[ask:x]][[say:done]]"})
        assert structured(result)["content"] == "done"
    assert world.fake.ran == []


def test_a_state_is_bound_to_its_tool_and_cannot_be_made_up() -> None:
    states = RequestState()
    thread, turn = "00000000-0000-7000-8000-000000000000", "00000000-0000-7000-8000-000000000001"
    state = states.seal("codex", thread, turn)
    assert states.unseal("codex", state) == (thread, turn, True)
    assert states.unseal("codex-reply", state) == (thread, turn, False)
    assert states.unseal("codex", state[:-1]) == (thread, turn, False)
    assert RequestState().unseal("codex", state) == (thread, turn, False)
    assert states.unseal("codex", "clew1.a.b.c") is None
