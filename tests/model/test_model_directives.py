"""Prompts that script the endpoint, and the clients of several providers behind one."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.to_thread
import msgspec
import pytest
from model_asking import asking, completed, listen, user

from clew.agent.model import ItemDone, ModelEvent, Models, ResponsesClient
from clew.config.providers import OFFLINE, Provider
from clew.errors import ModelError
from clew.testing.directives import Directives
from clew.testing.endpoint import ScriptedEndpoint
from clew.testing.offline import OfflineModel

pytestmark = pytest.mark.anyio


def items(events: list[ModelEvent]) -> list[dict[str, Any]]:
    return [event.item for event in events if isinstance(event, ItemDone)]


def output(call: dict[str, Any]) -> dict[str, Any]:
    return {"type": f"{call['type']}_output", "call_id": call["call_id"], "output": "ok"}


async def test_calls_come_in_order_and_the_message_last() -> None:
    prompt = """Do it.
@think hm
@exec ls
@write a.txt hi
@escalate rm x
@patch
*** Begin Patch
*** End Patch
@say done"""
    with ScriptedEndpoint(Directives()) as endpoint:
        model = ResponsesClient({})
        history: list[dict[str, Any]] = [user(prompt)]
        answers: list[list[dict[str, Any]]] = []
        for _ in range(5):
            got = items(await listen(model, asking(endpoint.provider(), input=list(history))))
            answers.append(got)
            history += [*got, *(output(item) for item in got if "call_id" in item)]
        await model.close()
    assert [[item["type"] for item in got] for got in answers] == [
        ["reasoning", "function_call"],
        ["custom_tool_call"],
        ["function_call"],
        ["custom_tool_call"],
        ["message"],
    ]
    assert msgspec.json.decode(answers[0][1]["arguments"]) == {"cmd": "ls"}
    assert answers[1][0]["input"] == "*** Begin Patch\n*** Add File: a.txt\n+hi\n*** End Patch\n"
    assert msgspec.json.decode(answers[2][0]["arguments"])["sandbox_permissions"] == "require_escalated"
    assert answers[3][0]["input"] == "*** Begin Patch\n*** End Patch"
    assert answers[4][0]["content"][0]["text"] == "done"


async def test_calls_can_come_together_and_a_turn_can_go_on() -> None:
    with ScriptedEndpoint(Directives()) as endpoint:
        model = ResponsesClient({})
        both = items(await listen(model, asking(endpoint.provider(), '@together\n@exec a\n@call b {"c": 1}')))
        assert [(item["name"], item["arguments"]) for item in both] == [
            ("exec_command", '{"cmd": "a"}'),
            ("b", '{"c": 1}'),
        ]
        going = [completed(await listen(model, asking(endpoint.provider(), "@more\n@usage 9 1"))) for _ in range(2)]
        assert [end.end_turn for end in going] == [False, None]
        assert going[0].usage is not None
        assert going[0].usage.total_tokens == 10
        [reply] = items(await listen(model, asking(endpoint.provider(), "plain words")))
        assert reply["content"][0]["text"] == "reply 4"
        await model.close()


async def test_faults_happen_as_often_as_asked() -> None:
    async def kinds(prompt: str, tries: int) -> list[str]:
        seen: list[str] = []
        for _ in range(tries):
            try:
                completed(await listen(model, asking(provider, prompt)))
                seen.append("fine")
            except ModelError as error:
                seen.append(error.kind)
        return seen

    with ScriptedEndpoint(Directives()) as endpoint:
        model, provider = ResponsesClient({}), endpoint.provider(request_max_retries=0)
        assert await kinds("@status 500 2", 3) == ["http_500", "http_500", "fine"]
        assert await kinds("@drop", 2) == ["stream_ended", "fine"]
        assert await kinds("@fail invalid_prompt no", 2) == ["invalid_prompt"] * 2
        assert await kinds("@incomplete max_output_tokens", 1) == ["max_output_tokens"]
        await model.close()


async def test_an_answer_waits_at_its_gate() -> None:
    script = Directives()
    with ScriptedEndpoint(script) as endpoint:
        model = ResponsesClient({})
        heard: list[ModelEvent] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen, model, asking(endpoint.provider(), "@wait here"), heard)
            await anyio.to_thread.run_sync(script.gate("here").wait_reached)
            assert items(heard) == []
            script.gate("here").release()
        assert len(items(heard)) == 1
        await model.close()


async def test_every_provider_gets_its_own_client() -> None:
    with ScriptedEndpoint(Directives()) as endpoint:
        models = Models({}, {OFFLINE: OfflineModel()})
        [far] = items(await listen(models, asking(endpoint.provider(), "@say far")))
        [near] = items(await listen(models, asking(Provider(id=OFFLINE, name="Offline"), "say: near")))
        await models.close()
    assert [item["content"][0]["text"] for item in (far, near)] == ["far", "near"]


async def test_a_program_without_the_offline_model_says_so() -> None:
    with pytest.raises(ModelError) as raised:
        await listen(Models({}), asking(Provider(id=OFFLINE, name="Offline")))
    assert raised.value.kind == "config"
